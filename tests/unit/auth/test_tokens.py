"""S26: what a server says of a token, and what a signed one says, is believed only where all of it fits; refusals count
as failed logins, and no token makes this server ask more often than it should."""

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from fastmail.auth import oauth
from fastmail.auth.oauth import Tokens
from fastmail.auth.provider import Settings
from fastmail.model.errors import TemporaryError
from fastmail.net import web
from fastmail.telemetry import counters
from tests.support.sessions import USER, FakeListener
from tests.unit.auth.test_oauth import (
    COMMANDS,
    FAILED,
    OTHER,
    attempt,
    begin,
    prepared,
    response,
    settings,
    token,
)

SAID: dict[str, Any] = {"active": True, "iss": "https://id.test", "aud": "mail", "email": USER, "scope": "imap"}


def introspecting(said: Any, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Tokens:
    async def ask(wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        return web.Answer(200, "application/json", said if isinstance(said, bytes) else json.dumps(said).encode())

    monkeypatch.setattr(web, "ask", ask)
    asked = {"issuer": "https://id.test", "audience": "mail", "scope": "imap"} | more
    return Tokens(Settings(introspection="https://id.test/introspect", **asked))


@pytest.mark.parametrize(
    "changed",
    [{}, {"aud": ["web", "mail"]}, {"exp": time.time() + 3600}, {"exp": str(time.time() + 3600)},
     {"scope": "imap smtp"}, {"scope": ["imap"]}, {"email_verified": True}, {"email_verified": "true"}],
)  # fmt: skip
def test_a_server_that_vouches_for_a_token(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = introspecting(SAID | changed, monkeypatch)
    assert asyncio.run(tokens.login("t")) == USER


REFUSED: dict[str, dict[str, Any]] = {
    "not active": {"active": False},
    "active as text": {"active": "true"},
    "another issuer": {"iss": "https://evil.test"},
    "no issuer": {"iss": None},
    "an issuer in a list": {"iss": ["https://id.test"]},
    "another audience": {"aud": "web"},
    "other audiences": {"aud": ["web", "mailbox"]},
    "no audience": {"aud": None},
    "no audiences": {"aud": []},
    "a number for an audience": {"aud": 5},
    "an object for an audience": {"aud": {"mail": 1}},
    "expired": {"exp": 1.0},
    "a word for a time": {"exp": "soon"},
    "no number for a time": {"exp": math.nan},
    "a list for a time": {"exp": []},
    "not yet": {"nbf": time.time() + 3600},
    "another scope": {"scope": "web"},
    "no scope": {"scope": None},
    "a number for a scope": {"scope": 7},
    "no address": {"email": None},
    "a number for an address": {"email": 7},
    "unverified": {"email_verified": False},
    "unverified as text": {"email_verified": "false"},
    "unverified as a number": {"email_verified": 0},
    "verified by nothing": {"email_verified": None},
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_s26_what_a_server_says_of_a_token_is_checked(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = SAID | REFUSED[case]
    kept = {name: value for name, value in said.items() if value is not None or name == "email_verified"}
    assert asyncio.run(introspecting(kept, monkeypatch).login("t")) is None


@pytest.mark.parametrize("said", [b"", b"no JSON", b"\xff", b"[" * 100_000])
def test_an_answer_that_says_nothing_is_a_matter_of_time(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TemporaryError):
        asyncio.run(introspecting(said, monkeypatch).login("t"))


@pytest.mark.parametrize(
    ("verified", "good"), [(None, True), (True, True), ("true", True), (False, False), ("", False)]
)
def test_s26_a_signed_token_with_an_unverified_address(tmp_path: Path, verified: Any, good: bool) -> None:
    for claim in ("email", "login"):  # the same address by another name is as little verified
        made = token(email_verified=verified, login=USER)
        found = asyncio.run(Tokens(settings(tmp_path, claim=claim)).login(made))
        assert found == (USER if good else None)
    made = token(email="home@elsewhere.test", email_verified=False, login=USER)
    assert asyncio.run(Tokens(settings(tmp_path, claim="login")).login(made)) == USER


BROKEN = ["abc", "a.b.c", "..", "e30.e30.e30", token()[:-9], "x" * 20_000]


@pytest.mark.parametrize("text", BROKEN)
def test_s26_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    assert asyncio.run(Tokens(settings(tmp_path)).login(text)) is None


def test_s26_a_header_of_brackets_is_refused(tmp_path: Path) -> None:
    import base64

    deep = base64.urlsafe_b64encode(b'{"a":' + b"[" * 15_000).decode().rstrip("=")
    assert asyncio.run(Tokens(settings(tmp_path)).login(f"{deep}.e30.e30")) is None


# ---------------------------------------------------------------- refusals count


@pytest.mark.parametrize("protocol", list(COMMANDS))
@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("end", ["answers", "cancels", "is gone"])
def test_s23_a_token_that_is_refused_is_a_failed_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, name: str, end: str
) -> None:
    """Once, whether or not the client goes on with the exchange behind the refusal."""
    blamed: list[float] = []
    monkeypatch.setattr(FakeListener, "blame", lambda self, host, points, why: blamed.append(points))

    async def main() -> None:
        client = await begin(prepared(tmp_path), protocol)
        from base64 import b64encode

        before = counters.snapshot().get("auth.failed", 0)
        made = b64encode(response(name, USER, token(OTHER)))
        got = await client.send(COMMANDS[protocol] + name.encode() + b" " + made + b"\r\n")
        assert got.startswith((b"+ ", b"334 "))
        if end == "answers":
            assert (await client.send(b"AQ==\r\n")).startswith(FAILED[protocol])
        elif end == "cancels":
            assert b"cancelled" in await client.send(b"*\r\n")
        assert blamed == [1] and counters.snapshot()["auth.failed"] == before + 1

    asyncio.run(main())


@pytest.mark.parametrize("protocol", list(COMMANDS))
def test_s23_a_session_of_refused_tokens_is_ended(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        client = await begin(prepared(tmp_path), protocol)
        for n in range(1, 4):
            from base64 import b64encode

            made = b64encode(response("XOAUTH2", USER, token(OTHER)))
            got = await client.send(COMMANDS[protocol] + b"XOAUTH2 " + made + b"\r\n")
            if n < 3:
                assert got.startswith((b"+ ", b"334 ")) and b"cancelled" in await client.send(b"*\r\n")
        assert got.startswith(FAILED[protocol]) and client.connection.closing

    asyncio.run(main())


def test_logins_by_token_are_counted(tmp_path: Path) -> None:
    async def main() -> None:
        before = counters.snapshot().get("auth.ok", 0)
        client = await begin(prepared(tmp_path), "imap")
        assert b"a OK" in await attempt(client, "imap", "XOAUTH2", response("XOAUTH2", USER, token()))
        assert counters.snapshot()["auth.ok"] == before + 1

    asyncio.run(main())


# ---------------------------------------------------------------- keys


class Keys:
    """Web server with the keys of ``path``; ``down`` where it does not answer."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = Tokens(Settings(issuer="https://id.test", audience="mail", jwks="https://id.test/keys"))
        self.fetched = 0
        self.down = False
        self.now = 1000.0
        self._text = Path(settings(path).jwks).read_bytes()
        monkeypatch.setattr(web, "ask", self.ask)
        monkeypatch.setattr(oauth.time, "monotonic", lambda: self.now)

    async def ask(self, wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.down:
            raise web.WebError("away")
        return web.Answer(200, "application/json", self._text)

    async def login(self, text: str) -> str | None:
        try:
            return await self.tokens.login(text)
        except TemporaryError:
            return "later"


def test_s26_keys_are_not_fetched_for_each_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path, monkeypatch)

    async def main() -> None:
        assert await keys.login(token()) == USER and keys.fetched == 1
        for n in range(50):  # each names a key that nobody knows
            assert await keys.login(token(kid=f"x{n}")) is None
        assert keys.fetched == 1, "they were had a moment ago"
        keys.now += oauth.AGAIN + 1
        found = await asyncio.gather(*(keys.login(token(kid=f"y{n}")) for n in range(50)))
        assert set(found) == {None} and keys.fetched == 2
        assert await keys.login(token(exp=time.time() + 99)) == USER and keys.fetched == 2

    asyncio.run(main())


def test_s26_keys_are_not_fetched_for_each_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path, monkeypatch)

    async def main() -> None:
        keys.down = True
        for _ in range(50):
            assert await keys.login(token()) == "later"
        assert keys.fetched == 1
        keys.now += oauth.AGAIN + 1
        keys.down = False
        assert await keys.login(token()) == USER and keys.fetched == 2
        keys.down = True
        keys.now += oauth.AGAIN + 1
        assert await keys.login(token(kid="new")) == "later" and keys.fetched == 3, "it may be a new key"
        assert await keys.login(token(kid="newer")) == "later" and keys.fetched == 3
        assert await keys.login(token(exp=time.time() + 99)) == USER, "those that are known still count"
        keys.now += oauth.KEYS_FOR
        assert await keys.login(token(exp=time.time() + 98)) == "later" and keys.fetched == 4

    asyncio.run(main())


def test_s24_a_server_of_tokens_that_drips_holds_up_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(web, "ask", never)

    async def main() -> None:
        tokens = Tokens(Settings(introspection="https://id.test/introspect"))
        bench = prepared(tmp_path, tokens)
        crowd = [asyncio.create_task(tokens.login(f"t{n}")) for n in range(oauth.WAITING)]
        await asyncio.sleep(0.05)
        with pytest.raises(TemporaryError):
            await tokens.login("one more")
        async with asyncio.timeout(5):
            client = await begin(bench, "imap")
            assert b"c OK" in await client.send(b"c LOGIN user@example.test secret\r\n")
            assert await asyncio.get_running_loop().run_in_executor(None, lambda: 1) == 1
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "inside", "asked"),
    [
        ("https://id.test/x", False, False),
        ("https://id.test/x", True, True),
        ("http://localhost/x", False, True),
        ("http://127.0.0.1:8080/x", False, True),
        ("https://10.0.0.1/x", False, False),
    ],
)
def test_s43_tokens_are_not_asked_for_at_inner_addresses(
    url: str, inside: bool, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[web.Request] = []

    async def ask(wanted: web.Request, resolve: object = None, seconds: float = 0.0) -> web.Answer:
        made.append(wanted)
        return web.Answer(200, "application/json", b'{"active": false}')

    monkeypatch.setattr(web, "ask", ask)
    assert asyncio.run(Tokens(Settings(introspection=url, inside=inside)).login("t")) is None
    assert [one.inside for one in made] == [asked]
