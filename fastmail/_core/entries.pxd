# Entries of a record of the journal, for the compiled transaction (durable/writing.pyx).
#   small     entries behind the last long content
#   large     those before, and long content
#   contents  entries with content
#   known     number of the one that ends with an object, by the object's identity
#   before    octets in ``large``
cdef class Record:
    cdef bytearray small
    cdef list large
    cdef Py_ssize_t contents
    cdef dict known
    cdef Py_ssize_t before
    cpdef add(self, int kind, int table, key, value=*)
    cdef int put(self, int kind, int table, const char* key, Py_ssize_t keys, const char* value,
                 Py_ssize_t values) except -1
