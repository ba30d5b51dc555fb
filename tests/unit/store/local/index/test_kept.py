"""What is kept of expunged messages: where its files are, crashes on the way, compaction, full maps, damaged rows."""

import asyncio
import errno
import mailbox
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath, files, segments
from fastmail.model.errors import StorageFull
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.index import kept, layout, references
from fastmail.store.local.index.layout import U64
from fastmail.store.local.maildir import aside, housekeeping, tidier
from fastmail.store.local.recovery import after_salvage, consistent_rows, rebuild_account
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.segments import compaction, usage, verify
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXTS = [b"Subject: %d\n\n" % number + b"x" * 500 + b"\n" for number in range(6)]
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def message(text: bytes) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1000)


@asynccontextmanager
async def opened(
    path: Path, kind: str = "maildir", grace: float = 60.0, map_size: int = 1 << 30
) -> AsyncIterator[tuple[LocalStore, Account, bytes]]:
    account = housed(1, "a@example.test", str(path / "mail" / "a"))
    everybody = {1: account}
    store = local_store(str(path / "data"), kind=kind, grace=grace, map_size=map_size, resolve=everybody.get)
    await store.start()
    try:
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        yield store, account, key
    finally:
        await store.close()


async def removed(store: LocalStore, account: Account, key: bytes) -> None:
    """Six messages, of which another session still sees two that are gone."""
    await store.append(account, key, [message(text) for text in TEXTS])
    await store.views.begin(key)
    await store.expunge(account, key, UidSet.of([2, 5]), 0, mine=0)


def names(path: Path, *subs: str) -> list[str]:
    """Files of the INBOX in these directories."""
    return sorted(name for sub in subs for name in os.listdir(path / "mail" / "a" / sub))


def rows(store: LocalStore) -> int:
    shard = store.commits.shards[0]
    with shard.env.read() as txn:
        return int(txn.stat(shard.tables.kept)["entries"])


async def until(what: Callable[[], bool]) -> None:
    for _ in range(300):
        if what():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it does not come")


# ---------------------------------------------------------------- pages


@given(st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)))
def test_pages_with_what_is_kept_are_pages_of_both(there: set[int], gone: set[int], also: set[int]) -> None:
    def record(uid: int, flags: int) -> bytes:
        return pages.pack(uid, flags, 7, 0, 1000, 10, 1000)

    def packed(uids: set[int], flags: int) -> list[tuple[int, bytes]]:
        firsts = sorted({uid & ~31 for uid in uids})
        return [(f, b"".join(record(uid, flags) for uid in sorted(uids) if uid & ~31 == f)) for f in firsts]

    real = [pages.extend(None, records) for _, records in packed(there, 1)]
    merged = [pages.records(page) for page in kept.merged(iter(real), iter(packed(gone | also, 0)))]
    every = [r for page in merged for r in page]
    assert [r[0] for r in every] == sorted(there | gone | also)
    assert all(r[1] == (r[0] in there) for r in every), "what is there is told as it is"
    assert all(len({r[0] & ~31 for r in page}) == 1 for page in merged)


# ---------------------------------------------------------------- files


@pytest.mark.slow
def test_no_reader_of_maildirs_sees_what_is_kept_and_it_goes(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, grace=1.5) as (store, account, key):
            await removed(store, account, key)
            await until(lambda: len(names(tmp_path, "cur", "new")) == 4)
            assert len(mailbox.Maildir(tmp_path / "mail" / "a", create=False)) == 4
            assert [name[:5] for name in names(tmp_path, "tmp")] == ["kept.", "kept."]
            assert await store.content(account, key, 5) == TEXTS[4]
            await store.sync(account, key)
            await store.follower.sync(account, key, force=True)
            with store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                assert box is not None and (box.exists, box.uidnext) == (4, 7), "it is not taken in again"
            await until(lambda: not names(tmp_path, "tmp"))
            await until(lambda: not rows(store))
            assert await store.content(account, key, 5) is None

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_a_restart_finds_what_is_kept_and_forgets_it_in_time(kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, kind) as (store, account, key):
            await removed(store, account, key)
        async with opened(tmp_path, kind) as (store, account, key):
            assert await store.content(account, key, 2) == TEXTS[1]
            assert rows(store) == 3
        async with opened(tmp_path, kind) as (store, account, key):
            await store.sweeper.sweep(True)
            assert rows(store) == 0 and (kind == "segments" or not names(tmp_path, "tmp"))
            assert await store.content(account, key, 2) is None
            assert await store.content(account, key, 1) == TEXTS[0]

    asyncio.run(main())


def test_a_crash_before_files_are_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(tidier.Tidier, "touch", lambda *_: None)
            async with opened(tmp_path) as (store, account, key):
                await removed(store, account, key)
                assert len(names(tmp_path, "cur", "new")) == 6
        async with opened(tmp_path) as (store, account, key):
            assert await store.content(account, key, 2) == TEXTS[1], "still under its name"
            await until(lambda: len(names(tmp_path, "cur", "new")) == 4)
            assert await store.content(account, key, 2) == TEXTS[1]
            await store.sweeper.sweep(True)
            assert not names(tmp_path, "tmp") and not rows(store)

    asyncio.run(main())


def test_a_crash_before_it_is_written_down_that_files_were_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(housekeeping, "clear", lambda *_: None)
            async with opened(tmp_path) as (store, account, key):
                await removed(store, account, key)
                await until(lambda: len(names(tmp_path, "tmp")) == 2)
        async with opened(tmp_path) as (store, account, key):
            shard = store.commits.shards[0]
            await until(lambda: not housekeeping.pending(shard.env.read, shard.tables))
            assert await store.content(account, key, 2) == TEXTS[1]
            assert len(names(tmp_path, "tmp")) == 2

    asyncio.run(main())


def test_a_crash_between_files_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (store, account, key):
            await removed(store, account, key)
            await until(lambda: len(names(tmp_path, "tmp")) == 2)
            with monkeypatch.context() as patch:
                patch.setattr(kept, "forget", lambda *_, **__: 1 / 0)
                with pytest.raises(Exception, match="division"):
                    await store.sweeper.sweep(True)
            assert not names(tmp_path, "tmp") and rows(store) == 3
            assert await store.content(account, key, 2) is None
            await store.sweeper.sweep(True)
            assert rows(store) == 0

    asyncio.run(main())


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_its_time_comes_while_files_are_put_aside(when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Housekeeping comes too late, or in the midst of it: no file stays."""

    async def main() -> None:
        async with opened(tmp_path) as (store, account, key):
            shard, directory = store.commits.shards[0], str(tmp_path / "mail" / "a")
            with monkeypatch.context() as patch:
                patch.setattr(tidier.Tidier, "touch", lambda *_: None)
                await removed(store, account, key)

            def look() -> housekeeping.Done:
                return housekeeping.tidy(shard.env.read, shard.tables, key, directory)

            async def clear(done: housekeeping.Done) -> None:
                await store.commits.submit(account, lambda txn, t: housekeeping.clear(txn, t, done))

            if when == "between":  # files removed, rows not
                real = aside.remove
                looked = []

                def remove(*args: object) -> None:
                    real(*args)  # type: ignore[arg-type]
                    if not looked:
                        looked.append(look())

                monkeypatch.setattr(aside, "remove", remove)
                await store.sweeper.sweep(True)
                await clear(looked[0])
            elif when == "after":
                done = look()
                await store.sweeper.sweep(True)
                await clear(done)
            else:
                await store.sweeper.sweep(True)
            await until(lambda: not housekeeping.pending(shard.env.read, shard.tables))
            assert len(names(tmp_path, "cur", "new")) == 4 and not names(tmp_path, "tmp") and not rows(store)

    asyncio.run(main())


def test_a_file_that_cannot_be_put_aside_is_removed(tmp_path: Path) -> None:
    for sub in ("new", "cur"):
        (tmp_path / sub).mkdir()
    (tmp_path / "new" / "1.a").write_text("x")
    (tmp_path / "cur" / "2.b:2,S").write_text("x")
    done = housekeeping.Done(b"key")
    trash = [(b"one", kept.aside(b"n1.a")), (b"two", kept.aside(b"c2.b:2,")), (b"three", kept.aside(b"c3.c:2,"))]
    left = housekeeping._put_aside(str(tmp_path), trash, done)
    housekeeping._unlink(str(tmp_path), left, done)
    assert not list(tmp_path.glob("*/*")) and sorted(done.unlinked) == [b"one", b"three", b"two"] and not done.aside


def test_a_file_that_was_renamed_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sub in ("new", "cur", "tmp"):
        (tmp_path / sub).mkdir()
    (tmp_path / "cur" / "1.a:2,FS").write_text("x")
    assert housekeeping.read_kept(str(tmp_path), b"n1.a") == b"x"
    done = housekeeping.Done(b"key")
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_dirs", lambda paths: [errno.EIO] * len(paths))
        assert housekeeping._put_aside(str(tmp_path), [(b"one", kept.aside(b"n1.a"))], done) == []
        assert done.aside == [], "not on the disk for certain"
    assert housekeeping._put_aside(str(tmp_path), [(b"one", kept.aside(b"n1.a"))], done) == []
    assert done.aside == [b"one"] and not done.unlinked and housekeeping.read_kept(str(tmp_path), b"n1.a") == b"x"
    assert os.listdir(tmp_path / "cur") == []


def test_what_nothing_names_any_more_is_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (store, account, key):
            await removed(store, account, key)
            await until(lambda: len(names(tmp_path, "tmp")) == 2)
            (tmp_path / "mail" / "a" / "tmp" / "kept.lost").write_text("x")
            monkeypatch.setattr(kept, "SLACK", -1.0)
            (found,) = [one for one in await checking.check(store, account) if one.problems]
            assert found.detail == "1 files of expunged messages in tmp that nothing refers to"
            assert not [one for one in await rebuild_account.rebuild(store, account) if one.problems]
            assert "kept.lost" not in names(tmp_path, "tmp")
            assert aside.left_over(str(tmp_path / "mail" / "a"), 60.0) == []
            (tmp_path / "mail" / "a" / "tmp" / "kept.lost").write_text("x")
            monkeypatch.setattr(kept, "SLACK", -61.0)
            aside.remove(str(tmp_path / "mail" / "a"), [], 60.0)
            assert names(tmp_path, "tmp") == []
            aside.remove(str(tmp_path / "nowhere"), [b"n1.a"], 60.0)

    asyncio.run(main())


# ---------------------------------------------------------------- segments


def test_compaction_and_a_search_for_waste_leave_what_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "segments") as (store, account, key):
            await removed(store, account, key)
            await store.expunge(account, key, UidSet.of([1]), 0)
        async with opened(tmp_path, "segments") as (store, account, key):
            shard = store.commits.shards[0]
            number = segments.numbers(shard.directory)[0]
            with shard.env.read() as txn:
                survey = usage.survey(txn, shard.tables, shard.directory, number)
                assert survey.orphans == [] and len(references.dead_in(txn, shard.tables, number)) == 1
            assert verify.check(store, shard, lambda *_: None) == []
            assert await compaction.compact(shard, number) > 0
            assert not beneath.exists(segments.path_of(shard.directory, number))
            assert await store.content(account, key, 2) == TEXTS[1]
            assert await store.content(account, key, 5) == TEXTS[4]
            await store.sweeper.sweep(True)
            (after,) = segments.numbers(shard.directory)
            with shard.env.read() as txn:
                assert len(references.dead_in(txn, shard.tables, after)) == 2

    asyncio.run(main())


# ---------------------------------------------------------------- no room, and damage


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_a_full_map_refuses_no_expunge_and_what_is_kept_makes_room(kind: str, tmp_path: Path) -> None:
    text = b"Subject: s\nX-Long: " + b"x" * 12_000 + b"\n\nbody\n"

    async def fill(store: LocalStore, account: Account, key: bytes) -> int:
        count = refused = 0
        while refused < 2:
            try:
                await store.deliver([Delivery(account, key, message(text))])
                count += 1
            except StorageFull:
                refused += 1
        return count

    async def main() -> None:
        async with opened(tmp_path, kind, map_size=4 << 20) as (store, account, key):
            await store.views.begin(key)
            counts = []
            for _ in range(4):
                counts.append(await fill(store, account, key))
                with store.snapshot(account) as snapshot:
                    box = snapshot.mailbox(key)
                assert box is not None
                gone = await store.expunge(account, key, None, 0, mine=0)
                assert len(gone.uids) == box.exists
                await asyncio.sleep(0.1)
            assert min(counts) > 50, counts

    asyncio.run(main())


def test_what_is_kept_goes_when_there_is_no_room_for_something_new(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (store, account, key):
            await removed(store, account, key)

            def full(txn: object, t: object) -> None:
                raise StorageFull("no room")

            with pytest.raises(StorageFull):
                await store.commits.submit(account, full)
            await until(lambda: rows(store) == 0)
            assert await store.content(account, key, 2) is None

    asyncio.run(main())


def test_damaged_rows_go_and_the_others_are_due(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, "segments") as (store, account, key):
            await removed(store, account, key)
            shard = store.commits.shards[0]
            with shard.env.write() as txn:
                t = shard.tables
                for at in [bytes(at) for at, _ in txn.cursor(db=t.kept).iternext() if at[:8] == kept.DUE]:
                    txn.delete(at, db=t.kept)
                txn.put(key + b"\0\0\0\3", b"what", db=t.kept)
                txn.put(kept.DUE + b"what", b"what", db=t.kept)
                consistent_rows.make_consistent(txn, t)
                found = [bytes(at) for at, _ in txn.cursor(db=t.kept).iternext()]
            assert found == [key + b"\0\0\0\2", key + b"\0\0\0\5", kept.DUE + bytes(8) + key + b"\0\0\0\2"]
            assert await store.sweeper.sweep() == 1 and rows(store) == 0
            with shard.env.read() as txn:
                assert txn.stat(t.dead)["entries"] == 2

    asyncio.run(main())


def test_what_is_kept_does_not_come_back_from_a_saved_index(tmp_path: Path) -> None:
    """Nothing but ``kept`` names its record; a message whose row is lost is not given that record instead."""

    async def main() -> None:
        async with opened(tmp_path, "segments") as (store, account, key):
            await removed(store, account, key)
        async with opened(tmp_path, "segments") as (store, account, key):
            shard = store.commits.shards[0]
            with shard.env.write() as txn:
                value = txn.get(layout.uid_key(key, 3), db=shard.tables.msg)
                wrong = references.REFERENCE.pack(
                    b"s", 1 << 50, *references.REFERENCE.unpack(layout.marked_of(value))[2:]
                )
                txn.put(
                    layout.uid_key(key, 3),
                    layout.pack_message(wrong, layout.summary_of(value)),  # type: ignore[arg-type]
                    db=shard.tables.msg,
                )
            assert await after_salvage.find_again(store, shard, [account]) == 0
            for uid in (1, 2, 3, 4, 5, 6):
                assert await store.content(account, key, uid) == TEXTS[uid - 1]
            with store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                assert box is not None and box.exists == 4

    asyncio.run(main())


def test_a_time_that_a_wrong_clock_gave_comes_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (store, account, key):
            await removed(store, account, key)
            shard, t = store.commits.shards[0], store.commits.shards[0].tables
            with shard.env.read() as txn:
                assert kept.due(txn, t, 8, False, 60.0) == []
                (one,) = kept.due(txn, t, 8, True, 60.0)
                assert kept.due(txn, t, 8, False, 60.0, late=-61.0) == [one]
            with shard.env.write() as txn:
                pairs = txn.pop(one.at, db=t.kept)
                txn.put(kept.DUE + U64.pack(1 << 50) + one.at[16:], pairs, db=t.kept)
            assert len(one.names) == 2 and await store.sweeper.sweep() == 1
            assert rows(store) == 0

    asyncio.run(main())
