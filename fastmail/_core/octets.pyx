"""A growable octet buffer shared by the compiled writers.

Promise: appending is amortised O(1); ``take`` hands the octets out once and leaves the buffer empty.
Fails with MemoryError only.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, malloc, realloc


cdef class Out:
    def __cinit__(self, Py_ssize_t size=512):
        self.cap = size if size > 64 else 64
        self.buf = <char*>malloc(self.cap)
        if self.buf == NULL:
            raise MemoryError()
        self.len = 0

    def __dealloc__(self):
        free(self.buf)

    def __len__(self):
        return self.len

    cdef int grow(self, Py_ssize_t more) except -1 nogil:
        cdef Py_ssize_t cap = self.cap * 2
        cdef char* p
        if cap < self.len + more:
            cap = self.len + more + 64
        p = <char*>realloc(self.buf, cap)
        if p == NULL:
            with gil:
                raise MemoryError()
        self.buf = p
        self.cap = cap
        return 0

    cdef void shrink(self, Py_ssize_t most) noexcept:
        """Give back what an empty buffer has beyond ``most``."""
        cdef char* p
        if self.len == 0 and self.cap > most:
            p = <char*>realloc(self.buf, most)
            if p != NULL:
                self.buf = p
                self.cap = most

    cdef int number(self, uint64_t value) except -1 nogil:
        cdef char tmp[24]
        cdef int i = 24
        while True:
            i -= 1
            tmp[i] = <char>(48 + value % 10)
            value //= 10
            if value == 0:
                break
        return self.put(tmp + i, 24 - i)

    def write(self, const unsigned char[::1] data):
        cdef Py_ssize_t n = data.shape[0]
        if n:
            self.put(<const char*>&data[0], n)

    def take(self):
        cdef bytes result = PyBytes_FromStringAndSize(self.buf, self.len)
        self.len = 0
        return result
