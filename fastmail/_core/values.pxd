# What ENVELOPE and BODYSTRUCTURE say of header fields, within bounds; see values.pyx.
#   Values  room: octets of values that may still be written   cut: was any left out?   bounded: are there bounds at all?
#           text, lists: octets of one text, and of all lists of addresses in an ENVELOPE
#           the buffers are room for the pieces of a field
from fastmail._core.fields cimport Span
from fastmail._core.octets cimport Out

cdef enum:  # fields that are told of, by their place in an array of spans
    DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID,
    CTYPE, CTE, CID, CDESC, CDISP, CLANG, CLOC, CMD5, RECEIVED, FIELDS

cdef enum:
    ENVELOPE = 262144   # octets of a message's ENVELOPE
    PLAIN = 256         # octets of BODYSTRUCTURE that any part may take; what it has beyond that shares the rest of
    STRUCTURE = 1048576

cdef class Values:
    cdef Out name
    cdef Out route
    cdef Out local
    cdef Out host
    cdef Out note
    cdef Py_ssize_t room
    cdef bint cut
    cdef bint bounded
    cdef Py_ssize_t text
    cdef Py_ssize_t lists
    cdef void reset(self) noexcept nogil
    cdef bint small(self, Py_ssize_t most) noexcept nogil
    cdef void share(self, Py_ssize_t part, Py_ssize_t of) noexcept nogil
    cdef void begin(self, Py_ssize_t room) noexcept nogil
    cdef int string(self, Out out, Span s, bint free) except -1 nogil
    cdef int token(self, Out out, const char* p, Py_ssize_t n) except -1 nogil
    cdef int parameters(self, Out out, Span s, bint text) except -1 nogil
    cdef int disposition(self, Out out, Span s) except -1 nogil
    cdef int languages(self, Out out, Span s) except -1 nogil
    cdef int envelope(self, Out out, const Span* field, bint top) except -1 nogil
    cdef int spend(self, Out out, Py_ssize_t at) except -1 nogil
    cdef int list_of(self, Out out, Span s) except -1 nogil
    cdef int address_field(self, Out out, Span s) except -1 nogil
    cdef int or_from(self, Out out, Span s, Py_ssize_t a, Py_ssize_t b) except -1 nogil
