"""fastmail.durable.files: what is read is a regular file under its own name, whatever lies there."""

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
