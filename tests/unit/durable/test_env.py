"""What an environment says of its commits."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from fastmail.durable import journal
from fastmail.durable.env import Environment
from tests.support.journals import environment, in_process, put, take

MAP = 1 << 26
ENOUGH = 20  # changes that a reader has to see


def write(path: str, pipe: Connection) -> None:
    """Commit until the other side says that it has seen enough."""
    env = Environment(path, ["a"], 1, MAP)
    number = 0
    while number < 20 or not pipe.poll():
        number += 1
        with env.write() as txn:
            txn.put(b"number", b"%d" % number, db=env.db["a"])
    env.close()
    pipe.send(number)


def test_what_is_remembered_for_a_commit_is_of_that_commit_or_a_later_one(tmp_path: Path) -> None:
    """As caches use it: read the number, then the data, and trust them until the number changes."""
    Environment(str(tmp_path), ["a"], 1, MAP).close()
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=write, args=(str(tmp_path), theirs))
    process.start()
    env = Environment(str(tmp_path), ["a"], 1, MAP)
    seen, value, changes = -1, b"", 0
    while not mine.poll():
        commit = env.last_commit()
        if commit != seen:
            with env.read() as txn:
                value = bytes(txn.get(b"number", db=env.db["a"]) or b"")
                assert txn.id() >= commit
            changes += 1
            seen = commit
            if changes == ENOUGH:
                mine.send("enough")
    process.join()
    if env.last_commit() != seen:
        with env.read() as txn:
            value = bytes(txn.get(b"number", db=env.db["a"]) or b"")
    assert int(value) == mine.recv() and changes >= ENOUGH
    env.close()


def test_a_sync_covers_what_was_read_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that changes nothing may answer with what another process committed and has not synced."""
    env = environment(tmp_path, least=1 << 16)
    put(env, {b"mine": b"1"})
    script = (
        "env = environment(Path(sys.argv[1]))\nfor n in range(9):\n    put(env, {b'theirs': b'x' * 40_000}, sync=False)"
    )
    in_process(script + "\nos.kill(os.getpid(), 9)", tmp_path, status=-9)
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    txn = env.begin(write=True)
    assert txn.get(b"theirs", db=env.db["rows"])
    at = journal.Position.unpack(txn.get(journal.POSITION_ROW, db=env.db["meta"]))
    txn.commit()
    env.sync()
    (slot,) = [slot for slot in journal.slots(str(tmp_path / "env" / "journal")) if slot.serial == at.serial]
    assert synced[-1] == slot.path and at.serial > 1
    monkeypatch.undo()
    take(env)
    env.close()
