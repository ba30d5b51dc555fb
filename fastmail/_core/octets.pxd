# Out: a growable octet buffer that compiled writers share.
#   buf  the octets, owned; len  how many are valid; cap  how many fit
#   room  makes sure that so many more fit
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy

cdef class Out:
    cdef char* buf
    cdef Py_ssize_t len
    cdef Py_ssize_t cap
    cdef int grow(self, Py_ssize_t more) except -1 nogil
    cdef void shrink(self, Py_ssize_t most) noexcept
    cdef int number(self, uint64_t value) except -1 nogil

    cdef inline int put(self, const char* p, Py_ssize_t n) except -1 nogil:
        if self.len + n > self.cap:
            self.grow(n)
        memcpy(self.buf + self.len, p, n)
        self.len += n
        return 0

    cdef inline int room(self, Py_ssize_t n) except -1 nogil:
        if self.len + n > self.cap:
            self.grow(n)
        return 0

    cdef inline int putc(self, char c) except -1 nogil:
        if self.len >= self.cap:
            self.grow(1)
        self.buf[self.len] = c
        self.len += 1
        return 0


# Little-endian loads and stores that need no alignment; compilers turn them into one instruction.
cdef inline uint16_t get16(const uint8_t* p) noexcept nogil:
    return <uint16_t>(p[0] | (p[1] << 8))

cdef inline uint32_t get32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0]) | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)

cdef inline uint64_t get64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>get32(p)) | (<uint64_t>get32(p + 4) << 32)

cdef inline void set16(uint8_t* p, uint16_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)

cdef inline void set32(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)
    p[2] = <uint8_t>(v >> 16)
    p[3] = <uint8_t>(v >> 24)

cdef inline void set64(uint8_t* p, uint64_t v) noexcept nogil:
    set32(p, <uint32_t>v)
    set32(p + 4, <uint32_t>(v >> 32))

cdef inline char lower(char c) noexcept nogil:
    return c + 32 if c >= 65 and c <= 90 else c
