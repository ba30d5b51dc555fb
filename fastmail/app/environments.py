"""Every LMDB environment that this program keeps below the data directory, in one table: what looks for damage, says
layouts and makes backups goes by it. A test compares it with what the code opens, so that none is forgotten.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fastmail.config.settings import Config
from fastmail.delivery import history
from fastmail.directory import tables, upgrade
from fastmail.durable.layouts import Former
from fastmail.feedback import days
from fastmail.net import bans
from fastmail.policy.learning import counts
from fastmail.queue import spool
from fastmail.store.local.index import layout, shard

DIRECTORY, QUEUE, BANS, TRACE, LEARNED, FEEDBACK = "directory", "queue/index", "bans", "trace", "learned", "feedback"
QUARANTINE = "quarantine"  # which is no environment: a directory of files
DATA = "data.mdb"
ROWS = "rows"  # a backup has the rows as they are
ITEMS = "items"  # a backup reads what the rows are about: messages, accounts
APART = "apart"  # a backup leaves it out, because it goes on from where it is


@dataclass(frozen=True, slots=True)
class Kind:
    """One environment. ``name``: its directory below the data directory; ``tables``, ``layout``, ``map_size`` and
    ``former``: as the module that opens it has them; ``backup``: ROWS, ITEMS or APART."""

    name: str
    tables: list[str]
    layout: int
    map_size: int
    backup: str
    former: Sequence[Former] = ()

    def is_converted(self, tables: Collection[str]) -> bool:
        """True if an environment with these tables has none of an earlier layout that are still to be converted."""
        return not any(one.tables <= set(tables) for one in self.former)

    @property
    def is_index(self) -> bool:
        """True for an index of messages."""
        return self.name.startswith("index-")


def kinds(config: Config) -> list[Kind]:
    """All of them, whether they are there or not."""
    size = config.store.index_map_size
    trace = max(size, config.relay.trace_size + history.MORE)  # it may have been made with a larger limit
    every = [
        Kind(DIRECTORY, tables.TABLES, tables.LAYOUT, tables.MAP, ITEMS, upgrade.FORMER),
        Kind(QUEUE, spool.TABLES, spool.LAYOUT, config.relay.map_size, APART),
        Kind(BANS, bans.TABLES, bans.LAYOUT, bans.MAP, ROWS),
        Kind(TRACE, history.TABLES, history.LAYOUT, trace, ROWS),
        Kind(LEARNED, counts.TABLES, counts.LAYOUT, counts.MAP, ROWS),
        Kind(FEEDBACK, days.TABLES, days.LAYOUT, days.MAP, ROWS),
    ]
    indexes = [f"index-{n}" for n in range(config.store.shards)]
    return every + [Kind(name, layout.TABLES, layout.LAYOUT, size, ITEMS, shard.FORMER) for name in indexes]


def is_there(config: Config, kind: Kind) -> bool:
    """True if the environment exists on the disk."""
    return os.path.exists(os.path.join(config.server.data_dir, kind.name, DATA))
