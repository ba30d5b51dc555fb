"""The change hub: who looks at which mailbox, and who must be told that it changed.

Inside a worker a change calls back the sessions that watch the mailbox, and those that watch its whole account. Other
workers hear of it by a doorbell: one datagram with the keys of a whole commit, on a Unix socket of each worker that may
have a watcher: workers share maps of what they watch, a bit for each mailbox by the hash of its key. A lost datagram (a
full socket buffer) is made good by the next one or by the client's next command, because sessions always read the index
itself.

Rule: commit, then publish, then reply, in that order.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable

from fastmail.net.doorbell import Doorbell
from fastmail.store.interface import EVERYTHING
from fastmail.store.views import Views
from fastmail.store.watchmap import WatchMap
from fastmail.telemetry import log

KEY = 12
ACCOUNT = 8
MAX_KEYS = 4000


def whole(key: bytes) -> bytes:
    """What watchers of everything in the account of this mailbox watch."""
    return key[:ACCOUNT] + EVERYTHING


class Hub:
    """Watchers of one worker. ``directory`` holds the workers' doorbells; empty for a single process."""

    def __init__(self, directory: str = "", worker: int = 0) -> None:
        self._watchers: defaultdict[bytes, set[Callable[[], None]]] = defaultdict(set)
        self._directory = directory
        self._name = f"doorbell.{worker}"
        self._doorbell: Doorbell | None = None
        self._peers: list[tuple[str, WatchMap | None]] = []
        self._map: WatchMap | None = None
        self.views = Views()
        self.noted: Callable[[set[bytes]], None] | None = None  # hears of every change that this process makes

    @property
    def is_shared(self) -> bool:
        """Is this a worker among others?"""
        return bool(self._directory)

    def start(self, loop: asyncio.AbstractEventLoop, workers: int) -> None:
        """Open this worker's doorbell and learn where the others' are."""
        if not self._directory:
            return
        self._doorbell = Doorbell()
        self._doorbell.listen(os.path.join(self._directory, self._name), loop, self._rung, KEY * MAX_KEYS)
        own = int(self._name.rpartition(".")[2])
        self._map = WatchMap(os.path.join(self._directory, f"watched.{own}"), own=True)
        for n in range(workers):
            if n != own:
                watched = WatchMap(os.path.join(self._directory, f"watched.{n}"), own=False)
                self._peers.append((os.path.join(self._directory, f"doorbell.{n}"), watched))
        self.views.start(self._directory, own, workers)

    def join(self, directory: str) -> None:
        """Ring the doorbells of a running server from a process that has none itself (a command)."""
        try:
            names = [name for name in os.listdir(directory) if name.startswith("doorbell.")]
        except OSError:
            return
        if names:
            self.views.beside()
        self._doorbell = Doorbell()
        self._peers = [(os.path.join(directory, name), None) for name in names]

    def close(self) -> None:
        if self._doorbell is not None:
            self._doorbell.close()
            self._doorbell = None

    def watch(self, key: bytes, callback: Callable[[], None]) -> bool:
        """True when this is the first watcher of the mailbox."""
        watchers = self._watchers[key]
        watchers.add(callback)
        if len(watchers) > 1:
            return False
        if self._map is not None:
            self._map.add(key)
        return True

    def unwatch(self, key: bytes, callback: Callable[[], None]) -> bool:
        """True when nobody watches the mailbox any more."""
        watchers = self._watchers.get(key)
        if watchers is None:
            return False
        watchers.discard(callback)
        if watchers:
            return False
        del self._watchers[key]
        if self._map is not None:
            self._map.remove(key)
        return True

    def publish(self, keys: Iterable[bytes]) -> None:
        """Tell everybody, here and in the other workers."""
        changed = set(keys)
        self.tell(changed)
        if self.noted is not None:
            self.noted(changed)
        if self._doorbell is None or not changed:
            return
        for peer, watched in self._peers:
            flat = [key for key in changed if watched is None or watched.has(key) or watched.has(whole(key))]
            for start in range(0, len(flat), MAX_KEYS):
                self._doorbell.ring(peer, b"".join(flat[start : start + MAX_KEYS]))

    def tell(self, keys: Iterable[bytes]) -> None:
        """Call back the watchers in this worker, those of a whole account once."""
        told = set(keys)
        for key in told | {whole(key) for key in told}:
            for callback in tuple(self._watchers.get(key, ())):
                try:
                    callback()
                except Exception as error:  # one session's bug is not the others'
                    log.event("hub.bug", "error", error=repr(error))

    def _rung(self, datagram: bytes) -> None:
        self.tell({datagram[i : i + KEY] for i in range(0, len(datagram) - KEY + 1, KEY)})
