# Signatures taken apart, for compiled readers; see tags.pyx.
#   Cut      octets of a field to leave out: from ``start`` to ``behind``; both 0 for none
#   cut_at   which octets ``without`` leaves out of the field base .. stop; ValueError for what has no colon
#   decoded  of the signature in the field base .. stop: (what it has in common with others of its signer, its own), both
#            as ``Fields.usual`` returns them; ``place`` goes into the second. None where one of its own has no usual form
cdef struct Cut:
    Py_ssize_t start
    Py_ssize_t behind

cdef int cut_at(const char* base, const char* stop, const char* name, Py_ssize_t size, Cut* found) except -1
cdef tuple decoded(const char* base, const char* stop, int place)
