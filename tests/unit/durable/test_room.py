"""The lock file of an environment has its place on the disk, because LMDB writes to it through memory."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmail.durable.env import Environment
from fastmail.model.errors import StorageFull


def test_a_new_environment_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=0, f_frsize=4096))
        with pytest.raises(StorageFull, match="no space left"):
            Environment(str(tmp_path), ["a"], 1, 1 << 20)
    assert not list(tmp_path.iterdir()), "what is left would be taken for damage"
    Environment(str(tmp_path), ["a"], 1, 1 << 20).close()


def test_the_lock_file_is_whole_from_the_second_opening_on(tmp_path: Path) -> None:
    for _ in range(2):
        Environment(str(tmp_path), ["a"], 1, 1 << 20).close()
    found = (tmp_path / "lock.mdb").stat()
    assert found.st_blocks * 512 >= found.st_size > 0


def test_one_that_is_there_can_be_read_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Environment(str(tmp_path), ["a"], 1, 1 << 20)
    with place.write() as txn:
        txn.put(b"k", b"v", db=place.db["a"])
    place.close()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    again = Environment(str(tmp_path), ["a"], 1, 1 << 20)
    with again.read() as txn:
        assert bytes(txn.get(b"k", db=again.db["a"])) == b"v"
    again.close()
