"""The header of a message as signatures of DKIM and ARC see it: which fields it has of each name, and which of them a
signature covers (RFC 6376 5.4.2).

Promise: a header is walked once, however many signatures name its fields; whoever chooses the names of fields cannot
make looking for them slow. Nothing is raised for what a message holds.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from os import urandom

from fastmail._core.dkim cimport put_field, relaxed_field, simple_field
from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.octets cimport Out, get32, get64, lower
from fastmail._core.sha256 cimport digest_of
from fastmail._core.tags cimport Cut, cut_at, decoded

cdef enum:
    MOST = 10000     # fields of a header that are looked at
    FIRST = 32       # fields for which there is room at first
    FOLDS = 4        # times what signatures have in common that a signature may have in all
    BEGINNING = 100  # octets of a Subject
    MARKS = 16       # beginnings of names that one call can look for
    KEPT = 16384     # octets that the shared buffer keeps between two calls

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


cdef inline uint32_t step(uint32_t found, uint32_t word) noexcept nogil:
    """The hash with four octets more. Case does not count: 32 makes some other octets equal too, which only means that
    they have to be compared."""
    return <uint32_t>(((found ^ (word | 0x20202020)) * KEY) >> 32)


cdef uint32_t hashed(const char* name, Py_ssize_t n) noexcept nogil:
    """Of a name, without regard to case. What is left behind the last four octets is taken with some of these again,
    so that four are always there."""
    cdef const uint8_t* p = <const uint8_t*>name
    cdef uint32_t found = <uint32_t>n
    if n < 4:
        return step(found, p[0] | (<uint32_t>p[n >> 1] << 8) | (<uint32_t>p[n - 1] << 16)) if n else found
    while n >= 4:
        found = step(found, get32(p))
        p += 4
        n -= 4
    return step(found, get32(p + n - 4)) if n else found


cdef inline uint64_t lowered(uint64_t word) noexcept nogil:
    """Eight octets, with each of A-Z in lower case. In a sum of seven bits, the eighth says whether an octet is at or
    above A, or above Z; octets that have it already are no letters."""
    cdef uint64_t low = word & 0x7f7f7f7f7f7f7f7fULL
    cdef uint64_t upper = (low + 0x3f3f3f3f3f3f3f3fULL) ^ (low + 0x2525252525252525ULL)
    return word | ((upper & ~word & 0x8080808080808080ULL) >> 2)


cdef inline uint64_t ends(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """The first and the last four of four to eight octets."""
    return get32(p) | (<uint64_t>get32(p + n - 4) << 32)


cdef bint alike(const char* one, const char* other, Py_ssize_t n) noexcept nogil:
    """Are two names of that length the same, without regard to case?"""
    cdef const uint8_t* p = <const uint8_t*>one
    cdef const uint8_t* q = <const uint8_t*>other
    cdef Py_ssize_t i = 0
    if n < 4:
        while i < n and lower(one[i]) == lower(other[i]):
            i += 1
        return i == n
    if n < 8:
        return lowered(ends(p, n)) == lowered(ends(q, n))
    while i + 8 <= n:
        if lowered(get64(p + i)) != lowered(get64(q + i)):
            return False
        i += 8
    return i == n or lowered(get64(p + n - 8)) == lowered(get64(q + n - 8))


# What canonical forms are put together in; no call leaves anything there. The GIL is held while it is in use.
cdef Out ROOM = Out(4096)
cdef Out CUT = Out(2048)

cdef bytes summed(Py_ssize_t n):
    """The digest of the first octets of it."""
    cdef bytes found = digest_of(<const uint8_t*>ROOM.buf, n)
    ROOM.len = 0
    ROOM.shrink(KEPT)
    return found


cdef bytes taken(Py_ssize_t n):
    """The first octets of it."""
    cdef bytes found = PyBytes_FromStringAndSize(ROOM.buf, n)
    ROOM.len = 0
    ROOM.shrink(KEPT)
    return found


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
        cdef list found = []
        cdef bytes name
        cdef int n
        for name in names:
            n = self.how_many(name)
            found.append(n if n < most else most)
        return tuple(found)

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

    cdef int take(self, names, bint relaxed, int own=-1) except -1:
        """Puts the fields that a signature covers into ROOM, from the bottom up for each name; ``own``: the signature's
        field, which is none of them."""
        cdef const char* base = self.data
        cdef bytes name
        cdef bytes before = b""
        cdef uint32_t slot = 0
        cdef int at
        cdef Place* place
        names = names if type(names) is tuple else tuple(names)  # no code of another runs while ROOM is in use
        ROOM.len = 0
        memcpy(self.left, self.last, (self.mask + 1) * sizeof(int))
        for name in names:
            if name != before:  # who signs a name twice does that at once, nearly always
                slot = self.slot(base, name, len(name))
                before = name
            at = self.left[slot]
            if at >= 0 and at == own:
                at = self.places[at].above
            if at < 0:
                continue
            place = &self.places[at]
            self.left[slot] = place.above
            if relaxed:
                relaxed_field(ROOM, base + place.start, base + place.colon, base + place.end)
            else:
                simple_field(ROOM, base + place.start, base + place.end)
        return 0

    def canonical(self, names, bint relaxed):
        self.take(names, relaxed)
        return taken(ROOM.len)

    def signed(self, names, bint relaxed, bytes field not None, bytes unsigned not None):
        self.take(names, relaxed, self.place_of(field))
        put_field(ROOM, unsigned, len(unsigned), relaxed)
        return taken(ROOM.len - 2)

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
                if lower(start[0]) != starts[n][0]:  # most names begin in another way
                    continue
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
        cdef tuple said
        cdef const char* base = self.data
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
            said = decoded(base + place.start, base + place.end, at)
            if said is None or len(<bytes>said[0]) > longest:
                return None
            common.append(said[0])
            own.append(said[1])
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

    cdef int cover(self, int at, names, bint relaxed) except -1:
        """Puts what the signature in a field is of into ROOM."""
        cdef const char* base = self.data
        cdef Place* place
        cdef Cut cut
        if not 0 <= at < self.count:
            raise IndexError("no such field")
        place = &self.places[at]
        cut_at(base + place.start, base + place.end, b"b", 1, &cut)
        CUT.len = 0
        CUT.put(base + place.start, cut.start)
        CUT.put(base + place.start + cut.behind, place.end - place.start - cut.behind)
        self.take(names, relaxed, at)
        put_field(ROOM, CUT.buf, CUT.len, relaxed)
        CUT.len = 0
        CUT.shrink(KEPT)
        return 0

    def covered(self, int at, names, bint relaxed):
        self.cover(at, names, relaxed)
        return taken(ROOM.len - 2)

    def digest(self, int at, names, bint relaxed):
        self.cover(at, names, relaxed)
        return summed(ROOM.len - 2)
