"""Looks for octets in many texts that lie one behind the other.

Promise: one call covers a chunk of texts, without the GIL while it searches; each text is named at most once, however
often it matches; nothing outside the chunk is read. ValueError when the ends do not fit the chunk.
"""

from libc.stdint cimport uint32_t, uint8_t

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t hn, const void* needle, size_t nn)


def find(const uint32_t[::1] ends not None, const uint8_t[::1] data not None, bytes needle not None, bint with_head):
    cdef Py_ssize_t count = ends.shape[0] // 3, i = 0, k = 0
    cdef size_t n = data.shape[0], size = len(needle), at = 0, middle, end
    cdef const char* base
    cdef const char* hit
    cdef const char* wanted = needle
    cdef list found = []
    cdef uint32_t last = 0
    if not count or not n or not size:
        return found
    for i in range(count):
        if ends[3 * i + 1] > ends[3 * i + 2] or ends[3 * i + 2] > n or ends[3 * i + 1] < last:
            raise ValueError("ends do not fit the texts")
        last = ends[3 * i + 2]
    base = <const char*>&data[0]
    i = 0
    while at < n:
        with nogil:
            hit = <const char*>memmem(base + at, n - at, wanted, size)
        if hit == NULL:
            break
        at = hit - base
        while i < count and ends[3 * i + 2] <= at:
            i += 1
        if i == count:
            break
        middle = ends[3 * i + 1]
        end = ends[3 * i + 2]
        if not with_head and at < middle:
            hit = <const char*>memmem(base + middle, end - middle, wanted, size)
            at = hit - base if hit != NULL else end
        if at + size <= end:
            found.append(ends[3 * i])
        at = end
        i += 1
    return found
