"""Answers from runs of index rows (leaves.pyx), many to a call: pages, and header fields of messages.

The layout of a summary is in summary.pxd. Promise: nothing is read past a value's end; a row that is damaged is left out
(values, marks) or named as unsure (search_field).
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from fastmail._core cimport envelope
from fastmail._core.envelope cimport Piece, Summary, address_line, elements, open_summary
from fastmail._core.header cimport folded_end, line_end, value_of
from fastmail._core.index cimport CONTENT_AT, uid_in
from fastmail._core.leaves cimport Pairs, Source, Walk, summary_at
from fastmail._core.octets cimport Out
from fastmail._core.summary cimport FIXED, STATUS_NO_CACHE, STATUS_AT, VERSION, VERSION_AT, cache_at, parts_at
from fastmail._core.uidset cimport UidSet

cdef enum:
    TOLD = 1 << 20 # octets of values that one search hands out to be decoded; the messages after that are only named
    NO = 0
    YES = 1
    UNSURE = 2


def up_to(rows, bytes first not None, uint32_t last, int most):
    cdef list out = []
    cdef Source source = rows if isinstance(rows, Source) else Pairs(rows)
    cdef const char* prefix = first
    cdef Py_ssize_t n = len(first) - 4
    cdef uint32_t uid = 0, end = 0
    cdef int there
    if n < 0:
        raise ValueError("a key without a UID")
    there = source.seek(<const uint8_t*>prefix, n + 4)
    while there and source.keyn == n + 4 and memcmp(source.key, prefix, n) == 0:
        uid = uid_in(source.key, n)
        if uid > last:
            break
        out.append(source.lend(0))
        end = uid
        if len(out) >= most:
            return out, end, True
        there = source.next()
    return out, end, False


cdef class Folded:
    """A buffer for one value, unfolded and in lower case."""
    cdef char* buf
    cdef Py_ssize_t size

    def __dealloc__(self):
        PyMem_Free(self.buf)

    cdef int room(self, Py_ssize_t n) except -1:
        cdef void* p
        if n > self.size:
            p = PyMem_Realloc(self.buf, n * 2)
            if p == NULL:
                raise MemoryError()
            self.buf = <char*>p
            self.size = n * 2
        return 0


cdef int has_needle(Folded tmp, const uint8_t* p, const uint8_t* end, bytes needle) except -1:
    """Does a field's value contain the needle? UNSURE when it has to be decoded first."""
    cdef Py_ssize_t n = 0, k = len(needle), i
    cdef const char* want = needle
    cdef uint8_t c
    tmp.room(end - p + 1)
    while p < end and (p[0] == 32 or p[0] == 9):
        p += 1
    while p < end:
        c = p[0]
        p += 1
        if c >= 128 or (c == 61 and p < end and p[0] == 63):
            return UNSURE
        if c != 13 and c != 10:
            tmp.buf[n] = c + 32 if 65 <= c <= 90 else c
            n += 1
    while n and (tmp.buf[n - 1] == 32 or tmp.buf[n - 1] == 9):
        n -= 1
    if k == 0:
        return YES
    i = 0
    while i + k <= n:
        p = <const uint8_t*>memchr(tmp.buf + i, want[0], n - k - i + 1)
        if p == NULL:
            return NO
        if memcmp(p, want, k) == 0:
            return YES
        i = <char*>p - tmp.buf + 1
    return NO


cdef int search_header(Folded tmp, const uint8_t* p, const uint8_t* end, bytes name, bytes needle,
                       list raw) except -1:
    """Every field of that name in a CRLF header block; values that are not plain are added to ``raw``."""
    cdef Py_ssize_t k = len(name)
    cdef const char* wanted = name
    cdef const char* at = <const char*>p
    cdef const char* stop = <const char*>end
    cdef const char* e
    cdef const char* value
    cdef int found, answer = NO
    while at < stop:
        e = folded_end(line_end(at, stop), stop)
        value = value_of(at, e, wanted, k)
        if value != NULL:
            found = has_needle(tmp, <const uint8_t*>value, <const uint8_t*>e, needle)
            if found == YES:
                return YES
            if found == UNSURE:
                answer = UNSURE
                raw.append(PyBytes_FromStringAndSize(value, e - value))
        at = e
    return answer


cdef const uint8_t* cached(Walk walk, Py_ssize_t* n) noexcept:
    """The cached header fields of the message at hand; NULL when they are not all there."""
    cdef Py_ssize_t at = summary_at(walk.source.value, walk.source.valuen), start, end
    cdef const uint8_t* p = walk.source.value + at
    cdef Py_ssize_t size = walk.source.valuen - at
    if at == 0 or size < FIXED:
        return NULL
    start, end = cache_at(p), parts_at(p)
    if p[VERSION_AT] == 0 or p[VERSION_AT] > VERSION or p[STATUS_AT] & STATUS_NO_CACHE or end > size:
        return NULL
    n[0] = end - start
    return p + start


def search_field(rows, const unsigned char[::1] prefix, UidSet uids not None, bytes name not None,
                 bytes needle not None):
    cdef list hits = [], unsure = [], raw
    cdef Walk walk = Walk(rows, prefix, uids)
    cdef Folded tmp = Folded()
    cdef const uint8_t* p
    cdef Py_ssize_t n, told = 0
    cdef int found
    while walk.next():
        found = UNSURE
        raw = None
        p = cached(walk, &n)
        if p != NULL:
            raw = []
            found = search_header(tmp, p, p + n, name, needle, raw)
        if found == YES:
            hits.append(walk.uid)
        elif found == UNSURE:
            if raw is not None:
                for one in raw:
                    told += len(<bytes>one)
            unsure.append((walk.uid, raw if told <= TOLD else None))
    return hits, unsure


def search_addresses(rows, const unsigned char[::1] prefix, UidSet uids not None, int which, bytes needle not None):
    cdef list hits = [], unsure = []
    cdef Walk walk = Walk(rows, prefix, uids)
    cdef Folded tmp = Folded()
    cdef Out line = Out(256)
    cdef Summary s
    cdef Piece found[envelope.ELEMENTS]
    cdef Py_ssize_t at, told = 0
    cdef int answer
    if not envelope.FROM <= which <= envelope.BCC:
        raise ValueError("not an element with addresses")
    while walk.next():
        at = summary_at(walk.source.value, walk.source.valuen)
        if (at == 0 or not open_summary(walk.source.value + at, walk.source.valuen - at, &s)
                or not elements(s.envelope, s.envelopen, found)):
            unsure.append((walk.uid, None))
            continue
        if found[which].kind == envelope.NIL:
            if s.short:
                unsure.append((walk.uid, None))
            continue  # there is nothing that could contain even an empty string
        line.len = 0
        address_line(line, &found[which])
        answer = has_needle(tmp, <const uint8_t*>line.buf, <const uint8_t*>line.buf + line.len, needle)
        if answer == YES:
            hits.append(walk.uid)
        elif s.short:
            unsure.append((walk.uid, None))
        elif answer == UNSURE:
            told += line.len
            unsure.append((walk.uid, [PyBytes_FromStringAndSize(line.buf, line.len)] if told <= TOLD else None))
    return hits, unsure


def values(rows, const unsigned char[::1] prefix, UidSet uids not None, tuple names not None):
    cdef dict out = {}
    cdef Walk walk = Walk(rows, prefix, uids)
    cdef const uint8_t* p
    cdef Py_ssize_t n
    while walk.next():
        p = cached(walk, &n)
        if p != NULL:
            out[walk.uid] = first_values(p, p + n, names)
    return out


def marks(rows, const unsigned char[::1] prefix, UidSet uids not None):
    cdef dict out = {}
    cdef Walk walk = Walk(rows, prefix, uids)
    cdef Py_ssize_t at
    while walk.next():
        at = summary_at(walk.source.value, walk.source.valuen)
        if at:
            out[walk.uid] = PyBytes_FromStringAndSize(<const char*>walk.source.value + CONTENT_AT, at - CONTENT_AT)
    return out


cdef tuple first_values(const uint8_t* p, const uint8_t* end, tuple names):
    """The first field of each name in a CRLF header block, as it is; None where there is none."""
    cdef list found = [None] * len(names)
    cdef const char* at = <const char*>p
    cdef const char* stop = <const char*>end
    cdef const char* e
    cdef const char* value
    cdef Py_ssize_t j
    cdef bytes name
    while at < stop:
        e = folded_end(line_end(at, stop), stop)
        for j in range(len(names)):
            if found[j] is not None:
                continue
            name = <bytes>names[j]
            value = value_of(at, e, name, len(name))
            if value != NULL:
                found[j] = PyBytes_FromStringAndSize(value, e - value)
                break
        at = e
    return tuple(found)
