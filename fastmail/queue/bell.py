"""The queue's bell: wakes whoever empties the queue when something was put into it or changed.

One process of a server empties the queue (relay.runner) and listens at BELL in the run directory; every other one, and
every command, rings there. A ring that is lost is made good by the runner's next look.
"""

import asyncio
import os
from collections.abc import Callable

from fastmail.net.doorbell import Doorbell

BELL = "queue-bell"
RING = b"\a"


class Bell:
    """One process's. ``run_dir``: where the server's sockets are."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, BELL)
        self._heard: Callable[[], None] | None = None
        self._doorbell: Doorbell | None = None
        self._closed = False

    def listen(self, heard: Callable[[], None]) -> None:
        """This process empties the queue: call back, on the loop, after each change by anybody."""
        self._heard = heard
        if os.path.isdir(os.path.dirname(self._path)):  # else it is alone
            loop = asyncio.get_running_loop()
            self._hand().listen(self._path, loop, lambda _: heard(), len(RING))

    def ring(self) -> None:
        """Something changed."""
        if self._heard is not None:
            self._heard()
        elif not self._closed:
            self._hand().ring(self._path, RING)

    def _hand(self) -> Doorbell:
        if self._doorbell is None:
            self._doorbell = Doorbell()
        return self._doorbell

    def close(self) -> None:
        self._heard, self._closed = None, True
        if self._doorbell is not None:
            self._doorbell.close()
            self._doorbell = None
