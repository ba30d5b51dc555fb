# Keys and rows of the store's index that compiled code reads or writes. store/local/index/layout.py describes all
# tables and has the same numbers; index/account_log.py has those of the log.
from libc.stdint cimport uint8_t, uint32_t

cdef enum:  # octets of a key that name ...
    ACCOUNT = 8           # ... the account
    MAILBOX = 12          # ... its mailbox: account, mailbox
    MESSAGE = 16          # ... a message of it: mailbox key, UID; the numbers are big-endian

cdef enum:  # a row of msg: u16 octets of mark and name, little-endian, then mark and name, then the summary
    CONTENT_AT = 2        # where mark and name begin

cdef enum:  # mark and name of content in a segment (store/local/index/references.py): the mark, then little-endian
    SEGMENT = 115         # the mark: b"s"
    IDENT_AT = 1          # u64: id of the record
    SKIP_AT = 9           # u16: octets before the content
    LENGTH_AT = 11        # u64: octets of the content
    REFERENCE = 19        # octets in all

cdef enum:  # a key of place or member: account, EMAILID or THREADID, mailbox, UID
    NAMED_ID_AT = 8
    NAMED_MAILBOX_AT = 16
    NAMED_UID_AT = 20
    NAMED = 24            # octets in all

cdef enum:  # items of the account log: of a message that was created, and of one that was removed
    ITEM_UID_AT = 0       # u32, little-endian
    ITEM_EMAIL_AT = 4     # EMAILID
    REMOVED_ITEM = 12     # octets of one in all
    ITEM_MODSEQ_AT = 12   # u64, little-endian: only where it was created
    CREATED_ITEM = 20     # octets of one in all

cdef enum:  # a mailbox's row, little-endian: then its name in UTF-8
    BOX_VERSION_AT = 0    # u8: BOX_VERSION; readers refuse any other
    BOX_SIZE_AT = 1       # u8: where the name begins
    UIDVALIDITY_AT = 4    # u32
    UIDNEXT_AT = 8        # u32
    EXISTS_AT = 12        # u32
    UNSEEN_AT = 16        # u32
    DELETED_AT = 20       # u32
    BOX_MODSEQ_AT = 28    # u64
    BOX_OCTETS_AT = 36    # u64
    UNUSED_AT = 52        # u64: 0
    BOX_RECOVERED_AT = 68 # u32
    BOX = 72              # octets before the name
    BOX_VERSION = 1

cdef enum:  # an account's row, little-endian
    TOTALS_VERSION_AT = 0 # u8: TOTALS_VERSION; readers take any other for a missing row
    TOTAL_MODSEQ_AT = 8   # u64
    TOTAL_OCTETS_AT = 16  # u64
    MESSAGES_AT = 24      # u64
    SUMMARIES_AT = 32     # u64
    LOGGED_AT = 56        # u64: octets of the log
    TOTAL_RECOVERED_AT = 64 # u32
    TOTALS = 68           # octets in all
    TOTALS_VERSION = 1

cdef enum:  # a row of the account log: its head, then entries, each with its items; and its key
    LOG_VERSION_AT = 0    # u8: TOTALS_VERSION
    LOG_TIME_AT = 4       # u32: s since 1970
    LOG_HEAD = 8          # octets of the head
    ENTRY_KIND_AT = 0     # u8: ENTRY_CREATED
    ENTRY_MAILBOX_AT = 4  # u32
    ENTRY_ITEMS_AT = 8    # u32: how many
    ENTRY = 12            # octets before the items
    ENTRY_CREATED = 1
    LOG_MODSEQ_AT = 8     # u64 of the key, big-endian, behind the account
    LOG_PART_AT = 16      # u16, big-endian
    LOG_KEY = 18          # octets of the key
    PART_ITEMS = 4096     # items in one row at most


cdef inline uint32_t uid_in(const uint8_t* key, Py_ssize_t at) noexcept nogil:
    """The UID that a key has at ``at``."""
    return (<uint32_t>key[at] << 24) | (<uint32_t>key[at + 1] << 16) | (<uint32_t>key[at + 2] << 8) | key[at + 3]

cdef inline void put_uid(uint8_t* key, Py_ssize_t at, uint32_t uid) noexcept nogil:
    """Write the UID that a key has at ``at``."""
    key[at] = <uint8_t>(uid >> 24)
    key[at + 1] = <uint8_t>(uid >> 16)
    key[at + 2] = <uint8_t>(uid >> 8)
    key[at + 3] = <uint8_t>uid
