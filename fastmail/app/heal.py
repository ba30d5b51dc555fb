"""What is done when a worker was ended by what it read: every environment is walked (durable.salvage), a damaged one is
made anew from what can be read while no worker runs, and what is missing then is found again beside the server.

Promise: a sound environment is not touched; the damaged file stays beside the new one. An empty directory of accounts
is never put in the place of one that had some.
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
from fastmail.queue.mend import mend as mend_queue
from fastmail.store.local.recovery import after_salvage
from fastmail.telemetry import log

UNFINISHED = "unfinished"


@dataclass(slots=True)
class Place:
    """An environment: its directory, tables and largest size; ``index``: of messages; ``queue``: of what waits;
    ``needed``: not to be replaced by an empty one."""

    path: str
    tables: list[str]
    map_size: int
    index: bool = False
    queue: bool = False
    needed: bool = False


def places(config: Config) -> list[Place]:
    """The environments that are there."""
    every = [_place(config, kind) for kind in environments.kinds(config)]
    return [place for place in every if os.path.isdir(place.path) and os.listdir(place.path)]


def _place(config: Config, kind: Kind) -> Place:
    path = os.path.join(config.server.data_dir, kind.name)
    needed = kind.name == environments.DIRECTORY
    names = upgrade.tables_of(path) if needed else kind.tables
    return Place(path, names, kind.map_size, kind.is_index, kind.name == environments.QUEUE, needed)


def damaged(config: Config) -> list[tuple[Place, salvage.Soundness]]:
    """Environments that are not sound, looked at beside whoever uses them."""
    out = []
    for place in places(config):
        found = salvage.sound(place.path, place.tables, place.map_size)
        if found.damage:
            out.append((place, found))
    return out


def restore(config: Config) -> list[tuple[Place, salvage.Soundness]]:
    """Make damaged environments anew; nobody may use any. ConfigError when nothing can be saved of the accounts."""
    out = []
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for place in places(config):
        if not salvage.examine(place.path, place.tables).damage:
            continue
        shape = partial(_shape, place)
        found = salvage.salvage(place.path, place.tables, place.map_size, stamp, not place.needed, shape)
        if place.needed and not found.rows:
            raise ConfigError(
                f"no account can be read from {place.path}: restore it (`fastmail restore`), or remove that directory "
                "to begin without accounts"
            )
        if place.needed:
            directory = local.LocalDirectory(config.server.data_dir)
            directory.mend()
            directory.close()
        out.append((place, found))
    return out


def _shape(place: Place, path: str) -> None:
    """What is made of the rows before they are used."""
    if place.queue:
        env = Environment(path, place.tables, spool.LAYOUT, place.map_size)
        mend_queue(env)
        env.close()
    if place.index:
        after_salvage.shape(path, place.map_size)
        with open(os.path.join(path, UNFINISHED), "w", encoding="ascii"):
            pass
    if place.index or place.queue:
        checkpoint.carry_over(place.path, path)


def unfinished(config: Config) -> bool:
    """Was an index made anew, and not compared with the mail yet?"""
    return any(os.path.exists(os.path.join(place.path, UNFINISHED)) for place in places(config))


async def finish(config: Config, told: Callable[[str], None]) -> None:
    """Find again what salvaged indexes lack; beside a running server or without one."""
    async with beside(config) as assembly:
        if after_salvage.salvaged(assembly.store):
            accounts = [assembly.deliverer.account(record) for record in assembly.directory.accounts()]
            await after_salvage.mend(assembly.store, accounts, told)
    for place in places(config):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(place.path, UNFINISHED))


def finish_in_background(config: Config) -> None:
    """The same for a process of the server's."""
    asyncio.run(finish(config, lambda text: log.event("index.mended", "warning", what=text)))
