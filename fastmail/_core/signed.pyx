"""The header of a message as signatures of DKIM and ARC see it: which fields it has of each name, and which of them a
signature covers (RFC 6376 5.4.2).

Promise: a header is walked once, however many signatures name its fields; whoever chooses the names of fields cannot
make looking for them slow. Nothing is raised for what a message holds.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from os import urandom

from fastmail._core.dkim cimport put_field, relaxed_field, simple_field
from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.octets cimport Out, lower
from fastmail._core.tags cimport cut, from_base64, parts

cdef enum:
    MOST = 10000     # fields of a header that are looked at
    FIRST = 32       # fields for which there is room at first
    FOLDS = 4        # times what signatures have in common that a signature may have in all
    SHOWN = 8        # characters of b= in results (RFC 6008 4)
    BEGINNING = 100  # octets of a Subject
    MARKS = 16       # beginnings of names that one call can look for

# The key of the hashes of names. Whoever chooses names does not know it, and cannot choose names that collide.
cdef uint64_t KEY = int.from_bytes(urandom(8), "little") | 1
cdef tuple CHAIN = (b"arc-seal", b"arc-message-signature", b"arc-authentication-results")

cdef inline bint wsp(char c) noexcept nogil:
    return c == 32 or c == 9


cdef struct Place:
    # Where a field is: its first octet, its colon, behind its end; octets of its name; the field of that name above it
    Py_ssize_t start
    Py_ssize_t colon
    Py_ssize_t end
    Py_ssize_t size
    int above


cdef inline uint32_t step(uint32_t found, const char* p, Py_ssize_t n) noexcept nogil:
    """The hash with up to four octets more. Case does not count: 32 makes some other octets equal too, which only
    means that they have to be compared."""
    cdef uint32_t word = 0
    memcpy(&word, p, n)
    return <uint32_t>(((found ^ (word | 0x20202020)) * KEY) >> 32)


cdef uint32_t hashed(const char* p, Py_ssize_t n) noexcept nogil:
    """Of a name, without regard to case."""
    cdef uint32_t found = <uint32_t>n
    while n >= 4:
        found = step(found, p, 4)
        p += 4
        n -= 4
    return step(found, p, n) if n else found


cdef inline bint alike(const char* p, const char* q, Py_ssize_t n) noexcept nogil:
    """Are two names of that length the same, without regard to case?"""
    cdef Py_ssize_t i = 0
    while i < n and (p[i] == q[i] or lower(p[i]) == lower(q[i])):
        i += 1
    return i == n


cdef class Fields:
    """The fields of a header, found once: which there are of each name, and their canonical forms."""
    cdef bytes data
    cdef Place* places   # in their order
    cdef int room        # for so many of them
    cdef int* last       # a table of names by their hashes: the last field of each, -1 where there is none
    cdef int* left       # the same while a signature takes fields from the bottom up: the last that it has not taken
    cdef uint32_t mask   # entries of the table, less one
    cdef readonly int count
    cdef readonly Py_ssize_t end  # where the walk ended
    cdef readonly bint broken
    cdef readonly bint cr         # there is a CR in it

    def __cinit__(self, bytes data not None):
        cdef const char* base = data
        cdef const char* p = base
        cdef const char* stop = p + len(data)
        cdef Place* more
        cdef Line line
        cdef Kind kind
        self.data = data
        self.room = FIRST
        self.places = <Place*>malloc(FIRST * sizeof(Place))
        if self.places == NULL:
            raise MemoryError()
        while True:
            kind = next_line(p, stop, &line)
            if kind == END:
                break
            if kind == FIELD and self.count < MOST:
                if self.count == self.room:
                    more = <Place*>realloc(self.places, 2 * self.room * sizeof(Place))
                    if more == NULL:
                        raise MemoryError()
                    self.places = more
                    self.room *= 2
                self.places[self.count] = Place(
                    p - base, line.value - 1 - base, line.end - base, line.name - line.start, -1
                )
                self.count += 1
            else:
                self.broken = True
            p = line.end
        self.end = p - base
        self.cr = self.end > 0 and memchr(base, 13, self.end) != NULL
        self.make_table(base)

    def __dealloc__(self):
        free(self.places)
        free(self.last)

    cdef int make_table(self, const char* base) except -1:
        """At most half of it is used, so a name is found after few looks."""
        cdef uint32_t size = 2 * FIRST
        cdef uint32_t slot
        cdef int at
        while size < <uint32_t>(2 * self.count):
            size *= 2
        self.last = <int*>malloc(2 * size * sizeof(int))
        if self.last == NULL:
            raise MemoryError()
        self.left = self.last + size
        self.mask = size - 1
        memset(self.last, 0xff, size * sizeof(int))
        for at in range(self.count):
            slot = self.slot(base, base + self.places[at].start, self.places[at].size)
            self.places[at].above = self.last[slot]
            self.last[slot] = at
        return 0

    cdef uint32_t slot(self, const char* base, const char* name, Py_ssize_t size) noexcept:
        """Where a name is in the table, or would be."""
        cdef uint32_t slot = hashed(name, size) & self.mask
        cdef Place* place
        while self.last[slot] >= 0:
            place = &self.places[self.last[slot]]
            if place.size == size and alike(base + place.start, name, size):
                break
            slot = (slot + 1) & self.mask
        return slot

    cdef int newest(self, bytes name):
        """The last field of a name; -1 for none."""
        return self.last[self.slot(<const char*>self.data, <const char*>name, len(name))]

    def named(self, bytes name not None):
        cdef int at = self.newest(name)
        cdef list found = []
        while at >= 0:
            found.append(self.octets(at))
            at = self.places[at].above
        found.reverse()
        return found

    def values(self, bytes name not None, Py_ssize_t most):
        cdef int at = self.newest(name)
        cdef list found = []
        cdef Place* place
        while at >= 0:
            place = &self.places[at]
            most -= place.end - place.start
            if most < 0:
                return None
            found.append(self.value(at, place.end))
            at = place.above
        found.reverse()
        return found

    cdef int how_many(self, bytes name):
        cdef int at = self.newest(name), found = 0
        while at >= 0:
            found += 1
            at = self.places[at].above
        return found

    def number(self, bytes name not None):
        return self.how_many(name)

    def numbers(self, tuple names not None, int most):
        return tuple([min(self.how_many(name), most) for name in names])

    cdef bytes octets(self, int at):
        """A field, whole."""
        cdef Place* place = &self.places[at]
        return PyBytes_FromStringAndSize(<const char*>self.data + place.start, place.end - place.start)

    cdef bytes value(self, int at, Py_ssize_t most):
        """What a field has behind its colon, ``most`` octets of it at most."""
        cdef Place* place = &self.places[at]
        cdef const char* start = <const char*>self.data + place.colon + 1
        return PyBytes_FromStringAndSize(start, min(place.end - place.colon - 1, most))

    cdef int place_of(self, bytes field):
        """Which field these octets are; -1 for none."""
        cdef const char* base = self.data
        cdef const char* colon = <const char*>memchr(<const char*>field, 58, len(field))
        cdef Py_ssize_t n = len(field), size = 0
        cdef Place* place
        cdef int at
        if colon == NULL:
            return -1
        size = colon - <const char*>field
        while size and wsp((<const char*>field)[size - 1]):
            size -= 1
        at = self.last[self.slot(base, <const char*>field, size)]
        while at >= 0:
            place = &self.places[at]
            if place.end - place.start == n and memcmp(base + place.start, <const char*>field, n) == 0:
                break
            at = place.above
        return at

    cdef int take(self, Out out, names, bint relaxed, int own=-1) except -1:
        """The fields that a signature covers, from the bottom up for each name; ``own``: the signature's field, which
        is none of them."""
        cdef const char* base = self.data
        cdef bytes name
        cdef uint32_t slot
        cdef int at
        cdef Place* place
        memcpy(self.left, self.last, (self.mask + 1) * sizeof(int))
        for name in names:
            slot = self.slot(base, name, len(name))
            at = self.left[slot]
            if at >= 0 and at == own:
                at = self.places[at].above
            if at < 0:
                continue
            place = &self.places[at]
            self.left[slot] = place.above
            if relaxed:
                relaxed_field(out, base + place.start, base + place.colon, base + place.end)
            else:
                simple_field(out, base + place.start, base + place.end)
        return 0

    def canonical(self, names, bint relaxed):
        cdef Out out = Out(2048)
        self.take(out, names, relaxed)
        return out.take()

    def signed(self, names, bint relaxed, bytes field not None, bytes unsigned not None):
        cdef Out out = Out(2048)
        self.take(out, names, relaxed, self.place_of(field))
        put_field(out, unsigned, len(unsigned), relaxed)
        out.len -= 2
        return out.take()

    # ---------------------------------------------------------------- a header as nearly all are

    cdef bint marked(self, tuple names) except -1:
        """Does the name of a field begin with one of these?"""
        cdef const char* starts[MARKS]
        cdef Py_ssize_t sizes[MARKS]
        cdef const char* start
        cdef int n, at, count = len(names)
        if count > MARKS:
            raise ValueError("too many names")
        for n in range(count):
            starts[n] = <bytes>names[n]
            sizes[n] = len(<bytes>names[n])
        for at in range(self.count):
            start = <const char*>self.data + self.places[at].start
            for n in range(count):
                if sizes[n] <= self.places[at].size and alike(start, starts[n], sizes[n]):
                    return True
        return False

    cdef int only(self, bytes name):
        """The only field of a name; -1 where there is none, -2 where there are several."""
        cdef int at = self.newest(name)
        return at if at < 0 or self.places[at].above < 0 else -2

    cdef int topmost(self, bytes name):
        """The first field of a name; -1 for none."""
        cdef int at = self.newest(name), above = at
        while above >= 0:
            at = above
            above = self.places[at].above
        return at

    def usual(self, Py_ssize_t longest, int most, tuple marks not None):
        cdef int author = self.only(b"from"), replies = self.only(b"reply-to"), subject = self.topmost(b"subject")
        cdef int at = self.newest(b"dkim-signature")
        cdef list common = [], own = []
        cdef tuple halves
        cdef bytes hashed, octets
        cdef Place* place
        if self.broken or self.cr or author < 0 or replies == -2 or self.chained():
            return None
        for n in (author, replies):
            if n >= 0 and self.places[n].end - self.places[n].colon > longest:
                return None
        while at >= 0:
            place = &self.places[at]
            if len(own) == most or place.end - place.start > FOLDS * longest:
                return None
            halves = parts(self.octets(at))
            if halves is None or len(<bytes>halves[0]) > longest:
                return None
            octets, hashed = from_base64(halves[1]), from_base64(halves[2])
            if octets is None or hashed is None:
                return None
            common.append(halves[0])
            own.append((at, hashed, octets, (<bytes>halves[1])[:SHOWN].decode("ascii"), halves[3], halves[4]))
            at = place.above
        common.reverse()
        own.reverse()
        return (
            self.value(author, longest),
            self.value(replies, longest) if replies >= 0 else b"",
            self.newest(b"list-id") >= 0,
            self.value(subject, BEGINNING) if subject >= 0 else b"",
            not self.marked(marks),
            tuple(common),
            own,
        )

    cdef bint chained(self):
        """Is there a field of ARC?"""
        for name in CHAIN:
            if self.newest(name) >= 0:
                return True
        return False

    def covered(self, int at, names, bint relaxed):
        cdef Out out = Out(2048)
        cdef bytes unsigned
        if not 0 <= at < self.count:
            raise IndexError("no such field")
        unsigned = cut(self.octets(at), b"b")
        self.take(out, names, relaxed, at)
        put_field(out, unsigned, len(unsigned), relaxed)
        out.len -= 2
        return out.take()
