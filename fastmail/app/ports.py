"""Binds the sockets of a server, and finds other ports for those that are taken."""

import errno
import os
import socket

from fastmail.app import owner
from fastmail.config.machine import Listen, Web
from fastmail.model.errors import ConfigError
from fastmail.net.listener import bind
from fastmail.telemetry import log

PROTOCOLS = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")
FEW = ("smtp", "lmtp")  # of these: mail from other servers, which few workers accept
FURTHER = 500  # ports that are tried after one that is taken
TRIES = 5  # another program may take a port between the look at it and the bind
Sockets = list[list[tuple[str, socket.socket]]]  # for each worker its (protocol, socket) pairs


def move_to_free(listen: Listen) -> list[str]:
    """Replace each TCP port that is taken by the next free one in the settings; return a sentence for each. Ports that
    the settings use for something else are not chosen."""
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
    """False only if somebody else has the port. Other errors are reported when the port is bound."""
    try:
        bind(place, reuse_port=False, listen=False).close()
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
    """Bind the sockets of each worker. Returns them, and a sentence for each port that was taken.

    Mail from other servers is accepted by the first ``delivering`` workers; a Unix socket is shared by all. ``who``:
    the user for whom root binds; Unix sockets in that user's directories are bound with the user's rights. ``move``:
    use the next free port if one is taken; otherwise a taken port is a ConfigError."""
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
                    # sharing a port with a stranger would lose half the mail
                    bind(address, reuse_port=False, listen=False).close()
                for number in range(delivering if protocol in FEW else workers):
                    sockets[number].append((protocol, shared or bind(address)))
    except ConfigError:
        for _, sock in (pair for own in sockets for pair in own):
            sock.close()
        raise
    return sockets
