"""After a loss of power messages are where they belong: what flags, COPY, MOVE, RENAME and EXPUNGE made of their files."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import transaction
from fastmail.model.flags import FLAGGED, SEEN
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.store import LocalStore
from tests.support.homes import home_of, housed, local_store
from tests.support.journals import crashed

Seen = dict[str, dict[int, bytes]]


def text(n: int) -> bytes:
    return b"Subject: %d\n\n" % n + b"%d" % n * 300 + b"\n"


def message(n: int, flags: int = 0) -> NewMessage:
    return NewMessage((text(n),), mime.scan(text(n)), mime.served_size(text(n)), 1_000_000 + n, flags)


def account_in(place: Path) -> Account:
    return housed(1, "a@example.test", str(place / "data" / "mail"))


def store_in(place: Path, kind: str, instance: str = "00000000") -> LocalStore:
    account = account_in(place)
    return local_store(
        str(place / "data"), kind=kind, instance=instance, resolve=lambda number: account if number == 1 else None
    )


async def seen(store: LocalStore, account: Account) -> Seen:
    out: Seen = {}
    for box in (await store.listing(account)).mailboxes:
        with store.snapshot(account) as snapshot:
            uids = [r[0] for page in snapshot.pages(box.key) for r in pages.records(page)]
        out[box.name] = {uid: await store.content(account, box.key, uid) or b"" for uid in uids}
    return {name: some for name, some in out.items() if some}


def spoil(place: Path, what: str) -> None:
    """What a disk may have kept of files that were not synced; of a link it has the name."""
    for path in sorted((place / "data" / "mail").rglob("*")) + sorted((place / "data").glob("held-*/*")):
        name = os.fsencode(path.name)
        linked = NameMaker.is_copy(name) or (NameMaker.number_in(name) and path.parent.name != "held-0")
        if path.is_file() and path.parent.name in ("new", "cur", "held-0"):
            if what == "missing" and not linked:
                path.unlink()
            elif what == "torn":
                path.write_bytes(b"")
    for path in (place / "data" / "segments-0").glob("*.seg"):
        whole = path.read_bytes()
        path.write_bytes(whole[:24] + bytes(len(whole) - 24 if what == "torn" else 0))

    if what.startswith("renamed"):  # on the disk, but not in the rows; of some messages the disk has no file
        folder = place / "data" / "mail" / ".Moved"
        (place / "data" / "mail" / ".Box").rename(folder)
        for n in what.split()[1:]:
            sorted(folder.glob("new/*"))[int(n)].unlink()
        for path in (folder, *folder.iterdir()):
            os.utime(path, (1_000_000_000, 1_000_000_000))  # nobody is still making it


Work = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def run(tmp_path: Path, kind: str, work: Work, what: str) -> tuple[Seen, Seen, Path]:
    """Do the work, lose the power, and come up again: what was seen before and after."""

    async def before() -> Seen:
        place = tmp_path / "one"
        place.mkdir()
        account = account_in(place)
        store = store_in(place, kind)
        await store.start()
        await store.open(account)
        await work(store, account, store.find(account, "INBOX") or b"")
        expected = await seen(store, account)
        crashed(place, tmp_path / "copy")
        await store.close()
        return expected

    async def after() -> Seen:
        place = tmp_path / "copy"
        shutil.rmtree(tmp_path / "one")
        spoil(place, what)
        account = account_in(place)
        store = store_in(place, kind, "11111111")
        await store.start()
        await store.open(account)
        for box in (await store.listing(account)).mailboxes:
            await store.sync(account, box.key)
        found = await seen(store, account)
        await store.close()
        return found

    return asyncio.run(before()), asyncio.run(after()), tmp_path / "copy"


@pytest.mark.parametrize("what", ["as it was", "torn", "missing"])
@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_messages_are_whole_wherever_they_went(tmp_path: Path, kind: str, what: str) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.create(account, "Other")
        await store.create(account, "Old/Deep")
        other = store.find(account, "Other") or b""
        deep = store.find(account, "Old/Deep") or b""
        for n in range(6):
            await store.deliver([Delivery(account, key, message(n))])
        await store.append(account, key, [message(n, SEEN) for n in range(6, 20)])
        await store.append(account, deep, [message(30)])
        await store.store(account, key, UidSet.of([2, 7]), 1, FLAGGED | SEEN, ())
        await asyncio.sleep(0.3)  # names follow
        await store.store(account, key, UidSet.of([3]), 1, FLAGGED, ())
        await store.copy(account, key, UidSet.of([1, 8]), other)
        await store.copy(account, key, UidSet.of([4, 9]), other, move=True)
        await store.expunge(account, key, UidSet.of([5, 10]), 0)
        await store.rename(account, "Old", "New")
        await store.append(account, deep, [message(31)])

    expected, found, _ = run(tmp_path, kind, work, what)
    assert found == expected
    assert sorted(found["INBOX"]) == [1, 2, 3, 6, 7, 8, *range(11, 21)]
    assert len(found["Other"]) == 4 and found["New/Deep"] == {1: text(30), 2: text(31)}


@pytest.mark.parametrize("what", ["renamed", "renamed 0", "renamed 1", "renamed 1 0", "renamed 2 1 0"])
def test_messages_of_an_interrupted_rename_stay_together(tmp_path: Path, what: str) -> None:
    """The disk has the directory's new name, the rows have the old one: one of the two mailboxes has all messages."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.create(account, "Box")
        box = store.find(account, "Box") or b""
        for n in range(3):
            await store.deliver([Delivery(account, box, message(n))])
        # from the queue: the file has the same name in INBOX, which is no reason to look for the mailbox there
        for at in (key, box):
            await store.deliver(
                [Delivery(account, at, message(9), transaction.make(7, b""), again=True, copy=at == box)]
            )

    _, found, _ = run(tmp_path, "maildir", work, what)
    boxes = {name: sorted(some.values()) for name, some in found.items() if name in ("Box", "Moved")}
    assert list(boxes.values()) == [sorted(text(n) for n in (0, 1, 2, 9))], boxes
    assert list(found["INBOX"].values()) == [text(9)]


@pytest.mark.parametrize("what", ["as it was", "torn", "missing"])
def test_what_was_removed_stays_removed(tmp_path: Path, what: str) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.create(account, "Gone")
        gone = store.find(account, "Gone") or b""
        await store.append(account, gone, [message(1), message(2)])
        await store.append(account, key, [message(3), message(4)])
        await store.expunge(account, key, UidSet.of([1]), 0)
        await store.delete(account, "Gone")
        shard = store.commits.shards[0]

        def waiting() -> int:  # files to be unlinked
            with shard.env.read() as txn:
                return int(txn.stat(shard.tables.trash)["entries"])

        for _ in range(100):
            await asyncio.sleep(0.05)
            if not waiting():
                break
        assert not waiting()

    expected, found, place = run(tmp_path, "maildir", work, what)
    assert found == expected == {"INBOX": {2: text(4)}}
    assert not (place / "data" / "mail" / ".Gone").exists()
    left = [path for path in (place / "data" / "mail").rglob("*") if path.is_file() and text(4) != path.read_bytes()]
    assert not [path for path in left if path.parent.name in ("new", "cur")]


@pytest.mark.parametrize("what", ["as it was", "torn", "missing"])
@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_what_the_queue_holds_is_whole(tmp_path: Path, kind: str, what: str) -> None:
    holds: list[bytes] = []

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        for n in range(4):
            holds.append(await store.holds.keep(account, message(n), n + 1))
        await store.deliver([Delivery(account, key, message(1), transaction.make(2, b""), holds[1])])
        await store.holds.let_go([1, 2])

    expected, found, place = run(tmp_path, kind, work, what)
    assert found == expected == {"INBOX": {1: text(1)}}

    async def look() -> list[Any]:
        store = store_in(place, kind)
        await store.start()
        some = await asyncio.gather(*map(store.holds.read, holds), return_exceptions=True)
        await store.close()
        return list(some)

    some = asyncio.run(look())
    assert some[2:] == [text(2), text(3)]
    if kind == "maildir":
        assert len(os.listdir(place / "data" / "held-0")) == 2


def test_a_mailbox_that_was_seen_and_lost_is_not_made_again(tmp_path: Path) -> None:
    """Its id and its UIDVALIDITY are never those of another one."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.create(account, "Known")

    _, _, place = run(tmp_path, "maildir", work, "as it was")

    async def more() -> list[tuple[int, int]]:
        account = account_in(place)
        store = store_in(place, "maildir")
        await store.start()
        await store.open(account)
        await store.create(account, "Later")
        boxes = (await store.listing(account)).mailboxes
        await store.close()
        return [(int.from_bytes(box.key[8:], "big"), box.uidvalidity) for box in boxes]

    *before, (number, validity) = sorted(asyncio.run(more()))
    assert number > before[-1][0] + 1000 and validity > max(one for _, one in before) + 1000


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_numbers_go_on_above_what_can_have_been_seen(tmp_path: Path, kind: str) -> None:
    """Once for each recovery, and once in each mailbox."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message(1)])

    _, found, place = run(tmp_path, kind, work, "as it was")
    assert found == {"INBOX": {1: text(1)}}

    async def more() -> list[tuple[int, int, int]]:
        account = account_in(place)
        store = store_in(place, kind)
        await store.start()
        await store.open(account)
        key = store.find(account, "INBOX") or b""
        out = []
        for n in (2, 3):
            with store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
            assert box is not None
            done = await store.append(account, key, [message(n)])
            out.append((done.uids[0], done.modseq, box.modseq))
        with store.snapshot(account) as snapshot:
            assert snapshot.mailbox(key).uidnext == out[1][0] + 1  # type: ignore[union-attr]
        await store.close()
        return out

    (first, modseq, before), (second, later, _) = asyncio.run(more())
    assert first > 1 << 17 and second == first + 1
    assert before <= modseq and 1 << 19 < modseq < later < modseq + 10


def test_a_file_that_was_cut_short_and_never_answered_is_no_message(tmp_path: Path) -> None:
    """The disk kept its name and not its content; nobody was told of it."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message(1)])
        new = Path(home_of(account).root) / "new"
        for content in (b"", bytes(300)):
            (new / os.fsdecode(store.maker.make(300, 310))).write_bytes(content)
        (new / "1700000000.M1P1.other.host,S=300").write_bytes(b"")  # somebody else's is left to them

    _, found, place = run(tmp_path, "maildir", work, "as it was")
    assert sorted(map(len, found["INBOX"].values())) == [0, len(text(1))]
    assert len(list((place / "data" / "mail").glob("[nc]*/*"))) == 2
