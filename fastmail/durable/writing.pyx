"""A write transaction that remembers what it changed, for the journal.

It has the methods of an LMDB transaction that writers use: ``get``, ``put``, ``delete``, ``pop``, ``cursor``, ``drop``
(of a table's rows), ``stat``, ``id``, ``commit``, ``abort``. Content that was written to files is recorded with
``made``, ``linked`` and ``piece``. Rows may be changed in no other way: a change that is not in the journal is lost
with the power.
"""

from fastmail._core.entries cimport Record
from fastmail.durable import journal

cdef int PUT = journal.PUT, DELETE = journal.DELETE, CLEAR = journal.CLEAR
cdef int MADE = journal.MADE, LINKED = journal.LINKED, PIECE = journal.PIECE


cdef bytes directory_of(bytes path):
    cdef Py_ssize_t at = path.rfind(b"/")
    return path[:at] if at > 0 else b"/"


cdef class Writing:
    """One write transaction; see the module and Environment."""
    cdef readonly object raw, get, stat, id
    cdef readonly Record record
    cdef readonly set directories  # directories in which files were made
    cdef object put_row, delete_row, commit_it
    cdef dict numbers
    cdef bytes base

    def __init__(self, raw, dict numbers not None, commit, bytes base not None):
        """``numbers``: number of each table in the journal's header; ``base``: paths below it are recorded relative."""
        self.raw = raw
        self.get = raw.get
        self.stat = raw.stat
        self.id = raw.id
        self.put_row = raw.put
        self.delete_row = raw.delete
        self.numbers = numbers
        self.commit_it = commit
        self.base = base
        self.record = Record()
        self.directories = set()

    def put(self, key, value, db, bint overwrite=True, bint append=False):
        if not self.put_row(key, value, True, overwrite, append, db):
            return False
        self.record.add(PUT, self.numbers[db], key, value)
        return True

    def delete(self, key, db):
        if not self.delete_row(key, b"", db):
            return False
        self.record.add(DELETE, self.numbers[db], key)
        return True

    cdef list delete_all(self, list keys, db):
        cdef Py_ssize_t i
        cdef int number = self.numbers[db]
        cdef list missing = []
        for i in range(len(keys)):
            key = keys[i]
            if self.delete_row(key, b"", db):
                self.record.add(DELETE, number, key)
            else:
                missing.append(i)
        return missing

    def pop(self, key, db):
        """Delete a row; what it was."""
        found = self.raw.pop(key, db)
        if found is not None:
            self.record.add(DELETE, self.numbers[db], key)
        return found

    def drop(self, db, bint delete=False):
        """Delete all rows of a table."""
        if delete:
            raise ValueError("tables stay; only their rows go")
        self.raw.drop(db, delete=False)
        self.record.add(CLEAR, self.numbers[db], b"")

    def cursor(self, db):
        return Cursor(self, db)

    cdef bytes relative(self, bytes path):
        return path[len(self.base) :] if path.startswith(self.base) else path

    def made(self, bytes path not None, mtime, content not None):
        """A file was written and has its name, and neither is synced. ``mtime`` in s, or -1."""
        self.directories.add(directory_of(path))
        self.record.add_content(MADE, self.relative(path), journal.I64.pack(mtime), content)

    def linked(self, bytes path not None, bytes source not None):
        """A file that was ``source`` has another name, which is synced; its content may not be."""
        self.record.add(LINKED, 0, self.relative(path), self.relative(source))

    def piece(self, bytes path not None, offset, content not None):
        """Octets were written to a file and are not synced."""
        self.directories.add(directory_of(path))
        self.record.add_content(PIECE, self.relative(path), journal.U64.pack(offset), content)

    def commit(self):
        self.commit_it(self)

    def abort(self):
        self.raw.abort()


cdef class Cursor:
    """A cursor of such a transaction. What only reads goes to LMDB's own."""
    cdef readonly object raw
    cdef Writing txn
    cdef int number

    def __init__(self, Writing txn not None, db):
        self.raw = txn.raw.cursor(db)
        self.txn = txn
        self.number = txn.numbers[db]

    # A method each: ``__getattr__`` would be asked only after the class had raised an error for each call.
    def first(self):
        return self.raw.first()

    def last(self):
        return self.raw.last()

    def next(self):
        return self.raw.next()

    def prev(self):
        return self.raw.prev()

    def set_key(self, key):
        return self.raw.set_key(key)

    def set_range(self, key):
        return self.raw.set_range(key)

    def key(self):
        return self.raw.key()

    def value(self):
        return self.raw.value()

    def item(self):
        return self.raw.item()

    def iternext(self, bint keys=True, bint values=True):
        return self.raw.iternext(keys, values)

    def iterprev(self, bint keys=True, bint values=True):
        return self.raw.iterprev(keys, values)

    def getmulti(self, keys):
        return self.raw.getmulti(keys)

    def delete(self):
        """Delete the row that it stands at, and go to the next; False when it stood nowhere."""
        key = bytes(self.raw.key())
        if not self.raw.delete():
            return False
        self.txn.record.add(DELETE, self.number, key)
        return True

    def putmulti(self, rows):
        """Put several rows."""
        cdef list every = list(rows)
        self.raw.putmulti(every)
        for key, value in every:
            self.txn.record.add(PUT, self.number, key, value)


def delete_all(txn, list keys not None, db):
    if type(txn) is Writing:
        return (<Writing>txn).delete_all(keys, db)
    return [i for i, key in enumerate(keys) if not txn.delete(key, db=db)]
