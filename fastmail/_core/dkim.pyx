"""Canonical forms of DKIM (RFC 6376 3.4): bodies as they come in, header fields, and which fields a signature covers.

A line ends with CRLF, or with LF as content is kept here; both are CRLF in what comes out. A CR elsewhere is a
character like any other. A body may be cut anywhere: what a cut leaves open (a CR, white space, empty lines) is a few
numbers, so the result is the same.

Promise: linear in what is given, and no longer than twice that and what was left open; header fields of a message are
walked once, however many signatures name them.
"""

from libc.string cimport memchr, memcpy

from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.octets cimport Out, lower

cdef enum:
    KEPT = 65536   # octets that a body keeps between two takes
    MOST = 10000   # fields of a header that are looked at

cdef inline bint wsp(char c) noexcept nogil:
    return c == 32 or c == 9


cdef class Body:
    """A body on its way into a hash; ``relaxed`` or simple."""
    cdef Out out
    cdef bint relaxed
    cdef bint held_cr     # the last octet was a CR
    cdef bint space       # relaxed: white space came and nothing behind it in this line
    cdef Py_ssize_t ends  # line ends that came since the last character
    cdef bint any         # a character came
    cdef readonly unsigned long long size  # octets that came out

    def __cinit__(self, bint relaxed):
        self.out = Out(4096)
        self.relaxed = relaxed

    cdef int text(self, const char* p, Py_ssize_t n) except -1 nogil:
        """Characters of a line, not all of them white space when relaxed."""
        while self.ends:
            self.out.put("\r\n", 2)
            self.ends -= 1
        if self.space:
            self.out.putc(32)
            self.space = False
        self.any = True
        return self.out.put(p, n)

    cdef int line(self, const char* p, const char* end) except -1 nogil:
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

    cdef int ended(self) except -1 nogil:
        self.space = False
        self.ends += 1
        return 0

    cdef int take_in(self, const char* p, const char* end) except -1 nogil:
        cdef const char* q
        cdef char cr = 13
        if self.held_cr and p < end:
            self.held_cr = False
            if p[0] != 10:
                self.line(&cr, &cr + 1)
        while p < end:
            q = <const char*>memchr(p, 10, end - p)
            if q == NULL:
                if (end - 1)[0] == 13:
                    self.held_cr = True
                    end -= 1
                return self.line(p, end)
            self.line(p, q - 1 if q > p and (q - 1)[0] == 13 else q)
            self.ended()
            p = q + 1
        return 0

    cdef bytes given(self):
        cdef bytes result = self.out.take()
        self.size += len(result)
        self.out.shrink(KEPT)
        return result

    def feed(self, const unsigned char[::1] data):
        cdef const char* p
        if data.shape[0]:
            p = <const char*>&data[0]
            with nogil:
                self.take_in(p, p + data.shape[0])
        return self.given()

    def finish(self):
        cdef char cr = 13
        if self.held_cr:
            self.held_cr = False
            self.line(&cr, &cr + 1)
        if self.any or not self.relaxed:
            self.out.put("\r\n", 2)
        return self.given()


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
    cdef bint space = False, any = False
    while p < colon:
        if not wsp(p[0]):
            out.putc(lower(p[0]))
        p += 1
    out.putc(58)
    p = colon + 1
    while p < end:
        if p[0] == 10 or (p[0] == 13 and p + 1 < end and p[1] == 10):
            p += 1
            continue
        if wsp(p[0]):
            space = True
        else:
            if space and any:
                out.putc(32)
            out.putc(p[0])
            space = False
            any = True
        p += 1
    return out.put("\r\n", 2)


def field(const unsigned char[::1] data, bint relaxed):
    cdef Out out = Out(512)
    cdef const char* p
    cdef const char* colon
    cdef const char* end
    if not data.shape[0]:
        raise ValueError("no field")
    p = <const char*>&data[0]
    end = p + data.shape[0]
    colon = <const char*>memchr(p, 58, end - p)
    if colon == NULL:
        raise ValueError("no field")
    if relaxed:
        relaxed_field(out, p, colon, end)
    else:
        simple_field(out, p, end)
    return out.take()


cdef class Fields:
    """The fields of a header, found once: which there are of each name, and their canonical forms."""
    cdef bytes data
    cdef dict places        # name in lower case: [(start, colon, end)]
    cdef readonly int count
    cdef readonly bint broken

    def __cinit__(self, bytes data not None):
        cdef const char* base = data
        cdef const char* p = base
        cdef const char* stop = p + len(data)
        cdef Line line
        cdef Kind kind
        cdef bytes name
        self.data = data
        self.places = {}
        while True:
            kind = next_line(p, stop, &line)
            if kind == END:
                break
            if kind == FIELD and self.count < MOST:
                name = line.start[: line.name - line.start]
                self.places.setdefault(name.lower(), []).append((p - base, line.value - 1 - base, line.end - base))
                self.count += 1
            else:
                self.broken = True
            p = line.end

    def named(self, bytes name not None):
        return [self.data[start:end] for start, _, end in self.places.get(name, ())]

    def number(self, bytes name not None):
        return len(self.places.get(name, ()))

    def names(self):
        return list(self.places)

    def canonical(self, list names not None, bint relaxed):
        cdef Out out = Out(2048)
        cdef const char* base = self.data
        cdef dict used = {}
        cdef list places
        cdef Py_ssize_t start, colon, end
        cdef int at
        for name in names:
            places = self.places.get(name)
            if places is None:
                continue
            at = used.get(name, 0)
            if at >= len(places):
                continue
            used[name] = at + 1
            start, colon, end = places[len(places) - 1 - at]
            if relaxed:
                relaxed_field(out, base + start, base + colon, base + end)
            else:
                simple_field(out, base + start, base + end)
        return out.take()
