"""Hosts that a text names: of URLs (RFC 3986 3.2.2), behind ``www.``, and of mail addresses.

What is found is what a mail program or a browser would open, so some disguises are undone as these undo them:
backslashes for slashes, one slash for two, a user name in front (``http://bank.test@evil.test``), percent signs, tabs
and line ends inside an attribute of HTML, full-width letters and full stops, characters that nobody sees, and URLs
inside of URLs. ``unreferenced`` undoes character references of HTML before.

Promise: no input fails and nothing outside of it is read. Time is linear: no octet is looked at more often than
AUTHORITY times, nearly all are once. Scanning runs without the GIL.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy

from fastmail._core.fields cimport hexadecimal, same
from fastmail._core.octets cimport Out, lower

cdef enum:
    LONGEST = 255     # octets of a host name (RFC 5321 4.5.3.1.2)
    AUTHORITY = 512   # octets from the slashes to the end of the host: a longer user name is none
    DIGITS = 9        # of a number in a character reference; a longer one is no character

cdef enum:  # kinds of octets
    HOST = 1          # stand in host names
    BEFORE_AT = 2     # end the part of an address before its @
    STOP = 4          # end what may be a user name and a host
    TRIGGER = 8       # where something may begin, or end, that is looked for

cdef enum:  # what was found
    NONE = 0
    URL = 1
    ADDRESS = 2

cdef struct Found:
    int kind
    int n
    char host[LONGEST + 1]

cdef uint8_t[256] KINDS


cdef void fill() noexcept:
    cdef int c
    for c in range(256):
        KINDS[c] = 0
        if 48 <= c <= 57 or 97 <= lower(<char>c) <= 122 or c == b'-' or c == b'_' or c == b'.':
            KINDS[c] |= HOST | BEFORE_AT
        if c == b'+' or c == b'=' or c == b'"' or c >= 0x80:
            KINDS[c] |= BEFORE_AT
        if c <= 32 or c == 127:
            KINDS[c] |= STOP
    for c in b"/\\?#\"'<>":
        KINDS[c] |= STOP
    for c in b":%/@wW":
        KINDS[c] |= TRIGGER

fill()


# ---------------------------------------------------------------- hosts

cdef int wide(const uint8_t* p, const uint8_t* end, int* plain) noexcept nogil:
    """A character beyond ASCII in a host: how many octets it has; 0 where it ends the host. ``plain``: the ASCII
    character that it stands for, 0 for one that nobody sees, -1 where it stands for itself."""
    cdef uint8_t a = p[0], b = p[1] if end - p > 1 else 0, c = p[2] if end - p > 2 else 0
    plain[0] = -1
    if a == 0xC2:  # U+0080 to U+00BF: signs; the soft hyphen is not seen
        plain[0] = 0
        return 2 if b == 0xAD else 0
    if a == 0xE2 and (b == 0x80 or b == 0x81):  # spaces, quotation marks, dashes; joiners are not seen
        plain[0] = 0
        return 3 if (b == 0x80 and 0x8B <= c <= 0x8D) or (b == 0x81 and c == 0xA0) else 0
    if a == 0xE3 and b == 0x80 and c < 0x92:  # punctuation of Chinese and Japanese; U+3002 is a full stop
        plain[0] = b'.'
        return 3 if c == 0x82 else 0
    if a == 0xEF and b == 0xBC and c >= 0x80:  # full-width forms of ASCII
        c -= 0x60
        plain[0] = lower(<char>c)
        return 3 if KINDS[c] & HOST else 0
    if a == 0xEF and b == 0xBD:
        if 0x81 <= c <= 0x9A:
            plain[0] = c - 0x20
            return 3
        plain[0] = b'.'
        return 3 if c == 0xA1 else 0 if c < 0xA6 else -3
    if a == 0xEF and b == 0xBB and c == 0xBF:
        plain[0] = 0
        return 3
    return -1 if a < 0xC2 else -2 if a < 0xE0 else -3 if a < 0xF0 else -4


cdef const uint8_t* read_host(const uint8_t* p, const uint8_t* end, bint strip, Found* found) noexcept nogil:
    """A host name at p into ``found``, and where it ends. ``strip``: tabs and line ends inside do not count. Its kind
    is set where the name may be one."""
    cdef int n = 0, step, plain, high, low
    cdef bint dot = False
    cdef uint8_t c
    found.kind = NONE
    while p < end:
        c = p[0]
        step = 1
        if KINDS[c] & HOST:
            plain = lower(<char>c)
        elif c == b'%' and end - p > 2:
            high, low = hexadecimal(<char>p[1]), hexadecimal(<char>p[2])
            if high < 0 or low < 0:
                break
            plain = high << 4 | low
            if plain < 0x80:
                if not KINDS[plain] & HOST:
                    break
                plain = lower(<char>plain)
            step = 3
        elif strip and (c == 9 or c == 10 or c == 13):
            p += 1
            continue
        elif c >= 0x80:
            step = wide(p, end, &plain)
            if step == 0:
                break
            if step < 0:  # it stands for itself
                step = -step
                if step > end - p:
                    break
                if n + step <= LONGEST:
                    memcpy(found.host + n, p, step)
                n += step
                p += step
                continue
            if plain == 0:
                p += step
                continue
        else:
            break
        p += step
        if n < LONGEST:
            found.host[n] = <char>plain
        n += 1
    if n > LONGEST:
        return p
    while n and (found.host[n - 1] == b'.' or found.host[n - 1] == b'-' or found.host[n - 1] == b'_'):
        n -= 1
    dot = n > 2 and found.host[0] != b'.' and memchr(found.host, b'.', n) != NULL
    if dot or (n and 48 <= found.host[0] <= 57):
        found.kind, found.n = URL, n
    return p


cdef const uint8_t* read_authority(const uint8_t* p, const uint8_t* end, bint strip, Found* found,
                                   Found* other) noexcept nogil:
    """The host of a URL whose slashes end before p. Behind a user name it is ``other``; ``found`` is then what may have
    been a host, with text behind it."""
    cdef const uint8_t* stop = p
    cdef const uint8_t* at = NULL
    cdef const uint8_t* q
    cdef uint8_t c
    if p < end and p[0] == b'[':  # an address (RFC 3986 3.2.2)
        while stop < end and stop - p < 64 and stop[0] != b']' and stop[0] > 32:
            stop += 1
        if stop < end and stop[0] == b']':
            stop += 1
            found.kind, found.n = URL, <int>(stop - p)
            memcpy(found.host, p, stop - p)
        return stop
    while stop < end and stop - p < AUTHORITY:
        c = stop[0]
        if KINDS[c] & STOP and not (strip and (c == 9 or c == 10 or c == 13)):
            break
        if c == b'@':
            at = stop
        stop += 1
    q = read_host(p, stop, strip, found)
    if at == NULL:
        return q
    if q < stop and (q[0] == b':' or q[0] == b'@'):
        found.kind = NONE  # a user name
    return read_host(at + 1, stop, strip, other)


# ---------------------------------------------------------------- where one begins

cdef bint scheme_before(const uint8_t* begin, const uint8_t* p) noexcept nogil:
    """Does http, https or ftp end before p, in any case?"""
    cdef Py_ssize_t n = p - begin
    return ((n >= 4 and same(<const char*>p - 4, 4, "http", 4)) or (n >= 5 and same(<const char*>p - 5, 5, "https", 5))
            or (n >= 3 and same(<const char*>p - 3, 3, "ftp", 3)))


cdef const uint8_t* behind_slashes(const uint8_t* p, const uint8_t* end, bint strip) noexcept nogil:
    """Behind slashes of any kind, of which there must be one; NULL where there is none."""
    cdef const uint8_t* start = p
    cdef bint some = False
    while p < end:
        if p[0] == b'/' or p[0] == b'\\':
            p += 1
            some = True
        elif end - p > 2 and p[0] == b'%' and ((p[1] == b'2' and lower(<char>p[2]) == b'f')
                                               or (p[1] == b'5' and lower(<char>p[2]) == b'c')):
            p += 3
            some = True
        elif strip and (p[0] == 9 or p[0] == 10 or p[0] == 13):
            p += 1
        else:
            break
    return p if some else NULL


cdef bint in_quotes(const uint8_t* begin, const uint8_t* p) noexcept nogil:
    """Does the scheme before p begin behind a quotation mark, as the value of an attribute does?"""
    cdef int i
    for i in range(5):
        if p == begin or not 97 <= lower(<char>(p - 1)[0]) <= 122:
            break
        p -= 1
    return p > begin and ((p - 1)[0] == b'"' or (p - 1)[0] == b"'")


cdef inline const uint8_t* near(const uint8_t* p, const uint8_t* end) noexcept nogil:
    """How far a host that begins at p is read. Some octets of hosts are such that another host may begin behind each of
    them, so without a bound a text of these would be read again from each."""
    return p + AUTHORITY if end - p > AUTHORITY else end


cdef const uint8_t* next_found(const uint8_t* begin, const uint8_t* p, const uint8_t* end, Found* found,
                               Found* other) noexcept nogil:
    """Look from p on until something is found. Returns where to go on; ``end`` when there is no more."""
    cdef const uint8_t* q
    cdef const uint8_t* after
    cdef uint8_t c, before
    cdef bint strip
    found.kind = other.kind = NONE
    while p < end:
        c = p[0]
        if not KINDS[c] & TRIGGER:
            p += 1
            continue
        after = p + 1
        before = (p - 1)[0] if p > begin else 32
        if c == b'%' and end - p > 2:  # a colon or an @ in a URL inside of a URL
            if p[1] == b'3' and lower(<char>p[2]) == b'a':
                c, after = b':', p + 3
            elif p[1] == b'4' and p[2] == b'0':
                c, after = b'@', p + 3
        if c == b':' and scheme_before(begin, p):
            strip = in_quotes(begin, p)
            q = behind_slashes(after, end, strip)
            if q != NULL:
                q = read_authority(q, end, strip, found, other)
                if found.kind or other.kind:
                    return q
        elif c == b'/' and end - p > 1 and (p[1] == b'/' or p[1] == b'\\') and (
                before == b'"' or before == b"'" or before == b'=' or before == b'('):
            q = read_authority(p + 2, end, before == b'"' or before == b"'", found, other)
            if found.kind or other.kind:
                return q
        elif c == b'@' and KINDS[before] & BEFORE_AT:
            q = read_host(after, near(after, end), False, found)
            # an address of a host by number is none that mail programs know
            if found.kind and memchr(found.host, b'.', found.n) != NULL and not 48 <= found.host[found.n - 1] <= 57:
                found.kind = ADDRESS
                return q
            found.kind = NONE
        elif (c == b'w' or c == b'W') and end - p > 4 and not KINDS[before] & HOST and before != b'@' and (
                before != b'/' and same(<const char*>p, 4, "www.", 4)):
            q = read_host(p, near(p, end), False, found)
            if found.kind and memchr(found.host + 4, b'.', found.n - 4 if found.n > 4 else 0) != NULL:
                return q
            found.kind = NONE
        p += 1
    return end


def hosts(const unsigned char[::1] data, int most):
    cdef Found found, other
    cdef const uint8_t* begin
    cdef const uint8_t* p
    cdef const uint8_t* end
    cdef dict urls = {}, addresses = {}
    cdef bint more = False
    if not data.shape[0]:
        return [], [], False
    begin = p = &data[0]
    end = begin + data.shape[0]
    while p < end:
        with nogil:
            p = next_found(begin, p, end, &found, &other)
        if found.kind:
            more |= note(urls if found.kind == URL else addresses, &found, most)
        if other.kind:
            more |= note(urls, &other, most)
    return list(urls), list(addresses), more


cdef bint note(dict names, Found* found, int most):
    """Add a name. True where there is no room for it."""
    cdef bytes name = PyBytes_FromStringAndSize(found.host, found.n)
    if len(names) < most:
        names[name] = None
        return False
    return name not in names


# ---------------------------------------------------------------- character references

# Those that stand in URLs, and those that nobody sees (HTML 13.5), in any case; the others stay as they are.
cdef const char** NAMES = ["amp;", "amp", "quot;", "apos;", "period;", "sol;", "bsol;", "colon;", "commat;", "percnt;",
                           "lowbar;", "quest;", "num;", "equals;", "tab;", "newline;", "shy;", "zerowidthspace;",
                           "zwnj;", "zwj;", "nobreak;", "nbsp;"]
cdef int* NAME_SIZES = [4, 3, 5, 5, 7, 4, 5, 6, 7, 7, 7, 6, 4, 7, 4, 8, 4, 15, 5, 4, 8, 5]
cdef uint32_t* CHARACTERS = [38, 38, 34, 39, 46, 47, 92, 58, 64, 37, 95, 63, 35, 61, 9, 10, 0xAD, 0x200B, 0x200C,
                             0x200D, 0x2060, 0xA0]
cdef enum:
    NAMED = 22


cdef int put_character(Out out, uint32_t c) except -1 nogil:
    """In UTF-8 (RFC 3629 3)."""
    if c == 0 or c > 0x10FFFF or 0xD800 <= c < 0xE000:
        c = 0xFFFD
    if c < 0x80:
        return out.putc(<char>c)
    if c < 0x800:
        out.putc(<char>(0xC0 | c >> 6))
        return out.putc(<char>(0x80 | c & 0x3F))
    if c < 0x10000:
        out.putc(<char>(0xE0 | c >> 12))
    else:
        out.putc(<char>(0xF0 | c >> 18))
        out.putc(<char>(0x80 | c >> 12 & 0x3F))
    out.putc(<char>(0x80 | c >> 6 & 0x3F))
    return out.putc(<char>(0x80 | c & 0x3F))


cdef const char* reference(const char* p, const char* end, uint32_t* c) noexcept nogil:
    """The character of a reference whose ``&`` is before p, and where it ends; NULL where there is none."""
    cdef const char* q = p
    cdef int base = 10, digit, i, n = 0
    if p < end and p[0] == b'#':
        q += 1
        if q < end and lower(q[0]) == b'x':
            base = 16
            q += 1
        c[0] = 0
        while q < end:
            digit = hexadecimal(q[0])
            if digit < 0 or digit >= base:
                break
            if n < DIGITS:
                c[0] = c[0] * base + digit
            n += 1 if n or digit else 0  # zeros in front do not count
            q += 1
        if q == p + (2 if base == 16 else 1):
            return NULL
        if n > DIGITS or (base == 16 and n > 6):
            c[0] = 0
        return q + 1 if q < end and q[0] == b';' else q
    for i in range(NAMED):
        n = NAME_SIZES[i]
        if end - p >= n and lower(p[0]) == NAMES[i][0] and same(p, n, NAMES[i], n):
            c[0] = CHARACTERS[i]
            return p + n
    return NULL


cdef int undo_references(Out out, const char* p, const char* end) except -1 nogil:
    cdef const char* q
    cdef uint32_t c = 0
    while p < end:
        q = <const char*>memchr(p, b'&', end - p)
        if q == NULL:
            return out.put(p, end - p)
        out.put(p, q - p)
        p = reference(q + 1, end, &c)
        if p == NULL:
            out.putc(b'&')
            p = q + 1
        else:
            put_character(out, c)
    return 0


def unreferenced(const unsigned char[::1] data):
    cdef Out out = Out(data.shape[0] + 64)
    cdef const char* p
    if data.shape[0]:
        p = <const char*>&data[0]
        with nogil:
            undo_references(out, p, p + data.shape[0])
    return out.take()
