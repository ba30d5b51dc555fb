# Layout of an index page (version 1), little-endian. A page holds the records of UIDs base .. base+31 that exist
# (base a multiple of 32): small enough for LMDB to keep it in a leaf, so that a delivery dirties one page, not two.
# A header is followed by records in ascending order of their UIDs.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

# Python has what a record holds as a tuple, with the places of ``pages.Field``, and what a header says, with those of
# ``pages.Head``.
cdef enum:
    VERSION = 1
    HEAD = 32
    RECORD = 40
    SPAN = 32

cdef enum:  # where a header has what
    VERSION_AT = 0    # u8: readers refuse a higher one
    STEP_AT = 1       # u8: octets of a record; readers step by it, so a later version may append fields
    COUNT_AT = 2      # u16: records that follow; then u32 that is written 0 and ignored
    HIGHEST_AT = 8    # u64: highest MODSEQ of a record in this page, ever (never shrinks)
    PRESENT_AT = 16   # u64, bit k: UID base+k exists
    UNSEEN_AT = 24    # u64, bit k: UID base+k exists and has no \Seen

cdef enum:  # where a record has what
    UID_AT = 0        # u32
    FLAGS_AT = 4      # u32
    MODSEQ_AT = 8     # u64
    KEYWORDS_AT = 16  # u64
    DATE_AT = 24      # i64: internal date, s since 1970 UTC
    SIZE_AT = 32      # u32: RFC822.SIZE in octets
    SAVED_AT = 36     # u32: save date, s since 1970 UTC

cdef enum:  # places in the tuple of a record
    FIELD_UID, FIELD_FLAGS, FIELD_MODSEQ, FIELD_KEYWORDS, FIELD_DATE, FIELD_SIZE, FIELD_SAVED

cdef enum:  # places in the tuple of a header
    HEAD_COUNT, HEAD_MODSEQ, HEAD_PRESENT, HEAD_UNSEEN

# Operations of a search program: triples of an operation and two numbers a and b, in postfix order. Python has the same
# numbers as ``pages.Op``.
cdef enum:
    OP_ALL = 0
    OP_FLAGS = 1      # flags & a == b
    OP_KEYWORD = 2    # keyword bit a is set
    OP_LARGER = 3     # larger than a
    OP_SMALLER = 4    # smaller than a
    OP_DATE = 5       # a <= internal date < b
    OP_UIDS = 6       # in the set at a
    OP_MODSEQ = 7     # modseq >= a
    OP_NOT = 8        # of the answer before it
    OP_AND = 9        # of the two answers before it
    OP_OR = 10
    OP_SAVED = 11     # a <= save date < b

cdef const uint8_t* open_page(const unsigned char[::1] page, Py_ssize_t* count, Py_ssize_t* step) except NULL

# put_record  a record, packed at ``r``
# extended    the page with ``more`` packed records behind its own; ``page`` is None, or octets
cdef void put_record(uint8_t* r, uint32_t uid, uint32_t flags, uint64_t modseq, uint64_t keywords, int64_t date,
                     uint32_t size, uint32_t saved) noexcept nogil
cdef bytes extended(page, const uint8_t* packed, Py_ssize_t more)
