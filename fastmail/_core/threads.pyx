"""Threads of one mailbox: what THREAD compares of each message, packed, and the algorithms over it (RFC 5256 3).

A message takes about 40 octets and 8 for each reference. Ids and subjects are kept as their SipHash-2-4 under a key of
the caller's own, so that nobody can make two that are taken for one. Promise: time is that of sorting the messages and
of one lookup a reference; nothing recurses; the GIL is free while threads are made.

How a loop is avoided in less than a walk up a chain for each link: a message that is linked is the root of its tree, so
the link would make a loop exactly when the other's root is that message. Messages without children cannot be such a
root; for the others a link-cut tree (Sleator and Tarjan, 1983) knows the root in O(log n), amortised, and follows links
that are broken again.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from fastmail._core cimport envelope
from fastmail._core.envelope cimport Piece, Summary, elements, field_value, open_summary, unescaped
from fastmail._core.forest cimport NONE, Buffers, Forest, Map, Node, siphash
from fastmail._core.octets cimport Out
from fastmail._core.order cimport (
    KEY_MOST, Column, Key, base_of, date_of, merge_sort, next_id, spaced, titlecase
)
from fastmail._core.uidset cimport UidSet

cdef enum:
    MOST_IDS = 1000         # references of a message that are used: its first, and so many of the last
    LOOK = 262144           # octets of a References field that are looked at, from its end
    OPEN = -2               # parentheses on the stack of what is still to be written
    CLOSE = -3

cdef enum:                  # algorithms
    ORDEREDSUBJECT, REFERENCES, REFS

cdef struct Row:
    uint32_t uid
    uint32_t many           # references
    uint64_t at             # of the first of them in the pool
    int64_t date            # s since 1970 UTC
    uint64_t subject        # hash of the key of the base subject; 0: it is empty
    uint64_t ident          # hash of the Message-ID; 0: there is none
    bint reply              # is it a reply or forward?


# ---------------------------------------------------------------- the table

cdef class Threads:
    cdef Row* row
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef uint64_t* pool
    cdef uint64_t pooled
    cdef uint64_t pool_room
    cdef uint64_t key[2]

    def __cinit__(self, bytes key not None):
        if len(key) != 16:
            raise ValueError("a key has 16 octets")
        memcpy(self.key, <const char*>key, 16)

    def __dealloc__(self):
        free(self.row)
        free(self.pool)

    def __len__(self):
        return self.count

    @property
    def last(self):
        return self.row[self.count - 1].uid if self.count else 0

    @property
    def octets(self):
        return self.room * sizeof(Row) + self.pool_room * 8

    cdef Row* append(self) except NULL:
        cdef Row* grown
        cdef Py_ssize_t room
        if self.count == self.room:
            room = self.room + self.room // 2 + 64
            grown = <Row*>realloc(self.row, room * sizeof(Row))
            if grown == NULL:
                raise MemoryError()
            self.row = grown
            self.room = room
        memset(&self.row[self.count], 0, sizeof(Row))
        self.row[self.count].at = self.pooled
        self.count += 1
        return &self.row[self.count - 1]

    cdef int refer(self, Row* row, const uint8_t* p, const uint8_t* end, Py_ssize_t most) except -1:
        """Put the ids of a value as the row's references. ``most`` 1: only the first of them."""
        cdef Out tmp = Out(128)
        cdef uint64_t* grown
        cdef uint64_t begin = self.pooled
        if end - p > LOOK:
            p = end - LOOK
        row.at = begin
        while True:
            p = next_id(tmp, p, end)
            if not tmp.len:
                break
            if self.pooled == self.pool_room:
                grown = <uint64_t*>realloc(self.pool, (self.pool_room + self.pool_room // 2 + 256) * 8)
                if grown == NULL:
                    raise MemoryError()
                self.pool = grown
                self.pool_room += self.pool_room // 2 + 256
            self.pool[self.pooled] = siphash(self.key, <const uint8_t*>tmp.buf, tmp.len)
            self.pooled += 1
            if self.pooled - begin == <uint64_t>most:
                break
        if self.pooled - begin > MOST_IDS:
            memmove(self.pool + begin + 1, self.pool + self.pooled - (MOST_IDS - 1), (MOST_IDS - 1) * 8)
            self.pooled = begin + MOST_IDS
        row.many = <uint32_t>(self.pooled - begin)
        return 0

    cdef int fill(self, Row* row, Summary* s, Out tmp, Out text) except -1:
        """What the summary says of the message. 1: the subject, which is in ``tmp``, is to be decoded."""
        cdef Piece found[envelope.ELEMENTS]
        cdef Piece value
        cdef int64_t when
        cdef Py_ssize_t first = 0, last
        cdef bint plain
        if not elements(s.envelope, s.envelopen, found):
            return 0
        tmp.len = 0
        unescaped(tmp, &found[envelope.DATE])
        if date_of(<const uint8_t*>tmp.buf, tmp.len, &when):
            row.date = when
        tmp.len = 0
        unescaped(tmp, &found[envelope.MESSAGE_ID])
        next_id(text, <const uint8_t*>tmp.buf, <const uint8_t*>tmp.buf + tmp.len)
        if text.len:
            row.ident = siphash(self.key, <const uint8_t*>text.buf, text.len)
        if field_value(s.header, s.header + s.headern, "references", 10, &value):
            self.refer(row, value.p, value.p + value.n, 0)
        if not row.many:
            tmp.len = 0
            unescaped(tmp, &found[envelope.IN_REPLY_TO])
            self.refer(row, <const uint8_t*>tmp.buf, <const uint8_t*>tmp.buf + tmp.len, 1)
        tmp.len = text.len = 0
        unescaped(tmp, &found[envelope.SUBJECT])
        plain = spaced(text, <const uint8_t*>tmp.buf, tmp.len)
        last = text.len
        row.reply = base_of(<const uint8_t*>text.buf, &first, &last)
        if not plain or last - first > KEY_MOST:
            return 1
        titlecase(<uint8_t*>text.buf + first, last - first)
        if last > first:
            row.subject = siphash(self.key, <const uint8_t*>text.buf + first, last - first)
        return 0

    def add(self, list uids not None, list dates not None, list items not None):
        """See threads.pyi."""
        cdef list decode = [], missing = []
        cdef Py_ssize_t i, k = 0, n = len(items)
        cdef const unsigned char[::1] data
        cdef Summary s
        cdef Out tmp = Out(256)
        cdef Out text = Out(256)
        cdef Row* row
        cdef uint32_t uid
        for i in range(len(uids)):
            uid = uids[i]
            if self.count and self.row[self.count - 1].uid >= uid:
                raise ValueError("UIDs ascend")
            row = self.append()
            row.uid = uid
            row.date = dates[i]
            while k < n and <uint32_t>(<tuple>items[k])[0] < uid:
                k += 1
            if k == n or <uint32_t>(<tuple>items[k])[0] != uid:
                missing.append(uid)
                continue
            data = (<tuple>items[k])[1]
            if not data.shape[0] or not open_summary(&data[0], data.shape[0], &s):
                missing.append(uid)
                continue
            if self.fill(row, &s, tmp, text):
                decode.append((uid, tmp.take()))
            if not s.whole:
                missing.append(uid)  # References may be among what the cache lacks
        return decode, missing

    cdef Py_ssize_t find(self, uint32_t uid) noexcept nogil:
        """The place of the first row whose UID is not lower."""
        cdef Py_ssize_t lo = 0, hi = self.count, mid
        while lo < hi:
            mid = (lo + hi) // 2
            if self.row[mid].uid < uid:
                lo = mid + 1
            else:
                hi = mid
        return lo

    cdef Row* of(self, uint32_t uid) except NULL:
        cdef Py_ssize_t at = self.find(uid)
        if at == self.count or self.row[at].uid != uid:
            raise KeyError(uid)
        return &self.row[at]

    def complete(self, uint32_t uid, bytes summary not None, bytes references not None):
        cdef Row* row = self.of(uid)
        cdef Summary s
        cdef Out tmp = Out(256)
        cdef const uint8_t* p = <const uint8_t*><const char*>references
        cdef int undecoded = 0
        cdef uint64_t at
        cdef uint32_t many
        if open_summary(<const uint8_t*><const char*>summary, len(summary), &s):
            undecoded = self.fill(row, &s, tmp, Out(256))
        at = row.at
        many = row.many
        self.refer(row, p, p + len(references), 0)
        if not row.many:  # a field without an id: In-Reply-To counts
            row.at = at
            row.many = many
        return tmp.take() if undecoded else None

    def subject(self, uint32_t uid, bytes key not None, bint reply):
        cdef Row* row = self.of(uid)
        row.reply = reply
        row.subject = siphash(self.key, <const uint8_t*><const char*>key, len(key)) if len(key) else 0

    def keep(self, UidSet uids not None):
        cdef Py_ssize_t i, n = 0
        cdef uint64_t pooled = 0
        cdef Row* row
        # references that were read twice lie behind those of later rows, so rows are not in the pool's order
        cdef uint64_t* fresh = <uint64_t*>malloc((self.pooled + 1) * 8)
        if fresh == NULL:
            raise MemoryError()
        for i in range(self.count):
            row = &self.row[i]
            if not uids.has(row.uid):
                continue
            if row.many:
                memcpy(fresh + pooled, self.pool + row.at, row.many * 8)
            row.at = pooled
            pooled += row.many
            self.row[n] = row[0]
            n += 1
        free(self.pool)
        self.pool = fresh
        self.pool_room = self.pooled + 1
        self.pooled = pooled
        self.count = n

    def answer(self, int algorithm, UidSet found not None, UidSet numbers):
        """See threads.pyi."""
        cdef Out out = Out(16384)
        cdef Buffers held = Buffers()
        cdef Forest forest = Forest()
        cdef Map map, table
        cdef Py_ssize_t n = 0, i, run
        cdef int32_t* chosen
        chosen = held.numbers(self.count, 0)
        for run in range(found.runs):
            i = self.find(found.start[run])
            while i < self.count and self.row[i].uid - found.start[run] < found.count[run]:
                chosen[n] = <int32_t>i
                n += 1
                i += 1
        map = Map(n)
        table = Map(n if algorithm == REFERENCES else 0)
        with nogil:
            make(self, algorithm, chosen, n, numbers, out, held, forest, map, table)
        return out.take()


cdef int by_date(const Row* row, const int32_t* chosen, int32_t* a, int32_t* other, Py_ssize_t n) except -1 nogil:
    """Sorts messages by their dates, those of one date as they come; ``other`` has room for n."""
    cdef Py_ssize_t i
    cdef Column dates = [<Key*>malloc((n + 1) * sizeof(Key)), False]
    if dates.keys == NULL:
        with gil:
            raise MemoryError()
    for i in range(n):
        dates.keys[i].p = NULL
        dates.keys[i].n = row[chosen[i]].date
    merge_sort(&dates, 1, a, other, n)
    free(dates.keys)
    return 0


cdef int link_all(Threads t, const int32_t* chosen, Py_ssize_t n, int32_t* node_of, Forest forest, Map map) except -1 nogil:
    """Step 1 of REFERENCES: parents and children from references."""
    cdef Py_ssize_t i
    cdef uint32_t k
    cdef int32_t node, above, here
    cdef int32_t* place
    cdef Row* row
    for i in range(n):
        row = &t.row[chosen[i]]
        node = NONE
        if row.ident:
            place = map.at(row.ident)
            if place[0] == NONE:
                node = place[0] = forest.add(<int32_t>i)
            elif forest.node[place[0]].message == NONE:
                node = place[0]
                forest.node[node].message = <int32_t>i
        if node == NONE:  # without an id, or the second message of that id: one of its own
            node = forest.add(<int32_t>i)
        node_of[i] = node
        above = NONE
        for k in range(row.many):
            place = map.at(t.pool[row.at + k])
            if place[0] == NONE:
                place[0] = forest.add(NONE)
            here = place[0]
            if above != NONE and forest.node[here].parent == NONE and not forest.loops(above, here):
                forest.link(above, here)
            above = here
        # what the message says of its own parent counts more than what others said
        if forest.node[node].parent != NONE:
            forest.cut(node)
        if above != NONE and not forest.loops(above, node):
            forest.link(above, node)
    return 0


cdef int make(Threads t, int algorithm, const int32_t* chosen, Py_ssize_t n, UidSet numbers, Out out, Buffers held,
              Forest forest, Map map, Map table) except -1 nogil:
    """Messages are numbered 0 .. n - 1 in UID order; n + k is the k-th message that is not there and has several children
    at the top. ``up``: parent of each, NONE at the top."""
    cdef Row* row = t.row
    cdef Py_ssize_t i, r, dummies = 0, extra, tops = 0, total
    cdef int32_t* order = held.numbers(n, 0)
    # at most n messages that are not there have children at the top, and step 5 makes at most n / 2
    cdef int32_t* up = held.numbers(3 * n, NONE)
    cdef int32_t* first = held.numbers(3 * n, NONE)
    cdef int32_t* last
    cdef int32_t* next
    cdef int32_t* top
    cdef int32_t* also
    cdef int32_t* place
    cdef int32_t one, holder
    for i in range(n):
        order[i] = <int32_t>i
    by_date(row, chosen, order, up, n)
    for i in range(n):
        up[i] = NONE
    if algorithm == ORDEREDSUBJECT:
        for r in range(n):
            place = map.at(row[chosen[order[r]]].subject)
            if place[0] == NONE:
                place[0] = order[r]
            else:
                up[order[r]] = place[0]
    else:
        link_all(t, chosen, n, first, forest, map)
        dummies = prune(n, order, up, first, forest, held)
    for i in range(3 * n):
        first[i] = NONE
    extra = dummies
    also = held.numbers(dummies, NONE)  # the message that is not there whose children this one's became
    if algorithm == REFERENCES:
        extra = merge(row, chosen, n, dummies, order, up, also, first, table, held)
    total = n + extra
    # steps 4 and 6: siblings by date, and a message that is not there by its first child
    for i in range(3 * n):
        first[i] = NONE
    last = held.numbers(total, NONE)
    next = held.numbers(total, NONE)
    top = held.numbers(total, NONE)
    for r in range(n):
        one = order[r]
        holder = up[one]
        if holder >= n and holder - n < dummies and also[holder - n] != NONE:
            holder = also[holder - n]
        if holder == NONE:
            top[tops] = one
            tops += 1
            continue
        if first[holder] == NONE:
            first[holder] = one
            if holder >= n:
                top[tops] = holder
                tops += 1
        else:
            next[last[holder]] = one
        last[holder] = one
        up[one] = holder
    if algorithm == REFS:
        by_latest(n, total, order, up, top, tops, held)
    return render(row, chosen, n, total, top, tops, first, next, numbers, out, held)


cdef Py_ssize_t prune(Py_ssize_t n, const int32_t* order, int32_t* up, const int32_t* node_of, Forest forest,
                      Buffers held) except -1 nogil:
    """Step 3: what is only referred to goes, and its children move up; at the top it stays when it has several. Returns how
    many stayed."""
    cdef Py_ssize_t i, dummies = 0
    cdef Node* node = forest.node
    cdef int32_t x, y, stop
    cdef int32_t* number = held.numbers(forest.count, NONE)   # of a node that is not there and is a root
    cdef int32_t* nearest = held.numbers(forest.count, NONE)  # node that is there, or root, above one that is not there
    cdef int32_t* children = held.numbers(n, 0)
    for i in range(n):
        x = node[node_of[i]].parent
        while x != NONE and node[x].message == NONE and node[x].parent != NONE and nearest[x] == NONE:
            x = node[x].parent
        if x == NONE:
            continue
        stop = nearest[x] if nearest[x] != NONE else x
        x = node[node_of[i]].parent
        while node[x].message == NONE and node[x].parent != NONE and nearest[x] == NONE:
            y = node[x].parent
            nearest[x] = stop
            x = y
        if node[stop].message != NONE:
            up[i] = node[stop].message
            continue
        if number[stop] == NONE:
            number[stop] = <int32_t>dummies
            dummies += 1
        children[number[stop]] += 1
        up[i] = <int32_t>n + number[stop]
    for i in range(n):
        if up[i] >= n and children[up[i] - n] == 1:
            up[i] = NONE
    return dummies


cdef Py_ssize_t merge(const Row* row, const int32_t* chosen, Py_ssize_t n, Py_ssize_t dummies, const int32_t* order,
                      int32_t* up, int32_t* also, int32_t* first, Map table, Buffers held) except -1 nogil:
    """Step 5: threads of one base subject become one. Returns how many messages that are not there there are now."""
    cdef Py_ssize_t r, tops = 0, count = dummies
    cdef int32_t* top = held.numbers(n, NONE)
    cdef int32_t one, known, root
    cdef int32_t* place
    cdef uint64_t subject
    for r in range(n):
        one = order[r]
        if up[one] == NONE:
            top[tops] = one
            tops += 1
        elif up[one] >= n and first[up[one]] == NONE:
            first[up[one]] = one
            top[tops] = up[one]
            tops += 1
    for r in range(tops):
        root = top[r]
        one = first[root] if root >= n else root  # whose subject is that of the thread
        subject = row[chosen[one]].subject
        if not subject:
            continue
        place = table.at(subject)
        known = place[0]
        if known == NONE or (known < n and (root >= n or (row[chosen[known]].reply and not row[chosen[one]].reply))):
            place[0] = root
    for r in range(tops):
        root = top[r]
        one = first[root] if root >= n else root
        subject = row[chosen[one]].subject
        if not subject:
            continue
        place = table.at(subject)
        known = place[0]
        if known == root:
            continue
        if known >= n:
            if root >= n:
                also[root - n] = known
            else:
                up[root] = known
        elif row[chosen[one]].reply and not row[chosen[known]].reply:
            up[root] = known
        else:
            up[known] = up[root] = place[0] = <int32_t>(n + count)
            count += 1
    return count


cdef int by_latest(Py_ssize_t n, Py_ssize_t total, const int32_t* order, const int32_t* up, int32_t* top,
                   Py_ssize_t tops, Buffers held) except -1 nogil:
    """THREAD=REFS: threads in the order of their latest messages."""
    cdef Py_ssize_t r, k = 0
    cdef int32_t x, y, root
    cdef int32_t* root_of = held.numbers(total, NONE)
    cdef int32_t* latest = held.numbers(total, NONE)
    for r in range(n):
        x = order[r]
        while up[x] != NONE and root_of[x] == NONE:
            x = up[x]
        root = root_of[x] if root_of[x] != NONE else x
        x = order[r]
        while up[x] != NONE and root_of[x] == NONE:
            y = up[x]
            root_of[x] = root
            x = y
        latest[root] = <int32_t>r
    for r in range(n):  # the rank of a thread's latest message is its alone
        x = order[r]
        root = root_of[x] if root_of[x] != NONE else x
        if latest[root] == r:
            top[k] = root
            k += 1
    return 0


cdef int render(const Row* row, const int32_t* chosen, Py_ssize_t n, Py_ssize_t total, const int32_t* top, Py_ssize_t tops,
                const int32_t* first, const int32_t* next, UidSet numbers, Out out, Buffers held) except -1 nogil:
    """``(3 6 (4 23)(44 7 96))``: threads with the number of each message."""
    cdef int32_t* stack = held.numbers(3 * total, 0)
    cdef Py_ssize_t r, depth, k, at
    cdef int32_t one, child
    cdef bint fresh = False  # is nothing written behind the last parenthesis?
    for r in range(tops):
        out.putc(b'('[0])
        fresh = True
        stack[0] = top[r]
        depth = 1
        while depth:
            depth -= 1
            one = stack[depth]
            if one == OPEN or one == CLOSE:
                out.putc(b'('[0] if one == OPEN else b')'[0])
                fresh = one == OPEN
                continue
            if one < n:
                if not fresh:
                    out.putc(32)
                out.number(row[chosen[one]].uid if numbers is None else numbers.seq_of(row[chosen[one]].uid))
                fresh = False
            child = first[one]
            if child == NONE:
                continue
            if next[child] == NONE:
                stack[depth] = child
                depth += 1
                continue
            if not fresh:
                out.putc(32)
            k = 0
            while child != NONE:
                k += 1
                child = next[child]
            child = first[one]
            depth += 3 * k
            at = depth
            while child != NONE:  # the first child is to be on top
                at -= 3
                stack[at] = CLOSE
                stack[at + 1] = child
                stack[at + 2] = OPEN
                child = next[child]
        out.putc(b')'[0])
    return 0
