"""Header field values as IMAP wire octets: strings, address lists, parameters, dispositions, dates (RFC 5322 3.3, 3.4, 4;
RFC 2045 5.1; RFC 2183; RFC 2231; RFC 3282; RFC 9051 7.5.2). Used by the MIME scanner only; nothing here is called from Python.

Promise: any octets make valid wire octets; obsolete and broken forms are read as other servers read them; at most
VALUE octets of a value are looked at.
"""

from libc.stdint cimport int32_t
from libc.string cimport memchr

from fastmail._core.octets cimport Out, lower

cdef enum:
    VALUE = 131072

cdef const char* MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
cdef const char* SPECIALS = b"()<>@,;:\\\"/[]?="


cdef bint same(const char* p, Py_ssize_t n, const char* name, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    if n != size:
        return False
    for i in range(n):
        if lower(p[i]) != name[i]:
            return False
    return True


cdef bint blank(char c) noexcept nogil:
    return c == 32 or c == 9 or c == 13 or c == 10


cdef Span trim(const char* a, const char* b) noexcept nogil:
    cdef Span s
    while a < b and blank(a[0]):
        a += 1
    while b > a and blank((b - 1)[0]):
        b -= 1
    s.a = a
    s.b = b
    return s


# ---------------------------------------------------------------- strings on the wire

cdef int quoted(Out out, const char* p, Py_ssize_t n) except -1 nogil:
    """One IMAP string: quoted where it may be, a literal otherwise. Line breaks vanish, NUL becomes '?'."""
    cdef Py_ssize_t i, size = 0
    cdef bint plain = True
    cdef unsigned char c
    for i in range(n):
        c = <unsigned char>p[i]
        if c == 10 or c == 13:
            continue
        size += 1
        if c > 126 or c == 0:
            plain = False
    if plain and size <= 8192:
        out.putc(b'"'[0])
        for i in range(n):
            c = <unsigned char>p[i]
            if c == 10 or c == 13:
                continue
            if c == b'"' or c == b'\\':
                out.putc(b'\\'[0])
            out.putc(<char>c)
        return out.putc(b'"'[0])
    out.putc(b'{'[0])
    out.number(size)
    out.put("}\r\n", 3)
    for i in range(n):
        c = <unsigned char>p[i]
        if c != 10 and c != 13:
            out.putc(<char>c if c else b'?'[0])
    return 0


cdef int nstring(Out out, Span s) except -1 nogil:
    cdef Span t
    if s.a == NULL:
        return out.put("NIL", 3)
    t = trim(s.a, s.b)
    return quoted(out, t.a, t.b - t.a if t.b - t.a < VALUE else VALUE)


# ---------------------------------------------------------------- addresses (RFC 5322 3.4, 4.4)

cdef const char* skip_comment(const char* p, const char* end, Out text) except NULL nogil:
    """p is at '('; returns behind its ')'. The outermost text goes to ``text``."""
    cdef int depth = 0
    text.len = 0
    while p < end:
        if p[0] == b'\\' and p + 1 < end:
            p += 1
            text.putc(p[0])
        elif p[0] == b'(':
            depth += 1
            if depth > 1:
                text.putc(p[0])
        elif p[0] == b')':
            depth -= 1
            if depth == 0:
                return p + 1
            text.putc(p[0])
        else:
            text.putc(p[0])
        p += 1
    return p


cdef const char* skip_quoted(const char* p, const char* end, Out one, Out two) except NULL nogil:
    """p is at '"'; the unescaped text is appended to both; returns behind the closing quote."""
    p += 1
    while p < end and p[0] != b'"':
        if p[0] == b'\\' and p + 1 < end:
            p += 1
        if p[0] != 13 and p[0] != 10:
            one.putc(p[0])
            two.putc(p[0])
        p += 1
    return p + 1 if p < end else p


cdef int one_address(Out out, Out name, Out route, Out local, Out host) except -1 nogil:
    out.putc(b'('[0])
    if name.len:
        quoted(out, name.buf, name.len)
    else:
        out.put("NIL", 3)
    out.putc(b' '[0])
    if route.len:
        quoted(out, route.buf, route.len)
    else:
        out.put("NIL", 3)
    out.putc(b' '[0])
    quoted(out, local.buf, local.len)
    out.putc(b' '[0])
    quoted(out, host.buf, host.len)
    return out.putc(b')'[0])


cdef int clear(Out a, Out b, Out c, Out d, Out e) except -1 nogil:
    a.len = b.len = c.len = d.len = e.len = 0
    return 0


cdef int addresses(Out out, Span s, Out name, Out route, Out local, Out host, Out note) except -1 nogil:
    """The address list of s as ``(...)``; writes nothing and returns 0 when there is none, else returns 1."""
    cdef const char* p = s.a
    cdef const char* end = s.b
    cdef Py_ssize_t begin = out.len
    cdef bint gap = False, group = False, seen = False
    if p == NULL:
        return 0
    if end - p > VALUE:
        end = p + VALUE
    out.putc(b'('[0])
    clear(name, route, local, host, note)
    while True:
        # words of a phrase or of a local part, until something tells which of them it is
        if p >= end or p[0] == b',' or (p[0] == b';'):
            if seen:
                one_address(out, note, route, local, host)
            if p < end and p[0] == b';' and group:
                out.put("(NIL NIL NIL NIL)", 17)
                group = False
            if p >= end:
                break
            p += 1
            clear(name, route, local, host, note)
            gap = seen = False
        elif blank(p[0]):
            gap = True
            p += 1
        elif p[0] == b'(':
            p = skip_comment(p, end, note)
        elif p[0] == b'"':
            if gap and name.len:
                name.putc(b' '[0])
            gap = False
            seen = True
            p = skip_quoted(p, end, name, local)
        elif p[0] == b':' and not group:
            out.put("(NIL NIL ", 9)
            quoted(out, name.buf, name.len)
            out.put(" NIL)", 5)
            group = True
            p += 1
            clear(name, route, local, host, note)
            gap = seen = False
        elif p[0] == b'@':
            p += 1
            while p < end and p[0] != b',' and p[0] != b';' and p[0] != b'<':
                if p[0] == b'(':
                    p = skip_comment(p, end, note)
                    continue
                if not blank(p[0]):
                    host.putc(p[0])
                p += 1
            if p < end and p[0] == b'<':
                # "a@b <a@b>": what came before was a display name without quotes
                name.putc(b'@'[0])
                name.put(host.buf, host.len)
                continue
            one_address(out, note, route, local, host)
            clear(name, route, local, host, note)
            seen = gap = False
            if p < end and p[0] == b',':
                p += 1
        elif p[0] == b'<':
            p += 1
            local.len = host.len = 0
            while p < end and blank(p[0]):
                p += 1
            if p < end and p[0] == b'@':
                while p < end and p[0] != b':' and p[0] != b'>':
                    if not blank(p[0]):
                        route.putc(p[0])
                    p += 1
                if p < end and p[0] == b':':
                    p += 1
            while p < end and p[0] != b'@' and p[0] != b'>':
                if p[0] == b'"':
                    p = skip_quoted(p, end, local, host)
                    continue
                if p[0] == b'(':
                    p = skip_comment(p, end, note)
                    continue
                if not blank(p[0]):
                    local.putc(p[0])
                p += 1
            host.len = 0
            if p < end and p[0] == b'@':
                p += 1
                while p < end and p[0] != b'>':
                    if p[0] == b'(':
                        p = skip_comment(p, end, note)
                        continue
                    if not blank(p[0]):
                        host.putc(p[0])
                    p += 1
            if p < end:
                p += 1
            if name.len:
                one_address(out, name, route, local, host)
            else:
                one_address(out, note, route, local, host)
            clear(name, route, local, host, note)
            seen = gap = False
            while p < end and p[0] != b',' and p[0] != b';':
                if p[0] == b'(':
                    p = skip_comment(p, end, note)
                else:
                    p += 1
            note.len = 0
            if p < end and p[0] == b',':
                p += 1
        else:
            if gap and name.len:
                name.putc(b' '[0])
            gap = False
            seen = True
            if p[0] == b'\\' and p + 1 < end:
                p += 1
            name.putc(p[0])
            local.putc(p[0])
            p += 1
    if group:
        out.put("(NIL NIL NIL NIL)", 17)
    if out.len == begin + 1:
        out.len = begin
        return 0
    out.putc(b')'[0])
    return 1


# ---------------------------------------------------------------- structured MIME fields

cdef bint token_char(char ch) noexcept nogil:
    cdef unsigned char c = <unsigned char>ch
    return c > 32 and c != 127 and memchr(SPECIALS, c, 15) == NULL


cdef const char* skip_cfws(const char* p, const char* end, Out note) except NULL nogil:
    while p < end:
        if blank(p[0]):
            p += 1
        elif p[0] == b'(':
            p = skip_comment(p, end, note)
        else:
            break
    return p


cdef const char* read_token(const char* p, const char* end, Span* s) noexcept nogil:
    s.a = p
    while p < end and token_char(p[0]):
        p += 1
    s.b = p
    return p


cdef int hexadecimal(char c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    c = lower(c)
    return c - 87 if 97 <= c <= 102 else -1


cdef int extended(Out out, const char* p, const char* end) except -1 nogil:
    """An RFC 2231 value, ``charset'language'percent-encoded``, as octets."""
    cdef int quotes = 0
    while p < end and quotes < 2:
        quotes += p[0] == 39
        p += 1
    while p < end:
        if p[0] == 37 and end - p > 2 and hexadecimal(p[1]) >= 0 and hexadecimal(p[2]) >= 0:
            out.putc(<char>(hexadecimal(p[1]) * 16 + hexadecimal(p[2])))
            p += 3
        else:
            out.putc(p[0])
            p += 1
    return 0


cdef int params(Out out, const char* p, const char* end, Out value, Out note, Out boundary, bint text) except -1 nogil:
    """``; name=value`` pairs as a parenthesised list, or NIL; the boundary parameter is copied to ``boundary``.
    ``text``: what has no charset is in US-ASCII (RFC 2046 4.1.2)."""
    cdef Span name
    cdef Py_ssize_t begin = out.len
    cdef int found = 0
    cdef bint charset = False
    out.putc(b'('[0])
    while p < end and found < 1000:
        p = skip_cfws(p, end, note)
        while p < end and p[0] != b';':
            p += 1
        if p >= end:
            break
        p = skip_cfws(p + 1, end, note)
        p = read_token(p, end, &name)
        if name.a == name.b:
            continue
        p = skip_cfws(p, end, note)
        if p >= end or p[0] != b'=':
            continue
        p = skip_cfws(p + 1, end, note)
        value.len = 0
        if p < end and p[0] == b'"':
            note.len = 0
            p = skip_quoted(p, end, value, note)
        else:
            while p < end and p[0] != b';' and not blank(p[0]) and p[0] != b'(' and p[0] != b'"':
                value.putc(p[0])
                p += 1
        if found:
            out.putc(b' '[0])
        quoted(out, name.a, name.b - name.a)
        out.putc(b' '[0])
        quoted(out, value.buf, value.len)
        found += 1
        charset = charset or (name.b - name.a >= 7 and same(name.a, 7, "charset", 7)
                              and (name.b - name.a == 7 or name.a[7] == b'*'))
        if boundary is not None and boundary.len == 0 and same(name.a, name.b - name.a, "boundary", 8):
            boundary.put(value.buf, value.len)
        elif boundary is not None and boundary.len == 0 and same(name.a, name.b - name.a, "boundary*", 9):
            extended(boundary, value.buf, value.buf + value.len)
    if text and not charset:
        if found:
            out.putc(32)
        out.put('"charset" "us-ascii"', 20)
    elif not found:
        out.len = begin
        return out.put("NIL", 3)
    return out.putc(b')'[0])


cdef int disposition(Out out, Span s, Out value, Out note) except -1 nogil:
    cdef const char* p
    cdef Span kind
    if s.a == NULL:
        return out.put("NIL", 3)
    p = skip_cfws(s.a, s.b, note)
    p = read_token(p, s.b, &kind)
    if kind.a == kind.b:
        return out.put("NIL", 3)
    out.putc(b'('[0])
    quoted(out, kind.a, kind.b - kind.a)
    out.putc(b' '[0])
    params(out, p, s.b, value, note, None, False)
    return out.putc(b')'[0])


cdef int languages(Out out, Span s, Out note) except -1 nogil:
    cdef const char* p = s.a
    cdef Span tag
    cdef Py_ssize_t begin = out.len
    cdef int found = 0
    if p == NULL:
        return out.put("NIL", 3)
    out.putc(b'('[0])
    while p < s.b and found < 100:
        p = skip_cfws(p, s.b, note)
        p = read_token(p, s.b, &tag)
        if tag.a < tag.b:
            if found:
                out.putc(b' '[0])
            quoted(out, tag.a, tag.b - tag.a)
            found += 1
        elif p < s.b:
            p += 1
    if not found:
        out.len = begin
        return out.put("NIL", 3)
    return out.putc(b')'[0])


cdef int32_t day_of(Span s) noexcept nogil:
    """Day, in its own zone, of an RFC 5322 date, as days since 1970-01-01; INT32_MIN when there is none."""
    cdef const char* p = s.a
    cdef const char* end = s.b
    cdef int day = 0, month = -1, year = 0, digits = 0, i
    cdef int32_t none = -2147483647 - 1
    cdef int era, yoe, doy, m
    if p == NULL:
        return none
    while p < end and not 48 <= p[0] <= 57:
        p += 1
    while p < end and 48 <= p[0] <= 57 and day < 100:
        day = day * 10 + (p[0] - 48)
        p += 1
    while p < end and (blank(p[0]) or p[0] == b'-'):
        p += 1
    if end - p < 3:
        return none
    for i in range(12):
        if same(p, 3, MONTHS + 3 * i, 3):
            month = i + 1
    while p < end and not 48 <= p[0] <= 57:
        p += 1
    while p < end and 48 <= p[0] <= 57 and digits < 4:
        year = year * 10 + (p[0] - 48)
        digits += 1
        p += 1
    if digits == 2:
        year += 2000 if year < 50 else 1900
    elif digits == 3:
        year += 1900
    if day < 1 or day > 31 or month < 1 or digits < 2:
        return none
    m = month
    if m <= 2:
        year -= 1
    era = year // 400
    yoe = year - era * 400
    doy = (153 * (m + (-3 if m > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
