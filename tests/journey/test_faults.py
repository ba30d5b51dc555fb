"""A short version of R9; `make test-faults` has the long one."""

import shutil
from pathlib import Path

import pytest

from tests.crash import faults

pytestmark = pytest.mark.harness


@pytest.mark.parametrize(
    "call,error,content",
    [
        ("fdatasync", "EIO", "maildir"),
        ("fsync", "EIO", "maildir"),
        ("pwrite64", "ENOSPC", "segments"),
        ("pwritev", "ENOSPC", "segments"),
        ("openat", "ENOSPC", "maildir"),
        ("openat2", "ENOSPC", "maildir"),
        ("renameat", "ENOSPC", "maildir"),
    ],
)
def test_r9_a_call_that_fails(tmp_path: Path, call: str, error: str, content: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    server = faults.make(tmp_path / "own", content)
    server.start()
    told: dict[str, str] = {}
    try:
        for when in (1, 3):
            one = faults.run(server, call, error, when, tmp_path / "trace", told)
            assert one.injected and one.refused
            assert one.read_only == (error == "EIO")
    except PermissionError as why:
        pytest.skip(f"strace may not attach here: {why}")
    finally:
        server.stop()


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_r9_writes_that_are_short(tmp_path: Path, content: str) -> None:
    try:
        told, refused = faults.short(tmp_path / "short", content)
    except PermissionError as why:
        pytest.skip(str(why))
    assert told >= 30 and refused
