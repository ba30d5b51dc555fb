"""What durable.stage leaves to the journal, and what it syncs itself, as the kernel saw it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import sys
from fastmail.durable.stage import write_files
top = sys.argv[1].encode()
job = {
    "small": (top + b"/tmp/a", top + b"/cur/a", top + b"/cur", [b"content"], -1, -1, False),
    "large": (top + b"/tmp/a", top + b"/cur/a", top + b"/cur", [b"content"], -1, -1, True),
    "link": (top + b"/new/old", top + b"/cur/a", top + b"/cur", None, -1, -1, True),
    "link of another's": (top + b"/new/old", top + b"/cur/a", top + b"/cur", None, 0, -1, True),
}[sys.argv[2]]
assert write_files([job]) == [0]
"""


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("small", ["rename"]),
        ("large", ["sync a", "rename", "sync cur"]),
        ("link", ["link", "sync cur"]),
        ("link of another's", ["sync old", "link", "sync cur"]),
    ],
)
def test_content_before_name_and_only_where_it_is_asked_for(tmp_path: Path, what: str, expected: list[str]) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    for name in ("tmp", "new", "cur"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "old").write_bytes(b"content")
    calls = "fsync,fdatasync,rename,renameat,renameat2,link,linkat"
    log = tmp_path / "log"
    command = ["strace", "-f", "-y", "-e", f"trace={calls}", "-o", str(log)]
    done = subprocess.run([*command, sys.executable, "-c", WORK, str(tmp_path), what], capture_output=True, text=True)
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace cannot follow processes here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    seen = []
    for line in log.read_text().splitlines():
        found = re.match(r"\d+ +(\w+)\(\d+<(.*?)>", line)
        if found is not None and str(tmp_path) in line:
            name = found.group(1)
            place = Path(found.group(2)).name
            seen.append(f"sync {place}" if name in ("fsync", "fdatasync") else name.rstrip("at2"))
        elif str(tmp_path) in line and "= 0" in line:
            seen.append(re.split(r"[ (]+", line)[1].rstrip("at2"))
    assert [one.removesuffix("at") for one in seen] == expected
