"""CRC-32, the checksum of the journal, of segments and of the queue: what zlib.crc32 returns, with a tenth of its work.

zlib from most distributions uses tables; this uses the instructions that processors have for it (crc.h), and zlib where
there are none. Promise: the same value as zlib's for any octets and any start, on every machine.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t
from zlib import crc32 as zlib_crc32

cdef extern from "crc.h" nogil:
    int fm_crc_able
    void fm_crc_begin()
    uint32_t fm_crc(const unsigned char* p, size_t n, uint32_t crc)

cdef enum:
    UNLOCKED = 1 << 18  # octets from which other threads may run meanwhile, as with zlib

fm_crc_begin()


cdef uint32_t more(object data, uint32_t value) except? 0:
    cdef Py_buffer view
    if not fm_crc_able:
        return zlib_crc32(data, value)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    if view.len < UNLOCKED:
        value = fm_crc(<const unsigned char*>view.buf, view.len, value)
    else:
        with nogil:
            value = fm_crc(<const unsigned char*>view.buf, view.len, value)
    PyBuffer_Release(&view)
    return value


def crc32(data not None, uint32_t value=0):
    return more(data, value)


def crc32_of(parts not None, uint32_t value=0):
    for part in parts:
        value = more(part, value)
    return value


def able():
    return fm_crc_able != 0
