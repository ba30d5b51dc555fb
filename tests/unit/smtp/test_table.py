"""fastmail.smtp.table: each command in each state, against RFC 5321 4.1.4, RFC 3030 2, RFC 4468 3, RFC 4954 4 and RFC 3207
4; a gap has the reply that it deserves, and the session goes on."""

import asyncio
from pathlib import Path

import pytest

from fastmail.smtp.service import LMTP, MX, SUBMISSION
from fastmail.smtp.table import COMMANDS
from fastmail.smtp.transaction import State
from tests.support.sessions import USER, Bench, Client

LOGIN = b"AUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n"
MAIL = b"MAIL FROM:<%b>\r\n" % USER.encode()
RCPT = b"RCPT TO:<%b>\r\n" % USER.encode()
HELLO = {MX: b"EHLO me\r\n", SUBMISSION: b"EHLO me\r\n" + LOGIN, LMTP: b"LHLO me\r\n"}
WAY = {
    State.START: b"",
    State.NONE: b"",
    State.MAIL: MAIL,
    State.RCPT: MAIL + RCPT,
    State.BDAT: MAIL + RCPT + b"BDAT 3\r\na\r\n",
}
NO_HELLO, NO_MAIL = b"503 5.5.1 say EHLO first", b"503 5.5.1 need MAIL first"
NO_RCPT, UNDER_WAY = b"554 5.5.1 no valid recipients", b"503 5.5.1 a mail transaction is under way; RSET ends it"
INSIDE = b"503 5.5.1 not inside a mail transaction"
# What each command is answered with before EHLO, without a transaction, after MAIL, after RCPT, and between two chunks.
REPLIES = {
    MAIL: (NO_HELLO, b"250 2.1.0", UNDER_WAY, UNDER_WAY, UNDER_WAY),
    RCPT: (NO_HELLO, NO_MAIL, b"250 2.1.5", b"250 2.1.5", b"250 2.1.5"),
    b"DATA\r\n": (NO_HELLO, NO_MAIL, NO_RCPT, b"354 ", b"503 5.5.1 BDAT was begun; DATA can not follow"),
    b"BDAT 2\r\n\r\n": (NO_HELLO, NO_MAIL, NO_RCPT, b"250 2.0.0", b"250 2.0.0"),
    b"BDAT 0\r\n": (NO_HELLO, NO_MAIL, NO_RCPT, b"250 2.0.0", b"250 2.0.0"),
    b"RSET\r\n": (b"250 2.0.0",) * 5,
    b"NOOP\r\n": (b"250 2.0.0",) * 5,
    b"VRFY x\r\n": (b"252 2.0.0",) * 5,
    b"HELP\r\n": (b"214 2.0.0",) * 5,
    b"EHLO me\r\n": (b"250-mx.example.test",) * 5,
    b"HELO me\r\n": (b"250 mx.example.test",) * 5,
    b"STARTTLS\r\n": (NO_HELLO, *[b"502 5.5.1 TLS is not available"] * 4),
    b"QUIT\r\n": (b"221 2.0.0",) * 5,
    b"XCLIENT ADDR=192.0.2.1\r\n": (b"550 5.7.1",) * 5,
}
OF_USERS = {
    b"BURL imap://x LAST\r\n": (NO_HELLO, NO_MAIL, NO_RCPT, b"554 5.6.6", b"554 5.6.6"),
    b"AUTH PLAIN\r\n": (NO_HELLO, *[b"503 5.5.1 logged in already"] * 4),
}


async def at(path: Path, service: str, state: State) -> Client:
    """A session in that state."""
    client = Bench(str(path)).open(service)
    if state is not State.START:
        await client.send(HELLO[service])
    if WAY[state]:
        assert not (await client.send(WAY[state])).startswith(b"5")
    assert client.connection.session.state is state  # type: ignore[union-attr]
    return client


@pytest.mark.parametrize("state", WAY, ids=lambda state: state.name)
@pytest.mark.parametrize("line", [*REPLIES, *OF_USERS], ids=lambda line: line.split()[0].decode())
def test_a_command_in_each_state(tmp_path: Path, line: bytes, state: State) -> None:
    expected = {**REPLIES, **OF_USERS}[line][state]
    service = SUBMISSION if line in OF_USERS else MX

    async def main() -> None:
        client = await at(tmp_path, service, state)
        got = await client.send(line)
        assert got.startswith(expected), got

    asyncio.run(main())


@pytest.mark.parametrize("state", [State.MAIL, State.RCPT, State.BDAT], ids=lambda state: state.name)
def test_a_login_within_a_transaction(tmp_path: Path, state: State) -> None:
    """Nobody is inside a transaction of the submission service without a login, unless XCLIENT took the login away; so
    the session is put there by hand."""

    async def main() -> None:
        client = await at(tmp_path, SUBMISSION, state)
        client.connection.session.user = None  # type: ignore[union-attr]
        assert (await client.send(b"AUTH PLAIN\r\n")).startswith(INSIDE)

    asyncio.run(main())


def test_lmtp_has_words_of_its_own(tmp_path: Path) -> None:
    """RFC 2033 4.1, 4.2."""

    async def main() -> None:
        client = Bench(str(tmp_path)).open(LMTP)
        assert (await client.send(MAIL)).startswith(b"503 5.5.1 say LHLO first")
        assert (await client.send(b"EHLO me\r\n")).startswith(b"500 5.5.1 use LHLO")
        assert (await client.send(b"HELO me\r\n")).startswith(b"500 5.5.1 use LHLO")
        for verb in (b"BURL x", b"XCLIENT NAME=x"):  # of other services: no greeting would help
            assert (await client.send(verb + b"\r\n")).startswith(b"500 5.5.1 unknown command")
        await client.send(HELLO[LMTP] + MAIL)
        assert (await client.send(b"DATA\r\n")).startswith(b"503 5.5.1 need RCPT first")

    asyncio.run(main())


@pytest.mark.parametrize("service", [MX, LMTP])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_before_the_greeting_is_no_command(tmp_path: Path, service: str, last: bytes) -> None:
    """RFC 3030 2, RFC 5321 4.1.4."""
    hello = b"LHLO" if service == LMTP else b"EHLO"

    async def main() -> None:
        for step in (0, 1):
            client = await at(tmp_path, service, State.START)
            chunk = b"%b x\r\nQUIT\r\n" % hello
            got = await client.send(b"BDAT %d%b\r\n" % (len(chunk), last) + chunk, step)
            assert got == b"503 5.5.1 say %b first\r\n" % hello
            assert client.connection.session.state is State.START  # type: ignore[union-attr]
            assert (await client.send(HELLO[service])).startswith(b"250-")

    asyncio.run(main())


@pytest.mark.parametrize("line", [b"BDAT 6\n", b"BDAT 6 LAST\r\0\r\n", b"bdat 6 \r \r\n"])
def test_a_chunk_of_unknown_length_ends_the_session(tmp_path: Path, line: bytes) -> None:
    """Otherwise its octets would be taken for commands."""

    async def main() -> None:
        client = await at(tmp_path, MX, State.RCPT)
        got = await client.send(line + b"RSET\r\n")
        assert got.startswith(b"500 5.5.2 ") and got.count(b"\r\n") == 1
        assert client.transport.closed

    asyncio.run(main())


@pytest.mark.parametrize("sender", [True, False])
@pytest.mark.parametrize("last", [b"", b" LAST"])
def test_a_chunk_for_nobody_is_no_command(tmp_path: Path, sender: bool, last: bytes) -> None:
    """Its octets are passed over whatever they look like, and the session is where it was (RFC 3030 2)."""

    async def main() -> None:
        for step in (0, 1):
            client = await at(tmp_path, MX, State.MAIL if sender else State.NONE)
            chunk = b"QUIT\r\nRSET\r\n"
            got = await client.send(b"BDAT %d%b\r\n" % (len(chunk), last) + chunk, step)
            assert got.startswith(NO_RCPT if sender else NO_MAIL) and got.count(b"\r\n") == 1
            assert client.connection.session.state is (State.MAIL if sender else State.NONE)  # type: ignore[union-attr]
            assert (await client.send(RCPT if sender else MAIL)).startswith(b"250")

    asyncio.run(main())


def test_every_row_has_a_function_for_each_state() -> None:
    commands = [state for state in State if state < State.DATA]
    for verb, command in COMMANDS.items():
        assert len(command.run) == len(commands) and all(map(callable, command.run)), verb
