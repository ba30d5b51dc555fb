"""Undoes the encodings of mail: base64 and quoted-printable (RFC 2045 6.7, 6.8), encoded words (RFC 2047), and the
markup of HTML texts.

Promise: time and memory are linear in the input, which is read once; no input fails; nothing outside the input is
read. Bodies and HTML are worked on without the GIL. What is no encoding is passed on as it is, so that no text is
lost.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memset

from fastmail._core.fields cimport blank, hexadecimal, same
from fastmail._core.octets cimport Out, lower

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t hn, const void* needle, size_t nn)

cdef enum:
    NO_DIGIT = 64
    PADDING = 65
    SPACE = 66

cdef uint8_t[256] DIGITS  # base64: value of a digit, or one of the three above
cdef const char* ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

cdef void fill() noexcept:
    cdef int i
    memset(DIGITS, NO_DIGIT, 256)
    for i in range(64):
        DIGITS[<unsigned char>ALPHABET[i]] = <uint8_t>i
    DIGITS[61] = PADDING
    DIGITS[9] = DIGITS[10] = DIGITS[13] = DIGITS[32] = SPACE

fill()


# ---------------------------------------------------------------- transfer encodings

cdef bint undo_base64(Out out, const char* p, const char* end) except -1 nogil:
    """Append what the digits from p to end say. A group ends at four digits, at padding and at the end; what is no
    digit is passed over (RFC 2045 6.8). Returns 0 when something behind padding is no base64."""
    cdef uint32_t bits = 0
    cdef int n = 0
    cdef uint8_t v
    cdef Py_ssize_t padded = -1  # length of the output at the last padding
    while p < end:
        v = DIGITS[<unsigned char>p[0]]
        p += 1
        if v < 64:
            bits = bits << 6 | v
            n += 1
            if n == 4:
                out.putc(<char>(bits >> 16 & 255))
                out.putc(<char>(bits >> 8 & 255))
                out.putc(<char>(bits & 255))
                n = 0
                bits = 0
        elif v == PADDING:
            if n:
                rest_of_group(out, bits, n)
            padded = out.len
            n = 0
            bits = 0
        elif v == NO_DIGIT and padded >= 0:
            out.len = padded
            return False
    if n:
        rest_of_group(out, bits, n)
    return True


cdef int rest_of_group(Out out, uint32_t bits, int n) except -1 nogil:
    """The octets of a group with n of its four digits."""
    if n == 3:
        out.putc(<char>(bits >> 10 & 255))
        out.putc(<char>(bits >> 2 & 255))
    elif n == 2:
        out.putc(<char>(bits >> 4 & 255))
    return 0


def base64(const unsigned char[::1] data):
    cdef Out out = Out(data.shape[0] // 4 * 3 + 64)
    cdef const char* p = b""
    cdef bint sound
    if data.shape[0]:
        p = <const char*>&data[0]
    with nogil:
        sound = undo_base64(out, p, p + data.shape[0])
    return out.take(), sound


cdef int undo_quoted(Out out, const char* p, const char* end, bint word) except -1 nogil:
    """Append what quoted-printable text says. ``word``: of an encoded word, where ``_`` is a space (RFC 2047 4.2)."""
    cdef const char* q
    while p < end:
        if word and p[0] == b'_':
            out.putc(32)
            p += 1
        elif p[0] == b'=':
            if end - p > 2 and hexadecimal(p[1]) >= 0 and hexadecimal(p[2]) >= 0:
                out.putc(<char>(hexadecimal(p[1]) * 16 + hexadecimal(p[2])))
                p += 3
                continue
            q = p + 1
            while q < end and (q[0] == 32 or q[0] == 9):
                q += 1
            if not word and (q == end or line_break(q, end)):
                p = q + line_break(q, end)  # a soft line break, with transport padding
            else:
                out.put(p, q - p)
                p = q
        elif not word and (p[0] == 32 or p[0] == 9):
            q = p
            while q < end and (q[0] == 32 or q[0] == 9):
                q += 1
            if q < end and not line_break(q, end):
                out.put(p, q - p)  # else it is transport padding (RFC 2045 6.7, rule 3)
            p = q
        else:
            out.putc(p[0])
            p += 1
    return 0


cdef inline int line_break(const char* p, const char* end) noexcept nogil:
    """Octets of the line break at p."""
    if p < end and p[0] == 10:
        return 1
    return 2 if end - p > 1 and p[0] == 13 and p[1] == 10 else 0


def quoted_printable(const unsigned char[::1] data):
    cdef Out out = Out(data.shape[0] + 64)
    cdef const char* p
    if data.shape[0]:
        p = <const char*>&data[0]
        with nogil:
            undo_quoted(out, p, p + data.shape[0], False)
    return out.take()


# ---------------------------------------------------------------- encoded words

cdef const char* word_end(const char* t, const char* end) noexcept nogil:
    """Where the ``?=`` of the encoded word lies whose text begins at t; NULL when another word or nothing comes
    first. A question mark inside is not allowed, and is sent."""
    cdef const char* f = t
    while True:
        f = <const char*>memchr(f, 63, end - f)
        if f == NULL or end - f < 2:
            return NULL
        if f[1] == b'=':
            return f
        if f > t and (f - 1)[0] == b'=':
            return NULL
        f += 1


def words(bytes raw not None):
    cdef const char* base = raw
    cdef const char* end = base + len(raw)
    cdef const char* p = base
    cdef const char* told = base  # what lies before it is in the answer
    cdef const char* c
    cdef const char* q
    cdef const char* t
    cdef const char* e
    cdef const char* x
    cdef list found = []
    cdef bint after_word = False, gap
    cdef Out out = Out(128)
    while True:
        p = <const char*>memmem(p, end - p, "=?", 2)
        if p == NULL:
            break
        c = p + 2
        q = <const char*>memchr(c, 63, end - c)
        if q == NULL:
            break
        t = q + 3
        if q == c or t > end or q[2] != b'?' or lower(q[1]) not in (98, 113):
            p = c
            continue
        x = c
        while x < q and not blank(x[0]):
            x += 1
        e = word_end(t, end)
        if x < q or e == NULL:
            p = c
            continue
        gap = after_word  # white space between two encoded words is not shown (RFC 2047 6.2)
        x = told
        while gap and x < p:
            gap = blank(x[0])
            x += 1
        if told < p and not gap:
            found.append(PyBytes_FromStringAndSize(told, p - told))
        if lower(q[1]) == 98:
            undo_base64(out, t, e)
        else:
            undo_quoted(out, t, e, True)
        found.append((PyBytes_FromStringAndSize(c, q - c), out.take()))
        after_word = True
        p = told = e + 2
    if told < end:
        found.append(PyBytes_FromStringAndSize(told, end - told))
    return found


# ---------------------------------------------------------------- marks on letters

# ---------------------------------------------------------------- HTML

cdef const char** HIDDEN = ["style", "script", "head", "title"]
cdef int* HIDDEN_SIZES = [5, 6, 4, 5]


cdef int hidden(const char* p, const char* end) noexcept nogil:
    """Which element whose text is not shown begins behind the ``<`` before p; -1 for none."""
    cdef int i
    cdef Py_ssize_t n
    for i in range(4):
        n = HIDDEN_SIZES[i]
        if end - p > n and same(p, n, HIDDEN[i], n) and (blank(p[n]) or p[n] == b'>' or p[n] == b'/'):
            return i
    return -1


cdef const char* closing_tag(const char* p, const char* end, int element) noexcept nogil:
    """Where ``</element`` begins at or behind p, or end."""
    cdef Py_ssize_t n = HIDDEN_SIZES[element]
    while True:
        p = <const char*>memmem(p, end - p, "</", 2)
        if p == NULL:
            return end
        if end - p >= n + 2 and same(p + 2, n, HIDDEN[element], n):
            return p
        p += 2


cdef int undo_html(Out out, const char* p, const char* end, bint shown) except -1 nogil:
    """Append text without tags. ``shown``: without comments and texts that are not shown, and a space for each tag."""
    cdef const char* q
    cdef const char* last = p  # behind the last ``>``: behind it, nothing is a tag
    cdef int element
    q = end
    while q > p and (q - 1)[0] != b'>':
        q -= 1
    last = q
    while p < end:
        q = <const char*>memchr(p, b'<', end - p)
        if q == NULL:
            return out.put(p, end - p)
        out.put(p, q - p)
        p = q + 1
        if shown and end - p >= 3 and p[0] == b'!' and p[1] == b'-' and p[2] == b'-':
            q = <const char*>memmem(p + 3, end - p - 3, "-->", 3)
            p = end if q == NULL else q + 3
            out.putc(32)
            continue
        if p == end or not (97 <= lower(p[0]) <= 122 or p[0] == b'/' or p[0] == b'!' or p[0] == b'?'):
            out.putc(b'<'[0])  # a sign, not a tag
            continue
        element = hidden(p, end) if shown else -1
        if element >= 0:
            p = closing_tag(p, end, element)
            if p < end:
                p += 1
        if p < last:
            p = <const char*>memchr(p, b'>', end - p) + 1
            if shown:
                out.putc(32)
        elif shown:
            return 0  # a tag that is cut off
        else:
            out.putc(b'<'[0])
    return 0


def html(const unsigned char[::1] data, bint shown):
    cdef Out out = Out(data.shape[0] + 64)
    cdef const char* p
    if data.shape[0]:
        p = <const char*>&data[0]
        with nogil:
            undo_html(out, p, p + data.shape[0], shown)
    return out.take()
