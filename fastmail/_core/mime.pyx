"""One pass over a stored message that makes its summary: ENVELOPE and BODYSTRUCTURE as IMAP wire octets, where each
part lies, and the header fields that clients ask for (RFC 5322, 2045, 2046, 2183, 3282, 2557; RFC 9051 7.5.2).

Input is the message as it lies on disk, with LF, CRLF or a mixture; sizes are given as they are served, with CRLF.
Promise: every input has a summary; broken MIME gets a plain, valid one. Every octet of a body lies in a part that a
part number names, or before the first or behind the last boundary line of a multipart. Time is linear in the size for
any nesting: the octets are read once, line by line, and a line that begins with ``--`` is compared with the
boundaries of the open multiparts. Deeper than DEPTH, or after PARTS parts, what is left counts as an opaque leaf.
A summary has at most MOST octets, whatever the message: the lists of addresses of an ENVELOPE share a bound, and so do
the values in a BODYSTRUCTURE that parts have beyond what every part has. What does not fit is left out, and the status
says so. Nothing is read past the end. The layout of the summary is in summary.pxd; it is read by
``fastmail.message.summary``.

Boundary lines (RFC 2046 5.1.1) are read as mail programs do: the boundary at the start of a line is enough, with any
text behind it; a line that fits it whole goes before one that only begins with it, then the longer boundary, then the
inner multipart. So a nested multipart with the boundary of its parent takes the lines until its own end.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.string cimport memchr, memcpy, memset

from fastmail._core.boundaries cimport BEGINS, CLOSING, WHOLE_LINE, before_break, fits, measure, trimmed
from fastmail._core.fields cimport Span, blank, day_of, parameter, read_token, same, skip_cfws
from fastmail._core.header cimport folded_end, line_end, name_end
from fastmail._core.octets cimport Out, get16, get32, set16, set32
from fastmail._core.summary cimport (
    BODY_AT, CACHE_AT, DAY_AT, DEPTH_AT, END_AT, ENVELOPE_AT, FIXED, FREE, HEADER_AT, KIND_AT, KIND_LEAF, KIND_MESSAGE,
    KIND_MULTIPART, STATUS_ATTACHED, STATUS_BOUNDED, STATUS_LOOKED, STATUS_NO_CACHE, STATUS_NO_ENVELOPE, STATUS_NO_PARTS,
    STATUS_NO_VALUES, STATUS_AT, PART, PARTS_AT, RECEIVED_AT, SERVED_AT, SHIFT_AT, STRUCTURE_AT, VERSION_AT, WRITTEN,
    cache_at, heavy, parts_at, parts_end,
)
from fastmail._core.values cimport (
    CDESC, CDISP, CID, CLANG, CLOC, CMD5, CTE, CTYPE, DATE, ENVELOPE, FIELDS, PLAIN, RECEIVED, STRUCTURE, Values,
)

cdef enum:
    DEPTH = 48     # of parts within parts; what is deeper counts as a leaf
    PARTS = 2000   # of a message; what comes after them counts as one leaf
    LEAST = 32     # of them, where a summary is kept many times
    CACHE = 16384  # octets of header fields that are cached
    MORE = 2       # parts that the last one may have within it where there are PARTS already
    LARGE = 65536  # octets from which a message is scanned without the GIL
    KEPT = 16384   # octets of each buffer of a scanner that is kept for the next message


class Status:
    """Bits of a summary's status: those of summary.pxd, for Python."""

    NO_CACHE = STATUS_NO_CACHE
    NO_PARTS = STATUS_NO_PARTS
    NO_ENVELOPE = STATUS_NO_ENVELOPE
    NO_VALUES = STATUS_NO_VALUES
    BOUNDED = STATUS_BOUNDED
    ATTACHED = STATUS_ATTACHED
    LOOKED = STATUS_LOOKED


class Kind:
    """Kinds of parts: those of summary.pxd, for Python."""

    LEAF = KIND_LEAF
    MULTIPART = KIND_MULTIPART
    MESSAGE = KIND_MESSAGE


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
    bint cut  # the header ends at a boundary line, without an empty line
    int own   # does its Content-Type name a boundary: NOT_ASKED, NONE, KNOWN (it is in Scanner.boundary)

# One entity, while its message is scanned. ``bare`` and ``lines``: line breaks of the message up to its body, then of
# the body: LF without CR, and all.
cdef struct Node:
    Head head
    Span type
    Span sub
    Span rest
    const char* start
    const char* end
    size_t bare
    size_t lines
    int kind
    int depth
    bint text

# An open multipart: its node, and where its boundary lies in Scanner.bounds.
cdef struct Level:
    int node
    Py_ssize_t at
    Py_ssize_t n


cdef enum:  # Head.own
    NOT_ASKED = 0
    NONE = 1
    KNOWN = 2


cdef bint bulk(const char* p, Py_ssize_t n) noexcept nogil:
    """A field that servers add and clients hardly ask for; left out of the header cache. By prefix."""
    cdef int i
    for i in range(11):
        if n >= BULK_LENGTHS[i] and same(p, BULK_LENGTHS[i], BULK[i], BULK_LENGTHS[i]):
            return True
    return False


def is_bulk(bytes name not None):
    return bulk(name, len(name))


# ---------------------------------------------------------------- the scanner

cdef class Scanner:
    # what is written: ENVELOPE, BODYSTRUCTURE, header cache, part records
    cdef Out env
    cdef Out bs
    cdef Out cache
    cdef Out parts
    # writes what header fields say; its buffers serve here too
    cdef Values values
    cdef Out boundary
    # entities in the order of their headers; which of them are open, outermost first; the open multiparts
    cdef Out nodes
    cdef int most  # of them
    cdef Py_ssize_t room  # of the values in the BODYSTRUCTURE
    cdef int open[DEPTH + 2]
    cdef int opened
    cdef Level levels[DEPTH + 2]
    cdef int nested
    cdef Out bounds
    cdef int count
    # how far line breaks were counted, and how many there are
    cdef const char* base
    cdef const char* seen
    cdef size_t bare
    cdef size_t lines
    # for the fixed part
    cdef uint8_t status
    cdef uint32_t received
    cdef int32_t day

    def __cinit__(self):
        self.env = Out(512)
        self.bs = Out(512)
        self.cache = Out(2048)
        self.parts = Out(128)
        self.values = Values()
        self.boundary = Out(80)
        self.nodes = Out(2 * sizeof(Node))
        self.bounds = Out(128)
        self.reset()

    cdef void reset(self) noexcept nogil:
        """Begin another message."""
        self.env.len = self.bs.len = self.cache.len = self.parts.len = 0
        self.boundary.len = self.nodes.len = self.bounds.len = 0
        self.values.reset()
        self.most = PARTS
        self.room = STRUCTURE - (PARTS + MORE) * PLAIN
        self.base = self.seen = NULL
        self.opened = self.nested = self.count = self.bare = self.lines = self.status = self.received = self.day = 0

    cdef bint small(self) noexcept nogil:
        """Are all buffers as small as those of most messages?"""
        return (self.env.cap <= KEPT and self.bs.cap <= KEPT and self.cache.cap <= KEPT and self.parts.cap <= KEPT
                and self.boundary.cap <= KEPT and self.nodes.cap <= KEPT and self.bounds.cap <= KEPT
                and self.values.small(KEPT))

    cdef int header(self, const char* p, const char* end, Head* head, bint top) except -1 nogil:
        """Find the fields that matter; head.body is behind the empty line, or where a boundary line begins. A line
        with no colon is passed over."""
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
            if p[0] == 45 and q - p > 2 and p[1] == 45 and self.ends_header(head, p, q):
                head.body = p
                head.cut = True
                return 0
            e = folded_end(q, end)
            c = <const char*>memchr(p, 58, q - p)
            if c != NULL:
                n = name_end(p, c)
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
        cdef Py_ssize_t at = self.cache.len
        if at + (end - p) > CACHE:
            self.status |= STATUS_NO_CACHE
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
        if self.cache.len > CACHE:  # line ends grew
            self.cache.len = at
            self.status |= STATUS_NO_CACHE
        return 0

    # ------------------------------------------------------------ which parts there are

    cdef int ends_header(self, Head* head, const char* p, const char* stop) except -1 nogil:
        """Is the line at p a boundary line, of an open multipart or of the one whose header this is? Mail without the
        empty line between header and first part exists."""
        cdef Span type, sub, rest
        cdef bint closing
        if self.match(p + 2, stop, &closing) >= 0:
            return 1
        if head.own == NOT_ASKED and head.field[CTYPE].a != NULL:  # once a header: there may be many such lines
            content_type(head, &type, &sub, &rest, self.values.note)
            head.own = NONE
            if type.a != NULL and same(type.a, type.b - type.a, "multipart", 9) and self.own_boundary(rest):
                head.own = KNOWN
        return head.own == KNOWN and fits(p + 2, trimmed(p + 2, stop), self.boundary.buf, self.boundary.len) > 0

    cdef int own_boundary(self, Span rest) except -1 nogil:
        """Put the boundary parameter of a Content-Type into self.boundary; 0 when there is none."""
        cdef Span charset
        if not parameter(self.boundary, rest, "boundary", 8, self.values.name, self.values.note, self.values.local, &charset):
            return 0
        # trailing white space of a boundary was never meant
        while self.boundary.len and blank(self.boundary.buf[self.boundary.len - 1]):
            self.boundary.len -= 1
        return 1

    cdef int match(self, const char* p, const char* stop, bint* closing) noexcept nogil:
        """The open multipart whose boundary the line p .. stop (behind its dashes) is, -1 for none. ``closing``: is
        it the last line of it?"""
        cdef int i, found, best = -1
        cdef Level* level
        cdef const char* end = trimmed(p, stop)
        closing[0] = False
        for i in range(self.nested - 1, -1, -1):
            level = &self.levels[i]
            found = fits(p, end, self.bounds.buf + level.at, level.n)
            if found and (found & WHOLE_LINE or best < 0 or level.n > self.levels[best].n):
                best = i
                closing[0] = found & CLOSING != 0
                if found & WHOLE_LINE:
                    break
        return best

    cdef const char* sweep(self, const char* to, bint dashes) noexcept nogil:
        """Count line breaks up to ``to``. ``dashes``: stop at the start of a line that begins with ``--`` and return
        it."""
        cdef const char* p = self.seen
        cdef const char* q
        while p < to:
            q = <const char*>memchr(p, 10, to - p)
            if q == NULL:
                break
            self.lines += 1
            if q == self.base or (q - 1)[0] != 13:
                self.bare += 1
            p = q + 1
            if dashes and to - p >= 2 and p[0] == 45 and p[1] == 45:
                self.seen = p
                return p
        if to > self.seen:
            self.seen = to
        return NULL

    cdef int begin(self, const char* p, const char* end, int depth, bint digest, bint parts) except -1 nogil:
        """Read the header of the entity at p and open it, with what a message/rfc822 begins with. ``parts``: it is a
        part of a multipart; one that begins with text and says nothing of itself has no header, and all of it is its
        body."""
        cdef Node node
        cdef Node* made
        cdef Level* level
        cdef bint multi, message
        while True:
            memset(&node, 0, sizeof(Node))
            self.header(p, end, &node.head, self.count == 0)
            if bare_text(&node.head, p, end) and parts:
                memset(&node.head, 0, sizeof(Head))
                node.head.body = p
            parts = False
            content_type(&node.head, &node.type, &node.sub, &node.rest, self.values.note)
            multi = message = False
            if node.type.a != NULL:
                multi = same(node.type.a, node.type.b - node.type.a, "multipart", 9)
                message = same(node.type.a, node.type.b - node.type.a, "message", 7) and (
                    same(node.sub.a, node.sub.b - node.sub.a, "rfc822", 6)
                    or same(node.sub.a, node.sub.b - node.sub.a, "global", 6))
                node.text = same(node.type.a, node.type.b - node.type.a, "text", 4)
            elif digest:
                message = True
            else:
                node.text = True
            if (multi or message) and (depth >= DEPTH or self.count >= self.most):
                self.status |= STATUS_NO_PARTS
                multi = message = False
                node.type.a = NULL
                node.text = True
            node.kind = KIND_MULTIPART if multi else KIND_MESSAGE if message else KIND_LEAF
            node.depth = depth
            node.start = p
            self.sweep(node.head.body, False)
            node.bare, node.lines = self.bare, self.lines
            self.nodes.put(<const char*>&node, sizeof(Node))
            self.open[self.opened] = self.count
            self.opened += 1
            self.count += 1
            if multi and self.own_boundary(node.rest):
                level = &self.levels[self.nested]
                level.node = self.count - 1
                level.at = self.bounds.len
                level.n = self.boundary.len
                self.bounds.put(self.boundary.buf, self.boundary.len)
                self.nested += 1
            if not message:
                return 0
            p = node.head.body
            depth += 1
            digest = False

    cdef int close(self, int node, const char* q) except -1 nogil:
        """Close the entities that are open inside ``node`` (-1: all) before the boundary line at q. The line break in
        front of it belongs to it, unless it is the empty line behind a header."""
        cdef Node* one
        cdef const char* e
        cdef const char* p = q
        cdef size_t gone
        if node >= 0:
            p = before_break((<Node*>self.nodes.buf)[node].head.body, q)
        while self.opened and self.open[self.opened - 1] > node:
            self.opened -= 1
            one = &(<Node*>self.nodes.buf)[self.open[self.opened]]
            if p < one.head.body:
                if one.head.cut and p >= one.start:
                    one.head.body = p
                else:
                    p = one.head.body
            self.measured(one, p, q)
            if one.kind == KIND_MULTIPART and self.open[self.opened] == self.count - 1:
                # no boundary line: its text is one part, so that a part number names it
                self.whole(self.open[self.opened], p)
        return 0

    cdef void measured(self, Node* one, const char* e, const char* q) noexcept nogil:
        """Note the end of a body, and its line breaks; they were counted up to q, behind at most one more of them."""
        cdef bint more = e < q
        one.end = e
        if e <= one.head.body:
            one.lines = one.bare = 0
        else:
            one.lines = self.lines - one.lines - more
            one.bare = self.bare - one.bare - (more and q - e == 1)

    cdef int whole(self, int of, const char* e) except -1 nogil:
        """Make the text of a multipart, up to e, its only part; its line breaks are those of the multipart."""
        cdef Node node
        cdef Node* outer = &(<Node*>self.nodes.buf)[of]
        memset(&node, 0, sizeof(Node))
        node.head.body = node.start = outer.head.body
        node.end = e
        node.bare, node.lines = outer.bare, outer.lines
        node.depth = outer.depth + 1
        node.text = True
        self.nodes.put(<const char*>&node, sizeof(Node))
        self.count += 1
        return 0

    cdef int preamble(self, int of, const char* q) except -1 nogil:
        """The part of a multipart whose first boundary line, at q, is its last."""
        cdef Node* outer = &(<Node*>self.nodes.buf)[of]
        cdef const char* e = before_break(outer.head.body, q)
        cdef Node saved = outer[0]
        self.measured(outer, e, q)
        self.whole(of, e)
        (<Node*>self.nodes.buf)[of].bare = saved.bare
        (<Node*>self.nodes.buf)[of].lines = saved.lines
        return 0

    cdef int split(self, const char* p, const char* end) except -1 nogil:
        """Find all entities of the message p .. end."""
        cdef const char* q
        cdef const char* stop
        cdef Node* level
        cdef bint closing
        cdef int found, node
        self.base = self.seen = p
        self.begin(p, end, 0, False, False)
        while self.nested:
            q = self.seen
            if not (end - q >= 2 and q[0] == 45 and q[1] == 45 and (q == p or (q - 1)[0] == 10)):
                q = self.sweep(end, True)
                if q == NULL:
                    break
            stop = line_end(q, end)
            found = self.match(q + 2, stop, &closing)
            if found >= 0 and not closing and self.count >= self.most:
                self.status |= STATUS_NO_PARTS
                break
            if found < 0:
                self.sweep(stop, False)
                continue
            node = self.levels[found].node
            self.close(node, q)
            self.nested = found if closing else found + 1
            self.bounds.len = self.levels[found].at + (0 if closing else self.levels[found].n)
            if closing:
                if node == self.count - 1:
                    self.preamble(node, q)
                self.sweep(stop, False)
            else:
                self.sweep(stop, False)
                level = &(<Node*>self.nodes.buf)[node]
                self.begin(stop, end, level.depth + 1, digest_of(level), True)
        self.sweep(end, False)
        return self.close(-1, end)

    # ------------------------------------------------------------ how they are told

    cdef int record(self, Node* one) except -1 nogil:
        cdef uint8_t r[PART]
        memset(r, 0, PART)
        r[KIND_AT] = <uint8_t>one.kind
        r[DEPTH_AT] = <uint8_t>one.depth
        set32(r + HEADER_AT, <uint32_t>(one.start - self.base))
        set32(r + BODY_AT, <uint32_t>(one.head.body - self.base))
        set32(r + END_AT, <uint32_t>(one.end - self.base))
        return self.parts.put(<char*>r, PART)

    cdef int tell(self, Out bs, int at) except -1 nogil:
        """BODYSTRUCTURE of the entity ``at`` and records of it and its parts; returns the entity behind them."""
        cdef Node* one = &(<Node*>self.nodes.buf)[at]
        cdef Span t
        cdef const char* q
        cdef int next = at + 1
        self.record(one)
        bs.putc(b'('[0])
        if one.kind == KIND_MULTIPART:
            while next < self.count and (<Node*>self.nodes.buf)[next].depth > one.depth:
                next = self.tell(bs, next)
            bs.putc(b' '[0])
            self.values.token(bs, one.sub.a, one.sub.b - one.sub.a)
            bs.putc(b' '[0])
            self.values.parameters(bs, one.rest, False)
        else:
            if one.type.a != NULL:
                self.values.token(bs, one.type.a, one.type.b - one.type.a)
                bs.putc(b' '[0])
                self.values.token(bs, one.sub.a, one.sub.b - one.sub.a)
                bs.putc(b' '[0])
                self.values.parameters(bs, one.rest, one.text)
            elif one.kind == KIND_MESSAGE:
                bs.put(b'"message" "rfc822" NIL', 22)
            else:
                bs.put(b'"text" "plain" ("charset" "us-ascii")', 37)
            bs.putc(b' '[0])
            self.values.string(bs, one.head.field[CID], False)
            bs.putc(b' '[0])
            self.values.string(bs, one.head.field[CDESC], False)
            bs.putc(b' '[0])
            transfer(&one.head, &t, self.values.note)
            if t.a == t.b:
                bs.put(b'"7bit"', 6)
            else:
                self.values.token(bs, t.a, t.b - t.a)
            bs.putc(b' '[0])
            bs.number((one.end - one.head.body) + one.bare)
            if one.kind == KIND_MESSAGE:
                bs.putc(b' '[0])
                self.values.envelope(bs, (<Node*>self.nodes.buf)[next].head.field, False)
                bs.putc(b' '[0])
                next = self.tell(bs, next)
            if one.kind == KIND_MESSAGE or one.text:
                bs.putc(b' '[0])
                bs.number(one.lines)
            bs.putc(b' '[0])
            self.values.string(bs, one.head.field[CMD5], False)
        bs.putc(b' '[0])
        self.values.disposition(bs, one.head.field[CDISP])
        bs.putc(b' '[0])
        self.values.languages(bs, one.head.field[CLANG])
        bs.putc(b' '[0])
        self.values.string(bs, one.head.field[CLOC], False)
        bs.putc(b')'[0])
        return next

    cdef bint attached(self) except -1 nogil:
        """Is there a part that a reader is to be offered as a file (hasAttachment of JMAP)? One that says so, or
        that is neither text nor to be shown within another one, and does not say ``inline``."""
        cdef Node* nodes = <Node*>self.nodes.buf
        cdef Span word, outer
        cdef int at, inside = -1
        cdef int above[DEPTH + 3]
        for at in range(self.count):
            if 0 <= inside < nodes[at].depth:
                continue  # a message's that is a part itself
            inside = nodes[at].depth if nodes[at].kind == KIND_MESSAGE else -1
            above[min(nodes[at].depth, DEPTH + 2)] = at
            word = nodes[at].head.field[CDISP]
            if word.a != NULL:
                read_token(skip_cfws(word.a, word.b, self.values.note), word.b, &word)
            if nodes[at].kind == KIND_MULTIPART or same(word.a, word.b - word.a, "inline", 6):
                continue
            if nodes[at].kind == KIND_MESSAGE or same(word.a, word.b - word.a, "attachment", 10):
                return True
            word = nodes[at].type
            outer = nodes[above[nodes[at].depth - 1]].sub if 0 < nodes[at].depth < DEPTH + 3 else word
            if not (nodes[at].text or word.a == NULL or same(word.a, word.b - word.a, "text", 4)
                    or same(outer.a, outer.b - outer.a, "related", 7) or same(outer.a, outer.b - outer.a, "signed", 6)):
                return True
        return False

    cdef size_t whole_message(self, const char* p, const char* end) except 0 nogil:
        """Scan it; returns its octets as served, and one."""
        self.split(p, end)
        self.day = day_of((<Node*>self.nodes.buf).head.field[DATE])
        self.values.envelope(self.env, (<Node*>self.nodes.buf).head.field, True)
        if self.values.cut:
            self.status |= STATUS_NO_ENVELOPE
        self.values.begin(self.room)
        self.tell(self.bs, 0)
        if self.values.cut:
            self.status |= STATUS_NO_VALUES
        if self.values.bounded:
            self.status |= STATUS_BOUNDED
        self.status |= STATUS_LOOKED | (STATUS_ATTACHED if self.attached() else 0)
        return (end - p) + self.bare + 1


cdef Scanner spare = None  # for the next message: to make one takes as long as to scan a short message


cdef Scanner scanner():
    """A scanner at its beginning. Who is through with it gives it to ``done``."""
    global spare
    cdef Scanner found = spare
    spare = None
    if found is None:
        return Scanner()
    found.reset()
    return found


cdef void done(Scanner s):
    global spare
    spare = s if s.small() else None


cdef int content_type(Head* head, Span* type, Span* sub, Span* rest, Out note) except -1 nogil:
    """Type and subtype, and where the parameters begin; type.a NULL where it is not said, or not in full (RFC 2045
    5.1)."""
    cdef Span field = head.field[CTYPE]
    cdef const char* q
    type.a = type.b = sub.a = sub.b = rest.a = rest.b = NULL
    if field.a == NULL:
        return 0
    q = skip_cfws(field.a, field.b, note)
    q = read_token(q, field.b, type)
    q = skip_cfws(q, field.b, note)
    if type.a < type.b and q < field.b and q[0] == b'/':
        q = skip_cfws(q + 1, field.b, note)
        q = read_token(q, field.b, sub)
    rest.a, rest.b = q, field.b
    if sub.a == sub.b:
        type.a = type.b = NULL
    return 0


cdef bint bare_text(Head* head, const char* p, const char* end) noexcept nogil:
    """Is the first line at p, which is not the empty line behind a header, no field, and is there no Content field
    either?"""
    cdef const char* q = line_end(p, end)
    cdef int i
    if head.body <= p or p[0] == 10 or (p[0] == 13 and q - p == 2) or memchr(p, 58, q - p) != NULL:
        return False
    for i in range(CTYPE, CMD5 + 1):
        if head.field[i].a != NULL:
            return False
    return True


cdef int transfer(Head* head, Span* t, Out note) except -1 nogil:
    """The first word of Content-Transfer-Encoding; empty where there is none (RFC 2045 6.1)."""
    cdef Span field = head.field[CTE]
    t.a = t.b = NULL
    if field.a != NULL:
        read_token(skip_cfws(field.a, field.b, note), field.b, t)
    return 0


cdef bint digest_of(Node* one) noexcept nogil:
    """Are parts of this multipart messages where they do not say what they are (RFC 2046 5.1.5)?"""
    return same(one.sub.a, one.sub.b - one.sub.a, "digest", 6)


cdef bytes build(Scanner s, uint32_t served):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, FIXED + s.env.len + s.bs.len + s.cache.len + s.parts.len)
    cdef uint8_t* head = <uint8_t*>PyBytes_AS_STRING(out)
    memset(head, 0, FIXED)
    head[VERSION_AT] = WRITTEN
    head[STATUS_AT] = s.status
    set16(head + PARTS_AT, <unsigned short>s.count)
    set32(head + ENVELOPE_AT, <uint32_t>s.env.len)
    set32(head + STRUCTURE_AT, <uint32_t>s.bs.len)
    set32(head + CACHE_AT, <uint32_t>s.cache.len)
    set32(head + SERVED_AT, served)
    set32(head + DAY_AT, <uint32_t>s.day)
    set32(head + RECEIVED_AT, s.received)
    appended(appended(appended(appended(head + FIXED, s.env), s.bs), s.cache), s.parts)
    return out


cdef uint8_t* appended(uint8_t* w, Out out) noexcept:
    memcpy(w, out.buf, out.len)
    return w + out.len


def scan(data, bint bounded=True, Py_ssize_t most=0):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return scanned(<const char*>view.buf, view.len, bounded, most)
    finally:
        PyBuffer_Release(&view)


cdef bytes scanned(const char* p, Py_ssize_t n, bint bounded, Py_ssize_t most):
    """See ``scan``: of the message at p."""
    cdef Scanner s = scanner()
    cdef const char* end
    cdef size_t octets = 0
    cdef bytes out
    end = p + n
    s.values.bounded = bounded
    if most:
        s.most = <int>max(LEAST, PARTS * most // MOST)
        s.room = s.room * most // MOST
        s.values.share(most, MOST)
    if end - p < LARGE:
        octets = s.whole_message(p, end)
    else:
        with nogil:
            octets = s.whole_message(p, end)
    out = build(s, <uint32_t>(octets - 1))
    done(s)
    return out


def with_prefix(bytes summary not None, bytes prefix not None):
    cdef Scanner s = scanner()
    cdef Head head
    cdef const char* p = prefix
    cdef Py_ssize_t n = len(summary), at
    cdef const char* old = PyBytes_AS_STRING(summary)
    cdef bytes out
    cdef char* w
    cdef uint8_t fixed[FIXED]
    cdef size_t octets = 0, lines = 0
    if n < FIXED:
        raise ValueError("summary is shorter than its header")
    s.base = p
    s.header(p, p + len(prefix), &head, True)
    if s.cache.len + get32(<const uint8_t*>old + CACHE_AT) > CACHE:
        s.cache.len = 0
        s.status |= STATUS_NO_CACHE
    measure(p, p + len(prefix), &octets, &lines)
    memcpy(fixed, old, FIXED)
    fixed[STATUS_AT] |= s.status
    at = cache_at(fixed)
    if at > n:
        raise ValueError("summary is cut short")
    set32(fixed + SHIFT_AT, get32(fixed + SHIFT_AT) + <uint32_t>len(prefix))
    set32(fixed + CACHE_AT, get32(fixed + CACHE_AT) + <uint32_t>s.cache.len)
    set32(fixed + RECEIVED_AT, get32(fixed + RECEIVED_AT) + s.received)
    out = PyBytes_FromStringAndSize(NULL, n + s.cache.len)
    w = PyBytes_AS_STRING(out)
    memcpy(w, fixed, FIXED)
    memcpy(w + FIXED, old + FIXED, at - FIXED)
    memcpy(w + at, s.cache.buf, s.cache.len)
    memcpy(w + at + s.cache.len, old + at, n - at)
    done(s)
    return out


def served_size(const unsigned char[::1] data):
    cdef size_t octets = 0, lines = 0
    if data.shape[0]:
        measure(<const char*>&data[0], <const char*>&data[0] + data.shape[0], &octets, &lines)
    return octets


# ---------------------------------------------------------------- what readers ask

MOST = FIXED + ENVELOPE + STRUCTURE + CACHE + (PARTS + MORE) * PART
LIGHT = FREE


def counted(summary):
    cdef Py_buffer view
    cdef Py_ssize_t found
    PyObject_GetBuffer(summary, &view, PyBUF_SIMPLE)
    found = heavy(<const uint8_t*>view.buf, view.len)
    PyBuffer_Release(&view)
    return found


cdef bytes lowered(const char* p, const char* end):
    return PyBytes_FromStringAndSize(p, end - p).lower() if p != NULL else b""


def leaf(const unsigned char[::1] header):
    cdef Scanner s = Scanner()
    cdef Head head
    cdef Span type, sub, rest, t, charset, kind, field
    cdef const char* p = b""
    cdef const char* q
    cdef bytes main = b"text", minor = b"plain", named = b"", where = b""
    cdef list names = []
    if header.shape[0]:
        p = <const char*>&header[0]
    s.base = p
    if header.shape[0] < LARGE:
        s.header(p, p + header.shape[0], &head, False)
    else:
        with nogil:
            s.header(p, p + header.shape[0], &head, False)
    content_type(&head, &type, &sub, &rest, s.values.note)
    if type.a != NULL:
        main, minor = lowered(type.a, type.b), lowered(sub.a, sub.b)
        if parameter(s.boundary, rest, "charset", 7, s.values.name, s.values.note, s.values.local, &charset):
            named = lowered(s.boundary.buf, s.boundary.buf + s.boundary.len)
        if parameter(s.boundary, rest, "name", 4, s.values.name, s.values.note, s.values.local, &charset):
            names.append((lowered(charset.a, charset.b), s.boundary.take()))
    transfer(&head, &t, s.values.note)
    field = head.field[CDISP]
    if field.a != NULL:
        q = read_token(skip_cfws(field.a, field.b, s.values.note), field.b, &kind)
        where = lowered(kind.a, kind.b)
        rest.a, rest.b = q, field.b
        if parameter(s.boundary, rest, "filename", 8, s.values.name, s.values.note, s.values.local, &charset):
            names.append((lowered(charset.a, charset.b), s.boundary.take()))
    return main, minor, named, lowered(t.a, t.b), where, names


cdef bint lost_parts(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """Is this a summary of version 1 in which a multipart has no part?"""
    cdef Py_ssize_t count, i
    cdef const uint8_t* part
    if n < FIXED or p[VERSION_AT] != 1 or parts_end(p) > n:
        return False
    part = p + parts_at(p)
    count = get16(p + PARTS_AT)
    for i in range(count):
        if part[KIND_AT] == KIND_MULTIPART and (i + 1 == count or part[PART + DEPTH_AT] <= part[DEPTH_AT]):
            return True
        part += PART
    return False


def lost(const unsigned char[::1] summary):
    return bool(summary.shape[0] and lost_parts(&summary[0], summary.shape[0]))
