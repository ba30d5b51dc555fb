"""The built-in directory: an LMDB environment that the commands write and every worker reads (directory.rows has its
layout). Written only by commands, by sources that are followed, for better password hashes and for the times of last
logins, each in its own synced transaction.

A domain and its addresses are kept in the spelling (A-labels or U-labels) in which the domain was added, because an
address is the name of a Maildir; every look-up finds it by both.
"""

import os
from contextlib import suppress

from fastmail.directory import membership, rows, sealing, taken
from fastmail.directory.audit import ACTED, CHANGED
from fastmail.directory.followed_lists import FollowedLists
from fastmail.directory.reading import NEXT
from fastmail.directory.rows import ACCOUNTS, COUNTS, DOMAINS, NUL, U64
from fastmail.directory.tables import LAYOUT, MAP, META, TABLES, LmdbTables, Txn
from fastmail.directory.upgrade import FORMER
from fastmail.model.errors import CorruptData


class LocalDirectory(FollowedLists):
    """One in each process."""

    def __init__(self, data_dir: str) -> None:
        super().__init__(LmdbTables(os.path.join(data_dir, "directory"), FORMER))
        self._seal_keys = sealing.KeyFile(data_dir)

    def copied(self, data_dir: str) -> "LocalDirectory":
        """Another directory with the same rows (but for the audit log), to try changes on; to be closed by the
        caller."""
        other = LocalDirectory(data_dir)
        other.sources = self.sources
        other._seal_keys = self._seal_keys
        with self._tables.read() as mine, other._write() as theirs:
            for table in (*TABLES, META):
                if table not in (CHANGED, ACTED):
                    for key, row in mine.items(table):
                        theirs.put(table, key, row)
        return other

    def mend(self) -> None:
        """After damage: numbers lead to their accounts again, also to those whose rows are damaged, none is given out
        twice, the domains of accounts and lists are there, and each domain's addresses are counted again."""
        with self._write() as txn:
            known, damaged = _accounts(txn)
            highest = 0
            for key, value in list(txn.items("numbers")):
                if len(key) == U64.size and value in damaged:
                    highest = max(highest, int(U64.unpack(key)[0]))
                else:
                    txn.delete("numbers", key)
            for key, number in known.items():
                txn.put("numbers", U64.pack(number), key)
                highest = max(highest, number)
                self._have_domain(txn, rows.shown(key))
            for key, _ in list(txn.items("lists")):
                self._have_domain(txn, rows.shown(key))
            for key, row in list(txn.items("domains")):
                with suppress(CorruptData):
                    DOMAINS.unpack(key, row)
                    continue
                txn.delete("domains", key)
                self._have_domain(txn, f"@{key.decode('utf-8', 'replace')}")
            counter = txn.get(META, NEXT)
            given = int(counter) if counter and counter.isdigit() else 1
            txn.put(META, NEXT, b"%d" % max(given, highest + 1))
            _count_again(txn)
            membership.rebuild(txn)
            taken.rebuild_homes(txn)
            self._note(txn, "mend", "directory", "")


def _accounts(txn: Txn) -> tuple[dict[bytes, int], set[bytes]]:
    """(numbers of sound accounts by key, keys of damaged ones)."""
    known: dict[bytes, int] = {}
    damaged = set()
    for key, row in txn.items("accounts"):
        try:
            known[key] = ACCOUNTS.unpack(key, row).id
        except CorruptData:
            damaged.add(key)
    return known, damaged


def _count_again(txn: Txn) -> None:
    counts: dict[bytes, list[int]] = {}
    for at, table in enumerate(("accounts", "aliases")):
        for key, _ in txn.items(table):
            counts.setdefault(key.partition(NUL)[0], [0, 0])[at] += 1
    for key in [key for key, _ in txn.items("counts")]:
        txn.delete("counts", key)
    for key, (accounts, aliases) in counts.items():
        txn.put("counts", key, COUNTS.pack(accounts, aliases))


__all__ = ["LAYOUT", "MAP", "TABLES", "LocalDirectory"]
