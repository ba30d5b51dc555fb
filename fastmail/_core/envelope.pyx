"""Reads ready ENVELOPEs: their strings, and the addresses that SORT and SEARCH compare (RFC 9051 7.5.2, RFC 5256 2, RFC
5957 3).

The scanner (mime.pyx) read the message's header once and wrote the ENVELOPE in one form, so comments, groups, folded
lines and addresses in pieces are no concern here. Promise: time is linear in the ENVELOPE; nothing is read past its end;
one that is damaged has no elements.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize

from fastmail._core.header cimport folded_end, line_end, value_of
from fastmail._core.octets cimport Out
from fastmail._core.summary cimport (
    FIXED, STATUS_NO_CACHE, STATUS_NO_ENVELOPE, STATUS_AT, VERSION, VERSION_AT, cache_at, parts_at, structure_at,
)


cdef bint open_summary(const uint8_t* p, Py_ssize_t n, Summary* s) noexcept nogil:
    cdef Py_ssize_t envelope, cache, end
    if n < FIXED or p[VERSION_AT] == 0 or p[VERSION_AT] > VERSION:
        return False
    envelope, cache, end = structure_at(p) - FIXED, cache_at(p), parts_at(p)
    if envelope < 2 or end > n:
        return False
    s.envelope = p + FIXED + 1  # without its parentheses
    s.envelopen = envelope - 2
    s.header = p + cache
    s.headern = end - cache
    s.whole = not p[STATUS_AT] & STATUS_NO_CACHE
    s.short = p[STATUS_AT] & STATUS_NO_ENVELOPE != 0
    return True


cdef const uint8_t* take(const uint8_t* p, const uint8_t* end, Piece* found) noexcept nogil:
    """One string, NIL or list at p; returns behind it, NULL when there is none."""
    cdef Piece inner
    cdef Py_ssize_t n = 0
    cdef int depth = 0
    if p >= end:
        return NULL
    if p[0] == b'"':
        p += 1
        found.kind = QUOTED
        found.p = p
        while p < end and p[0] != b'"':
            p += 2 if p[0] == b'\\' else 1
        if p >= end:
            return NULL
        found.n = p - found.p
        return p + 1
    if p[0] == b'{':
        p += 1
        while p < end and 48 <= p[0] <= 57 and n < (1 << 30):
            n = n * 10 + (p[0] - 48)
            p += 1
        if end - p < 3 + n or p[0] != b'}' or p[1] != 13 or p[2] != 10:
            return NULL
        found.kind = LITERAL
        found.p = p + 3
        found.n = n
        return p + 3 + n
    if p[0] == b'(':
        found.kind = LIST
        found.p = p + 1
        while p < end:
            if p[0] == b'(':
                depth += 1
                p += 1
            elif p[0] == b')':
                depth -= 1
                p += 1
                if depth == 0:
                    found.n = p - 1 - found.p
                    return p
            elif p[0] == b'"' or p[0] == b'{':
                p = take(p, end, &inner)
                if p == NULL:
                    return NULL
            else:
                p += 1
        return NULL
    if end - p >= 3 and p[0] == b'N' and p[1] == b'I' and p[2] == b'L':
        found.kind = NIL
        found.p = p
        found.n = 0
        return p + 3
    return NULL


cdef bint elements(const uint8_t* p, Py_ssize_t n, Piece* found) noexcept nogil:
    """The ELEMENTS of an ENVELOPE without its parentheses; False when it is damaged."""
    cdef const uint8_t* end = p + n
    cdef int i
    for i in range(ELEMENTS):
        if i:
            if p >= end or p[0] != 32:
                return False
            p += 1
        p = take(p, end, &found[i])
        if p == NULL:
            return False
    return p == end


cdef const uint8_t* next_address(const uint8_t* p, const uint8_t* end, Address* a) noexcept nogil:
    """The address at p in a list; returns behind it, NULL at the end of the list or of what can be read."""
    cdef Piece whole
    cdef Piece* parts = &a.name
    cdef const uint8_t* stop
    cdef int i
    if p >= end or p[0] != b'(':
        return NULL
    stop = take(p, end, &whole)
    if stop == NULL:
        return NULL
    p += 1
    for i in range(4):
        if i:
            if p >= stop or p[0] != 32:
                return NULL
            p += 1
        p = take(p, stop, &parts[i])
        if p == NULL or parts[i].kind == LIST:
            return NULL
    return stop


cdef int unescaped(Out out, const Piece* piece) except -1 nogil:
    """Append the string's octets; NIL has none."""
    cdef const uint8_t* p = piece.p
    cdef const uint8_t* end = p + piece.n
    if piece.kind == LITERAL:
        return out.put(<const char*>p, piece.n)
    if piece.kind != QUOTED:
        return 0
    while p < end:
        if p[0] == b'\\' and p + 1 < end:
            p += 1
        out.putc(<char>p[0])
        p += 1
    return 0


cdef bint field_value(const uint8_t* p, const uint8_t* end, const char* name, Py_ssize_t size, Piece* found) noexcept nogil:
    """The value, with its folded lines, of the first field ``name`` (lower case) in a CRLF header block."""
    cdef const char* at = <const char*>p
    cdef const char* stop = <const char*>end
    cdef const char* e
    cdef const char* value
    while at < stop:
        e = folded_end(line_end(at, stop), stop)
        value = value_of(at, e, name, size)
        if value != NULL:
            found.kind = LITERAL
            found.p = <const uint8_t*>value
            found.n = e - value
            return True
        at = e
    return False


cdef int address_line(Out out, const Piece* list) except -1 nogil:
    """Append a list's addresses as SEARCH looks through them: ``name <mailbox@host>, group: <mailbox@host>;``."""
    cdef Address a
    cdef const uint8_t* p = list.p
    cdef const uint8_t* end = p + list.n
    cdef bint first = True
    if list.kind != LIST:
        return 0
    while True:
        p = next_address(p, end, &a)
        if p == NULL:
            return 0
        if a.mailbox.kind == NIL:  # the end of a group
            out.putc(b';'[0])
            continue
        if not first:
            out.put(", ", 2)
        first = a.host.kind == NIL  # nothing stands between a group's name and its first address
        if first:
            unescaped(out, &a.mailbox)
            out.put(": ", 2)
            continue
        if a.name.kind != NIL:
            unescaped(out, &a.name)
            out.putc(32)
        out.putc(b'<'[0])
        unescaped(out, &a.mailbox)
        out.putc(b'@'[0])
        unescaped(out, &a.host)
        out.putc(b'>'[0])


# ---------------------------------------------------------------- for Python

class Element:
    """Places of the elements of an ENVELOPE: those of envelope.pxd, for Python."""


Element.DATE = DATE
Element.SUBJECT = SUBJECT
Element.FROM = FROM
Element.SENDER = SENDER
Element.REPLY_TO = REPLY_TO
Element.TO = TO
Element.CC = CC
Element.BCC = BCC
Element.IN_REPLY_TO = IN_REPLY_TO
Element.MESSAGE_ID = MESSAGE_ID


cdef object text_of(Out tmp, const Piece* piece):
    if piece.kind == NIL:
        return None
    tmp.len = 0
    unescaped(tmp, piece)
    return PyBytes_FromStringAndSize(tmp.buf, tmp.len)


def addresses(bytes summary not None, int which, Py_ssize_t most=-1):
    cdef Summary s
    cdef Piece found[ELEMENTS]
    cdef Address a
    cdef const uint8_t* p = <const uint8_t*><const char*>summary
    cdef const uint8_t* end
    cdef list out = []
    cdef Out tmp = Out(128)
    if not FROM <= which <= BCC:
        raise ValueError("not an element with addresses")
    if not open_summary(p, len(summary), &s) or not elements(s.envelope, s.envelopen, found):
        return None
    if found[which].kind == LIST:
        p = found[which].p
        end = p + found[which].n
        while most < 0 or len(out) < most:
            p = next_address(p, end, &a)
            if p == NULL:
                break
            out.append((text_of(tmp, &a.name), text_of(tmp, &a.route), text_of(tmp, &a.mailbox), text_of(tmp, &a.host)))
    return out


def string(bytes summary not None, int which):
    cdef Summary s
    cdef Piece found[ELEMENTS]
    if which < 0 or which >= ELEMENTS:
        raise ValueError("not an element of an ENVELOPE")
    if (not open_summary(<const uint8_t*><const char*>summary, len(summary), &s)
            or not elements(s.envelope, s.envelopen, found) or found[which].kind == LIST):
        return None
    return text_of(Out(256), &found[which])


def line(bytes summary not None, int which):
    cdef Summary s
    cdef Piece found[ELEMENTS]
    cdef Out out = Out(256)
    if not FROM <= which <= BCC:
        raise ValueError("not an element with addresses")
    if (open_summary(<const uint8_t*><const char*>summary, len(summary), &s)
            and elements(s.envelope, s.envelopen, found)):
        address_line(out, &found[which])
    return out.take()
