"""Header field values as IMAP wire octets: strings, address lists, parameters, dispositions, dates (RFC 5322 3.3,
3.4, 4; RFC 2045 5.1; RFC 2183; RFC 2231; RFC 3282; RFC 9051 7.5.2). Used by the MIME scanner only; nothing here is
called from Python.

Promise: any octets make valid wire octets; obsolete and broken forms are read as other servers read them; at most
VALUE octets of a value are looked at. Each writer of a value gets a bound and ``cut``: what it writes is never longer
than the bound, what does not fit is left out at the border of an address, a parameter or a character, and ``cut`` is
set then.
"""

from libc.stdint cimport int32_t
from libc.string cimport memchr

from fastmail._core.octets cimport Out, lower

cdef enum:
    VALUE = 131072
    LANGUAGES = 100
    CLOSING = 18       # octets that end a group and a list
    CHARSET = 22       # octets that say US-ASCII, with their space and the end of the list
    PARAMETERS = 1000  # of one field; what is behind them is not looked at
    PIECES = 1000      # of one parameter (RFC 2231 3)
    WHOLE = -1         # the parameter in one piece
    NO_PIECE = -2      # another parameter

cdef struct Piece:
    Py_ssize_t at
    Py_ssize_t n
    bint percent

# Of a list that is written: entries that may follow, where it has to end, and what of it stays.
cdef struct Bound:
    Py_ssize_t left
    Py_ssize_t end
    Py_ssize_t kept

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


cdef int nstring(Out out, Span s, Py_ssize_t most, bint* cut) except -1 nogil:
    """The value, or its first ``most`` octets, which are those of the field."""
    cdef Span t
    if s.a == NULL:
        return out.put("NIL", 3)
    t = trim(s.a, s.b)
    if t.b - t.a > most:
        cut[0] = True
        t.b = t.a + most
        while t.b > t.a and (<unsigned char>t.b[0] & 0xC0) == 0x80 and t.a + most - t.b < 4:
            t.b -= 1  # not within a character of UTF-8
    return quoted(out, t.a, t.b - t.a)


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


cdef const char* behind_route(const char* p, const char* end, Out route, Out tmp) except NULL nogil:
    """p is behind '<'; returns where the address begins, behind the route ``@one,@two:`` if there is one (RFC 5322 4.4:
    obs-route). Comments may stand anywhere in it, commas in front of it too, and a literal may hold a colon: whoever
    took that for the end of the route would show another author than the one that was checked. Their text names
    nobody: it goes to ``tmp``."""
    cdef const char* q = p
    while q < end and (blank(q[0]) or q[0] == b',' or q[0] == b'('):
        q = skip_comment(q, end, tmp) if q[0] == b'(' else q + 1
    if q >= end or q[0] != b'@':
        return p
    p = q
    while p < end and p[0] != b':' and p[0] != b'>':
        if p[0] == b'(':
            p = skip_comment(p, end, tmp)
            continue
        if p[0] == b'[':
            while p < end and p[0] != b']':
                if p[0] == b'\\' and p + 1 < end:
                    route.putc(p[0])
                    p += 1
                route.putc(p[0])
                p += 1
            continue
        if not blank(p[0]):
            route.putc(p[0])
        p += 1
    return p + 1 if p < end and p[0] == b':' else p


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


cdef bint too_much(Out out, Bound* bound) noexcept nogil:
    """Is what was written since the last call beyond the bound? Then it is taken back, and the list ends here."""
    if bound.left > 0 and out.len + CLOSING <= bound.end:
        bound.left -= 1
        bound.kept = out.len
        return False
    out.len = bound.kept
    return True


cdef int addresses(Out out, Span s, Py_ssize_t entries, Py_ssize_t most, bint* cut, Out name, Out route, Out local,
                   Out host, Out note) except -1 nogil:
    """The address list of s as ``(...)``; writes nothing and returns 0 when there is none, else returns 1. At most
    ``entries`` addresses, beginnings and ends of groups, in at most ``most`` octets."""
    cdef const char* p = s.a
    cdef const char* end = s.b
    cdef Py_ssize_t begin = out.len
    cdef bint gap = False, group = False, seen = False, full = False, phrase = False
    cdef Bound bound
    if p == NULL:
        return 0
    if end - p > VALUE:
        end = p + VALUE
        cut[0] = True
    bound.left = entries
    bound.end = begin + most
    bound.kept = begin + 1
    out.putc(b'('[0])
    clear(name, route, local, host, note)
    while not full:
        # words of a phrase or of a local part, until something tells which of them it is
        if p >= end or p[0] == b',' or (p[0] == b';'):
            if seen:
                if phrase:  # "Undisclosed recipients": somebody's name, and no address
                    local.len = 0
                    one_address(out, name, route, local, host)
                else:
                    one_address(out, note, route, local, host)
                full = too_much(out, &bound)
                if full:
                    break
            if p < end and p[0] == b';' and group:
                out.put("(NIL NIL NIL NIL)", 17)
                group = False
                bound.kept = out.len
            if p >= end:
                break
            p += 1
            clear(name, route, local, host, note)
            gap = seen = phrase = False
        elif blank(p[0]):
            gap = True
            p += 1
        elif p[0] == b'(':
            p = skip_comment(p, end, note)
        elif p[0] == b'"':
            if gap and name.len:
                name.putc(b' '[0])
            gap = False
            seen = phrase = True
            p = skip_quoted(p, end, name, local)
        elif p[0] == b':' and not group:
            out.put("(NIL NIL ", 9)
            quoted(out, name.buf, name.len)
            out.put(" NIL)", 5)
            bound.left -= 1  # for the end of the group
            full = too_much(out, &bound)
            group = not full
            p += 1
            clear(name, route, local, host, note)
            gap = seen = phrase = False
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
            full = too_much(out, &bound)
            clear(name, route, local, host, note)
            seen = gap = phrase = False
            if p < end and p[0] == b',':
                p += 1
        elif p[0] == b'<':
            p += 1
            local.len = host.len = 0
            p = behind_route(p, end, route, host)
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
            full = too_much(out, &bound)
            clear(name, route, local, host, note)
            seen = gap = phrase = False
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
                phrase = True
            gap = False
            seen = True
            if p[0] == b'\\' and p + 1 < end:
                p += 1
            name.putc(p[0])
            local.putc(p[0])
            p += 1
    if full:
        cut[0] = True
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


cdef int extended(Out out, const char* p, const char* end, bint first) except -1 nogil:
    """An RFC 2231 value, percent-encoded, as octets. ``first``: behind ``charset'language'``."""
    cdef int quotes = 0 if first else 2
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


cdef const char* next_param(const char* p, const char* end, Span* name, Out value, Out note) except NULL nogil:
    """The next ``; name=value`` at or behind p: its name and its unquoted value; returns where to go on. An empty name:
    there is no more."""
    name.a = name.b = p
    while p < end:
        p = skip_cfws(p, end, note)
        while p < end and p[0] != b';':
            p += 1
        if p >= end:
            break
        p = skip_cfws(p + 1, end, note)
        p = read_token(p, end, name)
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
        return p
    name.a = name.b = end
    return end


cdef int piece_of(Span name, const char* wanted, Py_ssize_t size, bint* percent) noexcept nogil:
    """Which piece of the parameter ``wanted`` this name says (RFC 2231 3, 4.1): WHOLE for ``wanted`` and ``wanted*``,
    its number for ``wanted*0`` and ``wanted*0*``; NO_PIECE for another parameter. ``percent``: has it a star at its
    end?"""
    cdef const char* p = name.a + size
    cdef const char* end = name.b
    cdef int number = 0
    percent[0] = False
    if end - name.a < size or not same(name.a, size, wanted, size):
        return NO_PIECE
    if p == end:
        return WHOLE
    if p[0] != b'*':
        return NO_PIECE
    p += 1
    if p == end:
        percent[0] = True
        return WHOLE
    while p < end and 48 <= p[0] <= 57 and number < PIECES:
        number = number * 10 + (p[0] - 48)
        p += 1
    if p < end and p[0] == b'*' and (p - 1)[0] != b'*':
        percent[0] = True
        p += 1
    return number if p == end and number < PIECES else NO_PIECE


cdef int parameter(Out out, Span rest, const char* wanted, Py_ssize_t size, Out value, Out note,
                   Out pieces, Span* charset) except -1 nogil:
    """Put the value of one parameter of ``rest`` into ``out``, its RFC 2231 pieces joined in their order; returns 1
    when there is one. ``charset``: the octets of ``out`` that name the charset of a value with one (3 and 4.1), else
    empty. Time is linear: each piece is put down once, and a table says where piece n lies."""
    cdef Piece table[PIECES]
    cdef Span name
    cdef const char* p = rest.a
    cdef int number, found = 0, most = -1, i
    cdef bint percent, whole = False, star = False
    cdef Py_ssize_t at, n
    out.len = pieces.len = 0
    charset.a = charset.b = NULL
    while p != NULL and p < rest.b and found < PARAMETERS:
        p = next_param(p, rest.b, &name, value, note)
        if name.a == name.b:
            break
        found += 1
        number = piece_of(name, wanted, size, &percent)
        if number == WHOLE and not whole:
            whole = True
            star = percent
            out.len = 0
            out.put(value.buf, value.len)
        elif number >= 0:
            while most < number:
                most += 1
                table[most].n = -1
            if table[number].n < 0:
                table[number].at = pieces.len
                table[number].n = value.len
                table[number].percent = percent
                pieces.put(value.buf, value.len)
    if whole:
        if not star:
            return 1
        value.len = 0
        value.put(out.buf, out.len)
        out.len = 0
        extended(out, value.buf, value.buf + value.len, True)
        named(value.buf, value.len, charset)
        return 1
    if most < 0 or table[0].n < 0:
        return 0
    for i in range(most + 1):
        at, n = table[i].at, table[i].n
        if n < 0:
            break
        if table[i].percent:
            extended(out, pieces.buf + at, pieces.buf + at + n, i == 0)
        else:
            out.put(pieces.buf + at, n)
    if table[0].percent:
        named(pieces.buf + table[0].at, table[0].n, charset)
    return 1


cdef void named(const char* p, Py_ssize_t n, Span* charset) noexcept nogil:
    """The charset in front of the first quote of an extended value."""
    cdef const char* q = <const char*>memchr(p, 39, n) if n else NULL
    if q != NULL:
        charset.a = p
        charset.b = q


cdef int params(Out out, const char* p, const char* end, Py_ssize_t most, bint* cut, Out value, Out note,
                bint text) except -1 nogil:
    """``; name=value`` pairs as a parenthesised list, or NIL. ``text``: what has no charset is in US-ASCII (RFC 2046
    4.1.2), where that was not cut off. Pieces of RFC 2231 are sent as they stand: a client that knows the RFC joins
    them."""
    cdef Span name
    cdef Py_ssize_t begin = out.len, kept
    cdef int found = 0
    cdef bint charset = False, percent = False, short = False
    out.putc(b'('[0])
    while p < end:
        p = next_param(p, end, &name, value, note)
        if name.a == name.b:
            break
        kept = out.len
        if found:
            out.putc(b' '[0])
        quoted(out, name.a, name.b - name.a)
        out.putc(b' '[0])
        quoted(out, value.buf, value.len)
        if found == PARAMETERS or out.len - begin + CHARSET > most:
            out.len = kept
            cut[0] = short = True
            break
        found += 1
        charset = charset or piece_of(name, "charset", 7, &percent) != NO_PIECE
    if text and not charset and not short and out.len - begin + CHARSET <= most:
        if found:
            out.putc(32)
        out.put('"charset" "us-ascii"', 20)
    elif not found:
        out.len = begin
        return out.put("NIL", 3)
    return out.putc(b')'[0])


cdef int disposition(Out out, Span s, Py_ssize_t most, bint* cut, Out value, Out note) except -1 nogil:
    cdef const char* p
    cdef Span kind
    cdef Py_ssize_t begin = out.len
    if s.a == NULL:
        return out.put("NIL", 3)
    p = skip_cfws(s.a, s.b, note)
    p = read_token(p, s.b, &kind)
    if kind.a == kind.b:
        return out.put("NIL", 3)
    out.putc(b'('[0])
    quoted(out, kind.a, kind.b - kind.a)
    out.putc(b' '[0])
    if out.len - begin + 4 > most:  # NIL and the end
        out.len = begin
        cut[0] = True
        return out.put("NIL", 3)
    params(out, p, s.b, most - (out.len - begin) - 1, cut, value, note, False)
    return out.putc(b')'[0])


cdef int languages(Out out, Span s, Py_ssize_t most, bint* cut, Out note) except -1 nogil:
    cdef const char* p = s.a
    cdef Span tag
    cdef Py_ssize_t begin = out.len, kept
    cdef int found = 0
    if p == NULL:
        return out.put("NIL", 3)
    out.putc(b'('[0])
    while p < s.b:
        p = skip_cfws(p, s.b, note)
        p = read_token(p, s.b, &tag)
        if tag.a < tag.b:
            kept = out.len
            if found:
                out.putc(b' '[0])
            quoted(out, tag.a, tag.b - tag.a)
            if found == LANGUAGES or out.len - begin + 1 > most:
                out.len = kept
                cut[0] = True
                break
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
