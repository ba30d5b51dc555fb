# The scanner's summary, for compiled readers; its layout is in mime.pyx.
#   lost_parts  a summary of version 1 whose BODYSTRUCTURE and parts are not to be used
from libc.stdint cimport uint8_t

cdef bint lost_parts(const uint8_t* p, Py_ssize_t n) noexcept nogil

cdef enum:
    WRITTEN = 2   # the version that the scanner writes
    VERSION = 3   # the highest that is understood: the same with a preview behind the parts
    FIXED = 32    # octets before its texts
