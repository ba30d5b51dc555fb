"""RSA signatures with PKCS #1 v1.5 (RFC 8017 8.2.2), by processors whose instructions are quick at it (montgomery.h).

cryptography verifies as well, on any machine; but each call of it goes a long way around the same arithmetic, through
code that a message needs once and that is no longer in the processor's caches.

Promise: public keys only, since the time a call takes depends on the numbers.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "montgomery.h" nogil:
    enum:
        MONTGOMERY_BLOCK
        MONTGOMERY_BLOCKS
        MONTGOMERY_WORDS
    int montgomery_able()
    void montgomery_power(uint64_t* out, const uint64_t* s, const uint64_t* n, const uint64_t* square,
                          uint64_t inverse, int blocks)

cdef enum:
    WORD = 8                     # octets
    BLOCK = MONTGOMERY_BLOCK * WORD
    MOST = MONTGOMERY_WORDS * WORD
    FRAME = 11                   # octets around what is signed: 00 01, eight of FF at least, 00

cdef bint ABLE = montgomery_able() != 0


def able():
    return ABLE


def suits(modulus not None, exponent not None):
    cdef Py_ssize_t size = (modulus.bit_length() + 7) // 8
    return ABLE and exponent == 65537 and modulus & 1 and modulus.bit_length() == 8 * size and (
        size % BLOCK == 0 and 2 * BLOCK <= size <= MOST
    )


cdef void words(uint64_t* to, const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Octets of a number, the highest first, as words, the lowest first."""
    cdef uint64_t word
    cdef Py_ssize_t i, j
    for i in range(n // WORD):
        word = 0
        for j in range(WORD):
            word = word << 8 | p[n - WORD * (i + 1) + j]
        to[i] = word


cdef class Public:
    """A public key: its modulus n, and what its arithmetic needs of that."""
    cdef uint64_t modulus[MONTGOMERY_WORDS]
    cdef uint64_t square[MONTGOMERY_WORDS]   # 2^(2 * bits of n) mod n
    cdef uint64_t inverse                    # -1/n mod 2^64
    cdef Py_ssize_t size                     # octets of n

    def __cinit__(self, modulus not None, exponent not None):
        if not suits(modulus, exponent):
            raise ValueError("no such key can be computed with here")
        self.size = modulus.bit_length() // 8
        words(self.modulus, modulus.to_bytes(self.size, "big"), self.size)
        words(self.square, pow(2, 16 * self.size, modulus).to_bytes(self.size, "big"), self.size)
        self.inverse = pow(-modulus, -1, 1 << 64)

    cdef bint raise_to(self, uint64_t* power, const uint8_t* signature, Py_ssize_t n) noexcept nogil:
        """Compute s^65537 mod n; False for what is no signature of this key, by its length or its size."""
        cdef uint64_t number[MONTGOMERY_WORDS]
        cdef Py_ssize_t at = self.size // WORD - 1
        if n != self.size:
            return False
        words(number, signature, n)
        while at >= 0 and number[at] == self.modulus[at]:
            at -= 1
        if at < 0 or number[at] > self.modulus[at]:
            return False
        montgomery_power(power, number, self.modulus, self.square, self.inverse, self.size // BLOCK)
        return True

    def held(self, bytes signature not None):
        cdef uint64_t power[MONTGOMERY_WORDS]
        cdef object found = 0
        cdef Py_ssize_t at
        if not self.raise_to(power, <const uint8_t*>signature, len(signature)):
            return None
        for at in range(self.size // WORD):
            found |= <object>power[at] << (64 * at)
        return found

    def verify(self, bytes signature not None, bytes signed not None):
        cdef uint64_t power[MONTGOMERY_WORDS]
        cdef uint64_t expected[MONTGOMERY_WORDS]
        cdef uint8_t message[MOST]
        cdef Py_ssize_t n = len(signed)
        if n + FRAME > self.size or not self.raise_to(power, <const uint8_t*>signature, len(signature)):
            return False
        memset(message, 0xff, self.size)
        message[0], message[1], message[self.size - n - 1] = 0, 1, 0
        memcpy(message + self.size - n, <const char*>signed, n)
        words(expected, message, self.size)
        return memcmp(power, expected, self.size) == 0
