"""Immutable sets of UIDs as runs: a session's view of a mailbox and every UID or sequence set (RFC 9051 9).

Promise: memory and time grow with the number of runs, never with the numbers in them, so ``1:4294967295`` costs
what ``1`` costs. Numbers are 1 to 4294967295. Fails with ValueError for input that is not sorted where it must be.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastmail._core.octets cimport Out

cdef extern from *:
    """
    static inline int fm_ctz(unsigned long long v) { return __builtin_ctzll(v); }
    """
    int ctz "fm_ctz"(uint64_t v) nogil

cdef uint32_t TOP = 0xFFFFFFFF


cdef class UidSet:
    def __cinit__(self):
        self.start = self.count = self.before = NULL
        self.runs = self.cap = 0
        self.total = 0

    def __dealloc__(self):
        free(self.start)

    cdef int push(self, uint32_t uid, uint32_t n) except -1 nogil:
        """Add a run behind or touching the last one; the caller keeps the order."""
        cdef uint32_t* p
        cdef Py_ssize_t cap, i
        if n == 0:
            return 0
        if self.runs and self.start[self.runs - 1] + self.count[self.runs - 1] == uid:
            self.count[self.runs - 1] += n
            self.total += n
            return 0
        if self.runs == self.cap:
            cap = self.cap * 2 if self.cap else 2
            p = <uint32_t*>malloc(cap * 12)
            if p == NULL:
                with gil:
                    raise MemoryError()
            for i in range(self.runs):
                p[i] = self.start[i]
                p[cap + i] = self.count[i]
                p[2 * cap + i] = self.before[i]
            free(self.start)
            self.start = p
            self.count = p + cap
            self.before = p + 2 * cap
            self.cap = cap
        self.start[self.runs] = uid
        self.count[self.runs] = n
        self.before[self.runs] = self.total
        self.runs += 1
        self.total += n
        return 0

    cdef Py_ssize_t find(self, uint32_t uid) noexcept nogil:
        """Index of the last run that starts at or before uid, or -1."""
        cdef Py_ssize_t lo = 0, hi = self.runs, mid
        while lo < hi:
            mid = (lo + hi) // 2
            if self.start[mid] <= uid:
                lo = mid + 1
            else:
                hi = mid
        return lo - 1

    cdef bint has(self, uint32_t uid) noexcept nogil:
        cdef Py_ssize_t i = self.find(uid)
        return i >= 0 and uid - self.start[i] < self.count[i]

    cdef uint32_t seq_of(self, uint32_t uid) noexcept nogil:
        cdef Py_ssize_t i = self.find(uid)
        if i < 0 or uid - self.start[i] >= self.count[i]:
            return 0
        return self.before[i] + (uid - self.start[i]) + 1

    # ---- building

    @staticmethod
    def of(uids):
        """From ascending, distinct numbers."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef uint32_t last = 0, uid
        for item in uids:
            uid = item
            if uid <= last:
                raise ValueError("numbers must ascend")
            s.push(uid, 1)
            last = uid
        return s

    @staticmethod
    def of_ranges(ranges, uint32_t star=0):
        """From a flat (lo, hi, lo, hi, ...) in any order, overlapping or reversed; 0 stands for ``*`` = star."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef uint32_t lo, hi, end = 0
        cdef list pairs = []
        cdef Py_ssize_t i
        for i in range(0, len(ranges), 2):
            lo = ranges[i]
            hi = ranges[i + 1]
            if lo == 0:
                lo = star
            if hi == 0:
                hi = star
            if lo > hi:
                lo, hi = hi, lo
            if hi == 0:
                continue
            pairs.append((lo if lo else 1, hi))
        pairs.sort()
        for pair in pairs:
            lo = pair[0]
            hi = pair[1]
            if s.runs:
                if hi <= end:
                    continue
                if lo <= end:
                    lo = end + 1
            s.push(lo, hi - lo + 1)
            end = hi
        return s

    def plus_pages(self, pages, uint32_t above):
        """Self and every UID above ``above`` that the (first uid of page, presence bitmap) pairs hold."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef Py_ssize_t i
        cdef uint64_t bits
        cdef uint32_t base, low, n
        cdef int shift
        for i in range(self.runs):
            s.push(self.start[i], self.count[i])
        for base, bits in pages:
            shift = 0
            while bits:
                # one run of present UIDs at a time
                shift = ctz(bits)
                bits >>= shift
                base += shift
                shift = ctz(~bits) if ~bits else 64
                low = base
                n = shift
                if low <= above:
                    n = n - (above - low + 1) if above - low + 1 < n else 0
                    low = above + 1
                s.push(low, n)
                bits = bits >> shift if shift < 64 else 0
                base += shift
        return s

    def minus(self, UidSet other not None):
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef Py_ssize_t i, j = 0
        cdef uint64_t a, b, lo, hi
        for i in range(self.runs):
            a = self.start[i]
            b = a + self.count[i]
            while j < other.runs and <uint64_t>other.start[j] + other.count[j] <= a:
                j += 1
            while j < other.runs and other.start[j] < b:
                lo = other.start[j]
                hi = lo + other.count[j]
                if lo > a:
                    s.push(<uint32_t>a, <uint32_t>(lo - a))
                if hi >= b:
                    a = b
                    break
                a = hi
                j += 1
            if a < b:
                s.push(<uint32_t>a, <uint32_t>(b - a))
        return s

    def both(self, UidSet other not None):
        """Intersection."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef Py_ssize_t i = 0, j = 0
        cdef uint64_t a, b, c, d, lo, hi
        while i < self.runs and j < other.runs:
            a = self.start[i]
            b = a + self.count[i]
            c = other.start[j]
            d = c + other.count[j]
            lo = a if a > c else c
            hi = b if b < d else d
            if lo < hi:
                s.push(<uint32_t>lo, <uint32_t>(hi - lo))
            if b <= d:
                i += 1
            else:
                j += 1
        return s

    def plus(self, UidSet other not None):
        """Union."""
        cdef list flat = []
        cdef Py_ssize_t i
        for i in range(self.runs):
            flat.append(self.start[i])
            flat.append(self.start[i] + (self.count[i] - 1))
        for i in range(other.runs):
            flat.append(other.start[i])
            flat.append(other.start[i] + (other.count[i] - 1))
        return UidSet.of_ranges(flat)

    def at(self, UidSet seqs not None):
        """The UIDs at these sequence numbers; numbers past the end are left out."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef Py_ssize_t i, j = 0
        cdef uint64_t lo, hi, a, b
        for i in range(seqs.runs):
            lo = <uint64_t>seqs.start[i] - 1
            hi = lo + seqs.count[i]
            while j < self.runs and lo < hi:
                a = self.before[j]
                b = a + self.count[j]
                if b <= lo:
                    j += 1
                    continue
                if a >= hi:
                    break
                if b > hi:
                    b = hi
                if a < lo:
                    a = lo
                s.push(self.start[j] + <uint32_t>(a - self.before[j]), <uint32_t>(b - a))
                lo = b
        return s

    def seqs(self, UidSet uids not None):
        """The sequence numbers of those of ``uids`` that are in self, as a UidSet of numbers."""
        cdef UidSet s = UidSet.__new__(UidSet)
        cdef UidSet hit = self.both(uids)
        cdef Py_ssize_t i
        for i in range(hit.runs):
            s.push(self.seq_of(hit.start[i]), hit.count[i])
        return s

    # ---- asking

    def seq(self, uint32_t uid):
        return self.seq_of(uid)

    def uid(self, uint32_t seq):
        """The UID at this sequence number, or 0."""
        cdef Py_ssize_t lo = 0, hi = self.runs, mid
        if seq == 0 or seq > self.total:
            return 0
        while lo < hi:
            mid = (lo + hi) // 2
            if self.before[mid] < seq:
                lo = mid + 1
            else:
                hi = mid
        return self.start[lo - 1] + (seq - 1 - self.before[lo - 1])

    @property
    def first(self):
        return self.start[0] if self.runs else 0

    @property
    def last(self):
        return self.start[self.runs - 1] + (self.count[self.runs - 1] - 1) if self.runs else 0

    def __len__(self):
        return self.total

    def __bool__(self):
        return self.total != 0

    def __contains__(self, uid):
        return 0 < uid <= TOP and self.has(<uint32_t>uid)

    def __eq__(self, other):
        cdef UidSet o
        cdef Py_ssize_t i
        if not isinstance(other, UidSet):
            return NotImplemented
        o = <UidSet>other
        if self.runs != o.runs or self.total != o.total:
            return False
        for i in range(self.runs):
            if self.start[i] != o.start[i] or self.count[i] != o.count[i]:
                return False
        return True

    __hash__ = None

    def __iter__(self):
        cdef Py_ssize_t i
        cdef uint32_t k
        for i in range(self.runs):
            for k in range(self.count[i]):
                yield self.start[i] + k

    def ranges(self):
        cdef Py_ssize_t i
        return [(self.start[i], self.start[i] + (self.count[i] - 1)) for i in range(self.runs)]

    def size_in_memory(self):
        return 12 * self.cap + 64

    def octets(self):
        """As an IMAP sequence-set, ``1:3,5``; empty for the empty set."""
        cdef Out out = Out(32)
        cdef Py_ssize_t i
        for i in range(self.runs):
            if i:
                out.putc(b","[0])
            out.number(self.start[i])
            if self.count[i] > 1:
                out.putc(b":"[0])
                out.number(<uint64_t>self.start[i] + self.count[i] - 1)
        return out.take()

    def numbers(self):
        """Space-separated numbers, each one led by a space, as in ``* SEARCH 2 84 882``."""
        cdef Out out = Out(64)
        cdef Py_ssize_t i
        cdef uint32_t k
        for i in range(self.runs):
            for k in range(self.count[i]):
                out.putc(b" "[0])
                out.number(self.start[i] + k)
        return out.take()

    def __repr__(self):
        return "UidSet(" + self.octets().decode() + ")"


def in_order(numbers):
    """A sequence-set that keeps the order of ``numbers``; what ascends one by one becomes a range: ``5,1:3`` (RFC 5267
    3.2). Empty for none."""
    cdef Out out = Out(64)
    cdef uint32_t first = 0, last = 0, number
    cdef bint begun = False
    for item in numbers:
        number = item
        if begun and number == last + 1 and number:
            last = number
            continue
        if begun:
            put_range(out, first, last)
            out.putc(b","[0])
        first = last = number
        begun = True
    if begun:
        put_range(out, first, last)
    return out.take()


cdef int put_range(Out out, uint32_t first, uint32_t last) except -1:
    out.number(first)
    if last != first:
        out.putc(b":"[0])
        out.number(last)
    return 0
