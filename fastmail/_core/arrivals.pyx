"""Messages that come into one mailbox in one commit: what becomes of the rows of the mailbox, its account and its pages.

The layouts are in index.pxd, pages.pxd and summary.pxd. Only rows in their present form are taken; whoever has another
one writes it anew first. Promise: pure functions from octets to octets, which read nothing past a value's end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastmail._core.idents cimport rest
from fastmail._core.index cimport (
    ACCOUNT, BOX, BOX_MODSEQ_AT, BOX_OCTETS_AT, BOX_RECOVERED_AT, BOX_SIZE_AT, BOX_VERSION, BOX_VERSION_AT, CONTENT_AT,
    CREATED_ITEM, DELETED_AT, ENTRY, ENTRY_CREATED, ENTRY_ITEMS_AT, ENTRY_KIND_AT, ENTRY_MAILBOX_AT, EXISTS_AT,
    ITEM_EMAIL_AT, ITEM_MODSEQ_AT, ITEM_UID_AT, LOGGED_AT, LOG_HEAD, LOG_KEY, LOG_MODSEQ_AT, LOG_PART_AT, LOG_TIME_AT,
    LOG_VERSION_AT, MAILBOX, MESSAGE, MESSAGES_AT, NAMED, NAMED_ID_AT, NAMED_MAILBOX_AT, NAMED_UID_AT, PART_ITEMS,
    SUMMARIES_AT, TOTALS, TOTALS_VERSION, TOTALS_VERSION_AT, TOTAL_MODSEQ_AT, TOTAL_OCTETS_AT, TOTAL_RECOVERED_AT,
    UIDNEXT_AT, UIDVALIDITY_AT, UNSEEN_AT, UNUSED_AT, put_uid, uid_in,
)
from fastmail._core.octets cimport Out, get32, get64, set16, set32, set64
from fastmail._core.pages cimport RECORD, SPAN, extended, put_record
from fastmail._core.summary cimport CREATED_AT, EMAIL_AT, ID, OWN_AT, THREAD_AT, TRAIL, heavy

cdef enum:
    SEEN = 1
    DELETED = 8


cdef inline void more32(uint8_t* p, uint32_t by) noexcept nogil:
    set32(p, get32(p) + by)


cdef inline void more64(uint8_t* p, uint64_t by) noexcept nogil:
    set64(p, get64(p) + by)


cdef class Arrivals:
    cdef bytes key
    cdef bytes name             # of the mailbox
    cdef uint8_t box[BOX]       # the fixed part of its row
    cdef uint8_t totals[TOTALS] # the account's row
    cdef Out items              # of the account log
    cdef readonly uint32_t uid  # of the next message
    cdef readonly uint64_t modseq

    @property
    def uidvalidity(self):
        return get32(self.box + UIDVALIDITY_AT)

    cdef bytes at(self, uint32_t uid):
        """The key of a message, or of a page."""
        cdef bytes key = PyBytes_FromStringAndSize(NULL, MESSAGE)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(key)
        memcpy(p, PyBytes_AS_STRING(self.key), MAILBOX)
        put_uid(p, MAILBOX, uid)
        return key

    cdef bytes named(self, const uint8_t* ident):
        """The key of the next message in a table of ids."""
        cdef bytes key = PyBytes_FromStringAndSize(NULL, NAMED)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(key)
        cdef const uint8_t* where = <const uint8_t*>PyBytes_AS_STRING(self.key)
        memcpy(p, where, ACCOUNT)
        memcpy(p + NAMED_ID_AT, ident, ID)
        memcpy(p + NAMED_MAILBOX_AT, where + ACCOUNT, MAILBOX - ACCOUNT)
        put_uid(p, NAMED_UID_AT, self.uid)
        return key

    def page_key(self):
        return self.at(self.uid - self.uid % SPAN)

    cdef bytes value(self, bytes name, const uint8_t* summary, Py_ssize_t n, const uint8_t* trail):
        """The row of ``msg``, whose weight is added to the account's."""
        cdef Py_ssize_t named = PyBytes_GET_SIZE(name)
        if named > 0xFFFF:
            raise OverflowError("a name that is too long")
        cdef bytes value = PyBytes_FromStringAndSize(NULL, CONTENT_AT + named + n + TRAIL)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(value)
        set16(p, <unsigned short>named)
        memcpy(p + CONTENT_AT, PyBytes_AS_STRING(name), named)
        p += CONTENT_AT + named
        if n:
            memcpy(p, summary, n)
        memcpy(p + n, trail, TRAIL)
        more64(self.totals + SUMMARIES_AT, heavy(p, n + TRAIL))
        return value

    cdef int log_item(self, const uint8_t* email) except -1:
        cdef uint8_t item[CREATED_ITEM]
        set32(item + ITEM_UID_AT, self.uid)
        memcpy(item + ITEM_EMAIL_AT, email, ID)
        set64(item + ITEM_MODSEQ_AT, self.modseq)
        return self.items.put(<const char*>item, CREATED_ITEM)

    cdef void count(self, uint32_t flags, uint32_t size) noexcept nogil:
        more32(self.box + EXISTS_AT, 1)
        more32(self.box + UNSEEN_AT, flags & SEEN == 0)
        more32(self.box + DELETED_AT, flags & DELETED != 0)
        more64(self.box + BOX_OCTETS_AT, size)
        more64(self.totals + MESSAGES_AT, 1)
        more64(self.totals + TOTAL_OCTETS_AT, size)

    def add(self, page, bytes name not None, const unsigned char[::1] summary, bytes email not None,
            bytes thread not None, bytes own not None, uint32_t flags, uint64_t keywords, int64_t date, uint32_t size,
            uint32_t saved):
        cdef uint8_t record[RECORD]
        cdef uint8_t trail[TRAIL]
        cdef const uint8_t* p = &summary[0] if summary.shape[0] else NULL
        if len(email) != ID or len(thread) != ID or len(own) != ID:
            raise ValueError("an id has 8 octets")
        put_record(record, self.uid, flags, self.modseq, keywords, date, size, saved)
        page = extended(page, record, 1)  # before anything is changed here: it fails where the page is damaged
        memcpy(trail + EMAIL_AT, PyBytes_AS_STRING(email), ID)
        set64(trail + CREATED_AT, self.modseq)
        memcpy(trail + THREAD_AT, PyBytes_AS_STRING(thread), ID)
        memcpy(trail + OWN_AT, PyBytes_AS_STRING(own), ID)
        cdef tuple made = (page, self.at(self.uid), self.value(name, p, rest(p, summary.shape[0]), trail),
                           self.named(trail + EMAIL_AT), self.named(trail + THREAD_AT))
        self.log_item(trail + EMAIL_AT)
        self.count(flags, size)
        self.uid += 1
        return made

    cdef tuple log_row(self, Py_ssize_t first, Py_ssize_t count, Py_ssize_t part, uint32_t now):
        """A row of the account log with some of the items; its octets are added to the account's."""
        cdef bytes key = PyBytes_FromStringAndSize(NULL, LOG_KEY)
        cdef bytes value = PyBytes_FromStringAndSize(NULL, LOG_HEAD + ENTRY + count * CREATED_ITEM)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(key)
        memcpy(p, PyBytes_AS_STRING(self.key), ACCOUNT)
        put_uid(p, LOG_MODSEQ_AT, <uint32_t>(self.modseq >> 32))
        put_uid(p, LOG_MODSEQ_AT + 4, <uint32_t>self.modseq)
        p[LOG_PART_AT] = <uint8_t>(part >> 8)
        p[LOG_PART_AT + 1] = <uint8_t>part
        p = <uint8_t*>PyBytes_AS_STRING(value)
        memset(p, 0, LOG_HEAD + ENTRY)
        p[LOG_VERSION_AT] = TOTALS_VERSION
        set32(p + LOG_TIME_AT, now)
        p += LOG_HEAD
        p[ENTRY_KIND_AT] = ENTRY_CREATED
        set32(p + ENTRY_MAILBOX_AT, uid_in(<const uint8_t*>PyBytes_AS_STRING(self.key), ACCOUNT))
        set32(p + ENTRY_ITEMS_AT, <uint32_t>count)
        memcpy(p + ENTRY, self.items.buf + first * CREATED_ITEM, count * CREATED_ITEM)
        more64(self.totals + LOGGED_AT, len(key) + len(value))
        return key, value

    def log(self, uint32_t now):
        cdef Py_ssize_t every = self.items.len // CREATED_ITEM, first = 0
        cdef list rows = []
        while first < every:
            rows.append(self.log_row(first, min(every - first, PART_ITEMS), first // PART_ITEMS, now))
            first += PART_ITEMS
        self.items.len = 0
        return rows

    def rows(self):
        set32(self.box + UIDNEXT_AT, self.uid)
        return PyBytes_FromStringAndSize(<const char*>self.box, BOX) + self.name, self.logged()

    cdef bytes logged(self):
        return PyBytes_FromStringAndSize(<const char*>self.totals, TOTALS)


cdef bint is_utf8(const uint8_t* p, Py_ssize_t n):
    cdef Py_ssize_t i
    for i in range(n):
        if p[i] >= 0x80:
            break
    else:
        return True
    try:
        PyUnicode_DecodeUTF8(<const char*>p, n, NULL)
    except UnicodeDecodeError:
        return False
    return True


def begin(bytes key not None, bytes row not None, bytes totals, uint32_t recovered):
    cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(row)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(row)
    cdef const uint8_t* q
    cdef Arrivals one
    if len(key) != MAILBOX:
        raise ValueError("a mailbox key has 12 octets")
    if n < BOX or p[BOX_VERSION_AT] != BOX_VERSION or p[BOX_SIZE_AT] != BOX or get64(p + UNUSED_AT):
        return None
    if get32(p + BOX_RECOVERED_AT) != recovered or not is_utf8(p + BOX, n - BOX):
        return None
    if totals is None or PyBytes_GET_SIZE(totals) != TOTALS:
        return None
    q = <const uint8_t*>PyBytes_AS_STRING(totals)
    if q[TOTALS_VERSION_AT] != TOTALS_VERSION or get32(q + TOTAL_RECOVERED_AT) != recovered:
        return None
    one = Arrivals.__new__(Arrivals)
    one.key, one.name, one.items = key, row[BOX:], Out(CREATED_ITEM)
    memcpy(one.box, p, BOX)
    memcpy(one.totals, q, TOTALS)
    one.uid = get32(p + UIDNEXT_AT)
    one.modseq = get64(q + TOTAL_MODSEQ_AT) + 1
    set64(one.box + BOX_MODSEQ_AT, one.modseq)
    set64(one.totals + TOTAL_MODSEQ_AT, one.modseq)
    return one
