"""What processes that were killed leave behind is told from damage: unnamed files of holds, torn records of segments."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail.durable import beneath, segments
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.index import layout, references
from fastmail.store.local.segments import compaction, verify
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXTS = [b"Subject: %d\n\n" % number + b"x" * 500 + b"\n" for number in range(6)]


def message(text: bytes) -> NewMessage:
    summary = mime.scan(text)
    return NewMessage((text,), summary, int.from_bytes(summary[20:24], "little"), 1700000000)


@asynccontextmanager
async def opened(path: Path, kind: str, recover: bool = True, instance: str = "0123abcd") -> AsyncIterator[LocalStore]:
    store = local_store(str(path / "data"), kind=kind, recover=recover, instance=instance)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


async def fill(path: Path) -> tuple[Account, bytes, Path]:
    """Six messages in a segment that its process did not seal; its file."""
    account = housed(1, "a@example.test", str(path / "mail" / "a"))
    async with opened(path, "segments") as store:
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        for text in TEXTS:
            await store.append(account, key, [message(text)])
    async with opened(path, "segments", recover=False) as store:  # a process that ends well seals its segments
        shard = store.commits.shards[0]
        with shard.env.write() as txn:
            for number in segments.numbers(shard.directory):
                txn.put(layout.U64.pack(number), references.OPEN, db=shard.tables.seg)
        (number,) = segments.numbers(shard.directory)
        return account, key, Path(segments.path_of(shard.directory, number))


def unwritten(path: Path) -> bytes:
    """A record as a process would have written it next."""
    size = path.stat().st_size
    at = -(-size // 8) * 8
    seed = int.from_bytes(path.read_bytes()[len(segments.MAGIC) : segments.START], "little")
    number = int(path.stem, 16)
    record = segments.Record(segments.make_id(number, at), number, at, 0, 0, 0, 0, bytes(12), "INBOX", 5)
    text = b"y" * 300
    return bytes(at - size) + segments.pack(record, [text], seed) + text


TAILS = {
    "half a record": lambda whole: whole[:150],
    "a head without content": lambda whole: whole[:80],
    "zeros": lambda whole: bytes(4096),
    "a hole and a record behind it": lambda whole: bytes(512) + whole,  # pieces are not written in order
    "a whole record": lambda whole: whole,
    "half a record and noise": lambda whole: whole[:100] + b"\xff" * 200,
}


@pytest.mark.parametrize("tail", TAILS)
def test_what_was_never_acknowledged_is_no_damage(tmp_path: Path, tail: str) -> None:
    async def work() -> None:
        account, key, path = await fill(tmp_path)
        with open(path, "ab") as file:
            file.write(TAILS[tail](unwritten(path)))
        async with opened(tmp_path, "segments", recover=False) as store:  # as `check` does, before a server starts
            assert verify.check(store, store.commits.shards[0], lambda *_: None) == []
        async with opened(tmp_path, "segments") as store:  # the server, which looks it through
            shard = store.commits.shards[0]
            assert verify.check(store, shard, lambda *_: None) == []
            number = int(path.stem, 16)
            assert await compaction.compact(shard, number) > 0 and not path.exists()
            assert [await store.content(account, key, uid) for uid in range(1, 7)] == TEXTS
            assert verify.check(store, shard, lambda *_: None) == []

    run(work)


@pytest.mark.parametrize("which", [0, 3, 5])
@pytest.mark.parametrize("cut", [False, True])
def test_damage_of_what_was_acknowledged_is_told(tmp_path: Path, which: int, cut: bool) -> None:
    """Also where it is the end of the file that is gone or damaged, and where its process died."""

    async def work() -> None:
        account, key, path = await fill(tmp_path)
        data = bytearray(path.read_bytes())
        at = data.find(b"Subject: %d\n" % which)
        if cut:
            del data[at + 100 :]
        else:
            data[at + 100] ^= 1
        path.write_bytes(data)
        hit = range(which, 6) if cut else [which]
        for _ in range(2):
            async with opened(tmp_path, "segments") as store:
                shard = store.commits.shards[0]
                found = verify.check(store, shard, lambda *_: None)
                assert [one.where.endswith(f"UID {n + 1}") for one, n in zip(found[1:], hit, strict=True)]
                assert "have no undamaged record" in found[0].problem
                assert await compaction.compact(shard, int(path.stem, 16)) == -1  # what may be saved by hand stays
        assert account.id == 1 and key

    run(work)


def test_a_segment_that_was_only_begun(tmp_path: Path) -> None:
    async def work() -> None:
        _, _, path = await fill(tmp_path)
        for size, name in ((0, "0000f0.seg"), (9, "0000f1.seg")):
            path.with_name(name).write_bytes(bytes(size))
        async with opened(tmp_path, "segments") as store:
            assert verify.check(store, store.commits.shards[0], lambda *_: None) == []
        path.write_bytes(b"not " + path.read_bytes()[4:])
        async with opened(tmp_path, "segments") as store:
            assert len(verify.check(store, store.commits.shards[0], lambda *_: None)) == 7

    run(work)


def test_files_of_holds_that_no_row_names_go(tmp_path: Path) -> None:
    async def work() -> None:
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        async with opened(tmp_path, "maildir") as store:
            await store.open(account)
            hold = await store.holds.keep(account, message(TEXTS[0]), 5)
            lost = await store.holds.keep(account, message(TEXTS[1]), 6)
            place = tmp_path / "data" / "held-0"
            own = store.maker.make(5, 5).decode()  # this process may be about to write its row
            names = ["1700000000.M1P1I99999999Q1.host", ".1700000000.M1P1I99999999Q2.host", "stray", own]
            for name in names:
                (place / name).write_bytes(b"x")
            os.unlink(place / os.fsdecode(lost[10:]))
            left, missing = store.holds.leftovers(0)
            assert sorted(beneath.plain(os.fsdecode(one)) for one in left) == sorted(
                str(place / name) for name in names[:3]
            )
            assert missing == [os.fsdecode(lost[10:])]
        async with opened(tmp_path, "maildir", recover=False, instance="fedcba98") as store:
            assert len(store.holds.leftovers(0)[0]) == 4 and len(list(place.iterdir())) == 5  # it only looks
        async with opened(tmp_path, "maildir", instance="fedcba98") as store:
            assert await store.holds.read(hold) == TEXTS[0] and len(list(place.iterdir())) == 1
            assert store.holds.leftovers(0) == ([], missing)

    run(work)


def test_what_comes_while_a_check_reads_is_no_damage(tmp_path: Path) -> None:
    async def work() -> None:
        account, key, _ = await fill(tmp_path)
        async with opened(tmp_path, "segments") as store:
            await store.append(account, key, [message(TEXTS[0])])
            loop = asyncio.get_running_loop()
            waits: list[int] = []

            def told(position: int, total: int) -> None:
                """In the helper's thread, before each segment; behind the first one more message comes to a new one."""
                if position == total - 1 and not waits:
                    waits.append(position)

            real = segments.scan

            def scan(directory: str, number: int) -> list[tuple[segments.Record | None, int, int]]:
                rows = list(real(directory, number))
                if waits:
                    waits.clear()
                    asyncio.run_coroutine_threadsafe(store.append(account, key, [message(TEXTS[1])]), loop).result(20)
                return rows

            patch = pytest.MonkeyPatch()
            patch.setattr(segments, "scan", scan)
            try:
                assert await loop.run_in_executor(None, verify.check, store, store.commits.shards[0], told) == []
            finally:
                patch.undo()
            assert not waits
            assert await store.content(account, key, 8) == TEXTS[1]

    run(work)
