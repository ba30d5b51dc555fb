# Entries of a record of the journal, for the compiled transaction (durable/writing.pyx).
#   small     heads, keys and values of all entries but their long content; longer than ``used``, so that it seldom grows
#   used      octets of it that are entries
#   breaks    (octets of ``small`` before it, long content), in order
#   contents  entries with content
#   known     number of the one that ends with an object, by the object's identity
#   long_octets  octets of all long contents
from libc.stdint cimport uint8_t


cdef class Record:
    cdef bytearray small
    cdef Py_ssize_t used
    cdef list breaks
    cdef Py_ssize_t contents
    cdef dict known
    cdef Py_ssize_t long_octets
    cdef uint8_t* grown(self, Py_ssize_t by) except NULL
    cdef int enter(self, int kind, int table, const void* key, Py_ssize_t keys, const void* value,
                   Py_ssize_t values) except -1
    cpdef add(self, int kind, int table, key, value=*)
