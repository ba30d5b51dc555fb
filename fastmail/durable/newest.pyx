"""Tells without a transaction whether an LMDB file has had a commit since a known one.

Each commit writes its number into one of the two meta pages at the front of the file, and only then shows itself to
readers. So while neither page has a higher number than the last commit that a reader saw, there is no newer one. The
other way round nothing can be concluded: a commit whose page is written may still be on its way to the readers.

Compiled, because this is asked several times for each command and message.
"""

import mmap
import os

from fastmail.durable.salvage import HEAD, TOP

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t

U64 = sizeof(uint64_t)  # octets of a transaction's number
NUMBER_AT = HEAD.size + TOP.size - U64  # it is the last field of a meta page


cdef class MetaPages:
    """The meta pages of an open LMDB file, mapped for as long as this object lives. ``page``: octets of a page.

    The kernel shows what was written to the file in the map at once, also what another process wrote."""

    cdef Py_buffer _view  # of the map, which lives as long as it has a view
    cdef const volatile uint64_t* _first  # volatile: read anew each time
    cdef const volatile uint64_t* _second

    def __cinit__(self, str path not None, Py_ssize_t page):
        cdef Py_ssize_t at = NUMBER_AT
        with open(os.path.join(path, "data.mdb"), "rb", buffering=0) as file:
            pages = mmap.mmap(file.fileno(), 2 * page, mmap.MAP_SHARED, mmap.PROT_READ)
        PyObject_GetBuffer(pages, &self._view, PyBUF_SIMPLE)
        self._first = <const uint64_t*>(<const char*>self._view.buf + at)
        self._second = <const uint64_t*>(<const char*>self._view.buf + page + at)

    def __dealloc__(self):
        PyBuffer_Release(&self._view)

    def newest(self):
        """Return the highest number of a commit in the file."""
        cdef uint64_t first = self._first[0], second = self._second[0]
        return first if first > second else second
