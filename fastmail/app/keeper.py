"""The keeper: a process that takes checkpoints of the index and the queue, so that no worker has to wait for them.

It opens the environments before any worker does, so the state after an unclean stop is recovered here. It closes them
after all workers have ended; then the next start has nothing to replay. If a keeper dies, the journal only grows
longer; the supervisor starts another keeper. When a worker dies, the supervisor tells the keeper, which notes that in
the environments: the worker may have left files without a commit.
"""

import os
import signal
import time
from contextlib import suppress
from functools import partial

from fastmail.app.assembly import Assembly
from fastmail.config.settings import Config
from fastmail.durable.env import Environment
from fastmail.durable.mapped import MappedPages
from fastmail.model.errors import MailError
from fastmail.queue.spool import open_queue
from fastmail.store.local.index.shard import open_index
from fastmail.store.local.recovery.file_locations import FileLocations
from fastmail.telemetry import log

READY = b"\1"
DIED = signal.SIGUSR1  # from the supervisor: a worker has died
LOOK = 0.25  # s between looks at how much was written
SECONDS = 5.0  # after which something that was written is in a checkpoint
OCTETS = 32 << 20  # of journal, after which there is one sooner
ORPHANED = 15.0  # s that it goes on when its supervisor is gone: the workers end meanwhile


def environments(config: Config) -> list[Environment]:
    """Open all environments that have a journal. Those that were not closed cleanly are recovered."""
    assembly = Assembly(config)
    data, size = config.server.data_dir, config.store.index_map_size
    owner = partial(FileLocations, assembly.store.home_of)
    every = [open_index(data, n, size, owner) for n in range(config.store.shards)]
    if config.relay.enabled or os.path.isdir(os.path.join(data, "queue", "index")):
        every.append(open_queue(data, config.relay.map_size))
    return every


def run(config: Config, supervisor: int, pipe: int) -> None:
    """Take checkpoints until SIGTERM. READY goes to the pipe when the environments are open."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_SETMASK, {*ends, signal.SIGHUP, DIED})
    every = environments(config)
    # An earlier server's keeper goes on for a while when that server was killed. Nobody recovers an environment that it
    # has open, and nobody could tell it which workers died.
    _note_stop([env for env in every if env.joined])
    with suppress(OSError):
        os.write(pipe, READY)
    log.event("keeper.ready", environments=len(every))
    last = given_back = 0.0
    mapped = MappedPages()  # a checkpoint looks at pages all over the index
    while not last or time.monotonic() < last:
        for env in every:
            env.checkpoint(SECONDS, OCTETS)
        if time.monotonic() - given_back > SECONDS:
            mapped.release()
            given_back = time.monotonic()
        if os.getppid() != supervisor and not last:
            last = time.monotonic() + ORPHANED
        heard = signal.sigtimedwait({*ends, DIED}, LOOK)
        if heard is not None and heard.si_signo == DIED:
            _note_stop(every)
        elif heard is not None:
            break
    for env in every:
        env.close()


def _note_stop(every: list[Environment]) -> None:
    for env in every:
        try:
            env.note_stop()
        except MailError as error:  # what the worker left may become a second copy of a message
            log.event("keeper.unnoted", "warning", path=env.path, error=error)
