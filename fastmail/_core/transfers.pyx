"""Messages that are copied within an account, or removed from a mailbox: what becomes of their rows of ``msg``, and what
the account log and the tables of ids get; many messages to a call.

The layouts are in index.pxd and summary.pxd. Promise: pure functions from octets to octets, which read nothing past a
value's end. struct.error for a value that is too short for its first number, or a mark for its reference: it is
damaged.
"""

from struct import error as Damaged

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastmail._core.idents cimport Entered
from fastmail._core.index cimport (
    CONTENT_AT, IDENT_AT, LENGTH_AT, MAILBOX, MESSAGE, REFERENCE, SEGMENT, SKIP_AT, put_uid, uid_in,
)
from fastmail._core.octets cimport get16, get64, set16, set64
from fastmail._core.summary cimport heavy

cdef enum:
    NUMBER = 8  # octets of a number in the tables about references

cdef uint64_t LONGEST = <uint64_t>1 << 63  # octets of content: what is longer is damaged


cdef bytes message_key(const uint8_t* mailbox, uint32_t uid):
    cdef bytes key = PyBytes_FromStringAndSize(NULL, MESSAGE)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(key)
    memcpy(p, mailbox, MAILBOX)
    put_uid(p, MAILBOX, uid)
    return key


cdef const uint8_t* mailbox_in(bytes key) except NULL:
    if PyBytes_GET_SIZE(key) != MAILBOX:
        raise ValueError("a mailbox key has 12 octets")
    return <const uint8_t*>PyBytes_AS_STRING(key)


cdef uint32_t uid_of(bytes key) except? 0:
    if PyBytes_GET_SIZE(key) != MESSAGE:
        raise ValueError("a message key has 16 octets")
    return uid_in(<const uint8_t*>PyBytes_AS_STRING(key), MAILBOX)


cdef const uint8_t* parted(bytes value, Py_ssize_t* named, Py_ssize_t* n) except NULL:
    """Where mark and name of a value begin. ``named``: octets of them, n: of the summary behind them."""
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    if size < CONTENT_AT:
        raise Damaged("a row that is too short")
    named[0] = min(<Py_ssize_t>get16(p), size - CONTENT_AT)
    n[0] = size - CONTENT_AT - named[0]
    return p + CONTENT_AT


def keys(bytes key not None, list uids not None):
    cdef const uint8_t* mailbox = mailbox_in(key)
    cdef Py_ssize_t i
    return [message_key(mailbox, uids[i]) for i in range(len(uids))]


cdef bytes renamed(bytes name, const uint8_t* summary, Py_ssize_t n):
    """A value with this mark and name."""
    cdef Py_ssize_t named = PyBytes_GET_SIZE(name)
    if named > 0xFFFF:
        raise Damaged("a name that is too long")
    cdef bytes value = PyBytes_FromStringAndSize(NULL, CONTENT_AT + named + n)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(value)
    set16(p, <unsigned short>named)
    memcpy(p + CONTENT_AT, PyBytes_AS_STRING(name), named)
    memcpy(p + CONTENT_AT + named, summary, n)
    return value


def copied(list rows not None, dict become not None, bytes target not None, uint64_t modseq, slow):
    cdef const uint8_t* mailbox = mailbox_in(target)
    cdef Entered every = Entered(target, True, slow, len(rows))
    cdef Py_ssize_t i, named = 0, n = 0, weight = 0
    cdef const uint8_t* p
    cdef bytes key, value, name, kept
    cdef uint32_t uid
    cdef bint same
    cdef list copies = []
    for i in range(len(rows)):
        key, value = <tuple?>rows[i]
        uid, name = <tuple?>become.pop(uid_of(key))
        p = parted(value, &named, &n)
        same = PyBytes_GET_SIZE(name) == named and memcmp(p, PyBytes_AS_STRING(name), named) == 0
        if not same and PyBytes_GET_SIZE(name) and PyBytes_AS_STRING(name)[0] == SEGMENT:
            return None
        # the same octets again, unless the row's number says more than there is: it is damaged
        kept = value if same and get16(p - CONTENT_AT) == named else renamed(name, p + named, n)
        every.add(i, uid, p + named, n, modseq)
        weight += heavy(p + named, n)
        copies.append((message_key(mailbox, uid), kept))
    return copies, every.done(), weight


def removed(list rows not None, bytes key not None, slow):
    mailbox_in(key)
    cdef Entered every = Entered(key, False, slow, len(rows))
    cdef Py_ssize_t i, named = 0, n = 0, weight = 0
    cdef const uint8_t* p
    cdef bytes at, value, marked
    cdef list shared = [], files = []
    for i in range(len(rows)):
        at, value = <tuple?>rows[i]
        p = parted(value, &named, &n)
        every.add(i, uid_of(at), p + named, n, 0)
        weight += heavy(p + named, n)
        marked = PyBytes_FromStringAndSize(<const char*>p, named)
        if named and p[0] == SEGMENT:
            shared.append(marked)
        else:
            files.append((at, marked))
    return every.done(), weight, shared, files


cdef const uint8_t* reference(marked) except NULL:
    """The octets of a mark and name that refer to a record."""
    if PyBytes_GET_SIZE(<bytes?>marked) < REFERENCE:
        raise Damaged("a mark that is too short")
    return <const uint8_t*>PyBytes_AS_STRING(marked)


def idents(list marks not None):
    cdef list out = []
    cdef bytes ident
    cdef uint8_t* q
    cdef uint64_t number
    cdef Py_ssize_t i, j
    for i in range(len(marks)):
        number = get64(reference(marks[i]) + IDENT_AT)
        ident = PyBytes_FromStringAndSize(NULL, NUMBER)
        q = <uint8_t*>PyBytes_AS_STRING(ident)
        for j in range(NUMBER):
            q[j] = <uint8_t>(number >> 8 * (NUMBER - 1 - j))
        out.append(ident)
    return out


def spans(list marks not None, uint32_t aligned):
    cdef list out = []
    cdef bytes span
    cdef const uint8_t* p
    cdef uint64_t length
    cdef Py_ssize_t i
    for i in range(len(marks)):
        p = reference(marks[i])
        length = get64(p + LENGTH_AT)
        if length > LONGEST:
            raise Damaged("content that is too long")
        span = PyBytes_FromStringAndSize(NULL, NUMBER)
        set64(<uint8_t*>PyBytes_AS_STRING(span), (get16(p + SKIP_AT) + length + aligned - 1) // aligned * aligned)
        out.append(span)
    return out


cdef uint64_t count_in(bytes row) except? 0:
    """The count that a row of ``ref`` has; 0 if there is none."""
    if row is None:
        return 0
    if PyBytes_GET_SIZE(row) != NUMBER:
        raise Damaged("a count that is no number")
    return get64(<const uint8_t*>PyBytes_AS_STRING(row))


cdef bytes count_row(uint64_t count):
    cdef bytes row = PyBytes_FromStringAndSize(NULL, NUMBER)
    set64(<uint8_t*>PyBytes_AS_STRING(row), count)
    return row


def shared(list idents not None, dict found not None):
    cdef Py_ssize_t i
    cdef dict out = {}
    for i in range(len(idents)):
        ident = idents[i]
        row = out.get(ident)
        out[ident] = count_row(count_in(row if row is not None else found.get(ident)) + 1)
    return sorted(out.items())


def released(list idents not None, list marks not None, dict found not None):
    cdef Py_ssize_t i
    cdef uint64_t count
    cdef dict changed = {}, dead = {}
    cdef list gone = []
    for i in range(len(idents)):
        ident = idents[i]
        row = changed.get(ident)
        if row is None and ident not in dead:
            row = found.get(ident)
        count = count_in(row)
        if count:
            changed[ident] = count_row(count - 1)
            continue
        if row is not None:
            changed.pop(ident, None)
            gone.append(ident)
        dead[ident] = marks[i]
    return sorted(changed.items()), gone, dead
