"""Reads rows of LMDB tables straight from the pages of its file, many to a call, and other runs of rows the same way.

A row by LMDB's cursor costs two memoryviews and a mutex; thousands of rows for one answer cost more than the answer.
The file's layout is LMDB 0.9's, 64 bits, little-endian (as in durable/salvage.py); the caller holds a read transaction
open, so that nothing of its snapshot is written to meanwhile. Keys of messages end in the UID, 4 octets big-endian,
behind the mailbox's prefix of 12; values are u16 length, so many octets of the backend's own, then the summary.

Promise: nothing is read outside the map or the row's page. Fails with Damaged where a page is not what it should be.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastmail._core.octets cimport get16, get32, get64
from fastmail._core.uidset cimport UidSet

cdef enum:
    HEAD = 16          # octets of a page before its pointers
    NODE = 8           # octets of a row before its key
    BRANCH = 1
    LEAF = 2
    OVERFLOW = 4
    META = 8
    BIG = 1            # the value lies on pages of its own
    PREFIX = 12
    KEY = 16

cdef uint32_t MAGIC = 0xBEEFC0DE
cdef uint64_t NOWHERE = 0xFFFFFFFFFFFFFFFF


class Damaged(Exception):
    """A page of the index is not what it should be."""


cdef class Source:
    """Rows in key order. ``seek``: the first row whose key is not lower, never backwards; ``next``: the one after.
    Both say 0 at the end."""

    cdef int seek(self, const uint8_t* key, Py_ssize_t n) except -1:
        return 0

    cdef int next(self) except -1:
        return 0

    cdef object lend(self, Py_ssize_t skip):
        """The value at hand behind its first octets, as a memoryview."""
        return memoryview(b"")


cdef class Pairs(Source):
    """Rows of an iterable of pairs of octets."""

    def __init__(self, rows):
        self.rows = iter(rows)

    def __dealloc__(self):
        self.drop()

    cdef void drop(self) noexcept:
        if self.holds:
            PyBuffer_Release(&self.held[0])
            PyBuffer_Release(&self.held[1])
            self.holds = False

    cdef int next(self) except -1:
        self.drop()
        for pair in self.rows:
            self.pair = pair
            PyObject_GetBuffer(pair[0], &self.held[0], PyBUF_SIMPLE)
            try:
                PyObject_GetBuffer(pair[1], &self.held[1], PyBUF_SIMPLE)
            except BaseException:
                PyBuffer_Release(&self.held[0])
                raise
            self.holds = True
            self.key, self.keyn = <const uint8_t*>self.held[0].buf, self.held[0].len
            self.value, self.valuen = <const uint8_t*>self.held[1].buf, self.held[1].len
            return 1
        return 0

    cdef int seek(self, const uint8_t* key, Py_ssize_t n) except -1:
        if self.holds and order(self.key, self.keyn, key, n) >= 0:
            return 1
        while self.next():
            if order(self.key, self.keyn, key, n) >= 0:
                return 1
        return 0

    cdef object lend(self, Py_ssize_t skip):
        return memoryview(self.pair[1])[skip:]


cdef inline int order(const uint8_t* a, Py_ssize_t an, const uint8_t* b, Py_ssize_t bn) noexcept nogil:
    cdef int c = memcmp(a, b, an if an < bn else bn)
    if c == 0:
        return (an > bn) - (an < bn)
    return c


cdef class Table(Source):
    """The rows of one table as a transaction sees them."""

    def __cinit__(self):
        self.root = NOWHERE

    cdef const uint8_t* page(self, uint64_t number, int kind, int* count) except NULL:
        """A page that is what it should be. ``kind``: its flags."""
        cdef const uint8_t* p
        cdef int lower, upper
        if number < 2 or number >= self.pages:
            raise Damaged(f"page {number} does not exist")
        p = self.base + number * self.size
        lower = get16(p + 12)
        upper = get16(p + 14)
        if get64(p) != number or get16(p + 10) != kind or lower < HEAD or lower & 1 or lower > upper:
            raise Damaged(f"page {number} is not a page of its table")
        if upper > self.size and self.size < 65536:
            raise Damaged(f"page {number} is not a page of its table")
        count[0] = (lower - HEAD) >> 1
        return p

    cdef const uint8_t* node(self, const uint8_t* page, int i) except NULL:
        cdef int at = get16(page + HEAD + 2 * i)
        if at < HEAD or at + NODE > self.size or at + NODE + get16(page + at + 6) > self.size:
            raise Damaged(f"a row of page {get64(page)} lies outside it")
        return page + at

    cdef int compare(self, const uint8_t* node, const uint8_t* key, Py_ssize_t n) except -2:
        cdef int c = order(node + NODE, get16(node + 6), key, n)
        return (c > 0) - (c < 0)

    cdef int lower_bound(self, const uint8_t* page, int first, int count, const uint8_t* key, Py_ssize_t n) except -1:
        """The first row from ``first`` on whose key is not lower."""
        cdef int middle
        while first < count:
            middle = (first + count) >> 1
            if self.compare(self.node(page, middle), key, n) < 0:
                first = middle + 1
            else:
                count = middle
        return first

    cdef int first_below(self, int level) except -1:
        """Go down to the first row of the page that ``level`` points at."""
        cdef const uint8_t* node
        while level < self.depth - 1:
            node = self.node(self.path[level], self.at[level])
            level += 1
            self.path[level] = self.page(
                <uint64_t>get32(node) | <uint64_t>get16(node + 4) << 32,
                LEAF if level == self.depth - 1 else BRANCH,
                &self.counts[level],
            )
            self.at[level] = 0
        return 0

    cdef int onward(self) except -1:
        """To the first row of the next leaf that has one."""
        cdef int level = self.depth - 2
        while level >= 0:
            if self.at[level] + 1 < self.counts[level]:
                self.at[level] += 1
                self.first_below(level)
                if self.counts[self.depth - 1]:
                    return 1
                level = self.depth - 2
            else:
                level -= 1
        return 0

    cdef int read(self) except -1:
        """Take the row at hand up."""
        cdef const uint8_t* page = self.path[self.depth - 1]
        cdef const uint8_t* node = self.node(page, self.at[self.depth - 1])
        cdef const uint8_t* run
        cdef uint64_t number
        cdef Py_ssize_t n = get32(node)
        self.keyn = get16(node + 6)
        self.key = node + NODE
        if get16(node + 4) & BIG:
            if node + NODE + self.keyn + 8 > page + self.size:
                raise Damaged(f"a row of page {get64(page)} lies outside it")
            number = get64(self.key + self.keyn)
            if number < 2 or number >= self.pages:
                raise Damaged(f"page {number} does not exist")
            run = self.base + number * self.size
            if get64(run) != number or get16(run + 10) != OVERFLOW or HEAD + n > get32(run + 12) * self.size \
                    or get32(run + 12) > self.pages - number:
                raise Damaged(f"page {number} is not a long row")
            self.value = run + HEAD
        else:
            self.value = self.key + self.keyn
            if self.value + n > page + self.size:
                raise Damaged(f"a row of page {get64(page)} lies outside it")
        self.valuen = n
        return 1

    cdef int seek(self, const uint8_t* key, Py_ssize_t n) except -1:
        cdef const uint8_t* page
        cdef const uint8_t* node
        cdef int level, i, last = self.depth - 1
        if self.root == NOWHERE:
            return 0
        if self.placed and self.at[last] < self.counts[last]:
            # the row at hand, or one of the same leaf
            page = self.path[last]
            if self.compare(self.node(page, self.at[last]), key, n) >= 0:
                return self.read()
            if self.compare(self.node(page, self.counts[last] - 1), key, n) >= 0:
                self.at[last] = self.lower_bound(page, self.at[last] + 1, self.counts[last], key, n)
                return self.read()
        self.placed = True
        self.key = NULL
        for level in range(self.depth):
            if level == 0:
                page = self.page(self.root, BRANCH if last else LEAF, &self.counts[0])
            else:
                node = self.node(self.path[level - 1], self.at[level - 1])
                page = self.page(
                    <uint64_t>get32(node) | <uint64_t>get16(node + 4) << 32,
                    LEAF if level == last else BRANCH,
                    &self.counts[level],
                )
            self.path[level] = page
            if level == last:
                self.at[level] = self.lower_bound(page, 0, self.counts[level], key, n)
            else:
                # the key of a branch's first row counts as the lowest
                if not self.counts[level]:
                    raise Damaged(f"page {get64(page)} is an empty branch")
                i = self.lower_bound(page, 1, self.counts[level], key, n)
                if i == self.counts[level] or self.compare(self.node(page, i), key, n) > 0:
                    i -= 1
                self.at[level] = i
        if self.at[last] < self.counts[last] or self.onward():
            return self.read()
        return 0

    cdef int next(self) except -1:
        cdef int last = self.depth - 1
        cdef const uint8_t* before = self.key
        cdef Py_ssize_t n = self.keyn
        if not self.placed or self.root == NOWHERE:
            return 0
        if self.at[last] < self.counts[last]:
            self.at[last] += 1
        if self.at[last] < self.counts[last] or self.onward():
            self.read()
            if before != NULL and order(self.key, self.keyn, before, n) <= 0:
                raise Damaged("rows are out of order")  # pages may lead in a circle
            return 1
        return 0

    cdef object lend(self, Py_ssize_t skip):
        cdef Py_ssize_t at = self.value - self.base
        return self.map[at + skip : at + self.valuen]


cdef Py_ssize_t page_size(const uint8_t* p, Py_ssize_t n) noexcept:
    """As the first meta page says; 0 for a file of another kind."""
    cdef uint32_t size
    if n < 4096 or get16(p + 10) & META == 0 or get32(p + 16) != MAGIC or get32(p + 20) != 1:
        return 0
    size = get32(p + 40)
    return size if size in (4096, 8192, 16384, 32768, 65536) else 0


cdef int descend(Table table, const uint8_t* tree) except -1:
    """Set a table's root from its row (md_depth, md_root)."""
    table.depth = get16(tree + 6)
    table.root = get64(tree + 40)
    if table.root != NOWHERE and not 0 < table.depth <= DEPTH:
        raise Damaged("a table says that it is too deep")
    return 0


def table(octets not None, uint64_t txn, bytes name not None, Py_ssize_t end=-1):
    cdef Table found = Table()
    cdef const uint8_t* meta
    cdef uint8_t tree[48]
    cdef Py_ssize_t size
    cdef Py_buffer view
    found.map = memoryview(octets)
    PyObject_GetBuffer(octets, &view, PyBUF_SIMPLE)
    found.base = <const uint8_t*>view.buf
    PyBuffer_Release(&view)  # the memoryview keeps it
    size = page_size(found.base, view.len if end < 0 or end > view.len else end)
    if end < 0 or end > view.len:
        end = view.len
    if size == 0 or end < 2 * size:
        return None
    meta = found.base + (txn & 1) * size + HEAD
    if get64(meta + 128) != txn:
        return None
    memcpy(tree, meta + 72, 48)
    found.size = size
    found.pages = get64(meta + 120) + 1
    if get64(meta + 128) != txn or found.pages > <uint64_t>(view.len // size):
        return None
    if found.pages > <uint64_t>(end // size):
        found.pages = end // size  # the last ones were never written, as nobody needs them
    descend(found, tree)
    if not found.seek(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
        return None
    if order(found.key, found.keyn, <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) \
            or found.valuen != 48:
        return None
    memcpy(tree, found.value, 48)
    found.placed = False
    descend(found, tree)
    return found


cdef class Walk:
    """Goes through the rows of one mailbox that are in ``uids``; ``next`` says 0 at the end."""

    def __init__(self, rows, const unsigned char[::1] prefix not None, UidSet uids not None):
        if prefix.shape[0] != PREFIX:
            raise ValueError("a mailbox's prefix has 12 octets")
        self.source = rows if isinstance(rows, Source) else Pairs(rows)
        self.uids = uids
        memcpy(self.key, &prefix[0], PREFIX)

    cdef int next(self) except -1:
        cdef Source source = self.source
        cdef uint32_t last
        cdef int there
        cdef const uint8_t* p
        while self.run < self.uids.runs:
            last = self.uids.start[self.run] + self.uids.count[self.run] - 1
            if self.inside:
                there = source.next()
            else:
                put_uid(self.key, self.uids.start[self.run])
                there = source.seek(self.key, KEY)
                self.inside = True
            if not there or source.keyn < PREFIX or memcmp(source.key, self.key, PREFIX):
                self.run = self.uids.runs
                return 0
            if source.keyn != KEY:
                continue
            p = source.key + PREFIX
            self.uid = (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]
            if self.uid < self.uids.start[self.run]:
                continue
            if self.uid <= last:
                return 1
            # to the next run that reaches so far; ``seek`` begins with the row at hand
            self.inside = False
            while self.run < self.uids.runs and self.uids.start[self.run] + self.uids.count[self.run] - 1 < self.uid:
                self.run += 1
        return 0


cdef inline void put_uid(uint8_t* key, uint32_t uid) noexcept nogil:
    key[PREFIX] = <uint8_t>(uid >> 24)
    key[PREFIX + 1] = <uint8_t>(uid >> 16)
    key[PREFIX + 2] = <uint8_t>(uid >> 8)
    key[PREFIX + 3] = <uint8_t>uid


cdef Py_ssize_t summary_at(const uint8_t* value, Py_ssize_t n) noexcept nogil:
    """Where the summary begins in a value; 0 when there is none."""
    cdef Py_ssize_t at
    if n < 2:
        return 0
    at = 2 + get16(value)
    return at if at <= n else 0


cdef class Summaries:
    """Summaries of a mailbox's messages, each looked up when it is asked for."""

    def __init__(self, Table table not None, bytes prefix not None, UidSet uids not None, more):
        if len(prefix) != PREFIX:
            raise ValueError("a mailbox's prefix has 12 octets")
        self.table = table
        self.uids = uids
        self.more = more
        self.prefix = prefix
        memcpy(self.key, PyBytes_AS_STRING(prefix), PREFIX)

    cdef bint there(self, uint32_t uid) except -1:
        """Is the table's row at hand that of ``uid``?"""
        cdef Table table = self.table
        cdef int found
        put_uid(self.key, uid)
        if uid <= self.last:
            table.placed = False
        # mostly the row behind the one that was found last
        found = table.next() if self.found and uid == self.last + 1 else 0
        if not found or order(table.key, table.keyn, self.key, KEY) < 0:
            found = table.seek(self.key, KEY)
        self.last = uid
        self.found = found and table.keyn == KEY and memcmp(table.key, self.key, KEY) == 0
        return self.found and summary_at(table.value, table.valuen) > 0

    cdef const uint8_t* find(self, uint32_t uid, Py_ssize_t* n) except? NULL:
        cdef Py_ssize_t at
        cdef Py_buffer view
        cdef const uint8_t* p
        if self.there(uid):
            at = summary_at(self.table.value, self.table.valuen)
            n[0] = self.table.valuen - at
            return self.table.value + at
        self.lent = self.more.get(uid) if self.more is not None else None
        if self.lent is None:
            return NULL
        PyObject_GetBuffer(self.lent, &view, PyBUF_SIMPLE)
        p = <const uint8_t*>view.buf
        n[0] = view.len
        PyBuffer_Release(&view)  # ``lent`` keeps it until the next call
        return p

    def get(self, uint32_t uid):
        if uid not in self.uids:
            return None
        if self.there(uid):
            return self.table.lend(summary_at(self.table.value, self.table.valuen))
        return self.more.get(uid) if self.more is not None else None

    def items(self):
        cdef Walk walk = Walk(self.table, self.prefix, self.uids)
        cdef list found = []
        cdef Py_ssize_t at
        self.table.placed = self.found = False
        self.last = 0xFFFFFFFF
        while walk.next():
            at = summary_at(self.table.value, self.table.valuen)
            if at:
                found.append((walk.uid, self.table.lend(at)))
        if self.more is not None:
            known = {uid for uid, _ in found}
            found += [(uid, one) for uid, one in self.more.items() if uid in self.uids and uid not in known]
        return found
