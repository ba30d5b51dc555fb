"""Tag lists (RFC 6376 3.2), which signatures of DKIM and ARC are, and key records.

Promise: one pass, linear in what is given; a list has TAGS tags at most. Nothing that is read leaves its bounds.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeASCII
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from fastmail._core.octets cimport Out, get64, lower

cdef enum:
    TAGS = 100   # of a list
    DIGITS = 12  # of a time
    SHOWN = 8    # characters of b= in results (RFC 6008 4)
    KEPT = 4096  # octets that a shared buffer keeps between two calls

cdef inline bint space(char c) noexcept nogil:
    """White space of tag lists, which are folded."""
    return c == 32 or c == 9 or c == 13 or c == 10


def tags(str text not None):
    cdef Py_ssize_t size
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &size)
    cdef const char* stop = p + size
    cdef const char* q = p
    cdef const char* end
    cdef const char* equals
    cdef dict found = {}
    cdef str name
    cdef int count = 0
    while True:
        q = <const char*>memchr(q, 59, stop - q)
        if q == NULL:
            break
        q += 1
        count += 1
    if count > TAGS:
        raise ValueError(f"more than {TAGS} tags")
    while True:
        q = <const char*>memchr(p, 59, stop - p)
        end = stop if q == NULL else q
        while p < end and space(p[0]):
            p += 1
        while end > p and space((end - 1)[0]):
            end -= 1
        if p == end:
            if q == NULL:
                return found
            raise ValueError("an empty tag")
        equals = <const char*>memchr(p, 61, end - p)
        name = tag_name(p, equals) if equals != NULL else None
        if name is None:
            raise ValueError("a part is no tag")
        if name in found:
            raise ValueError(f"{name[:20]}= is there twice")
        p = equals + 1
        while p < end and space(p[0]):
            p += 1
        found[name] = p[: end - p].decode("utf-8")
        if q == NULL:
            return found
        p = q + 1


def plain(str text not None):
    cdef Py_ssize_t size
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &size)
    cdef const char* stop = p + size
    cdef const char* q
    cdef Out out = Out(size)
    while p < stop:
        q = p
        while q < stop and not space(q[0]):
            q += 1
        out.put(p, q - p)
        p = q + 1
    return text if out.len == size else out.buf[: out.len].decode("utf-8")


cdef str tag_name(const char* p, const char* end):
    """The name in front of the equals sign at ``end``; None for what is no name."""
    cdef const char* q
    while end > p and space((end - 1)[0]):
        end -= 1
    q = p
    while q < end and (97 <= lower(q[0]) <= 122 or (q > p and (48 <= q[0] <= 57 or q[0] == 95))):
        q += 1
    return p[: end - p].decode("ascii") if q == end and p < end else None


def without(bytes data not None, bytes name not None):
    return cut(data, name)


cdef bytes cut(bytes data, bytes name):
    cdef Cut found
    cdef const char* base = data
    cut_at(base, base + len(data), name, len(name), &found)
    return data if found.start == found.behind else data[: found.start] + data[found.behind :]


cdef int cut_at(const char* base, const char* stop, const char* name, Py_ssize_t size, Cut* found) except -1:
    cdef const char* p = <const char*>memchr(base, 58, stop - base)
    cdef const char* q
    cdef const char* end
    cdef const char* equals
    if p == NULL:
        raise ValueError("no field")
    p += 1
    found.start = found.behind = 0
    while True:
        q = <const char*>memchr(p, 59, stop - p)
        end = stop if q == NULL else q
        equals = <const char*>memchr(p, 61, end - p)
        if equals != NULL and is_tag(p, equals, name, size):
            if q == NULL:  # the line end of the field is not part of the value
                if end - 1 > equals and (end - 1)[0] == 10:
                    end -= 1
                    if end - 1 > equals and (end - 1)[0] == 13:
                        end -= 1
            found.start, found.behind = equals + 1 - base, end - base
            return 0
        if q == NULL:
            return 0
        p = q + 1


cdef bint is_tag(const char* p, const char* end, const char* name, Py_ssize_t size) noexcept nogil:
    """Is that the name in front of the equals sign at ``end``?"""
    while p < end and space(p[0]):
        p += 1
    while end > p and space((end - 1)[0]):
        end -= 1
    return end - p == size and memcmp(p, name, size) == 0


cdef long long number(const char* p, const char* end) noexcept nogil:
    """The digits between white space at both ends; -1 for what is no number, or too long for a time."""
    cdef long long value = 0
    cdef const char* q
    while p < end and space(p[0]):
        p += 1
    while end > p and space((end - 1)[0]):
        end -= 1
    if p == end or end - p > DIGITS:
        return -1
    q = p
    while q < end:
        if not 48 <= q[0] <= 57:
            return -1
        value = value * 10 + (q[0] - 48)
        q += 1
    return value


cdef Py_ssize_t squeeze(const char* p, const char* end, char* to) noexcept nogil:
    """Copy the octets without white space. Returns how many that are; there is room for all."""
    cdef char* start = to
    cdef uint64_t word
    while p < end:
        while end - p >= 8:  # as long as none of eight is a space, or below
            word = get64(<const uint8_t*>p)
            if (word - 0x2121212121212121ULL) & ~word & 0x8080808080808080ULL:
                break
            memcpy(to, p, 8)
            p += 8
            to += 8
        while p < end:
            to[0] = p[0]
            p += 1
            if not space(to[0]):
                to += 1
            elif end - p >= 8:
                break
    return to - start


cdef bytes dense(const char* p, const char* end):
    """The octets without white space."""
    cdef bytes found = PyBytes_FromStringAndSize(NULL, end - p)
    cdef Py_ssize_t n = squeeze(p, end, PyBytes_AS_STRING(found))
    return found if n == len(found) else found[:n]


cdef struct Values:
    # of tags of a signature: from behind the equals sign to the end; NULL where the tag is not there
    const char* b
    const char* b_end
    const char* bh
    const char* bh_end
    long long since
    long long expires


# What signatures have in common is put together in the first, b= and bh= without white space in the second. No call
# leaves anything there, and the GIL is held while they are in use.
cdef Out SAME = Out(1024)
cdef Out TEXT = Out(1024)


def signature(bytes data not None):
    cdef const char* base = data
    cdef Values found
    if not split(base, base + len(data), &found):
        return None
    return common(), dense(found.b, found.b_end), dense(found.bh, found.bh_end), found.since, found.expires


cdef tuple decoded(const char* base, const char* stop, int place):
    cdef Values found
    cdef bytes octets, digest
    cdef Py_ssize_t n
    cdef str shown
    if not split(base, stop, &found):
        return None
    n = text_of(found.bh, found.bh_end)
    digest = from_base64(<const unsigned char*>TEXT.buf, n)
    n = text_of(found.b, found.b_end)
    octets = from_base64(<const unsigned char*>TEXT.buf, n)
    if octets is None or digest is None:
        return None
    shown = PyUnicode_DecodeASCII(TEXT.buf, n if n < SHOWN else SHOWN, NULL)
    TEXT.shrink(KEPT)
    return common(), (place, digest, octets, shown, found.since, found.expires)


cdef Py_ssize_t text_of(const char* p, const char* end) except -1:
    """Put a value without white space into TEXT. Returns how long it is."""
    if TEXT.cap < end - p:
        TEXT.grow(end - p)
    return squeeze(p, end, TEXT.buf)


cdef bytes common():
    """What ``split`` found to be in common."""
    cdef bytes found = PyBytes_FromStringAndSize(SAME.buf, SAME.len)
    SAME.len = 0
    SAME.shrink(KEPT)
    return found


cdef bint split(const char* base, const char* stop, Values* found) except -1:
    """Take a signature apart; what it has in common with others goes into SAME. False where it has no b= or no bh=, one
    of them or t= or x= twice, or no number as its time."""
    cdef const char* p = <const char*>memchr(base, 58, stop - base)
    cdef const char* q
    cdef const char* end
    cdef const char* equals
    cdef const char* keep  # up to where a part is the same in each signature
    found.b = found.bh = NULL
    found.since = found.expires = -1
    SAME.len = 0
    if p == NULL:
        return False
    p += 1
    while True:
        q = <const char*>memchr(p, 59, stop - p)
        keep = end = stop if q == NULL else q
        equals = <const char*>memchr(p, 61, end - p)
        if equals != NULL:
            if is_tag(p, equals, b"b", 1):
                if found.b != NULL:
                    return False
                found.b, found.b_end = equals + 1, end
                keep = equals + 1
            elif is_tag(p, equals, b"bh", 2):
                if found.bh != NULL:
                    return False
                found.bh, found.bh_end = equals + 1, end
                keep = equals + 1
            elif is_tag(p, equals, b"t", 1):
                if found.since >= 0:
                    return False
                found.since = number(equals + 1, end)
                if found.since < 0:
                    return False
                keep = equals + 1
            elif is_tag(p, equals, b"x", 1):
                if found.expires >= 0:
                    return False
                found.expires = number(equals + 1, end)
                if found.expires < 0:
                    return False
                keep = equals + 1
        SAME.put(p, keep - p)
        if q == NULL:
            break
        SAME.putc(59)
        p = q + 1
    return found.b != NULL and found.bh != NULL


cdef int[256] VALUES  # of the characters of base64; -1 for others

cdef int fill() except -1:
    cdef const unsigned char* alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    cdef int n
    for n in range(256):
        VALUES[n] = -1
    for n in range(64):
        VALUES[alphabet[n]] = n
    return 0

fill()


cdef bytes from_base64(const unsigned char* p, Py_ssize_t n):
    """The octets of base64 (RFC 4648 4) in its one usual form, four characters at a time; None for any other."""
    cdef const unsigned char* stop = p + n
    cdef bytes found
    cdef char* to
    cdef int word = 0, padding = 0, i
    if n == 0 or n % 4:
        return None
    if (stop - 1)[0] == 61:
        padding = 2 if (stop - 2)[0] == 61 else 1
    found = PyBytes_FromStringAndSize(NULL, n // 4 * 3 - padding)
    to = PyBytes_AS_STRING(found)
    stop -= 4 if padding else 0
    while p < stop:
        word = (VALUES[p[0]] << 18) | (VALUES[p[1]] << 12) | (VALUES[p[2]] << 6) | VALUES[p[3]]
        if word < 0:
            return None
        to[0] = <char>(word >> 16)
        to[1] = <char>(word >> 8)
        to[2] = <char>word
        to += 3
        p += 4
    if padding:
        word = 0
        for i in range(4 - padding):
            if VALUES[p[i]] < 0:
                return None
            word |= VALUES[p[i]] << (18 - 6 * i)
        if word & (0xff if padding == 1 else 0xffff):  # bits that no octet has
            return None
        to[0] = <char>(word >> 16)
        if padding == 1:
            to[1] = <char>(word >> 8)
    return found
