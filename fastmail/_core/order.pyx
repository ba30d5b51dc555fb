"""What SORT and THREAD compare of a message: base subject, sent date, addresses, message ids (RFC 5256 2, RFC 5957 3),
and the sort itself.

Values come from ready summaries (envelope.pyx). Those in plain ASCII are made into keys here, by the titlecase mapping
of i;unicode-casemap (RFC 5051), which for ASCII is upper case; the others are handed out to be decoded. Promise: time is
linear in each value; a value that cannot be read counts as empty, a date as not there; sorting holds no GIL.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from fastmail._core cimport envelope
from fastmail._core.envelope cimport Address, Piece, Summary, elements, next_address, open_summary, unescaped
from fastmail._core.octets cimport get32, get64, lower
from fastmail._core.pages cimport DATE_AT, HEAD, SIZE_AT, UID_AT, open_page
from fastmail._core.uidset cimport UidSet

cdef enum:
    DATE_LOOK = 1000     # octets of a Date field that are looked at; a date and its comments are far shorter

cdef enum:               # what values() can be asked for
    BY_CC, BY_DATE, BY_DISPLAYFROM, BY_DISPLAYTO, BY_FROM, BY_SUBJECT, BY_TO

NAMES = {b"CC": BY_CC, b"DATE": BY_DATE, b"DISPLAYFROM": BY_DISPLAYFROM, b"DISPLAYTO": BY_DISPLAYTO, b"FROM": BY_FROM,
         b"SUBJECT": BY_SUBJECT, b"TO": BY_TO}

cdef const char* MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"
cdef const char* ZONES = "edtestcdtcstmdtmstpdtpst"  # from -4 to -8 hours, two of an hour but at the ends


# ---------------------------------------------------------------- base subject (RFC 5256 2.1, 5)

cdef bint spaced(Out out, const uint8_t* p, Py_ssize_t n) except -1 nogil:
    """Step 1: put the value with runs of white space as one space. True when it is ASCII without encoded words."""
    cdef Py_ssize_t i
    cdef uint8_t c
    cdef bint plain = True, gap = False
    for i in range(n):
        c = p[i]
        if c == 32 or c == 9 or c == 13 or c == 10:
            gap = True
            continue
        if gap:
            out.putc(32)
            gap = False
        if c >= 128 or (c == b'=' and i + 1 < n and p[i + 1] == b'?'):
            plain = False
        out.putc(<char>c)
    if gap:
        out.putc(32)
    return plain


cdef inline bint begins(const uint8_t* p, Py_ssize_t n, const char* word, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    if n < size:
        return False
    for i in range(size):
        if <uint8_t>lower(<char>p[i]) != <uint8_t>word[i]:
            return False
    return True


cdef Py_ssize_t behind_blob(const uint8_t* p, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    """Behind the subj-blob at ``at``; 0 when there is none. It looks no further than to the next bracket."""
    if at >= end or p[at] != b'[':
        return 0
    at += 1
    while at < end and p[at] != b'[' and p[at] != b']':
        at += 1
    if at >= end or p[at] != b']':
        return 0
    at += 1
    while at < end and p[at] == 32:
        at += 1
    return at


cdef Py_ssize_t behind_refwd(const uint8_t* p, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    """Behind the subj-refwd at ``at``; 0 when there is none."""
    cdef Py_ssize_t blob
    if begins(p + at, end - at, "re", 2):
        at += 2
    elif begins(p + at, end - at, "fwd", 3):
        at += 3
    elif begins(p + at, end - at, "fw", 2):
        at += 2
    else:
        return 0
    while at < end and p[at] == 32:
        at += 1
    blob = behind_blob(p, at, end)
    if blob:
        at = blob
    return at + 1 if at < end and p[at] == b':' else 0


cdef bint base_of(const uint8_t* p, Py_ssize_t* first, Py_ssize_t* last) noexcept nogil:
    """Narrow first .. last, which hold a value after step 1, to the base subject. True for a reply or forward.

    Linear: each octet is taken off an end once, and what is looked at without being taken off ends at a bracket that
    is taken off before anything behind it is looked at. A run of blobs is read once: whether a subj-refwd follows is
    the same question for each of them."""
    cdef Py_ssize_t lo = first[0], hi = last[0], at, next, blob
    cdef bint reply = False
    while True:
        # step 2: trailers
        while True:
            if hi > lo and p[hi - 1] == 32:
                hi -= 1
            elif hi - lo >= 5 and begins(p + hi - 5, 5, "(fwd)", 5):
                hi -= 5
                reply = True
            else:
                break
        # steps 3 to 5: leaders and blobs
        while lo < hi:
            if p[lo] == 32:
                lo += 1
                continue
            at = blob = lo
            next = behind_blob(p, at, hi)
            while next:
                blob = at
                at = next
                next = behind_blob(p, at, hi)
            next = behind_refwd(p, at, hi)
            if next:
                lo = next
                reply = True
                continue
            lo = at if at < hi else blob  # the last blob is the base when nothing else is
            break
        # step 6: a forward in brackets
        if hi - lo >= 6 and p[hi - 1] == b']' and begins(p + lo, 5, "[fwd:", 5):
            lo += 5
            hi -= 1
            reply = True
            continue
        first[0] = lo
        last[0] = hi
        return reply


cdef void titlecase(uint8_t* p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if 97 <= p[i] <= 122:
            p[i] -= 32


def base_subject(const unsigned char[::1] value not None):
    cdef Out out = Out(value.shape[0] + 1)
    cdef Py_ssize_t first = 0, last
    cdef bint reply
    if value.shape[0]:
        spaced(out, &value[0], value.shape[0])
    last = out.len
    reply = base_of(<const uint8_t*>out.buf, &first, &last)
    return PyBytes_FromStringAndSize(out.buf + first, last - first), reply


# ---------------------------------------------------------------- sent date (RFC 5256 2.2, RFC 5322 3.3, 4.3)

cdef int64_t days(int64_t year, int month, int day) noexcept nogil:
    """Days since 1970-01-01 in the Gregorian calendar."""
    cdef int64_t era, of_era
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    return (era * 146097 + of_era * 365 + of_era // 4 - of_era // 100
            + (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1 - 719468)


cdef const uint8_t* clock(const uint8_t* p, const uint8_t* end, int64_t* seconds) noexcept nogil:
    """``hh:mm`` or ``hh:mm:ss`` at p; behind it. What is no time of a day counts as 00:00:00."""
    cdef int part[3]
    cdef int i = 0
    part[0] = part[1] = part[2] = 0
    while p < end and i < 3:
        while p < end and 48 <= p[0] <= 57:
            if part[i] < 1000:
                part[i] = part[i] * 10 + (p[0] - 48)
            p += 1
        i += 1
        if p < end and p[0] == b':' and i < 3:
            p += 1
        else:
            break
    seconds[0] = part[0] * 3600 + part[1] * 60 + part[2]
    if part[0] > 23 or part[1] > 59 or part[2] > 60:
        seconds[0] = 0
    return p


cdef const uint8_t* offset(const uint8_t* p, const uint8_t* end, int64_t* seconds) noexcept nogil:
    """``+hhmm`` or ``-hh:mm`` at p; behind it. What is no zone counts as UTC."""
    cdef int64_t sign = -1 if p[0] == b'-' else 1
    cdef int64_t value = 0
    cdef int digits = 0
    p += 1
    while p < end and digits < 5 and (48 <= p[0] <= 57 or (p[0] == b':' and digits == 2)):
        if p[0] != b':':
            value = value * 10 + (p[0] - 48)
            digits += 1
        p += 1
    seconds[0] = 0
    if digits == 4 and value % 100 < 60 and value < 2400:
        seconds[0] = sign * (value // 100 * 3600 + value % 100 * 60)
    return p


cdef bint date_of(const uint8_t* p, Py_ssize_t n, int64_t* when) noexcept nogil:
    """Seconds since 1970 UTC; False when there is no day, month and year. Words and numbers are told apart by their
    form, so that old forms (``Mon Feb  7 21:52:25 1994``, ``7-Feb-94``) are read too."""
    cdef const uint8_t* end = p + (n if n < DATE_LOOK else DATE_LOOK)
    cdef const uint8_t* start
    cdef const uint8_t* q
    cdef int depth = 0, day = 0, month = 0, value, i
    cdef int64_t year = -1, seconds = 0, zone = 0
    cdef bint timed = False, zoned = False
    while p < end:
        if depth or p[0] == b'(':  # a comment
            if p[0] == b'(':
                depth += 1
            elif p[0] == b')':
                depth -= 1
            elif p[0] == b'\\':
                p += 1
            p += 1
        elif 48 <= p[0] <= 57:
            start = p
            value = 0
            while p < end and 48 <= p[0] <= 57:
                if value < 100000:
                    value = value * 10 + (p[0] - 48)
                p += 1
            if p < end and p[0] == b':' and not timed:
                p = clock(start, end, &seconds)
                timed = True
            elif day == 0 and p - start <= 2:
                if value < 1 or value > 31:
                    return False
                day = value
            elif year < 0 and p - start >= 2:
                year = value
                if p - start == 2:
                    year += 2000 if value < 50 else 1900  # RFC 5322 4.3
                elif p - start == 3:
                    year += 1900
        elif (p[0] == b'+' or p[0] == b'-') and timed and not zoned:
            p = offset(p, end, &zone)
            zoned = True
        elif 65 <= (p[0] & 0xDF) <= 90:
            start = p
            while p < end and 65 <= (p[0] & 0xDF) <= 90:
                p += 1
            if timed and month and p - start == 3:
                for i in range(8):
                    if begins(start, 3, ZONES + 3 * i, 3):
                        zone = -3600 * (4 + (i + 1) // 2)
            elif month == 0 and p - start >= 3:
                for i in range(12):
                    if begins(start, 3, MONTHS + 3 * i, 3):
                        month = i + 1
        else:
            p += 1
    if day == 0 or month == 0 or year < 0 or year > 9999:
        return False
    when[0] = days(year, month, day) * 86400 + seconds - zone
    return True


def sent_date(const unsigned char[::1] value not None):
    cdef int64_t when
    if value.shape[0] and date_of(&value[0], value.shape[0], &when):
        return when
    return None


# ---------------------------------------------------------------- message ids (RFC 5256 3, RFC 5322 3.6.4)

cdef const uint8_t* next_id(Out out, const uint8_t* p, const uint8_t* end) except? NULL nogil:
    """The next ``<id>`` without its brackets; behind it, or ``end`` and an empty id when there is no more. Quoting
    that need not be there and white space are left out, so that one id compares as one id however it is written."""
    out.len = 0
    while p < end and p[0] != b'<':
        p += 1
    while p < end:
        if p[0] == b'<':
            out.len = 0
        elif p[0] == b'>':
            if out.len:
                return p + 1
            while p < end and p[0] != b'<':
                p += 1
            continue
        elif p[0] == b'\\' and p + 1 < end and p[1] != b'<' and p[1] != b'>':
            p += 1
            out.putc(<char>p[0])
        elif p[0] != b'"' and p[0] != 32 and p[0] != 9 and p[0] != 13 and p[0] != 10:
            out.putc(<char>p[0])
        p += 1
    out.len = 0
    return end


def message_ids(const unsigned char[::1] value not None):
    cdef list found = []
    cdef Out out = Out(128)
    cdef const uint8_t* p
    cdef const uint8_t* end
    if not value.shape[0]:
        return found
    p = &value[0]
    end = p + value.shape[0]
    while True:
        p = next_id(out, p, end)
        if not out.len:
            return found
        found.append(PyBytes_FromStringAndSize(out.buf, out.len))


# ---------------------------------------------------------------- values of many messages

def arrived(pages, UidSet uids not None):
    """See order.pyi."""
    cdef list numbers = [], dates = [], sizes = []
    cdef const unsigned char[::1] page
    cdef const uint8_t* r
    cdef Py_ssize_t count, step, i
    for one in pages:
        page = one
        r = open_page(page, &count, &step) + HEAD
        for i in range(count):
            if uids.has(get32(r + UID_AT)):
                numbers.append(get32(r + UID_AT))
                dates.append(<int64_t>get64(r + DATE_AT))
                sizes.append(get32(r + SIZE_AT))
            r += step
    return numbers, dates, sizes


cdef object key_of(Out out, const uint8_t* p, Py_ssize_t n, bint subject):
    """The key of a plain value; None when it is to be decoded or shortened."""
    cdef Py_ssize_t first = 0, last
    out.len = 0
    if subject:
        if not spaced(out, p, n):
            return None
        last = out.len
        base_of(<const uint8_t*>out.buf, &first, &last)
    else:
        for first in range(n):
            if p[first] >= 128 or (p[first] == b'=' and first + 1 < n and p[first + 1] == b'?'):
                return None
        out.put(<const char*>p, n)
        first, last = 0, n
    if last - first > KEY_MOST:
        return None
    titlecase(<uint8_t*>out.buf + first, last - first)
    return PyBytes_FromStringAndSize(out.buf + first, last - first)


cdef int address_text(Out out, const Piece* list, bint display, Py_ssize_t* name) except -1:
    """The first address as it is compared; with ``display`` its name and, from ``name`` on, what stands for it when
    that turns out to be empty (RFC 5957 3)."""
    cdef Address a
    out.len = 0
    name[0] = 0
    if list.kind != envelope.LIST or next_address(list.p, list.p + list.n, &a) == NULL:
        return 0
    if display:
        unescaped(out, &a.name)
        name[0] = out.len
    unescaped(out, &a.mailbox)
    if display and a.mailbox.kind != envelope.NIL and a.host.kind != envelope.NIL:
        out.putc(b'@'[0])
        unescaped(out, &a.host)
    return 0


def values(list uids not None, list items not None, int what):
    """See order.pyi."""
    cdef list out = [], decode = [], missing = []
    cdef Py_ssize_t i, k = 0, n = len(items), name = 0
    cdef Summary s
    cdef Piece found[envelope.ELEMENTS]
    cdef Piece* one
    cdef const unsigned char[::1] data
    cdef Out text = Out(256)
    cdef Out tmp = Out(256)
    cdef int64_t when
    cdef uint32_t uid
    cdef object key
    for i in range(len(uids)):
        uid = uids[i]
        while k < n and <uint32_t>(<tuple>items[k])[0] < uid:
            k += 1
        if k == n or <uint32_t>(<tuple>items[k])[0] != uid:
            missing.append(i)
            out.append(None)
            continue
        data = (<tuple>items[k])[1]
        if (not data.shape[0] or not open_summary(&data[0], data.shape[0], &s)
                or not elements(s.envelope, s.envelopen, found)):
            missing.append(i)
            out.append(None)
            continue
        if what == BY_DATE:
            tmp.len = 0
            unescaped(tmp, &found[envelope.DATE])
            out.append(when if date_of(<const uint8_t*>tmp.buf, tmp.len, &when) else None)
            continue
        if what == BY_SUBJECT:
            tmp.len = 0
            unescaped(tmp, &found[envelope.SUBJECT])
            name = tmp.len
        else:
            one = &found[envelope.CC if what == BY_CC else envelope.TO if what == BY_TO or what == BY_DISPLAYTO
                         else envelope.FROM]
            address_text(tmp, one, what == BY_DISPLAYFROM or what == BY_DISPLAYTO, &name)
            if name == 0:
                name = tmp.len
        key = key_of(text, <const uint8_t*>tmp.buf, name, what == BY_SUBJECT)
        if key is None:
            decode.append((i, PyBytes_FromStringAndSize(tmp.buf, name),
                           PyBytes_FromStringAndSize(tmp.buf + name, tmp.len - name)))
        out.append(key)
    return out, decode, missing


# ---------------------------------------------------------------- sorting

cdef int compare(const Column* columns, int count, int32_t a, int32_t b) noexcept nogil:
    cdef int i, order
    cdef const Key* one
    cdef const Key* two
    for i in range(count):
        one = &columns[i].keys[a]
        two = &columns[i].keys[b]
        if one.p == NULL:
            order = (one.n > two.n) - (one.n < two.n)
        else:
            order = memcmp(one.p, two.p, one.n if one.n < two.n else two.n)
            if order == 0:
                order = (one.n > two.n) - (one.n < two.n)
        if order:
            return -order if columns[i].reverse else order
    return 0


cdef void merge_sort(const Column* columns, int count, int32_t* a, int32_t* other, Py_ssize_t n) noexcept nogil:
    """Sorts a[:n], which keeps the order of what is equal; ``other`` has room for n."""
    cdef Py_ssize_t width = 1, lo, mid, hi, i, j, k
    cdef int32_t* home = a
    cdef int32_t* swap
    while width < n:
        lo = 0
        while lo < n:
            mid = lo + width if lo + width < n else n
            hi = mid + width if mid + width < n else n
            if mid == hi or compare(columns, count, a[mid - 1], a[mid]) <= 0:
                memcpy(other + lo, a + lo, (hi - lo) * sizeof(int32_t))  # in order already
            else:
                i = lo
                j = mid
                for k in range(lo, hi):
                    if j == hi or (i < mid and compare(columns, count, a[i], a[j]) <= 0):
                        other[k] = a[i]
                        i += 1
                    else:
                        other[k] = a[j]
                        j += 1
            lo = hi
        swap = a
        a = other
        other = swap
        width *= 2
    if a != home:
        memcpy(home, a, n * sizeof(int32_t))


def ranked(list columns not None, Py_ssize_t n):
    """See order.pyi."""
    cdef int count = <int>len(columns), c
    cdef Py_ssize_t i
    cdef list values
    cdef Column* made = <Column*>malloc((count + 1) * sizeof(Column))
    cdef Key* keys = <Key*>malloc((count * n + 1) * sizeof(Key))
    cdef int32_t* places = <int32_t*>malloc((2 * n + 1) * sizeof(int32_t))
    try:
        if made == NULL or keys == NULL or places == NULL:
            raise MemoryError()
        for c in range(count):
            values = (<tuple>columns[c])[0]
            made[c].keys = keys + c * n
            made[c].reverse = (<tuple>columns[c])[1]
            if len(values) != n:
                raise ValueError("columns of different lengths")
            for i in range(n):
                value = values[i]
                if isinstance(value, bytes):
                    made[c].keys[i].p = PyBytes_AS_STRING(value)  # ``values`` keeps it
                    made[c].keys[i].n = PyBytes_GET_SIZE(value)
                else:
                    made[c].keys[i].p = NULL
                    made[c].keys[i].n = value
        for i in range(n):
            places[i] = <int32_t>i
        with nogil:
            merge_sort(made, count, places, places + n, n)
        return [places[i] for i in range(n)]
    finally:
        free(made)
        free(keys)
        free(places)


def kept(const uint32_t[::1] uids not None, UidSet wanted not None):
    """See order.pyi."""
    cdef Py_ssize_t i, n = 0
    cdef bytes out = PyBytes_FromStringAndSize(NULL, uids.shape[0] * 4)
    cdef uint32_t* p = <uint32_t*>PyBytes_AS_STRING(out)
    for i in range(uids.shape[0]):
        if wanted.has(uids[i]):
            p[n] = uids[i]
            n += 1
    return out[:4 * n]


def numbered(const uint32_t[::1] uids not None, UidSet view):
    """See order.pyi."""
    cdef Py_ssize_t i
    cdef Out out = Out(7 * uids.shape[0])
    for i in range(uids.shape[0]):
        out.putc(32)
        out.number(uids[i] if view is None else view.seq_of(uids[i]))
    return out.take()
