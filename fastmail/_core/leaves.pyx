"""Reads rows of LMDB tables straight from the pages of its file, many to a call, and other runs of rows the same way.

A row by LMDB's cursor costs two memoryviews and a mutex; thousands of rows for one answer cost more than the answer.
The caller holds a read transaction open, so that nothing of its snapshot is written to meanwhile. Layouts: of the file
in lmdb.pxd, of keys and values in index.pxd.

Promise: nothing is read outside the map or the row's page. Fails with Damaged where a page is not what it should be.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastmail._core.index cimport CONTENT_AT, MAILBOX, MESSAGE, put_uid, uid_in
from fastmail._core.lmdb cimport (
    BIG, BRANCH, DEEPEST, FLAGS_AT, FORMAT, FORMAT_AT, FREE_AT, HEAD, KEY_SIZE_AT, LARGEST, LAST_AT, LEAF, LOWER_AT,
    MAGIC_AT, MAIN_AT, META, NODE, NODE_FLAGS_AT, NUMBER_AT, OVERFLOW, POINTER, RUN_AT, SIZE_AT, SMALLEST, TREE,
    TREE_DEPTH_AT, TREE_PAD_AT, TREE_ROOT_AT, TXN_AT, UPPER_AT, UPPER_HALF_AT,
)
from fastmail._core.octets cimport get16, get32, get64
from fastmail._core.uidset cimport UidSet

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
        if self.has_pair:
            PyBuffer_Release(&self.buffers[0])
            PyBuffer_Release(&self.buffers[1])
            self.has_pair = False

    cdef int next(self) except -1:
        self.drop()
        for pair in self.rows:
            self.pair = pair
            PyObject_GetBuffer(pair[0], &self.buffers[0], PyBUF_SIMPLE)
            try:
                PyObject_GetBuffer(pair[1], &self.buffers[1], PyBUF_SIMPLE)
            except BaseException:
                PyBuffer_Release(&self.buffers[0])
                raise
            self.has_pair = True
            self.key, self.keyn = <const uint8_t*>self.buffers[0].buf, self.buffers[0].len
            self.value, self.valuen = <const uint8_t*>self.buffers[1].buf, self.buffers[1].len
            return 1
        return 0

    cdef int seek(self, const uint8_t* key, Py_ssize_t n) except -1:
        if self.has_pair and order(self.key, self.keyn, key, n) >= 0:
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


cdef inline uint64_t child(const uint8_t* node) noexcept nogil:
    """The page that a node of a branch leads to."""
    return <uint64_t>get32(node + SIZE_AT) | <uint64_t>get16(node + UPPER_HALF_AT) << 32


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
        lower = get16(p + LOWER_AT)
        upper = get16(p + UPPER_AT)
        if get64(p + NUMBER_AT) != number or get16(p + FLAGS_AT) != kind or lower < HEAD or lower & 1 or lower > upper:
            raise Damaged(f"page {number} is not a page of its table")
        if upper > self.size and self.size < LARGEST:
            raise Damaged(f"page {number} is not a page of its table")
        count[0] = (lower - HEAD) // POINTER
        return p

    cdef const uint8_t* node(self, const uint8_t* page, int i) except NULL:
        cdef int at = get16(page + HEAD + POINTER * i)
        if at < HEAD or at + NODE > self.size or at + NODE + get16(page + at + KEY_SIZE_AT) > self.size:
            raise Damaged(f"a row of page {get64(page)} lies outside it")
        return page + at

    cdef int compare(self, const uint8_t* node, const uint8_t* key, Py_ssize_t n) except -2:
        cdef int c = order(node + NODE, get16(node + KEY_SIZE_AT), key, n)
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
        cdef int kind
        while level < self.depth - 1:
            node = self.node(self.path[level], self.at[level])
            level += 1
            kind = LEAF if level == self.depth - 1 else BRANCH
            self.path[level] = self.page(child(node), kind, &self.counts[level])
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
        cdef Py_ssize_t n = get32(node + SIZE_AT)
        self.keyn = get16(node + KEY_SIZE_AT)
        self.key = node + NODE
        if get16(node + NODE_FLAGS_AT) & BIG:
            if node + NODE + self.keyn + 8 > page + self.size:
                raise Damaged(f"a row of page {get64(page)} lies outside it")
            number = get64(self.key + self.keyn)
            if number < 2 or number >= self.pages:
                raise Damaged(f"page {number} does not exist")
            run = self.base + number * self.size
            if get64(run + NUMBER_AT) != number or get16(run + FLAGS_AT) != OVERFLOW \
                    or HEAD + n > get32(run + RUN_AT) * self.size or get32(run + RUN_AT) > self.pages - number:
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
                page = self.page(child(node), LEAF if level == last else BRANCH, &self.counts[level])
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
    if n < SMALLEST or get16(p + FLAGS_AT) & META == 0 or get32(p + HEAD + MAGIC_AT) != MAGIC \
            or get32(p + HEAD + FORMAT_AT) != FORMAT:
        return 0
    size = get32(p + HEAD + FREE_AT + TREE_PAD_AT)
    return size if size in (4096, 8192, 16384, 32768, 65536) else 0


cdef int descend(Table table, const uint8_t* tree) except -1:
    """Set a table's root from its row (md_depth, md_root)."""
    table.depth = get16(tree + TREE_DEPTH_AT)
    table.root = get64(tree + TREE_ROOT_AT)
    if table.root != NOWHERE and not 0 < table.depth <= DEEPEST:
        raise Damaged("a table says that it is too deep")
    return 0


def table(octets not None, uint64_t txn, bytes name not None, Py_ssize_t end=-1):
    cdef Table found = Table()
    cdef const uint8_t* meta
    cdef uint8_t tree[TREE]
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
    if get64(meta + TXN_AT) != txn:
        return None
    memcpy(tree, meta + MAIN_AT, TREE)
    found.size = size
    found.pages = get64(meta + LAST_AT) + 1
    if get64(meta + TXN_AT) != txn or found.pages > <uint64_t>(view.len // size):
        return None
    if found.pages > <uint64_t>(end // size):
        found.pages = end // size  # the last ones were never written, as nobody needs them
    descend(found, tree)
    if not found.seek(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)):
        return None
    if order(found.key, found.keyn, <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)) \
            or found.valuen != TREE:
        return None
    memcpy(tree, found.value, TREE)
    found.placed = False
    descend(found, tree)
    return found


cdef class Walk:
    """Goes through the rows of one mailbox that are in ``uids``; ``next`` says 0 at the end."""

    def __init__(self, rows, const unsigned char[::1] prefix not None, UidSet uids not None):
        if prefix.shape[0] != MAILBOX:
            raise ValueError("a mailbox's prefix has 12 octets")
        self.source = rows if isinstance(rows, Source) else Pairs(rows)
        self.uids = uids
        memcpy(self.key, &prefix[0], MAILBOX)

    cdef int next(self) except -1:
        cdef Source source = self.source
        cdef uint32_t last
        cdef int there
        while self.run < self.uids.runs:
            last = self.uids.start[self.run] + self.uids.count[self.run] - 1
            if self.inside:
                there = source.next()
            else:
                put_uid(self.key, MAILBOX, self.uids.start[self.run])
                there = source.seek(self.key, MESSAGE)
                self.inside = True
            if not there or source.keyn < MAILBOX or memcmp(source.key, self.key, MAILBOX):
                self.run = self.uids.runs
                return 0
            if source.keyn != MESSAGE:
                continue
            self.uid = uid_in(source.key, MAILBOX)
            if self.uid < self.uids.start[self.run]:
                continue
            if self.uid <= last:
                return 1
            # to the next run that reaches so far; ``seek`` begins with the row at hand
            self.inside = False
            while self.run < self.uids.runs and self.uids.start[self.run] + self.uids.count[self.run] - 1 < self.uid:
                self.run += 1
        return 0


cdef Py_ssize_t summary_at(const uint8_t* value, Py_ssize_t n) noexcept nogil:
    """Where the summary begins in a value; 0 when there is none."""
    cdef Py_ssize_t at
    if n < CONTENT_AT:
        return 0
    at = CONTENT_AT + get16(value)
    return at if at <= n else 0


cdef class Summaries:
    """Summaries of a mailbox's messages, each looked up when it is asked for."""

    def __init__(self, Table table not None, bytes prefix not None, UidSet uids not None, more):
        if len(prefix) != MAILBOX:
            raise ValueError("a mailbox's prefix has 12 octets")
        self.table = table
        self.uids = uids
        self.more = more
        self.prefix = prefix
        memcpy(self.key, PyBytes_AS_STRING(prefix), MAILBOX)

    cdef bint there(self, uint32_t uid) except -1:
        """Is the table's row at hand that of ``uid``?"""
        cdef Table table = self.table
        cdef int found
        put_uid(self.key, MAILBOX, uid)
        if uid <= self.last:
            table.placed = False
        # mostly the row behind the one that was found last
        found = table.next() if self.found and uid == self.last + 1 else 0
        if not found or order(table.key, table.keyn, self.key, MESSAGE) < 0:
            found = table.seek(self.key, MESSAGE)
        self.last = uid
        self.found = found and table.keyn == MESSAGE and memcmp(table.key, self.key, MESSAGE) == 0
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
