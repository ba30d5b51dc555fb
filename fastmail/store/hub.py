"""The change hub: who looks at which mailbox, and who must be told that it changed.

Inside a worker a change calls back the sessions that watch the mailbox, and those that watch its whole account. Other
workers hear of it by a doorbell: one datagram with the keys of a whole commit, on a Unix socket of each worker that may
have a watcher: workers share maps of what they watch, a bit for each mailbox by the hash of its key. A lost datagram (a
full socket buffer) is made good by the next one or by the client's next command, because sessions always read the index
itself.

What others put into it is not heard: the kernel says who sent a datagram.

Rule: commit, then publish, then reply, in that order.
"""

import asyncio
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable

from fastmail.store.interface import EVERYTHING
from fastmail.store.views import Views
from fastmail.store.watchmap import WatchMap
from fastmail.telemetry import log

KEY = 12
ACCOUNT = 8
PEER = struct.Struct("=iII")  # process, user, group (unix(7))
MAX_KEYS = 4000


def _is_ours(level: int, kind: int, data: bytes) -> bool:
    """Are these the credentials of a sender who is root, or the server's own user?"""
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) or len(data) < PEER.size:
        return False
    return PEER.unpack_from(data)[1] in (0, os.geteuid())


def whole(key: bytes) -> bytes:
    """What watchers of everything in the account of this mailbox watch."""
    return key[:ACCOUNT] + EVERYTHING


class Hub:
    """Watchers of one worker. ``directory`` holds the workers' doorbells; empty for a single process."""

    def __init__(self, directory: str = "", worker: int = 0) -> None:
        self._watchers: defaultdict[bytes, set[Callable[[], None]]] = defaultdict(set)
        self._directory = directory
        self._name = f"doorbell.{worker}"
        self._socket: socket.socket | None = None
        self._peers: list[tuple[str, WatchMap | None]] = []
        self._map: WatchMap | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
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
        path = os.path.join(self._directory, self._name)
        if os.path.exists(path):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(path)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        os.chmod(path, 0o600)
        own = int(self._name.rpartition(".")[2])
        self._map = WatchMap(os.path.join(self._directory, f"watched.{own}"), own=True)
        for n in range(workers):
            if n != own:
                watched = WatchMap(os.path.join(self._directory, f"watched.{n}"), own=False)
                self._peers.append((os.path.join(self._directory, f"doorbell.{n}"), watched))
        self.views.start(self._directory, own, workers)
        self._loop = loop
        loop.add_reader(self._socket.fileno(), self._rung)

    def join(self, directory: str) -> None:
        """Ring the doorbells of a running server from a process that has none itself (a command)."""
        try:
            names = [name for name in os.listdir(directory) if name.startswith("doorbell.")]
        except OSError:
            return
        if names:
            self.views.beside()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._peers = [(os.path.join(directory, name), None) for name in names]

    def close(self) -> None:
        if self._socket is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

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
        if self._socket is None or not changed:
            return
        for peer, watched in self._peers:
            flat = [key for key in changed if watched is None or watched.has(key) or watched.has(whole(key))]
            for start in range(0, len(flat), MAX_KEYS):
                datagram = b"".join(flat[start : start + MAX_KEYS])
                try:
                    self._socket.sendto(datagram, peer)
                except OSError:
                    continue  # that worker is starting, gone or busy; its sessions read the index anyway

    def tell(self, keys: Iterable[bytes]) -> None:
        """Call back the watchers in this worker, those of a whole account once."""
        told = set(keys)
        for key in told | {whole(key) for key in told}:
            for callback in tuple(self._watchers.get(key, ())):
                try:
                    callback()
                except Exception as error:  # one session's bug is not the others'
                    log.event("hub.bug", "error", error=repr(error))

    def _rung(self) -> None:
        assert self._socket is not None
        for _ in range(64):
            try:
                datagram, rest, *_ = self._socket.recvmsg(KEY * MAX_KEYS, socket.CMSG_SPACE(PEER.size))
            except (BlockingIOError, InterruptedError):
                return
            if not any(_is_ours(*one) for one in rest):
                continue
            self.tell({datagram[i : i + KEY] for i in range(0, len(datagram) - KEY + 1, KEY)})
