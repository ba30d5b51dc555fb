# Layout of a summary: what the scanner (mime.pyx) found in a message. Whoever writes or reads one uses these names;
# Python has the bits of its status and the kinds of parts as ``mime.Status`` and ``mime.Kind``, and the rest as fields
# of message/summary.py.
#
# Versions 2 and 3, little-endian. A reader refuses a higher version; the message is then scanned again.
# Version 3 also has the message's first words (message/preview.py), after the parts: u16 octets, and as many in UTF-8.
# The scanner writes version 2, and what keeps messages makes version 3 of it (idents.with_preview).
# Version 1 has the same layout. Its writer lost the parts of a multipart whose boundary lines it did not know: a
# reader refuses one with a multipart that has no part (mime.lost_parts), and takes the others as they are.
#
# The fixed part is followed by ENVELOPE, BODYSTRUCTURE, header cache (fields with CRLF, no empty line), the parts in
# preorder, the first words, and the trail, which the store adds (message/identity.py).
from libc.stdint cimport uint8_t

from fastmail._core.octets cimport get16, get32

cdef enum:
    WRITTEN = 2       # the version that the scanner writes
    PREVIEWED = 3     # the version that has the first words
    VERSION = 3       # the highest that is understood
    FIXED = 32        # octets before ENVELOPE
    FREE = 4096       # octets that count in no quota, as the rest of a file's last block does not

cdef enum:  # where the fixed part has what
    VERSION_AT = 0    # u8
    STATUS_AT = 1      # u8
    PARTS_AT = 2      # u16: how many parts
    SHIFT_AT = 4      # u32: octets on disk before the scanned content (trace fields that delivery put in front)
    ENVELOPE_AT = 8   # u32: octets of ENVELOPE
    STRUCTURE_AT = 12 # u32: octets of BODYSTRUCTURE
    CACHE_AT = 16     # u32: octets of the header cache
    SERVED_AT = 20    # u32: octets, with CRLF, of the scanned content
    DAY_AT = 24       # i32: day of the Date field, days since 1970; the lowest number: there is none
    RECEIVED_AT = 28  # u32: how many Received fields

# Earlier writers set the first two only, or those up to BOUNDED, and earlier readers pass over the others.
cdef enum:  # bits of the status
    STATUS_NO_CACHE = 1     # the header cache is cut
    STATUS_NO_PARTS = 2     # the parts are cut
    STATUS_NO_ENVELOPE = 4  # values of the ENVELOPE are left out
    STATUS_NO_VALUES = 8    # values of the BODYSTRUCTURE are left out
    STATUS_BOUNDED = 16     # made within these bounds, so it has at most MOST octets and counts in quotas
    STATUS_ATTACHED = 32    # there are attachments
    STATUS_LOOKED = 64      # it is known whether there are attachments

cdef enum:
    PART = 16         # octets of a part

cdef enum:  # where a part has what; the last three are offsets into the scanned content
    KIND_AT = 0       # u8
    DEPTH_AT = 1      # u8, then u16 0
    HEADER_AT = 4     # u32: start of its header
    BODY_AT = 8       # u32: start of its body
    END_AT = 12       # u32: end of its body

cdef enum:  # kinds of parts
    KIND_LEAF = 0
    KIND_MULTIPART = 1
    KIND_MESSAGE = 2  # message/rfc822

cdef enum:  # the trail
    ID = 8            # octets of an id
    TRAIL = 32
    EMAIL_AT = 0      # EMAILID
    CREATED_AT = 8    # u64: MODSEQ of the account when the message was created there
    THREAD_AT = 16    # its thread
    OWN_AT = 24       # hash of its Message-ID


# ``p`` is the start of a summary of at least FIXED octets. The lengths in it are not checked: the answers may lie
# beyond its end.

cdef inline Py_ssize_t structure_at(const uint8_t* p) noexcept nogil:
    """Where BODYSTRUCTURE begins."""
    return FIXED + <Py_ssize_t>get32(p + ENVELOPE_AT)

cdef inline Py_ssize_t cache_at(const uint8_t* p) noexcept nogil:
    """Where the header cache begins."""
    return structure_at(p) + get32(p + STRUCTURE_AT)

cdef inline Py_ssize_t parts_at(const uint8_t* p) noexcept nogil:
    """Where the parts begin, which is also the end of the header cache."""
    return cache_at(p) + get32(p + CACHE_AT)

cdef inline Py_ssize_t parts_end(const uint8_t* p) noexcept nogil:
    """Where the parts end."""
    return parts_at(p) + get16(p + PARTS_AT) * PART

cdef inline Py_ssize_t heavy(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Octets of a summary of n octets that count in quotas."""
    return n - FREE if n > FREE and p[STATUS_AT] & STATUS_BOUNDED else 0
