# One walk over the lines of a header, for compiled readers; see header.pyx.
#   line_end    behind the LF of the line at p
#   folded_end  behind the continuations of the line that ends at p: where its field ends
#   name_end    behind the name of the field at p, whose colon is given
#   value_of    where the value of the field p .. end begins, when that field has this name, which is in lower case;
#               NULL when it has another. White space before the colon is passed over (RFC 5322 4.5)
#   Line  start  its first octet;  name  behind the last octet of its name;  value  behind its colon;
#         end    behind its last line, continuations among them
#   An empty line, and the end of the data, are END: start and end are the same octet.
from libc.string cimport memchr

from fastmail._core.octets cimport lower

cdef inline const char* line_end(const char* p, const char* end) noexcept nogil:
    cdef const char* q = <const char*>memchr(p, 10, end - p)
    return end if q == NULL else q + 1

cdef inline const char* folded_end(const char* p, const char* end) noexcept nogil:
    while p < end and (p[0] == 32 or p[0] == 9):
        p = line_end(p, end)
    return p

cdef inline const char* name_end(const char* p, const char* colon) noexcept nogil:
    while colon > p and ((colon - 1)[0] == 32 or (colon - 1)[0] == 9):
        colon -= 1
    return colon

cdef inline const char* value_of(const char* p, const char* end, const char* name, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    if end - p <= size:
        return NULL
    while i < size and lower(p[i]) == name[i]:
        i += 1
    if i < size:
        return NULL
    p += size
    while p < end and (p[0] == 32 or p[0] == 9):
        p += 1
    return p + 1 if p < end and p[0] == 58 else NULL

cdef enum Kind:
    END, FIELD, BROKEN

cdef struct Line:
    const char* start
    const char* name
    const char* value
    const char* end

cdef Kind next_line(const char* p, const char* end, Line* line) noexcept nogil
cdef bint next_field(const char* p, const char* end, Line* line) noexcept nogil
