"""The IMAP command grammar (RFC 3501 and 9051 9, with the forms of RFC 3516, 4466, 5032, 5182,
6203, 6851, 7162, 7888, 8474, 8514, 8970): a cursor over one whole command.

A command arrives complete, its literals in place. Each method reads one production, or raises ParseError with the
offset and what was expected. Promise: nesting is bounded by DEPTH, numbers by their RFC range, sets are kept as
ranges and never expanded; nothing is read past the end.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    DEPTH = 50
    KEYWORD = 255            # octets of a keyword
    KEYWORDS = 1000          # keywords in one list; a mailbox has at most 64
    SETS = 1 << 20           # ranges in a set; a line of the usual length cannot have as many

cdef dict FLAGS = {b"\\SEEN": 1, b"\\ANSWERED": 2, b"\\FLAGGED": 4, b"\\DELETED": 8, b"\\DRAFT": 16}
cdef dict FLAG_KEYS = {
    b"ANSWERED": (2, 2), b"DELETED": (8, 8), b"DRAFT": (16, 16), b"FLAGGED": (4, 4), b"SEEN": (1, 1),
    b"UNANSWERED": (2, 0), b"UNDELETED": (8, 0), b"UNDRAFT": (16, 0), b"UNFLAGGED": (4, 0), b"UNSEEN": (1, 0),
}
cdef dict MONTHS = {b"JAN": 1, b"FEB": 2, b"MAR": 3, b"APR": 4, b"MAY": 5, b"JUN": 6, b"JUL": 7, b"AUG": 8,
                    b"SEP": 9, b"OCT": 10, b"NOV": 11, b"DEC": 12}
cdef tuple PLAIN_ITEMS = (b"UID", b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODYSTRUCTURE", b"BODY",
                          b"MODSEQ", b"SAVEDATE", b"EMAILID", b"THREADID")


class ParseError(ValueError):
    """The command does not fit the grammar. ``expected`` may be sent to the peer; ``offset`` is in octets."""

    def __init__(self, expected, offset):
        super().__init__(expected)
        self.expected = expected
        self.offset = offset


cdef int days_from_civil(int y, int m, int d) noexcept:
    cdef int era, yoe, doy
    if m <= 2:
        y -= 1
    era = y // 400
    yoe = y - era * 400
    doy = (153 * (m + (-3 if m > 2 else 9)) + 2) // 5 + d - 1
    return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468


cdef bint atom_char(uint8_t c, bint bracket) noexcept nogil:
    """ATOM-CHAR; with bracket also ``]``, as ASTRING-CHAR and tags of old clients use it."""
    if c <= 32 or c >= 127:
        return False
    if c == b'(' or c == b')' or c == b'{' or c == b'"' or c == b'\\' or c == b'%' or c == b'*':
        return False
    return bracket or c != b']'


cdef class Reader:
    cdef bytes data
    cdef const uint8_t* p
    cdef Py_ssize_t n
    cdef public Py_ssize_t pos

    def __init__(self, bytes data not None, Py_ssize_t start=0):
        self.data = data
        self.p = data
        self.n = len(data)
        self.pos = start

    cdef fail(self, str expected):
        raise ParseError(expected, self.pos)

    # ---- small productions

    def head(self):
        """``tag SP command``: (tag, COMMAND in capitals)."""
        cdef Py_ssize_t a = 0, b
        while self.pos < self.n and atom_char(self.p[self.pos], True) and self.p[self.pos] != b'+':
            self.pos += 1
        if self.pos == a:
            self.fail("a tag")
        tag = self.data[a:self.pos]
        if self.pos >= self.n or self.p[self.pos] != 32:
            raise ParseError("a space and a command behind the tag", self.pos)
        self.pos += 1
        b = self.pos
        while self.pos < self.n and atom_char(self.p[self.pos], False):
            self.pos += 1
        return tag, self.data[b:self.pos].upper()

    def sp(self):
        if self.pos >= self.n or self.p[self.pos] != 32:
            self.fail("a space")
        self.pos += 1

    def end(self):
        while self.pos < self.n and self.p[self.pos] == 32:
            self.pos += 1
        if self.pos != self.n:
            self.fail("the end of the command")

    def more(self):
        """Is there a space and something behind it? Skips the space."""
        if self.pos + 1 < self.n and self.p[self.pos] == 32:
            self.pos += 1
            return True
        return False

    def peek(self):
        """The next octet as a number, or -1 at the end."""
        return self.p[self.pos] if self.pos < self.n else -1

    cdef int need(self, uint8_t c) except -1:
        if self.pos >= self.n or self.p[self.pos] != c:
            raise ParseError(repr(chr(c)), self.pos)
        self.pos += 1
        return 0

    def open(self):
        self.need(b'(')

    def close(self):
        self.need(b')')

    def data_at(self, Py_ssize_t count):
        """The next octets, left where they are."""
        return self.data[self.pos:self.pos + count]

    def skip(self, bytes text not None):
        """Step over ``text`` (capitals) when it is next, in any case."""
        cdef Py_ssize_t k = len(text)
        if self.data[self.pos:self.pos + k].upper() == text:
            self.pos += k
            return True
        return False

    def atom(self):
        cdef Py_ssize_t a = self.pos
        while self.pos < self.n and atom_char(self.p[self.pos], False):
            self.pos += 1
        if self.pos == a:
            self.fail("an atom")
        return self.data[a:self.pos]

    def number(self, bint nonzero=False, uint64_t top=0xFFFFFFFF):
        cdef Py_ssize_t a = self.pos
        cdef uint64_t v = 0
        while self.pos < self.n and 48 <= self.p[self.pos] <= 57:
            if self.pos - a >= 19:
                self.fail("a smaller number")
            v = v * 10 + (self.p[self.pos] - 48)
            self.pos += 1
        if self.pos == a:
            self.fail("a number")
        if v > top:
            self.fail("a smaller number")
        if nonzero and v == 0:
            self.fail("a number above 0")
        return v

    def string(self):
        """quoted / literal / literal8; octets."""
        cdef Py_ssize_t a
        cdef bint binary
        cdef bytearray out
        cdef uint64_t size
        if self.pos >= self.n:
            self.fail("a string")
        if self.p[self.pos] == b'"':
            self.pos += 1
            a = self.pos
            while self.pos < self.n and self.p[self.pos] != b'"' and self.p[self.pos] != b'\\':
                if self.p[self.pos] == 0 or self.p[self.pos] == 13 or self.p[self.pos] == 10:
                    self.fail("a quoted string without CR, LF or NUL")
                self.pos += 1
            if self.pos < self.n and self.p[self.pos] == b'"':
                self.pos += 1
                return self.data[a:self.pos - 1]
            out = bytearray(self.data[a:self.pos])
            while self.pos < self.n and self.p[self.pos] != b'"':
                if self.p[self.pos] == b'\\':
                    self.pos += 1
                    if self.pos >= self.n or (self.p[self.pos] != b'"' and self.p[self.pos] != b'\\'):
                        self.fail('" or \\ behind \\')
                if self.p[self.pos] == 0 or self.p[self.pos] == 13 or self.p[self.pos] == 10:
                    self.fail("a quoted string without CR, LF or NUL")
                out.append(self.p[self.pos])
                self.pos += 1
            self.need(b'"')
            return bytes(out)
        binary = self.p[self.pos] == b'~' and self.pos + 1 < self.n and self.p[self.pos + 1] == b'{'
        if binary:
            self.pos += 1
        if self.p[self.pos] == b'{':
            self.pos += 1
            size = self.number()
            if self.pos < self.n and (self.p[self.pos] == b'+' or self.p[self.pos] == b'-'):
                self.pos += 1
            self.need(b'}')
            self.need(13)
            self.need(10)
            if size > <uint64_t>(self.n - self.pos):
                self.fail("the octets of the literal")
            a = self.pos
            self.pos += size
            if not binary and 0 in self.data[a:self.pos]:
                raise ParseError("a literal without NUL", a)
            return self.data[a:self.pos]
        self.fail("a string")

    def astring(self):
        cdef Py_ssize_t a = self.pos
        if self.pos < self.n and (self.p[self.pos] == b'"' or self.p[self.pos] == b'{'):
            return self.string()
        while self.pos < self.n and atom_char(self.p[self.pos], True):
            self.pos += 1
        if self.pos == a:
            self.fail("an atom or a string")
        return self.data[a:self.pos]

    def nstring(self):
        if self.data[self.pos:self.pos + 3].upper() == b"NIL":
            self.pos += 3
            return None
        return self.string()

    def list_mailbox(self):
        """A mailbox pattern: atom characters with ``%``, ``*`` and ``]``, or a string."""
        cdef Py_ssize_t a = self.pos
        cdef uint8_t c
        if self.pos < self.n and (self.p[self.pos] == b'"' or self.p[self.pos] == b'{'):
            return self.string()
        while self.pos < self.n:
            c = self.p[self.pos]
            if not atom_char(c, True) and c != b'%' and c != b'*':
                break
            self.pos += 1
        if self.pos == a:
            self.fail("a mailbox name or pattern")
        return self.data[a:self.pos]

    def sequence_set(self):
        """Flat (lo, hi, lo, hi, ...); 0 stands for ``*``. None for ``$``, the saved search result (RFC 5182)."""
        cdef list out = []
        cdef Py_ssize_t n
        if self.pos < self.n and self.p[self.pos] == b'$':
            self.pos += 1
            return None
        while True:
            lo = self.seq_number()
            hi = lo
            if self.pos < self.n and self.p[self.pos] == b':':
                self.pos += 1
                hi = self.seq_number()
            n = len(out)
            if n and lo and hi >= lo and out[n - 1] == lo - 1 and out[n - 1] >= out[n - 2] > 0:
                out[n - 1] = hi  # one run, however it is written
            else:
                out.append(lo)
                out.append(hi)
            if len(out) > 2 * SETS:
                self.fail("a shorter sequence set")
            if self.pos < self.n and self.p[self.pos] == b',':
                self.pos += 1
                continue
            return tuple(out)

    cdef seq_number(self):
        if self.pos < self.n and self.p[self.pos] == b'*':
            self.pos += 1
            return 0
        if self.pos >= self.n or not 48 <= self.p[self.pos] <= 57:
            self.fail("a sequence set")
        return self.number(True)

    # ---- flags and dates

    def flag(self):
        """(system flag bit, b"") or (0, keyword); \\Recent and unknown system flags are refused."""
        cdef Py_ssize_t a = self.pos
        if self.pos < self.n and self.p[self.pos] == b'\\':
            self.pos += 1
            while self.pos < self.n and atom_char(self.p[self.pos], False):
                self.pos += 1
            bit = FLAGS.get(self.data[a:self.pos].upper())
            if bit is None:
                self.pos = a
                self.fail("\\Seen, \\Answered, \\Flagged, \\Deleted, \\Draft or a keyword")
            return bit, b""
        word = self.atom()
        if len(word) > KEYWORD:
            self.pos = a
            self.fail("a shorter keyword")
        return 0, word

    def flag_list(self, bint bare=False):
        """(system flag bits, keywords); with ``bare`` the parentheses may be missing."""
        cdef dict words = {}  # a list would be searched for each of thousands of keywords
        cdef int bits = 0
        cdef bint paren = self.pos < self.n and self.p[self.pos] == b'('
        if paren:
            self.pos += 1
            if self.pos < self.n and self.p[self.pos] == b')':
                self.pos += 1
                return 0, []
        elif not bare:
            self.fail("'('")
        while True:
            bit, word = self.flag()
            bits |= bit
            if word:
                words[word] = None
                if len(words) > KEYWORDS:
                    self.fail("fewer keywords")
            if self.pos < self.n and self.p[self.pos] == 32:
                self.pos += 1
                continue
            break
        if paren:
            self.need(b')')
        return bits, list(words)

    def date(self):
        """``1-Feb-1994``, quoted or not, as days since 1970-01-01."""
        cdef bint quote = self.pos < self.n and self.p[self.pos] == b'"'
        if quote:
            self.pos += 1
        days = self.day_month_year()
        if quote:
            self.need(b'"')
        return days

    cdef day_month_year(self):
        cdef Py_ssize_t a = self.pos
        if self.pos < self.n and self.p[self.pos] == 32:
            self.pos += 1
        day = self.number()
        self.need(b'-')
        month = MONTHS.get(self.data[self.pos:self.pos + 3].upper(), 0)
        self.pos += 3
        if self.pos > self.n:
            self.pos = self.n
        self.need(b'-')
        b = self.pos
        year = self.number()
        if month == 0 or day < 1 or day > 31 or self.pos - b != 4:
            self.pos = a
            self.fail("a date such as 1-Feb-1994")
        return days_from_civil(year, month, day)

    cdef int two(self, int top) except -1:
        cdef Py_ssize_t a = self.pos
        if a + 2 > self.n or not 48 <= self.p[a] <= 57 or not 48 <= self.p[a + 1] <= 57:
            self.fail("two digits")
        self.pos += 2
        if (self.p[a] - 48) * 10 + self.p[a + 1] - 48 > top:
            self.pos = a
            self.fail("two digits up to %d" % top)
        return (self.p[a] - 48) * 10 + self.p[a + 1] - 48

    def date_time(self):
        """``" 1-Feb-1994 12:00:00 +0100"`` as seconds since 1970 UTC."""
        cdef int h, m, s, zh, zm
        cdef bint minus
        self.need(b'"')
        days = self.day_month_year()
        self.need(32)
        h = self.two(23)
        self.need(b':')
        m = self.two(59)
        self.need(b':')
        s = self.two(60)
        self.need(32)
        minus = self.pos < self.n and self.p[self.pos] == b'-'
        if not minus and (self.pos >= self.n or self.p[self.pos] != b'+'):
            self.fail("a zone such as +0000")
        self.pos += 1
        zh = self.two(24)
        zm = self.two(59)
        self.need(b'"')
        zone = (zh * 60 + zm) * 60
        return days * 86400 + h * 3600 + m * 60 + s + (zone if minus else -zone)

    # ---- FETCH (RFC 3501 6.4.5)

    def fetch_items(self):
        """Items as tuples: (b"UID",), ... or (b"BODY[]", peek, part numbers, text, names, partial, label)."""
        cdef list items = []
        if self.skip(b"ALL") and self.ends():
            return [(b"FLAGS",), (b"INTERNALDATE",), (b"RFC822.SIZE",), (b"ENVELOPE",)]
        if self.skip(b"FULL") and self.ends():
            return [(b"FLAGS",), (b"INTERNALDATE",), (b"RFC822.SIZE",), (b"ENVELOPE",), (b"BODY",)]
        if self.skip(b"FAST") and self.ends():
            return [(b"FLAGS",), (b"INTERNALDATE",), (b"RFC822.SIZE",)]
        if self.pos < self.n and self.p[self.pos] == b'(':
            self.pos += 1
            while True:
                items.append(self.fetch_item())
                if len(items) > 1000:
                    self.fail("fewer items")
                if self.pos < self.n and self.p[self.pos] == 32:
                    self.pos += 1
                    continue
                break
            self.need(b')')
        else:
            items.append(self.fetch_item())
        return items

    cdef bint ends(self) except -1:
        if self.pos >= self.n or self.p[self.pos] == 32:
            return True
        self.fail("a space or the end of the command")

    cdef fetch_item(self):
        cdef Py_ssize_t a = self.pos
        while self.pos < self.n and (atom_char(self.p[self.pos], False) and self.p[self.pos] != b'['):
            self.pos += 1
        name = self.data[a:self.pos].upper()
        if self.pos < self.n and self.p[self.pos] == b'[':
            if name == b"BODY" or name == b"BODY.PEEK":
                self.pos += 1
                return self.section(name == b"BODY.PEEK")
            if name == b"BINARY" or name == b"BINARY.PEEK" or name == b"BINARY.SIZE":
                self.pos += 1
                return self.binary(name)
        if name == b"PREVIEW":
            return (name, self.skip(b" (LAZY)"))
        if name in PLAIN_ITEMS:
            return (name,)
        if name == b"RFC822":
            return (b"BODY[]", False, (), b"", (), None, b"RFC822")
        if name == b"RFC822.HEADER":
            return (b"BODY[]", True, (), b"HEADER", (), None, b"RFC822.HEADER")
        if name == b"RFC822.TEXT":
            return (b"BODY[]", False, (), b"TEXT", (), None, b"RFC822.TEXT")
        self.pos = a
        self.fail("a FETCH item such as FLAGS, ENVELOPE or BODY[]")

    cdef binary(self, bytes name):
        """``BINARY[1.2]<0.100>`` (RFC 3516 4.2): as a section, its text ``BINARY`` or ``SIZE``."""
        cdef list path = []
        while self.pos < self.n and self.p[self.pos] != b']':
            path.append(self.number(True))
            if len(path) > 2 * DEPTH:
                self.fail("a shallower section")
            if self.pos < self.n and self.p[self.pos] == b'.':
                self.pos += 1
                if self.pos < self.n and self.p[self.pos] == b']':
                    self.fail("a part number")
                continue
            break
        self.need(b']')
        label = b"[" + b".".join([b"%d" % k for k in path]) + b"]"
        if name == b"BINARY.SIZE":
            return (b"BODY[]", True, tuple(path), b"SIZE", (), None, b"BINARY.SIZE" + label)
        label = b"BINARY" + label
        partial = self.partial()
        if partial is not None:
            label += b"<%d>" % partial[0]
        return (b"BODY[]", name == b"BINARY.PEEK", tuple(path), b"BINARY", (), partial, label)

    cdef partial(self):
        """``<origin.length>``, or None. Both are numbers of 63 bits (RFC 9051 9 partial)."""
        if self.pos >= self.n or self.p[self.pos] != b'<':
            return None
        self.pos += 1
        origin = self.number(False, 0x7FFFFFFFFFFFFFFF)
        self.need(b'.')
        length = self.number(True, 0x7FFFFFFFFFFFFFFF)
        self.need(b'>')
        return origin, length

    cdef section(self, bint peek):
        cdef list path = [], names = []
        cdef Py_ssize_t a
        text = b""
        while self.pos < self.n and 48 <= self.p[self.pos] <= 57:
            path.append(self.number(True))
            if len(path) > 2 * DEPTH:
                self.fail("a shallower section")
            if self.pos < self.n and self.p[self.pos] == b'.':
                self.pos += 1
                continue
            break
        if self.pos < self.n and self.p[self.pos] != b']':
            if path and self.p[self.pos - 1] != b'.':
                self.fail("'.' or ']'")
            a = self.pos
            while self.pos < self.n and atom_char(self.p[self.pos], False):
                self.pos += 1
            text = self.data[a:self.pos].upper()
            if text == b"HEADER.FIELDS" or text == b"HEADER.FIELDS.NOT":
                self.sp()
                self.need(b'(')
                while True:
                    names.append(self.astring())
                    if len(names) > 1000:
                        self.fail("fewer header field names")
                    if self.pos < self.n and self.p[self.pos] == 32:
                        self.pos += 1
                        continue
                    break
                self.need(b')')
            elif not (text == b"HEADER" or text == b"TEXT" or (text == b"MIME" and path)):
                self.pos = a
                self.fail("HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME")
        elif path and self.p[self.pos - 1] == b'.':
            self.fail("a part number or HEADER, TEXT or MIME")
        self.need(b']')
        label = b".".join([b"%d" % k for k in path] + ([text] if text else []))
        if names:
            label += b" (" + b" ".join([quote(x) for x in names]) + b")"
        label = b"BODY[" + label + b"]"
        partial = self.partial()
        if partial is not None:
            label += b"<%d>" % partial[0]
        return (b"BODY[]", peek, tuple(path), text, tuple([x.lower() for x in names]), partial, label)

    # ---- SEARCH (RFC 3501 6.4.4)

    def search(self):
        """(charset or None, key tree); see imap.pyi for the tree."""
        charset = None
        if self.skip(b"CHARSET "):
            charset = self.astring()
            self.sp()
        keys = [self.search_key(0)]
        while self.pos < self.n and self.p[self.pos] == 32:
            self.pos += 1
            keys.append(self.search_key(0))
        return charset, (keys[0] if len(keys) == 1 else ("AND", keys))

    cdef search_key(self, int depth):
        cdef Py_ssize_t a = self.pos
        cdef list keys
        if depth > DEPTH:
            self.fail("a search nested less deeply")
        if self.pos >= self.n:
            self.fail("a search key")
        if self.p[self.pos] == b'(':
            self.pos += 1
            keys = [self.search_key(depth + 1)]
            while self.pos < self.n and self.p[self.pos] == 32:
                self.pos += 1
                keys.append(self.search_key(depth + 1))
            self.need(b')')
            return keys[0] if len(keys) == 1 else ("AND", keys)
        if 48 <= self.p[self.pos] <= 57 or self.p[self.pos] == b'*' or self.p[self.pos] == b'$':
            return ("SEQ", self.sequence_set())
        while self.pos < self.n and atom_char(self.p[self.pos], False):
            self.pos += 1
        key = self.data[a:self.pos].upper()
        flag = FLAG_KEYS.get(key)
        if flag is not None:
            return ("FLAG", flag[0], flag[1])
        if key == b"ALL" or key == b"RECENT" or key == b"NEW" or key == b"OLD":
            return (key.decode(),)
        if key == b"NOT":
            self.sp()
            return ("NOT", self.search_key(depth + 1))
        if key == b"OR":
            self.sp()
            one = self.search_key(depth + 1)
            self.sp()
            return ("OR", one, self.search_key(depth + 1))
        if key == b"UID":
            self.sp()
            return ("UID", self.sequence_set())
        if key == b"KEYWORD" or key == b"UNKEYWORD":
            self.sp()
            return ("KEYWORD", self.atom(), key == b"KEYWORD")
        if key in (b"BCC", b"CC", b"FROM", b"SUBJECT", b"TO"):
            self.sp()
            return ("HEADER" if key == b"SUBJECT" else "ADDRESS", key.lower(), self.astring())
        if key == b"HEADER":
            self.sp()
            name = self.astring().lower()
            self.sp()
            return ("HEADER", name, self.astring())
        if key == b"BODY" or key == b"TEXT":
            self.sp()
            return (key.decode(), self.astring())
        if key == b"BEFORE" or key == b"ON" or key == b"SINCE":
            self.sp()
            return ("DATE", key.decode(), self.date())
        if key == b"SENTBEFORE" or key == b"SENTON" or key == b"SENTSINCE":
            self.sp()
            return ("SENT", key[4:].decode(), self.date())
        if key == b"SAVEDBEFORE" or key == b"SAVEDON" or key == b"SAVEDSINCE":
            self.sp()
            return ("SAVED", key[5:].decode(), self.date())
        if key == b"EMAILID" or key == b"THREADID":
            self.sp()
            return ("OBJECT", key == b"EMAILID", self.astring())
        if key == b"FUZZY":
            self.sp()
            return ("FUZZY", self.search_key(depth + 1))
        if key == b"SAVEDATESUPPORTED":
            return ("ALL",)
        if key == b"LARGER" or key == b"SMALLER":
            self.sp()
            return (key.decode(), self.number(False, 0x7FFFFFFFFFFFFFFF))
        if key == b"OLDER" or key == b"YOUNGER":
            self.sp()
            return ("AGE", key == b"OLDER", self.number(True))
        if key == b"MODSEQ":
            self.sp()
            if self.pos < self.n and self.p[self.pos] == b'"':
                self.string()  # the entry of one flag (RFC 7162 3.1.5): all flags share one MODSEQ here
                self.sp()
                if self.atom().upper() not in (b"PRIV", b"SHARED", b"ALL"):
                    self.fail("priv, shared or all")
                self.sp()
            return ("MODSEQ", self.number(False, 0x7FFFFFFFFFFFFFFF))
        self.pos = a
        self.fail("a search key")

    # ---- STORE (RFC 3501 6.4.6)

    def store(self):
        """(mode 0 replace / 1 add / -1 remove, silent, system flag bits, keywords)."""
        cdef int mode = 0
        if self.pos < self.n and (self.p[self.pos] == b'+' or self.p[self.pos] == b'-'):
            mode = 1 if self.p[self.pos] == b'+' else -1
            self.pos += 1
        if not self.skip(b"FLAGS"):
            self.fail("FLAGS, +FLAGS or -FLAGS")
        silent = self.skip(b".SILENT")
        self.sp()
        bits, words = self.flag_list(True)
        return mode, silent, bits, words


def quote(bytes text not None):
    """The octets as an IMAP astring: an atom where it can be one, else quoted, else a literal."""
    cdef Py_ssize_t i, n = len(text)
    cdef const uint8_t* p = text
    cdef bint atom = n > 0, plain = True
    for i in range(n):
        if not atom_char(p[i], False):
            atom = False
        if p[i] == 0 or p[i] == 13 or p[i] == 10 or p[i] > 126:
            plain = False
    if atom and text.upper() != b"NIL":
        return text
    if plain:
        return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n" % n + text


def literal_at_end(const unsigned char[::1] line):
    """A line (without CRLF) that ends in ``{n}`` or ``{n+}``: (n, synchronising), or None."""
    cdef Py_ssize_t n = line.shape[0], i
    cdef bint sync = True
    cdef uint64_t v = 0
    if n < 3 or line[n - 1] != b'}':
        return None
    i = n - 2
    if line[i] == b'+' or line[i] == b'-':
        sync = False
        i -= 1
    if not 48 <= line[i] <= 57:
        return None
    while i >= 0 and 48 <= line[i] <= 57:
        i -= 1
    if i < 0 or line[i] != b'{':
        return None
    i += 1
    while 48 <= line[i] <= 57:
        if v < 0xFFFFFFFFFFFFFF:
            v = v * 10 + (line[i] - 48)
        i += 1
    return v, sync
