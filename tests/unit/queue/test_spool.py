"""The queue on disk."""

import asyncio
import struct
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.durable import segments
from fastmail.model.errors import CorruptData, StorageFailed, StorageFull, TooMuch
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue import contents
from fastmail.queue import spool as module
from fastmail.queue.model import Item, Job, Outgoing, id_of, number_of
from fastmail.queue.spool import Spool


def run(path: Path, scenario: Callable[[Spool], Awaitable[None]]) -> None:
    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        try:
            await scenario(spool)
        finally:
            await spool.close()

    asyncio.run(main())


def outgoing(spool: Spool, groups: dict[str, list[str]], content: bytes = b"Subject: x\n\nbody\n") -> Outgoing:
    item = Item(spool.new_id(), "a@b.test", int(time.time()), len(content))
    return Outgoing(item, {where: [Rcpt(one) for one in names] for where, names in groups.items()}, [content])


def test_numbers_of_items() -> None:
    assert id_of(number_of(1234567890123456789)) == 1234567890123456789
    with pytest.raises(ValueError):
        id_of("hello, world")
    for text in ("Z" * 13, "Z" * 5000, "G000000000000"):  # more than 64 bits
        with pytest.raises(ValueError, match="64 bits"):
            id_of(text)
    assert id_of("FZZZZZZZZZZZZ") == (1 << 64) - 1


def test_jobs_come_by_destination_and_when_they_are_due(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        for n in range(5):
            await spool.enqueue(outgoing(spool, {"one.test": [f"u{n}@one.test"], "two.test": ["x@two.test"]}))
        assert spool.depth() == (5, 10)
        assert set(spool.destinations()) == {"one.test", "two.test"}
        now = time.time()
        jobs, due = spool.due("one.test", now, 3, lambda key: False)
        assert [job.recipients[0].address for job in jobs] == ["u0@one.test", "u1@one.test", "u2@one.test"]
        assert 0 < due <= now
        taken = {job.key for job in jobs}
        rest, due = spool.due("one.test", now, 9, taken.__contains__)
        assert len(rest) == 2 and due == 0

        def later(job: Job) -> Job:
            job.due += 1000
            return job

        await spool.change(jobs[0].key, later)
        again, due = spool.due("one.test", now, 9, lambda key: False)
        assert len(again) == 4 and due == jobs[0].due + 1000

    run(tmp_path, scenario)


def test_a_row_of_the_line_that_is_of_nobody_is_taken_out(tmp_path: Path) -> None:
    """A held job that stands in line would be found there, and passed over, for ever."""

    async def scenario(spool: Spool) -> None:
        await spool.enqueue(outgoing(spool, {"one.test": ["a@one.test"]}))
        now = time.time()
        ((job,), _) = spool.due("one.test", now, 9, lambda key: False)
        at = module.ready_key(job)

        def hold(job: Job) -> Job:
            job.paused = True
            return job

        await spool.change(job.key, hold)
        with spool.env.write() as txn:
            txn.put(at, b"", db=spool.env.db["line"])
        assert spool.due("one.test", now, 9, lambda key: False) == ([], 0)
        for _ in range(1000):
            if not spool.destinations():
                break
            await asyncio.sleep(0.005)
        assert spool.destinations() == {}
        assert spool.job(job.key) is not None, "the job itself stays"

    run(tmp_path, scenario)


@pytest.mark.parametrize("rank", [b"\xff", b"\x20"])
def test_a_row_of_the_line_with_a_rank_that_nobody_gave(tmp_path: Path, rank: bytes) -> None:
    """Damage may write the highest octet there is: the destinations after it are found all the same."""

    async def scenario(spool: Spool) -> None:
        await spool.enqueue(outgoing(spool, {"one.test": ["a@one.test"]}))
        await spool.enqueue(outgoing(spool, {"two.test": ["a@two.test"]}))
        now = time.time()
        with spool.env.write() as txn:
            txn.put(b"one.test\0" + rank + b"\0" * 18, b"", db=spool.env.db["line"])
        assert sorted(spool.destinations()) == ["one.test", "two.test"]
        assert len(spool.due("one.test", now, 9, lambda key: False)[0]) == 1
        assert len(spool.due("two.test", now, 9, lambda key: False)[0]) == 1

    run(tmp_path, scenario)


def test_held_jobs_are_not_due(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        item = await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]}))
        ((_, job),) = spool.jobs(item.id)

        def hold(job: Job) -> Job:
            job.paused = True
            return job

        assert spool.change_now(job.key, hold)
        assert spool.destinations() == {} and spool.depth() == (1, 1)

        def release(job: Job) -> Job:
            job.paused = False
            return job

        assert spool.change_now(job.key, release)
        assert list(spool.destinations()) == ["one.test"]

    run(tmp_path, scenario)


def test_what_is_done_is_gone_with_its_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SEGMENT", 4096)

    async def scenario(spool: Spool) -> None:
        for _ in range(10):
            await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]}, b"x" * 2000))
        directory = str(tmp_path / "queue" / "segments")
        before = len(segments.numbers(directory))
        assert before > 2
        assert spool.sweep() == 0
        jobs = [job for _, job in spool.jobs()]
        for job in jobs[::2]:
            await spool.change(job.key, lambda old: None)
        spool.sweep()
        for job in jobs[1::2]:
            left = spool.item(job.item)
            assert left is not None and await spool.content(left) == b"x" * 2000, "its fellow in the segment is gone"
            await spool.change(job.key, lambda old: None)
        assert spool.depth() == (0, 0)
        spool.sweep()
        assert len(segments.numbers(directory)) <= 2  # the one that is written to, and the next

    run(tmp_path, scenario)


def test_mail_that_comes_while_segments_are_swept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process commits between the first look and the lock: the second look sees its mail."""
    monkeypatch.setattr(contents, "SEGMENT", 4096)
    lock_segment = segments.lock_segment

    async def scenario(spool: Spool) -> None:
        for _ in range(10):
            await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]}, b"x" * 2000))
        for _, job in list(spool.jobs()):
            await spool.change(job.key, lambda old: None)
        directory = str(tmp_path / "queue" / "segments")
        before = segments.numbers(directory)

        def late(where: str, number: int) -> int | None:
            with spool.env.write() as txn:
                txn.put(contents.NUMBER.pack(number), contents.NUMBER.pack(1), db=spool.env.db["alive"])
            return lock_segment(where, number)

        monkeypatch.setattr(segments, "lock_segment", late)
        assert spool.sweep() == 0 and segments.numbers(directory) == before

    run(tmp_path, scenario)


def test_a_message_ends_with_its_last_job_and_reports_come_with_it(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        item = await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"], "two.test": ["v@two.test"]}))
        one, two = [job for _, job in spool.jobs(item.id)]
        await spool.change(one.key, lambda old: None)
        assert spool.depth() == (1, 1)
        await spool.change(two.key, lambda old: None, [outgoing(spool, {"local": ["a@b.test"]})])
        assert spool.depth() == (1, 1) and spool.item(item.id) is None
        await spool.change(two.key, lambda old: None, [outgoing(spool, {"local": ["a@b.test"]})])
        assert spool.depth() == (1, 1)  # a job that is gone makes no second report

    run(tmp_path, scenario)


def test_damaged_content_is_found(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        item = await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]}, b"A" * 500))
        assert await spool.content(item) == b"A" * 500
        number, _ = segments.split_id(item.record)
        path = Path(segments.path_of(str(tmp_path / "queue" / "segments"), number))
        path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"B", 1))
        with pytest.raises(CorruptData):
            await spool.content(item)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "now", [b"Received: x\n" + b"A" * 500, b"Received: x\n" + b"A" * 499 + b"B", b"", b"Received: x"]
)
def test_damaged_content_that_a_mailbox_shares_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: bytes
) -> None:
    """A file of a Maildir has no checksum of its own: the item's says whether it is what was acknowledged."""

    class Holding:
        async def read(self, hold: bytes) -> bytes:
            return now

    async def scenario(spool: Spool) -> None:
        monkeypatch.setattr(spool._contents, "_holds", Holding())
        made = outgoing(spool, {"one.test": ["u@one.test"]})
        prefix = len(b"Received: x\n")
        made.item.hold, made.item.skip, made.item.length = b"there", prefix, 500
        made.item.checksum = zlib.crc32(b"A" * 500)
        item = await spool.enqueue(made)
        if now.endswith(b"A" * 500):
            assert await spool.content(item) == b"A" * 500
        else:
            with pytest.raises(CorruptData):
                await spool.content(item)

    run(tmp_path, scenario)


def test_many_at_once_are_one_queue(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await asyncio.gather(*(spool.enqueue(outgoing(spool, {f"d{n % 7}.test": ["u@x.test"]})) for n in range(200)))
        assert spool.depth() == (200, 200) and len(spool.destinations()) == 7
        assert len({item.id for item, _ in spool.jobs()}) == 200

    run(tmp_path, scenario)


def test_a_login_sends_so_much_an_hour(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        def one(recipients: int, arrived: int, login: str = "a@b.test") -> Outgoing:
            made = outgoing(spool, {"one.test": [f"u{n}@one.test" for n in range(recipients)]})
            made.item.login, made.item.arrived = login, arrived
            return made

        await spool.enqueue(one(6, 3600 * 500), 10)
        with pytest.raises(TooMuch):
            await spool.enqueue(one(5, 3600 * 500 + 10), 10)
        await spool.enqueue(one(4, 3600 * 500 + 10), 10)
        await spool.enqueue(one(9, 3600 * 500 + 10, "c@d.test"), 10)
        await spool.enqueue(one(10, 3600 * 501), 10)
        assert spool.depth()[0] == 4

    run(tmp_path, scenario)


def test_a_crowd_at_the_start_makes_one_segment(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await asyncio.gather(*(spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]})) for _ in range(64)))
        assert len(segments.numbers(str(tmp_path / "queue" / "segments"))) == 1

    run(tmp_path, scenario)


def test_higher_priorities_go_first(tmp_path: Path) -> None:
    """RFC 6710 5.1: what is due, the highest priority first; a low one that is due hides no time of a high one."""

    async def scenario(spool: Spool) -> None:
        now = int(time.time())
        for priority in (0, -9, 4, 9, 0):
            one = outgoing(spool, {"far.test": [f"p{priority}@far.test"]})
            one.item.options = EsmtpOptions(priority=priority)
            await spool.enqueue(one)
        later = outgoing(spool, {"far.test": ["later@far.test"], "other.test": ["x@other.test"]})
        later.item.options = EsmtpOptions(priority=6, release=now + 50)
        await spool.enqueue(later)
        assert spool.destinations() == {"far.test": spool.destinations()["far.test"], "other.test": now + 50}
        assert spool.destinations()["far.test"] <= now + 1
        jobs, due = spool.due("far.test", now + 1, 10, lambda key: False)
        assert [job.recipients[0].address[1:-9] for job in jobs] == ["9", "4", "0", "0", "-9"]
        assert due == now + 50
        jobs, due = spool.due("far.test", now + 1, 2, lambda key: False)
        assert len(jobs) == 2 and due <= now + 1

    run(tmp_path, scenario)


def test_the_line_of_an_older_layout_is_kept(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        await spool.enqueue(outgoing(spool, {"far.test": ["a@far.test"], "near.test": ["b@near.test"]}))
        before = spool.destinations()
        with spool.env.write() as txn:
            for _, job in list(spool.jobs()):
                old = job.destination.encode() + b"\0" + struct.pack(">Q", job.due) + job.key
                txn.put(old, b"", db=spool.env.db["ready"])
            txn.drop(spool.env.db["line"], delete=False)
        assert spool.destinations() == {}
        await spool.close()
        again = Spool(str(tmp_path), 1 << 26)
        assert again.destinations() == before
        await again.close()

    run(tmp_path, scenario)


def test_what_a_domain_may_send_in_an_hour(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        def by(login: str) -> Outgoing:
            one = outgoing(spool, {"far.test": ["a@far.test", "b@far.test"]})
            one.item.login = login
            return one

        await spool.enqueue(by("one@example.test"), 100, 4)
        await spool.enqueue(by("two@example.test"), 100, 4)
        with pytest.raises(TooMuch, match="at most 4 recipients an hour are allowed for @example.test"):
            await spool.enqueue(by("three@example.test"), 100, 4)
        await spool.enqueue(by("three@else.test"), 100, 4)
        await spool.enqueue(by(""), 100, 4)
        assert spool.depth()[0] == 4

    run(tmp_path, scenario)


def test_the_map_has_a_reserve_in_which_the_queue_empties(tmp_path: Path) -> None:
    """Large items fill the index; new ones are refused while those that are there can still be put off and finished."""

    async def main() -> None:
        spool = Spool(str(tmp_path), 1 << 22)
        try:
            for _ in range(500):
                try:
                    await spool.enqueue(outgoing(spool, {"one.test": [f"{n:060}@one.test" for n in range(200)]}))
                except StorageFull:
                    break
            else:
                raise AssertionError("never full")
            waiting = spool.depth()[1]
            assert waiting > 10
            for _, job in list(spool.jobs()):

                def later(one: Job) -> Job:
                    one.due += 1000
                    return one

                await spool.change(job.key, later)
            for _, job in list(spool.jobs()):
                await spool.change(job.key, lambda one: None)
            assert spool.depth() == (0, 0)
            await spool.enqueue(outgoing(spool, {"one.test": ["u@one.test"]}))
        finally:
            await spool.close()

    asyncio.run(main())


def test_a_message_that_is_queued_twice_is_there_once(tmp_path: Path) -> None:
    """Whoever does not know what became of its commit asks, or does it again."""

    async def scenario(spool: Spool) -> None:
        one = outgoing(spool, {"one.test": ["a@one.test"], "two.test": ["b@two.test"]})
        one.item.login = "user@example.test"
        assert not await spool.has(one.item.id) and not spool.queued(one.item.id)
        for _ in range(3):
            await spool.enqueue(one, 2)  # it counts once for the limit of its login
        assert await spool.has(one.item.id) and spool.queued(one.item.id)
        assert spool.depth() == (1, 2)
        first = spool.item(one.item.id)
        assert first is not None and await spool.content(first) == one.content[0]
        report = outgoing(spool, {"three.test": ["c@three.test"]})
        for _ in range(3):
            await spool.change(next(job.key for _, job in spool.jobs(one.item.id)), lambda old: old, [report])
        assert spool.depth() == (2, 3)
        for _, job in list(spool.jobs()):
            await spool.change(job.key, lambda old: None)
        assert spool.depth() == (0, 0) and not await spool.has(one.item.id)
        with spool.env.read() as txn:
            assert txn.stat(spool.env.db["alive"])["entries"] == 0, "each counts once in its segment"

    run(tmp_path, scenario)


def test_one_number_of_two_processes(tmp_path: Path) -> None:
    async def scenario(spool: Spool) -> None:
        one, two = (outgoing(spool, {"one.test": ["a@one.test"]}) for _ in range(2))
        two.item.id, two.item.salt = one.item.id, b"another."
        await spool.enqueue(one)
        with pytest.raises(StorageFailed):
            await spool.enqueue(two)
        assert spool.depth() == (1, 1) and spool.item(one.item.id).salt == one.item.salt  # type: ignore[union-attr]

    run(tmp_path, scenario)


def test_who_is_cancelled_takes_no_file_from_what_is_being_written(tmp_path: Path) -> None:
    """The files before the current one stay open until everything is written, whoever still waits for it."""

    async def scenario(spool: Spool) -> None:
        await spool.enqueue(outgoing(spool, {"one.test": ["a@one.test"]}))
        released: list[int] = []
        writer = spool._contents._writer
        assert writer is not None
        release = writer.release
        writer.release = lambda: (released.append(spool._under_way), release())[1]  # type: ignore[method-assign]
        waits = [asyncio.create_task(spool.enqueue(outgoing(spool, {"x.test": [f"{n}@x.test"]}))) for n in range(20)]
        while spool._under_way < 20:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        while spool._under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert released and set(released) == {0} and spool.depth()[0] == 21

    run(tmp_path, scenario)
