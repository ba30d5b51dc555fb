"""The doctor: repairs damaged LMDB files. It runs after a crash of a worker that may have been caused by what it read.

Every environment is examined (durable.salvage). While no worker runs, a damaged one is rebuilt from the rows that can
be read. Then the server starts, and beside it messages that the rebuilt index lacks are found again on the disk.

Promise: a sound environment is not touched; the damaged file stays beside the new one. An empty directory of accounts
never replaces one that had some.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from fastmail.app import environments
from fastmail.app.assembly import beside
from fastmail.app.environments import Kind
from fastmail.config.settings import Config
from fastmail.directory import local, upgrade
from fastmail.durable import checkpoint, salvage
from fastmail.durable.env import Environment
from fastmail.model.errors import ConfigError
from fastmail.queue import spool
from fastmail.queue.repair import repair as repair_queue
from fastmail.store.local.recovery import after_salvage
from fastmail.telemetry import log

UNFINISHED = "unfinished"


@dataclass(slots=True)
class EnvironmentFiles:
    """An environment on the disk: its directory, tables and largest size. ``index``, ``queue``: it is a shard of the
    index, or the queue's; ``needed``: never replaced by an empty one."""

    path: str
    tables: list[str]
    map_size: int
    index: bool = False
    queue: bool = False
    needed: bool = False


def damageable(config: Config) -> list[EnvironmentFiles]:
    """Return the environments that exist."""
    every = [_files(config, kind) for kind in environments.kinds(config)]
    return [files for files in every if os.path.isdir(files.path) and os.listdir(files.path)]


def _files(config: Config, kind: Kind) -> EnvironmentFiles:
    path = os.path.join(config.server.data_dir, kind.name)
    needed = kind.name == environments.DIRECTORY
    names = upgrade.tables_of(path) if needed else kind.tables
    return EnvironmentFiles(path, names, kind.map_size, kind.is_index, kind.name == environments.QUEUE, needed)


def damaged(config: Config) -> list[tuple[EnvironmentFiles, salvage.Soundness]]:
    """Return the damaged environments. They may be in use meanwhile."""
    out = []
    for files in damageable(config):
        found = salvage.sound(files.path, files.tables, files.map_size)
        if found.damage:
            out.append((files, found))
    return out


def restore(config: Config) -> list[tuple[EnvironmentFiles, salvage.Soundness]]:
    """Rebuild the damaged environments and return them. No process may have one open. ConfigError if no account can be
    read."""
    out = []
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for files in damageable(config):
        if not salvage.examine(files.path, files.tables).damage:
            continue
        shape = partial(_shape, files)
        found = salvage.salvage(files.path, files.tables, files.map_size, stamp, not files.needed, shape)
        if files.needed and not found.rows:
            raise ConfigError(
                f"no account can be read from {files.path}: restore it (`fastmail restore`), or remove that directory "
                "to begin without accounts"
            )
        if files.needed:
            directory = local.LocalDirectory(config.server.data_dir)
            directory.mend()
            directory.close()
        out.append((files, found))
    return out


def _shape(files: EnvironmentFiles, path: str) -> None:
    """Make the salvaged rows at ``path`` consistent, before any process uses them."""
    if files.queue:
        env = Environment(path, files.tables, spool.LAYOUT, files.map_size)
        repair_queue(env)
        env.close()
    if files.index:
        after_salvage.shape(path, files.map_size)
        with open(os.path.join(path, UNFINISHED), "w", encoding="ascii"):
            pass
    if files.index or files.queue:
        checkpoint.carry_over(files.path, path)


def unfinished(config: Config) -> bool:
    """True if an index was rebuilt and not yet compared with the mail."""
    return any(os.path.exists(os.path.join(files.path, UNFINISHED)) for files in damageable(config))


async def finish(config: Config, told: Callable[[str], None]) -> None:
    """Find messages that rebuilt indexes lack. The server may be running. ``told`` is called with what was found."""
    async with beside(config) as assembly:
        if after_salvage.salvaged(assembly.store):
            accounts = [assembly.deliverer.account(record) for record in assembly.directory.accounts()]
            await after_salvage.repair(assembly.store, accounts, told)
    for files in damageable(config):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(files.path, UNFINISHED))


def finish_in_background(config: Config) -> None:
    """Do the same as a process of the server, which logs what was found."""
    asyncio.run(finish(config, lambda text: log.event("index.mended", "warning", what=text)))
