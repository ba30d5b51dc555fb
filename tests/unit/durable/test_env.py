"""What an environment says of its commits."""

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

from fastmail.durable.env import Environment

MAP = 1 << 26


def write(path: str, until: float, pipe: Connection) -> None:
    env = Environment(path, ["a"], 1, MAP)
    number = 0
    while time.monotonic() < until:
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
    process = context.Process(target=write, args=(str(tmp_path), time.monotonic() + 3, theirs))
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
    process.join()
    if env.last_commit() != seen:
        with env.read() as txn:
            value = bytes(txn.get(b"number", db=env.db["a"]) or b"")
    assert int(value) == mine.recv() and changes > 10
    env.close()
