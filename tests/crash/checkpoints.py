"""Checkpoints that cannot be taken: part of `make test-faults`, or `python -m tests.crash.checkpoints --upto 6`.

Calls of the keeper fail (strace) while mail comes, in a server whose checkpoints follow each other quickly
(tests.crash.quick). A sync of the file system that fails stops all processes from writing until the server is started anew,
because the kernel says so only once; any other failure leaves the last checkpoint as it is, mail is taken, and a later
checkpoint follows. Then everything is killed, and the next start finds what was acknowledged.

Full disks: the data directory lies on a small file system (ext4 in a file, or tmpfs) that is filled. Nothing is acknowledged
that is not kept, reading goes on, a kill while it is full loses nothing, and when there is room mail is taken.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.crash.faults import WAYS, deliver, failing, make, subjects, there
from tests.support.server import Server

KINDS = [
    ("syncfs", "EIO"),
    ("syncfs", "ENOSPC"),
    ("fsync", "EIO"),
    ("renameat", "EIO"),
    ("renameat", "ENOSPC"),
    ("openat2", "ENOSPC"),
    ("openat", "EMFILE"),
    ("write", "ENOSPC"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EIO"),
]
SMALL = 48  # MiB
ROOM = 10.0  # s within which mail is taken again


def until(what: Callable[[], bool], seconds: float) -> bool:
    """Does it become true?"""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def quick(place: Path, content: str) -> Server:
    """A server, not started yet, with a small journal and many checkpoints."""
    server = make(place, content)
    server.program = "tests.crash.quick"
    return server


def run(server: Server, call: str, error: str, when: int, log: Path, told: dict[str, str]) -> tuple[int, int]:
    """The keeper's n-th call and all behind it fail, on a server that was started; it is running again behind it.
    (calls that failed, messages that were refused)."""
    stamp = f"{call}.{error}.{when}"
    refused = 0
    assert until(lambda: bool(server.keeper()), 10), "no keeper"
    with failing(server.keeper(), call, error, when, log):
        for number in range(3 * len(WAYS)):
            way = WAYS[number % len(WAYS)]
            if deliver(server, f"{stamp}.{number}", way):
                told[f"{stamp}.{number}"] = way
            else:
                refused += 1
            time.sleep(0.1)
        until(lambda: "(INJECTED)" in log.read_text(errors="replace"), 3)
        injected = log.read_text(errors="replace").count("(INJECTED)")
        if call == "syncfs" and injected:
            stopped = until(lambda: not all(deliver(server, f"{stamp}.stops.{way}", way) for way in WAYS), 5)
            assert stopped, f"{stamp}: mail is taken though a checkpoint was not synced"
    if call == "syncfs" and injected:
        assert not all(deliver(server, f"{stamp}.behind.{way}", way) for way in WAYS), f"{stamp}: taken again"
    elif "EIO" not in error:
        for way in WAYS:
            assert deliver(server, f"{stamp}.after.{way}", way), f"{stamp}: {way} refused"
            told[f"{stamp}.after.{way}"] = way
    missing = {subject for subject, way in told.items() if way in ("lmtp", "append")} - set(subjects(server))
    assert not missing, f"{stamp}: {missing} cannot be read"
    server.kill()
    server.start()
    there(server, told)
    for way in WAYS:
        assert deliver(server, f"{stamp}.again.{way}", way), f"{stamp}: no {way} after the restart"
        told[f"{stamp}.again.{way}"] = way
    return injected, refused


@contextlib.contextmanager
def small_disk(place: Path, kind: str) -> Iterator[Path]:
    """A file system of SMALL MiB. PermissionError where it cannot be mounted."""
    disk, image = place / "disk", place / "image"
    disk.mkdir()
    if kind == "ext4":
        with open(image, "wb") as file:
            file.truncate(SMALL << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        mount = ["mount", "-o", "loop", str(image), str(disk)]
    else:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError(f"mounting {kind} is not allowed here")
    try:
        yield disk
    finally:
        until(lambda: not subprocess.run(["umount", str(disk)], capture_output=True).returncode, 20)


def fill(place: Path) -> Path:
    """Take all the room of a disk."""
    filler = place / "filler"
    with open(filler, "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
    return filler


def full(place: Path, kind: str, content: str) -> tuple[int, int]:
    """(acknowledged, refused) on a disk that fills up."""
    told: dict[str, str] = {}
    refused = 0
    with small_disk(place, kind) as disk:
        server = quick(disk / "s", content)
        server.log = place / "log"  # which has room
        server.start()
        try:
            subjects(server)  # the account is known to the index
            for turn in range(3):
                filler = fill(disk)
                start, before = len(told), refused
                for number in range(120):
                    way = WAYS[number % len(WAYS)]
                    if deliver(server, f"full.{turn}.{number}", way):
                        told[f"full.{turn}.{number}"] = way
                    else:
                        refused += 1
                    if refused - before > 3 * len(WAYS):
                        break
                    if number % 10 == 9:
                        fill(disk)  # what was set free meanwhile
                assert refused > before, f"{kind}: {len(told) - start} taken by a full disk"
                assert _read(told) <= set(subjects(server)), "reading does not go on"
                if turn == 1:
                    server.kill()
                filler.unlink()
                if turn == 1:
                    server.start()  # which needs some room
                for way in WAYS:
                    name = f"full.{turn}.{way}"
                    assert until(lambda name=name, way=way: deliver(server, name, way), ROOM), f"{way}: no room again"  # type: ignore[misc]
                    told[name] = way
                there(server, told)
            server.kill()
            server.start()
            there(server, told)
            assert "ok" in server.cli("index", "check").stdout
        except BaseException:
            print(server.log.read_text()[-6000:], file=sys.stderr)
            raise
        finally:
            server.stop()
    return len(told), refused


def _read(told: dict[str, str]) -> set[str]:
    return {subject for subject, way in told.items() if way in ("lmtp", "append")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upto", type=int, default=6, help="n from 1 to this, for each kind of call")
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    parser.add_argument("--kinds", nargs="*", default=[f"{a}:{b}" for a, b in KINDS], metavar="CALL:ERROR")
    parser.add_argument("--full", choices=["ext4", "tmpfs"], help="full disks, and nothing else")
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("strace is not installed: apt-get install strace")
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        if options.full:
            told, refused = full(place, options.full, options.content)
            print(f"{options.content}: full disk, {options.full}: {told} acknowledged and all there, {refused} refused")
            return 0
        server = quick(place / "s", options.content)
        server.start()
        told_by: dict[str, str] = {}
        injected = refused = runs = 0
        try:
            for call, _, error in (kind.partition(":") for kind in options.kinds):
                for when in range(1, options.upto + 1):
                    one, no = run(server, call, error, when, place / "trace", told_by)
                    injected, refused, runs = injected + one, refused + no, runs + 1
                    print(f"{call} {error} {when}: {one} injected, {no} refused", flush=True)
        except AssertionError:
            print(server.log.read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            server.stop()
    print(f"{options.content}: checkpoints: {runs} runs, {injected} failures injected, {refused} refused, "
          f"{len(told_by)} acknowledged and all there")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
