# UidSet: an immutable, sorted set of UIDs kept as runs.
#   start[i], count[i]  run i covers start[i] .. start[i]+count[i]-1
#   before[i]           how many UIDs lie in the runs before run i (so sequence numbers are a bisection away)
from libc.stdint cimport uint32_t, uint64_t

cdef class UidSet:
    cdef uint32_t* start
    cdef uint32_t* count
    cdef uint32_t* before
    cdef Py_ssize_t runs
    cdef Py_ssize_t cap
    cdef readonly uint32_t total
    cdef int push(self, uint32_t uid, uint32_t n) except -1 nogil
    cdef Py_ssize_t find(self, uint32_t uid) noexcept nogil
    cdef uint32_t seq_of(self, uint32_t uid) noexcept nogil
    cdef bint has(self, uint32_t uid) noexcept nogil
