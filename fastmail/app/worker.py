"""A worker: one event loop that serves every protocol and any account.

SIGTERM: accept no more, end idle sessions, let commands under way finish (GRACE seconds), then finish the store.
SIGHUP: reread the files of [tls]. SIGUSR1: log the counters. Everything is opened here, after the fork.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
from dataclasses import dataclass
from functools import partial

import uvloop

from fastmail.app import renames, revoke
from fastmail.app.assembly import Assembly
from fastmail.app.confine import confine
from fastmail.app.derived import control_template, maildir_template
from fastmail.config.settings import Config
from fastmail.durable import errors
from fastmail.durable.mapped import MappedPages
from fastmail.model.errors import CorruptData
from fastmail.net.handover import Exchange, Handover
from fastmail.net.listener import Registry
from fastmail.net.sni import hush_bad_names
from fastmail.net.tls import ServerTls, reload_beside
from fastmail.telemetry import counters, log

GRACE = 8.0  # s that commands under way may take after SIGTERM; less than the supervisor's STOP_AFTER
SERVES = b"\1"  # on the pipe to the supervisor: this worker accepts connections
PANIC = 70  # exit status: an index file cannot be used by this process any more
M_ARENA_MAX = -8
M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1
PR_SET_PDEATHSIG = 1
GIVE_BACK = 5.0  # s between two looks whether the index takes much memory that nobody needs now


@dataclass(frozen=True, slots=True)
class Serving:
    """Which worker this is: its number, of how many, its supervisor's process, and the pipe on which it says SERVES."""

    number: int
    workers: int
    supervisor: int
    pipe: int
    exchange: Exchange | None  # None where no worker helps another

    def say(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.pipe, SERVES)


def run(
    config: Config, serving: Serving, instance: str, sockets: list[tuple[str, socket.socket]], tls: ServerTls | None
) -> None:
    """Serve until SIGTERM, or until the supervisor is gone."""
    number, workers = serving.number, serving.workers
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 2)  # many short threads must not each keep an arena
        libc.mallopt(M_MMAP_THRESHOLD, 4 << 20)  # what a password hash takes goes back at once
        libc.mallopt(M_TRIM_THRESHOLD, 8 << 20)  # what a search takes again and again does not
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))  # no worker outlives its supervisor
    if os.getppid() != serving.supervisor:
        return
    _confine(config, number, workers)
    sys.setswitchinterval(0.001)
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        uvloop.run(_main(config, serving, instance, sockets, tls))
    except CorruptData as error:
        log.event("worker.corrupt", "error", worker=number, error=error)
        os._exit(PANIC)


def _confine(config: Config, number: int, workers: int) -> None:
    """Keep this worker to its directories. One that runs other programs is left alone: they have files of their own."""
    if not config.server.confine:
        return
    programs = number == workers - 1 and any(" pipe:" in route.lower() for route in config.relay.routes)
    why = "it runs programs ([relay] routes)" if programs else ""
    if not why:
        templates = maildir_template(config), control_template(config)
        mail = [path for path in (template.partition("{")[0] for template in templates) if path]
        mail = [path if os.path.isdir(path) else os.path.dirname(path) for path in mail]
        places = [config.server.data_dir, config.server.run_dir]
        mail += [config.store.homes] if config.store.homes else []
        places += [path for path in mail if not path.startswith(config.server.data_dir + "/")]
        for one in (config.directory, *config.source):
            if one.sql.startswith("sqlite:"):  # readers of a database write beside it
                places.append(os.path.dirname(os.path.join(config.base, one.sql.removeprefix("sqlite:"))))
        staging = os.path.join(config.server.data_dir, "staging")
        for path in [*places, staging]:
            os.makedirs(path, mode=0o700, exist_ok=True)
        why = confine(places)
        os.environ["TMPDIR"] = staging
    log.event("worker.confined" if not why else "worker.unconfined", worker=number, **({"why": why} if why else {}))


async def _main(
    config: Config, serving: Serving, instance: str, sockets: list[tuple[str, socket.socket]], tls: ServerTls | None
) -> None:
    number, workers = serving.number, serving.workers
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    errors.panic = partial(os._exit, PANIC)  # the supervisor starts another one
    for which in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(which, stop.set)
    hush_bad_names()
    loop.add_signal_handler(signal.SIGHUP, reload_beside, loop, tls)
    loop.add_signal_handler(signal.SIGUSR1, _report, number)
    assembly = Assembly(config, number, instance, recover=number == 0)
    assembly.hub.start(loop, workers)
    await assembly.start()
    assembly.follow_texts(number == 0)
    assembly.follow_moves(number == 0)
    if number == 0:
        assembly.follow_accounts()
        assembly.follow_keys()
        assembly.expire()
    if number == workers - 1 and config.relay.enabled:
        assembly.start_relay()
    registry = Registry()
    handover = Handover(serving.exchange, number) if serving.exchange is not None else None
    listeners = await assembly.listen(sockets, tls, registry, handover)
    sweep = loop.create_task(registry.sweep())
    renaming = loop.create_task(renames.at_start(assembly)) if number == 0 else None
    revoking = loop.create_task(revoke.watch(assembly.directory, registry, assembly.verifier.has_expired))
    giving_back = loop.create_task(_give_back())
    log.event("worker.ready", worker=number)
    serving.say()
    await stop.wait()
    if handover is not None:
        handover.close()
    for listener in listeners:
        listener.close()
    deadline = loop.time() + GRACE
    for connection in list(registry.connections):
        if not connection.busy and not connection.closing and connection.session is not None:
            connection.session.timed_out()
    while registry.connections and loop.time() < deadline:
        await asyncio.sleep(0.02)
        for connection in list(registry.connections):
            if not connection.busy and not connection.closing:
                connection.close()
    for connection in list(registry.connections):
        connection.abort()
    sweep.cancel()
    revoking.cancel()
    giving_back.cancel()
    if renaming is not None:
        renaming.cancel()
    await assembly.close()
    _report(number)


async def _give_back() -> None:
    """Keep what idle sessions once read of the index from counting as this worker's memory; runs as long as it."""
    loop, mapped = asyncio.get_running_loop(), MappedPages()
    while True:
        await asyncio.sleep(GIVE_BACK)
        await loop.run_in_executor(None, mapped.release)


def _report(number: int) -> None:
    log.event("counters", worker=number, **{k.replace(".", "_"): v for k, v in counters.snapshot().items()})
