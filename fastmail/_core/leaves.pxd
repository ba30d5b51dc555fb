# Runs of rows, pairs of (key, value) in key order, whatever they lie in.
#   key, keyn, value, valuen  the row at hand, when seek or next said 1; valid until the next call
# Table reads them from LMDB's own pages, in the map of its file:
#   base, pages, size  the map's first octet, pages that belong to the snapshot, octets of a page
#   path, at           pages and places in them, from the root to the leaf
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastmail._core.index cimport MESSAGE
from fastmail._core.lmdb cimport DEEPEST
from fastmail._core.uidset cimport UidSet


cdef class Source:
    cdef const uint8_t* key
    cdef Py_ssize_t keyn
    cdef const uint8_t* value
    cdef Py_ssize_t valuen
    cdef int seek(self, const uint8_t* key, Py_ssize_t n) except -1
    cdef int next(self) except -1
    cdef object lend(self, Py_ssize_t skip)


cdef class Pairs(Source):
    cdef object rows
    cdef object pair
    cdef Py_buffer buffers[2]
    cdef bint has_pair
    cdef void drop(self) noexcept


cdef class Table(Source):
    cdef object map
    cdef const uint8_t* base
    cdef uint64_t pages
    cdef uint64_t root
    cdef Py_ssize_t size
    cdef int depth
    cdef const uint8_t* path[DEEPEST]
    cdef int at[DEEPEST]
    cdef int counts[DEEPEST]
    cdef bint placed
    cdef const uint8_t* page(self, uint64_t number, int kind, int* count) except NULL
    cdef const uint8_t* node(self, const uint8_t* page, int i) except NULL
    cdef int compare(self, const uint8_t* node, const uint8_t* key, Py_ssize_t n) except -2
    cdef int lower_bound(self, const uint8_t* page, int first, int count, const uint8_t* key, Py_ssize_t n) except -1
    cdef int first_below(self, int level) except -1
    cdef int onward(self) except -1
    cdef int read(self) except -1


# One pass over the rows of a mailbox that are in a set of UIDs.
cdef class Walk:
    cdef Source source
    cdef UidSet uids
    cdef uint8_t key[MESSAGE]
    cdef Py_ssize_t run
    cdef bint inside
    cdef uint32_t uid
    cdef int next(self) except -1


# What FETCH reads of a mailbox: rows of its table, and of ``more`` by UID what is not there yet.
#   last, found  the UID that was looked up last, and whether the table's row at hand is its
cdef class Summaries:
    cdef Table table
    cdef UidSet uids
    cdef object more
    cdef object lent
    cdef bytes prefix
    cdef uint8_t key[MESSAGE]
    cdef uint32_t last
    cdef bint found
    cdef bint there(self, uint32_t uid) except -1
    cdef const uint8_t* find(self, uint32_t uid, Py_ssize_t* n) except? NULL


cdef Py_ssize_t summary_at(const uint8_t* value, Py_ssize_t n) noexcept nogil
