"""Answers of name servers, read from the wire (RFC 1035 4.1, RFC 2181 5.4.1; RFC 2308 for negative ones).

Promise: no octet outside of the message is looked at, whatever it says. A name is at most 255 octets, and each pointer
of a compressed name leads further to the front, so that none goes in a circle. The order of the records does not
matter. What is no answer to the question is ValueError; what a name says is escaped, so that it can start no line of
its own.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t

from fastmail._core.octets cimport lower

cdef enum:
    HEADER = 12      # octets in front of the question
    FIXED = 10       # type, class, TTL and length of a record
    LONGEST = 255    # octets of a name (RFC 1035 2.3.4)
    LONGEST_LABEL = 63
    LINKS = 12       # aliases that are followed; name servers themselves follow about as many
    ESCAPED = 4      # octets of one that is written as \DDD
    A = 1
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    TLSA = 52
    INTERNET = 1

cdef struct Name:
    Py_ssize_t size
    uint8_t octets[LONGEST + 1]


cdef inline int get16be(const uint8_t* p) noexcept nogil:
    return (<int>p[0] << 8) | p[1]


cdef inline uint32_t get32be(const uint8_t* p) noexcept nogil:
    return (<uint32_t>get16be(p) << 16) | <uint32_t>get16be(p + 2)


cdef Py_ssize_t read_name(const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Name* name) noexcept nogil:
    """The name at ``at``, in lower case and without pointers; returns the offset behind it, or -1."""
    cdef Py_ssize_t behind = -1, lowest = at, target
    cdef int label, i
    name.size = 0
    while True:
        if at >= n:
            return -1
        label = p[at]
        if label >= 0xC0:
            if at + 1 >= n:
                return -1
            target = get16be(p + at) & 0x3FFF
            if behind < 0:
                behind = at + 2
            if target >= lowest:
                return -1
            at = lowest = target
            continue
        if label > LONGEST_LABEL or at + 1 + label > n or name.size + 1 + label > LONGEST:
            return -1
        name.octets[name.size] = <uint8_t>label
        for i in range(1, label + 1):
            name.octets[name.size + i] = <uint8_t>lower(<char>p[at + i])
        name.size += 1 + label
        at += 1 + label
        if label == 0:
            return at if behind < 0 else behind


cdef str text_of(const uint8_t* p, Py_ssize_t n):
    """A wire name as people write it, without the final dot: what is no letter, digit or usual sign as \\DDD."""
    cdef char out[(LONGEST + 1) * ESCAPED]
    cdef Py_ssize_t size = 0, at = 0
    cdef int label, i
    cdef uint8_t c
    while at < n:
        label = p[at]
        if label == 0:
            break
        if size:
            out[size] = b'.'
            size += 1
        for i in range(1, label + 1):
            c = p[at + i]
            if 33 <= c <= 126 and c != b'.' and c != b'\\':
                out[size] = <char>c
                size += 1
            else:
                out[size] = b'\\'
                out[size + 1] = <char>(48 + c // 100)
                out[size + 2] = <char>(48 + c // 10 % 10)
                out[size + 3] = <char>(48 + c % 10)
                size += ESCAPED
        at += 1 + label
    return out[:size].decode("ascii")


cdef bytes wire_of(Name* name):
    return PyBytes_FromStringAndSize(<char*>name.octets, name.size)


cdef object record_of(const uint8_t* p, Py_ssize_t n, Py_ssize_t at, Py_ssize_t end, int kind):
    """What a record says, ``at`` to ``end`` of the message; None where it has not its form."""
    cdef Name name
    cdef Py_ssize_t size = end - at
    cdef list strings
    if kind == A:
        return f"{p[at]}.{p[at + 1]}.{p[at + 2]}.{p[at + 3]}" if size == 4 else None
    if kind == AAAA:
        return <bytes>PyBytes_FromStringAndSize(<char*>p + at, 16) if size == 16 else None
    if kind == MX:
        if size < 3 or read_name(p, n, at + 2, &name) != end:
            return None
        return get16be(p + at), text_of(name.octets, name.size)
    if kind == PTR:
        return text_of(name.octets, name.size) if read_name(p, n, at, &name) == end else None
    if kind == TXT:
        strings = []
        while at < end:
            size = p[at]
            if at + 1 + size > end:
                return None
            strings.append(PyBytes_FromStringAndSize(<char*>p + at + 1, size))
            at += 1 + size
        return b"".join(strings) if strings else None
    if kind == TLSA:
        if size < 3:
            return None
        return p[at], p[at + 1], p[at + 2], PyBytes_FromStringAndSize(<char*>p + at + 3, size - 3)
    return PyBytes_FromStringAndSize(<char*>p + at, size)


def wire(str text not None):
    cdef bytes octets
    cdef list out = []
    for label in text.split("."):
        octets = label.encode("ascii")
        if not 1 <= len(octets) <= LONGEST_LABEL:
            raise ValueError("a label has 1 to 63 octets")
        out.append(bytes((len(octets),)) + octets.lower())
    out.append(b"\0")
    octets = b"".join(out)
    if len(octets) > LONGEST:
        raise ValueError("a name has 255 octets at most")
    return octets


def text(bytes name not None):
    cdef Name read
    cdef const uint8_t* p = name
    if read_name(p, len(name), 0, &read) != len(name):
        raise ValueError("no name")
    return text_of(read.octets, read.size)


def answer(const unsigned char[::1] data, bytes name not None, int kind):
    cdef Py_ssize_t n = data.shape[0], at = HEADER, end
    cdef const uint8_t* p
    cdef Name owner
    cdef int answers, behind, this, i, links
    cdef uint32_t ttl, least
    cdef dict aliases = {}, found = {}
    cdef list records
    cdef object value
    if n < HEADER:
        raise ValueError("it is too short")
    p = <const uint8_t*>&data[0]
    if get16be(p + 4) != 1:
        raise ValueError("it has not one question")
    at = read_name(p, n, at, &owner)
    if at < 0 or at + 4 > n or wire_of(&owner) != name or get16be(p + at) != kind or get16be(p + at + 2) != INTERNET:
        raise ValueError("it answers another question")
    at += 4
    answers = get16be(p + 6)
    behind = answers + get16be(p + 8)
    negative = -1
    for i in range(behind + get16be(p + 10)):  # all of it must be there, although what is additional does not count
        at = read_name(p, n, at, &owner)
        if at < 0 or at + FIXED > n:
            raise ValueError("a record is cut short")
        this = get16be(p + at)
        ttl = get32be(p + at + 4)
        if ttl > 0x7FFFFFFF:  # a sign bit: as if it were 0 (RFC 2181 8)
            ttl = 0
        end = at + FIXED + get16be(p + at + 8)
        if end > n:
            raise ValueError("a record is cut short")
        if get16be(p + at + 2) != INTERNET or i >= behind:
            at = end
            continue
        at += FIXED
        if i >= answers:
            if this == SOA and end - at >= 20:
                negative = min(ttl, get32be(p + end - 4))
        elif this == CNAME and kind != CNAME:
            value = wire_of(&owner)
            if read_name(p, n, at, &owner) != end:
                raise ValueError("an alias has no form")
            if aliases.setdefault(value, (wire_of(&owner), ttl))[0] != wire_of(&owner):
                raise ValueError("a name is an alias of two others")
        elif this == kind:
            value = record_of(p, n, at, end, kind)
            if value is None:
                raise ValueError("a record has no form")
            found.setdefault(wire_of(&owner), []).append((value, ttl))
        at = end
    least = 0x7FFFFFFF
    links = 0
    while name in aliases and name not in found:
        name, ttl = aliases[name]
        least = min(least, ttl)
        links += 1
        if links > LINKS:
            raise ValueError("its aliases do not end")
    records = []
    for value, ttl in found.get(name, ()):
        records.append(value)
        least = min(least, ttl)
    return get16be(p + 2), records, text_of(<const uint8_t*><char*>name, len(name)), (
        <object>least if records else negative
    )
