"""A short version of R9; `make test-faults` has the long one."""

import shutil
from pathlib import Path

import pytest

from tests.crash import faults
from tests.support.server import Server


@pytest.mark.parametrize(
    "call,error,content",
    [
        ("fdatasync", "EIO", "maildir"),
        ("fsync", "EIO", "maildir"),
        ("pwrite64", "ENOSPC", "segments"),
        ("pwritev", "ENOSPC", "segments"),
        ("openat", "ENOSPC", "maildir"),
    ],
)
def test_r9_a_call_that_fails(tmp_path: Path, call: str, error: str, content: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    server = Server(tmp_path / "own", workers=1, content=content)
    server.start()
    try:
        for when in (1, 3):
            one = faults.run(server, call, error, when, tmp_path / "trace")
            assert one.injected and one.refused
            assert one.read_only == (error == "EIO")
    except PermissionError as why:
        pytest.skip(f"strace may not attach here: {why}")
    finally:
        server.stop()
