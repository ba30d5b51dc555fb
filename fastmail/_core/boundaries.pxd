# Boundary lines of a multipart (RFC 2046 5.1.1), and line breaks; see mime.pyx for how mail programs read them.
from libc.string cimport memchr

from fastmail._core.fields cimport blank

cdef extern from "string.h" nogil:
    int memcmp(const void* one, const void* two, size_t n)

cdef enum:  # how a line fits a boundary
    BEGINS = 1
    WHOLE_LINE = 2
    CLOSING = 4

cdef inline const char* trimmed(const char* p, const char* end) noexcept nogil:
    """The end of a line without its white space and line break."""
    while end > p and blank((end - 1)[0]):
        end -= 1
    return end

cdef inline int fits(const char* p, const char* end, const char* boundary, Py_ssize_t n) noexcept nogil:
    """How p .. end, a line behind its dashes and without white space at its end, fits a boundary: 0 not at all."""
    cdef const char* q = p + n
    cdef int found = BEGINS
    if end - p < n or memcmp(p, boundary, n):
        return 0
    if q == end:
        return BEGINS | WHOLE_LINE
    if end - q >= 2 and q[0] == 45 and q[1] == 45:
        return BEGINS | CLOSING | (WHOLE_LINE if end - q == 2 else 0)
    while q < end and blank(q[0]):
        q += 1
    if end - q == 2 and q[0] == 45 and q[1] == 45:
        return BEGINS | CLOSING | WHOLE_LINE
    return found

cdef inline const char* before_break(const char* start, const char* q) noexcept nogil:
    """The line break before a boundary line belongs to the boundary."""
    if q > start and (q - 1)[0] == 10:
        q -= 1
        if q > start and (q - 1)[0] == 13:
            q -= 1
    return q

cdef inline void measure(const char* p, const char* end, size_t* octets, size_t* lines) noexcept nogil:
    """Octets as served, each LF as CRLF, and the number of line breaks."""
    cdef size_t bare = 0, n = 0
    cdef const char* start = p
    cdef const char* q
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            break
        n += 1
        if q == start or (q - 1)[0] != 13:
            bare += 1
        p = q + 1
    octets[0] = (end - start) + bare
    lines[0] = n
