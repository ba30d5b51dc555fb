# What compiled readers of summaries use.
#   rest     where the trail begins, which the store keeps after a summary: its length where there is none
#   Entered  what the account log and the tables of ids get for messages of a mailbox, one after the other
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastmail._core.index cimport NAMED
from fastmail._core.octets cimport Out

cdef Py_ssize_t rest(const uint8_t* p, Py_ssize_t n) noexcept nogil

cdef class Entered:
    cdef bint created
    cdef object slow
    cdef Out log
    cdef list places
    cdef list members
    cdef list others
    cdef uint8_t row[NAMED]  # account, id, mailbox, UID
    cdef int add(self, Py_ssize_t number, uint32_t uid, const uint8_t* p, Py_ssize_t n, uint64_t modseq) except -1
    cdef int enter(self, list rows, const uint8_t* ident) except -1
    cdef tuple done(self)
