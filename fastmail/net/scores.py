"""Counts points of networks that misbehave, in a file that all workers share, so a guesser has one score whichever
workers it reaches.

A keyed hash of the network's name chooses its row, so nobody can choose whose slot to take. When all slots of a row are
in use, the one that was changed longest ago is reused. Points fade with time.

Promise: constant memory (3 MiB of file), constant time, no waiting. When two workers change the same row in the same
microsecond, a point may be lost. Points from before a restart of the machine do not count.
"""

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator

KEY = 32  # octets of the hash key, at the beginning of the file
ROWS = 32_768
WAYS = 4  # slots in a row
SLOT = struct.Struct("<Qdd")  # hash, points, s on the machine's clock when they were counted
ROW = WAYS * SLOT.size
SIZE = KEY + ROWS * ROW
LATE = 2.0  # s by which a slot may be newer than the caller's time: another worker changed it in between


class Scores:
    """The points in one file; opened by each worker that counts. ``looks``: nothing is counted or made; OSError where
    there is no such file yet."""

    def __init__(self, path: str, looks: bool = False) -> None:
        if looks:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._key = os.pread(self._file, KEY, 0)
            return
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.lockf(self._file, fcntl.LOCK_EX, KEY)
        try:
            if os.fstat(self._file).st_size != SIZE:
                os.ftruncate(self._file, 0)
                os.ftruncate(self._file, SIZE)
                os.pwrite(self._file, os.urandom(KEY), 0)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, KEY)
        self._key = os.pread(self._file, KEY, 0)

    def close(self) -> None:
        os.close(self._file)

    def add(self, name: str, points: float, fading: float, most: float, now: float) -> float:
        """Add points to a network and return its new score.

        ``fading``: points that are lost each second. When the score reaches ``most`` it starts again from 0."""
        mark, at = self._row(name)
        with self._held(at):
            slots = self._slots(at)
            place = next((n for n, slot in enumerate(slots) if slot[0] == mark), None)
            score, newest = 0.0, now + LATE
            if place is None:
                place = min(range(WAYS), key=lambda n: slots[n][2] if slots[n][0] and slots[n][2] <= newest else 0.0)
            elif slots[place][2] <= newest:
                now = max(now, slots[place][2])
                score = max(0.0, slots[place][1] - (now - slots[place][2]) * fading)
            score += points
            os.pwrite(self._file, SLOT.pack(mark, 0.0 if score >= most else score, now), at + place * SLOT.size)
        return score

    def get(self, name: str, fading: float, now: float) -> float:
        """Return the current points of a network."""
        mark, at = self._row(name)
        for known, points, when in self._slots(at):
            if known == mark and when <= now + LATE:
                return max(0.0, points - max(0.0, now - when) * fading)
        return 0.0

    def _slots(self, at: int) -> list[tuple[int, float, float]]:
        """Return the slots of a row. The file is read and not mapped: pages of a map count as memory of each worker,
        and reading one maps its neighbours too."""
        return list(SLOT.iter_unpack(os.pread(self._file, ROW, at)))

    def _row(self, name: str) -> tuple[int, int]:
        """Return (hash, offset of the row) of a name."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=12).digest()
        return int.from_bytes(digest[:8], "little") or 1, KEY + int.from_bytes(digest[8:], "little") % ROWS * ROW

    @contextlib.contextmanager
    def _held(self, at: int) -> Iterator[None]:
        """Lock a row, unless another worker has it at this moment: then go on without the lock rather than wait."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, ROW, at)
        except OSError:
            yield
            return
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, ROW, at)
