"""Checkpoints: whatever a loss of power leaves of the environment's file, the last one and the journal give all that was
committed and synced, and nothing else."""

import errno
import fcntl
import os
import shutil
import signal
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import pytest

from fastmail.durable import checkpoint, files, journal
from fastmail.durable.checkpoint import Lock, State
from fastmail.durable.env import Environment
from fastmail.durable.journal import Position
from fastmail.durable.opening import Journaled
from fastmail.durable.salvage import TOP
from fastmail.model.errors import ConfigError, CorruptData, StorageFailed, StorageFull
from tests.support.examples import some
from tests.support.journals import (
    PAGE,
    Rows,
    beside,
    crashed,
    environment,
    found,
    in_process,
    mixture,
    put,
    rows,
    started,
    state,
    take,
)

TABLES = ["rows", "more"]


def work(env: Environment, expected: Rows, random: Random, n: int, sync: bool = True) -> None:
    """So many transactions that put, change and delete; ``expected`` follows."""
    for _ in range(n):
        txn = env.begin(write=True)
        for _ in range(random.randrange(1, 5)):
            table = random.choice(TABLES)
            key = b"%05d" % random.randrange(2000)
            if random.random() < 0.3:
                txn.delete(key, db=env.db[table])
                expected[table].pop(key, None)
            else:
                value = bytes([random.randrange(256)]) * random.choice([5, 50, 300, 5000])
                txn.put(key, value, db=env.db[table])
                expected[table][key] = value
        txn.commit()
        if sync:
            env.sync()


def opens_to(place: Path, expected: Rows) -> None:
    """It opens, is what was expected, can be written, and is closed and opened again."""
    env = environment(place, TABLES)
    assert rows(env) == expected
    put(env, {b"after": b"more"})
    env.close()
    again = environment(place, TABLES)
    assert rows(again) == {**expected, "rows": {**expected["rows"], b"after": b"more"}}
    again.close()


def test_any_mixture_of_pages_is_what_was_committed_and_synced(tmp_path: Path) -> None:
    """A hundred disks: each page old, new or torn; both meta pages old, newer than their data, or torn."""
    random = Random(11)
    place = tmp_path / "one"
    place.mkdir()
    env = environment(place, TABLES, least=1 << 16)
    expected: Rows = {name: {} for name in TABLES}
    work(env, expected, random, 150)
    take(env)
    old = (place / "env" / "data.mdb").read_bytes()
    work(env, expected, random, 250)
    new = (place / "env" / "data.mdb").read_bytes()
    copy = crashed(place, tmp_path / "copy")
    env.close()
    for n in range(some(100)):
        image = tmp_path / "image"
        shutil.copytree(copy, image)
        data = bytearray(mixture(old, new, random))
        for meta in (0, PAGE):
            data[meta : meta + PAGE] = random.choice(
                [
                    old,
                    new,
                    bytes(PAGE * 2),
                    random.randbytes(2 * PAGE),
                    mixture(old[: 2 * PAGE], new[: 2 * PAGE], random),
                ]
            )[meta : meta + PAGE]
        (image / "env" / "data.mdb").write_bytes(data)
        try:
            if n % 10 == 0:
                opens_to(image, expected)
            else:
                one = environment(image, TABLES)
                assert rows(one) == expected, n
                one.close()
        finally:
            shutil.rmtree(image)


def test_what_was_not_synced_may_be_gone_and_takes_nothing_with_it(tmp_path: Path) -> None:
    """The journal, too, is a mixture behind what was synced: any number of whole records of it are replayed."""
    random = Random(12)
    place = tmp_path / "one"
    place.mkdir()
    env = environment(place, TABLES, least=1 << 20)
    expected: Rows = {name: {} for name in TABLES}
    work(env, expected, random, 60)
    synced = {path.name: path.read_bytes() for path in (place / "env" / "journal").glob("*.journal")}
    assert env._checkpoints is not None
    at = env._checkpoints.position()
    later: dict[int, Rows] = {}
    for n in range(31):
        work(env, expected, random, 1 if n else 0, sync=False)
        later[env._checkpoints.position().sequence - at.sequence] = {
            name: dict(some) for name, some in expected.items()
        }
    written = {path.name: path.read_bytes() for path in (place / "env" / "journal").glob("*.journal")}
    copy = crashed(place, tmp_path / "copy")
    env.close()
    counts = set()
    for n in range(some(40)):
        image = tmp_path / f"image{n}"
        shutil.copytree(copy, image)
        for name, content in synced.items():
            (image / "env" / "journal" / name).write_bytes(mixture(content, written[name], random))
        count = len(list(journal.records(str(image / "env" / "journal"), at)))
        counts.add(count)
        one = environment(image, TABLES)
        assert rows(one) == later[count]
        one.close()
    assert len(counts) > 3


def test_the_pages_of_the_last_one_are_kept_until_there_is_another(tmp_path: Path) -> None:
    """However much is written since: its meta page leads to what it was."""
    place = tmp_path / "one"
    place.mkdir()
    env = environment(place, TABLES)
    for round_ in range(4):
        put(env, {b"%05d" % n: b"%d" % round_ * 50 for n in range(500)})
        take(env)
        for n in range(300):
            put(env, {b"%05d" % (n % 50): b"%d" % n * 300}, sync=False)
        copy = crashed(place, tmp_path / f"copy{round_}")
        checkpoint.put_back(str(copy / "env"), state(copy))
        with lmdb.open(str(copy / "env"), max_dbs=4, readonly=True, lock=False) as plain:
            db = plain.open_db(b"rows", create=False)
            with plain.begin() as txn:
                assert dict(txn.cursor(db=db)) == {b"%05d" % n: b"%d" % round_ * 50 for n in range(500)}
    grown = os.path.getsize(place / "env" / "data.mdb")
    for _ in range(5):
        take(env)
        for n in range(300):
            put(env, {b"%05d" % (n % 50): b"%d" % n * 300}, sync=False)
    assert os.path.getsize(place / "env" / "data.mdb") < 2 * grown  # pages are used again behind the next one
    env.close()


def test_a_checkpoint_is_what_it_says(tmp_path: Path) -> None:
    some = State(False, 70, 77, Position(3, 4096, 9, 5), b"m" * 4096, 1_700_000_000)
    (tmp_path / "journal").mkdir()
    checkpoint.write(str(tmp_path), some)
    assert checkpoint.read(str(tmp_path)) == some
    path = tmp_path / "journal" / checkpoint.NAME
    raw = path.read_bytes()
    for at in (0, 22, 30, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with pytest.raises(CorruptData):
            checkpoint.read(str(tmp_path))
    earlier = raw[: -checkpoint.TIME.size - journal.U32.size]  # as a version wrote it that knew no time
    path.write_bytes(earlier + journal.U32.pack(zlib.crc32(earlier)))
    assert checkpoint.read(str(tmp_path)) == replace(some, time=0)
    path.write_bytes(raw[:20])
    with pytest.raises(CorruptData):
        checkpoint.read(str(tmp_path))
    path.unlink()
    assert checkpoint.read(str(tmp_path)) is None


def test_both_meta_pages_are_put_back_each_with_its_number(tmp_path: Path) -> None:
    env = environment(tmp_path)
    put(env, {b"a": b"1"})
    take(env)
    put(env, {b"b": b"2"})
    there = state(tmp_path)
    before = (tmp_path / "env" / "data.mdb").read_bytes()
    env.close()
    (tmp_path / "env" / "data.mdb").write_bytes(before)
    checkpoint.put_back(str(tmp_path / "env"), there)
    after = (tmp_path / "env" / "data.mdb").read_bytes()
    assert after[2 * PAGE :] == before[2 * PAGE :]
    for number in (0, 1):
        meta = after[number * PAGE : (number + 1) * PAGE]
        assert int.from_bytes(meta[:8], "little") == number and meta[8:] == there.meta[8:]
    assert checkpoint.meta_of(str(tmp_path / "env"), PAGE, there.txn) is not None
    assert checkpoint.meta_of(str(tmp_path / "env"), PAGE, there.txn + 2) is None


# ---------------------------------------------------------------- beginning and end


def test_only_the_last_one_leaves_a_clean_end(tmp_path: Path) -> None:
    env = environment(tmp_path)
    other = "env = environment(Path(sys.argv[1])); put(env, {b'theirs': b'1'}); env.close()"
    in_process(other, tmp_path)
    assert not state(tmp_path).clean
    put(env, {b"mine": b"2"})
    copy = crashed(tmp_path, beside(tmp_path, "copy"))
    env.close()
    assert state(tmp_path).clean and found(tmp_path) == []
    for place, times in ((tmp_path, 0), (copy, 1)):
        again = environment(place)
        assert rows(again) == {"rows": {b"mine": b"2", b"theirs": b"1"}} and again.recovered == times
        assert not state(place).clean
        again.close()


def test_a_process_that_took_the_last_one_leaves_its_pages_kept(tmp_path: Path) -> None:
    """It closes, others go on: as one that died, it keeps its place among the readers."""
    env = environment(tmp_path)
    put(env, {b"%05d" % n: b"old" * 50 for n in range(500)})
    script = "env = environment(Path(sys.argv[1])); take(env); env.close()"
    in_process(script, tmp_path)
    theirs = state(tmp_path).txn
    for n in range(300):
        put(env, {b"%05d" % (n % 50): b"%d" % n * 300})
    assert state(tmp_path).txn == theirs  # which is as good as ever
    expected = rows(env)
    other = environment(crashed(tmp_path, beside(tmp_path, "copy")))
    assert rows(other) == expected
    other.close()
    env.close()


ENDS = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "killed while it writes": "txn = env.begin(write=True); txn.put(b'x', b'y', db=env.db['rows']);"
    " os.kill(os.getpid(), signal.SIGKILL)",
    "without closing it": "sys.exit(0)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_dies_behind_its_checkpoint(tmp_path: Path, end: str) -> None:
    """Its place among the readers stays, or (LMDB itself clears it, when it died with LMDB's lock) nothing is written
    before there is another checkpoint."""
    env = environment(tmp_path)
    put(env, {b"%05d" % n: b"old" * 50 for n in range(500)})
    in_process("env = environment(Path(sys.argv[1])); take(env); " + ENDS[end], tmp_path, status=None)
    theirs = state(tmp_path).txn
    for n in range(300):
        put(env, {b"%05d" % (n % 50): b"%d" % n * 300})
    assert (state(tmp_path).txn > theirs) == (end == "killed while it writes")
    expected = rows(env)
    other = environment(crashed(tmp_path, beside(tmp_path, "copy")))
    assert rows(other) == expected
    other.close()
    take(env)
    assert env.env.reader_check() == 0  # nothing is left of it behind the next one
    env.close()


def test_an_idle_process_lets_the_pages_go_when_another_takes_one(tmp_path: Path) -> None:
    """It writes nothing any more; what it keeps must not fill the map."""
    script = (
        "import time; env = environment(Path(sys.argv[1])); take(env); print(state(Path(sys.argv[1])).txn, flush=True)"
    )
    env = environment(tmp_path)
    with started(script + "; time.sleep(60)", tmp_path) as process:
        assert process.stdout is not None
        head, tail = f"{process.pid:>10} ", f" {int(process.stdout.readline())}"

        def keeps() -> bool:
            return any(line.startswith(head) and line.endswith(tail) for line in env.env.readers().split("\n"))

        put(env, {b"a": b"1"})
        assert keeps() and take(env)
        deadline = time.monotonic() + 20
        while keeps():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    env.close()


def test_what_another_program_wrote_behind_a_clean_end_stays(tmp_path: Path) -> None:
    """One that knows no journal: the file is taken as it is."""
    env = environment(tmp_path)
    put(env, {b"a": b"1"})
    env.close()
    with lmdb.open(str(tmp_path / "env"), max_dbs=4) as plain:
        for n in range(50):
            with plain.begin(write=True) as txn:
                txn.put(b"b%d" % n, b"2" * 3000, db=plain.open_db(b"rows", txn=txn))
    expected = {"rows": {b"a": b"1", **{b"b%d" % n: b"2" * 3000 for n in range(50)}}}
    copies = [crashed(tmp_path, beside(tmp_path, f"copy{n}")) for n in range(2)]
    env = environment(tmp_path)
    assert rows(env) == expected and env.recovered == 0
    put(env, {b"c": b"3"})
    third = crashed(tmp_path, beside(tmp_path, "third"))
    env.close()
    for place in (*copies, third):
        again = environment(place)
        assert rows(again)["rows"].items() >= expected["rows"].items()
        again.close()


@pytest.mark.parametrize("before", ["nothing", "no journal", "a clean end"])
def test_a_loss_of_power_while_it_is_opened(tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first checkpoint is there nothing is written that is not synced: only so does the file stay whole."""
    place = tmp_path / "one"
    place.mkdir()
    expected: Rows = {"rows": {}}
    if before != "nothing":
        env = environment(place) if before == "a clean end" else Environment(str(place / "env"), ["rows"], 1)
        for n in range(100):
            with env.write() as txn:
                txn.put(b"%05d" % n, b"x" * 500, db=env.db["rows"])
                expected["rows"][b"%05d" % n] = b"x" * 500
        env.close()
    opened: list[Any] = []
    real = lmdb.open

    def look(*args: Any, **kwargs: Any) -> Any:
        opened.append((kwargs.get("sync", True), (place / "env" / "data.mdb").exists() and env_id(place)))
        return real(*args, **kwargs)

    def env_id(where: Path) -> int:
        raw = (where / "env" / "data.mdb").read_bytes()[: 2 * PAGE]
        return max(int(TOP.unpack_from(raw, at + 16)[-1]) for at in (0, PAGE))

    seen: list[int] = []

    def write(path: str, what: State) -> None:
        seen.append(env_id(place))
        raise OSError(errno.EIO, "the power is gone")

    monkeypatch.setattr(lmdb, "open", look)
    monkeypatch.setattr(checkpoint, "write", write)
    with pytest.raises(StorageFailed):
        environment(place)
    monkeypatch.undo()
    assert opened[0][0] is True and opened[-1][0] is False
    assert opened[-1][1] == seen[0]  # nothing was written between the unsynced opening and the checkpoint
    env = environment(place)
    assert rows(env) == expected
    env.close()


def test_a_newer_layout_is_refused_and_others_may_open_it(tmp_path: Path) -> None:
    """One that fails to open it leaves no lock behind: the next one is the first, and recovers it."""
    env = environment(tmp_path)
    put(env, {b"a": b"1"})
    copy = crashed(tmp_path, beside(tmp_path, "copy"))
    env.close()
    for place in (tmp_path, copy):
        with pytest.raises(ConfigError):
            Environment(str(place / "env"), ["rows"], 0, journaled=Journaled(str(tmp_path)))
        again = environment(place)
        assert rows(again) == {"rows": {b"a": b"1"}}
        again.close()


def test_a_damaged_one_is_refused_unless_the_file_is_sound_without_it(tmp_path: Path) -> None:
    env = environment(tmp_path)
    put(env, {b"%d" % n: b"x" * 1000 for n in range(100)})
    env.close()
    path = tmp_path / "env" / "journal" / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-3])
    worse = crashed(tmp_path, beside(tmp_path, "worse"))
    env = environment(tmp_path)
    assert len(rows(env)["rows"]) == 100
    env.close()
    data = (worse / "env" / "data.mdb").read_bytes()
    (worse / "env" / "data.mdb").write_bytes(data[: 2 * PAGE] + bytes(len(data) - 2 * PAGE))
    with pytest.raises(CorruptData):
        environment(worse)


# ---------------------------------------------------------------- who takes it, and what may fail


def test_the_order_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file systems are synced, then it is written, and the pages of the one before are kept until it is durable."""
    env = environment(tmp_path)
    put(env, {b"a": b"1"})
    before = state(tmp_path)
    steps: list[tuple[str, bool, bool]] = []
    real_sync, real_write = files.sync_file_system, checkpoint.write

    def kept(txn: int) -> bool:
        return any(
            line.split()[0] == f"{os.getpid()}" and line.split()[2] == f"{txn}"
            for line in env.env.readers().split("\n")[1:-1]
        )

    def sync(path: bytes) -> None:
        steps.append((os.fsdecode(path), kept(before.txn), kept(env.last_commit())))
        real_sync(path)

    def write(path: str, what: State) -> None:
        assert what.txn == env.last_commit() and what.position == env._checkpoints.position()  # type: ignore[union-attr]
        real_write(path, what)
        steps.append(("written", kept(before.txn), kept(what.txn)))

    monkeypatch.setattr(files, "sync_file_system", sync)
    monkeypatch.setattr(checkpoint, "write", write)
    assert take(env)
    assert steps == [(env.path, True, True), ("written", True, True)]
    assert not kept(before.txn) and kept(state(tmp_path).txn)
    env.close()


def test_one_process_takes_it_at_a_time(tmp_path: Path) -> None:
    env = environment(tmp_path)
    put(env, {b"a": b"1"})
    lock = Lock(str(tmp_path / "env" / "journal" / "taking"))
    assert lock.take(fcntl.LOCK_EX)
    before = state(tmp_path)
    assert not take(env, wait=False) and not env.checkpoint() and state(tmp_path) == before
    lock.release()
    assert env.checkpoint() and state(tmp_path) != before
    lock.close()
    env.close()


def test_one_thread_takes_it_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = environment(tmp_path)
    inside, most = [0], [0]
    real = checkpoint.write

    def slow(path: str, what: State) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.02)
        real(path, what)
        inside[0] -= 1

    monkeypatch.setattr(checkpoint, "write", slow)
    threads = [threading.Thread(target=take, args=(env,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for n in range(50):
        put(env, {b"%d" % n: b"x"})
    for thread in threads:
        thread.join()
    assert most == [1]
    env.close()


def test_it_is_due_by_time_or_by_octets(tmp_path: Path) -> None:
    env = environment(tmp_path)
    assert not env.checkpoint(0, 0)  # nothing was written since the first one
    for _ in range(2):  # in one slot, and over several
        put(env, {b"a": b"1"})
        assert not env.checkpoint(3600, 3 << 20)
        put(env, {b"a": b"1" * (1 << 19)})
        assert not env.checkpoint(3600, 3 << 20)
        for _ in range(2):
            put(env, {b"a": b"1" * (600 << 10)})
            assert not env.checkpoint(3600, 3 << 20)
        for _ in range(3):
            put(env, {b"a": b"1" * (600 << 10)})
        assert env.checkpoint(3600, 3 << 20) and not env.checkpoint(3600, 3 << 20)
    put(env, {b"a": b"2"})
    assert env.checkpoint(0, 1 << 20)
    env.close()


@pytest.mark.parametrize("step", ["sync_file_system", "write"])
def test_a_step_that_fails_leaves_the_last_one(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that failed says so once; so nothing is written any more, and another checkpoint is not even tried."""
    env = environment(tmp_path)
    put(env, {b"%d" % n: b"x" * 500 for n in range(100)})
    before = state(tmp_path)

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO if step == "sync_file_system" else errno.ENOSPC, "it failed")

    monkeypatch.setattr(files if step == "sync_file_system" else checkpoint, step, fails)
    assert not env.checkpoint()
    monkeypatch.undo()
    assert state(tmp_path) == before
    if step == "write":
        put(env, {b"more": b"y" * 100})
        assert env.checkpoint() and state(tmp_path) != before
    else:
        for _ in range(2):
            with pytest.raises(StorageFailed, match="earlier failure"):
                put(env, {b"more": b"y"})
            assert not env.checkpoint() and state(tmp_path) == before
        theirs = (
            "env = environment(Path(sys.argv[1]))\ntry:\n    put(env, {b'a': b'b'})\nexcept Exception as e: print(e)"
        )
        assert "earlier failure" in in_process(theirs, tmp_path)
    expected = rows(env)
    copy = crashed(tmp_path, beside(tmp_path, "copy"))
    env.close()
    assert state(tmp_path).clean == (step == "write")
    for place in (tmp_path, copy):
        again = environment(place)  # all have ended: it goes on
        assert rows(again) == expected
        put(again, {b"again": b"z"})
        again.close()


def test_a_writer_takes_one_when_nobody_does(tmp_path: Path) -> None:
    """The journal of a command without a keeper does not grow for ever."""
    env = environment(tmp_path, least=1 << 16)
    for n in range(300):
        put(env, {b"%d" % (n % 5): b"x" * 100_000}, sync=n % 10 == 0)
    assert state(tmp_path).position.serial > 1 and len(found(tmp_path)) < 250
    env.close()


def test_slots_that_nobody_needs_go(tmp_path: Path) -> None:
    env = environment(tmp_path, least=1 << 14)
    directory = str(tmp_path / "env" / "journal")
    for n in range(100):
        put(env, {b"%d" % (n % 5): b"x" * 3000}, sync=False)
    assert len(journal.slots(directory)) > 4
    take(env)
    assert len(journal.slots(directory)) <= checkpoint.SPARE + 1
    assert found(tmp_path) == []
    env.close()


# ---------------------------------------------------------------- failing disks


def test_a_failed_sync_acknowledges_nothing_and_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its reason: the kernel says it once. Other processes write nothing more either, until all have ended."""
    for code in (errno.EIO, errno.ENOSPC):
        place = tmp_path / f"{code}"
        place.mkdir()
        env = environment(place)
        put(env, {b"a": b"1"})
        monkeypatch.setattr(
            os, "fdatasync", lambda fd, code=code: (_ for _ in ()).throw(OSError(code, os.strerror(code)))
        )
        with pytest.raises(StorageFailed):
            put(env, {b"b": b"2"})
        monkeypatch.undo()
        for _ in range(2):
            with pytest.raises(StorageFailed, match="earlier failure"):
                put(env, {b"c": b"3"})
        theirs = (
            "env = environment(Path(sys.argv[1]))\ntry:\n    put(env, {b'a': b'b'})\nexcept Exception as e: print(e)"
        )
        assert "earlier failure" in in_process(theirs, place)
        assert not env.checkpoint() and rows(env)["rows"][b"a"] == b"1"  # reading goes on
        env.close()
        assert not state(place).clean
        again = environment(place)
        assert rows(again)["rows"].get(b"b") in (b"2", None) and b"c" not in rows(again)["rows"]
        put(again, {b"d": b"4"})
        again.close()


def test_a_disk_without_room_for_the_journal_is_full_and_over_when_there_is_room(tmp_path: Path) -> None:
    """A real limit: no file may grow beyond what the index has, so no slot can be made."""
    script = """
import resource, errno
from fastmail.model.errors import StorageFull, MailError
env = environment(Path(sys.argv[1]), least=1 << 16)
put(env, {b"a": b"x" * 200_000})
directory = str(Path(sys.argv[1]) / "env" / "journal")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, resource.RLIM_INFINITY))
from fastmail.durable.errors import translate
full = 0
for n in range(40):
    try:
        put(env, {b"b": b"y" * 300_000})
    except Exception as error:
        assert isinstance(translate(error), StorageFull), error
        full += 1
names = os.listdir(directory)
assert not [name for name in names if name.startswith("new.")], names
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put(env, {b"c": b"z" * 300_000})
assert rows(env)["rows"][b"c"] == b"z" * 300_000 and full
print(full)
env.close()
"""
    assert int(in_process(script, tmp_path)) == 40
    env = environment(tmp_path)
    assert set(rows(env)["rows"]) == {b"a", b"c"} and env.recovered == 0
    env.close()


def test_a_full_map_is_full_and_over_behind_the_next_checkpoint(tmp_path: Path) -> None:
    """The pages of the last checkpoint are not free; the next one frees them, and nothing is broken meanwhile."""
    env = environment(tmp_path, size=1 << 22)
    full = 0
    expected: dict[bytes, bytes] = {}
    for n in range(600):
        try:
            put(env, {b"%02d" % (n % 10): b"%d" % n * 5000})
            expected[b"%02d" % (n % 10)] = b"%d" % n * 5000
        except (lmdb.MapFullError, StorageFull):
            full += 1
            assert rows(env)["rows"] == expected
            assert take(env)
    assert full and rows(env)["rows"] == expected
    other = environment(crashed(tmp_path, beside(tmp_path, "copy")), size=1 << 22)
    assert rows(other)["rows"] == expected
    other.close()
    env.close()


@pytest.mark.slow
def test_many_processes_are_killed_while_they_write(tmp_path: Path) -> None:
    """Each says what it was told is durable; whoever is left, and the next start, have all of it."""
    script = """
env = environment(Path(sys.argv[1]), least=1 << 16)
n = int(sys.argv[2])
import random
random.seed(n)
for k in range(100_000):
    key = b"%d-%d" % (n, k)
    put(env, {key: b"x" * random.randrange(2000), b"last-%d" % n: b"%d" % k})
    os.write(1, key + b"\\n")
    if random.random() < 0.02:
        take(env, wait=False)
    if random.random() < 0.01:
        txn = env.begin(write=True)
        txn.put(b"never", b"x" * 3000, db=env.db["rows"])
        if random.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        txn.abort()
"""
    told: list[str] = []
    for round_ in range(3):
        env = environment(tmp_path)
        for n in range(4):
            told += in_process(script, tmp_path, round_ * 4 + n, status=-signal.SIGKILL).split()
            there = rows(env)["rows"]
            assert all(key.encode() in there for key in told) and b"never" not in there
        copy = crashed(tmp_path, beside(tmp_path, f"copy{round_}"))
        for place in (copy, tmp_path):
            if place == tmp_path:
                env.close()
            again = environment(place)
            there = rows(again)["rows"]
            assert all(key.encode() in there for key in told) and b"never" not in there
            again.close()


def test_what_is_wrong_with_a_journal_is_told(tmp_path: Path) -> None:
    """By `fastmail check`, beside whoever uses it."""
    place = tmp_path / "one"
    place.mkdir()
    path = str(place / "env")
    assert checkpoint.faults(path) == []
    env = environment(place)
    put(env, {b"a": b"x"})
    take(env)
    assert checkpoint.faults(path) == []
    env.close()
    assert checkpoint.faults(path) == []
    file = place / "env" / "journal" / "checkpoint"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (told,) = checkpoint.faults(path)
    assert "damaged" in told
    file.unlink()
    (told,) = checkpoint.faults(path)
    assert "is gone" in told
    file.write_bytes(whole)
    for slot in (place / "env" / "journal").glob("*.journal"):
        slot.unlink()
    (told,) = checkpoint.faults(path)
    assert "the last checkpoint names is missing" in told
    (place / "env" / "journal" / checkpoint.DISTRUST).touch()
    assert len(checkpoint.faults(path)) == 2
