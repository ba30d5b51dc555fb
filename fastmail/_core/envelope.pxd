# Reads the ENVELOPE that mime.pyx wrote into a summary (RFC 9051 7.5.2).
#   Piece  one element: the octets p .. p+n as they are on the wire, without quotes, braces or the outer parentheses
from libc.stdint cimport uint8_t

from fastmail._core.octets cimport Out

cdef enum:
    NIL, QUOTED, LITERAL, LIST                                   # kinds of a Piece
    DATE = 0, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID, ELEMENTS   # places in an ENVELOPE

cdef struct Piece:
    const uint8_t* p
    Py_ssize_t n
    int kind

cdef struct Address:
    Piece name
    Piece route
    Piece mailbox
    Piece host

# The summary's three texts; False when it is damaged or of another version.
#   envelope  without its parentheses   header  the cached fields   whole  are these all that are to be cached?
#   short  are addresses or texts left out of the ENVELOPE?
cdef struct Summary:
    const uint8_t* envelope
    Py_ssize_t envelopen
    const uint8_t* header
    Py_ssize_t headern
    bint whole
    bint short

cdef bint open_summary(const uint8_t* p, Py_ssize_t n, Summary* s) noexcept nogil
cdef bint elements(const uint8_t* p, Py_ssize_t n, Piece* found) noexcept nogil
cdef const uint8_t* next_address(const uint8_t* p, const uint8_t* end, Address* a) noexcept nogil
cdef int address_line(Out out, const Piece* list) except -1 nogil
cdef int unescaped(Out out, const Piece* piece) except -1 nogil
cdef bint field_value(const uint8_t* p, const uint8_t* end, const char* name, Py_ssize_t size, Piece* found) noexcept nogil
