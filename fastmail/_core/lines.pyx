"""Line ends and dots: DATA and BDAT content in, stored content out (RFC 5321 4.5.2, 4.1.1.4; RFC 3030; RFC 1939 3).

Promise: the end of data is CRLF "." CRLF and nothing else, wherever the input was cut; a bare CR, a bare LF or NUL
is noticed and never becomes a line end that counts for the dot. Content is kept with LF, as a Maildir wants it.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from fastmail._core.octets cimport Out

cdef const char* HEX = b"0123456789abcdef"

cdef enum:
    ROOM = 16384   # octets that a reader keeps between two takes
    LARGE = 65536  # octets from which content is copied without the GIL

cdef class ContentReader:
    """Takes content off the wire; ``dots`` tells DATA (dot-stuffed, ends itself) from BDAT and literals (neither)."""
    cdef Out out
    cdef bint dots
    cdef bint strict
    cdef bint after_crlf
    cdef bint dotline
    cdef bint held_cr
    cdef readonly bint done
    cdef readonly bint bare
    cdef readonly bint nul
    cdef readonly bint full
    cdef readonly uint64_t size
    cdef readonly uint64_t limit

    def __cinit__(self, bint dots, uint64_t limit, bint strict=True):
        self.out = Out(4096)
        self.dots = dots
        self.strict = strict
        self.limit = limit
        self.after_crlf = True

    cdef int emit(self, const char* p, Py_ssize_t n, bint broken) except -1:
        if n:
            if memchr(p, 13, n) != NULL:
                self.bare = True
            if memchr(p, 0, n) != NULL:
                self.nul = True
        self.size += n + (2 if broken else 0)
        if self.size > self.limit:
            self.full = True
        if self.full or (self.strict and (self.bare or self.nul)):
            self.out.len = 0
            return 0
        self.out.put(p, n)
        if broken:
            self.out.putc(10)
        return 0

    def feed(self, data, Py_ssize_t start=0):
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.fed(<const char*>view.buf, start, view.len) if start < view.len else start
        finally:
            PyBuffer_Release(&view)

    cdef const char* lines(self, const char* p, const char* end) except NULL:
        """Take whole lines at p that need no second look, as nearly all: no dot in front, no CR inside, no limit
        reached. Returns the start of the first other one. There is no NUL before ``end``."""
        cdef const char* q
        cdef Py_ssize_t n
        if self.full or self.size + (end - p) > self.limit or (self.strict and (self.bare or self.nul)):
            return p
        self.out.room(end - p)
        while p < end and not (self.dots and p[0] == b'.'):
            q = <const char*>memchr(p, 10, end - p)
            if q == NULL or q == p or (q - 1)[0] != 13:
                break
            n = q - 1 - p
            if memchr(p, 13, n) != NULL:
                break
            memcpy(self.out.buf + self.out.len, p, n)
            self.out.len += n + 1
            self.out.buf[self.out.len - 1] = 10
            self.size += n + 2
            p = q + 1
        return p

    cdef Py_ssize_t fed(self, const char* base, Py_ssize_t start, Py_ssize_t size) except -1:
        """Take ``base[start:size]``; returns the offset after what was taken."""
        cdef const char* p = base + start
        cdef const char* end = base + size
        cdef const char* q
        cdef bint no_nul = memchr(p, 0, end - p) == NULL  # asked once: there may be many short lines
        while p < end:
            if no_nul and self.after_crlf and not self.held_cr:
                p = self.lines(p, end)
                if p == end:
                    break
            if self.held_cr:
                self.held_cr = False
                if p[0] == 10:
                    p += 1
                    if self.dotline:
                        self.done = True
                        return p - base
                    self.emit(p, 0, True)
                    self.after_crlf = True
                    continue
                self.bare = True
                self.dotline = self.after_crlf = False
                self.emit("\r", 1, False)
            if self.after_crlf and self.dots and p[0] == b'.':
                self.after_crlf = False
                self.dotline = True
                p += 1
                continue
            self.after_crlf = False
            q = <const char*>memchr(p, 10, end - p)
            if q == NULL:
                q = end
                if (q - 1)[0] == 13:
                    self.held_cr = True
                    q -= 1
                if q > p:
                    self.dotline = False
                    self.emit(p, q - p, False)
                return end - base
            if q > p and (q - 1)[0] == 13:
                if q - 1 == p and self.dotline:
                    self.done = True
                    return q + 1 - base
                self.emit(p, q - 1 - p, True)
                self.after_crlf = True
            else:
                self.bare = True
                self.emit(p, q - p, True)
            self.dotline = False
            p = q + 1
        return end - base

    def finish(self):
        """End of the last BDAT chunk: a CR that waited for its LF is a bare one."""
        if self.held_cr:
            self.held_cr = False
            self.bare = True
            self.emit("\r", 1, False)

    def pending(self):
        return self.out.len

    def take(self):
        cdef bytes result = self.out.take()
        self.out.shrink(ROOM)
        return result


def to_crlf(const unsigned char[::1] data):
    cdef Py_ssize_t n = data.shape[0], extra = 0
    cdef const char* base
    cdef bytes result
    cdef char* w
    if n == 0:
        return b""
    base = <const char*>&data[0]
    if n < LARGE:
        extra = bare_lines(base, n)
    else:
        with nogil:
            extra = bare_lines(base, n)
    result = PyBytes_FromStringAndSize(NULL, n + extra)
    w = PyBytes_AS_STRING(result)
    if n < LARGE:
        with_crlf(w, base, n, extra)
    else:
        with nogil:
            with_crlf(w, base, n, extra)
    return result


cdef Py_ssize_t bare_lines(const char* base, Py_ssize_t n) noexcept nogil:
    """How many LF have no CR before them."""
    cdef const char* p = base
    cdef const char* q
    cdef const char* end = base + n
    cdef Py_ssize_t extra = 0
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            break
        if q == base or (q - 1)[0] != 13:
            extra += 1
        p = q + 1
    return extra


cdef void with_crlf(char* w, const char* base, Py_ssize_t n, Py_ssize_t extra) noexcept nogil:
    """Copy, with the ``extra`` CR that lack."""
    cdef const char* p = base
    cdef const char* q
    cdef const char* end = base + n
    if extra == 0:
        memcpy(w, base, n)
        return
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            memcpy(w, p, end - p)
            break
        memcpy(w, p, q - p)
        w += q - p
        if q == base or (q - 1)[0] != 13:
            w[0] = 13
            w += 1
        w[0] = 10
        w += 1
        p = q + 1


cdef int put_crlf(Out out, const char* p, Py_ssize_t n) except -1:
    """Append stored content as it is served: every line ends with CRLF."""
    cdef const char* base = p
    cdef const char* end = p + n
    cdef const char* q
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            return out.put(p, end - p)
        out.put(p, q - p)
        if q == base or (q - 1)[0] != 13:
            out.put("\r\n", 2)
        else:
            out.putc(10)
        p = q + 1
    return 0


def to_lf(const unsigned char[::1] data):
    cdef Py_ssize_t n = data.shape[0]
    cdef const char* p
    cdef const char* q
    cdef const char* end
    cdef Out out = Out(n if n else 1)
    if n == 0:
        return b""
    p = <const char*>&data[0]
    end = p + n
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            out.put(p, end - p)
            break
        if q > p and (q - 1)[0] == 13:
            out.put(p, q - 1 - p)
            out.putc(10)
        else:
            out.put(p, q + 1 - p)
        p = q + 1
    return out.take()


def top_end(const unsigned char[::1] data, Py_ssize_t body_lines):
    cdef Py_ssize_t n = data.shape[0], left = body_lines
    cdef const char* p
    cdef const char* q
    cdef const char* end
    cdef bint header = True
    if not n:
        return 0
    p = <const char*>&data[0]
    end = p + n
    while p < end and (header or left):
        if not header:
            left -= 1
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            return n
        if q == p or (q == p + 1 and p[0] == 13):
            header = False
        p = q + 1
    return p - <const char*>&data[0]


def dot_stuffed(const unsigned char[::1] data, bint last=True):
    cdef Py_ssize_t n = data.shape[0]
    cdef const char* p
    cdef const char* q
    cdef const char* e
    cdef const char* end
    cdef Out out = Out(n + n // 32 + 16)
    if n:
        p = <const char*>&data[0]
        end = p + n
        while p < end:
            q = <const char*>memchr(p, 10, end - p)
            e = end if q == NULL else q
            if q != NULL and e > p and (e - 1)[0] == 13:
                e -= 1
            if p[0] == b'.':
                out.putc(b'.'[0])
            out.put(p, e - p)
            out.put("\r\n", 2)
            p = end if q == NULL else q + 1
    if last:
        out.put(".\r\n", 3)
    return out.take()


def numbered(Py_ssize_t first, const unsigned int[::1] values, without not None, bytes tail=None):
    cdef Py_ssize_t n = values.shape[0], i
    cdef Out out = Out(n * (16 if tail is None else 18 + len(tail)) + 16)
    cdef bint all_of_them = not without
    cdef uint32_t value
    cdef int digit
    for i in range(n):
        if not all_of_them and first + i in without:
            continue
        out.number(first + i)
        out.putc(32)
        value = values[i]
        if tail is None:
            out.number(value)
        else:
            for digit in range(28, -1, -4):
                out.putc(HEX[(value >> digit) & 15])
            out.put(PyBytes_AS_STRING(tail), len(tail))
        out.put("\r\n", 2)
    return out.take()


def find_crlf(data, Py_ssize_t start, Py_ssize_t end):
    cdef Py_buffer view  # a typed memoryview costs more than the search
    cdef const char* base
    cdef const char* q = NULL
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    base = <const char*>view.buf
    if start < end <= view.len:
        q = <const char*>memchr(base + start, 10, end - start)
    PyBuffer_Release(&view)
    return -1 if q == NULL else q - base
