"""What a summary (layout in summary.pxd) has for the store: what names the message and its thread (RFC 5322 3.6.4), its
preview, and where the trail begins, which the store keeps after the summary.

An identification is ``<`` and ``>`` with at least one octet between them that is neither of the two nor white space.
Promise: one pass over the cached header; nothing is read past the summary's end. Of REFERENCES with more than NEAREST
the first one and the nearest ones are given.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastmail._core.envelope cimport Summary, open_summary
from fastmail._core.fields cimport same
from fastmail._core.header cimport Line, next_field
from fastmail._core.index cimport (
    ACCOUNT, CREATED_ITEM, ITEM_EMAIL_AT, ITEM_MODSEQ_AT, ITEM_UID_AT, MAILBOX, NAMED, NAMED_ID_AT, NAMED_MAILBOX_AT,
    NAMED_UID_AT, REMOVED_ITEM, put_uid,
)
from fastmail._core.mime cimport lost_parts
from fastmail._core.octets cimport Out, get16, get64, set16, set32, set64
from fastmail._core.summary cimport (
    EMAIL_AT, FIXED, ID, OWN_AT, PREVIEWED, STATUS_AT, STATUS_NO_ENVELOPE, THREAD_AT, TRAIL, VERSION_AT, parts_end,
    structure_at,
)

cdef enum:
    NEAREST = 12         # identifications of a field that are given: the last ones, and the first
    MOST_WORDS = 1024    # octets of a preview: 256 characters (RFC 8970 3.1)
    WORDS = 2            # octets that say how long a preview is

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


def message_id(bytes summary not None):
    cdef const char* p = PyBytes_AS_STRING(summary)
    cdef const char* end
    cdef const char* q
    if len(summary) < FIXED or p[STATUS_AT] & STATUS_NO_ENVELOPE:
        return None
    if structure_at(<const uint8_t*>p) > len(summary):
        return None
    end = p + structure_at(<const uint8_t*>p)
    p += FIXED
    if end - p >= 5 and memcmp(end - 5, b" NIL)", 5) == 0:
        return b""
    if end - p < 7 or memcmp(end - 3, b'>")', 3) != 0:  # it is in quotes, as the last value of the list
        return None
    end -= 2  # after its >
    q = end - 2
    while q > p and q[0] != b'<' and q[0] != b'>' and q[0] != b'"' and q[0] != b'\\' and not space(q[0]):
        q -= 1
    if q[0] != b'<' or q == end - 2 or q - p < 2 or memcmp(q - 2, b' "', 2) != 0:
        return None
    return PyBytes_FromStringAndSize(q, end - q)


def named(const unsigned char[::1] summary):
    cdef Summary s
    cdef Line line
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
    while next_field(p, end, &line):
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


cdef Py_ssize_t rest(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t at
    if n < FIXED:
        return n
    at = parts_end(p)
    if p[VERSION_AT] >= PREVIEWED and at + WORDS <= n:
        at += WORDS + get16(p + at)
    return min(at, n)


def rest_at(const unsigned char[::1] summary):
    return rest(&summary[0], summary.shape[0]) if summary.shape[0] else 0


cdef bytes octets(const uint8_t* p, Py_ssize_t n):
    return PyBytes_FromStringAndSize(<const char*>p, n)


cdef class Entered:
    def __cinit__(self, bytes key not None, bint created, slow, Py_ssize_t count):
        """``count``: messages that come, about; see ``entered``."""
        if len(key) != MAILBOX:
            raise ValueError("a mailbox key has 12 octets")
        self.created, self.slow = created, slow
        self.log = Out(max(count, 1) * (CREATED_ITEM if created else REMOVED_ITEM))
        self.places, self.members, self.others = [], [], []
        memcpy(self.row, PyBytes_AS_STRING(key), ACCOUNT)
        memcpy(self.row + NAMED_MAILBOX_AT, PyBytes_AS_STRING(key) + ACCOUNT, MAILBOX - ACCOUNT)

    cdef int add(self, Py_ssize_t number, uint32_t uid, const uint8_t* p, Py_ssize_t n, uint64_t modseq) except -1:
        """The message with this UID. Its summary is the n octets at p; ``number``: how ``others`` call it."""
        cdef uint8_t trail[TRAIL]
        cdef uint8_t item[CREATED_ITEM]
        cdef Py_ssize_t at = rest(p, n)
        if n - at == TRAIL:
            memcpy(trail, p + at, TRAIL)
        else:
            one = self.slow(octets(p, n))
            memcpy(trail + EMAIL_AT, PyBytes_AS_STRING(<bytes?>one[0]), ID)
            memcpy(trail + THREAD_AT, PyBytes_AS_STRING(<bytes?>one[2]), ID)
            memcpy(trail + OWN_AT, PyBytes_AS_STRING(<bytes?>one[3]), ID)
        set32(item + ITEM_UID_AT, uid)
        memcpy(item + ITEM_EMAIL_AT, trail + EMAIL_AT, ID)
        if self.created:
            set64(item + ITEM_MODSEQ_AT, modseq)
        self.log.put(<const char*>item, CREATED_ITEM if self.created else REMOVED_ITEM)
        put_uid(self.row, NAMED_UID_AT, uid)
        self.enter(self.places, trail + EMAIL_AT)
        self.enter(self.members, trail + THREAD_AT)
        if memcmp(trail + OWN_AT, trail + THREAD_AT, ID) and get64(trail + OWN_AT):
            self.others.append(
                (number, octets(self.row, ACCOUNT) + octets(trail + OWN_AT, ID), octets(trail + THREAD_AT, ID)))
        return 0

    cdef int enter(self, list rows, const uint8_t* ident) except -1:
        memcpy(self.row + NAMED_ID_AT, ident, ID)
        cdef bytes key = octets(self.row, NAMED)
        rows.append((key, b"") if self.created else key)
        return 0

    cdef tuple done(self):
        """What ``entered`` answers."""
        return self.log.take(), self.places, self.members, self.others


def entered(bytes key not None, list items not None, bint created, slow):
    cdef Py_ssize_t i
    cdef bytes stored
    cdef tuple item
    cdef Entered every = Entered(key, created, slow, len(items))
    for i in range(len(items)):
        item = <tuple?>items[i]
        stored = bytes(item[1])
        every.add(i, item[0], <const uint8_t*>PyBytes_AS_STRING(stored), len(stored), item[2])
    return every.done()


def preview(const unsigned char[::1] summary):
    cdef Py_ssize_t n = summary.shape[0], at
    if n < FIXED or summary[VERSION_AT] != PREVIEWED:
        return None
    at = parts_end(&summary[0])
    if at + WORDS > n or at + WORDS + get16(&summary[at]) > n:
        return None
    return bytes(summary[at + WORDS : at + WORDS + get16(&summary[at])])


def with_preview(summary, bytes words not None):
    cdef Py_buffer view
    PyObject_GetBuffer(summary, &view, PyBUF_SIMPLE)
    try:
        return previewed(<const uint8_t*>view.buf, view.len, words)
    finally:
        PyBuffer_Release(&view)


cdef bytes previewed(const uint8_t* p, Py_ssize_t n, bytes words):
    """See ``with_preview``: of the summary at p."""
    cdef Py_ssize_t at, behind, size = len(words)
    cdef bytes out
    cdef uint8_t* w
    if n < FIXED or not 0 < p[VERSION_AT] <= PREVIEWED or lost_parts(p, n) or size > MOST_WORDS:
        raise ValueError("a summary that can have no preview")
    at = parts_end(p)
    if at > n:
        raise ValueError("a summary that is cut short")
    behind = rest(p, n)
    out = PyBytes_FromStringAndSize(NULL, at + WORDS + size + n - behind)
    w = <uint8_t*>PyBytes_AS_STRING(out)
    memcpy(w, p, at)
    w[VERSION_AT] = PREVIEWED
    set16(w + at, <unsigned short>size)
    memcpy(w + at + WORDS, PyBytes_AS_STRING(words), size)
    memcpy(w + at + WORDS + size, p + behind, n - behind)
    return out
