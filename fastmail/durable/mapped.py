"""Gives back the mapped pages of LMDB files that this process no longer needs.

A process reads LMDB's files through a map. Each first look at a page maps the pages around it too (the kernel's
fault-around, 64 KiB), and they stay mapped: the sessions of a thousand users who each looked once leave tens of MiB
that count as memory of the worker. ``release`` unmaps them. The pages stay in the page cache, so a later look costs a
minor fault (about 1 us for 16 pages) and no read from the disk. LMDB's maps are read-only here (no WRITEMAP), so
nothing that was written can be lost.

Promise: what other threads read meanwhile stays valid, because a page that was given back is mapped again at the next
look. Where the kernel refuses, nothing is given back and nothing fails.
"""

import ctypes
import os
import time
from contextlib import suppress

MADV_DONTNEED = 4
SUFFIX = ".mdb"  # data files of LMDB; its lock files end in "lock.mdb" and are left alone
LOCK = "lock.mdb"
GROWN = 1 << 20  # octets of files that have to be mapped anew before it is worth a walk through the maps
BUSY = 0.1  # of a core: a process that computes more than this is reading the pages that it would give back
STATM_SHARED = 2  # field of /proc/PID/statm: resident pages of files and shared memory


def resident() -> int:
    """Return how many octets of files this process has mapped and resident."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[STATM_SHARED]) * os.sysconf("SC_PAGE_SIZE")


def maps() -> list[tuple[int, int]]:
    """Return (address, octets) of each read-only map of an LMDB data file in this process."""
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            # address, permissions, offset, device, inode, path
            fields = line.rstrip("\n").split(None, 5)
            if len(fields) == 6 and fields[1] == "r--s" and fields[5].endswith(SUFFIX) and not fields[5].endswith(LOCK):
                start, _, end = fields[0].partition("-")
                found.append((int(start, 16), int(end, 16) - int(start, 16)))
    return found


class MappedPages:
    """Knows how much was resident after the last release, and how much the process computed until then."""

    def __init__(self) -> None:
        self._after = 0
        self._looked = time.monotonic()
        self._computed = time.process_time()

    def _busy(self) -> bool:
        """True if this process computed for more than BUSY of the time since the last look."""
        looked, computed = time.monotonic(), time.process_time()
        share = (computed - self._computed) / max(looked - self._looked, 0.001)
        self._looked, self._computed = looked, computed
        return share > BUSY

    def release(self, grown: int = GROWN) -> bool:
        """Unmap LMDB's pages if the process is at rest, and files took ``grown`` octets more since the last time.
        Returns True if it did so.

        Blocks for about a millisecond for each 100 MiB that are mapped: call it on a helper thread."""
        with suppress(OSError, AttributeError):  # no /proc, or no madvise: the pages stay
            now = resident()
            self._after = min(self._after, now)  # an environment may have been closed since
            if self._busy() or now < self._after + grown:
                return False
            madvise = ctypes.CDLL(None, use_errno=True).madvise
            for address, octets in maps():
                madvise(ctypes.c_void_p(address), ctypes.c_size_t(octets), MADV_DONTNEED)
            self._after = resident()
            return True
        return False
