# Layout of an index page (version 1), little-endian. A page holds the records of UIDs base .. base+31 that exist
# (base a multiple of 32): small enough for LMDB to keep it in a leaf, so that a delivery dirties one page, not two.
#   0  u8  version      readers refuse a higher one
#   1  u8  record size  readers step by it, so a later version may append fields
#   2  u16 count        records that follow
#   4  u32 reserved     written 0, ignored
#   8  u64 max modseq   highest MODSEQ of a record in this page, ever (never shrinks)
#  16  u64 present      bit k: UID base+k exists
#  24  u64 unseen       bit k: UID base+k exists and has no \Seen
#  32  records, ascending UID:
#       0 u32 uid   4 u32 flags   8 u64 modseq   16 u64 keywords   24 i64 internal date, s since 1970 UTC
#      32 u32 RFC822.SIZE in octets   36 u32 save date, s since 1970 UTC
from libc.stdint cimport uint8_t

# Python has what a record holds as a tuple, with the places of ``pages.Field``, and what a header says, with those of
# ``pages.Head``.
cdef enum:
    VERSION = 1
    HEAD = 32
    RECORD = 40
    SPAN = 32

cdef enum:  # where a record has what
    UID_AT = 0
    FLAGS_AT = 4
    MODSEQ_AT = 8
    KEYWORDS_AT = 16
    DATE_AT = 24
    SIZE_AT = 32
    SAVED_AT = 36

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
