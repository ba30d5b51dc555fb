"""How full the map of an LMDB environment is. RESERVE, a part of it, is kept for operations that remove or change, so
that deleting always finds room.
"""

import time
from collections.abc import Mapping
from typing import Any

from fastmail.durable.transaction import Reading
from fastmail.telemetry import log

RESERVE = 16  # one sixteenth of the map
TOLD = 60.0  # s between two log events about the same full map


class Space:
    """The map of one open environment. ``page``: octets of a page; ``tables``: by name."""

    def __init__(self, path: str, env: Any, page: int, tables: Mapping[str, Any]) -> None:
        self._path = path
        self._env = env
        self._page = page
        self._tables = tables
        self._told = 0.0  # when the last log event about a full map was written

    def tight(self) -> bool:
        """True if the data file has grown into the reserve at the end of the map.

        From then on there may be free pages between the data, but perhaps no run of several adjacent ones, as long
        values need."""
        info = self._env.info()
        most = info["map_size"] - info["map_size"] // RESERVE
        return bool((info["last_pgno"] + 1) * self._page > most)

    def crowded(self, txn: Reading) -> bool:
        """True if so much of the map is used that nothing may be added.

        While at least half of the reserve is still free at the end of the map, data may fill all but the reserve. After
        that the limit is half of the map, so that long values find adjacent free pages."""
        if not self.tight():
            return False
        info = self._env.info()
        size, reserve = info["map_size"], info["map_size"] // RESERVE
        behind = size - (info["last_pgno"] + 1) * self._page
        used = sum(self._octets(txn, name) for name in self._tables)
        if used <= (size - reserve if behind > reserve // 2 else size // 2):
            return False
        self.tell_full(used)
        return True

    def tell_full(self, used: int) -> None:
        """Log that the map is full, at most once in TOLD seconds. ``used``: octets of the map in use."""
        if time.monotonic() - self._told > TOLD or not self._told:
            self._told = time.monotonic()
            then = "raise index_map_size ([store]) or map_size ([relay]) and restart, or remove mail"
            log.event("index.full", "error", path=self._path, used=used, size=self._env.info()["map_size"], then=then)

    def _octets(self, txn: Reading, name: str) -> int:
        """Octets of all pages of a table."""
        stat = txn.stat(self._tables[name])
        return int(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) * self._page
