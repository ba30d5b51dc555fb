"""The web process (app.website) as its supervisor sees it: its sockets, its certificate, when it starts again.

Promise: it starts only where [web] listen names a place. One that ends is started again, more slowly each time; mail
does not wait for it, and its end ends nothing else.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import NoReturn

from fastmail.app import owner, ports, worker
from fastmail.app.derived import make_web_tls
from fastmail.config.settings import Config
from fastmail.net.tls import ServerTls
from fastmail.telemetry import log

REASON = 16384  # octets of why it did not start
SOON, LATE = 0.1, 60.0  # s until it is started again


class WebProcess:
    """``pid``: 0 while there is none; ``tls``: None where it speaks without TLS."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.pid = 0
        self.tls: ServerTls | None = None
        self._sockets: list[socket.socket] = []
        self._says = -1  # a pipe on which it says that it serves, or why not
        self._begun = self._due = self._delay = 0.0

    @property
    def unix_sockets(self) -> list[str]:
        """Paths that were bound."""
        return [place[5:] for place in self._config.web.listen if place.startswith("unix:")]

    def load_certificate(self) -> None:
        """Read the certificate, as the user who may. ConfigError."""
        self.tls = make_web_tls(self._config)

    def bind(self, mode: int, who: owner.Who | None) -> None:
        self._sockets = ports.bind_web(self._config.web, mode, who)

    def close_sockets(self) -> None:
        """In a child that serves no pages."""
        for sock in self._sockets:
            sock.close()

    @property
    def is_due(self) -> bool:
        """True if it is to be started now."""
        return bool(self._sockets) and not self.pid and time.monotonic() >= self._due

    def start(
        self,
        be_child: Callable[[int, int, Callable[[], None]], NoReturn],
        close_others: Callable[[], None],
        key: Callable[[], list[bytes]] | None,
    ) -> None:
        """Start it. ``be_child`` runs work in the new process and ends that; ``close_others`` closes there what others
        serve; ``key`` gives it the certificate's files where it may not read them."""
        mine = os.getpid()
        hears, says = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(says)
            os.set_blocking(hears, False)
            self._says, self._begun = hears, time.monotonic()
            return

        def serve() -> None:
            from fastmail.app import website  # with libraries that no other process needs

            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            close_others()
            if key is not None and self.tls is not None:
                self.tls.source = key
            website.run(self._config, mine, says, self._sockets, self.tls)

        be_child(hears, says, serve)

    def ended(self, status: int, wanted: bool) -> bytes:
        """It ended; unless that was ``wanted``, it is started again. Returns why it did not serve, if it said so."""
        said = b""
        with contextlib.suppress(OSError):
            said = os.read(self._says, REASON).removeprefix(worker.SERVES)
        os.close(self._says)
        self.pid, lived = 0, time.monotonic() - self._begun
        if wanted:
            return b""
        self._delay = SOON if lived > 10 else min(LATE, max(SOON, self._delay * 2))
        self._due = time.monotonic() + self._delay
        log.event("web.died", "error", status=status, restart_in=self._delay)
        return said
