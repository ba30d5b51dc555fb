"""Octets that are no UTF-8 are refused wherever a name is said (RFC 6531 3.3, RFC 4616 2); lines of logins are long."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from fastmail.net import networks
from tests.support.sessions import Bench

NEAR: dict[str, Any] = {"xclient": [networks.parse("127.0.0.0/8")]}
BAD = [
    b"jos\xe9",
    b"\xff",
    b"a\xc3",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"a\xc2\x85",
    b"a\xe2\x80\xa8b",
]
GOOD = ["josé".encode(), "\u4f60\u597d".encode(), "\U0001f600".encode(), "न\u200dम".encode()]


def asked(path: Path, kind: str, *lines: bytes) -> bytes:
    """The last reply."""

    async def scenario() -> bytes:
        client = Bench(str(path), outbound=NEAR).open(kind)
        got = b""
        for line in lines:
            got = await client.send(line + b"\r\n")
        return got.splitlines()[-1]

    return asyncio.run(scenario())


@pytest.mark.parametrize("octets", BAD)
@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_names_in_envelopes(tmp_path: Path, kind: str, octets: bytes) -> None:
    hello = b"LHLO x" if kind == "lmtp" else b"EHLO x"
    for form in (b"<%b@example.test>", b'<"%b x"@example.test>', b"<a@%b.test>", b"<@%b.test:user@example.test>"):
        path = form % octets
        assert asked(tmp_path, kind, hello, b"MAIL FROM:" + path + b" SMTPUTF8").startswith(b"501 5.1.7 ")
        assert asked(tmp_path, kind, hello, b"MAIL FROM:<> SMTPUTF8", b"RCPT TO:" + path).startswith(b"501 5.1.3 ")
        assert asked(tmp_path, kind, hello, b"MAIL FROM:" + path).startswith(b"553 5.6.7 ")
        assert asked(tmp_path, kind, hello, b"MAIL FROM:<>", b"RCPT TO:" + path).startswith(b"553 5.6.7 ")
    assert asked(tmp_path, kind, hello, b'MAIL FROM:<"%b SMTPUTF8 x"@c.test>' % GOOD[0]).startswith(b"553 5.6.7 ")


@pytest.mark.parametrize("octets", GOOD)
def test_names_that_are_text(tmp_path: Path, octets: bytes) -> None:
    for form in (b"<%b@c.test>", b'<"%b x"@c.test>'):
        assert asked(tmp_path, "smtp", b"EHLO x", b"MAIL FROM:" + form % octets + b" SMTPUTF8").startswith(b"250 ")
    assert asked(tmp_path, "smtp", b"EHLO " + octets).startswith(b"250 ")
    assert asked(tmp_path, "smtp", b"VRFY " + octets).startswith(b"553 5.6.7 ")
    assert asked(tmp_path, "smtp", b"VRFY " + octets + b" SMTPUTF8").startswith(b"252 ")


@pytest.mark.parametrize("octets", BAD[:6])
def test_names_in_other_commands(tmp_path: Path, octets: bytes) -> None:
    assert asked(tmp_path, "smtp", b"EHLO " + octets).startswith(b"501 5.5.4 ")
    assert asked(tmp_path, "smtp", b"HELO " + octets).startswith(b"501 5.5.4 ")
    assert asked(tmp_path, "smtp", b"VRFY " + octets + b" SMTPUTF8").startswith(b"501 5.5.4 ")
    xtext = b"".join(b"+%02X" % c for c in octets)
    for value in (octets, xtext):
        assert asked(tmp_path, "submission", b"XCLIENT LOGIN=" + value).startswith(b"501 5.5.4 ")
        assert asked(tmp_path, "smtp", b"XCLIENT HELO=" + value).startswith(b"501 5.5.4 ")
    plain = b64encode(b"\0" + octets + b"\0secret")
    assert asked(tmp_path, "submission", b"EHLO x", b"AUTH PLAIN " + plain).startswith(b"501 5.5.2 user name is not")
    plain = b64encode(octets + b"\0user@example.test\0secret")
    assert asked(tmp_path, "submission", b"EHLO x", b"AUTH PLAIN " + plain).startswith(b"501 5.5.2 ")
    assert asked(tmp_path, "submission", b"EHLO x", b"AUTH LOGIN", b64encode(octets)).startswith(b"501 5.5.2 user name")
    assert asked(tmp_path, "pop3", b"USER " + octets) == b"-ERR user name is not UTF-8"
    assert asked(tmp_path, "pop3", b"USER " + octets, b"PASS secret") == b"-ERR USER comes first"
    plain = b64encode(b"\0" + octets + b"\0secret")
    assert asked(tmp_path, "pop3", b"AUTH PLAIN " + plain) == b"-ERR user name is not UTF-8"


HELLO = {"submission": b"EHLO x", "pop3": b"NOOP"}
AGAIN = {"submission": (b"NOOP", b"250 2.0.0"), "pop3": (b"NOOP", b"-ERR log in first")}
WRONG = {"submission": b"535 5.7.8 login failed", "pop3": b"-ERR [AUTH] login failed"}
LONG = {"submission": b"500 5.5.6 ", "pop3": b"-ERR line is too long"}
MOST = 12_288


def plain_of(size: int) -> bytes:
    """A response of so many octets, a multiple of four."""
    head = b"\0user@example.test\0"
    return b64encode(head + b"x" * (size // 4 * 3 - len(head)))


@pytest.mark.parametrize("step", [0, 1000])
@pytest.mark.parametrize("kind", ["submission", "pop3"])
def test_logins_may_have_long_lines(tmp_path: Path, kind: str, step: int) -> None:
    async def scenario() -> None:
        client = Bench(str(tmp_path), errors=1000, auth_failures=1000).open(kind)
        await client.send(HELLO[kind] + b"\r\n")

        async def ask(line: bytes) -> bytes:
            return (await client.send(line + b"\r\n", step)).rstrip(b"\r\n")

        room = MOST - len(b"AUTH PLAIN ")
        for size in (600, 4200, room - room % 4):
            assert await ask(b"auth plain " + plain_of(size)) == WRONG[kind]
        assert (await ask(b"AUTH PLAIN " + plain_of(MOST))).startswith(LONG[kind])
        for size in (4, 600, MOST):
            await ask(b"AUTH PLAIN")
            assert (await ask(plain_of(size))).startswith(WRONG[kind] if size > 4 else LONG[kind][:1])
        # the exchange is over behind a line that is too long, and the session goes on
        for size in (MOST + 4, 40_000):
            for name in (b"PLAIN", b"LOGIN"):
                assert (await ask(b"AUTH " + name))[:4] in (b"334 ", b"+ ", b"+ VX")
                assert (await ask(plain_of(size))).startswith(LONG[kind])
                command, reply = AGAIN[kind]
                assert (await ask(command)).startswith(reply)
        assert (await ask(b"NOOP " + b"x" * 5000)).startswith((b"500 5.5.2 ", LONG["pop3"]))

    asyncio.run(scenario())
