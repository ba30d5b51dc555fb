"""What ENVELOPE and BODYSTRUCTURE say of header fields, within bounds (RFC 9051 7.5.2). Used by the MIME scanner only.

Promise: an ENVELOPE has at most ENVELOPE octets: its four texts have a share of their own, and its lists of addresses
share the rest. All values of a BODYSTRUCTURE share what ``begin`` gives them, beside PLAIN octets for each part: a value
for which there is no room is cut at the border of an address or a parameter, or is NIL, and a type is its beginning.
``cut`` says that something was left out.
"""

from libc.string cimport memcpy

from fastmail._core cimport fields
from fastmail._core.fields cimport Span, addresses, nstring, params, quoted
from fastmail._core.octets cimport Out

cdef enum:
    ALL = 1073741824    # no bound
    ADDRESSES = 2000    # of one field; beginnings and ends of groups count
    TEXT = 8192         # octets of a Subject, a Content-ID and such
    SHORTEST = 512      # the same in a summary that is kept many times
    NAME = 32           # octets of a type or an encoding that every part may have
    TEXTS = 65664       # octets of an ENVELOPE for its four texts and what is between its elements


cdef class Values:
    def __cinit__(self):
        self.name = Out(128)
        self.route = Out(64)
        self.local = Out(128)
        self.host = Out(128)
        self.note = Out(64)
        self.reset()

    cdef void reset(self) noexcept nogil:
        """Begin another message."""
        self.room = 0
        self.cut = False
        self.bounded = True
        self.text = TEXT
        self.lists = ENVELOPE - TEXTS

    cdef bint small(self, Py_ssize_t most) noexcept nogil:
        """Has none of the buffers room for more?"""
        return (self.name.cap <= most and self.route.cap <= most and self.local.cap <= most and self.host.cap <= most
                and self.note.cap <= most)

    cdef void share(self, Py_ssize_t part, Py_ssize_t of) noexcept nogil:
        """Bounds that are the part of those of a whole summary."""
        self.text = max(SHORTEST, TEXT * part // of)
        self.lists = self.lists * part // of

    cdef void begin(self, Py_ssize_t room) noexcept nogil:
        self.room = room if self.bounded else ALL
        self.cut = False

    cdef int spend(self, Out out, Py_ssize_t at) except -1 nogil:
        """What was written from ``at`` on is a value; where there is no room for it, NIL is there instead."""
        if out.len - at <= 3:
            return 0
        if out.len - at > self.room:
            out.len = at
            self.cut = True
            return out.put("NIL", 3)
        self.room -= out.len - at
        return 0

    cdef int string(self, Out out, Span s, bint free) except -1 nogil:
        """A text. ``free``: without a share of the room."""
        cdef Py_ssize_t at = out.len
        nstring(out, s, self.text if self.bounded else ALL, &self.cut)
        return 0 if free else self.spend(out, at)

    cdef int token(self, Out out, const char* p, Py_ssize_t n) except -1 nogil:
        """A type or an encoding: its beginning at least."""
        cdef Py_ssize_t at = out.len
        quoted(out, p, n)
        if n <= NAME:
            return 0
        if out.len - at > self.room:
            out.len = at
            self.cut = True
            return quoted(out, p, NAME)
        self.room -= out.len - at
        return 0

    cdef int parameters(self, Out out, Span s, bint text) except -1 nogil:
        cdef Py_ssize_t at = out.len
        params(out, s.a, s.b, self.room, &self.cut, self.name, self.note, text)
        return self.spend(out, at)

    cdef int disposition(self, Out out, Span s) except -1 nogil:
        cdef Py_ssize_t at = out.len
        fields.disposition(out, s, self.room, &self.cut, self.name, self.note)
        return self.spend(out, at)

    cdef int languages(self, Out out, Span s) except -1 nogil:
        cdef Py_ssize_t at = out.len
        fields.languages(out, s, self.room, &self.cut, self.note)
        return self.spend(out, at)

    # ---------------------------------------------------------------- addresses

    cdef int list_of(self, Out out, Span s) except -1 nogil:
        """0 where there is none; nothing is written then."""
        cdef Py_ssize_t at = out.len
        if not addresses(out, s, ADDRESSES if self.bounded else ALL, self.room, &self.cut, self.name, self.route,
                         self.local, self.host, self.note):
            return 0
        self.room -= out.len - at
        return 1

    cdef int address_field(self, Out out, Span s) except -1 nogil:
        if not self.list_of(out, s):
            out.put("NIL", 3)
        return 0

    cdef int envelope(self, Out out, const Span* field, bint top) except -1 nogil:
        """``top``: that of the message, whose texts are written in any case."""
        cdef Py_ssize_t a, b
        if top:
            self.begin(self.lists)
        out.putc(b'('[0])
        self.string(out, field[DATE], top)
        out.putc(b' '[0])
        self.string(out, field[SUBJECT], top)
        out.putc(b' '[0])
        a = out.len
        self.address_field(out, field[FROM])
        b = out.len
        self.or_from(out, field[SENDER], a, b)
        self.or_from(out, field[REPLY_TO], a, b)
        out.putc(b' '[0])
        self.address_field(out, field[TO])
        out.putc(b' '[0])
        self.address_field(out, field[CC])
        out.putc(b' '[0])
        self.address_field(out, field[BCC])
        out.putc(b' '[0])
        self.string(out, field[IN_REPLY_TO], top)
        out.putc(b' '[0])
        self.string(out, field[MESSAGE_ID], top)
        return out.putc(b')'[0])

    cdef int or_from(self, Out out, Span s, Py_ssize_t a, Py_ssize_t b) except -1 nogil:
        """Sender and Reply-To default to From (RFC 9051 7.5.2), where there is room to say it again."""
        cdef Py_ssize_t at
        out.putc(b' '[0])
        at = out.len
        if not self.list_of(out, s):
            if out.len + (b - a) > out.cap:
                out.grow(b - a)
            memcpy(out.buf + out.len, out.buf + a, b - a)
            out.len += b - a
            self.spend(out, at)
        return 0
