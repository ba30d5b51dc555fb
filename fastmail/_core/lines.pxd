# Line ends for other compiled writers.
from fastmail._core.octets cimport Out

cdef int put_crlf(Out out, const char* p, Py_ssize_t n) except -1
