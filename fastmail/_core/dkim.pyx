"""Canonical forms of DKIM (RFC 6376 3.4): bodies as they come in, header fields, and which fields a signature covers;
and tag lists (3.2), which each signature and key record is.

A line ends with CRLF, or with LF as content is kept here; both are CRLF in what comes out. A CR elsewhere is a
character like any other. A body may be cut anywhere: what a cut leaves open (a CR, white space, empty lines) is a few
numbers, so the result is the same.

Promise: linear in what is given, and no longer than twice that and what was left open; header fields of a message are
walked once, however many signatures name them.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memchr, memcmp

from fastmail._core.header cimport END, FIELD, Kind, Line, next_line
from fastmail._core.octets cimport Out, lower

cdef enum:
    KEPT = 65536   # octets that a body keeps between two takes
    MOST = 10000   # fields of a header that are looked at
    BLOCK = 4096   # octets of a body that are looked through at once for white space that relaxed changes
    STEP = 64      # of these in one go: a fixed number, so that the compiler makes vector instructions of it
    TAGS = 100     # of a list

cdef inline bint wsp(char c) noexcept nogil:
    return c == 32 or c == 9

cdef inline bint space(char c) noexcept nogil:
    """White space of tag lists, which are folded."""
    return c == 32 or c == 9 or c == 13 or c == 10


cdef bint tidy(const unsigned char* p, const unsigned char* end, const unsigned char* stop) noexcept nogil:
    """Is all white space of p .. end as relaxed has it, single spaces with a character behind each? ``stop``: up to
    where one may look for that character."""
    cdef unsigned char odd = 0
    cdef int i
    while end - p >= STEP and stop - p > STEP:
        for i in range(STEP):
            odd |= (p[i] == 9) | ((p[i] == 32) & (p[i + 1] <= 32))
        if odd:
            return False
        p += STEP
    while p < end:
        if p[0] == 9 or (p[0] == 32 and (p + 1 == stop or p[1] <= 32)):
            return False
        p += 1
    return True


cdef class Body:
    """A body on its way into a hash; ``relaxed`` or simple."""
    cdef Out out
    cdef bint relaxed
    cdef bint as_it_is    # white space stays: it is simple, or none of this block has to change
    cdef bint held_cr     # the last octet was a CR
    cdef bint space       # relaxed: white space came and nothing behind it in this line
    cdef Py_ssize_t ends  # line ends that came since the last character
    cdef bint any         # a character came
    cdef readonly unsigned long long size  # octets that came out

    def __cinit__(self, bint relaxed):
        self.out = Out(4096)
        self.relaxed = relaxed
        self.as_it_is = not relaxed

    cdef int text(self, const char* p, Py_ssize_t n) except -1 nogil:
        """Characters of a line, not all of them white space when relaxed."""
        while self.ends:
            self.out.put("\r\n", 2)
            self.ends -= 1
        if self.space:
            self.out.putc(32)
            self.space = False
        self.any = True
        return self.out.put(p, n)

    cdef int line(self, const char* p, const char* end) except -1 nogil:
        """A piece of a line, without its end."""
        cdef const char* q
        if p == end:
            return 0
        if self.as_it_is or (memchr(p, 32, end - p) == NULL and memchr(p, 9, end - p) == NULL):
            return self.text(p, end - p)
        while p < end:
            if wsp(p[0]):
                self.space = True
                p += 1
                continue
            q = p
            while True:  # up to white space that is more than one SP between two characters
                while q < end and not wsp(q[0]):
                    q += 1
                if q + 1 < end and q[0] == 32 and not wsp(q[1]):
                    q += 1
                    continue
                break
            self.text(p, q - p)
            p = q
        return 0

    cdef int ended(self) except -1 nogil:
        self.space = False
        self.ends += 1
        return 0

    cdef int take_in(self, const char* p, const char* end) except -1 nogil:
        cdef const char* q
        cdef char cr = 13
        if self.held_cr and p < end:
            self.held_cr = False
            if p[0] != 10:
                self.line(&cr, &cr + 1)
        while p < end:
            q = <const char*>memchr(p, 10, end - p)
            if q == NULL:
                if (end - 1)[0] == 13:
                    self.held_cr = True
                    end -= 1
                return self.line(p, end)
            self.line(p, q - 1 if q > p and (q - 1)[0] == 13 else q)
            self.ended()
            p = q + 1
        return 0

    cdef int take_blocks(self, const char* p, const char* end) except -1 nogil:
        """Most blocks need no change of their white space, which is seen faster than it is looked for in each line."""
        cdef const char* stop
        if not self.relaxed:
            return self.take_in(p, end)
        while p < end:
            stop = p + BLOCK if end - p > BLOCK else end
            self.as_it_is = not self.space and tidy(
                <const unsigned char*>p, <const unsigned char*>stop, <const unsigned char*>end
            )
            self.take_in(p, stop)
            p = stop
        return 0

    cdef bytes given(self):
        cdef bytes result = self.out.take()
        self.size += len(result)
        self.out.shrink(KEPT)
        return result

    def feed(self, const unsigned char[::1] data):
        cdef const char* p
        if data.shape[0]:
            p = <const char*>&data[0]
            with nogil:
                self.take_blocks(p, p + data.shape[0])
        return self.given()

    def finish(self):
        cdef char cr = 13
        if self.held_cr:
            self.held_cr = False
            self.line(&cr, &cr + 1)
        if self.any or not self.relaxed:
            self.out.put("\r\n", 2)
        return self.given()


cdef int simple_field(Out out, const char* p, const char* end) except -1 nogil:
    """A field as it is, with CRLF (RFC 6376 3.4.1)."""
    cdef const char* q
    while p < end:
        q = <const char*>memchr(p, 10, end - p)
        if q == NULL:
            out.put(p, end - p)
            return out.put("\r\n", 2)
        out.put(p, (q - 1 if q > p and (q - 1)[0] == 13 else q) - p)
        out.put("\r\n", 2)
        p = q + 1
    return 0


cdef int relaxed_field(Out out, const char* p, const char* colon, const char* end) except -1 nogil:
    """RFC 6376 3.4.2. A CR in front of a LF goes with it; one elsewhere is a character."""
    cdef bint space = False, any = False
    while p < colon:
        if not wsp(p[0]):
            out.putc(lower(p[0]))
        p += 1
    out.putc(58)
    p = colon + 1
    while p < end:
        if p[0] == 10 or (p[0] == 13 and p + 1 < end and p[1] == 10):
            p += 1
            continue
        if wsp(p[0]):
            space = True
        else:
            if space and any:
                out.putc(32)
            out.putc(p[0])
            space = False
            any = True
        p += 1
    return out.put("\r\n", 2)


def field(const unsigned char[::1] data, bint relaxed):
    cdef Out out = Out(512)
    cdef const char* p
    cdef const char* colon
    cdef const char* end
    if not data.shape[0]:
        raise ValueError("no field")
    p = <const char*>&data[0]
    end = p + data.shape[0]
    colon = <const char*>memchr(p, 58, end - p)
    if colon == NULL:
        raise ValueError("no field")
    if relaxed:
        relaxed_field(out, p, colon, end)
    else:
        simple_field(out, p, end)
    return out.take()


cdef class Fields:
    """The fields of a header, found once: which there are of each name, and their canonical forms."""
    cdef bytes data
    cdef dict places        # name in lower case: [(start, colon, end)]
    cdef readonly int count
    cdef readonly bint broken

    def __cinit__(self, bytes data not None):
        cdef const char* base = data
        cdef const char* p = base
        cdef const char* stop = p + len(data)
        cdef Line line
        cdef Kind kind
        cdef bytes name
        self.data = data
        self.places = {}
        while True:
            kind = next_line(p, stop, &line)
            if kind == END:
                break
            if kind == FIELD and self.count < MOST:
                name = line.start[: line.name - line.start]
                self.places.setdefault(name.lower(), []).append((p - base, line.value - 1 - base, line.end - base))
                self.count += 1
            else:
                self.broken = True
            p = line.end

    def named(self, bytes name not None):
        return [self.data[start:end] for start, _, end in self.places.get(name, ())]

    def number(self, bytes name not None):
        return len(self.places.get(name, ()))

    def names(self):
        return list(self.places)

    def canonical(self, names, bint relaxed):
        cdef Out out = Out(2048)
        cdef const char* base = self.data
        cdef dict used = {}
        cdef list places
        cdef Py_ssize_t start, colon, end
        cdef int at
        for name in names:
            places = self.places.get(name)
            if places is None:
                continue
            at = used.get(name, 0)
            if at >= len(places):
                continue
            used[name] = at + 1
            start, colon, end = places[len(places) - 1 - at]
            if relaxed:
                relaxed_field(out, base + start, base + colon, base + end)
            else:
                simple_field(out, base + start, base + end)
        return out.take()


def tags(str text not None):
    cdef Py_ssize_t size
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &size)
    cdef const char* stop = p + size
    cdef const char* q = p
    cdef const char* end
    cdef const char* equals
    cdef dict found = {}
    cdef str name
    cdef int count = 0
    while True:
        q = <const char*>memchr(q, 59, stop - q)
        if q == NULL:
            break
        q += 1
        count += 1
    if count > TAGS:
        raise ValueError(f"more than {TAGS} tags")
    while True:
        q = <const char*>memchr(p, 59, stop - p)
        end = stop if q == NULL else q
        while p < end and space(p[0]):
            p += 1
        while end > p and space((end - 1)[0]):
            end -= 1
        if p == end:
            if q == NULL:
                return found
            raise ValueError("an empty tag")
        equals = <const char*>memchr(p, 61, end - p)
        name = tag_name(p, equals) if equals != NULL else None
        if name is None:
            raise ValueError("a part is no tag")
        if name in found:
            raise ValueError(f"{name[:20]}= is there twice")
        p = equals + 1
        while p < end and space(p[0]):
            p += 1
        found[name] = p[: end - p].decode("utf-8")
        if q == NULL:
            return found
        p = q + 1


def plain(str text not None):
    cdef Py_ssize_t size
    cdef const char* p = PyUnicode_AsUTF8AndSize(text, &size)
    cdef const char* stop = p + size
    cdef const char* q
    cdef Out out = Out(size)
    while p < stop:
        q = p
        while q < stop and not space(q[0]):
            q += 1
        out.put(p, q - p)
        p = q + 1
    return text if out.len == size else out.buf[: out.len].decode("utf-8")


cdef str tag_name(const char* p, const char* end):
    """The name in front of the equals sign at ``end``; None for what is no name."""
    cdef const char* q
    while end > p and space((end - 1)[0]):
        end -= 1
    q = p
    while q < end and (97 <= lower(q[0]) <= 122 or (q > p and (48 <= q[0] <= 57 or q[0] == 95))):
        q += 1
    return p[: end - p].decode("ascii") if q == end and p < end else None


def without(bytes data not None, bytes name not None):
    cdef const char* base = data
    cdef const char* stop = base + len(data)
    cdef const char* p = <const char*>memchr(base, 58, len(data))
    cdef const char* q
    cdef const char* end
    cdef const char* equals
    if p == NULL:
        raise ValueError("no field")
    p += 1
    while True:
        q = <const char*>memchr(p, 59, stop - p)
        end = stop if q == NULL else q
        equals = <const char*>memchr(p, 61, end - p)
        if equals != NULL and is_tag(p, equals, name):
            if q == NULL:  # the line end of the field is not part of the value
                if end - 1 > equals and (end - 1)[0] == 10:
                    end -= 1
                    if end - 1 > equals and (end - 1)[0] == 13:
                        end -= 1
            return data[: equals + 1 - base] + data[end - base :]
        if q == NULL:
            return data
        p = q + 1


cdef bint is_tag(const char* p, const char* end, bytes name):
    while p < end and space(p[0]):
        p += 1
    while end > p and space((end - 1)[0]):
        end -= 1
    return end - p == len(name) and memcmp(p, <const char*>name, end - p) == 0
