"""Tells how old a message is, on a machine whose clock may be set. RFC 5321 4.5.4.1 counts days of trying, not days of
the calendar.

Times in the queue are seconds since 1970, because they outlive the process. When that clock jumps, because of a wrong
time server or a machine that started without the time, every message would seem days older. The clock that runs since
the boot does not jump, so a change of the difference between the two is a jump. Jumps are stored with the queue, and
the time they skipped does not count for messages that were queued before. Across a reboot the clocks cannot be
compared: then the time that the machine was off counts, as it did for the sender.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

LEAST = 120.0  # s; a smaller change is an ordinary correction of the clock
KEPT = 20  # jumps that are remembered
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Jump(msgspec.Struct, array_like=True):
    """The clock went from ``before`` to ``after`` (s since 1970) while no time passed."""

    before: float
    after: float


class State(msgspec.Struct, array_like=True):
    """What is stored. ``offset``: when the machine started (s since 1970), by the clock at that time; ``boot``: the
    boot that it belongs to."""

    version: int
    boot: str = ""
    offset: float = 0.0
    jumps: list[Jump] = []


def _since_boot() -> float:
    """Return the seconds since the machine started, including sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """One for the runner. ``stored``: what ``state`` returned the last time."""

    def __init__(self, stored: bytes | None = None, since_boot: Callable[[], float] = _since_boot) -> None:
        self._since_boot = since_boot
        self._boot = _boot()
        try:
            state = msgspec.msgpack.decode(stored or b"", type=State)
        except (msgspec.DecodeError, UnicodeDecodeError):
            state = State(1)
        self._jumps = state.jumps[-KEPT:]
        same = bool(self._boot) and state.boot == self._boot
        self._offset = state.offset if same else time.time() - since_boot()
        self.changed = not same
        self.look()

    def look(self) -> float:
        """Compare the two clocks. Returns the seconds by which the settable clock jumped since the last call, usually
        0."""
        now = time.time()
        offset = now - self._since_boot()
        jump = offset - self._offset
        self._offset = offset
        if abs(jump) < LEAST:
            return 0.0
        self._jumps = [*self._jumps, Jump(now - jump, now)][-KEPT:]
        self.changed = True
        return jump

    def state(self) -> bytes:
        """Return what has to be stored whenever ``changed`` is True."""
        self.changed = False
        return msgspec.msgpack.encode(State(1, self._boot, self._offset, self._jumps))

    def age(self, begun: float) -> float:
        """Return the seconds that have passed since ``begun`` (s since 1970).

        A jump forwards does not count for messages from before it, until a jump backwards undoes it. A message may seem
        younger than it is, never older."""
        self.look()
        skipped = 0.0
        for one in self._jumps:
            if one.after < one.before:
                skipped = max(0.0, skipped + one.after - one.before)
            elif begun <= one.before:
                skipped += one.after - one.before
        return max(0.0, time.time() - begun - skipped)
