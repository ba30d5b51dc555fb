"""Canonical forms of DKIM (RFC 6376 3.4): bodies as they come in, and header fields.

A line ends with CRLF, or with LF as content is kept here; both are CRLF in what comes out. A CR elsewhere is a
character like any other. A body may be cut anywhere: what a cut leaves open (a CR, white space, empty lines) is a few
numbers, so the result is the same.

Promise: linear in what is given; a body holds TAKE octets and a block of its canonical form at most, however many empty
lines it has.
"""

from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memcpy

from fastmail._core.octets cimport Out, get64, lower
from fastmail._core.sha256 cimport Sum

cdef enum:
    BLOCK = 4096   # octets of a body for which there is room at once
    TAKE = 16384   # octets of a canonical form that are given on at once: they are hashed while they are in the cache

cdef inline bint wsp(char c) noexcept nogil:
    return c == 32 or c == 9


cdef inline bint any_space(const char* p) noexcept nogil:
    """Is one of the eight octets at p a space, or below?"""
    cdef uint64_t word = get64(<const uint8_t*>p)
    return ((word - 0x2121212121212121ULL) & ~word & 0x8080808080808080ULL) != 0


cdef extern from "canonical.h":
    enum:
        CANONICAL_STEP
        CANONICAL_AHEAD
    struct canonical:
        const uint8_t* start "from"
        uint8_t* to
        Py_ssize_t ends
        int any
        int space
    int canonical_ways() nogil
    void canonical_run(int way, canonical* at, const uint8_t* end, const uint8_t* stop, bint relaxed) nogil

cdef int WAY = canonical_ways() - 1  # how a body is looked at


def ways():
    return canonical_ways()


def use(int way):
    global WAY
    if not 0 <= way < canonical_ways():
        raise ValueError("this machine has no such way")
    WAY = way


cdef class Body:
    """A body on its way into a hash; ``relaxed`` or simple."""
    cdef Out out
    cdef Sum sum          # the hash
    cdef object update    # what takes the octets in place of one
    cdef bint relaxed
    cdef bint held_cr     # the last octet was a CR
    cdef bint space       # relaxed: white space came and nothing behind it in this line
    cdef Py_ssize_t ends  # line ends that came since the last character
    cdef bint any         # a character came
    cdef readonly unsigned long long size  # octets that were given on

    def __cinit__(self, bint relaxed, to not None):
        self.out = Out(4096)
        if type(to) is Sum:
            self.sum = to
        else:
            self.update = to
        self.relaxed = relaxed

    # ---------------------------------------------------------------- octet by octet

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

    # ---------------------------------------------------------------- most of it

    cdef const char* copy(self, const char* p, const char* end, const char* stop) except NULL:
        """Copy a block in steps of many octets. Returns where that ends: at or behind ``end``, in front of a step that
        ends with a CR, or near ``stop``, up to where one may read."""
        cdef Out out = self.out
        cdef canonical at
        out.room(2 * (end - p + CANONICAL_STEP) + 2 * self.ends + CANONICAL_STEP)
        at.start, at.to, at.ends = <const uint8_t*>p, <uint8_t*>out.buf + out.len, self.ends
        at.any, at.space = self.any, self.space
        canonical_run(WAY, &at, <const uint8_t*>end, <const uint8_t*>stop, self.relaxed)
        out.len = <char*>at.to - out.buf
        self.ends, self.any, self.space = at.ends, at.any, at.space
        return <const char*>at.start

    # ---------------------------------------------------------------- the whole

    cdef int give(self) except -1:
        """What there is of the canonical form goes into the hash, from where it is."""
        if self.out.len:
            if self.sum is not None:
                self.sum.add(<const uint8_t*>self.out.buf, self.out.len)
            else:
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

    def feed(self, data not None):
        cdef Py_buffer view  # a view of Cython's own is made and freed by more code than a short body takes
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.take(<const char*>view.buf, <const char*>view.buf + view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int take(self, const char* p, const char* stop) except -1:
        """More of the body, block by block."""
        cdef const char* end
        while p < stop:
            end = p + BLOCK if stop - p > BLOCK else stop
            if self.held_cr:
                self.held_cr = False
                if p[0] != 10:
                    self.lone_cr()
            if self.ends > BLOCK and not self.only_ends(p, end):
                self.give_ends()
            # ``copy`` makes room for all empty lines before: where there are more than a block has, none is written now.
            if self.ends <= BLOCK:
                p = self.copy(p, end, stop)
                end = p + CANONICAL_STEP if end - p > CANONICAL_STEP else end
            if p < end:
                self.change(p, end)
                p = end
            if self.out.len >= TAKE:
                self.give()
        return 0

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
            while end - p > 8 and not any_space(p + 1):  # a word of some length, eight octets at a go
                memcpy(to, p + 1, 8)
                p += 8
                to += 8
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
