"""Writes FETCH responses for a page of index records at a time (RFC 3501 7.4.2).

Promise: one call renders every asked message of one page, or one message with its content; a message without a usable
summary is named in the answer, not guessed. Order inside a response: UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ ENVELOPE BODYSTRUCTURE, then
header fields. Fails with ValueError for a page of an unknown layout.
"""

from os import urandom

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memmove

from fastmail._core.header cimport folded_end, line_end, name_end
from fastmail._core.leaves cimport Summaries
from fastmail._core.lines cimport put_crlf
from fastmail._core.mime cimport lost_parts
from fastmail._core.octets cimport Out, get16, get32, get64, lower
from fastmail._core.pages cimport (
    DATE_AT, FLAGS_AT, HEAD, KEYWORDS_AT, MODSEQ_AT, SAVED_AT, SIZE_AT, UID_AT, open_page,
)
from fastmail._core.summary cimport (
    BODY_AT, FIXED, STATUS_NO_CACHE, STATUS_AT, PART, PARTS_AT, SHIFT_AT, VERSION, VERSION_AT, cache_at, parts_at,
    structure_at,
)
from fastmail._core.uidset cimport UidSet

cdef enum:
    LARGE = 65536  # octets of a header from which its fields are picked without the GIL

class Item:
    """The items of fetch.pxd, for Python."""

    UID = ITEM_UID
    FLAGS = ITEM_FLAGS
    DATE = ITEM_DATE
    SIZE = ITEM_SIZE
    MODSEQ = ITEM_MODSEQ
    ENVELOPE = ITEM_ENVELOPE
    STRUCTURE = ITEM_STRUCTURE
    FIELDS = ITEM_FIELDS
    SAVEDATE = ITEM_SAVEDATE
    UIDONLY = ITEM_UIDONLY
    SUMMARY = ITEM_SUMMARY


cdef const char** FLAG_NAMES = ["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft"]
cdef int* FLAG_SIZES = [5, 9, 8, 8, 6]
cdef const char* MONTH_NAMES = "JanFebMarAprMayJunJulAugSepOctNovDec"


cdef int digits(Out out, uint64_t v, int width, char pad) except -1:
    cdef uint64_t limit = 1
    cdef int i
    for i in range(width - 1):
        limit *= 10
        if v < limit:
            for _ in range(width - 1 - i):
                out.putc(pad)
            break
    return out.number(v)


cdef int internal_date(Out out, int64_t when) except -1:
    """``"17-Jul-1996 02:44:25 +0000"``, always in UTC."""
    cdef int64_t days = when // 86400, rest = when % 86400, z, era, yoe, doy, mp, y
    cdef int d, m
    if rest < 0:
        rest += 86400
        days -= 1
    z = days + 719468
    era = (z if z >= 0 else z - 146096) // 146097
    yoe = z - era * 146097
    yoe = (yoe - yoe // 1460 + yoe // 36524 - yoe // 146096) // 365
    doy = z - era * 146097 - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    d = <int>(doy - (153 * mp + 2) // 5 + 1)
    m = <int>(mp + 3 if mp < 10 else mp - 9)
    y = yoe + era * 400 + (1 if m <= 2 else 0)
    if y < 0 or y > 9999:
        y = 1970
    out.putc(b'"'[0])
    digits(out, d, 2, 32)
    out.putc(b'-'[0])
    out.put(MONTH_NAMES + 3 * (m - 1), 3)
    out.putc(b'-'[0])
    digits(out, y, 4, 48)
    out.putc(32)
    digits(out, rest // 3600, 2, 48)
    out.putc(b':'[0])
    digits(out, rest // 60 % 60, 2, 48)
    out.putc(b':'[0])
    digits(out, rest % 60, 2, 48)
    return out.put(b' +0000"', 7)


cdef int flag_list(Out out, uint32_t flags, uint64_t keywords, bint recent, list names) except -1:
    cdef int i
    cdef bint first = True
    cdef bytes word
    out.putc(b'('[0])
    for i in range(5):
        if flags >> i & 1:
            if not first:
                out.putc(32)
            out.put(FLAG_NAMES[i], FLAG_SIZES[i])
            first = False
    if recent:
        if not first:
            out.putc(32)
        out.put("\\Recent", 7)
        first = False
    i = 0
    while keywords:
        if keywords & 1 and i < len(names):
            word = <bytes>names[i]
            if not first:
                out.putc(32)
            out.put(word, len(word))
            first = False
        keywords >>= 1
        i += 1
    return out.putc(b')'[0])


# Names of fields, found by a hash whose factor nobody knows: the cost of a lookup is that of the name, whatever names a
# client asks for and a message has.
cdef class Names:
    cdef tuple kept     # owns the octets
    cdef const char** at
    cdef Py_ssize_t* size
    cdef int* slot      # 1 + place of a name; 0 is free
    cdef uint64_t mask
    cdef uint64_t lengths  # a bit for each length, up to 63, that a name has

    def __cinit__(self, tuple names not None):
        cdef Py_ssize_t count = len(names), k
        cdef uint64_t slots = 16, h
        while slots < <uint64_t>(2 * count):
            slots *= 2
        self.kept = names
        self.mask = slots - 1
        self.at = <const char**>calloc(count + 1, sizeof(char*))
        self.size = <Py_ssize_t*>calloc(count + 1, sizeof(Py_ssize_t))
        self.slot = <int*>calloc(slots, sizeof(int))
        if self.at == NULL or self.size == NULL or self.slot == NULL:
            raise MemoryError()
        for k in range(count):
            self.at[k] = <bytes>names[k]
            self.size[k] = len(<bytes>names[k])
            self.lengths |= <uint64_t>1 << (self.size[k] & 63)
            if self.has(self.at[k], self.size[k]):
                continue
            h = hashed(self.at[k], self.size[k]) & self.mask
            while self.slot[h]:
                h = (h + 1) & self.mask
            self.slot[h] = <int>k + 1

    def __dealloc__(self):
        free(<void*>self.at)
        free(self.size)
        free(self.slot)

    cdef bint has(self, const char* name, Py_ssize_t n) noexcept nogil:
        """Is a name, in any case, one of these?"""
        cdef uint64_t h
        cdef const char* p
        cdef Py_ssize_t i
        if not self.lengths >> (n & 63) & 1:
            return False
        h = hashed(name, n) & self.mask
        while self.slot[h]:
            p = self.at[self.slot[h] - 1]
            if self.size[self.slot[h] - 1] == n:
                i = 0
                while i < n and lower(name[i]) == p[i]:
                    i += 1
                if i == n:
                    return True
            h = (h + 1) & self.mask
        return False


cdef uint64_t FACTOR = int.from_bytes(urandom(8), "little") | 1
cdef uint64_t START = int.from_bytes(urandom(8), "little")


cdef uint64_t hashed(const char* p, Py_ssize_t n) noexcept nogil:
    cdef uint64_t h = START ^ <uint64_t>n
    cdef Py_ssize_t i
    for i in range(n):
        h = (h ^ <uint8_t>lower(p[i])) * FACTOR
        h ^= h >> 29
    return h ^ (h >> 32)


cdef int fields(Out out, const char* p, const char* end, Names names, bint negate) except -1 nogil:
    """The fields of a CRLF header block that are (or are not) named, whole."""
    cdef const char* q
    cdef const char* e
    cdef const char* colon
    while p < end and p[0] != 13 and p[0] != 10:
        q = line_end(p, end)
        e = folded_end(q, end)
        colon = <const char*>memchr(p, 58, q - p)
        if colon != NULL and names.has(p, name_end(p, colon) - p) != negate:
            out.put(p, e - p)
        p = e
    return 0


def header_fields(const unsigned char[::1] header, tuple names not None, bint negate):
    cdef Out out = Out(1024)
    cdef Names wanted = Names(names)
    cdef const char* p
    cdef Py_ssize_t n = header.shape[0]
    if n:
        p = <const char*>&header[0]
        if n < LARGE:
            fields(out, p, p + n, wanted, negate)
        else:
            with nogil:
                fields(out, p, p + n, wanted, negate)
    out.put("\r\n", 2)
    return out.take()


cdef list named(list asked):
    """(label, Names) of (label, names)."""
    return [(ask[0], Names(ask[1])) for ask in asked]


cdef int from_summary(Out out, const uint8_t* p, Py_ssize_t n, int items, list asked) except -1:
    """What the summary (layout in summary.pxd) holds ready; returns 0 when it can not answer."""
    cdef Py_ssize_t structure, cache, end
    cdef Out tmp
    cdef tuple ask
    if n < FIXED or not 0 < p[VERSION_AT] <= VERSION or (items & ITEM_STRUCTURE and lost_parts(p, n)):
        return 0
    structure, cache, end = structure_at(p), cache_at(p), parts_at(p)
    if end > n or (items & ITEM_FIELDS and p[STATUS_AT] & STATUS_NO_CACHE):
        return 0
    if items & ITEM_ENVELOPE:
        out.put(" ENVELOPE ", 10)
        out.put(<const char*>p + FIXED, structure - FIXED)
    if items & ITEM_STRUCTURE:
        out.put(" BODYSTRUCTURE ", 15)
        out.put(<const char*>p + structure, cache - structure)
    if items & ITEM_FIELDS:
        tmp = Out(1024)
        for ask in asked:
            tmp.len = 0
            fields(tmp, <const char*>p + cache, <const char*>p + end, <Names>ask[1], False)
            tmp.put("\r\n", 2)
            out.putc(32)
            out.put(<bytes>ask[0], len(<bytes>ask[0]))
            out.put(" {", 2)
            out.number(tmp.len)
            out.put("}\r\n", 3)
            out.put(tmp.buf, tmp.len)
    return 1


cdef int begin(Out out, const uint8_t* r, uint32_t seq, int items, list names, UidSet recent) except -1:
    """A response up to what the record at ``r`` holds; says whether there was nothing of it yet."""
    cdef uint32_t uid = get32(r + UID_AT)
    cdef bint first = True
    out.put("* ", 2)
    if items & ITEM_UIDONLY:
        out.number(uid)
        out.put(" UIDFETCH (", 11)
    else:
        out.number(seq)
        out.put(" FETCH (", 8)
    if items & ITEM_UID:
        out.put("UID ", 4)
        out.number(uid)
        first = False
    if items & ITEM_FLAGS:
        out.put(" FLAGS " if not first else "FLAGS ", 7 if not first else 6)
        flag_list(out, get32(r + FLAGS_AT), get64(r + KEYWORDS_AT), recent is not None and recent.has(uid), names)
        first = False
    if items & ITEM_DATE:
        out.put(" INTERNALDATE " if not first else "INTERNALDATE ", 14 if not first else 13)
        internal_date(out, <int64_t>get64(r + DATE_AT))
        first = False
    if items & ITEM_SIZE:
        out.put(" RFC822.SIZE " if not first else "RFC822.SIZE ", 13 if not first else 12)
        out.number(get32(r + SIZE_AT))
        first = False
    if items & ITEM_MODSEQ:
        out.put(" MODSEQ (" if not first else "MODSEQ (", 9 if not first else 8)
        out.number(get64(r + MODSEQ_AT))
        out.putc(b')'[0])
        first = False
    if items & ITEM_SAVEDATE:
        out.put(" SAVEDATE " if not first else "SAVEDATE ", 10 if not first else 9)
        internal_date(out, get32(r + SAVED_AT))
        first = False
    return first


def page(Out out not None, const unsigned char[::1] data, UidSet view not None, UidSet uids not None, int items,
         list names not None, UidSet recent, summaries, list asked not None, bint open_end):
    cdef uint32_t last = 0
    return responses(out, data, view, uids, items, names, recent, summaries, asked, open_end, 0, &last)


def page_to(Out out not None, const unsigned char[::1] data, UidSet view not None, UidSet uids not None, int items,
            list names not None, UidSet recent, summaries, list asked not None, Py_ssize_t most):
    cdef uint32_t last = 0
    cdef list missing = responses(out, data, view, uids, items, names, recent, summaries, asked, False, most, &last)
    return missing, last


cdef list responses(Out out, const unsigned char[::1] data, UidSet view, UidSet uids, int items, list names,
                    UidSet recent, summaries, list asked, bint open_end, Py_ssize_t most, uint32_t* last):
    """Those of ``page``; with ``most`` they end once ``out`` has so many octets, and ``last`` is the UID up to which they
    go, 0 for all."""
    cdef Py_ssize_t count, step, i, mark, at
    cdef const uint8_t* p = open_page(data, &count, &step)
    cdef const uint8_t* r
    cdef uint32_t uid, seq
    cdef bint first
    cdef list missing = []
    cdef Summaries rows = summaries if isinstance(summaries, Summaries) else None
    cdef const unsigned char[::1] one
    cdef const uint8_t* s
    cdef Py_ssize_t n
    if items & ITEM_FIELDS:
        asked = named(asked)
    for i in range(count):
        r = p + HEAD + i * step
        uid = get32(r + UID_AT)
        if not uids.has(uid):
            continue
        seq = view.seq_of(uid)
        if seq == 0:
            continue
        mark = out.len
        first = begin(out, r, seq, items, names, recent)
        if items & ITEM_SUMMARY:
            at = out.len
            s, n = NULL, 0
            if rows is not None:
                s = rows.find(uid, &n)
            else:
                one = summaries.get(uid)
                if one is not None and one.shape[0]:
                    s, n = &one[0], one.shape[0]
            if s == NULL or not from_summary(out, s, n, items, asked):
                out.len = mark
                missing.append(uid)
                continue
            if first:
                # the first item brings its own leading space
                close_gap(out, at)
        if not open_end:
            out.put(")\r\n", 3)
        if most and out.len >= most and i + 1 < count:
            last[0] = uid
            break
    return missing


cdef Py_ssize_t body_at(const uint8_t* s, Py_ssize_t n) noexcept:
    """Where the body of a message begins, as its summary says; -1 when that cannot be read."""
    cdef Py_ssize_t parts
    if n < FIXED or not 0 < s[VERSION_AT] <= VERSION or not get16(s + PARTS_AT):
        return -1
    parts = parts_at(s)
    return <Py_ssize_t>get32(s + parts + BODY_AT) + get32(s + SHIFT_AT) if parts + PART <= n else -1


def message(Out out not None, const unsigned char[::1] data, UidSet view not None, uint32_t uid, int items,
            list names not None, UidSet recent, const unsigned char[::1] summary not None, list asked not None,
            const unsigned char[::1] content not None, list sections not None):
    cdef Py_ssize_t count, step, i, mark = out.len, head, told, n, at, length
    cdef const uint8_t* r = NULL
    cdef const uint8_t* p = open_page(data, &count, &step)
    cdef const char* text
    cdef bint first
    cdef uint32_t seq = view.seq_of(uid)
    cdef tuple section
    if not seq or not summary.shape[0] or not content.shape[0] or memchr(&content[0], 0, content.shape[0]) != NULL:
        return False
    for i in range(count):
        if get32(p + HEAD + i * step + UID_AT) == uid:
            r = p + HEAD + i * step
    at = body_at(&summary[0], summary.shape[0])
    if r == NULL or at < 0 or at > content.shape[0]:
        return False
    first = begin(out, r, seq, items, names, recent)
    if items & ITEM_FIELDS:
        asked = named(asked)
    told = out.len
    if items & ITEM_SUMMARY and not from_summary(out, &summary[0], summary.shape[0], items, asked):
        out.len = mark
        return False
    for section in sections:
        text, n = <const char*>&content[0], content.shape[0]
        if section[0] == b"HEADER":
            n = at
        elif section[0] == b"TEXT":
            text, n = text + at, n - at
        out.putc(32)
        out.put(<bytes>section[1], len(<bytes>section[1]))
        length = get32(r + SIZE_AT) if n == content.shape[0] else n + n // 32  # of the whole message mostly as recorded
        for _ in range(2):
            head = out.len
            out.put(" {", 2)
            out.number(length)
            out.put("}\r\n", 3)
            i = out.len
            put_crlf(out, text, n)
            if out.len - i == length:
                break
            length = out.len - i
            out.len = head
    if first:
        close_gap(out, told)
    out.put(")\r\n", 3)
    return True


cdef int close_gap(Out out, Py_ssize_t at) except -1:
    """Take out the space at ``at``, if there is anything."""
    if out.len > at:
        memmove(out.buf + at, out.buf + at + 1, out.len - at - 1)
        out.len -= 1
    return 0
