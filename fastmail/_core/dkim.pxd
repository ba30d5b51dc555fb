# Canonical forms of header fields (RFC 6376 3.4.1, 3.4.2), for compiled readers; see dkim.pyx.
#   simple_field   the field p .. end as it is, with CRLF, behind what ``out`` has
#   relaxed_field  the same in the relaxed form; ``colon``: where its name ends
#   put_field      either of them for n octets at p; ValueError for what has no colon
from fastmail._core.octets cimport Out

cdef int simple_field(Out out, const char* p, const char* end) except -1 nogil
cdef int relaxed_field(Out out, const char* p, const char* colon, const char* end) except -1 nogil
cdef int put_field(Out out, const char* p, Py_ssize_t n, bint relaxed) except -1
