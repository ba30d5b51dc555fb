# SHA-256; see sha256.pyx.
#   Sum        a hash on its way: ``state`` where this processor has instructions for it, else ``other``, of hashlib
#   add        more octets
#   digest_of  the digest of these octets; no other thread changes them meanwhile, since none runs while they are read
from libc.stdint cimport uint8_t

cdef extern from "sha256.h" nogil:
    enum:
        SHA256_DIGEST
    struct sha256:
        pass
    int sha256_able()
    void sha256_begin(sha256* state)
    void sha256_add(sha256* state, const uint8_t* p, size_t n)
    void sha256_end(sha256* state, uint8_t* digest)

cdef class Sum:
    cdef sha256 state
    cdef object other
    cdef int add(self, const uint8_t* p, Py_ssize_t n) except -1

cdef bytes digest_of(const uint8_t* p, Py_ssize_t n)
