"""Bearer tokens (RFC 7628, XOAUTH2) on IMAP, POP3 and submission: signed ones, ones that a server is asked about, and
every way in which they are wrong."""

import asyncio
import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastmail.auth.oauth import Tokens
from fastmail.auth.provider import Settings
from tests.support.sessions import USER, Bench, Client

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
COMMANDS = {"imap": b"a AUTHENTICATE ", "pop3": b"AUTH ", "submission": b"AUTH "}
DONE = {"imap": b"a OK ", "pop3": b"+OK ", "submission": b"235 "}
FAILED = {"imap": b"a NO [AUTHENTICATIONFAILED]", "pop3": b"-ERR [AUTH]", "submission": b"535 5.7.8"}
LATER = {"imap": b"a NO [UNAVAILABLE]", "pop3": b"-ERR [SYS/TEMP]", "submission": b"454 4.7.0"}
BAD = {"imap": b"a BAD", "pop3": b"-ERR ", "submission": b"501 5.5.2"}


def token(key: Any = KEY, algorithm: str = "ES256", kid: str = "one", **changed: Any) -> str:
    claims = {"iss": "https://id.test", "aud": "mail", "email": USER, "exp": time.time() + 60, "scope": "imap smtp"}
    claims |= changed
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers={"kid": kid})


def settings(path: Path, **more: Any) -> Settings:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "one", "alg": "ES256"}
    strange = {"kty": "strange", "kid": "two"}
    keys = path / "jwks.json"
    keys.write_text(json.dumps({"keys": [strange, public]}))
    return Settings(issuer="https://id.test", audience="mail", jwks=str(keys), scope="imap", **more)


def prepared(path: Path, tokens: Tokens | None = None) -> Bench:
    bench = Bench(str(path))
    bench.verifier._mechanisms = ("PLAIN", "OAUTHBEARER", "XOAUTH2")
    bench.verifier._tokens = tokens or Tokens(settings(path, configuration="https://id.test/config"))
    return bench


async def begin(bench: Bench, protocol: str) -> Client:
    client = bench.open(protocol)
    if protocol == "submission":
        await client.send(b"EHLO me.test\r\n")
    return client


def response(name: str, user: str, text: str) -> bytes:
    if name == "XOAUTH2":
        return f"user={user}\x01auth=Bearer {text}\x01\x01".encode()
    return f"n,a={user},\x01host=mx.test\x01port=143\x01auth=Bearer {text}\x01\x01".encode()


async def attempt(client: Client, protocol: str, name: str, made: bytes, initial: bool = True) -> bytes:
    """The last reply; behind a refusal the client answers as it should."""
    if initial:
        got = await client.send(COMMANDS[protocol] + name.encode() + b" " + b64encode(made) + b"\r\n")
    else:
        assert await client.send(COMMANDS[protocol] + name.encode() + b"\r\n") in (b"+ \r\n", b"334 \r\n")
        got = await client.send(b64encode(made) + b"\r\n")
    if got.startswith((b"+ ", b"334 ")):
        told = json.loads(b64decode(got.split(b" ")[1]))
        assert told["openid-configuration"] == "https://id.test/config" and told["scope"] == "imap"
        got = await client.send(b"AQ==\r\n" if name == "OAUTHBEARER" else b"\r\n")
    return got


@pytest.mark.parametrize("protocol", list(COMMANDS))
@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
@pytest.mark.parametrize("initial", [True, False])
def test_a_login(tmp_path: Path, protocol: str, name: str, initial: bool) -> None:
    async def main() -> None:
        bench = prepared(tmp_path)
        client = await begin(bench, protocol)
        assert (await attempt(client, protocol, name, response(name, USER, token()), initial)).startswith(
            DONE[protocol]
        )

    asyncio.run(main())


WRONG: dict[str, Callable[[], str]] = {
    "expired": lambda: token(exp=time.time() - 60),
    "without expiry": lambda: token(exp=None),
    "another issuer": lambda: token(iss="https://evil.test"),
    "another audience": lambda: token(aud="web"),
    "another scope": lambda: token(scope="web"),
    "no address": lambda: token(email=None),
    "nobody": lambda: token(email="nobody@example.test"),
    "another account": lambda: token(email="other@example.test"),
    "another key": lambda: token(OTHER),
    "another kind of key": lambda: token(rsa.generate_private_key(65537, 2048), "RS256"),
    "unknown key": lambda: token(kid="three"),
    "unsigned": lambda: jwt.encode({"email": USER, "exp": time.time() + 60}, None, algorithm="none"),  # type: ignore[arg-type]
    "signed with the public key": lambda: token("x" * 32, "HS256"),
    "no token": lambda: "abc",
    "torn": lambda: token()[:-9],
}


@pytest.mark.parametrize("case", WRONG)
def test_s26_tokens_that_are_refused(tmp_path: Path, case: str) -> None:
    async def main() -> None:
        for name in ("OAUTHBEARER", "XOAUTH2"):
            client = await begin(prepared(tmp_path), "imap")
            assert (await attempt(client, "imap", name, response(name, USER, WRONG[case]()))).startswith(FAILED["imap"])
            assert b"c OK" in await client.send(b"c LOGIN user@example.test secret\r\n")

    asyncio.run(main())


@pytest.mark.parametrize("protocol", list(COMMANDS))
def test_refusals_on_each_protocol(tmp_path: Path, protocol: str) -> None:
    async def main() -> None:
        for name in ("OAUTHBEARER", "XOAUTH2"):
            client = await begin(prepared(tmp_path), protocol)
            got = await attempt(client, protocol, name, response(name, USER, token(OTHER)))
            assert got.startswith(FAILED[protocol])

    asyncio.run(main())


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"n,,",
        b"user=a",
        b"n,a=x,\x01auth=Basic abc\x01\x01",
        b"user=x\x01auth=Bearer \x01\x01",
        b"\xff\x01",
        b"x" * 8000,
        b"x" * 60000,
    ],
)
@pytest.mark.parametrize("name", ["OAUTHBEARER", "XOAUTH2"])
def test_what_is_no_response(tmp_path: Path, name: str, junk: bytes) -> None:
    async def main() -> None:
        for protocol in COMMANDS:
            client = await begin(prepared(tmp_path), protocol)
            got = await attempt(client, protocol, name, junk, initial=False)
            assert got.startswith(BAD[protocol])

    asyncio.run(main())


def test_keys_that_cannot_be_had_are_a_matter_of_time(tmp_path: Path) -> None:
    async def main() -> None:
        tokens = Tokens(Settings(jwks=str(tmp_path / "nowhere")))
        for protocol in COMMANDS:
            client = await begin(prepared(tmp_path, tokens), protocol)
            made = response("XOAUTH2", USER, token())
            assert (await attempt(client, protocol, "XOAUTH2", made)).startswith(LATER[protocol])

    asyncio.run(main())


class Introspection(BaseHTTPRequestHandler):
    """Knows the token ``good``."""

    asked: list[tuple[str, str]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.asked.append((self.headers.get("Authorization", ""), body))
        found: dict[str, Any] = {"active": "token=good&" in body, "email": USER, "scope": "imap", "aud": ["mail"]}
        text = json.dumps(found).encode()
        self.send_response(503 if "token=busy&" in body else 200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def introspection() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Introspection)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/introspect"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_is_asked(tmp_path: Path, introspection: str) -> None:
    async def main() -> None:
        made = Settings(
            introspection=introspection,
            client="mail",
            secret="p:w",
            audience="mail",
            scope="imap",
            configuration="https://id.test/config",
        )
        bench = prepared(tmp_path, Tokens(made))
        Introspection.asked.clear()
        for text, wanted in (("good", DONE), ("bad", FAILED), ("busy", LATER), ("good", DONE)):
            client = await begin(bench, "imap")
            got = await attempt(client, "imap", "OAUTHBEARER", response("OAUTHBEARER", USER, text))
            assert got.startswith(wanted["imap"])
        login, body = Introspection.asked[0]
        assert b64decode(login.removeprefix("Basic ")) == b"mail:p%3Aw" and body.startswith("token=good&")
        assert len(Introspection.asked) == 3  # the last one was remembered

    asyncio.run(main())


def test_not_offered_where_nothing_is_configured(tmp_path: Path) -> None:
    async def main() -> None:
        client = await begin(prepared(tmp_path, Tokens(Settings())), "imap")
        assert b"OAUTH" not in await client.send(b"c CAPABILITY\r\n")
        assert b"a NO [CANNOT]" in await client.send(b"a AUTHENTICATE XOAUTH2\r\n")

    asyncio.run(main())
