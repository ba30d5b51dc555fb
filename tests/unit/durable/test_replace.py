"""Files that are replaced as a whole: the order of what reaches the disk, and what is left when it cannot."""

import os
from pathlib import Path

import pytest

from fastmail.durable import beneath, replace


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced and renamed, in order."""
    out: list[str] = []
    real_sync, real_rename, real_names = os.fsync, beneath.rename, replace.sync_directories

    def sync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        out.append(f"content {os.path.basename(path)} {os.fstat(descriptor).st_size}")
        real_sync(descriptor)

    def rename(old: str, new: str) -> None:
        out.append(f"rename {os.path.basename(new)}")
        real_rename(old, new)

    def names(paths: list[str]) -> None:
        out.extend(f"names {os.path.basename(path)}" for path in paths)
        real_names(paths)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(beneath, "rename", rename)
    monkeypatch.setattr(replace, "sync_directories", names)
    return out


def test_content_then_name(tmp_path: Path, done: list[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    replace.replace_file(str(path), b"new one")
    assert path.read_bytes() == b"new one" and os.listdir(tmp_path) == ["file"]
    assert done == [f"content file.fastmail.{os.getpid()} 7", "rename file", f"names {tmp_path.name}"]


def test_the_old_one_stays_when_the_new_one_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output"):
        replace.replace_file(str(path), b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_every_new_directory_is_named_on_the_disk(tmp_path: Path, done: list[str]) -> None:
    replace.make_directories(str(tmp_path / "a" / "b" / "c"))
    assert done == ["names b", "names a", f"names {tmp_path.name}"]
    done.clear()
    replace.make_directories(str(tmp_path / "a" / "b"))
    assert done == []
