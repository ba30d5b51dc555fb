"""One walk over the header of a message: where its fields are, and where it ends (RFC 5322 2.2, 3.6.8, 4.5; RFC 7103 7.2).

A field is a name of printable ASCII without a colon, perhaps white space (RFC 5322 4.5), a colon, and a value with its
folded lines. Any other line is broken: it is part of the header, and no field. Lines end with LF or CRLF.

Promise: every call is linear in the header, however long it is, and runs without the GIL; octets behind the header are
not looked at. Offsets are of the data that was given. Nothing is raised for what a message holds.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t
from libc.string cimport memchr

from fastmail._core.fields cimport same
from fastmail._core.octets cimport Out

cdef enum:
    NAMES = 16   # names that one call can look for
    PATIENCE = 3  # broken lines in a row that a header may go on behind; more of them are text

# Fields without a hyphen in their names that tell a header from a text with colons in it. Every real header has one of
# them, or one with a hyphen.
cdef const char** KNOWN = ["from", "to", "cc", "bcc", "subject", "date", "sender", "received", "references"]
cdef int* KNOWN_LENGTHS = [4, 2, 2, 3, 7, 4, 6, 8, 10]
cdef enum:
    KNOWN_COUNT = 9

cdef const char* EMPTY = ""

cdef struct Wanted:
    int count
    const char* name[NAMES]
    Py_ssize_t size[NAMES]


cdef const char* first(const unsigned char[::1] data) noexcept:
    return <const char*>&data[0] if data.shape[0] else EMPTY


cdef Kind next_line(const char* p, const char* end, Line* line) noexcept nogil:
    """What begins at p, which is the start of a line."""
    cdef const char* q = p
    line.start = line.name = line.value = line.end = p
    if p >= end or p[0] == 10 or (p[0] == 13 and p + 1 < end and p[1] == 10):
        return END
    while q < end and 32 < q[0] < 127 and q[0] != 58:
        q += 1
    line.name = q
    while q < end and (q[0] == 32 or q[0] == 9):
        q += 1
    line.value = q + 1
    line.end = folded_end(line_end(q, end), end)
    return FIELD if line.name > p and q < end and q[0] == 58 else BROKEN


cdef bint next_field(const char* p, const char* end, Line* line) noexcept nogil:
    """True if a field begins at p or below it: ``line`` is the first one. Otherwise ``line`` is the end of the header.
    p is the start of a line. Broken lines are passed over."""
    cdef Kind kind
    while True:
        kind = next_line(p, end, line)
        if kind != BROKEN:
            return kind == FIELD
        p = line.end


cdef bint known(const Line* line) noexcept nogil:
    """A name that text with a colon in it hardly begins with: a known one, or one with a hyphen."""
    cdef int i
    cdef Py_ssize_t n = line.name - line.start
    if memchr(line.start, 45, n) != NULL:
        return True
    for i in range(KNOWN_COUNT):
        if same(line.start, n, KNOWN[i], KNOWN_LENGTHS[i]):
            return True
    return False


cdef int wanted(tuple names, Wanted* out) except -1:
    """``names``: bytes in lower case; they must stay alive as long as ``out`` is used."""
    cdef int i
    if len(names) > NAMES:
        raise ValueError("too many names")
    out.count = len(names)
    for i in range(out.count):
        out.name[i] = <bytes>names[i]
        out.size[i] = len(<bytes>names[i])
    return 0


cdef int which(const Line* line, const Wanted* names) noexcept nogil:
    """The position of the field's name among ``names``, or -1."""
    cdef int i
    for i in range(names.count):
        if same(line.start, line.name - line.start, names.name[i], names.size[i]):
            return i
    return -1


def end(const unsigned char[::1] data):
    cdef const char* p = first(data)
    cdef const char* base = p
    cdef const char* stop = p + data.shape[0]
    cdef Line line
    with nogil:
        while next_line(p, stop, &line) != END:
            p = line.end
    return p - base


def text_start(data, Py_ssize_t start, bint whole):
    cdef Py_buffer view  # a typed memoryview costs more than what is done here
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return text_of(<const char*>view.buf, view.len, start, whole)
    finally:
        PyBuffer_Release(&view)


cdef Py_ssize_t text_of(const char* base, Py_ssize_t size, Py_ssize_t start, bint whole) except? -1:
    """What text_start returns."""
    cdef const char* p = base
    cdef const char* stop = base + size
    cdef const char* broken = NULL
    cdef bint seen = False, sure = False  # a field; one with a name that is hardly text
    cdef int run = 0
    cdef Line line
    cdef Kind kind
    if start > size:
        raise ValueError("start lies behind the data")
    p += start
    with nogil:
        while True:
            kind = next_line(p, stop, &line)
            if kind == END or (not whole and line.end == stop):
                break
            if kind == BROKEN:
                if not run:
                    broken = p
                run += 1
                if run > PATIENCE:
                    break
            elif run and not seen and not known(&line):
                break
            else:
                seen = True
                sure = sure or known(&line)
                run = 0
                broken = NULL
            p = line.end
    if kind == END and line.end == stop and not whole:
        return -2
    if kind == END and line.end < stop and sure:
        return -1
    if kind != END and not whole and line.end == stop and run <= PATIENCE:
        return -2
    if broken == NULL:
        return -1
    return broken - base if sure else start


cdef bytes places(const unsigned char[::1] data, tuple names, bint whole):
    """Where fields begin that have one of these names; without ``whole``, one that begins with one of these."""
    cdef const char* p = first(data)
    cdef const char* base = p
    cdef const char* stop = p + data.shape[0]
    cdef Out out = Out(256)
    cdef Wanted looked
    cdef Line line
    cdef Py_ssize_t size
    cdef uint32_t at
    cdef int i
    if data.shape[0] > 0xFFFFFFFF:
        raise ValueError("a message of more than 4 GiB")
    wanted(names, &looked)
    with nogil:
        while next_field(p, stop, &line):
            for i in range(looked.count):
                size = line.name - line.start if whole else min(line.name - line.start, looked.size[i])
                if same(line.start, size, looked.name[i], looked.size[i]):
                    at = <uint32_t>(line.start - base)
                    out.put(<char*>&at, sizeof(at))
                    break
            p = line.end
    return out.take()


def starts(const unsigned char[::1] data, bytes name=None):
    return places(data, (b"",), False) if name is None else places(data, (name,), True)


def starting(const unsigned char[::1] data, tuple names not None):
    return places(data, names, False)


def field(const unsigned char[::1] data, Py_ssize_t start):
    cdef const char* base
    cdef Line line
    if not 0 <= start < data.shape[0]:
        raise ValueError("no field begins there")
    base = <const char*>&data[0]
    if next_line(base + start, base + data.shape[0], &line) != FIELD:
        raise ValueError("no field begins there")
    return line.name - base, line.value - base, line.end - base


def counts(const unsigned char[::1] data, tuple names not None):
    cdef const char* p = first(data)
    cdef const char* stop = p + data.shape[0]
    cdef Py_ssize_t found[NAMES]
    cdef Wanted looked
    cdef Line line
    cdef int i
    wanted(names, &looked)
    for i in range(looked.count):
        found[i] = 0
    with nogil:
        while next_field(p, stop, &line):
            i = which(&line, &looked)
            if i >= 0:
                found[i] += 1
            p = line.end
    return [found[i] for i in range(looked.count)]


def value(const unsigned char[::1] data, bytes name not None, Py_ssize_t most):
    cdef const char* p = first(data)
    cdef const char* stop = p + data.shape[0]
    cdef const char* asked = name
    cdef Py_ssize_t size = len(name)
    cdef Line line
    cdef bint found
    with nogil:
        found = next_field(p, stop, &line)
        while found and not same(line.start, line.name - line.start, asked, size):
            found = next_field(line.end, stop, &line)
    return line.value[: min(line.end - line.value, most)] if found else None


def values(const unsigned char[::1] data, tuple names not None, Py_ssize_t most):
    cdef const char* p = first(data)
    cdef const char* stop = p + data.shape[0]
    cdef Py_ssize_t octets = 0
    cdef Wanted looked
    cdef Line line
    cdef int i
    cdef list found = []
    wanted(names, &looked)
    while True:
        i = -1
        with nogil:
            while i < 0 and next_field(p, stop, &line):
                i = which(&line, &looked)
                p = line.end
        if i < 0:
            return found
        octets += line.end - line.start
        if octets > most:
            return None
        found.append((i, line.value[: line.end - line.value]))


def without(const unsigned char[::1] data, tuple names not None):
    cdef const char* p = first(data)
    cdef const char* stop = p + data.shape[0]
    cdef const char* kept = p
    cdef Out out = Out(256)
    cdef Wanted looked
    cdef Line line
    wanted(names, &looked)
    with nogil:
        while next_field(p, stop, &line):
            if which(&line, &looked) >= 0:
                out.put(kept, line.start - kept)
                kept = line.end
            p = line.end
        out.put(kept, line.start - kept)
    return out.take()
