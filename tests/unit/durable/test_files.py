"""fastmail.durable.files: what is read is a regular file under its own name, whatever lies there."""

import errno
import os
import socket
from pathlib import Path

import pytest

from fastmail.durable import files


@pytest.mark.parametrize("nowait", [False, True])
def test_only_regular_files_are_read(tmp_path: Path, nowait: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"content")
    Path("file").read_bytes()  # so that it is in the page cache
    assert files.read_file(b"file", nowait) in ((b"content", None) if nowait else (b"content",))
    Path("link").symlink_to("file")
    Path("loop").symlink_to("loop")
    Path("lost").symlink_to("none")
    Path("directory").mkdir()
    Path("far").symlink_to("directory")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name in ("link", "loop", "lost", "directory", "far", "pipe", "socket", "none"):
            try:
                found = files.read_file(name.encode(), nowait)
            except OSError:
                continue
            assert nowait and found is None, name  # it cannot be said without waiting: the other form says it


def test_files_of_a_directory_are_read(tmp_path: Path) -> None:
    """Of one that is not guarded; for others see test_beneath."""
    (tmp_path / "cur").mkdir()
    (tmp_path / "cur" / "one").write_bytes(b"1")
    (tmp_path / "cur" / "link").symlink_to("one")
    directory = files.Directory(os.fsencode(tmp_path))
    for _ in range(2):
        assert directory.read_now(b"cur/one") in (b"1", None)
        for name in (b"cur/none", b"cur/link"):
            try:
                assert directory.read_now(name) is None, "that cannot be said without waiting: the other form says it"
            except OSError as error:
                assert error.errno in (errno.ENOENT, errno.ELOOP), name
        directory.close()


def test_files_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter, longer, other octets anywhere, no file: only what is exactly the same is the same."""
    monkeypatch.chdir(tmp_path)
    whole = os.urandom(200_001)
    others = [whole[:-1], whole + b"x", whole[:70_000] + b"\0\0" + whole[70_002:], whole[:-1] + bytes([whole[-1] ^ 1])]
    for number, content in enumerate([whole, *others]):
        Path(f"{number}").write_bytes(content)
    Path("link").symlink_to("0")
    Path("directory").mkdir()
    names = [b"0", b"1", b"2", b"3", b"4", b"link", b"directory", b"none"]
    assert files.same_batch(names, [whole] * len(names)) == [True] + [False] * (len(names) - 1)
    Path("empty").write_bytes(b"")
    assert files.same_batch([b"empty", b"empty"], [b"", b"x"]) == [True, False]
    assert files.same_batch([], []) == []


def test_pieces_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = os.urandom(200_001)
    Path("file").write_bytes(whole)
    at = [0, 1, 70_000, 200_000, 200_000, 200_001, 300_000]
    pieces: list[files.Octets] = [whole, whole[1:], whole[70_000:140_000], whole[-1:], whole[-1:] + b"x", b"", b"x"]
    assert files.same_pieces(b"file", at, pieces) == [True, True, True, True, False, True, False]
    assert files.same_pieces(b"file", [1], [whole[:1] + whole[1:]]) == [False]
    assert files.same_pieces(b"none", [0], [b"x"]) == [False]
