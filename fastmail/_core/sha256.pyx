"""SHA-256 of what compiled code has in a buffer: the digests of hashlib, without its way there.

A message has two short hashes. hashlib's are as quick at the blocks, but each call goes through code of OpenSSL that a
message needs once and that is no longer in the processor's caches. Where the processor has no instructions for SHA-256
(sha256.h), hashlib computes it.

Promise: the same digest as hashlib's for any octets, however they are cut, on every machine.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

import hashlib

cdef enum:
    UNLOCKED = 8192  # octets from which other threads may run meanwhile

cdef bint ABLE = sha256_able() != 0
# Hashes of hashlib begin as copies of this one: to begin a new one, OpenSSL looks for the function by its name.
cdef object EMPTY = hashlib.sha256()


def able():
    return ABLE


def use(bint instructions):
    global ABLE
    if instructions and not sha256_able():
        raise ValueError("this processor has no such instructions")
    ABLE = instructions


cdef class Sum:
    """A hash on its way."""

    def __cinit__(self):
        if ABLE:
            sha256_begin(&self.state)
        else:
            self.other = EMPTY.copy()

    cdef int add(self, const uint8_t* p, Py_ssize_t n) except -1:
        if self.other is not None:
            self.other.update(PyBytes_FromStringAndSize(<const char*>p, n))
        elif n < UNLOCKED:
            sha256_add(&self.state, p, n)
        else:
            with nogil:
                sha256_add(&self.state, p, n)
        return 0

    def update(self, const uint8_t[::1] data not None):
        if data.shape[0]:
            self.add(&data[0], data.shape[0])

    def digest(self):
        cdef sha256 last = self.state
        cdef uint8_t found[SHA256_DIGEST]
        if self.other is not None:
            return self.other.digest()
        sha256_end(&last, found)
        return PyBytes_FromStringAndSize(<const char*>found, SHA256_DIGEST)


def digest(bytes data not None):
    return digest_of(<const uint8_t*>data, len(data))


cdef bytes digest_of(const uint8_t* p, Py_ssize_t n):
    cdef Sum whole = Sum()
    if whole.other is not None:
        whole.other.update(PyBytes_FromStringAndSize(<const char*>p, n))  # a copy: other threads may run meanwhile
    else:
        sha256_add(&whole.state, p, n)
    return whole.digest()
