"""The first words of a text, as PREVIEW shows them (RFC 8970): without quoted lines, and with one space for each run of
white space and of characters that nobody sees.

Promise: one pass, which ends with the last character that is wanted; nothing is read past the end. What is not UTF-8
has no words: the caller decodes it first.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

from fastmail._core import decode
from fastmail._core.fields cimport same
from fastmail._core.mime import leaf
from fastmail._core.mime cimport lost_parts
from fastmail._core.octets cimport Out, get16, get32
from fastmail._core.summary cimport (
    BODY_AT, END_AT, FIXED, HEADER_AT, KIND_AT, KIND_LEAF, KIND_MULTIPART, STATUS_ATTACHED, STATUS_LOOKED, STATUS_NO_PARTS,
    STATUS_AT, PART, PARTS_AT, cache_at, parts_at, parts_end, structure_at,
)

cdef enum:
    MANY = 64          # parts that are looked at
    ENOUGH = 8192      # octets of a body that nearly always have its first words
    BAD = 0xFFFFFFFF

cdef enum:  # what of a charset is read here
    SLOW = 0
    ASCII_ONLY = 1
    UTF8_TOO = 2

KINDS = {b"": UTF8_TOO, b"utf-8": UTF8_TOO, b"utf8": UTF8_TOO, b"us-ascii": UTF8_TOO, b"ascii": UTF8_TOO}
KINDS.update({b"iso-8859-%d" % n: ASCII_ONLY for n in range(1, 17)})
KINDS.update({b"windows-125%d" % n: ASCII_ONLY for n in range(9)})


cdef uint32_t character(const uint8_t* p, const uint8_t* end, int* n) noexcept nogil:
    """The character at p, and its octets; BAD where there is none (RFC 3629 4)."""
    cdef uint32_t c = p[0]
    cdef int i
    n[0] = 1
    if c < 0x80:
        return c
    if c < 0xC2 or c > 0xF4:
        return BAD
    n[0] = 2 if c < 0xE0 else 3 if c < 0xF0 else 4
    if end - p < n[0]:
        return BAD
    c &= 0x1F if n[0] == 2 else 0x0F if n[0] == 3 else 0x07
    for i in range(1, n[0]):
        if p[i] & 0xC0 != 0x80:
            return BAD
        c = c << 6 | (p[i] & 0x3F)
    if (n[0] == 3 and (c < 0x800 or 0xD800 <= c < 0xE000)) or (n[0] == 4 and not 0x10000 <= c <= 0x10FFFF):
        return BAD
    return c


cdef bint gap(uint32_t c) noexcept nogil:
    """White space, a control, or what is not seen."""
    return (c <= 32 or c == 0x85 or c == 0xA0 or c == 0xAD or c == 0x34F or c == 0x1680 or 0x2000 <= c <= 0x200F
            or c == 0x2028 or c == 0x2029 or c == 0x202F or c == 0x205F or c == 0x2060 or c == 0x3000 or c == 0xFEFF)


cdef int write(Out out, const uint8_t* p, const uint8_t* end, bint quotes, int most) except -2 nogil:
    """At most ``most`` characters to ``out``, with or without quoted lines: how many; -1 where it is no UTF-8."""
    cdef const uint8_t* start = p
    cdef uint32_t c
    cdef int n = 0, count = 0
    cdef bint space = False, word
    while p < end:
        if p[0] == b'>' and not quotes and (p == start or (p - 1)[0] == 10):
            while p < end and p[0] != 10:
                p += 1
            continue
        word = 32 < p[0] < 127  # of ASCII, as nearly always: taken as a whole
        n = 1
        if not word:
            c = character(p, end, &n)
            if c == BAD:
                return -1
            if gap(c):
                space = count > 0
                p += n
                continue
        if space:
            if count + 1 >= most:
                return most
            out.putc(b' ')
            count += 1
            space = False
        while word and p + n < end and 32 < p[n] < 127 and count + n < most:
            n += 1
        out.put(<const char*>p, n)
        count += n if word else 1
        if count >= most:
            return count
        p += n
    return count


cdef Out room = Out(1024)  # of ``short``, which nobody interrupts


cdef bytes short(const uint8_t* p, Py_ssize_t n, int most, bint quotes, bint whole, int* count):
    """The first words, and how many characters they have; None where it is no UTF-8."""
    cdef bytes words
    room.len = 0
    count[0] = write(room, p, p + n, quotes, most)
    if count[0] == 0 and not quotes and whole:
        count[0] = write(room, p, p + n, True, most)
    if count[0] < 0:
        count[0] = 0
        return None
    words = room.take()
    room.shrink(1024)
    return words


def shortened(text, int most, bint quotes=False, bint whole=True):
    cdef Py_buffer view
    cdef int count = 0
    PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
    try:
        words = short(<const uint8_t*>view.buf, view.len, most, quotes, whole, &count)
        return words, count
    finally:
        PyBuffer_Release(&view)


cdef bint ascii(const unsigned char[::1] data) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(data.shape[0]):
        if data[i] >= 0x80:
            return False
    return True


cdef bint token(const uint8_t** p, const uint8_t* end, const char* text, Py_ssize_t n) noexcept nogil:
    """Is that text at p, in any case? Then p is put behind it."""
    if end - p[0] < n or not same(<const char*>p[0], n, text, n):
        return False
    p[0] += n
    return True


cdef bint simple(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Is the message one text in US-ASCII or UTF-8 as it lies there, by its BODYSTRUCTURE? Most short ones are."""
    cdef const uint8_t* end = p + n
    return (token(&p, end, '("text" "plain" ("charset" "', 28)
            and (token(&p, end, 'us-ascii"', 9) or token(&p, end, 'utf-8"', 6))
            and token(&p, end, ') nil nil "', 11)
            and (token(&p, end, '7bit" ', 6) or token(&p, end, '8bit" ', 6)))


def first(content, summary, int most):
    cdef Py_buffer text, made
    PyObject_GetBuffer(content, &text, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(summary, &made, PyBUF_SIMPLE)
        try:
            return first_of(content, <const uint8_t*>text.buf, text.len, <const uint8_t*>made.buf, made.len, most)
        finally:
            PyBuffer_Release(&made)
    finally:
        PyBuffer_Release(&text)


cdef bytes first_of(whole_content, const uint8_t* octets, Py_ssize_t size, const uint8_t* made, Py_ssize_t n, int most):
    """See ``first``: of the content at ``octets``, with the summary at ``made``."""
    cdef Py_ssize_t at, start, body, end, i, count
    cdef const unsigned char[::1] content
    cdef const uint8_t* p = made
    cdef int kind, told = 0
    cdef bint html = False, whole
    cdef bytes text
    if n < FIXED or lost_parts(p, n) or p[STATUS_AT] & STATUS_NO_PARTS:
        return None
    at, count = parts_at(p), get16(p + PARTS_AT)
    if parts_end(p) > n:
        return None
    if (count == 1 and p[STATUS_AT] & (STATUS_LOOKED | STATUS_ATTACHED) == STATUS_LOOKED
            and simple(p + structure_at(p), cache_at(p) - structure_at(p))):
        body, end = get32(p + at + BODY_AT), get32(p + at + END_AT)
        if body <= end <= size:
            whole = end - body <= ENOUGH
            text = short(octets + body, min(end - body, <Py_ssize_t>ENOUGH), most, False, whole, &told)
            if text is not None and (told >= most or whole):
                return text
    content = whole_content
    for i in range(count):
        if i >= MANY:
            return None
        p = made + at + i * PART
        start, body, end = get32(p + HEADER_AT), get32(p + BODY_AT), get32(p + END_AT)
        if i == 0:
            start = 0
        if not start <= body <= end <= content.shape[0]:
            return None
        if p[KIND_AT] == KIND_MULTIPART:
            continue
        main, sub, charset, encoding, disposition, _ = leaf(content[start:body])
        if p[KIND_AT] != KIND_LEAF:
            if encoding == b"base64" or encoding == b"quoted-printable":
                return None  # a message in there
            continue
        if main == b"multipart" or main == b"message":
            return None
        if main != b"text" or disposition == b"attachment":
            continue
        if sub != b"plain":
            html = html or sub == b"html"
            continue
        kind = KINDS.get(charset, SLOW)
        if kind == SLOW:
            return None
        whole = end - body <= ENOUGH
        data = content[body:end if whole else body + ENOUGH]
        if encoding == b"base64":
            data, good = decode.base64(data)
            if not good:
                return None
        elif encoding == b"quoted-printable":
            data = decode.quoted_printable(data)
        if kind == ASCII_ONLY and not ascii(data):
            return None
        text, told = shortened(data, most, False, whole)
        if text is None or (told < most and not whole):
            return None
        return text
    return None if html else b""
