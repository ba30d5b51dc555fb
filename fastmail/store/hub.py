"""The change hub: which sessions watch which mailbox, and who must be told that it changed.

Within a worker, a change calls back the sessions that watch the mailbox or its whole account. Other workers hear of it
by a doorbell, a Unix datagram socket of each worker: one datagram has the keys of a whole commit. It goes only to
workers that may have a watcher: each worker shares a map with one bit for each watched mailbox, by the hash of its key.
A lost datagram (a full socket buffer) does no harm: the next one, or the client's next command, finds the change,
because sessions always read the index itself.

Rule: commit, then publish, then reply, in that order.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable, Iterable

from fastmail.model.keys import ACCOUNT, EVERYTHING
from fastmail.model.keys import MAILBOX as KEY
from fastmail.net.doorbell import Doorbell
from fastmail.store.views import Views
from fastmail.store.watchmap import WatchMap
from fastmail.telemetry import log

MAX_KEYS = 4000  # in one datagram: 48 kB, which is far below what a socket buffer holds


def whole(key: bytes) -> bytes:
    """Return the key under which watchers of the mailbox's whole account are registered."""
    return key[:ACCOUNT] + EVERYTHING


class Hub:
    """The watchers of one worker. ``directory`` has the workers' doorbells; empty in a single process."""

    def __init__(self, directory: str = "", worker: int = 0) -> None:
        self._watchers: defaultdict[bytes, set[Callable[[], None]]] = defaultdict(set)
        self._directory = directory
        self._name = f"doorbell.{worker}"
        self._doorbell: Doorbell | None = None
        self._peers: list[tuple[str, WatchMap | None]] = []
        self._map: WatchMap | None = None
        self.views = Views()
        self.noted: Callable[[set[bytes]], None] | None = None  # called with the keys of every change by this process

    @property
    def is_shared(self) -> bool:
        """True for a worker among others."""
        return bool(self._directory)

    def start(self, loop: asyncio.AbstractEventLoop, workers: int) -> None:
        """Open this worker's doorbell and the other workers' maps."""
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
        """Let a command, which has no doorbell of its own, ring those of a running server."""
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
        """Register a watcher; True if it is the mailbox's first."""
        watchers = self._watchers[key]
        watchers.add(callback)
        if len(watchers) > 1:
            return False
        if self._map is not None:
            self._map.add(key)
        return True

    def unwatch(self, key: bytes, callback: Callable[[], None]) -> bool:
        """Remove a watcher; True if the mailbox has none left."""
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
        """Tell the watchers of these mailboxes, in this worker and in the others."""
        changed = set(keys)
        self.tell(changed)
        if self.noted is not None:
            self.noted(changed)
        if self._doorbell is None or not changed:
            return
        for peer, watched in self._peers:
            flat = list(changed) if watched is None else watched.watched(changed)
            for start in range(0, len(flat), MAX_KEYS):
                self._doorbell.ring(peer, b"".join(flat[start : start + MAX_KEYS]))

    def tell(self, keys: Iterable[bytes]) -> None:
        """Call back the watchers in this worker; watchers of a whole account once."""
        if not self._watchers:
            return
        told = set(keys)
        for key in told | {whole(key) for key in told}:
            found = self._watchers.get(key)
            for callback in tuple(found) if found else ():
                try:
                    callback()
                except Exception as error:  # a bug of one session must not keep the others from being told
                    log.event("hub.bug", "error", error=repr(error))

    def _rung(self, datagram: bytes) -> None:
        """Another worker rang: the datagram has the keys of changed mailboxes."""
        self.tell({datagram[i : i + KEY] for i in range(0, len(datagram) - KEY + 1, KEY)})
