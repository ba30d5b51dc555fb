"""What every gate needs: a server in a room of its own, and its memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fastmail.bench import machine
from tests.support.server import Server

OPEN = "\n[limits]\nconnections = 20000\nconnections_per_ip = 20000\nauth_failure_delay = 0.05\n"


@contextlib.contextmanager
def running(place: Path, extra: str = OPEN) -> Iterator[Server]:
    """A server while this lasts; AssertionError when its log tells of a bug."""
    server = Server(place, extra)
    server.start()
    try:
        yield server
    finally:
        server.stop()
    text = server.log.read_text()
    assert "event=bug" not in text and "Traceback" not in text, text[-2000:]


def memory(server: Server) -> float:
    """MiB of all processes."""
    assert server.process is not None
    return machine.pss(server.process.pid) / (1 << 20)
