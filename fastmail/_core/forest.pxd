# What threads are made with; see forest.pyx.
#   Map     numbers by hash; Slot.value NONE: the slot is free
#   Forest  trees of messages as link-cut trees:
#     parent, message, children  in the tree of messages: NONE at its root; the place among the messages, NONE for one that
#                                is only referred to; how many
#     above, left, right         in the splay tree of a path, ``left`` being nearer to the root; ``above`` of a splay tree's
#                                root is the message that its path hangs from
#   Buffers memory of one run
from libc.stdint cimport int32_t, uint8_t, uint64_t

cdef enum:
    NONE = -1

cdef struct Slot:
    uint64_t key
    int32_t value

cdef struct Node:
    int32_t parent
    int32_t message
    int32_t children
    int32_t above
    int32_t left
    int32_t right

cdef uint64_t siphash(const uint64_t* key, const uint8_t* p, Py_ssize_t n) noexcept nogil


cdef class Map:
    cdef Slot* slots
    cdef uint64_t mask
    cdef uint64_t used
    cdef int reset(self, uint64_t size) except -1 nogil
    cdef int32_t* at(self, uint64_t key) except NULL nogil


cdef class Forest:
    cdef Node* node
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef int32_t add(self, int32_t message) except -2 nogil
    cdef bint tops(self, int32_t x) noexcept nogil
    cdef void rotate(self, int32_t x) noexcept nogil
    cdef void splay(self, int32_t x) noexcept nogil
    cdef void access(self, int32_t x) noexcept nogil
    cdef int32_t root(self, int32_t x) noexcept nogil
    cdef bint loops(self, int32_t parent, int32_t child) noexcept nogil
    cdef void link(self, int32_t parent, int32_t child) noexcept nogil
    cdef void cut(self, int32_t child) noexcept nogil


cdef class Buffers:
    cdef void* held[16]
    cdef int count
    cdef int32_t* numbers(self, Py_ssize_t n, int32_t value) except NULL nogil
