"""How old a message is, on a machine whose clock may be set (RFC 5321 4.5.4.1 counts days of trying, not of the
calendar).

Times in the queue are seconds since 1970, because they outlive the process. When that clock jumps, by a wrong time
server or a machine that came up without one, every message would seem days older. The clock that runs since the boot
does not jump: a change of the difference between both is a jump. Jumps are kept with the queue, and the time that they
skipped counts for no message that was there before. Across a reboot nothing can be compared: time that the machine was
off counts as it did for the sender.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

LEAST = 120.0  # s: a smaller change is a clock being put right
KEPT = 20  # jumps that are remembered
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Jump(msgspec.Struct, array_like=True):
    """The clock went from ``before`` to ``after`` (s since 1970) though no time passed."""

    before: float
    after: float


class State(msgspec.Struct, array_like=True):
    """As it is stored. ``boot``: which boot ``offset`` (s since 1970 when the machine came up) belongs to."""

    version: int
    boot: str = ""
    offset: float = 0.0
    jumps: list[Jump] = []


def _since_boot() -> float:
    """Seconds since the machine came up, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


class Clock:
    """One beside the runner. ``stored``: what ``state`` gave the last time."""

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
        """Compare both clocks; the seconds by which the one that may be set has jumped since the last look, 0
        usually."""
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
        """To be stored, whenever ``changed``."""
        self.changed = False
        return msgspec.msgpack.encode(State(1, self._boot, self._offset, self._jumps))

    def age(self, begun: float) -> float:
        """Seconds that have passed since ``begun`` (s since 1970). A jump forwards counts for none that began before
        it, until a jump backwards takes it back; a message may seem younger than it is, never older."""
        self.look()
        skipped = 0.0
        for one in self._jumps:
            if one.after < one.before:
                skipped = max(0.0, skipped + one.after - one.before)
            elif begun <= one.before:
                skipped += one.after - one.before
        return max(0.0, time.time() - begun - skipped)
