"""What threads are made with: hashes of ids, a map of them, trees that know their roots, and memory for one run.

Promise: nothing recurses; SipHash-2-4 under a secret key, so that nobody can make two ids that are taken for one; a map's
lookup is O(1), a tree's root, link and cut O(log n), amortised (link-cut trees, Sleator and Tarjan, 1983). Fails with
MemoryError only.
"""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset


# ---------------------------------------------------------------- SipHash-2-4 (Aumasson and Bernstein, 2012)

cdef inline uint64_t turned(uint64_t x, int by) noexcept nogil:
    return (x << by) | (x >> (64 - by))


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[1] = turned(v[1], 13) ^ v[0]
    v[0] = turned(v[0], 32)
    v[2] += v[3]
    v[3] = turned(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = turned(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = turned(v[1], 17) ^ v[2]
    v[2] = turned(v[2], 32)


cdef uint64_t siphash(const uint64_t* key, const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Never 0, which stands for nothing."""
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef Py_ssize_t i, whole = n & ~7
    v[0] = key[0] ^ 0x736f6d6570736575ULL
    v[1] = key[1] ^ 0x646f72616e646f6dULL
    v[2] = key[0] ^ 0x6c7967656e657261ULL
    v[3] = key[1] ^ 0x7465646279746573ULL
    for i in range(0, whole, 8):
        memcpy(&word, p + i, 8)
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
    word = <uint64_t>(n & 255) << 56
    for i in range(n - whole):
        word |= <uint64_t>p[whole + i] << (8 * i)
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word
    v[2] ^= 255
    for i in range(4):
        sip_round(v)
    word = v[0] ^ v[1] ^ v[2] ^ v[3]
    return word if word else 1


# ---------------------------------------------------------------- a map from hashes to numbers

cdef class Map:
    def __cinit__(self, uint64_t room):
        cdef uint64_t size = 64
        while size < 2 * room:
            size *= 2
        self.reset(size)

    def __dealloc__(self):
        free(self.slots)

    cdef int reset(self, uint64_t size) except -1 nogil:
        cdef Slot* fresh = <Slot*>malloc(size * sizeof(Slot))
        if fresh == NULL:
            with gil:
                raise MemoryError()
        memset(fresh, 255, size * sizeof(Slot))  # every value is NONE
        self.slots = fresh
        self.mask = size - 1
        self.used = 0
        return 0

    cdef int32_t* at(self, uint64_t key) except NULL nogil:
        """Where the key's number is, or is to be put; valid until the next call."""
        cdef Slot* old = self.slots
        cdef uint64_t i, size = self.mask + 1
        if 2 * self.used > size:
            self.reset(2 * size)
            for i in range(size):
                if old[i].value != NONE:
                    self.at(old[i].key)[0] = old[i].value
            free(old)
        i = key & self.mask  # the hashes are evenly spread
        while self.slots[i].value != NONE and self.slots[i].key != key:
            i = (i + 1) & self.mask
        if self.slots[i].value == NONE:
            self.slots[i].key = key
            self.used += 1
        return &self.slots[i].value


# ---------------------------------------------------------------- trees of messages

cdef class Forest:
    def __dealloc__(self):
        free(self.node)

    cdef int32_t add(self, int32_t message) except -2 nogil:
        cdef Node* grown
        cdef Node* one
        if self.count == self.room:
            grown = <Node*>realloc(self.node, (2 * self.room + 256) * sizeof(Node))
            if grown == NULL:
                with gil:
                    raise MemoryError()
            self.node = grown
            self.room = 2 * self.room + 256
        one = &self.node[self.count]
        one.parent = one.above = one.left = one.right = NONE
        one.message = message
        one.children = 0
        self.count += 1
        return <int32_t>(self.count - 1)

    cdef bint tops(self, int32_t x) noexcept nogil:
        """Is x the root of its splay tree?"""
        cdef int32_t up = self.node[x].above
        return up == NONE or (self.node[up].left != x and self.node[up].right != x)

    cdef void rotate(self, int32_t x) noexcept nogil:
        cdef Node* n = self.node
        cdef int32_t y = n[x].above
        cdef int32_t z = n[y].above
        cdef int32_t moved
        if z != NONE:
            if n[z].left == y:
                n[z].left = x
            elif n[z].right == y:
                n[z].right = x
        if n[y].left == x:
            moved = n[x].right
            n[y].left = moved
            n[x].right = y
        else:
            moved = n[x].left
            n[y].right = moved
            n[x].left = y
        if moved != NONE:
            n[moved].above = y
        n[y].above = x
        n[x].above = z

    cdef void splay(self, int32_t x) noexcept nogil:
        cdef Node* n = self.node
        cdef int32_t y, z
        while not self.tops(x):
            y = n[x].above
            if not self.tops(y):
                z = n[y].above
                self.rotate(y if (n[z].left == y) == (n[y].left == x) else x)
            self.rotate(x)

    cdef void access(self, int32_t x) noexcept nogil:
        """Make the path from x to the root of its tree one splay tree, with x as its root."""
        cdef Node* n = self.node
        cdef int32_t w
        self.splay(x)
        n[x].right = NONE
        while n[x].above != NONE:
            w = n[x].above
            self.splay(w)
            n[w].right = x
            self.splay(x)

    cdef int32_t root(self, int32_t x) noexcept nogil:
        self.access(x)
        while self.node[x].left != NONE:
            x = self.node[x].left
        self.splay(x)
        return x

    cdef bint loops(self, int32_t parent, int32_t child) noexcept nogil:
        """Would a link make a loop? ``child`` has no parent."""
        return parent == child or (self.node[child].children > 0 and self.root(parent) == child)

    cdef void link(self, int32_t parent, int32_t child) noexcept nogil:
        self.access(child)
        self.node[child].above = parent
        self.node[child].parent = parent
        self.node[parent].children += 1

    cdef void cut(self, int32_t child) noexcept nogil:
        cdef int32_t rest
        self.access(child)
        rest = self.node[child].left
        self.node[rest].above = NONE
        self.node[child].left = NONE
        self.node[self.node[child].parent].children -= 1
        self.node[child].parent = NONE


cdef class Buffers:
    """Memory of one run, freed with it."""

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            free(self.held[i])

    cdef int32_t* numbers(self, Py_ssize_t n, int32_t value) except NULL nogil:
        """n numbers, all of them ``value``."""
        cdef Py_ssize_t i
        cdef int32_t* p = <int32_t*>malloc((n + 1) * sizeof(int32_t))
        if p == NULL:
            with gil:
                raise MemoryError()
        self.held[self.count] = p
        self.count += 1
        for i in range(n):
            p[i] = value
        return p
