"""What a session gets of messages that another one expunged while it still sees them (RFC 2180 4.1, 4.2, 4.3)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastmail.store.interface import Account, Store
from fastmail.store.memory.store import MemoryStore
from tests.support.homes import local_store
from tests.support.sessions import Bench, Client

TEXT = b"Subject: number %d\r\n\r\nbody\r\n"


@asynccontextmanager
async def pair(path: Path, kept: bool = True, kind: str = "memory") -> AsyncIterator[tuple[Bench, Client, Client]]:
    """Two sessions on INBOX with three messages; the second has just removed the second message. ``kept``: it is kept
    for the first."""
    grace = 60.0 if kept else 0.0
    store: Store
    store = MemoryStore(grace=grace) if kind == "memory" else local_store(str(path / "data"), kind=kind, grace=grace)
    await store.start()
    try:
        bench = Bench(str(path), store)
        one, two = bench.open("imap"), bench.open("imap")
        for client in (one, two):
            await client.send(b"a LOGIN user@example.test secret\r\n")
        for n in (1, 2, 3):
            text = TEXT % n
            await one.send(b"b APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
        for client in (one, two):
            await client.send(b"c SELECT INBOX\r\n")
        await two.send(b"d STORE 2 +FLAGS.SILENT (\\Deleted)\r\ne EXPUNGE\r\n")
        yield bench, one, two
    finally:
        await store.close()


def run(path: Path, *commands: bytes, kept: bool = True, kind: str = "memory") -> list[bytes]:
    async def main() -> list[bytes]:
        async with pair(path, kept, kind) as (_, one, _):
            return [await one.send(command + b"\r\n") for command in commands]

    return asyncio.run(main())


ITEMS = {
    b"FLAGS": b"FLAGS (\\Deleted",
    b"(UID RFC822.SIZE INTERNALDATE)": b"UID 2 ",
    b"ENVELOPE": b'"number 2"',
    b"(FLAGS ENVELOPE)": b'"number 2"',
    b"BODYSTRUCTURE": b'BODYSTRUCTURE ("text" "plain"',
    b"BODY": b'BODY ("text" "plain"',
    b"BODY.PEEK[]": b"BODY[] {27}\r\nSubject: number 2\r\n\r\nbody\r\n",
    b"BODY[TEXT]": b"BODY[TEXT] {6}\r\nbody\r\n",
    b"BODY.PEEK[1]<1.2>": b"BODY[1]<1> {2}\r\nod",
    b"BODY.PEEK[HEADER.FIELDS (Subject)]": b"{21}\r\nSubject: number 2\r\n\r\n",
    b"BODY.PEEK[HEADER.FIELDS (X-Rare)]": b"{2}\r\n\r\n",
    b"BINARY.PEEK[1]": b"BINARY[1] {6}\r\nbody\r\n",
    b"BINARY.SIZE[1]": b"BINARY.SIZE[1] 6",
    b"RFC822": b"RFC822 {27}\r\nSubject: number 2",
    b"PREVIEW": b'PREVIEW "body"',
    b"(EMAILID THREADID SAVEDATE MODSEQ)": b"EMAILID (",
}


@pytest.mark.parametrize("kind", ["memory", "maildir", "segments"])
@pytest.mark.parametrize("items", ITEMS)
def test_every_item_is_told_as_it_was(items: bytes, kind: str, tmp_path: Path) -> None:
    commands = [b"a FETCH 1:3 " + items, b"b FETCH 2 " + items, b"c UID FETCH 2 " + items, b"d NOOP", b"e FETCH 2 UID"]
    got, only, by_uid, noop, after = run(tmp_path, *commands, kind=kind)
    assert [got.count(b"* %d FETCH (" % n) for n in (1, 2, 3)] == [1, 1, 1] and b" EXPUNGE\r\n" not in got
    assert got.index(b"* 1 FETCH") < got.index(b"* 2 FETCH") < got.index(b"* 3 FETCH")
    assert got.endswith(b"a OK FETCH completed\r\n")
    assert ITEMS[items].lower() in only.lower() and only.endswith(b"b OK FETCH completed\r\n")
    assert ITEMS[items].lower() in by_uid.lower() and b"* 2 EXPUNGE\r\n" in by_uid + noop
    assert after == b"* 2 FETCH (UID 3)\r\ne OK FETCH completed\r\n"


def test_what_is_not_kept_is_refused_and_its_neighbours_come(tmp_path: Path) -> None:
    got, after, noop = run(
        tmp_path, b"a FETCH 1:3 (BODY.PEEK[])", b"b FETCH 3 (BODY.PEEK[TEXT])", b"c NOOP", kept=False
    )
    assert got.count(b"* 1 FETCH (BODY[] {27}\r\n") == 1 and b"* 3 FETCH (BODY[] {27}\r\n" in got
    assert b"* 2 FETCH" not in got and b"EXPUNGE\r\n" not in got, "numbers hold until they may be told"
    assert got.endswith(b"a NO [EXPUNGEISSUED] some of the messages are gone\r\n")
    assert after.startswith(b"* 3 FETCH (BODY[TEXT] {6}\r\n") and after.endswith(b"b OK FETCH completed\r\n")
    assert noop.startswith(b"* 2 EXPUNGE\r\n") and noop.endswith(b"c OK NOOP completed\r\n")


@pytest.mark.parametrize("items", [b"FLAGS", b"(UID RFC822.SIZE INTERNALDATE)", b"ENVELOPE", b"(FLAGS ENVELOPE)"])
def test_what_the_index_has_no_more_is_left_out(items: bytes, tmp_path: Path) -> None:
    got, only = run(tmp_path, b"a FETCH 1:3 " + items, b"b FETCH 2 " + items, kept=False)
    assert b"* 1 FETCH (" in got and b"* 3 FETCH (" in got and b"* 2 FETCH" not in got
    assert got.endswith(b"a OK FETCH completed\r\n")
    assert only == b"b OK FETCH completed\r\n"


@pytest.mark.parametrize("kind", ["memory", "maildir", "segments"])
def test_searches_of_the_view_find_it(kind: str, tmp_path: Path) -> None:
    """SEARCH, SORT and THREAD by number: nothing may be told of removals before their end."""
    keys = {
        b"ALL": b"1 2 3",
        b"DELETED": b"2",
        b'SUBJECT "number 2"': b"2",
        b'TEXT "number 2"': b"2",
        b'BODY "body"': b"1 2 3",
        b"SMALLER 100": b"1 2 3",
        b'HEADER "X-Rare" "x"': b"",
        b"NOT DELETED": b"1 3",
    }
    got = run(tmp_path, *(b"a SEARCH " + key for key in keys), kind=kind)
    assert [one.split(b"\r\n")[0].removeprefix(b"* SEARCH").strip() for one in got] == list(keys.values())
    commands = [b"a SORT (REVERSE SUBJECT) UTF-8 ALL", b"b THREAD ORDEREDSUBJECT UTF-8 ALL"]
    sort, thread = run(tmp_path / "more", *commands, kind=kind)
    assert sort.startswith(b"* SORT 3 2 1\r\n")
    assert thread.startswith(b"* THREAD (1)(2)(3)\r\n")


def test_flags_and_copies_of_what_is_gone(tmp_path: Path) -> None:
    """RFC 2180 4.2, 4.3: the others are changed and copied."""
    store, copy, none = run(tmp_path, b"a STORE 1:3 +FLAGS (\\Flagged)", b"b COPY 1:3 Trash", b"c UID COPY 2 Trash")
    assert store.startswith(b"* 1 FETCH (FLAGS (\\Flagged") and b"* 3 FETCH" in store and b"* 2 FETCH" not in store
    assert store.endswith(b"a OK STORE completed\r\n")
    assert b" 1,3 1:2] COPY completed\r\n" in copy and b"b OK [COPYUID " in copy
    assert none == b"c OK COPY completed\r\n", "told that it is gone, so it names nothing"
    (first,) = run(tmp_path / "again", b"a UID COPY 2 Trash")
    assert b"a NO [EXPUNGEISSUED] the messages are gone\r\n" in first


def test_a_session_that_left_has_no_view(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (bench, one, two):
            views = bench.store.views
            key = bench.store.find(Account(1, ""), "INBOX")
            assert key is not None and views.elsewhere(key, 1) and not views.elsewhere(key, 2)
            await one.send(b"a SELECT Trash\r\n")
            assert not views.elsewhere(key, 1)
            await one.send(b"a EXAMINE INBOX\r\n")
            assert views.elsewhere(key, 1)
            await one.send(b"b SELECT nowhere\r\n")
            assert not views.elsewhere(key, 1)
            await one.send(b"c SELECT INBOX\r\nd UNSELECT\r\ne SELECT INBOX\r\nf CLOSE\r\n")
            assert not views.elsewhere(key, 1) and views.elsewhere(key, 0)
            await two.send(b"f LOGOUT\r\n")
            two.connection.connection_lost(None)
            assert not views.elsewhere(key, 0)

    asyncio.run(main())
