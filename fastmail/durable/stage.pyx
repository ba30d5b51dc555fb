"""Writes, names and links the files of a group of operations, in one call and without the GIL.

A file is written to its temporary path and then renamed or linked to its final path. A piece of a file that is open
already (a segment) is written at its offset; adjacent pieces are written in one call. Only what the caller asks for is
synced: the journal makes small content durable (see durable.journal). Larger content is synced here, content before
name, and so is the name of a link, because the file's earlier name may be removed next.

Promise: each file has its own errno. If one fails, its temporary file is removed here; the caller removes the final
one.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset, strcmp
from os import strerror

cdef extern from "stage.h" nogil:
    ctypedef struct iovec:
        void* iov_base
        size_t iov_len
    void fm_start_writing(int fd)
    int fm_set_mtime(int fd, int64_t s)
    int fm_write_all(int fd, iovec* v, int n, int64_t at)
    int c_close "close"(int fd)
    int c_fsync "fsync"(int fd)
    int c_fdatasync "fdatasync"(int fd)

cdef extern from "beneath.h" nogil:
    int fm_open(const char* path, int flags, int mode, int cached)
    ctypedef struct OpenDirectories "struct fm_open_directories":
        pass
    int fm_unlink(const char* path)
    int fm_create_at(OpenDirectories* p, const char* path, int mode)
    int fm_rename_at(OpenDirectories* p, const char* a, const char* b)
    int fm_link_at(OpenDirectories* p, const char* a, const char* b)
    void fm_begin(OpenDirectories* p)
    void fm_forget(OpenDirectories* p)
    int fm_sync_dir(const char* path)
    enum: O_RDONLY, O_NOFOLLOW

cdef enum:
    CHUNKS = 8           # buffers a file may have
    DIRECTORIES = 64     # directories remembered as synced; beyond that one may be synced twice, which is harmless
    RUN = 32             # pieces that are written in one call
    VECTORS = 256        # buffers of one write
    GAP = 8              # up to so many octets between two pieces are written along, as zeros

cdef struct File:
    const char* source       # where it is written (in tmp/), or what is linked when chunks is -1
    const char* final        # its final path
    const char* directory    # of final
    Py_ssize_t chunks
    Py_buffer chunk[CHUNKS]
    int64_t mtime            # of a piece: its offset; of a link: -1 where its content needs no sync
    bint piece               # fd was given, and stays open
    bint synced              # not by the journal
    int64_t size             # octets to be written
    int fd
    int error

cdef struct Run:             # adjacent pieces of one file
    int files
    int vectors
    int64_t end
    char nothing[GAP]
    File* file[RUN]
    iovec vector[RUN * (CHUNKS + 1)]


cdef void iovecs(File* f, iovec* v) noexcept nogil:
    """Fill in the buffers of a file as writev takes them."""
    cdef Py_ssize_t i
    for i in range(f.chunks):
        v[i].iov_base = f.chunk[i].buf
        v[i].iov_len = f.chunk[i].len


cdef void write_file(File* f, OpenDirectories* open) noexcept nogil:
    """Write the temporary file."""
    cdef iovec all_of_it[CHUNKS]
    f.fd = fm_create_at(open, f.source, 0o600)
    if f.fd < 0:
        f.error = errno
        return
    iovecs(f, all_of_it)
    f.error = fm_write_all(f.fd, all_of_it, <int>f.chunks, -1)
    if not f.error and f.mtime >= 0 and fm_set_mtime(f.fd, f.mtime):
        f.error = errno
    if f.synced and not f.error:
        fm_start_writing(f.fd)


cdef void write_run(Run* r) noexcept nogil:
    """Write adjacent pieces in one call."""
    cdef int error = fm_write_all(r.file[0].fd, r.vector, r.vectors, r.file[0].mtime) if r.files else 0
    cdef int i
    for i in range(r.files):
        r.file[i].error = error
    r.files = r.vectors = 0


cdef void write_pieces(File* file, Py_ssize_t n) noexcept nogil:
    """Write all pieces. Gaps of a few octets, which pad records to multiples of 8, are filled with zeros."""
    cdef Run run
    cdef Py_ssize_t i
    cdef int64_t gap
    cdef File* f
    run.files = run.vectors = 0
    run.end = 0
    memset(run.nothing, 0, GAP)
    for i in range(n):
        f = &file[i]
        if not f.piece:
            continue
        gap = f.mtime - run.end
        if run.files and (f.fd != run.file[0].fd or gap < 0 or gap >= GAP or run.files == RUN):
            write_run(&run)
        if run.files and gap:
            run.vector[run.vectors].iov_base = run.nothing
            run.vector[run.vectors].iov_len = gap
            run.vectors += 1
        iovecs(f, &run.vector[run.vectors])
        run.end = f.mtime + f.size
        run.vectors += <int>f.chunks
        run.file[run.files] = f
        run.files += 1
    write_run(&run)


cdef void sync_content(File* f) noexcept nogil:
    if f.chunks < 0 and not f.piece:
        if f.mtime < 0:
            return  # the journal has its content
        f.fd = fm_open(f.source, O_RDONLY | O_NOFOLLOW, 0, 0)
        if f.fd < 0:
            f.error = errno
            return
    if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)):
        f.error = errno


cdef void close_file(File* f) noexcept nogil:
    if not f.piece and f.fd >= 0:
        if c_close(f.fd) and not f.error and errno != EINTR:
            f.error = errno
        f.fd = -1


cdef void sync_names(File* file, Py_ssize_t n) noexcept nogil:
    """Sync each directory once. The first sync commits most names; the others find little left to do."""
    cdef const char* path[DIRECTORIES]
    cdef int result[DIRECTORIES]
    cdef int known = 0, k
    cdef Py_ssize_t i
    cdef File* f
    for i in range(n):
        f = &file[i]
        if f.error or f.piece or not f.synced:
            continue
        k = 0
        while k < known and strcmp(path[k], f.directory):
            k += 1
        if k < known:
            f.error = result[k]
            continue
        f.error = fm_sync_dir(f.directory)
        if known < DIRECTORIES:
            path[known] = f.directory
            result[known] = f.error
            known += 1


cdef void name_file(File* f, OpenDirectories* open) noexcept nogil:
    """Close the file, and give it its final name."""
    close_file(f)
    if not f.error:
        if fm_rename_at(open, f.source, f.final) if f.chunks >= 0 else fm_link_at(open, f.source, f.final):
            f.error = errno


cdef void write_all(File* file, Py_ssize_t n) noexcept nogil:
    """In this order: write contents, sync them, give the files their names, sync the names. A file that needs no sync
    has its name at once, while its directories are open."""
    cdef OpenDirectories open
    cdef Py_ssize_t i
    cdef File* f
    fm_begin(&open)
    for i in range(n):
        f = &file[i]
        if f.chunks >= 0 and not f.piece:
            write_file(f, &open)
            if not f.synced:
                name_file(f, &open)
    write_pieces(file, n)
    for i in range(n):
        if file[i].synced and not file[i].error:
            sync_content(&file[i])
    for i in range(n):
        f = &file[i]
        if not f.piece and (f.synced or f.chunks < 0):
            name_file(f, &open)
    fm_forget(&open)
    sync_names(file, n)
    for i in range(n):
        f = &file[i]
        if f.error and f.chunks >= 0 and not f.piece:
            fm_unlink(f.source)


cdef int write_some(int fd, iovec* vector, int n, int64_t* offset) noexcept nogil:
    cdef int64_t size = 0
    cdef int i, error
    for i in range(n):
        size += vector[i].iov_len
    error = fm_write_all(fd, vector, n, offset[0])
    offset[0] += size
    return error


def write_files(list writes not None):
    cdef Py_ssize_t n = len(writes), i, k
    cdef bytes a, b, c
    cdef File* file = <File*>calloc(n if n else 1, sizeof(File))
    if file == NULL:
        raise MemoryError()
    try:
        for i in range(n):
            a, b, c, chunks, mtime, fd, synced = writes[i]
            file[i].source = a
            file[i].final = b
            file[i].directory = c
            file[i].fd = fd
            file[i].piece = fd >= 0
            file[i].mtime = mtime
            file[i].synced = synced
            if chunks is None:
                file[i].chunks = -1
                continue
            if len(chunks) > CHUNKS:
                raise ValueError("too many chunks in one file")
            for k in range(len(chunks)):
                PyObject_GetBuffer(chunks[k], &file[i].chunk[k], PyBUF_SIMPLE)
                file[i].chunks = k + 1
                file[i].size += file[i].chunk[k].len
        with nogil:
            write_all(file, n)
        return [file[i].error for i in range(n)]
    finally:
        for i in range(n):
            for k in range(file[i].chunks):
                PyBuffer_Release(&file[i].chunk[k])
        free(file)


def write_at(int fd, list parts not None, int64_t offset):
    cdef Py_ssize_t n = len(parts), i, held = 0
    cdef Py_buffer* view = <Py_buffer*>calloc(n if n else 1, sizeof(Py_buffer))
    cdef iovec vector[VECTORS]
    cdef int error = 0, some
    if view == NULL:
        raise MemoryError()
    try:
        for i in range(n):
            PyObject_GetBuffer(parts[i], &view[i], PyBUF_SIMPLE)
            held += 1
        with nogil:
            i = 0
            while i < n and not error:
                some = 0
                while i < n and some < VECTORS:
                    if view[i].len:
                        vector[some].iov_base = view[i].buf
                        vector[some].iov_len = view[i].len
                        some += 1
                    i += 1
                error = write_some(fd, vector, some, &offset)
    finally:
        for i in range(held):
            PyBuffer_Release(&view[i])
        free(view)
    if error:
        raise OSError(error, strerror(error))
