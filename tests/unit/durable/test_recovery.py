"""Replay: rows, then files that the disk had kept torn, under another name, or not at all."""

import errno
import os
import shutil
import time
from pathlib import Path
from random import Random
from typing import Any

import lmdb
import pytest

from fastmail.durable import checkpoint, journal, recovery, stops
from fastmail.durable.env import Environment
from fastmail.durable.journal import Entry
from fastmail.durable.stops import Stop
from fastmail.model.errors import StorageFailed
from tests.support.examples import FEW
from tests.support.journals import crashed, environment, found, mixture, put, rows, state, take

CONTENT = b"Subject: one\n\n" + b"body of it\n" * 500


class Owner:
    """Files are where ``moved`` says, and those in ``gone`` are needed no more."""

    tables = frozenset({"rows"})

    def __init__(self, moved: dict[str, str] | None = None, gone: tuple[str, ...] = ()) -> None:
        self.moved = moved or {}
        self.gone = gone
        self.rows: list[tuple[int, str, bytes]] = []
        self.asked: list[str] = []
        self.sought: list[str] = []  # of which it was asked a second time

    def changed(self, entry: Entry) -> None:
        assert not self.asked  # rows first, all of them
        self.rows.append((entry.kind, entry.table, entry.key))

    def made(self, path: str) -> None:
        assert not self.asked

    def record(self) -> None:
        pass

    def known_by(self, path: bytes) -> bytes:
        return os.path.basename(path)

    def expected_path(self, txn: Any, path: str) -> str | None:
        name = os.path.basename(path)
        self.asked.append(name)
        return None if name in self.gone else self.moved.get(name, path)

    def present_path(self, txn: Any, path: str) -> str | None:
        self.sought.append(os.path.basename(path))
        return self.moved.get(os.path.basename(path), path)


class Box:
    """An environment beside a Maildir."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ("new", "cur", "tmp"):
            (place / "mail" / name).mkdir(parents=True)
        self.env = environment(place, least=1 << 20)

    def make(self, name: str, content: bytes, mtime: int = -1, write: bool = True) -> None:
        path = self.place / "mail" / "new" / name
        if write:
            path.write_bytes(content)
        txn = self.env.begin(write=True)
        txn.put(name.encode(), content[:20], db=self.env.db["rows"])
        txn.made(os.fsencode(path), mtime, [content[:7], content[7:]])
        txn.commit()
        self.env.sync()

    def piece(self, path: Path, offset: int, content: bytes, write: bool = True) -> None:
        if write:
            with open(path, "r+b") as file:
                file.seek(offset)
                file.write(content)
        txn = self.env.begin(write=True)
        txn.piece(os.fsencode(path), offset, [content])
        txn.commit()
        self.env.sync()

    def crash(self, where: Path) -> Path:
        copy = crashed(self.place, where)
        self.env.close()
        return copy


@pytest.fixture
def box(tmp_path: Path) -> Box:
    (tmp_path / "one").mkdir()
    return Box(tmp_path / "one")


def files(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place / "mail")): path.read_bytes()
        for path in sorted((place / "mail").rglob("*"))
        if path.is_file()
    }


def recovered(place: Path, owner: Owner | None = None) -> Environment:
    env = environment(place, owner=owner)
    assert env.recovered == 1
    return env


def test_files_are_made_whole(box: Box, tmp_path: Path) -> None:
    """One is missing, one is empty, one is shorter, one longer, one has zeros in it, one is as it was."""
    names = ["missing", "empty", "shorter", "longer", "zeros", "sound"]
    for name in names:
        box.make(name, CONTENT + name.encode(), 1_000_000)
    copy = box.crash(tmp_path / "copy")
    new = copy / "mail" / "new"
    (new / "missing").unlink()
    for name, content in (
        ("empty", b""),
        ("shorter", CONTENT[:4096]),
        ("longer", CONTENT + b"longer and more"),
        ("zeros", CONTENT[:1000] + bytes(len(CONTENT) - 1000) + b"zeros"),
    ):
        (new / name).write_bytes(content)
    sound = (new / "sound").stat()
    env = recovered(copy)
    assert files(copy) == {f"new/{name}": CONTENT + name.encode() for name in sorted(names)}
    assert (new / "sound").stat().st_ino == sound.st_ino
    assert all((new / name).stat().st_mtime == 1_000_000 for name in names[:5])
    assert set(rows(env)["rows"]) == {name.encode() for name in names}
    env.close()


def test_behind_a_failed_sync_nothing_that_is_only_in_memory_is_believed(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says once that it could not write, and calls it written then: what can be read is written anew."""
    box.make("message", CONTENT)
    segment = tmp_path / "one" / "segment"
    segment.write_bytes(bytes(100))
    box.piece(segment, 10, b"piece")

    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fails)
        with pytest.raises(StorageFailed):
            box.env.sync()
    copy = box.crash(tmp_path / "copy")
    before = (copy / "mail" / "new" / "message").stat().st_ino
    written: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: (written.append(at), real(fd, data, at))[1])
    env = recovered(copy)
    assert (copy / "mail" / "new" / "message").stat().st_ino != before and 10 in written
    assert files(copy) == {"new/message": CONTENT}
    env.close()
    written.clear()
    environment(copy).close()
    assert not written and not (copy / "env" / "journal" / "distrust").exists()


def test_a_file_belongs_where_its_owner_says(box: Box, tmp_path: Path) -> None:
    """Under another name, in another directory, or nowhere; what is gone stays gone, whatever the disk has of it."""
    for name in ("renamed", "moved", "expunged", "removed"):
        box.make(name, CONTENT + name.encode())
    copy = box.crash(tmp_path / "copy")
    (copy / "mail" / "new" / "expunged").unlink()
    for name in ("new", "cur", "tmp"):
        (copy / "mail" / ".Other" / name).mkdir(parents=True)
    (copy / "mail" / "new" / "renamed").rename(copy / "mail" / "cur" / "renamed:2,S")
    (copy / "mail" / "new" / "moved").unlink()
    owner = Owner(
        {
            "renamed": str(copy / "mail" / "cur" / "renamed:2,S"),
            "moved": str(copy / "mail" / ".Other" / "cur" / "moved:2,"),
            "removed": str(copy / "mail" / ".Gone" / "cur" / "removed"),
        },
        ("expunged",),
    )
    env = recovered(copy, owner)
    there = files(copy)
    assert there.pop("new/removed") == CONTENT + b"removed"  # not touched where it is; not made where nothing is
    assert there == {"cur/renamed:2,S": CONTENT + b"renamed", ".Other/cur/moved:2,": CONTENT + b"moved"}
    assert [key for kind, table, key in owner.rows if table == "rows"] == [
        b"renamed",
        b"moved",
        b"expunged",
        b"removed",
    ]
    assert owner.asked == ["renamed", "moved", "expunged", "removed"]
    env.close()


def test_no_link_is_followed(box: Box, tmp_path: Path) -> None:
    """Where the file was there is a link now: what it leads to stays as it is."""
    other = tmp_path / "other"
    other.write_bytes(b"somebody else's")
    box.make("name", CONTENT)
    copy = box.crash(tmp_path / "copy")
    (copy / "mail" / "new" / "name").unlink()
    (copy / "mail" / "new" / "name").symlink_to(other)
    recovered(copy).close()
    assert other.read_bytes() == b"somebody else's"


def test_pieces_are_put_where_they_were(box: Box, tmp_path: Path) -> None:
    """Torn, missing behind the end of the file, or as they were; a file that was removed is not made."""
    segments = box.place / "segments"
    segments.mkdir()
    for name in ("1", "2"):
        (segments / name).write_bytes(b"head".ljust(24, b"\0"))
        for n in range(20):
            box.piece(segments / name, 24 + 1000 * n, b"%d" % n * 400)
    whole = (segments / "1").read_bytes()
    copy = box.crash(tmp_path / "copy")
    (copy / "segments" / "1").write_bytes(whole[:5000] + bytes(4000) + whole[9000:12_000])
    (copy / "segments" / "2").unlink()
    recovered(copy).close()
    assert (copy / "segments" / "1").read_bytes() == whole and os.listdir(copy / "segments") == ["1"]


def test_a_link_has_the_content_of_what_it_was_made_from(box: Box, tmp_path: Path) -> None:
    """Its name is synced and its content is not, and the name that it was made from may be gone; a link of a link; one
    of a file that was there before the checkpoint stays as it is."""
    box.make("old", CONTENT + b"old")
    take(box.env)
    box.make("first", CONTENT + b"first", 1_000_000)
    new = box.place / "mail" / "new"
    for source, name in (("first", "second"), ("second", "third"), ("old", "fourth")):
        os.link(new / source, new / name)
        txn = box.env.begin(write=True)
        txn.linked(os.fsencode(new / name), os.fsencode(new / source))
        txn.commit()
        if source != "old":
            (new / source).unlink()
    box.env.sync()
    copy = box.crash(tmp_path / "copy")
    (copy / "mail" / "new" / "third").write_bytes(b"")
    env = recovered(copy, Owner(gone=("first", "second")))
    there = {name: content[len(CONTENT) :] for name, content in files(copy).items()}
    assert there == {"new/fourth": b"old", "new/old": b"old", "new/third": b"first"}
    assert (copy / "mail" / "new" / "third").stat().st_mtime == 1_000_000
    env.close()


def test_content_that_is_large_is_not_in_the_journal(box: Box, tmp_path: Path) -> None:
    """It was synced itself; other records around it are replayed."""
    box.make("before", CONTENT)
    put(box.env, {b"large": b"row"})
    box.make("after", CONTENT)
    copy = box.crash(tmp_path / "copy")
    shutil.rmtree(copy / "mail" / "new")
    (copy / "mail" / "new").mkdir()
    env = recovered(copy)
    assert set(files(copy)) == {"new/before", "new/after"} and set(rows(env)["rows"]) == {b"before", b"large", b"after"}
    env.close()


def test_replaying_twice_is_as_good_as_once(box: Box, tmp_path: Path) -> None:
    random = Random(2)
    for n in range(40):
        box.make(f"{n % 15}", CONTENT + b"%d" % n * random.randrange(50))
        txn = box.env.begin(write=True)
        txn.delete(b"%d" % random.randrange(15), db=box.env.db["rows"])
        txn.commit()
    expected = rows(box.env)
    there = files(box.place)
    copy = box.crash(tmp_path / "copy")
    at = state(copy)
    env = recovered(copy)
    assert rows(env) == expected and files(copy) == there
    done, _ = recovery.replay(env.path, env.env, env.db, at.position, str(copy), None)
    assert rows(env) == expected and files(copy) == there and done.records >= 40
    done, _ = recovery.replay(env.path, env.env, env.db, at.position, str(copy), None)
    assert rows(env) == expected and files(copy) == there
    env.close()


class Cut(BaseException):
    """The power is gone."""


STEPS = {
    "the meta page is put back": (lmdb, "open"),
    "rows are replayed": (recovery, "FileRestorer"),
    "some files are made": (recovery, "_make"),
    "the file systems are synced": (checkpoint, "_sync_file_systems"),
    "the checkpoint is written": (checkpoint, "write"),
    "slots are let go": (checkpoint.Checkpoints, "_tell"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_in_the_middle_of_a_recovery(
    box: Box, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one begins anew, from any mixture of what was there before it and what the first had written."""
    random = Random(4)
    # in one transaction: so no pages are free, and what a recovery uses too early are those of the checkpoint
    put(box.env, {b"%05d" % n: b"a" * random.randrange(3000) for n in range(400)})
    take(box.env)
    box.make("first", CONTENT)
    for n in range(300):
        put(box.env, {b"%05d" % random.randrange(400): b"b" * random.randrange(3000)}, sync=False)
        if n % 30 == 0:
            box.make(f"{n}", CONTENT)
    expected, there = rows(box.env), files(box.place)
    copy = box.crash(tmp_path / "copy")
    for name in ("30", "60", "90"):
        (copy / "mail" / "new" / name).write_bytes(b"torn")
    old = (copy / "env" / "data.mdb").read_bytes()
    where, name = STEPS[step]
    real = getattr(where, name)
    calls = [0]

    def cut(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if name == "_make" and calls[0] < 2:
            return real(*args, **kwargs)
        raise Cut

    for attempt in range(2):
        calls[0] = 0
        monkeypatch.setattr(recovery, "OCTETS", 30_000)  # many transactions
        monkeypatch.setattr(where, name, cut)
        with pytest.raises(Cut):
            environment(copy)
        monkeypatch.undo()
        new = (copy / "env" / "data.mdb").read_bytes()
        for n in range(2 if FEW else 6):  # the first is as it was left, others are mixtures
            image = tmp_path / f"image{attempt}{n}"
            shutil.copytree(copy, image)
            kept = new if n == 0 or step == "slots are let go" else mixture(old, new.ljust(len(old), b"\0"), random)
            (image / "env" / "data.mdb").write_bytes(kept)
            env = environment(image)
            assert rows(env) == expected and files(image) == there and env.recovered >= 1
            env.close()
    env = environment(copy)
    assert rows(env) == expected and files(copy) == there
    env.close()


def test_the_pages_that_a_recovery_began_from_are_kept_until_its_checkpoint(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(200):
        put(box.env, {b"%d" % n: b"x" * 3000}, sync=False)
    copy = box.crash(tmp_path / "copy")
    before = state(copy).txn
    kept: list[bool] = []
    real_take, real_write = checkpoint.Checkpoints._take, checkpoint.write

    def take_it(self: checkpoint.Checkpoints, *args: Any) -> bool:
        def write(path: str, what: checkpoint.State) -> None:
            real_write(path, what)
            lines = self._env.readers().split("\n")[1:-1]
            kept.append(any(line.split()[::2] == [f"{os.getpid()}", f"{before}"] for line in lines))

        monkeypatch.setattr(checkpoint, "write", write)
        return real_take(self, *args)

    monkeypatch.setattr(checkpoint.Checkpoints, "_take", take_it)
    env = environment(copy)
    assert kept == [True] and len(rows(env)["rows"]) == 200
    monkeypatch.undo()
    env.close()


def test_a_disk_that_fails_while_files_are_made(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not start; when the disk is well again it does, and has everything."""
    box.make("one", CONTENT)
    copy = box.crash(tmp_path / "copy")
    (copy / "mail" / "new" / "one").unlink()

    def fails(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(recovery.beneath, "rename", fails)
    with pytest.raises(StorageFailed):
        environment(copy)
    monkeypatch.undo()
    env = environment(copy)
    assert files(copy) == {"new/one": CONTENT}
    env.close()


def test_how_often_it_happened_is_counted_once_each(tmp_path: Path) -> None:
    place = tmp_path / "0"
    place.mkdir()
    for n in range(4):
        env = environment(place)
        assert env.recovered == n
        put(env, {b"%d" % n: b"x"})
        copy = crashed(place, tmp_path / f"{n + 1}")
        env.close()
        clean = environment(place)
        assert clean.recovered == n
        clean.close()
        place = copy


def test_the_journal_goes_on_behind_what_was_replayed(tmp_path: Path) -> None:
    """Sequence numbers go on, in another slot, and what did not check is never read later."""
    place = tmp_path / "0"
    place.mkdir()
    env = environment(place, least=1 << 16)
    for n in range(20):
        put(env, {b"%d" % n: b"x" * 100})
    last = found(place)[-1]
    copy = crashed(place, tmp_path / "1")
    env.close()
    slot = next(slot for slot in journal.slots(str(copy / "env" / "journal")) if slot.serial == last.at.serial)
    with open(slot.path, "r+b") as file:  # the last but one is torn, the last one whole
        file.seek(found(copy)[-2].at.offset + 30)
        file.write(b"\xff\xff")
    env = environment(copy)
    assert len(rows(env)["rows"]) == 18
    put(env, {b"again": b"y"})
    (record,) = found(copy)
    assert record.at.serial > last.at.serial and record.at.sequence == last.at.sequence - 1
    other = environment(crashed(copy, tmp_path / "2"))
    assert set(rows(other)["rows"]) == {b"%d" % n for n in range(18)} | {b"again"}
    other.close()
    env.close()


def test_a_stop_is_remembered(tmp_path: Path) -> None:
    """From the last checkpoint on, until somebody noticed; a clean one is none."""
    place = tmp_path / "one"
    place.mkdir()
    environment(place).close()
    env = environment(place)
    assert env.stops() == []
    take(env)
    put(env, {b"a": b"1"})
    since = state(place).time
    assert time.time() - 60 < since <= time.time()
    crashed(place, tmp_path / "two")
    env.close()
    env = environment(tmp_path / "two")
    ((begun, end),) = env.stops()
    assert begun == since <= end <= time.time()
    env.note_stop()
    first, second = env.stops()
    assert first == (begun, end) and second.since == second.until >= end
    crashed(tmp_path / "two", tmp_path / "three")
    env.close()
    env = environment(tmp_path / "three")
    assert env.stops()[:2] == [first, second] and len(env.stops()) == 3
    with env.write() as txn:
        for n in range(stops.MOST):
            stops.note(txn, env.db["meta"], Stop(n, n))
    assert env.stops() == [Stop(n, n) for n in range(stops.MOST)], "the oldest are forgotten"
    with env.write() as txn:
        txn.put(stops.STOPS_ROW, b"damaged", db=env.db["meta"])
    assert env.stops() == []
    env.close()
