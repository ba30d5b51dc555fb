"""A command: what may be told in its answer, and the one tagged reply that it gets."""

import asyncio
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import errors, table
from fastmail.imap.command import Command
from fastmail.message.sections import UnknownEncoding
from fastmail.model.errors import (
    CannotDo,
    CorruptData,
    MailboxExists,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    StorageFull,
    TemporaryError,
    TooMuch,
)
from tests.support.sessions import Bench


def given(path: Path, work: Callable[[Any], None]) -> bytes:
    """What a session that just began writes meanwhile."""

    async def main() -> bytes:
        client = Bench(str(path)).open("imap")
        start = len(client.transport.data)
        work(client.connection.session)
        client.connection.flush()
        return client.transport.data[start:]

    return asyncio.run(main())


def made(session: Any, name: bytes, by_uid: bool = False) -> Command:
    return Command(session, session, b"t", name, by_uid, Reader(b""), table.COMMANDS[name])


def test_removals_are_told_where_no_number_is_named(tmp_path: Path) -> None:
    """RFC 3501 7.4.1: not during FETCH, STORE and SEARCH; RFC 5256 3 and RFC 8508 3.4 add theirs."""
    barred = {b"FETCH", b"STORE", b"SEARCH", b"SORT", b"THREAD", b"REPLACE"}

    def work(session: Any) -> None:
        for name, row in table.COMMANDS.items():
            assert made(session, name).expunges == (name not in barred)
            assert not row.uid or made(session, name, True).expunges

    assert given(tmp_path, work) == b""


REPLIES: list[tuple[Exception, bytes]] = [
    (ParseError("a number", 7), b"BAD a number expected at octet 7"),
    (errors.UseRefused("x"), b"NO [USEATTR] x"),
    (UnknownEncoding("x"), b"NO [UNKNOWN-CTE] x"),
    (errors.TooBig("x"), b"NO [TOOBIG] x"),
    (OverQuota("x"), b"NO [OVERQUOTA] x"),
    (NoPermission("x"), b"NO [NOPERM] x"),
    (errors.NoSuchRoot("x"), b"NO [NONEXISTENT] x"),
    (errors.EntryTooBig("x"), b"NO [METADATA MAXSIZE 65536] x"),
    (errors.TooManyEntries("x"), b"NO [METADATA TOOMANY] x"),
    (NoSuchMailbox("x"), b"NO [NONEXISTENT] x"),
    (MailboxExists("x"), b"NO [ALREADYEXISTS] x"),
    (CannotDo("x \u00e9"), b"NO [CANNOT] x \xc3\xa9"),
    (TooMuch("x"), b"NO [LIMIT] x"),
    (StorageFull("secret"), b"NO [UNAVAILABLE] not enough storage, try again later"),
    (TemporaryError("secret"), b"NO [UNAVAILABLE] not possible now, try again later"),
    (CorruptData("secret"), b"NO [UNAVAILABLE] not possible now, try again later"),
    (OSError(errno.EIO, "secret"), b"NO [UNAVAILABLE] not possible now, try again later"),
]


@pytest.mark.parametrize(("error", "reply"), REPLIES, ids=lambda one: type(one).__name__)
def test_every_error_has_its_reply(tmp_path: Path, error: Exception, reply: bytes) -> None:
    assert given(tmp_path, lambda session: made(session, b"NOOP").fail(error)) == b"t " + reply + b"\r\n"


def test_no_class_stands_behind_its_base() -> None:
    kinds = [kind for kind, _ in errors.CODES]
    for place, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:place]), kind


def test_a_bug_is_no_reply(tmp_path: Path) -> None:
    def work(session: Any) -> None:
        with pytest.raises(ZeroDivisionError):
            made(session, b"NOOP").fail(ZeroDivisionError())

    assert given(tmp_path, work) == b""


def test_a_peer_that_is_gone_gets_no_reply(tmp_path: Path) -> None:
    async def gone() -> None:
        raise ConnectionResetError("peer is gone")

    def work(session: Any) -> None:
        with pytest.raises(ConnectionResetError):
            made(session, b"NOOP").run(gone()).send(None)

    assert given(tmp_path, work) == b""


def test_what_is_bad_counts_until_the_session_ends(tmp_path: Path) -> None:
    def work(session: Any) -> None:
        for _ in range(session.service.limits.errors):
            made(session, b"NOOP").bad("no")

    got = given(tmp_path, work)
    assert got.startswith(b"t BAD no\r\n" * 2) and got.endswith(b"* BYE too many errors\r\n")


def test_replies_go_where_the_command_says(tmp_path: Path) -> None:
    class Kept(list[bytes]):
        write = list.append

    kept = Kept()

    def work(session: Any) -> None:
        command = made(session, b"STORE")
        command.out = kept
        command.answer(b"OK done")
        command.fail(CannotDo("no"))

    assert given(tmp_path, work) == b"" and kept == [b"t OK done\r\n", b"t NO [CANNOT] no\r\n"]
