"""Group commit by itself: who fails alone, what a failure leaves, and that nothing goes on behind an I/O error."""

import asyncio
import errno
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.durable import stage
from fastmail.durable.commit import IO_ERROR, CommitQueue, FileWrite, Operation, PieceWrite
from fastmail.durable.env import Environment
from fastmail.durable.journal import BOUND
from fastmail.model.errors import NoSuchMailbox, StorageFailed, StorageFull
from tests.support.journals import crashed, environment, found


def put(env: Environment, key: bytes) -> Callable[[Any], bytes]:
    def apply(txn: Any) -> bytes:
        txn.put(key, b"x", db=env.db["rows"])
        return key

    return apply


def refuse(txn: Any) -> None:
    raise NoSuchMailbox("no such mailbox")


def rows(env: Environment) -> list[bytes]:
    with env.read() as txn:
        return [bytes(key) for key, _ in txn.cursor(db=env.db["rows"]).iternext()]


def job(place: Path, name: str) -> FileWrite:
    (place / "tmp").mkdir(exist_ok=True)
    (place / "new").mkdir(exist_ok=True)
    return FileWrite(
        os.fsencode(place / "new"),
        os.fsencode(place / "new" / name),
        os.fsencode(place / "tmp" / name),
        [b"content of ", name.encode()],
    )


def told(apply: Callable[[Any], Any], *rest: Any, **more: Any) -> Operation:
    """An operation whose result is to be published."""
    return Operation(apply, *rest, tells=lambda key: [key], **more)


def run(place: Path, work: Callable[[Environment, CommitQueue, list[Any]], Any]) -> None:
    async def main() -> None:
        env = environment(place)
        published: list[Any] = []
        queue = CommitQueue(env, asyncio.get_running_loop(), published.extend)
        try:
            await asyncio.wait_for(work(env, queue, published), 20)
        finally:
            await queue.close()
            env.close()

    asyncio.run(main())


def test_one_that_fails_harms_no_other(tmp_path: Path) -> None:
    """All of one round, the failing ones with files of their own: the files of those are removed, nobody else's."""

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        operations = [told(put(env, b"%d" % n), [job(tmp_path, f"{n}")]) for n in range(8)]
        for n in (0, 3, 7):
            operations[n].apply = refuse
        done = await asyncio.gather(*map(queue.submit, operations), return_exceptions=True)
        assert [isinstance(one, NoSuchMailbox) for one in done] == [n in (0, 3, 7) for n in range(8)]
        assert rows(env) == [b"1", b"2", b"4", b"5", b"6"]
        assert sorted(os.listdir(tmp_path / "new")) == ["1", "2", "4", "5", "6"] and not os.listdir(tmp_path / "tmp")
        assert sorted(published) == [b"1", b"2", b"4", b"5", b"6"]
        assert (tmp_path / "new" / "4").read_bytes() == b"content of 4"

    run(tmp_path, work)


class Odd(BaseException):
    """Nothing that anybody lists."""


UNEXPECTED: list[BaseException] = [
    AssertionError("a bug"),
    AttributeError("a bug"),
    IndexError("a bug"),
    RuntimeError("a bug"),
    RecursionError("a bug"),
    MemoryError(),
    struct.error("a damaged row"),
    NotImplementedError("a bug"),
    SystemExit(1),
    Odd(),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_whatever_an_operation_raises_only_it_fails(tmp_path: Path, error: BaseException) -> None:
    """The others of its batch go on, and the file that it staged is not left for somebody to adopt."""

    def wrong(txn: Any) -> None:
        raise error

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        operations = [told(put(env, b"%d" % n), [job(tmp_path, f"{n}")]) for n in range(6)]
        operations[1].apply = operations[4].apply = wrong
        plain = [told(put(env, b"a")), Operation(wrong), told(put(env, b"b"))]
        done = await asyncio.gather(*map(queue.submit, [*operations, *plain]), return_exceptions=True)
        assert [isinstance(one, StorageFailed) for one in done] == [n in (1, 4, 7) for n in range(9)]
        assert rows(env) == [b"0", b"2", b"3", b"5", b"a", b"b"] and sorted(published) == rows(env)
        assert sorted(os.listdir(tmp_path / "new")) == ["0", "2", "3", "5"] and not os.listdir(tmp_path / "tmp")
        assert await queue.submit(told(put(env, b"later"))) == b"later"

    run(tmp_path, work)


def test_one_who_cannot_be_told_does_not_keep_the_answer(tmp_path: Path) -> None:
    """What is durable is acknowledged, though a listener fails."""

    async def main() -> None:
        env = environment(tmp_path)

        def deaf(results: list[Any]) -> None:
            raise RuntimeError("a listener's bug")

        queue = CommitQueue(env, asyncio.get_running_loop(), deaf)
        try:
            assert await asyncio.wait_for(queue.submit(told(put(env, b"a"))), 10) == b"a"
        finally:
            await queue.close()
            env.close()

    asyncio.run(main())


def test_those_without_files_fail_alone_too(tmp_path: Path) -> None:
    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        some: list[Callable[[Any], Any]] = [put(env, b"a"), refuse, put(env, b"b"), refuse, put(env, b"c")]
        done = await asyncio.gather(*(queue.submit(Operation(one)) for one in some), return_exceptions=True)
        assert [one for one in done if isinstance(one, bytes)] == [b"a", b"b", b"c"]
        assert rows(env) == [b"a", b"b", b"c"]

    run(tmp_path, work)


def test_a_result_is_seen_by_readers_before_its_future(tmp_path: Path) -> None:
    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        for n in range(20):
            key = await queue.submit(told(put(env, b"%03d" % n), [job(tmp_path, f"{n}")] if n % 2 else []))
            assert rows(env)[-1] == key and published[-1] == key

    run(tmp_path, work)


def test_content_whose_sync_fails_is_not_acknowledged(tmp_path: Path) -> None:
    """Large content, which is synced by itself, on a device that takes what is written and cannot be synced: /dev/null
    (EINVAL, fsync(2))."""
    spoilt: list[BaseException] = []

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        device = os.open("/dev/null", os.O_WRONLY)
        try:
            piece = PieceWrite(device, 0, [b"x" * (BOUND + 1)], b"/dev/null", spoilt.append)
            with pytest.raises(StorageFailed):
                await queue.submit(told(put(env, b"lost"), [piece]))
        finally:
            os.close(device)
        assert rows(env) == [] and published == [] and len(spoilt) == 1
        assert await queue.submit(told(put(env, b"other"), [job(tmp_path, "other")])) == b"other"

    run(tmp_path, work)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_behind_an_io_error_nothing_is_written_any_more(tmp_path: Path, code: int) -> None:
    """The commit fails: the disk (nothing goes on until the process is started anew), or no room (it does)."""

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        def fails(txn: Any) -> None:
            raise OSError(code, os.strerror(code))

        with pytest.raises(StorageFailed if code == errno.EIO else StorageFull):
            await queue.submit(Operation(fails))
        for files in ([], [job(tmp_path, "later")]):
            if code == errno.EIO:
                with pytest.raises(StorageFailed, match="earlier failure"):
                    await queue.submit(told(put(env, b"later"), files))
                assert rows(env) == [] and published == []
            else:
                assert await queue.submit(told(put(env, b"later"), files)) == b"later"

    run(tmp_path, work)


def test_what_was_submitted_is_finished_at_the_end(tmp_path: Path) -> None:
    waiting: list[asyncio.Future[Any]] = []

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        waiting.extend(queue.submit(told(put(env, b"%d" % n), [job(tmp_path, f"{n}")])) for n in range(5))

    run(tmp_path, work)
    assert sorted(os.listdir(tmp_path / "new")) == ["0", "1", "2", "3", "4"]
    env = environment(tmp_path)
    assert rows(env) == [b"0", b"1", b"2", b"3", b"4"]
    env.close()


def test_what_is_submitted_just_before_the_end_is_done_and_the_queue_ends(tmp_path: Path) -> None:
    """The wake-up that says that the queue ends comes together with the last operation."""

    async def main() -> None:
        env = environment(tmp_path)
        queue = CommitQueue(env, asyncio.get_running_loop(), lambda results: None)
        under_way, may_end = threading.Event(), threading.Event()

        def slow(txn: Any) -> None:
            under_way.set()
            assert may_end.wait(20)

        first = queue.submit(Operation(slow))
        await asyncio.get_running_loop().run_in_executor(None, under_way.wait, 20)
        last = queue.submit(told(put(env, b"last")))
        closing = asyncio.ensure_future(queue.close())
        for _ in range(500):
            if queue._closing:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        may_end.set()
        await asyncio.wait_for(asyncio.gather(first, last, closing), 20)
        assert rows(env) == [b"last"]
        with pytest.raises(StorageFailed):  # and does not wait for a thread that is not there
            await asyncio.wait_for(queue.submit(told(put(env, b"late"))), 20)
        env.close()

    asyncio.run(main())


def test_nothing_is_acknowledged_behind_a_failed_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those who waited for it nor anybody later, whatever the disk says then; the next start decides."""

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        assert await queue.submit(told(put(env, b"before"), [job(tmp_path, "before")])) == b"before"
        real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, IO_ERROR)))
        waiting = [queue.submit(told(put(env, b"%d" % n), [job(tmp_path, f"{n}")])) for n in range(5)]
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, StorageFailed) for one in done) and published == [b"before"]
        monkeypatch.setattr(os, "fdatasync", real)
        for files in ([], [job(tmp_path, "later")]):
            with pytest.raises(StorageFailed, match="earlier failure"):
                await queue.submit(told(put(env, b"later"), files))
        assert b"later" not in rows(env) and published == [b"before"]

    run(tmp_path, work)
    env = environment(tmp_path)
    assert b"before" in rows(env) and b"later" not in rows(env)
    env.close()


def test_what_is_acknowledged_survives_what_is_not_synced(tmp_path: Path) -> None:
    """At each acknowledgement: the index lost, names and contents lost; the journal has all of it."""
    copies: list[tuple[Path, list[bytes]]] = []

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        for n in range(6):
            some = [
                queue.submit(told(put(env, b"%d-%d" % (n, k)), [job(tmp_path / "one", f"{n}-{k}")])) for k in range(4)
            ]
            await asyncio.gather(*some)
            copies.append((crashed(tmp_path / "one", tmp_path / f"copy{n}"), rows(env)))

    (tmp_path / "one").mkdir()
    run(tmp_path / "one", work)
    for place, expected in copies:
        for path in (place / "new").iterdir():
            path.unlink() if len(path.name) % 2 else path.write_bytes(b"")
        env = environment(place)
        assert rows(env) == expected and len(expected) >= 4
        for key in expected:
            assert (place / "new" / key.decode()).read_bytes() == b"content of " + key
        env.close()


def test_large_content_is_synced_by_itself_and_not_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = stage.write_files
    synced: list[bool] = []

    def written(writes: "list[stage.Write]") -> list[int]:
        synced.extend(one[-1] for one in writes)
        return write(writes)

    monkeypatch.setattr(stage, "write_files", written)

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        for octets in (BOUND, BOUND + 1):
            made = job(tmp_path, f"{octets}")
            made.chunks = [b"x" * (octets - 1), b"y"]
            await queue.submit(told(put(env, b"%d" % octets), [made]))
        sizes = [len(one.body) for one in found(tmp_path)]
        assert sizes[0] > BOUND and sizes[1] < 1000
        assert synced == [False, True]

    run(tmp_path, work)


def test_one_who_goes_away_while_it_is_committed_loses_nothing(tmp_path: Path) -> None:
    """Its future is cancelled at any moment: what was submitted is committed, published and journaled like the rest."""

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slow(txn: Any) -> bytes:
            begun.set()
            assert go_on.wait(20)
            return put(env, b"slow")(txn)

        first = queue.submit(told(slow, [job(tmp_path, "slow")]))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, 20)
        others = [queue.submit(told(put(env, b"%d" % n), [job(tmp_path, f"{n}")])) for n in range(4)]
        for one in (first, others[0], others[3]):
            one.cancel()
        go_on.set()
        assert await asyncio.gather(*others[1:3]) == [b"1", b"2"]
        assert await queue.submit(told(put(env, b"last"))) == b"last"
        assert sorted(published) == rows(env) == [b"0", b"1", b"2", b"3", b"last", b"slow"]
        assert sorted(os.listdir(tmp_path / "new")) == ["0", "1", "2", "3", "slow"]

    run(tmp_path, work)


def test_a_file_that_cannot_even_be_tried_fails_alone(tmp_path: Path) -> None:
    """More chunks than one file may have: its own caller's mistake."""

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        operations = [told(put(env, b"%d" % n), [job(tmp_path, f"{n}")]) for n in range(5)]
        wrong = job(tmp_path, "wrong")
        wrong.chunks = [b"x"] * 9
        operations[2].files = [job(tmp_path, "beside"), wrong]
        done = await asyncio.gather(*map(queue.submit, operations), return_exceptions=True)
        assert [isinstance(one, StorageFailed) for one in done] == [n == 2 for n in range(5)]
        assert rows(env) == [b"0", b"1", b"3", b"4"]
        assert sorted(os.listdir(tmp_path / "new")) == ["0", "1", "3", "4"] and not os.listdir(tmp_path / "tmp")

    run(tmp_path, work)


def test_a_directory_that_may_not_be_written_fails_alone(tmp_path: Path) -> None:
    """A real refusal, of one recipient of many."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")

    async def work(env: Environment, queue: CommitQueue, published: list[Any]) -> None:
        operations = [told(put(env, b"%d" % n), [job(tmp_path / f"{n}", f"{n}")]) for n in range(4)]
        (tmp_path / "1" / "tmp").chmod(0o500)
        (tmp_path / "2" / "new").chmod(0o500)
        done = await asyncio.gather(*map(queue.submit, operations), return_exceptions=True)
        assert [isinstance(one, StorageFailed) for one in done] == [False, True, True, False]
        assert rows(env) == [b"0", b"3"] and not os.listdir(tmp_path / "2" / "tmp")

    for n in range(4):
        (tmp_path / f"{n}").mkdir()
    run(tmp_path, work)
