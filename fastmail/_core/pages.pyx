"""Pages of fixed-size index records: one LMDB value holds what exists of 32 consecutive UIDs.

Promise: pure functions from page to page; a page never changes in place. The layout is in pages.pxd.
A page that is cut short or of an unknown version raises ValueError; nothing is read past its end.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastmail._core.octets cimport Out, get16, get32, get64, set16, set32, set64
from fastmail._core.uidset cimport UidSet

cdef enum:
    SEEN = 1
    DELETED = 8


class Field:
    """Places in the tuple of a record: those of pages.pxd, for Python."""

    UID = FIELD_UID
    FLAGS = FIELD_FLAGS
    MODSEQ = FIELD_MODSEQ
    KEYWORDS = FIELD_KEYWORDS
    DATE = FIELD_DATE
    SIZE = FIELD_SIZE
    SAVED = FIELD_SAVED


class Head:
    """Places in the tuple of a header: those of pages.pxd, for Python."""

    COUNT = HEAD_COUNT
    MODSEQ = HEAD_MODSEQ
    PRESENT = HEAD_PRESENT
    UNSEEN = HEAD_UNSEEN


class Op:
    """Operations of a search program: those of pages.pxd, for Python."""

    ALL = OP_ALL
    FLAGS = OP_FLAGS
    KEYWORD = OP_KEYWORD
    LARGER = OP_LARGER
    SMALLER = OP_SMALLER
    DATE = OP_DATE
    UIDS = OP_UIDS
    MODSEQ = OP_MODSEQ
    NOT = OP_NOT
    AND = OP_AND
    OR = OP_OR
    SAVED = OP_SAVED


cdef const uint8_t* open_page(const unsigned char[::1] page, Py_ssize_t* count, Py_ssize_t* step) except NULL:
    cdef const uint8_t* p
    if page.shape[0] < HEAD:
        raise ValueError("index page is shorter than its header")
    p = &page[0]
    if p[VERSION_AT] != VERSION or p[STEP_AT] < RECORD:
        raise ValueError("index page has an unknown version")
    count[0] = get16(p + COUNT_AT)
    step[0] = p[STEP_AT]
    if count[0] > SPAN or HEAD + count[0] * step[0] > page.shape[0]:
        raise ValueError("index page is cut short")
    return p


cdef bytes finish(const uint8_t* records, Py_ssize_t count, uint64_t modseq):
    """A page from packed records of the native size."""
    cdef bytes result = PyBytes_FromStringAndSize(NULL, HEAD + count * RECORD)
    cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(result)
    cdef uint64_t present = 0, unseen = 0, m
    cdef Py_ssize_t i
    cdef const uint8_t* r
    memset(p, 0, HEAD)
    if count:
        memcpy(p + HEAD, records, count * RECORD)
    for i in range(count):
        r = p + HEAD + i * RECORD
        present |= <uint64_t>1 << (get32(r + UID_AT) & (SPAN - 1))
        if not get32(r + FLAGS_AT) & SEEN:
            unseen |= <uint64_t>1 << (get32(r + UID_AT) & (SPAN - 1))
        m = get64(r + MODSEQ_AT)
        if m > modseq:
            modseq = m
    p[VERSION_AT] = VERSION
    p[STEP_AT] = RECORD
    set16(p + COUNT_AT, <unsigned short>count)
    set64(p + HIGHEST_AT, modseq)
    set64(p + PRESENT_AT, present)
    set64(p + UNSEEN_AT, unseen)
    return result


def head(const unsigned char[::1] page):
    cdef Py_ssize_t count, step
    cdef const uint8_t* p = open_page(page, &count, &step)
    return count, get64(p + HIGHEST_AT), get64(p + PRESENT_AT), get64(p + UNSEEN_AT)


def span(const unsigned char[::1] page):
    cdef Py_ssize_t count, step
    cdef const uint8_t* p = open_page(page, &count, &step)
    if not count:
        return 0, 0
    return get32(p + HEAD + UID_AT), get32(p + HEAD + (count - 1) * step + UID_AT)


def presence(const unsigned char[::1] page):
    cdef Py_ssize_t count, step
    return get64(open_page(page, &count, &step) + PRESENT_AT)


cdef void put_record(uint8_t* r, uint32_t uid, uint32_t flags, uint64_t modseq, uint64_t keywords, int64_t date,
                     uint32_t size, uint32_t saved) noexcept nogil:
    set32(r + UID_AT, uid)
    set32(r + FLAGS_AT, flags)
    set64(r + MODSEQ_AT, modseq)
    set64(r + KEYWORDS_AT, keywords)
    set64(r + DATE_AT, <uint64_t>date)
    set32(r + SIZE_AT, size)
    set32(r + SAVED_AT, saved)


def pack(uint32_t uid, uint32_t flags, uint64_t modseq, uint64_t keywords, int64_t date, uint32_t size, uint32_t saved):
    cdef bytes result = PyBytes_FromStringAndSize(NULL, RECORD)
    put_record(<uint8_t*>PyBytes_AS_STRING(result), uid, flags, modseq, keywords, date, size, saved)
    return result


cdef bytes extended(page, const uint8_t* packed, Py_ssize_t more):
    cdef uint8_t tmp[RECORD * SPAN]
    cdef Py_ssize_t count = 0, step = 0, i
    cdef const uint8_t* p
    cdef uint64_t top = 0
    cdef uint32_t uid, last = 0, base = 0
    cdef const unsigned char[::1] view
    if page is not None:
        view = page
        p = open_page(view, &count, &step)
        for i in range(count):
            memcpy(tmp + i * RECORD, p + HEAD + i * step, RECORD)
        top = get64(p + HIGHEST_AT)
    if count + more > SPAN:
        raise ValueError("a page can not take these records")
    if more:
        memcpy(tmp + count * RECORD, packed, more * RECORD)
    for i in range(count + more):
        uid = get32(tmp + i * RECORD + UID_AT)
        if uid <= last or (i and uid // SPAN != base):
            raise ValueError("UIDs of a page must ascend")
        last = uid
        base = uid // SPAN
    return finish(tmp, count + more, top)


def extend(page, const unsigned char[::1] packed):
    if packed.shape[0] % RECORD:
        raise ValueError("a page can not take these records")
    return extended(page, &packed[0] if packed.shape[0] else NULL, packed.shape[0] // RECORD)


def chosen(found, UidSet uids not None):
    cdef Out packed = Out(RECORD * SPAN)
    cdef const unsigned char[::1] page
    cdef const uint8_t* r
    cdef Py_ssize_t count, step, i
    cdef uint32_t uid, last = 0
    cdef uint64_t words, before = 0
    cdef bint ascending = True
    cdef list out = []
    cdef set keywords = set()
    for one in found:
        page = one
        r = open_page(page, &count, &step) + HEAD
        for i in range(count):
            uid = get32(r + UID_AT)
            if uids.has(uid):
                ascending = ascending and (not out or uid > last)
                packed.put(<const char*>r, RECORD)
                words = get64(r + KEYWORDS_AT)
                if words != before or not out:
                    keywords.add(words)
                    before = words
                out.append(uid)
                last = uid
            r += step
    if ascending:
        return packed.take(), out, keywords
    records = packed.take()  # of damaged pages: the last record of each message counts
    every = {uid: records[i * RECORD : (i + 1) * RECORD] for i, uid in enumerate(out)}
    out = sorted(every)
    return b"".join([every[uid] for uid in out]), out, keywords


def copied(const unsigned char[::1] packed, uint32_t first, uint64_t modseq, dict keywords not None, uint32_t saved):
    cdef Py_ssize_t count = packed.shape[0] // RECORD, i
    cdef bytes out = PyBytes_FromStringAndSize(NULL, count * RECORD)
    cdef uint8_t* r = <uint8_t*>PyBytes_AS_STRING(out)
    cdef uint64_t words
    if packed.shape[0] % RECORD:
        raise ValueError("these are no records")
    if count:
        memcpy(r, &packed[0], count * RECORD)
    for i in range(count):
        set32(r + UID_AT, first + <uint32_t>i)
        set64(r + MODSEQ_AT, modseq)
        words = get64(r + KEYWORDS_AT)
        if words:
            set64(r + KEYWORDS_AT, keywords[words])
        set32(r + SAVED_AT, saved)
        r += RECORD
    return out


def tally(const unsigned char[::1] packed):
    cdef Py_ssize_t i
    cdef int unseen = 0, deleted = 0
    cdef uint64_t size = 0
    cdef const uint8_t* r
    for i in range(packed.shape[0] // RECORD):
        r = &packed[i * RECORD]
        unseen += get32(r + FLAGS_AT) & SEEN == 0
        deleted += get32(r + FLAGS_AT) & DELETED != 0
        size += get32(r + SIZE_AT)
    return unseen, deleted, size


def update(const unsigned char[::1] page, UidSet uids not None, int mode, uint32_t flags, uint64_t keywords,
           uint64_t modseq, uint64_t unchanged_since):
    cdef uint8_t tmp[RECORD * SPAN]
    cdef Py_ssize_t count, step, i
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef uint8_t* r
    cdef uint32_t uid, old, new
    cdef uint64_t okw, nkw
    cdef int unseen = 0, deleted = 0
    cdef bint touched = False
    cdef list changed = [], same = [], refused = []
    for i in range(count):
        r = tmp + i * RECORD
        memcpy(r, p + HEAD + i * step, RECORD)
        uid = get32(r + UID_AT)
        if not uids.has(uid):
            continue
        if get64(r + MODSEQ_AT) > unchanged_since:
            refused.append(uid)
            continue
        old = get32(r + FLAGS_AT)
        okw = get64(r + KEYWORDS_AT)
        if mode == 0:
            new = flags
            nkw = keywords
        elif mode > 0:
            new = old | flags
            nkw = okw | keywords
        else:
            new = old & ~flags
            nkw = okw & ~keywords
        if new == old and nkw == okw:
            same.append(uid)
            continue
        set32(r + FLAGS_AT, new)
        set64(r + MODSEQ_AT, modseq)
        set64(r + KEYWORDS_AT, nkw)
        unseen += <int>(old & SEEN != 0) - <int>(new & SEEN != 0)
        deleted += <int>(new & DELETED != 0) - <int>(old & DELETED != 0)
        touched = True
        changed.append(uid)
    return (finish(tmp, count, get64(p + HIGHEST_AT)) if touched else None), changed, same, refused, unseen, deleted


def remove(const unsigned char[::1] page, UidSet uids not None, uint32_t required):
    cdef uint8_t tmp[RECORD * SPAN]
    cdef Py_ssize_t count, step, i, kept = 0
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef const uint8_t* r
    cdef uint32_t uid, f
    cdef int unseen = 0, deleted = 0
    cdef uint64_t size = 0
    cdef list gone = []
    for i in range(count):
        r = p + HEAD + i * step
        uid = get32(r + UID_AT)
        f = get32(r + FLAGS_AT)
        if uids.has(uid) and f & required == required:
            gone.append(uid)
            unseen += f & SEEN == 0
            deleted += f & DELETED != 0
            size += get32(r + SIZE_AT)
        else:
            memcpy(tmp + kept * RECORD, r, RECORD)
            kept += 1
    return finish(tmp, kept, get64(p + HIGHEST_AT)), gone, unseen, deleted, size


def records(const unsigned char[::1] page):
    cdef Py_ssize_t count, step, i
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef const uint8_t* r
    cdef list out = []
    for i in range(count):
        r = p + HEAD + i * step
        out.append((get32(r + UID_AT), get32(r + FLAGS_AT), get64(r + MODSEQ_AT), get64(r + KEYWORDS_AT), <int64_t>get64(r + DATE_AT), get32(r + SIZE_AT),
                    get32(r + SAVED_AT)))
    return out


def changed_since(const unsigned char[::1] page, UidSet within not None, uint64_t modseq):
    cdef Py_ssize_t count, step, i
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef const uint8_t* r
    cdef list out = []
    if get64(p + HIGHEST_AT) <= modseq:
        return out
    for i in range(count):
        r = p + HEAD + i * step
        if get64(r + MODSEQ_AT) > modseq and within.has(get32(r + UID_AT)):
            out.append(get32(r + UID_AT))
    return out


def sizes(const unsigned char[::1] page, UidSet within not None):
    cdef Py_ssize_t count, step, i
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef const uint8_t* r
    cdef list out = []
    for i in range(count):
        r = p + HEAD + i * step
        if within.has(get32(r + UID_AT)):
            out.append(get32(r + SIZE_AT))
    return out


def listed(pages):
    cdef Out uids = Out(4096), sizes = Out(4096)
    cdef const unsigned char[::1] page
    cdef const uint8_t* r
    cdef Py_ssize_t count, step, i
    cdef uint32_t number
    for one in pages:
        page = one
        r = open_page(page, &count, &step) + HEAD
        for i in range(count):
            number = get32(r + UID_AT)
            uids.put(<const char*>&number, sizeof(number))
            number = get32(r + SIZE_AT)
            sizes.put(<const char*>&number, sizeof(number))
            r += step
    return uids.take(), sizes.take()


# ---------------------------------------------------------------- search over index fields

cdef enum:
    STACK = 128


cdef uint32_t matches(const uint8_t* r, Py_ssize_t count, Py_ssize_t step, int64_t op, int64_t a, int64_t b) noexcept nogil:
    """A bit for each record of which a comparison is true."""
    cdef uint32_t out = 0
    cdef Py_ssize_t i
    if op == OP_ALL:
        return <uint32_t>(((<uint64_t>1) << count) - 1)
    for i in range(count):
        if op == OP_FLAGS:
            out |= <uint32_t>((get32(r + FLAGS_AT) & <uint32_t>a) == <uint32_t>b) << i
        elif op == OP_KEYWORD:
            out |= <uint32_t>((get64(r + KEYWORDS_AT) >> a) & 1) << i
        elif op == OP_LARGER:
            out |= <uint32_t>(get32(r + SIZE_AT) > a) << i
        elif op == OP_SMALLER:
            out |= <uint32_t>(get32(r + SIZE_AT) < a) << i
        elif op == OP_DATE:
            out |= <uint32_t>(a <= <int64_t>get64(r + DATE_AT) < b) << i
        elif op == OP_SAVED:
            out |= <uint32_t>(a <= get32(r + SAVED_AT) < b) << i
        else:
            out |= <uint32_t>(get64(r + MODSEQ_AT) >= <uint64_t>a) << i
        r += step
    return out


cdef uint32_t members(const uint8_t* r, Py_ssize_t count, Py_ssize_t step, UidSet uids) noexcept nogil:
    """A bit for each record whose UID is in the set."""
    cdef uint32_t out = 0, first, last
    cdef Py_ssize_t i
    if not count:
        return 0
    first, last = get32(r + UID_AT), get32(r + (count - 1) * step + UID_AT)
    i = uids.find(first)
    if i >= 0 and last - uids.start[i] < uids.count[i]:
        return <uint32_t>(((<uint64_t>1) << count) - 1)
    for i in range(count):
        out |= <uint32_t>uids.has(get32(r + UID_AT)) << i
        r += step
    return out


def search(found_pages, UidSet within not None, const int64_t[::1] program, list sets not None):
    cdef list out = []
    cdef const unsigned char[::1] page
    for page in found_pages:
        search_one(page, within, program, sets, out)
    return out


cdef int search_one(const unsigned char[::1] page, UidSet within, const int64_t[::1] program, list sets,
                    list out) except -1:
    cdef Py_ssize_t count, step, i, k, n = program.shape[0] // 3
    cdef const uint8_t* p = open_page(page, &count, &step)
    cdef const uint8_t* r = p + HEAD
    cdef uint32_t stack[STACK]
    cdef uint32_t found
    cdef int sp = 0
    cdef int64_t op, a
    cdef UidSet one
    for k in range(n):
        op = program[3 * k]
        a = program[3 * k + 1]
        if op < OP_NOT or op == OP_SAVED:
            if sp == STACK:
                raise ValueError("search program is nested too deeply")
            if op < 0 or (op == OP_KEYWORD and not 0 <= a < 64) or (op == OP_UIDS and not 0 <= a < len(sets)):
                raise ValueError("search program has an operation that there is not")
            if op == OP_UIDS:
                one = <UidSet?>sets[a]
                stack[sp] = members(r, count, step, one)
            else:
                stack[sp] = matches(r, count, step, op, a, program[3 * k + 2])
            sp += 1
        elif op == OP_NOT:
            if sp < 1:
                raise ValueError("search program lacks an operand")
            stack[sp - 1] = ~stack[sp - 1]
        else:
            if sp < 2:
                raise ValueError("search program lacks an operand")
            sp -= 1
            if op == OP_AND:
                stack[sp - 1] &= stack[sp]
            else:
                stack[sp - 1] |= stack[sp]
    if sp != 1:
        raise ValueError("search program leaves no single answer")
    found = stack[0] & members(r, count, step, within)
    for i in range(count):
        if found >> i & 1:
            out.append(get32(r + i * step + UID_AT))
    return 0
