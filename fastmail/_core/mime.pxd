# What the scanner offers to compiled readers of summaries; their layout is in summary.pxd.
#   lost_parts  a summary of version 1 whose BODYSTRUCTURE and parts are not to be used
from libc.stdint cimport uint8_t

cdef bint lost_parts(const uint8_t* p, Py_ssize_t n) noexcept nogil
