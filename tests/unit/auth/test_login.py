"""fastmail.auth.login: the dialogue and the check that SMTP, POP3 and IMAP have in common."""

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from fastmail.auth import login, sasl
from fastmail.auth.login import Again, Banned, Cancelled, Denied, Failed, Login, NotNow
from fastmail.auth.verifier import Entry
from fastmail.directory.interface import AccountRecord
from fastmail.directory.standing import Standing
from fastmail.model.errors import KeptOut, LoginRefused, TemporaryError
from fastmail.model.limits import Limits

RECORD = AccountRecord(1, "user@example.test", "")
ENTRY = Entry(RECORD, Standing(1, RECORD.address, "192.0.2.1", 0))
RIGHT = sasl.Credentials("user", b"right")
WRONG = sasl.Credentials("user", b"wrong")


class Checker:
    """A verifier whose answer is in the password."""

    def __init__(self) -> None:
        self.over = ""
        self.asked: list[tuple[Any, str, str]] = []

    def mechanisms(self, channel: sasl.Channel) -> list[str]:
        return ["PLAIN", "LOGIN"]

    def begin(self, name: str, channel: sasl.Channel, host: str = "") -> sasl.Mechanism | None:
        return sasl.PASSWORDS[name]() if name in sasl.PASSWORDS else None

    async def admit(self, claim: Any, host: str = "", protocol: str = "") -> Entry | None:
        self.asked.append((claim, host, protocol))
        raised = {b"denied": LoginRefused("gone"), b"banned": KeptOut("not you"), b"busy": TemporaryError("later")}
        password = getattr(claim, "password", b"")
        if password in raised:
            raise raised[password]
        return ENTRY if password == b"right" else None

    def named(self, claim: sasl.Credentials, protocol: str) -> sasl.Credentials:
        return claim

    def ended(self, standing: Any) -> str:
        return self.over


class Client:
    """The connection and the peer in one."""

    host = "192.0.2.1"
    end_point = b""
    certified: Sequence[str] = ()

    def __init__(self) -> None:
        self.blamed = 0.0

    def blame(self, points: float, why: str) -> None:
        self.blamed += points


def session(protocol: str = "test", **limits: Any) -> tuple[Login, Checker, Client]:
    checker, client = Checker(), Client()
    known = Limits(**{"auth_failure_delay": 0.0, **limits})
    return Login(checker, known, protocol, client, client), checker, client  # type: ignore[arg-type]


def attempt(one: Login, claim: Any, prepare: Callable[[Entry], Awaitable[object]] | None = None) -> login.Result:
    return asyncio.run(one.attempt(claim, prepare))


def plain(text: bytes) -> bytes:
    return b64encode(text)


def test_the_dialogue_ends_with_a_claim() -> None:
    one, _, _ = session()
    assert not one.under_way and one.begin(b"plain") and one.under_way
    assert one.answer(plain(b"\0user\0right")) == RIGHT and not one.under_way
    assert one.begin(b"LOGIN")
    assert one.answer(None) == b64encode(b"Username:") and one.under_way
    assert one.line(plain(b"user")) == b64encode(b"Password:")
    assert one.line(plain(b"right")) == RIGHT and not one.under_way


@pytest.mark.parametrize("line", [b"*", b"no base64!", plain(b"no three parts")])
def test_an_error_ends_the_dialogue(line: bytes) -> None:
    one, _, client = session()
    one.begin(b"PLAIN")
    with pytest.raises(Cancelled if line == b"*" else sasl.SaslError):
        one.line(line)
    assert not one.under_way and one.failures == 0 and client.blamed == 0


def test_a_star_cancels_no_initial_response() -> None:
    """RFC 4954 4: it is a response of its own."""
    one, _, _ = session()
    one.begin(b"PLAIN")
    with pytest.raises(sasl.SaslError) as raised:
        one.answer(b"*")
    assert not isinstance(raised.value, Cancelled) and not one.under_way


def test_a_mechanism_that_is_not_offered() -> None:
    one, _, _ = session()
    assert not one.begin(b"GSSAPI\xff") and not one.under_way
    assert one.unknown == "mechanism is not known; known are PLAIN, LOGIN"


@pytest.mark.parametrize(
    ("password", "result"),
    [(b"right", ENTRY), (b"denied", Denied("gone")), (b"banned", Banned("not you")), (b"busy", NotNow())],
)
def test_what_is_no_failure_counts_as_none(password: bytes, result: login.Result) -> None:
    one, checker, client = session()
    assert attempt(one, sasl.Credentials("user", password)) == result
    assert one.failures == 0 and client.blamed == 0
    assert checker.asked[0][1:] == (client.host, "test")


def test_submission_is_smtp_to_app_passwords() -> None:
    for protocol, named in (("submission", "smtp"), ("imap", "imap"), ("pop3", "pop3")):
        one, checker, _ = session(protocol)
        assert attempt(one, RIGHT) == ENTRY and checker.asked[0][2] == named


def test_failures_are_counted_until_the_last() -> None:
    one, _, client = session(auth_failures=3)
    assert [attempt(one, WRONG) for _ in range(3)] == [Failed(False), Failed(False), Failed(True)]
    assert one.failures == 3 and client.blamed == 3


def test_a_failure_is_answered_after_its_delay() -> None:
    one, _, _ = session(auth_failure_delay=0.2)
    begun = time.monotonic()
    assert attempt(one, WRONG) == Failed(False)
    assert time.monotonic() - begun >= 0.2


def test_a_refused_token_is_told_why_and_counted_once() -> None:
    """RFC 7628 3.2.3: the client answers once more."""
    one, _, client = session(auth_failures=2)
    bearer = sasl.Bearer("OAUTHBEARER", b'{"status":"invalid_token"}')
    token = sasl.Token("user", "t", bearer)
    assert attempt(one, token) == Again(b64encode(bearer.refusal)) and one.under_way
    bearer._asked = True
    spent = one.line(plain(b"\x01"))
    assert isinstance(spent, sasl.Spent)
    assert attempt(one, spent) == Failed(False) and one.failures == 1 and client.blamed == 1
    assert attempt(one, token) == Failed(True), "the last try is not told"


def test_what_ends_while_it_is_prepared_has_failed() -> None:
    one, checker, client = session()
    prepared = []

    async def prepare(entry: Entry) -> None:
        prepared.append(entry)

    assert attempt(one, RIGHT, prepare) == ENTRY
    checker.over = "the password was changed"
    assert attempt(one, RIGHT, prepare) == Failed(False)
    assert prepared == [ENTRY, ENTRY] and client.blamed == 1
    assert attempt(one, WRONG, prepare) == Failed(False) and len(prepared) == 2, "nothing is prepared for a failure"


@pytest.mark.parametrize(
    ("tls", "near", "plaintext", "may"),
    [(True, False, False, True), (False, True, False, False), (False, False, True, True), (False, True, "loopback", True),
     (False, False, "loopback", False)],
)  # fmt: skip
def test_where_a_password_may_come(tls: bool, near: bool, plaintext: bool | str, may: bool) -> None:
    assert login.allowed(tls, near, plaintext) is may
