"""SMTP command arguments: paths and ESMTP parameters (RFC 5321 4.1.2, RFC 6531 3.3, RFC 3461 4.2 xtext).

Promise: what comes back holds no CR, LF, NUL or other control, and is UTF-8 (RFC 6531 3.3); local-parts come
in their shortest quoting, domains in lower case. Fails with ValueError, whose text names what was expected and may be sent to the peer.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memchr

from fastmail._core.octets cimport lower

cdef enum:
    VERB = 16  # octets that a verb may have; the longest one known has 8
    PATH = 255  # octets of a path with one of its brackets (RFC 5321 4.5.3.1.3)
    MAILBOX = 320  # octets of a mailbox that is in no path: as many as a local-part and a domain by RFC 5321 4.5.3.1

cdef const char* ATEXT = b"!#$%&'*+-/=?^_`{|}~"

cdef bint atext(uint8_t c, bint utf8) noexcept nogil:
    cdef int i
    if 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122:
        return True
    if c >= 128:
        return utf8
    for i in range(19):
        if c == <uint8_t>ATEXT[i]:
            return True
    return False


cdef bint ldh(uint8_t c, bint utf8) noexcept nogil:
    return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == b'-' or c == b'_' or (utf8 and c >= 128)


cdef Py_ssize_t domain_end(const uint8_t* p, Py_ssize_t i, Py_ssize_t n, bint utf8) except -1:
    """Behind the Domain or address-literal at i."""
    cdef Py_ssize_t start = i, label = 0
    if i < n and p[i] == b'[':
        while i < n and p[i] != b']':
            if p[i] < 33 or p[i] > 126 or p[i] == b'\\':
                raise ValueError("bad address literal")
            i += 1
        if i >= n or i - start < 3:
            raise ValueError("bad address literal")
        return i + 1
    while i < n:
        if p[i] == b'.':
            if label == 0:
                raise ValueError("empty label in domain")
            label = 0
        elif ldh(p[i], utf8):
            label += 1
            if label > 63:
                raise ValueError("label of domain is longer than 63 octets")
        else:
            break
        i += 1
    if i == start or label == 0:
        raise ValueError("domain expected")
    if i - start > 255:
        raise ValueError("domain is longer than 255 octets")
    return i


cdef bint is_text(const uint8_t* p, Py_ssize_t n) except -1:
    """UTF-8 without the controls that are not ASCII: a reader may take U+0085, U+2028 and U+2029 for line ends."""
    cdef Py_ssize_t i
    for i in range(n):
        if p[i] > 127:
            break
    else:
        return True
    try:
        text = p[:n].decode("utf-8")
    except UnicodeDecodeError:
        return False
    for c in text:
        if 0x7f < <int>ord(c) < 0xa0 or 0x2028 <= <int>ord(c) <= 0x2029:
            return False
    return True


def next_command(data, Py_ssize_t start):
    cdef Py_buffer view  # a typed memoryview costs more than what is done here
    cdef const char* base
    cdef const char* q = NULL
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        base = <const char*>view.buf
        if 0 <= start < view.len:
            q = <const char*>memchr(base + start, 10, view.len - start)
        return None if q == NULL else command(base + start, q - (base + start), q + 1 - base)
    finally:
        PyBuffer_Release(&view)


cdef tuple command(const char* line, Py_ssize_t length, Py_ssize_t end):
    """What next_command returns of a line with LF at ``line[length]``."""
    cdef const char* gap
    cdef char verb[VERB]
    cdef Py_ssize_t size, i
    length -= 1  # now of the line without CRLF
    if length < 0 or line[length] != 13 or memchr(line, 13, length) != NULL or memchr(line, 0, length) != NULL:
        return end, None, b""
    while length and (line[length - 1] == 32 or line[length - 1] == 9):  # RFC 5321 4.1.1 asks to tolerate it
        length -= 1
    gap = <const char*>memchr(line, 32, length)
    size = length if gap == NULL else gap - line
    rest = b"" if gap == NULL else PyBytes_FromStringAndSize(gap + 1, length - size - 1)
    if size > VERB:  # no command
        return end, PyBytes_FromStringAndSize(line, size), rest
    for i in range(size):
        verb[i] = line[i] - 32 if 97 <= line[i] <= 122 else line[i]
    return end, PyBytes_FromStringAndSize(verb, size), rest


def parse_mailbox(data, Py_ssize_t start, bint utf8):
    cdef Py_buffer view
    cdef Py_ssize_t end
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        local, domain = mailbox(<const uint8_t*>view.buf, start, view.len, utf8, &end)
        return local, domain, end
    finally:
        PyBuffer_Release(&view)


cdef tuple mailbox(const uint8_t* p, Py_ssize_t start, Py_ssize_t n, bint utf8, Py_ssize_t* behind):
    """(local-part, domain) of the Mailbox at ``start``; ``behind``: the offset after it."""
    cdef Py_ssize_t i = start, a, length
    cdef bytearray local
    cdef bytes text
    cdef bint simple = True, word = False
    cdef Py_ssize_t end
    if start >= n:
        raise ValueError("address expected")
    if p[i] == b'"':
        local = bytearray()
        i += 1
        while i < n and p[i] != b'"':
            if p[i] == b'\\':
                i += 1
                if i >= n:
                    break
            if p[i] < 32 or p[i] == 127 or (p[i] >= 128 and not utf8):
                raise ValueError("character not allowed in quoted local-part")
            local.append(p[i])
            if p[i] == b'.':
                if not word:
                    simple = False
                word = False
            elif atext(p[i], utf8):
                word = True
            else:
                simple = False
            i += 1
        if i >= n:
            raise ValueError("closing quote expected in local-part")
        i += 1
        if not word:
            simple = False
        text = bytes(local)
    else:
        while i < n and (p[i] == b'.' or atext(p[i], utf8)):
            if p[i] == b'.':
                if not word:
                    raise ValueError("empty atom in local-part")
                word = False
            else:
                word = True
            i += 1
        if not word:
            raise ValueError("local-part expected" if i == start else "empty atom in local-part")
        text = PyBytes_FromStringAndSize(<const char*>p + start, i - start)
    if i >= n or p[i] != b'@':
        raise ValueError("@ and a domain expected")
    a = i + 1
    end = domain_end(p, a, n, utf8)
    # RFC 5321 4.5.3.1: 64 octets of a local-part are what everybody has to take, and no reason to refuse longer ones,
    # which senders make of their recipients' addresses (VERP, SRS) and of tokens.
    if end - start > MAILBOX:
        raise ValueError("address is longer than 320 octets")
    if not is_text(p + start, end - start):
        raise ValueError("address is not UTF-8, or has a control character")
    if not simple:
        text = b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    behind[0] = end
    return text, lowered(<const char*>p + a, end - a)


cdef bytes lowered(const char* p, Py_ssize_t n):
    cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
    cdef char* w = PyBytes_AS_STRING(out)
    cdef Py_ssize_t i
    for i in range(n):
        w[i] = lower(p[i])
    return out


def parse_path(data, Py_ssize_t start, bint utf8):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return path(<const uint8_t*>view.buf, start, view.len, utf8)
    finally:
        PyBuffer_Release(&view)


cdef tuple path(const uint8_t* p, Py_ssize_t start, Py_ssize_t n, bint utf8):
    """``<...>`` at start: ((local, domain) or None for ``<>``, offset behind it)."""
    cdef Py_ssize_t i = start
    if i >= n or p[i] != b'<':
        raise ValueError("< expected before the address")
    i += 1
    if i < n and p[i] == b'>':
        return None, i + 1
    if i < n and p[i] == b'@':
        # a source route is accepted and ignored (RFC 5321 C)
        while i < n and p[i] == b'@':
            i = domain_end(p, i + 1, n, utf8)
            if i < n and p[i] == b',':
                i += 1
                if i >= n or p[i] != b'@':
                    raise ValueError("@ expected in source route")
        if i >= n or p[i] != b':':
            raise ValueError(": expected after source route")
        i += 1
    found = mailbox(p, i, n, utf8, &i)
    if i >= n or p[i] != b'>':
        raise ValueError("> expected behind the address")
    if not is_text(p + start, i - start):
        raise ValueError("source route is not UTF-8, or has a control character")
    if i - start > PATH:
        raise ValueError("path is longer than 256 octets")
    return found, i + 1


def parse_params(data, Py_ssize_t start):
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return params(<const uint8_t*>view.buf, start, view.len) if start < view.len else []
    finally:
        PyBuffer_Release(&view)


cdef list params(const uint8_t* data, Py_ssize_t start, Py_ssize_t n):
    """`` KEY[=value]`` ...: a list of (KEY in capitals, value or b"")."""
    cdef Py_ssize_t i = start, a
    cdef list out = []
    while i < n:
        if data[i] != 32:
            raise ValueError("space expected before a parameter")
        while i < n and data[i] == 32:
            i += 1
        if i >= n:
            break
        a = i
        while i < n and (48 <= data[i] <= 57 or 65 <= data[i] <= 90 or 97 <= data[i] <= 122 or data[i] == b'-'):
            i += 1
        if i == a:
            raise ValueError("parameter name expected")
        key = bytes(data[a:i]).upper()
        value = b""
        if i < n and data[i] == b'=':
            i += 1
            a = i
            while i < n and data[i] > 32 and data[i] != b'=' and data[i] != 127:
                i += 1
            if i == a:
                raise ValueError("value expected behind =")
            value = bytes(data[a:i])
        out.append((key, value))
        if len(out) > 20:
            raise ValueError("too many parameters")
    return out


def reply_line(const unsigned char[::1] line):
    """One line of a reply (RFC 5321 4.2), with or without its line end: (code, is it the last one, offset of its
    text). ValueError when it does not begin with a code."""
    cdef Py_ssize_t n = line.shape[0]
    while n and (line[n - 1] == 13 or line[n - 1] == 10):
        n -= 1
    if n < 3 or not 50 <= line[0] <= 53 or not 48 <= line[1] <= 57 or not 48 <= line[2] <= 57:
        raise ValueError("reply has no code")
    if n > 3 and line[3] != 32 and line[3] != b'-':
        raise ValueError("reply has no space behind its code")
    return (line[0] - 48) * 100 + (line[1] - 48) * 10 + line[2] - 48, n == 3 or line[3] == 32, min(n, 4)


def to_xtext(bytes value not None):
    """Octets as RFC 3461 xtext."""
    cdef bytearray out = bytearray()
    cdef unsigned char c
    for c in value:
        if c < 33 or c > 126 or c == b'+' or c == b'=':
            out += b"+%02X" % c
        else:
            out.append(c)
    return bytes(out)


def xtext(bytes value not None):
    """Decode RFC 3461 xtext; ValueError for anything it does not allow."""
    cdef Py_ssize_t i = 0, n = len(value)
    cdef bytearray out = bytearray()
    cdef int c, v, k
    while i < n:
        c = value[i]
        if c == b'+':
            v = 0
            if i + 2 >= n:
                raise ValueError("two hexadecimal digits expected behind +")
            for k in range(1, 3):
                c = value[i + k]
                if 48 <= c <= 57:
                    v = v * 16 + c - 48
                elif 65 <= c <= 70:
                    v = v * 16 + c - 55
                else:
                    raise ValueError("two hexadecimal digits expected behind +")
            out.append(v)
            i += 3
        elif c < 33 or c > 126 or c == b'=':
            raise ValueError("character not allowed in xtext")
        else:
            out.append(c)
            i += 1
    return bytes(out)
