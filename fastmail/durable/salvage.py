"""Reads LMDB files without LMDB, page by page, to find out whether one is sound and to save the readable rows.

LMDB trusts its file: one flipped bit in a page may end every process that reads the page. So a suspicious file is
walked here first; each page is checked before anything in it is used. The layout is that of LMDB 0.9 with 64 bits,
little-endian. Tables with sorted duplicates are not supported; this program has none.

Promise: ``examine`` changes nothing. ``salvage`` writes a new environment from all readable rows and keeps the old one
beside it. Pages below a damaged branch page are found again as long as only one table is damaged. A row whose own
octets changed without harm to the structure of its page is not recognised here. Cost: about a second per million rows.
"""

import itertools
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import lmdb

from fastmail.durable.replace import sync_directory

MAGIC = 0xBEEFC0DE
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG, SUBTREE = 1, 2
INTEGERS = 8  # flag of the free list: its keys are integers
NONE = 0xFFFFFFFFFFFFFFFF
# The compiled reader has the same layout as offsets (_core/lmdb.pxd).
HEAD = struct.Struct("<QHHHH")  # page number, padding, flags, end of the pointers, start of the nodes
RUN = struct.Struct("<QHHI")  # head of an overflow page: page number, padding, flags, number of pages
TREE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branches, leaves, overflow pages, rows, root
TOP = struct.Struct(f"<IIQQ{TREE.size}s{TREE.size}sQQ")  # see Meta
NODE = struct.Struct("<HHHH")  # lower and upper half of a number, flags, octets of the key
POINTER = struct.Struct("<H")  # offset of a node in its page
NUMBER = struct.Struct("<Q")
SIZES = (4096, 8192, 16384, 32768, 65536)  # octets that a page may have
DEPTH = 32  # pages from a root to a leaf, at most
LONGEST_KEY = 511  # octets
TRIES = 20  # walks of a file in use; each one fails only if two commits happen during it
NO_TOP = "no meta page can be read"
SALVAGED_ROW = b"salvaged"


class Meta(NamedTuple):
    """What a meta page has after its head. ``free`` and ``main``: trees of the free list and of the tables' names."""

    magic: int
    version: int
    address: int
    map_size: int
    free: bytes
    main: bytes
    last: int
    txn: int


def meta_in(page: bytes | memoryview) -> Meta:
    """Return what a meta page has after its head."""
    return Meta._make(TOP.unpack_from(page, HEAD.size))


@dataclass(slots=True)
class Soundness:
    """Result of a walk. ``damage``: one line for each fault; ``rows``: how many could be read; ``hurt``: names of
    tables that may lack rows."""

    damage: list[str] = field(default_factory=list)
    rows: int = 0
    hurt: set[str] = field(default_factory=set)

    def note(self, what: str, table: str = "") -> None:
        """Add a fault. At most 100 are listed, since a damaged file may have millions."""
        if len(self.damage) < 100:
            self.damage.append(f"{table}: {what}" if table else what)
        if table:
            self.hurt.add(table)


class Walk:
    """One pass over a file as its newest readable commit shows it.

    ``txn``: use only the commit of this transaction; ``top``: a meta page to start from instead of those in the file.
    """

    def __init__(self, path: str, txn: int | None = None, top: bytes = b"") -> None:
        self.found = Soundness()
        self._seen: set[int] = set()
        self._kinds = [0, 0, 0]  # pages seen in the present table: branch, leaf, overflow
        self._data: mmap.mmap | bytes = b""
        try:
            with open(os.path.join(path, "data.mdb"), "rb") as file:
                if os.fstat(file.fileno()).st_size:
                    self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            pass  # treated like an empty file
        self.size = 4096
        self.last = 1
        self.free: bytes | None = None
        self.main: bytes | None = None
        self._tops(txn, top)

    def close(self) -> None:
        if isinstance(self._data, mmap.mmap):
            self._data.close()

    def _tops(self, txn: int | None, given: bytes) -> None:
        """Choose the newest of the two meta pages, or take the given one."""
        best = -1
        whole = HEAD.size + TOP.size
        # the second meta page is looked for where it is with the smallest pages, in case the first is damaged
        tops = [self._data[at : at + whole] for at in (0, SIZES[0])]
        sizes = [TREE.unpack(meta_in(top).free)[0] for top in tops if len(top) == whole]
        size = next((s for s in sizes if s in SIZES), SIZES[0])
        for number in (0, 1):
            raw = given[:whole] or self._data[number * size : number * size + whole]
            if len(raw) < whole:
                self.found.note(f"meta page {number} is missing")
                continue
            meta = meta_in(raw)
            flags = HEAD.unpack_from(raw)[2]
            if meta.magic != MAGIC or meta.version != 1 or not flags & META or meta.last >= 1 << 40:
                self.found.note(f"meta page {number} is damaged")
            elif meta.txn > best and (txn is None or meta.txn == txn):
                best, self.size, self.last, self.free, self.main = meta.txn, size, meta.last, meta.free, meta.main
        if best < 0:
            self.found.note(NO_TOP)

    def _page(self, number: int, kind: int) -> bytes | None:
        """Return a page after checking that it is of this kind and was not seen before; else None."""
        at = number * self.size
        if not 1 < number <= self.last or at + self.size > len(self._data) or number in self._seen:
            return None
        page = self._data[at : at + self.size]
        own, _, flags, lower, upper = HEAD.unpack_from(page)
        if own != number or flags != kind or lower < HEAD.size or lower & 1 or not lower <= upper <= self.size:
            return None
        self._seen.add(number)
        self._kinds[kind == LEAF] += 1
        return page

    def _long(self, number: int, size: int) -> bytes | None:
        """Return a value that lies on overflow pages of its own; None if they are damaged."""
        at = number * self.size
        count = -(-(HEAD.size + size) // self.size)
        if not 1 < number <= self.last - count + 1 or at + HEAD.size + size > len(self._data):
            return None
        own, _, flags, pages = RUN.unpack_from(self._data, at)
        run = range(number, number + pages)  # may be more than needed, when the value was longer once
        if own != number or flags != OVERFLOW or not count <= pages <= self.last - number + 1:
            return None
        if not self._seen.isdisjoint(run):
            return None
        self._seen.update(run)
        self._kinds[2] += pages
        return self._data[at + HEAD.size : at + HEAD.size + size]

    def _nodes(self, page: bytes, table: str, kind: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (offset of the key, its length, flags, number) for the readable nodes of a page. ``number`` is the
        length of the value in a leaf, the child page in a branch.

        Nodes fill a page from its end without gaps. A page with gaps is reported, because LMDB would move the wrong
        octets with its next change."""
        _, _, _, lower, upper = HEAD.unpack_from(page)
        places = []
        for (at,) in POINTER.iter_unpack(page[HEAD.size : lower]):
            if at < upper or at + NODE.size > self.size:
                self.found.note("a node lies outside its page", table)
                continue
            low, high, flags, keys = NODE.unpack_from(page, at)
            number = low | high << 16
            value = 0 if kind == BRANCH else NUMBER.size if flags & BIG else number
            places.append((at, at + (NODE.size + keys + value + 1 & ~1)))
            yield at + NODE.size, keys, flags, number if kind == LEAF else number | flags << 32
        places.sort()
        starts, ends = [at for at, _ in places], [end for _, end in places]
        if [*starts, self.size] != [upper, *ends]:
            self.found.note("rows overlap or leave gaps", table)

    def _leaf(self, page: bytes, table: str) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield (key, value, flags) of the readable nodes of a leaf page."""
        known = BIG | SUBTREE if table == "tables" else BIG
        for at, keys, flags, size in self._nodes(page, table, LEAF):
            start = at + keys
            value: bytes | None = page[start : start + (NUMBER.size if flags & BIG else size)]
            if flags & BIG and value is not None and len(value) == NUMBER.size:
                value = self._long(NUMBER.unpack(value)[0], size)
            elif start + size > self.size or flags & BIG:
                value = None
            if value is None or flags & ~known or keys > LONGEST_KEY:
                self.found.note("a row is damaged", table)
                continue
            yield page[at:start], value, flags

    def _branch(self, page: bytes, table: str) -> Iterator[tuple[bytes, int]]:
        """Yield (first key, page number) of the children of a branch page."""
        for at, keys, _, number in self._nodes(page, table, BRANCH):
            yield page[at : at + keys], number

    def tree(self, raw: bytes, table: str) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield all readable rows of a table: (key, value, flags)."""
        padding, flags, depth, branches, leaves, overflow, entries, root = TREE.unpack(raw)
        count = 0
        self._kinds = [0, 0, 0]
        if (padding, flags) != ((0, 0) if table else (self.size, INTEGERS)) or depth > DEPTH:
            self.found.note("its root is damaged", table)
        if root != NONE:
            before = b""
            for row in self._below(root, min(depth, DEPTH), table, b"", b""):
                key = row[0] if table else row[0][::-1]  # keys of the free list are little-endian integers
                if count and key <= before:
                    self.found.note("keys are out of order", table)
                before = key
                count += 1
                yield row
        if count != entries and table not in self.found.hurt:
            self.found.note(f"{entries} rows are counted, {count} exist", table)
        elif self._kinds != [branches, leaves, overflow] and table not in self.found.hurt:
            self.found.note("its pages are not counted right", table)

    def _below(
        self, number: int, depth: int, table: str, low: bytes, high: bytes
    ) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield the rows below a page. Their keys must be at least ``low`` and below ``high`` (empty: no bound)."""
        page = self._page(number, LEAF if depth <= 1 else BRANCH)
        if page is None:
            self.found.note(f"page {number} is damaged", table)
        elif depth <= 1:
            for row in self._leaf(page, table):
                if table and (row[0] < low or b"" < high <= row[0]):
                    self.found.note("a key is not where its branch leads", table)
                yield row
        else:
            children = list(self._branch(page, table))
            for at, (key, child) in enumerate(children):
                first = key if at else low  # LMDB stores no key for the first child of a branch page
                after = children[at + 1][0] if at + 1 < len(children) else high
                yield from self._below(child, depth - 1, table, first, after)

    def tables(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, root) of each table."""
        if self.main is None:
            return
        for key, value, flags in self.tree(self.main, "tables"):
            if flags & SUBTREE and len(value) == TREE.size:
                yield key.decode("utf-8", "replace"), value
            else:
                self.found.note(f"{key[:20]!r} is not a table", "tables")

    def free_list(self) -> set[int]:
        """Return the numbers of free pages. Call it after all tables were walked, to find pages that are both free and
        in use."""
        out: set[int] = set()
        named = 0
        if self.free is None:
            return out
        for _, value, _ in self.tree(self.free, ""):
            count = NUMBER.unpack_from(value)[0] if len(value) >= NUMBER.size else NONE
            if (count + 1) * NUMBER.size > len(value):
                self.found.note("the list of free pages is damaged")
                continue
            pages = struct.unpack_from(f"<{count}Q", value, NUMBER.size)
            if any(one <= after for one, after in itertools.pairwise(pages)):
                self.found.note("the list of free pages is out of order")
            out.update(pages)
            named += count
        if named != len(out):
            self.found.note("the list of free pages names some twice")  # LMDB would use them for two things
        if any(not 1 < number <= self.last for number in out) or not out.isdisjoint(self._seen):
            self.found.note("the list of free pages names pages that are in use")
        return out

    def orphans(self, free: set[int]) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield the rows of leaf pages to which no branch page leads any more."""
        for number in range(2, self.last + 1):
            if number not in self._seen and number not in free:
                page = self._page(number, LEAF)
                if page is not None:
                    yield from self._leaf(page, "")


def misnamed(there: Iterable[str], tables: Iterable[str]) -> set[str]:
    """Return the tables whose names are damaged: unknown names that differ in one octet from a missing one."""
    wanted, names = {*tables, "meta"}, set(there)
    return {name for name in names - wanted for lost in wanted - names if _alike(name, lost)}


def _alike(one: str, other: str) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def examine(path: str, tables: list[str], txn: int | None = None) -> Soundness:
    """Check an environment. No process may write to it, unless the commit ``txn`` is held by a read transaction."""
    walk = Walk(path, txn)
    try:
        every = list(walk.tables())
        for name in misnamed((name for name, _ in every), tables):
            walk.found.note(f"a table {name[:20]!r} is not known", "tables")
        for name, root in every:
            for _ in walk.tree(root, name):
                walk.found.rows += 1
        walk.free_list()
        return walk.found
    finally:
        walk.close()


def sound(path: str, tables: list[str], map_size: int) -> Soundness:
    """Check an environment while other processes have it open and write to it."""
    found = Soundness()
    try:
        env = lmdb.open(path, map_size=map_size, readonly=True, create=False)
    except lmdb.Error as error:
        found.note(str(error))
        return found
    try:
        for _ in range(TRIES):
            with env.begin() as txn:  # keeps LMDB from reusing the pages of this commit during the walk
                found = examine(path, tables, txn.id())
            if NO_TOP not in found.damage:
                break  # else two commits happened in between and replaced this one's meta page: try again
        return found
    finally:
        env.close()


def salvage(
    path: str,
    tables: list[str],
    map_size: int,
    stamp: str,
    empty: bool = True,
    shape: Callable[[str], None] = lambda path: None,
) -> Soundness:
    """Replace an environment by a new one made from its readable rows, with the row SALVAGED_ROW in ``meta``.

    No process may have it open. The old one stays as ``<path>.damaged-<stamp>``. If no row can be read and not
    ``empty``, the old one stays in place. ``shape`` is called with the path of the new one before it replaces the old.
    """
    walk = Walk(path)
    fresh = path + ".salvaged"
    for name in ("data.mdb", "lock.mdb"):
        if os.path.exists(os.path.join(fresh, name)):
            os.unlink(os.path.join(fresh, name))
    os.makedirs(fresh, mode=0o700, exist_ok=True)
    every = [*tables, "meta"]
    env = lmdb.open(fresh, map_size=map_size, max_dbs=len(every), mode=0o600, sync=False)
    try:
        handles = {name: env.open_db(name.encode()) for name in every}
        lost = set(every)
        with env.begin(write=True) as txn:
            for name, root in list(walk.tables()):
                if name not in handles:
                    walk.found.note(f"a table {name[:20]!r} is not known", "tables")
                    continue
                lost.discard(name)
                for key, value, _ in walk.tree(root, name):
                    walk.found.rows += _put(txn, handles[name], key, value)
            walk.found.hurt |= lost if "tables" in walk.found.hurt or walk.main is None else set()
            hurt = walk.found.hurt & set(every)
            free = walk.free_list()
            # A leaf does not name its table, so leaves without a parent are used only if they can belong to one table
            # alone.
            if len(hurt) == 1:
                for key, value, _ in walk.orphans(free):
                    walk.found.rows += _put(txn, handles[next(iter(hurt))], key, value)
            txn.put(SALVAGED_ROW, stamp.encode(), db=handles["meta"])
        env.sync(True)
    finally:
        env.close()
        walk.close()
    if not walk.found.rows and not empty:
        return walk.found
    shape(fresh)
    sync_directory(fresh)
    os.rename(path, f"{path}.damaged-{stamp}")
    os.rename(fresh, path)
    sync_directory(os.path.dirname(path))
    return walk.found


def _put(txn: "lmdb.Transaction[bytes]", table: Any, key: bytes, value: bytes) -> int:
    """Put a row unless there is one with its key; 1 if it was put."""
    return int(bool(key) and len(key) <= 511 and txn.put(key, value, db=table, overwrite=False))
