# What SORT and THREAD compare; see order.pyx.
from libc.stdint cimport int32_t, int64_t, uint8_t

from fastmail._core.octets cimport Out

cdef enum:
    KEY_MOST = 1024      # octets of a key; what is longer is shortened (message/order.py)

cdef struct Key:
    const char* p        # NULL: a number
    int64_t n            # its octets, or the number

cdef struct Column:
    Key* keys
    bint reverse

cdef void merge_sort(const Column* columns, int count, int32_t* a, int32_t* other, Py_ssize_t n) noexcept nogil
cdef bint spaced(Out out, const uint8_t* p, Py_ssize_t n) except -1 nogil
cdef bint base_of(const uint8_t* p, Py_ssize_t* first, Py_ssize_t* last) noexcept nogil
cdef void titlecase(uint8_t* p, Py_ssize_t n) noexcept nogil
cdef bint date_of(const uint8_t* p, Py_ssize_t n, int64_t* when) noexcept nogil
cdef const uint8_t* next_id(Out out, const uint8_t* p, const uint8_t* end) except? NULL nogil
