# One walk over the lines of a header, for compiled readers; see header.pyx.
#   Line  start  its first octet;  name  behind the last octet of its name;  value  behind its colon;
#         end    behind its last line, continuations among them
#   An empty line, and the end of the data, are END: start and end are the same octet.
cdef enum Kind:
    END, FIELD, BROKEN

cdef struct Line:
    const char* start
    const char* name
    const char* value
    const char* end

cdef Kind next_line(const char* p, const char* end, Line* line) noexcept nogil
