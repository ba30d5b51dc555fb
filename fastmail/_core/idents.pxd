# What compiled readers of summaries use.
#   rest  where the trail begins, which the store keeps after a summary: its length where there is none
from libc.stdint cimport uint8_t

cdef Py_ssize_t rest(const uint8_t* p, Py_ssize_t n) noexcept nogil
