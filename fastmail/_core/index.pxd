# Keys and rows of the store's index that compiled code reads or writes. store/local/index/layout.py describes all
# tables and has the same numbers; index/account_log.py has those of the log.
from libc.stdint cimport uint8_t, uint32_t

cdef enum:  # octets of a key that name ...
    ACCOUNT = 8           # ... the account
    MAILBOX = 12          # ... its mailbox: account, mailbox
    MESSAGE = 16          # ... a message of it: mailbox key, UID; the numbers are big-endian

cdef enum:  # a row of msg: u16 octets of mark and name, little-endian, then mark and name, then the summary
    CONTENT_AT = 2        # where mark and name begin

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


cdef inline uint32_t uid_in(const uint8_t* key, Py_ssize_t at) noexcept nogil:
    """The UID that a key has at ``at``."""
    return (<uint32_t>key[at] << 24) | (<uint32_t>key[at + 1] << 16) | (<uint32_t>key[at + 2] << 8) | key[at + 3]

cdef inline void put_uid(uint8_t* key, Py_ssize_t at, uint32_t uid) noexcept nogil:
    """Write the UID that a key has at ``at``."""
    key[at] = <uint8_t>(uid >> 24)
    key[at + 1] = <uint8_t>(uid >> 16)
    key[at + 2] = <uint8_t>(uid >> 8)
    key[at + 3] = <uint8_t>uid
