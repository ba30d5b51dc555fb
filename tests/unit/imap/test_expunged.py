"""What a session gets of messages that another one expunged while it still sees them (RFC 2180 4.1, 4.2, 4.3)."""

import asyncio
from pathlib import Path

import pytest

from tests.support.sessions import Bench, Client

TEXT = b"Subject: number %d\r\n\r\nbody\r\n"


async def pair(path: Path) -> tuple[Client, Client]:
    """Two sessions on INBOX with three messages; the second has just removed the second message."""
    bench = Bench(str(path))
    one, two = bench.open("imap"), bench.open("imap")
    for client in (one, two):
        await client.send(b"a LOGIN user@example.test secret\r\n")
    for n in (1, 2, 3):
        text = TEXT % n
        await one.send(b"b APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
    for client in (one, two):
        await client.send(b"c SELECT INBOX\r\n")
    await two.send(b"d STORE 2 +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE\r\n")
    return one, two


def run(path: Path, *commands: bytes) -> list[bytes]:
    async def main() -> list[bytes]:
        one, _ = await pair(path)
        return [await one.send(command + b"\r\n") for command in commands]

    return asyncio.run(main())


def test_what_only_the_message_has_is_refused_and_its_neighbours_come(tmp_path: Path) -> None:
    got, after, noop = run(tmp_path, b"a FETCH 1:3 (BODY.PEEK[])", b"b FETCH 3 (BODY.PEEK[TEXT])", b"c NOOP")
    assert got.count(b"* 1 FETCH (BODY[] {27}\r\n") == 1 and b"* 3 FETCH (BODY[] {27}\r\n" in got
    assert b"* 2 FETCH" not in got and b"EXPUNGE\r\n" not in got, "numbers hold until they may be told"
    assert got.endswith(b"a NO [EXPUNGEISSUED] some of the messages are gone\r\n")
    assert after.startswith(b"* 3 FETCH (BODY[TEXT] {6}\r\n") and after.endswith(b"b OK FETCH completed\r\n")
    assert noop.startswith(b"* 2 EXPUNGE\r\n") and noop.endswith(b"c OK NOOP completed\r\n")


@pytest.mark.parametrize("items", [b"FLAGS", b"(UID RFC822.SIZE INTERNALDATE)", b"ENVELOPE", b"(FLAGS ENVELOPE)"])
def test_what_the_index_has_is_left_out(items: bytes, tmp_path: Path) -> None:
    got, only = run(tmp_path, b"a FETCH 1:3 " + items, b"b FETCH 2 " + items)
    assert b"* 1 FETCH (" in got and b"* 3 FETCH (" in got and b"* 2 FETCH" not in got
    assert got.endswith(b"a OK FETCH completed\r\n")
    assert only == b"b OK FETCH completed\r\n"


def test_flags_and_copies_of_what_is_gone(tmp_path: Path) -> None:
    """RFC 2180 4.2, 4.3: the others are changed and copied."""
    store, copy, none = run(tmp_path, b"a STORE 1:3 +FLAGS (\\Flagged)", b"b COPY 1:3 Trash", b"c UID COPY 2 Trash")
    assert store.startswith(b"* 1 FETCH (FLAGS (\\Flagged") and b"* 3 FETCH" in store and b"* 2 FETCH" not in store
    assert store.endswith(b"a OK STORE completed\r\n")
    assert b" 1,3 1:2] COPY completed\r\n" in copy and b"b OK [COPYUID " in copy
    assert none == b"c OK COPY completed\r\n", "told that it is gone, so it names nothing"
    (first,) = run(tmp_path / "again", b"a UID COPY 2 Trash")
    assert b"a NO [EXPUNGEISSUED] the messages are gone\r\n" in first
