"""What a summary (layout in mime.pyx) has for the store: what names the message and its thread (RFC 5322 3.6.4), its
preview, and where what the store keeps behind the summary begins.

An identification is ``<`` and ``>`` with at least one octet between them that is neither of the two nor white space.
Promise: one pass over the cached header; nothing is read past the summary's end. Of REFERENCES with more than NEAREST
the first one and the nearest ones are given.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastmail._core.envelope cimport Summary, open_summary
from fastmail._core.fields cimport same
from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.mime cimport FIXED, lost_parts
from fastmail._core.octets cimport get16, get32, set32, set64

cdef enum:
    NEAREST = 12
    PARTS = 16    # octets of a part in a summary
    TRAIL = 32           # what the store keeps behind a summary: see message/identity.py
    PLACE = 24           # octets of a key in the tables of store/local/index/object_ids.py
    NAMED = 20           # octets of an entry of the account log for a message that came: UID, mark, MODSEQ
    GONE = 12            # and for one that went: UID, mark
    PREVIEWED = 3        # the version of a summary that has a preview
    MOST_WORDS = 1024    # octets of one: 256 characters (RFC 8970 3.1)

# The first identification of a field, and the last ones, as a ring.
cdef struct Found:
    Py_ssize_t count
    const char* first
    Py_ssize_t firstn
    const char* at[NEAREST]
    Py_ssize_t n[NEAREST]


cdef bint space(char c) noexcept nogil:
    return c == 32 or 9 <= c <= 13


cdef void look(const char* p, const char* end, Found* found) noexcept nogil:
    """Every identification between p and end."""
    cdef const char* q
    cdef Py_ssize_t slot
    while p < end:
        if p[0] != b'<':
            p += 1
            continue
        q = p + 1
        while q < end and q[0] != b'<' and q[0] != b'>' and not space(q[0]):
            q += 1
        if q < end and q[0] == b'>' and q > p + 1:
            if not found.count:
                found.first = p
                found.firstn = q + 1 - p
            slot = found.count % NEAREST
            found.at[slot] = p
            found.n[slot] = q + 1 - p
            found.count += 1
            p = q + 1
        else:
            p = q


cdef list nearest(const Found* found):
    """The last ones, the very last one first, and then the first."""
    cdef list out = []
    cdef Py_ssize_t i, slot
    for i in range(min(found.count, NEAREST)):
        slot = (found.count - 1 - i) % NEAREST
        out.append(PyBytes_FromStringAndSize(found.at[slot], found.n[slot]))
    if found.count > NEAREST:
        out.append(PyBytes_FromStringAndSize(found.first, found.firstn))
    return out


def named(const unsigned char[::1] summary):
    cdef Summary s
    cdef Line line
    cdef Kind kind
    cdef const char* p
    cdef const char* end
    cdef Py_ssize_t n
    cdef Found own, references, reply
    cdef bytes seed = b"", message = b""
    own.count = references.count = reply.count = 0
    if not summary.shape[0] or not open_summary(&summary[0], summary.shape[0], &s):
        return b"", b"", []
    p = <const char*>s.header
    end = p + s.headern
    while p < end:
        kind = next_line(p, end, &line)
        if kind == END:
            break
        if kind == FIELD:
            n = line.name - line.start
            if same(line.start, n, "message-id", 10):
                look(line.value, line.end, &own)
            elif same(line.start, n, "references", 10):
                look(line.value, line.end, &references)
            elif same(line.start, n, "in-reply-to", 11):
                look(line.value, line.end, &reply)
        p = line.end
    if own.count:
        message = PyBytes_FromStringAndSize(own.first, own.firstn)
    if references.count:
        seed = PyBytes_FromStringAndSize(references.first, references.firstn)
    elif reply.count:
        seed = PyBytes_FromStringAndSize(reply.first, reply.firstn)
    return message, seed or message, nearest(&references) + nearest(&reply)


cdef Py_ssize_t parts_end(const uint8_t* p) noexcept nogil:
    return FIXED + <Py_ssize_t>get32(p + 8) + get32(p + 12) + get32(p + 16) + get16(p + 2) * PARTS


cdef Py_ssize_t rest(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t at
    if n < FIXED:
        return n
    at = parts_end(p)
    if p[0] >= PREVIEWED and at + 2 <= n:
        at += 2 + get16(p + at)
    return min(at, n)


def rest_at(const unsigned char[::1] summary):
    return rest(&summary[0], summary.shape[0]) if summary.shape[0] else 0


cdef bytes octets(const uint8_t* p, Py_ssize_t n):
    return PyBytes_FromStringAndSize(<const char*>p, n)


def entered(bytes key not None, list items not None, bint created, slow):
    cdef Py_ssize_t i, n, at, step = NAMED if created else GONE, count = len(items)
    cdef bytes stored, log = PyBytes_FromStringAndSize(NULL, count * step)
    cdef uint8_t* q = <uint8_t*>PyBytes_AS_STRING(log)
    cdef const uint8_t* p
    cdef const uint8_t* where = <const uint8_t*>PyBytes_AS_STRING(key)
    cdef uint8_t mark[8]
    cdef uint8_t thread[8]
    cdef uint8_t own[8]
    cdef uint8_t at_place[PLACE]
    cdef uint8_t none[8]
    cdef uint32_t uid
    cdef uint64_t modseq
    cdef list places = [], members = [], others = []
    cdef tuple item
    if len(key) != 12:
        raise ValueError("a mailbox key has 12 octets")
    memset(none, 0, 8)
    memcpy(at_place, where, 8)
    memcpy(at_place + 16, where + 8, 4)
    for i in range(count):
        item = <tuple?>items[i]
        uid, modseq = item[0], item[2]
        stored = bytes(item[1])
        p, n = <const uint8_t*>PyBytes_AS_STRING(stored), len(stored)
        at = rest(p, n)
        if n - at == TRAIL:
            memcpy(mark, p + at, 8)
            memcpy(thread, p + at + 16, 8)
            memcpy(own, p + at + 24, 8)
        else:
            one = slow(stored)
            memcpy(mark, PyBytes_AS_STRING(<bytes?>one[0]), 8)
            memcpy(thread, PyBytes_AS_STRING(<bytes?>one[2]), 8)
            memcpy(own, PyBytes_AS_STRING(<bytes?>one[3]), 8)
        set32(q, uid)
        memcpy(q + 4, mark, 8)
        if created:
            set64(q + 12, modseq)
        q += step
        at_place[20], at_place[21], at_place[22], at_place[23] = uid >> 24, uid >> 16 & 255, uid >> 8 & 255, uid & 255
        memcpy(at_place + 8, mark, 8)
        places.append((octets(at_place, PLACE), b""))
        memcpy(at_place + 8, thread, 8)
        members.append((octets(at_place, PLACE), b""))
        if memcmp(own, thread, 8) and memcmp(own, none, 8):
            others.append((i, octets(where, 8) + octets(own, 8), octets(thread, 8)))
    return log, places, members, others


def preview(const unsigned char[::1] summary):
    cdef Py_ssize_t n = summary.shape[0], at
    if n < FIXED or summary[0] != PREVIEWED:
        return None
    at = parts_end(&summary[0])
    if at + 2 > n or at + 2 + get16(&summary[at]) > n:
        return None
    return bytes(summary[at + 2 : at + 2 + get16(&summary[at])])


def with_preview(const unsigned char[::1] summary, bytes words not None):
    cdef Py_ssize_t n = summary.shape[0], at
    if n < FIXED or not 0 < summary[0] <= PREVIEWED or lost_parts(&summary[0], n) or len(words) > MOST_WORDS:
        raise ValueError("a summary that can have no preview")
    at = parts_end(&summary[0])
    if at > n:
        raise ValueError("a summary that is cut short")
    return (bytes([PREVIEWED]) + bytes(summary[1:at]) + bytes([len(words) & 255, len(words) >> 8]) + words
            + bytes(summary[rest_at(summary):]))
