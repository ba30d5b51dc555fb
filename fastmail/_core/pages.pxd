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

cdef enum:
    VERSION = 1
    HEAD = 32
    RECORD = 40
    SPAN = 32

cdef const uint8_t* open_page(const unsigned char[::1] page, Py_ssize_t* count, Py_ssize_t* step) except NULL
