"""What this machine can do, and what processes spend: the figures that the others are read against. Linux only."""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from dataclasses import dataclass


def children(pid: int) -> list[int]:
    """The process and all below it."""
    out = [pid]
    for one in out:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{thread}/children", encoding="ascii") as file:
                    out += [int(word) for word in file.read().split()]
    return out


def cpu(pid: int) -> float:
    """CPU seconds of all threads of a process and of all below it, those that have ended too."""
    total = 0
    for one in children(pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                with (
                    contextlib.suppress(OSError),
                    open(f"/proc/{one}/task/{thread}/schedstat", encoding="ascii") as file,
                ):
                    total += int(file.read().split()[0])
        with contextlib.suppress(OSError), open(f"/proc/{one}/stat", encoding="ascii", errors="replace") as file:
            ended = file.read().rpartition(")")[2].split()[13:15]  # cutime, cstime
            total += sum(int(ticks) for ticks in ended) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return total / 1e9


def pss(pid: int, kind: str = "Pss") -> int:
    """Octets of memory, shared pages divided by who shares them. ``kind``: a line of proc_pid_smaps_rollup(5)."""
    total = 0
    for one in children(pid):
        with contextlib.suppress(OSError), open(f"/proc/{one}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{kind}:"))
    return total


def pss_at_rest(pid: int, rest: float, patience: float = 60.0) -> int:
    """The same once it has not changed for ``rest`` s: processes of sessions that were closed take a while to go, and
    a server gives memory back only some time after it was last busy. What is not of files says so: the share of files'
    pages changes with each other program that maps them."""
    now, end = time.monotonic(), time.monotonic() + patience
    last, since = pss(pid, "Pss_Anon"), now
    while now - since < rest and now < end:
        time.sleep(1.0)
        now, found = time.monotonic(), pss(pid, "Pss_Anon")
        if abs(found - last) > last // 200:
            last, since = found, now
    return pss(pid)


@dataclass(slots=True)
class Machine:
    """Figures a second: synced appends, durable files by one and by eight threads, MiB hashed by one core."""

    cores: int
    kernel: str
    appends: float
    files: float
    files8: float
    hashed: float


def measure(directory: str, seconds: float = 1.0) -> Machine:
    """About four times ``seconds``."""
    block = os.urandom(4096)
    path = os.path.join(directory, "append")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        os.write(fd, block)
        os.fdatasync(fd)
        count += 1
    appends = count / (time.perf_counter() - start)
    os.close(fd)
    os.unlink(path)
    one, eight = (_files(directory, block, threads, seconds) for threads in (1, 8))
    data, done, start = os.urandom(1 << 20), 0, time.perf_counter()
    while time.perf_counter() - start < seconds / 2:
        hashlib.sha256(data).digest()
        done += 1
    hashed = done / (time.perf_counter() - start)
    return Machine(len(os.sched_getaffinity(0)), os.uname().release, appends, one, eight, hashed)


def _files(directory: str, block: bytes, threads: int, seconds: float) -> float:
    """Files a second, one at least: create, write, sync, rename, sync the directory, as for a Maildir."""
    counts, took = [0] * threads, [0.0] * threads
    start = time.perf_counter()

    def work(n: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # Ctrl-C has removed the directory
            make(n)
        took[n] = took[n] or time.perf_counter() - start

    def make(n: int) -> None:
        place = os.path.join(directory, f"files{n}")
        os.makedirs(place, exist_ok=True)
        top = os.open(place, os.O_RDONLY)
        while not counts[n] or time.perf_counter() - start < seconds:
            name = os.path.join(place, str(counts[n]))
            fd = os.open(name + ".tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, block)
            os.fdatasync(fd)
            os.close(fd)
            os.rename(name + ".tmp", name)
            os.fsync(top)
            counts[n] += 1
        took[n] = time.perf_counter() - start  # without what it takes to remove them
        os.close(top)
        shutil.rmtree(place, ignore_errors=True)  # Ctrl-C removes all of it at the same time

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(count / seconds for count, seconds in zip(counts, took, strict=True))
