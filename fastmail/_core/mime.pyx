"""One pass over a stored message that makes its summary: ENVELOPE and BODYSTRUCTURE as IMAP wire octets, where each
part lies, and the header fields that clients ask for (RFC 5322, 2045, 2046, 2183, 3282, 2557; RFC 9051 7.5.2).

Input is the message as it lies on disk, with LF, CRLF or a mixture; sizes are given as they are served, with CRLF.
Promise: every input has a summary; broken MIME gets a plain, valid one. Time is linear in the size for any nesting:
deeper than DEPTH, or after PARTS parts, what is left counts as an opaque leaf. Nothing is read past the end.
The layout of the summary is in ``SUMMARY`` below; it is read by ``fastmail.message.summary``.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr, memcpy, memset

from fastmail._core.fields cimport (
    Span, addresses, blank, day_of, disposition, languages, nstring, params, quoted, read_token, same, skip_cfws,
)
from fastmail._core.octets cimport Out, get32, set16, set32

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t hn, const void* needle, size_t nn)

# SUMMARY, version 1, little-endian. A reader refuses a higher version; the message is then scanned again.
#   0 u8 version   1 u8 marks (1: header cache is cut; 2: structure is cut)   2 u16 parts
#   4 u32 shift    octets on disk before the scanned content (trace fields that delivery put in front)
#   8 u32 length of ENVELOPE   12 u32 of BODYSTRUCTURE   16 u32 of the header cache
#  20 u32 octets, with CRLF, of the scanned content      24 i32 day of the Date field, days since 1970; MIN none
#  28 u32 Received fields     32 ENVELOPE, BODYSTRUCTURE, header cache (fields with CRLF, no empty line), parts
# A part, in preorder, 16 octets: u8 kind (0 leaf, 1 multipart, 2 message/rfc822)  u8 depth  u16 0
#   u32 start of its header   u32 start of its body   u32 end of its body    (offsets into the scanned content)
cdef enum:
    VERSION = 1
    FIXED = 32
    PART = 16
    DEPTH = 48
    PARTS = 2000
    CACHE = 16384

cdef enum:
    DATE, SUBJECT, FROM, SENDER, REPLY_TO, TO, CC, BCC, IN_REPLY_TO, MESSAGE_ID,
    CTYPE, CTE, CID, CDESC, CDISP, CLANG, CLOC, CMD5, RECEIVED, FIELDS

cdef const char** NAMES = ["date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to",
    "message-id", "content-type", "content-transfer-encoding", "content-id", "content-description",
    "content-disposition", "content-language", "content-location", "content-md5", "received"]
cdef int* LENGTHS = [4, 7, 4, 6, 8, 2, 2, 3, 11, 10, 12, 25, 10, 19, 19, 16, 16, 11, 8]
cdef const char** BULK = ["received", "dkim-signature", "arc-", "authentication-results", "domainkey-signature",
    "x-received", "x-google-", "x-gm-", "x-ms-exchange-", "x-microsoft-", "x-forefront-"]
cdef int* BULK_LENGTHS = [8, 14, 4, 22, 19, 10, 9, 5, 14, 12, 12]

cdef struct Head:
    Span field[19]
    const char* body


cdef bint bulk(const char* p, Py_ssize_t n) noexcept nogil:
    """A field that servers add and clients hardly ask for; left out of the header cache. By prefix."""
    cdef int i
    for i in range(11):
        if n >= BULK_LENGTHS[i] and same(p, BULK_LENGTHS[i], BULK[i], BULK_LENGTHS[i]):
            return True
    return False


def is_bulk(bytes name not None):
    return bulk(name, len(name))


cdef const char* line_end(const char* p, const char* end) noexcept nogil:
    """Behind the LF of the line at p, or end."""
    cdef const char* q = <const char*>memchr(p, 10, end - p)
    return end if q == NULL else q + 1


# ---------------------------------------------------------------- the scanner

cdef class Scanner:
    cdef Out env
    cdef Out bs
    cdef Out cache
    cdef Out parts
    cdef Out name
    cdef Out route
    cdef Out local
    cdef Out host
    cdef Out note
    cdef const char* base
    cdef uint8_t marks
    cdef int count
    cdef uint32_t received
    cdef int32_t day

    def __cinit__(self):
        self.env = Out(512)
        self.bs = Out(512)
        self.cache = Out(2048)
        self.parts = Out(128)
        self.name = Out(128)
        self.route = Out(64)
        self.local = Out(128)
        self.host = Out(128)
        self.note = Out(64)

    cdef int header(self, const char* p, const char* end, Head* head, bint top) except -1 nogil:
        """Find the fields that matter; head.body is behind the empty line. A line with no colon is passed over."""
        cdef const char* q
        cdef const char* e
        cdef const char* n
        cdef const char* c
        cdef int i
        memset(head, 0, sizeof(Head))
        while p < end:
            q = line_end(p, end)
            if p[0] == 10 or (p[0] == 13 and p + 1 < end and p[1] == 10):
                head.body = q
                return 0
            e = q
            while e < end and (e[0] == 32 or e[0] == 9):
                e = line_end(e, end)
            c = <const char*>memchr(p, 58, q - p)
            if c != NULL:
                n = c
                while n > p and ((n - 1)[0] == 32 or (n - 1)[0] == 9):
                    n -= 1
                for i in range(FIELDS):
                    if n - p == LENGTHS[i] and same(p, n - p, NAMES[i], LENGTHS[i]):
                        if head.field[i].a == NULL:
                            head.field[i].a = c + 1
                            head.field[i].b = e
                        if i == RECEIVED and top:
                            self.received += 1
                        break
                if top and not bulk(p, n - p):
                    self.keep(p, e)
            p = e
        head.body = end
        return 0

    cdef int keep(self, const char* p, const char* end) except -1 nogil:
        """Put one whole field, with CRLF, into the header cache."""
        cdef const char* q
        if self.cache.len + (end - p) > CACHE:
            self.marks |= 1
            return 0
        while p < end:
            q = line_end(p, end)
            if (q - 1)[0] == 10:
                if q - p >= 2 and (q - 2)[0] == 13:
                    self.cache.put(p, q - p)
                else:
                    self.cache.put(p, q - p - 1)
                    self.cache.put("\r\n", 2)
            else:
                self.cache.put(p, q - p)
                self.cache.put("\r\n", 2)
            p = q
        return 0

    cdef int address_field(self, Out out, Span s) except -1 nogil:
        if not addresses(out, s, self.name, self.route, self.local, self.host, self.note):
            out.put("NIL", 3)
        return 0

    cdef int envelope(self, Out out, Head* head) except -1 nogil:
        cdef Py_ssize_t a, b
        out.putc(b'('[0])
        nstring(out, head.field[DATE])
        out.putc(b' '[0])
        nstring(out, head.field[SUBJECT])
        out.putc(b' '[0])
        a = out.len
        self.address_field(out, head.field[FROM])
        b = out.len
        self.or_from(out, head.field[SENDER], a, b)
        self.or_from(out, head.field[REPLY_TO], a, b)
        out.putc(b' '[0])
        self.address_field(out, head.field[TO])
        out.putc(b' '[0])
        self.address_field(out, head.field[CC])
        out.putc(b' '[0])
        self.address_field(out, head.field[BCC])
        out.putc(b' '[0])
        nstring(out, head.field[IN_REPLY_TO])
        out.putc(b' '[0])
        nstring(out, head.field[MESSAGE_ID])
        return out.putc(b')'[0])

    cdef int or_from(self, Out out, Span s, Py_ssize_t a, Py_ssize_t b) except -1 nogil:
        """Sender and Reply-To default to From (RFC 9051 7.5.2)."""
        out.putc(b' '[0])
        if not addresses(out, s, self.name, self.route, self.local, self.host, self.note):
            if out.len + (b - a) > out.cap:
                out.grow(b - a)
            memcpy(out.buf + out.len, out.buf + a, b - a)
            out.len += b - a
        return 0

    cdef int record(self, int kind, int depth, const char* h, const char* b, const char* e) except -1 nogil:
        cdef uint8_t r[PART]
        memset(r, 0, PART)
        r[0] = <uint8_t>kind
        r[1] = <uint8_t>depth
        set32(r + 4, <uint32_t>(h - self.base))
        set32(r + 8, <uint32_t>(b - self.base))
        set32(r + 12, <uint32_t>(e - self.base))
        self.count += 1
        return self.parts.put(<char*>r, PART)

    cdef int entity(self, const char* p, const char* end, int depth, bint digest, Head* head) except -1:
        """BODYSTRUCTURE of the entity whose header was read into head and which ends at end."""
        cdef Span kind, sub, t
        cdef const char* q
        cdef const char* body = head.body
        cdef Out boundary = None
        cdef Head inner
        cdef Out bs = self.bs
        cdef bytes parameters
        cdef bint multi = False, message = False, text = False
        cdef size_t octets = 0, lines = 0
        kind.a = kind.b = sub.a = sub.b = NULL
        q = NULL
        if head.field[CTYPE].a != NULL:
            q = skip_cfws(head.field[CTYPE].a, head.field[CTYPE].b, self.note)
            q = read_token(q, head.field[CTYPE].b, &kind)
            q = skip_cfws(q, head.field[CTYPE].b, self.note)
            if kind.a < kind.b and q < head.field[CTYPE].b and q[0] == b'/':
                q = skip_cfws(q + 1, head.field[CTYPE].b, self.note)
                q = read_token(q, head.field[CTYPE].b, &sub)
            if sub.a == sub.b:
                kind.a = NULL
        if kind.a != NULL:
            multi = same(kind.a, kind.b - kind.a, "multipart", 9)
            message = same(kind.a, kind.b - kind.a, "message", 7) and (
                same(sub.a, sub.b - sub.a, "rfc822", 6) or same(sub.a, sub.b - sub.a, "global", 6))
            text = same(kind.a, kind.b - kind.a, "text", 4)
        elif digest:
            message = True
        else:
            text = True
        if (multi or message) and (depth >= DEPTH or self.count >= PARTS):
            self.marks |= 2
            multi = message = False
            kind.a = NULL
            text = True
        self.record(1 if multi else 2 if message else 0, depth, p, body, end)
        bs.putc(b'('[0])
        if multi:
            boundary = Out(80)
            self.local.len = 0
            params(self.local, q, head.field[CTYPE].b, self.name, self.note, boundary, False)
            # trailing white space of a boundary was never meant
            while boundary.len and blank(boundary.buf[boundary.len - 1]):
                boundary.len -= 1
            parameters = self.local.take()
            self.children(body, end, depth, boundary, same(sub.a, sub.b - sub.a, "digest", 6))
            bs.putc(b' '[0])
            quoted(bs, sub.a, sub.b - sub.a)
            bs.putc(b' '[0])
            bs.put(parameters, len(parameters))
        else:
            if kind.a != NULL:
                quoted(bs, kind.a, kind.b - kind.a)
                bs.putc(b' '[0])
                quoted(bs, sub.a, sub.b - sub.a)
                bs.putc(b' '[0])
                params(bs, q, head.field[CTYPE].b, self.name, self.note, None, text)
            elif message:
                bs.put(b'"message" "rfc822" NIL', 22)
            else:
                bs.put(b'"text" "plain" ("charset" "us-ascii")', 37)
            bs.putc(b' '[0])
            nstring(bs, head.field[CID])
            bs.putc(b' '[0])
            nstring(bs, head.field[CDESC])
            bs.putc(b' '[0])
            t.a = t.b = NULL
            if head.field[CTE].a != NULL:
                q = skip_cfws(head.field[CTE].a, head.field[CTE].b, self.note)
                read_token(q, head.field[CTE].b, &t)
            if t.a == t.b:
                bs.put(b'"7bit"', 6)
            else:
                quoted(bs, t.a, t.b - t.a)
            bs.putc(b' '[0])
            measure(body, end, &octets, &lines)
            bs.number(octets)
            if message:
                bs.putc(b' '[0])
                self.header(body, end, &inner, False)
                self.envelope(bs, &inner)
                bs.putc(b' '[0])
                self.entity(body, end, depth + 1, False, &inner)
                bs.putc(b' '[0])
                bs.number(lines)
            elif text:
                bs.putc(b' '[0])
                bs.number(lines)
            bs.putc(b' '[0])
            nstring(bs, head.field[CMD5])
        bs.putc(b' '[0])
        disposition(bs, head.field[CDISP], self.name, self.note)
        bs.putc(b' '[0])
        languages(bs, head.field[CLANG], self.note)
        bs.putc(b' '[0])
        nstring(bs, head.field[CLOC])
        return bs.putc(b')'[0])

    cdef int children(self, const char* body, const char* end, int depth, Out boundary, bint digest) except -1:
        cdef const char* p = body
        cdef const char* start = NULL
        cdef const char* q
        cdef const char* stop
        cdef const char* rest
        cdef Out needle = Out(80)
        cdef bint closed = False
        cdef int found = 0
        needle.put("--", 2)
        needle.put(boundary.buf, boundary.len)
        while boundary.len and not closed and p < end:
            q = <const char*>memmem(p, end - p, needle.buf, needle.len)
            if q == NULL:
                break
            rest = q + needle.len
            if q > body and (q - 1)[0] != 10:
                p = rest
                continue
            stop = line_end(rest, end)
            closed = end - rest >= 2 and rest[0] == 45 and rest[1] == 45
            if closed:
                rest += 2
            while rest < stop and blank(rest[0]):
                rest += 1
            if rest < stop:
                closed = False
                p = stop
                continue
            if start != NULL:
                self.child(start, before_break(start, q), depth, digest)
                found += 1
            start = stop
            p = stop
            if self.count >= PARTS:
                self.marks |= 2
                break
        if start != NULL and not closed and start < end:
            self.child(start, end, depth, digest)
            found += 1
        if not found:
            self.bs.put(b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)', 74)
        return 0

    cdef int child(self, const char* p, const char* end, int depth, bint digest) except -1:
        cdef Head head
        self.header(p, end, &head, False)
        return self.entity(p, end, depth + 1, digest, &head)


cdef const char* before_break(const char* start, const char* q) noexcept nogil:
    """The line break before a boundary line belongs to the boundary."""
    if q > start and (q - 1)[0] == 10:
        q -= 1
        if q > start and (q - 1)[0] == 13:
            q -= 1
    return q


cdef void measure(const char* p, const char* end, size_t* octets, size_t* lines) noexcept nogil:
    """Octets as served, each LF as CRLF, and the number of line breaks."""
    cdef size_t bare = 0, n = 0
    cdef const char* start = p
    cdef const char* q
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            break
        n += 1
        if q == start or (q - 1)[0] != 13:
            bare += 1
        p = q + 1
    octets[0] = (end - start) + bare
    lines[0] = n


cdef bytes build(Scanner s, uint32_t served):
    cdef uint8_t head[FIXED]
    memset(head, 0, FIXED)
    head[0] = VERSION
    head[1] = s.marks
    set16(head + 2, <unsigned short>s.count)
    set32(head + 8, <uint32_t>s.env.len)
    set32(head + 12, <uint32_t>s.bs.len)
    set32(head + 16, <uint32_t>s.cache.len)
    set32(head + 20, served)
    set32(head + 24, <uint32_t>s.day)
    set32(head + 28, s.received)
    return (PyBytes_FromStringAndSize(<char*>head, FIXED) + s.env.take() + s.bs.take() + s.cache.take()
            + s.parts.take())


def scan(const unsigned char[::1] data):
    cdef Scanner s = Scanner()
    cdef Head head
    cdef const char* p = b""
    cdef const char* end
    cdef size_t octets = 0, lines = 0
    if data.shape[0]:
        p = <const char*>&data[0]
    end = p + data.shape[0]
    s.base = p
    s.header(p, end, &head, True)
    s.day = day_of(head.field[DATE])
    s.envelope(s.env, &head)
    s.entity(p, end, 0, False, &head)
    measure(p, end, &octets, &lines)
    return build(s, <uint32_t>octets)


def with_prefix(bytes summary not None, bytes prefix not None):
    cdef Scanner s = Scanner()
    cdef Head head
    cdef const char* p = prefix
    cdef Py_ssize_t n = len(summary), at
    cdef uint8_t fixed[FIXED]
    cdef size_t octets = 0, lines = 0
    if n < FIXED:
        raise ValueError("summary is shorter than its header")
    s.base = p
    s.header(p, p + len(prefix), &head, True)
    measure(p, p + len(prefix), &octets, &lines)
    memcpy(fixed, <const char*>summary, FIXED)
    at = FIXED + get32(fixed + 8) + get32(fixed + 12)
    set32(fixed + 4, get32(fixed + 4) + <uint32_t>len(prefix))
    set32(fixed + 16, get32(fixed + 16) + <uint32_t>s.cache.len)
    set32(fixed + 28, get32(fixed + 28) + s.received)
    return PyBytes_FromStringAndSize(<char*>fixed, FIXED) + summary[FIXED:at] + s.cache.take() + summary[at:]


def served_size(const unsigned char[::1] data):
    cdef size_t octets = 0, lines = 0
    if data.shape[0]:
        measure(<const char*>&data[0], <const char*>&data[0] + data.shape[0], &octets, &lines)
    return octets
