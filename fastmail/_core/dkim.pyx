"""Canonical forms of DKIM (RFC 6376 3.4): bodies as they come in, header fields, and which fields a signature covers.

A line ends with CRLF, or with LF as content is kept here; both are CRLF in what comes out. A CR elsewhere is a
character like any other. A body may be cut anywhere: what a cut leaves open (a CR, white space, empty lines) is a few
numbers, so the result is the same.

Promise: linear in what is given; a body holds TAKE octets and a block of its canonical form at most, however many empty
lines it has; header fields of a message are walked once, however many signatures name them.
"""

from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from os import urandom

from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.octets cimport Out, lower

cdef enum:
    MOST = 10000   # fields of a header that are looked at
    BLOCK = 4096   # octets of a body that are looked through at once for white space that relaxed changes
    STEP = 64      # of these in one go: a fixed number, so that the compiler makes vector instructions of it
    COPY = 32      # octets of a line that are copied in one go, for the same reason
    TAKE = 16384   # octets of a canonical form that are given on at once: they are hashed while they are in the cache
    FIRST = 32     # fields for which there is room at first

# The key of the hashes of names. Whoever chooses names does not know it, and cannot choose names that collide.
cdef uint64_t KEY = int.from_bytes(urandom(8), "little") | 1

cdef inline bint wsp(char c) noexcept nogil:
    return c == 32 or c == 9


cdef bint tidy(const unsigned char* p, const unsigned char* end, const unsigned char* stop) noexcept nogil:
    """Is all white space of p .. end as relaxed has it, single spaces with a character behind each? ``stop``: up to
    where one may look for that character."""
    cdef unsigned char odd = 0
    cdef int i
    while end - p >= STEP and stop - p > STEP:
        for i in range(STEP):
            odd |= (p[i] == 9) | ((p[i] == 32) & (p[i + 1] <= 32))
        if odd:
            return False
        p += STEP
    while p < end:
        if p[0] == 9 or (p[0] == 32 and (p + 1 == stop or p[1] <= 32)):
            return False
        p += 1
    return True


cdef class Body:
    """A body on its way into a hash; ``relaxed`` or simple."""
    cdef Out out
    cdef object update    # of the hash
    cdef bint relaxed
    cdef bint held_cr     # the last octet was a CR
    cdef bint space       # relaxed: white space came and nothing behind it in this line
    cdef Py_ssize_t ends  # line ends that came since the last character
    cdef bint any         # a character came
    cdef readonly unsigned long long size  # octets that were given on

    def __cinit__(self, bint relaxed, update not None):
        self.out = Out(4096)
        self.update = update
        self.relaxed = relaxed

    # ---------------------------------------------------------------- white space changes

    cdef int text(self, const char* p, Py_ssize_t n) except -1:
        """Characters of a line, not all of them white space when relaxed."""
        while self.ends:
            self.out.put("\r\n", 2)
            self.ends -= 1
        if self.space:
            self.out.putc(32)
            self.space = False
        self.any = True
        return self.out.put(p, n)

    cdef int line(self, const char* p, const char* end) except -1:
        """A piece of a line, without its end."""
        cdef const char* q
        if p == end:
            return 0
        if not self.relaxed or (memchr(p, 32, end - p) == NULL and memchr(p, 9, end - p) == NULL):
            return self.text(p, end - p)
        while p < end:
            if wsp(p[0]):
                self.space = True
                p += 1
                continue
            q = p
            while True:  # up to white space that is more than one SP between two characters
                while q < end and not wsp(q[0]):
                    q += 1
                if q + 1 < end and q[0] == 32 and not wsp(q[1]):
                    q += 1
                    continue
                break
            self.text(p, q - p)
            p = q
        return 0

    cdef int change(self, const char* p, const char* end) except -1:
        """A block, line by line."""
        cdef const char* q
        while p < end:
            q = <const char*>memchr(p, 10, end - p)
            if q == NULL:
                if (end - 1)[0] == 13:
                    self.held_cr = True
                    end -= 1
                return self.line(p, end)
            self.line(p, q - 1 if q > p and (q - 1)[0] == 13 else q)
            self.space = False
            self.ends += 1
            p = q + 1
        return 0

    # ---------------------------------------------------------------- white space stays

    cdef int copy(self, const char* p, const char* end, const char* stop) except -1:
        """A block of which only line ends have to change. ``stop``: up to where one may read. There is room for all of
        the block beforehand, so that a line costs a look for its end and a few moves."""
        cdef Out out = self.out
        cdef Py_ssize_t n, done, most = 2 * (end - p) + 2 * self.ends + COPY
        cdef const char* q
        cdef const char* behind
        cdef char* to
        if out.len + most > out.cap:
            out.grow(most)
        to = out.buf + out.len
        while p < end:
            q = <const char*>memchr(p, 10, end - p)
            behind = end if q == NULL else q
            if behind > p and (behind - 1)[0] == 13:
                behind -= 1
                self.held_cr = q == NULL
            n = behind - p
            if n:
                self.any = True
                while self.ends:
                    memcpy(to, "\r\n", 2)
                    to += 2
                    self.ends -= 1
                if stop - p < n + COPY:
                    memcpy(to, p, n)
                else:  # up to COPY octets too many, which the next ones replace
                    done = 0
                    while done < n:
                        memcpy(to + done, p + done, COPY)
                        done += COPY
                to += n
            if q == NULL:
                break
            self.ends += 1
            p = q + 1
        out.len = to - out.buf
        return 0

    # ---------------------------------------------------------------- the whole

    cdef int give(self) except -1:
        """What there is of the canonical form goes into the hash, from where it is."""
        if self.out.len:
            view = PyMemoryView_FromMemory(self.out.buf, self.out.len, PyBUF_READ)
            self.update(view)
            view.release()  # nobody may keep it: the buffer is used again
            self.size += self.out.len
            self.out.len = 0
        return 0

    cdef bint only_ends(self, const char* p, const char* end) noexcept nogil:
        """Are there only line ends in a block, and white space that does not count?"""
        while p < end and (p[0] == 10 or (self.relaxed and wsp(p[0])) or
                           (p[0] == 13 and (p + 1 == end or p[1] == 10))):
            p += 1
        return p == end

    cdef int give_ends(self) except -1:
        """More empty lines than a block has, a few at a time."""
        cdef Py_ssize_t n
        while self.ends:
            n = min(self.ends, BLOCK)
            self.ends -= n
            while n:
                self.out.put("\r\n", 2)
                n -= 1
            if self.out.len >= TAKE:
                self.give()
        return 0

    cdef int lone_cr(self) except -1:
        """The CR at the end of what came before is a character."""
        cdef char cr = 13
        if self.ends > BLOCK:
            self.give_ends()
        return self.line(&cr, &cr + 1)

    def feed(self, const unsigned char[::1] data):
        cdef const char* p
        cdef const char* stop
        cdef const char* end
        if not data.shape[0]:
            return
        p = <const char*>&data[0]
        stop = p + data.shape[0]
        while p < stop:
            end = p + BLOCK if stop - p > BLOCK else stop
            if self.held_cr:
                self.held_cr = False
                if p[0] != 10:
                    self.lone_cr()
            if self.ends > BLOCK and not self.only_ends(p, end):
                self.give_ends()
            # Most blocks need no change of white space, and seeing that is faster than looking for it in each line.
            # ``copy`` makes room for all empty lines before; where there are more than a block has, none is written now.
            if self.ends <= BLOCK and (not self.relaxed or (
                not self.space and tidy(<const unsigned char*>p, <const unsigned char*>end, <const unsigned char*>stop)
            )):
                self.copy(p, end, stop)
            else:
                self.change(p, end)
            if self.out.len >= TAKE:
                self.give()
            p = end

    def finish(self):
        if self.held_cr:
            self.held_cr = False
            self.lone_cr()
        if self.any or not self.relaxed:
            self.out.put("\r\n", 2)
        self.give()


cdef int simple_field(Out out, const char* p, const char* end) except -1 nogil:
    """A field as it is, with CRLF (RFC 6376 3.4.1)."""
    cdef const char* q
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            out.put(p, end - p)
            return out.put("\r\n", 2)
        out.put(p, (q - 1 if q > p and (q - 1)[0] == 13 else q) - p)
        out.put("\r\n", 2)
        p = q + 1
    return 0


cdef int relaxed_field(Out out, const char* p, const char* colon, const char* end) except -1 nogil:
    """RFC 6376 3.4.2. A CR in front of a LF goes with it; one elsewhere is a character."""
    cdef Py_ssize_t most = end - p + 3
    cdef bint space = False
    cdef char* to
    cdef char* value
    if out.len + most > out.cap:
        out.grow(most)
    to = out.buf + out.len
    while p < colon:
        if not wsp(p[0]):
            to[0] = lower(p[0])
            to += 1
        p += 1
    to[0] = 58
    to += 1
    value = to
    p = colon + 1
    while p < end:
        if wsp(p[0]):
            space = True
        elif p[0] != 10 and (p[0] != 13 or p + 1 == end or p[1] != 10):
            if space and to > value:
                to[0] = 32
                to += 1
            space = False
            to[0] = p[0]
            to += 1
            while p + 1 < end and <unsigned char>p[1] > 32:
                p += 1
                to[0] = p[0]
                to += 1
        p += 1
    memcpy(to, "\r\n", 2)
    out.len = to + 2 - out.buf
    return 0


cdef int put_field(Out out, const char* p, Py_ssize_t n, bint relaxed) except -1:
    """One field; ValueError for what has no colon."""
    cdef const char* colon = <const char*>memchr(p, 58, n) if n else NULL
    if colon == NULL:
        raise ValueError("no field")
    return relaxed_field(out, p, colon, p + n) if relaxed else simple_field(out, p, p + n)


def field(const unsigned char[::1] data, bint relaxed):
    cdef Out out = Out(512)
    put_field(out, <const char*>&data[0] if data.shape[0] else NULL, data.shape[0], relaxed)
    return out.take()


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
    while i < n and lower(p[i]) == lower(q[i]):
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
        cdef const char* base = self.data
        cdef int at = self.newest(name)
        cdef list found = []
        cdef Place* place
        while at >= 0:
            place = &self.places[at]
            found.append(PyBytes_FromStringAndSize(base + place.start, place.end - place.start))
            at = place.above
        found.reverse()
        return found

    def values(self, bytes name not None, Py_ssize_t most):
        cdef const char* base = self.data
        cdef int at = self.newest(name)
        cdef list found = []
        cdef Place* place
        while at >= 0:
            place = &self.places[at]
            most -= place.end - place.start
            if most < 0:
                return None
            found.append(PyBytes_FromStringAndSize(base + place.colon + 1, place.end - place.colon - 1))
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
