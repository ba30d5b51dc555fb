# Layout of LMDB 0.9's file, 64 bits, little-endian, for leaves.pyx, which reads rows from it. durable/salvage.py has the
# same layout as the formats by which it checks whole pages.
cdef enum:  # where the head of a page has what
    NUMBER_AT = 0         # u64: its own number
    FLAGS_AT = 10         # u16: its kind
    LOWER_AT = 12         # u16: end of the pointers to its nodes
    UPPER_AT = 14         # u16: start of its nodes
    RUN_AT = 12           # u32, instead of the last two: how many overflow pages belong together
    HEAD = 16             # octets of the head
    POINTER = 2           # octets of a pointer

cdef enum:  # kinds of pages
    BRANCH = 1
    LEAF = 2
    OVERFLOW = 4
    META = 8

cdef enum:  # where a node has what
    SIZE_AT = 0           # u32: octets of the value; in a branch the lower half of the page number that it leads to
    UPPER_HALF_AT = 4     # u16: in a branch, the upper half of that number
    NODE_FLAGS_AT = 4     # u16: in a leaf
    KEY_SIZE_AT = 6       # u16: octets of the key
    NODE = 8              # octets before the key
    BIG = 1               # flag: the value lies on overflow pages; the node has the number of the first, u64

cdef enum:  # where a tree (a table's root) has what
    TREE_PAD_AT = 0       # u32: in the tree of the free list, octets of a page
    TREE_DEPTH_AT = 6     # u16
    TREE_ROOT_AT = 40     # u64: page number
    TREE = 48             # octets of a tree

cdef enum:  # where a meta page has what, after its head
    MAGIC_AT = 0          # u32
    FORMAT_AT = 4         # u32: 1
    FREE_AT = 24          # tree of the free list
    MAIN_AT = 72          # tree of the tables' names
    LAST_AT = 120         # u64: the last page in use
    TXN_AT = 128          # u64: the transaction that wrote it

cdef enum:
    FORMAT = 1            # version of the file's layout
    DEEPEST = 32          # pages from the root to a leaf, at most
    SMALLEST = 4096       # octets of a page, at least
    LARGEST = 65536       # and at most; the free space of an empty page does not fit into its u16 there
