"""What a transaction changed, as a record of the journal has it: one entry for each row or file (durable.journal).

``Record`` writes the entries of one transaction, ``read`` reads them back. ValueError for octets that are no entries.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from fastmail._core.octets cimport get16, get32, set16, set32

cdef enum:  # an entry: its head, the key, the value; numbers are little-endian
    KIND_AT = 0      # u8
    TABLE_AT = 1     # u8
    KEY_AT = 2       # u16: octets of the key
    VALUE_AT = 4     # u32: octets of the value
    HEAD = 8         # octets of the head

cdef enum:
    SAME = 8         # what stands for octets that an earlier entry ends with: its number (u32), how many octets (u32)
    LENGTH_AT = 4    # where the second of the two is
    C_PUT = 1
    C_DELETE = 2
    C_CLEAR = 3
    C_MADE = 4
    C_PIECE = 5
    C_LINKED = 6
    C_AGAIN = 0x80

PUT, DELETE, CLEAR = C_PUT, C_DELETE, C_CLEAR  # kinds of entries: of rows
MADE, PIECE, LINKED = C_MADE, C_PIECE, C_LINKED  # and of files
AGAIN = C_AGAIN  # added to the kind: the value ends as that of an earlier entry with content


cdef inline void put_head(uint8_t* p, int kind, int table, Py_ssize_t keys, Py_ssize_t values) noexcept:
    p[KIND_AT] = <uint8_t>kind
    p[TABLE_AT] = <uint8_t>table
    set16(p + KEY_AT, <unsigned short>keys)
    set32(p + VALUE_AT, <uint32_t>values)


cdef class Record:
    """Entries in their order. Small ones are copied, long content is kept as it is until the record is written."""

    def __cinit__(self):
        self.small = bytearray()
        self.large = []
        self.known = {}

    cpdef add(self, int kind, int table, key, value=b""):
        """An entry without long content."""
        cdef Py_buffer k, v
        if type(key) is bytes and type(value) is bytes:  # nearly always
            self.put(kind, table, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), PyBytes_AS_STRING(value),
                     PyBytes_GET_SIZE(value))
            return
        PyObject_GetBuffer(key, &k, PyBUF_SIMPLE)
        try:
            PyObject_GetBuffer(value, &v, PyBUF_SIMPLE)
            try:
                self.put(kind, table, <const char*>k.buf, k.len, <const char*>v.buf, v.len)
            finally:
                PyBuffer_Release(&v)
        finally:
            PyBuffer_Release(&k)

    cdef int put(self, int kind, int table, const char* key, Py_ssize_t keys, const char* value,
                 Py_ssize_t values) except -1:
        cdef Py_ssize_t at = PyByteArray_GET_SIZE(self.small)
        cdef uint8_t* p
        if keys > 0xFFFF or values > 0xFFFFFFFF:
            raise OverflowError("too long for an entry")
        PyByteArray_Resize(self.small, at + HEAD + keys + values)
        p = <uint8_t*>PyByteArray_AS_STRING(self.small) + at
        put_head(p, kind, table, keys, values)
        memcpy(p + HEAD, key, keys)
        memcpy(p + HEAD + keys, value, values)
        return 0

    def add_content(self, int kind, bytes key not None, bytes before not None, content not None):
        """An entry whose value may be long: ``before``, then the buffers of ``content``. Of several that end with the
        same object only the first has it."""
        last = content[len(content) - 1] if len(content) else b""
        cdef Py_ssize_t size = len(last)
        if len(content) > 1:
            before += b"".join(content[: len(content) - 1])
        number = self.known.get(id(last))
        self.contents += 1
        if number is not None:
            self.add(kind | AGAIN, 0, key, before + (<Py_ssize_t>number).to_bytes(4, "little") + size.to_bytes(4, "little"))
            return
        self.known[id(last)] = self.contents - 1
        self.add(kind, 0, key, before)
        cdef Py_ssize_t at = PyByteArray_GET_SIZE(self.small) - HEAD - len(key) - len(before)
        put_head(<uint8_t*>PyByteArray_AS_STRING(self.small) + at, kind, 0, len(key), len(before) + size)
        self.large.append(self.small)
        self.large.append(last)  # which keeps the object, and with it its identity
        self.before += PyByteArray_GET_SIZE(self.small) + size
        self.small = bytearray()

    def __bool__(self):
        return PyByteArray_GET_SIZE(self.small) > 0 or len(self.large) > 0

    def body(self):
        """(its parts, octets in all)."""
        return [*self.large, self.small], self.before + PyByteArray_GET_SIZE(self.small)


cdef object same_end(value, list contents):
    """A value that ends as an earlier one does, written out."""
    cdef const uint8_t[::1] raw = value
    cdef Py_ssize_t before = raw.shape[0] - SAME
    cdef uint32_t number, length
    if before < 0:
        raise ValueError("an entry is too short")
    number, length = get32(&raw[before]), get32(&raw[before + LENGTH_AT])
    if number >= <Py_ssize_t>len(contents) or length > <Py_ssize_t>len(contents[number]):
        raise ValueError("an entry refers to none before it")
    end = contents[number]
    return memoryview(bytes(value[:before]) + bytes(end[len(end) - length :]))


def read(body not None, tuple tables not None, bint rows=True):
    cdef const uint8_t[::1] raw = body
    cdef Py_ssize_t at = 0, size = raw.shape[0], keys, values
    cdef int kind, table
    cdef list out = [], contents = []
    while at < size:
        if at + HEAD > size:
            raise ValueError("an entry is cut off")
        kind, table = raw[at + KIND_AT], raw[at + TABLE_AT]
        keys, values = get16(&raw[at + KEY_AT]), get32(&raw[at + VALUE_AT])
        at += HEAD
        if at + keys + values > size:
            raise ValueError("an entry is cut off")
        if kind == 0:
            raise ValueError("an entry has no kind")
        if kind <= C_CLEAR:
            if rows:
                name = tables[table] if table < len(tables) else ""
                out.append((kind, name, bytes(body[at : at + keys]), body[at + keys : at + keys + values]))
        else:
            value = body[at + keys : at + keys + values]
            if kind & C_AGAIN:
                kind, value = kind - C_AGAIN, same_end(value, contents)
            if kind == C_MADE or kind == C_PIECE:
                contents.append(value)
            out.append((kind, "", bytes(body[at : at + keys]), value))
        at += keys + values
    return out
