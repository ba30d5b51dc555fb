"""The sockets of a server, and where they are when a port is taken."""

import errno
import os
import socket

from fastmail.app import owner
from fastmail.config.settings import Listen, Web
from fastmail.model.errors import ConfigError
from fastmail.net.listener import bind
from fastmail.telemetry import log

PROTOCOLS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
FURTHER = 500  # ports that are tried behind one that is taken
TRIES = 5  # another program may take a port between the look at it and the bind
Sockets = list[list[tuple[str, socket.socket]]]  # for each worker its (protocol, socket) pairs


def move_to_free(listen: Listen) -> list[str]:
    """Where a TCP port is taken, put the next free one into the settings; a sentence for each. Ports that the settings
    name elsewhere are left to those."""
    named = {place.rpartition(":")[2] for name in PROTOCOLS for place in getattr(listen, name)}
    moved = []
    for name in PROTOCOLS:
        places: list[str] = getattr(listen, name)
        for at, place in enumerate(places):
            host, _, port = place.rpartition(":")
            if place.startswith("unix:") or _free(place):
                continue
            for number in range(int(port) + 1, min(int(port) + FURTHER, 65536)):
                if str(number) not in named and _free(f"{host}:{number}"):
                    places[at] = f"{host}:{number}"
                    named.add(str(number))
                    moved.append(f"port {port} is taken: {name} is at {places[at]}")
                    log.event("port.taken", "warning", port=port, instead=places[at])
                    break
    return moved


def _free(place: str) -> bool:
    """False only where somebody else has it; other trouble is told when it is bound for good."""
    try:
        bind(place, reuse_port=False).close()
    except ConfigError as error:
        return not _taken(error)
    return True


def _taken(error: ConfigError) -> bool:
    """True if a place could not be bound because somebody else has it."""
    cause = error.__context__
    return isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE


def bind_all(
    listen: Listen, workers: int, delivering: int, mode: int, who: owner.Who | None, move: bool = False
) -> tuple[Sockets, list[str]]:
    """The sockets of each worker, and a sentence for each port that was taken. Mail from other servers is taken by the
    first ``delivering`` workers; a Unix socket is shared by all. ``who``: whom root works for, who binds the Unix
    sockets in directories of its own. ``move``: use the next free port where one is taken; without, that is a
    ConfigError."""
    moved: list[str] = []
    for _ in range(TRIES if move else 0):
        moved += move_to_free(listen)
        try:
            return _bind(listen, workers, delivering, mode, who), moved
        except ConfigError as error:
            if not _taken(error):
                raise
    return _bind(listen, workers, delivering, mode, who), moved


def _bind_unix(address: str, mode: int, who: owner.Who | None) -> socket.socket:
    root = who is None or owner.trusted(os.path.dirname(address[5:]), who)
    with owner.acting(None if root else who):
        return bind(address, mode=mode)


def bind_web(web: Web, mode: int, who: owner.Who | None) -> list[socket.socket]:
    """Return the sockets of the web process. None is moved to a free port: links in mail name the port."""
    sockets: list[socket.socket] = []
    try:
        for address in web.listen:
            unix = address.startswith("unix:")
            sockets.append(_bind_unix(address, mode, who) if unix else bind(address, reuse_port=False))
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _bind(listen: Listen, workers: int, delivering: int, mode: int, who: owner.Who | None) -> Sockets:
    sockets: Sockets = [[] for _ in range(workers)]
    try:
        for protocol in PROTOCOLS:
            for address in getattr(listen, protocol):
                shared = None
                if address.startswith("unix:"):
                    shared = _bind_unix(address, mode, who)
                else:
                    bind(address, reuse_port=False).close()  # sharing a port with a stranger would lose half the mail
                for number in range(delivering if protocol in ("smtp", "lmtp") else workers):
                    sockets[number].append((protocol, shared or bind(address)))
    except ConfigError:
        for _, sock in (pair for own in sockets for pair in own):
            sock.close()
        raise
    return sockets
