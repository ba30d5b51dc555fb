# Header field values as IMAP wire octets; see fields.pyx.
# ``most`` and ``cut``: a bound in octets, and whether something was left out for it.
#   Span  the octets a .. b of a value; a NULL: there is no such field
from libc.stdint cimport int32_t

from fastmail._core.octets cimport Out

cdef struct Span:
    const char* a
    const char* b

cdef bint same(const char* p, Py_ssize_t n, const char* name, Py_ssize_t size) noexcept nogil
cdef bint blank(char c) noexcept nogil
cdef int hexadecimal(char c) noexcept nogil
cdef int quoted(Out out, const char* p, Py_ssize_t n) except -1 nogil
cdef int nstring(Out out, Span s, Py_ssize_t most, bint* cut) except -1 nogil
cdef int addresses(Out out, Span s, Py_ssize_t entries, Py_ssize_t most, bint* cut, Out name, Out route, Out local,
                   Out host, Out note) except -1 nogil
cdef const char* skip_cfws(const char* p, const char* end, Out note) except NULL nogil
cdef const char* read_token(const char* p, const char* end, Span* s) noexcept nogil
cdef int params(Out out, const char* p, const char* end, Py_ssize_t most, bint* cut, Out value, Out note,
                bint text) except -1 nogil
cdef int parameter(Out out, Span rest, const char* wanted, Py_ssize_t size, Out value, Out note,
                   Out pieces, Span* charset) except -1 nogil
cdef int disposition(Out out, Span s, Py_ssize_t most, bint* cut, Out value, Out note) except -1 nogil
cdef int languages(Out out, Span s, Py_ssize_t most, bint* cut, Out note) except -1 nogil
cdef int32_t day_of(Span s) noexcept nogil
