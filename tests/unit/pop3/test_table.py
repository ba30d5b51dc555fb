"""The POP3 command table against RFC 1939, 2449, 2595, 5034 and 6856: each command in each state."""

import asyncio
from pathlib import Path

import pytest

from fastmail.pop3.table import COMMANDS
from tests.support.sessions import USER, Bench

AUTHORIZATION, TRANSACTION = 1, 2
BOTH = AUTHORIZATION | TRANSACTION
# The states in which each command is allowed, from the RFC that defines it.
ALLOWED = {
    b"CAPA": BOTH, b"QUIT": BOTH, b"STLS": AUTHORIZATION, b"AUTH": AUTHORIZATION, b"USER": AUTHORIZATION,
    b"PASS": AUTHORIZATION, b"STAT": TRANSACTION, b"LIST": TRANSACTION, b"UIDL": TRANSACTION, b"RETR": TRANSACTION,
    b"TOP": TRANSACTION, b"DELE": TRANSACTION, b"NOOP": TRANSACTION, b"RSET": TRANSACTION,
    b"UTF8": AUTHORIZATION, b"LANG": BOTH,
}  # fmt: skip


def test_every_command_is_there_in_its_states() -> None:
    found = {
        verb: (AUTHORIZATION if command.before is not None else 0) | (TRANSACTION if command.after is not None else 0)
        for verb, command in COMMANDS.items()
    }
    assert found == ALLOWED


@pytest.mark.parametrize("verb", sorted(ALLOWED))
@pytest.mark.parametrize("logged_in", [False, True])
def test_a_command_of_the_other_state_is_an_error_and_the_session_goes_on(
    tmp_path: Path, verb: bytes, logged_in: bool
) -> None:
    if ALLOWED[verb] & (TRANSACTION if logged_in else AUTHORIZATION):
        return  # allowed: what it does is in test_session.py

    async def main() -> None:
        client = Bench(str(tmp_path)).open("pop3")
        if logged_in:
            assert b"messages" in await client.send(b"USER %b\r\nPASS secret\r\n" % USER.encode())
        assert await client.send(verb + b" 1\r\n") == (
            b"-ERR logged in already\r\n" if logged_in else b"-ERR log in first\r\n"
        )
        assert b"+OK what is done here" in await client.send(b"CAPA\r\n")

    asyncio.run(main())
