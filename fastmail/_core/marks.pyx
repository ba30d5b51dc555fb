"""Looks many mailboxes up in a map of bits that workers share (store.watchmap), in one call for all keys of a commit.

The bit of a key is its CRC-32, cut to the size of the map. Promise: the same bit as by zlib.crc32, on every machine.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

cdef extern from "crc.h" nogil:
    void fm_crc_begin()
    uint32_t fm_crc(const unsigned char* p, size_t n, uint32_t crc)

cdef enum:
    LONGEST = 64  # octets of an account's part of a key with what stands in place of a mailbox

fm_crc_begin()


cdef bint is_set(const Py_buffer* bits, const unsigned char* key, size_t size) noexcept nogil:
    cdef uint32_t at = fm_crc(key, size, 0) & <uint32_t>(bits.len * 8 - 1)
    return (<const unsigned char*>bits.buf)[at >> 3] >> (at & 7) & 1


def marked(bits not None, keys not None, Py_ssize_t account, bytes everything not None):
    cdef Py_buffer view
    cdef unsigned char whole[LONGEST]
    cdef Py_ssize_t more = len(everything)
    cdef const unsigned char* p
    cdef bytes key
    cdef list found = []
    if account < 0 or account + more > LONGEST:
        raise ValueError("keys of accounts are shorter")
    memcpy(whole + account, PyBytes_AS_STRING(everything), more)
    PyObject_GetBuffer(bits, &view, PyBUF_SIMPLE)
    try:
        for key in keys:
            p = <const unsigned char*>PyBytes_AS_STRING(key)
            if len(key) < account:
                raise ValueError("a key has an account")
            memcpy(whole, p, account)
            if is_set(&view, p, len(key)) or is_set(&view, whole, account + more):
                found.append(key)
        return found
    finally:
        PyBuffer_Release(&view)
