"""fastmail.durable.stage: a name comes before the sync of its content only where a journal keeps that order."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastmail.durable import stage

DISKS = {
    "ext4": (["mkfs.ext4"], "", True),
    "ext4 with data=writeback": (["mkfs.ext4"], "data=writeback", True),
    "ext4 with data=journal": (["mkfs.ext4"], "data=journal", True),
    "ext3": (["mkfs.ext4", "-t", "ext3"], "", True),
    "ext4 without a journal": (["mkfs.ext4", "-O", "^has_journal"], "", False),
    "ext2": (["mkfs.ext2"], "", False),
    "ext4 without barriers": (["mkfs.ext4"], "nobarrier", False),
    "ext4 with early commits": (["mkfs.ext4"], "journal_async_commit,data=writeback", False),
    "xfs": (["mkfs.xfs"], "", True),
    "btrfs": (["mkfs.btrfs"], "", False),
}
WORK = """
import sys
from fastmail.durable.stage import FileStage
top = sys.argv[1].encode()
stage = FileStage()
stage.submit(1, [(top + b"/tmp", top + b"/name", top, [b"content"], -1, -1)])
assert stage.wait() == [(1, [0])]
stage.close()
"""


@pytest.fixture
def mounted(request: pytest.FixtureRequest) -> Iterator[tuple[Path, bool]]:
    make, options, order = DISKS[request.param]
    if os.geteuid() != 0:
        pytest.skip("needs root, who mounts")
    if shutil.which(make[0]) is None:
        pytest.skip(f"needs {make[0]}")
    base = Path(tempfile.mkdtemp(prefix="fastmail-order-"))
    image, place = base / "image", base / "mounted"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(320 << 20 if "xfs" in make[0] else 128 << 20)
    force = ["-f"] if make[0] in ("mkfs.xfs", "mkfs.btrfs") else ["-q", "-F"]
    try:
        subprocess.run([*make, *force, str(image)], check=True, capture_output=True)
        mount = ["mount", "-o", ",".join(["loop", *filter(None, [options])]), str(image), str(place)]
        done = subprocess.run(mount, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this kernel or container does not mount {request.param}: {done.stderr.strip()}")
        try:
            yield place, order
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        shutil.rmtree(base)


def keeps_order(place: Path) -> bool:
    """As a thread sees it that remembers nothing of what was mounted on the same device a moment ago."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(1) as fresh:
            return fresh.submit(stage.keeps_order, descriptor).result()
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mounted", DISKS, indirect=True)
def test_the_order_is_that_of_what_is_mounted(mounted: tuple[Path, bool]) -> None:
    """By what the kernel says of the mounted device, not by the number of the file system's type."""
    place, order = mounted
    assert keeps_order(place) is order
    if shutil.which("strace") is None:
        pytest.skip("needs strace, for what is done then")
    log = place.parent / "trace"
    calls = "trace=fsync,fdatasync,rename,renameat"
    command = ["strace", "-f", "-y", "-e", calls, "-o", str(log), sys.executable, "-c", WORK, str(place)]
    root = Path(stage.__file__).parents[2]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(root)})
    lines = [line for line in log.read_text().splitlines() if "/tmp" in line or "/name" in line]
    at = {what: next(n for n, line in enumerate(lines) if what in line) for what in ("sync", "rename")}
    assert (at["rename"] < at["sync"]) is order, lines


def test_memory_has_no_order() -> None:
    assert not keeps_order(Path("/proc/self")) and not stage.keeps_order(-1)


@pytest.mark.parametrize("mounted", ["ext4"], indirect=True)
def test_what_cannot_be_known_has_no_order(mounted: tuple[Path, bool], tmp_path: Path) -> None:
    """Without /sys, or without the list of mounts, content is synced first."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, for a process that sees less")
    place, _ = mounted
    empty = tmp_path / "empty"
    empty.mkdir()
    look = (
        "import os,sys; from fastmail.durable import stage; print(stage.keeps_order(os.open(sys.argv[1], os.O_RDONLY)))"
    )
    root = Path(stage.__file__).parents[2]
    for hidden, said in (("/nothing", "True"), ("/sys", "False"), ("/proc", "False")):
        script = f'[ -d {hidden} ] && mount --bind "{empty}" {hidden}; exec "$@"'
        command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", look, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(root)})
        if hidden == "/sys" and Path("/proc/fs/jbd2").exists() and "True" in done.stdout:
            pytest.fail("without /sys nothing says which device it is")
        assert done.stdout.strip() == said, (hidden, done.stderr)
