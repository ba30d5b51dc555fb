"""fastmail.app.ports: a port that somebody has is left to them, and said."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastmail.app import ports
from fastmail.config.machine import Listen, Web
from fastmail.model.errors import ConfigError
from tests.support.ports import free_ports


@pytest.fixture
def others() -> Iterator[ExitStack]:
    """Sockets of other programs."""
    with ExitStack() as stack:
        yield stack


def take(others: ExitStack, port: int) -> None:
    sock = others.enter_context(socket.socket())
    sock.bind(("127.0.0.1", port))
    sock.listen()


def bound(sockets: ports.Sockets) -> list[tuple[str, int]]:
    found = [(name, sock.getsockname()[1]) for own in sockets for name, sock in own]
    for own in sockets:
        for _, sock in own:
            sock.close()
    return found


def listening(**places: int) -> Listen:
    return Listen(**{name: [f"127.0.0.1:{port}"] for name, port in places.items()})


def test_a_port_that_is_free_is_used(others: ExitStack) -> None:
    imap, lmtp = free_ports(2)
    listen = listening(imap=imap, lmtp=lmtp)
    sockets, moved = ports.bind_all(listen, 2, 1, 0o660, None, move=True)
    assert moved == [] and bound(sockets) == [("lmtp", lmtp), ("imap", imap), ("imap", imap)]


def test_a_port_that_is_taken_is_an_error_or_the_next_free_one(others: ExitStack) -> None:
    (imap,) = free_ports(1)
    take(others, imap)
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{imap}: Address already in use"):
        ports.bind_all(listening(imap=imap), 1, 1, 0o660, None)
    listen = listening(imap=imap, imaps=imap + 1)
    sockets, moved = ports.bind_all(listen, 1, 1, 0o660, None, move=True)
    (first, second) = bound(sockets)
    assert first[1] > imap + 1 and second == ("imaps", imap + 1), "which the settings name elsewhere is left to those"
    assert moved == [f"port {imap} is taken: imap is at 127.0.0.1:{first[1]}"] and listen.imap == [
        f"127.0.0.1:{first[1]}"
    ]


def test_a_port_that_is_taken_at_the_last_moment(others: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    (imap,) = free_ports(1)
    look = ports.move_to_free
    rivals = [1, 1]

    def looked(listen: Listen) -> list[str]:
        found = look(listen)
        if rivals:
            rivals.pop()
            take(others, int(listen.imap[0].rpartition(":")[2]))
        return found

    monkeypatch.setattr(ports, "move_to_free", looked)
    sockets, moved = ports.bind_all(listening(imap=imap), 1, 1, 0o660, None, move=True)
    ((_, at),) = bound(sockets)
    assert at > imap + 1 and len(moved) == 2 and moved[-1].endswith(f"imap is at 127.0.0.1:{at}")


def test_other_trouble_is_told(others: ExitStack) -> None:
    listen = Listen(imap=["192.0.2.77:14300"])
    with pytest.raises(ConfigError, match="cannot listen on 192.0.2.77:14300"):
        ports.bind_all(listen, 1, 1, 0o660, None, move=True)


def test_sockets_of_the_web_server(others: ExitStack, tmp_path: Path) -> None:
    first, second = free_ports(2)
    path = str(tmp_path / "s")
    places = [f"127.0.0.1:{first}", f"unix:{path}"]
    sockets = ports.bind_web(Web(places), 0o660, None)
    assert [sock.getsockname() for sock in sockets] == [("127.0.0.1", first), path]
    for sock in sockets:
        sock.close()
    take(others, second)
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{second}"):
        ports.bind_web(Web([f"127.0.0.1:{first}", f"127.0.0.1:{second}"]), 0o660, None)
    ports.bind_web(Web([f"127.0.0.1:{first}"]), 0o660, None)[0].close()


@pytest.mark.parametrize("move", [False, True])
def test_only_sockets_that_stay_open_listen(monkeypatch: pytest.MonkeyPatch, move: bool) -> None:
    """A client that connects while the server starts would be reset with a socket that only tries the port."""
    listened: list[socket.socket] = []
    real = socket.socket.listen
    monkeypatch.setattr(socket.socket, "listen", lambda sock, *args: (listened.append(sock), real(sock, *args)))
    sockets, _ = ports.bind_all(listening(imap=free_ports(1)[0], lmtp=free_ports(1)[0]), 3, 1, 0o600, None, move)
    assert len(listened) == 4 and set(listened) == {sock for own in sockets for _, sock in own}
    bound(sockets)
