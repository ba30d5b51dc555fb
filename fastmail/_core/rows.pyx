"""Reads runs of index rows, pairs of (key, value) from a cursor, many to a call.

A key ends in the UID, 4 octets big-endian, behind the mailbox's prefix. A value is u16 length, so many octets of the
backend's own, then the summary (layout in mime.pyx). Promise: nothing is read past a value's end; a row that is damaged
is left out (summaries) or named as unsure (search_field).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from fastmail._core.octets cimport get16, get32, lower
from fastmail._core.uidset cimport UidSet

cdef enum:
    FIXED = 32     # octets of a summary before its three texts
    NO = 0
    YES = 1
    UNSURE = 2


cdef int uid_of(key, const unsigned char[::1] prefix, uint32_t* uid) except -1:
    """0 when the row belongs to another mailbox."""
    cdef Py_buffer view
    cdef const uint8_t* p
    cdef Py_ssize_t n = prefix.shape[0]
    cdef int mine = 0
    PyObject_GetBuffer(key, &view, PyBUF_SIMPLE)
    if view.len == n + 4:
        p = <const uint8_t*>view.buf
        if n == 0 or memcmp(p, &prefix[0], n) == 0:
            p += n
            uid[0] = (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]
            mine = 1
    PyBuffer_Release(&view)
    return mine


def up_to(rows, const unsigned char[::1] prefix, uint32_t last, int most):
    cdef list out = []
    cdef uint32_t uid = 0, end = 0
    for key, value in rows:
        if not uid_of(key, prefix, &uid) or uid > last:
            return out, end, False
        out.append(value)
        end = uid
        if len(out) >= most:
            return out, end, True
    return out, end, False


def summaries(rows, const unsigned char[::1] prefix, UidSet uids not None):
    cdef dict out = {}
    cdef uint32_t uid = 0, last = uids.last
    cdef Py_buffer view
    cdef Py_ssize_t at
    for key, value in rows:
        if not uid_of(key, prefix, &uid) or uid > last:
            break
        if not uids.has(uid):
            continue
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        at = 2 + get16(<const uint8_t*>view.buf) if view.len >= 2 else 0
        PyBuffer_Release(&view)
        if at:
            out[uid] = value[at:]
    return out


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
    cdef Py_ssize_t k = len(name), i
    cdef const char* wanted = name
    cdef const uint8_t* e
    cdef const uint8_t* q
    cdef int found, answer = NO
    while p < end:
        q = <const uint8_t*>memchr(p, 10, end - p)
        e = end if q == NULL else q + 1
        while e < end and (e[0] == 32 or e[0] == 9):
            q = <const uint8_t*>memchr(e, 10, end - e)
            e = end if q == NULL else q + 1
        if e - p > k:
            i = 0
            while i < k and <uint8_t>lower(<char>p[i]) == <uint8_t>wanted[i]:
                i += 1
            if i == k:
                q = p + k
                while q < e and (q[0] == 32 or q[0] == 9):
                    q += 1
                if q < e and q[0] == 58:
                    found = has_needle(tmp, q + 1, e, needle)
                    if found == YES:
                        return YES
                    if found == UNSURE:
                        answer = UNSURE
                        raw.append(PyBytes_FromStringAndSize(<const char*>q + 1, e - q - 1))
        p = e
    return answer


def search_field(rows, const unsigned char[::1] prefix, UidSet uids not None, bytes name not None,
                 bytes needle not None):
    cdef list hits = [], unsure = [], raw
    cdef uint32_t uid = 0, last = uids.last
    cdef Py_buffer view
    cdef Folded tmp = Folded()
    cdef const uint8_t* p
    cdef Py_ssize_t n, start, cache
    cdef int found
    for key, value in rows:
        if not uid_of(key, prefix, &uid) or uid > last:
            break
        if not uids.has(uid):
            continue
        found = UNSURE
        raw = None
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        try:
            p = <const uint8_t*>view.buf
            n = view.len
            if n >= 2 and n - 2 - get16(p) >= FIXED:
                n -= 2 + get16(p)
                p += 2 + get16(p)
                start = FIXED + <Py_ssize_t>get32(p + 8) + get32(p + 12)
                cache = get32(p + 16)
                if p[0] == 1 and not p[1] & 1 and start + cache <= n:
                    raw = []
                    found = search_header(tmp, p + start, p + start + cache, name, needle, raw)
        finally:
            PyBuffer_Release(&view)
        if found == YES:
            hits.append(uid)
        elif found == UNSURE:
            unsure.append((uid, raw))
    return hits, unsure


def values(rows, const unsigned char[::1] prefix, UidSet uids not None, tuple names not None):
    cdef dict out = {}
    cdef uint32_t uid = 0, last = uids.last
    cdef Py_buffer view
    cdef const uint8_t* p
    cdef Py_ssize_t n, start, cache
    for key, value in rows:
        if not uid_of(key, prefix, &uid) or uid > last:
            break
        if not uids.has(uid):
            continue
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        try:
            p = <const uint8_t*>view.buf
            n = view.len
            if n >= 2 and n - 2 - get16(p) >= FIXED:
                n -= 2 + get16(p)
                p += 2 + get16(p)
                start = FIXED + <Py_ssize_t>get32(p + 8) + get32(p + 12)
                cache = get32(p + 16)
                if p[0] == 1 and not p[1] & 1 and start + cache <= n:
                    out[uid] = first_values(p + start, p + start + cache, names)
        finally:
            PyBuffer_Release(&view)
    return out


cdef tuple first_values(const uint8_t* p, const uint8_t* end, tuple names):
    """The first field of each name in a CRLF header block, as it is; None where there is none."""
    cdef list found = [None] * len(names)
    cdef const uint8_t* e
    cdef const uint8_t* q
    cdef Py_ssize_t i, k, j
    cdef const char* wanted
    cdef bytes name
    while p < end:
        q = <const uint8_t*>memchr(p, 10, end - p)
        e = end if q == NULL else q + 1
        while e < end and (e[0] == 32 or e[0] == 9):
            q = <const uint8_t*>memchr(e, 10, end - e)
            e = end if q == NULL else q + 1
        for j in range(len(names)):
            if found[j] is not None:
                continue
            name = <bytes>names[j]
            wanted = name
            k = len(name)
            if e - p <= k:
                continue
            i = 0
            while i < k and <uint8_t>lower(<char>p[i]) == <uint8_t>wanted[i]:
                i += 1
            if i < k:
                continue
            q = p + k
            while q < e and (q[0] == 32 or q[0] == 9):
                q += 1
            if q < e and q[0] == 58:
                found[j] = PyBytes_FromStringAndSize(<const char*>q + 1, e - q - 1)
                break
        p = e
    return tuple(found)
