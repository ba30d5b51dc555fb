"""The web process: one event loop that serves the pages of fastmail.admin, and nothing of mail.

What strangers send to a web server reaches no process that has mailboxes open, and a fault there costs no mail. It
opens the directory alone, and may write there alone where the kernel can see to that.

SIGTERM: accept no more, and let requests under way finish (GRACE seconds). SIGHUP: reread the certificate.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from collections.abc import Sequence

import uvloop

from fastmail.admin.http import REFUSAL, HttpSession
from fastmail.admin.site import application
from fastmail.app.confine import confine
from fastmail.app.derived import limits, users_of
from fastmail.app.worker import GRACE, PR_SET_PDEATHSIG, SERVES
from fastmail.config.settings import Config
from fastmail.directory.local import LocalDirectory
from fastmail.net import networks
from fastmail.net.listener import Listener, Registry
from fastmail.net.sni import hush_bad_names
from fastmail.net.tls import ServerTls, reload_beside
from fastmail.telemetry import counters, log

ACTOR = "web"  # in the audit log


def run(config: Config, supervisor: int, pipe: int, sockets: Sequence[socket.socket], tls: ServerTls | None) -> None:
    """Serve until SIGTERM, or until the supervisor is gone. SERVES goes to the pipe once it does."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))  # it does not outlive its supervisor
    if os.getppid() != supervisor:
        return
    _confine(config)
    uvloop.run(_main(config, pipe, sockets, tls))


def _confine(config: Config) -> None:
    if not config.server.confine:
        return
    data = config.server.data_dir
    staging = os.path.join(data, "staging")  # of TLS keys, for a moment (net.tls)
    places = [os.path.join(data, "directory"), staging]
    for path in places:
        os.makedirs(path, mode=0o700, exist_ok=True)
    why = confine(places)
    os.environ["TMPDIR"] = staging
    log.event("web.confined" if not why else "web.unconfined", **({"why": why} if why else {}))


async def _main(config: Config, pipe: int, sockets: Sequence[socket.socket], tls: ServerTls | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    hush_bad_names()
    loop.add_signal_handler(signal.SIGHUP, reload_beside, loop, tls)
    loop.add_signal_handler(signal.SIGUSR1, _report)
    directory = LocalDirectory(config.server.data_dir)
    directory.actor = ACTOR
    registry = Registry()
    listeners = await _listen(config, directory, registry, sockets, tls)
    sweep = loop.create_task(registry.sweep())
    log.event("web.ready", places=config.web.listen)
    with contextlib.suppress(OSError):
        os.write(pipe, SERVES)
    await stop.wait()
    for listener in listeners:
        listener.close()
    deadline = loop.time() + GRACE
    while registry.connections and loop.time() < deadline:
        for connection in list(registry.connections):
            if not connection.busy and not connection.closing:
                connection.close()
        await asyncio.sleep(0.02)
    for connection in list(registry.connections):
        connection.abort()
    sweep.cancel()
    directory.close()
    _report()


async def _listen(
    config: Config,
    directory: LocalDirectory,
    registry: Registry,
    sockets: Sequence[socket.socket],
    tls: ServerTls | None,
) -> list[Listener]:
    """Accept on the bound sockets."""
    web = config.web
    bounds = limits(config)
    bounds.connections, bounds.connections_per_ip = web.connections, web.connections_per_ip
    app = application(directory, web.url)
    # a reverse proxy that has the certificate speaks HTTP, not the PROXY protocol of those who pass on octets
    balancers = () if web.plain else [networks.parse(text) for text in config.listen.proxy_protocol]
    out = []
    for sock in sockets:
        listener = Listener(
            registry,
            lambda connection: HttpSession(app, connection),
            bounds,
            REFUSAL,
            tls,
            tls is not None,
            balancers,
            alpn="http/1.1",
            users=users_of(config.listen.unix_users),
        )
        await listener.start(sock)
        out.append(listener)
    return out


def _report() -> None:
    log.event("counters", process="web", **{k.replace(".", "_"): v for k, v in counters.snapshot().items()})
