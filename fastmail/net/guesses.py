"""Decides who may try to log in now: not a banned network, and not many guesses for one account at a time.

Bans recognise a guesser by its network, so one with a thousand networks stays below the limit in each. Therefore
failures are also counted for each login name, whether or not such an account exists, in a file that all workers share.
After ``after`` failures within the window, logins to that name take turns, one every PACE seconds in each worker. A
login that would wait longer than LONGEST is refused for now. No password is hashed while it waits or when it is
refused. A network from which the account logged in lately is not slowed, and neither is one that is exempt from bans:
the owner gets in at once while others guess.

The files contain no names, only keyed hashes of them. If they cannot be opened, nobody is slowed.
"""

import asyncio
import os
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastmail.model.errors import KeptOut, TemporaryError
from fastmail.net.bans import Bans
from fastmail.net.networks import network_of
from fastmail.net.scores import Scores
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PACE = 2.0  # s between two turns of a login name in one worker
LONGEST = 10.0  # s that a login may wait for its turn
REMEMBER = 90 * 86400.0  # s after a login for which its network counts as the owner's
RENEW = 0.9  # share of that time; when less is left, the next login starts it again
MOST = 2.0  # times ``after``: an account's score is not higher, so that it fades in reasonable time
NAMES = 10_000  # login names whose turns, and logins whose time, a worker remembers
NOTED_FOR = 3600.0  # s after a login in which another one is not written again


@dataclass(slots=True)
class Tables:
    """``failures``: points of login names, by the machine's monotonic clock; ``known``: accounts with the networks that
    they logged in from, by the time of day, because they must survive a restart of the machine."""

    failures: Scores
    known: Scores


class Guesses:
    """Slows guesses; one in each worker. ``after`` 0: nobody is slowed."""

    def __init__(self, data_dir: str, bans: Bans, after: int, window: float) -> None:
        self._directory = os.path.join(data_dir, "bans")
        self._bans = bans
        self._after = after
        self._fading = after / window if window else 0.0
        self._tables: Tables | None = None
        self._turns: OrderedDict[str, float] = OrderedDict()
        self._noted: OrderedDict[tuple[str, str], float] = OrderedDict()  # logins that this worker has just written

    def close(self) -> None:
        if self._tables is not None:
            self._tables.failures.close()
            self._tables.known.close()

    def _opened(self) -> Tables | None:
        if self._tables is None and self._after:
            try:
                paths = [os.path.join(self._directory, name) for name in ("accounts", "known")]
                self._tables = Tables(Scores(paths[0]), Scores(paths[1]))
            except OSError as error:
                log.event("guesses.tables", "error", path=self._directory, error=error)
                self._after = 0
        return self._tables

    def admit(self, host: str) -> None:
        """Raise KeptOut while the peer's network is banned; it may have been banned since it connected."""
        if self._bans.refuses(host):
            count("logins.banned")
            raise KeptOut("not from your address for a while")

    def take_turn(self, name: str, host: str, longest: float = 0.0) -> float:
        """Take a turn for a login name. Returns the seconds until it begins: 0 for nearly all.

        Raises TemporaryError when that would be more than ``longest``; no turn is taken then."""
        tables = self._opened()
        if tables is None:
            return 0.0
        most = self._after - 0.5  # so that points which fade between two failures do not help the guesser
        if tables.failures.get(name, self._fading, time.monotonic()) < most:
            return 0.0
        if self._bans.is_exempt(host) or tables.known.get(_mark(name, host), 1 / REMEMBER, time.time()) > 0:
            return 0.0
        now = time.monotonic()
        at = max(now, self._turns.get(name, 0.0))
        if at - now > longest:
            count("logins.slowed")
            raise TemporaryError("too many logins to this account fail")
        self._turns[name] = at + PACE
        self._turns.move_to_end(name)
        if len(self._turns) > NAMES:
            self._turns.popitem(last=False)
        return at - now

    async def wait(self, name: str, host: str) -> None:
        """Wait until the peer may try this login name. Raises TemporaryError."""
        seconds = self.take_turn(name, host, LONGEST)
        if seconds:
            count("logins.slowed")
            await asyncio.sleep(seconds)

    def failed(self, name: str) -> None:
        """Count a failed login, from any network."""
        tables, now = self._opened(), time.monotonic()
        if tables is not None and tables.failures.get(name, self._fading, now) < MOST * self._after:
            tables.failures.add(name, 1.0, self._fading, float("inf"), now)

    def succeeded(self, name: str, host: str) -> None:
        """Note that the account's owner logged in from this address."""
        if self._noted.get((name, host), -NOTED_FOR) > time.monotonic() - NOTED_FOR:
            return
        tables, now = self._opened(), time.time()
        if tables is None or not network_of(host):
            return
        self._noted[name, host] = time.monotonic()
        if len(self._noted) > NAMES:
            self._noted.popitem(last=False)
        mark, fading = _mark(name, host), 1 / REMEMBER
        left = tables.known.get(mark, fading, now)
        if left < RENEW:
            tables.known.add(mark, 1.0 - left, fading, float("inf"), now)


def _mark(name: str, host: str) -> str:
    return f"{name} {network_of(host)}"
