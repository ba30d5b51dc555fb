"""The queue's bell: wakes the process that empties the queue after something in it was added or changed.

One process of a server empties the queue (relay.runner) and listens at BELL in the run directory. All other processes
and the commands ring there. A lost ring delays a message only until the runner's next look.
"""

import asyncio
import os
from collections.abc import Callable

from fastmail.net.doorbell import Doorbell

BELL = "queue-bell"
RING = b"\a"


class Bell:
    """The bell of one process. ``run_dir``: where the server's sockets are."""

    def __init__(self, run_dir: str) -> None:
        self._path = os.path.join(run_dir, BELL)
        self._heard: Callable[[], None] | None = None
        self._doorbell: Doorbell | None = None
        self._closed = False

    def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` on the event loop after each change by any process. For the process that empties the queue."""
        self._heard = heard
        if os.path.isdir(os.path.dirname(self._path)):  # without a run directory there is no other process to hear
            loop = asyncio.get_running_loop()
            self._hand().listen(self._path, loop, lambda _: heard(), len(RING))

    def ring(self) -> None:
        """Tell the process that empties the queue that something changed."""
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
