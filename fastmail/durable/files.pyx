"""Small file work without the GIL: open, rename, unlink, sync directories, read, compare, map, inotify (Linux).

Promise: the answer for a batch has an errno for each path; a failure of one does not affect the others. No symbolic
link is followed in the inner part of a guarded path (see durable.beneath). ``read_file`` follows no link in the last
part of any path, and reads only regular files.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN, EEXIST, EINTR, EIO, ENOSPC, ENOSYS, EOPNOTSUPP, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, strlen
from os import strerror
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, mmap, munmap

cdef extern from "beneath.h" nogil:
    int fm_open(const char* path, int flags, int mode, int cached)
    ctypedef struct OpenDirectories "struct fm_open_directories":
        pass
    int fm_open_in(const char* directory, int root, const char* name, int flags, int cached)
    int fm_root(const char* path, const char** rest, int cached)
    int fm_parent_of(const char* path, const char** name)
    int fm_unlink(const char* path)
    int fm_unlink_at(OpenDirectories* p, const char* path)
    int fm_rename_at(OpenDirectories* p, const char* a, const char* b)
    int fm_link_at(OpenDirectories* p, const char* a, const char* b)
    void fm_begin(OpenDirectories* p)
    void fm_forget(OpenDirectories* p)
    int fm_sync_dir(const char* path)
    enum: FM_CACHED, AT_FDCWD

cdef extern from "fcntl.h" nogil:
    enum: O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_PATH

cdef extern from "unistd.h" nogil:
    int c_close "close"(int fd)
    int c_syncfs "syncfs"(int fd)
    ssize_t c_read "read"(int fd, void* buf, size_t n)
    ssize_t c_write "write"(int fd, const void* buf, size_t n)
    ssize_t c_pread "pread"(int fd, void* buf, size_t n, int64_t at)

cdef extern from *:
    """
    #include <sys/uio.h>
    #include <sys/inotify.h>
    #ifndef RWF_NOWAIT
    #define RWF_NOWAIT 8
    #endif
    static ssize_t fm_read_nowait(int fd, void *buf, size_t n, long long at) {
        struct iovec v = { buf, n };
        return preadv2(fd, &v, 1, at, RWF_NOWAIT);
    }
    static long long fm_regular_size(int fd) {
        struct stat st;
        if (fstat(fd, &st)) return -1;
        return S_ISREG(st.st_mode) ? (long long)st.st_size : -2;
    }
    /* When a directory was last changed, in ns; -1 if it is not a directory. */
    static long long fm_directory_time(const char *path) {
        struct stat st;
        int failed, fd = fm_open(path, O_PATH | O_DIRECTORY, 0, 0);
        if (fd < 0) return -1;
        failed = fstat(fd, &st);
        close(fd);
        return failed ? -1 : (long long)st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
    }
    static int fm_watch(int fd, const char *path, unsigned mask) {
        char place[40];
        int wd, at = fm_open(path, O_PATH | O_DIRECTORY, 0, 0);
        if (at < 0) return -1;
        snprintf(place, sizeof place, "/proc/self/fd/%d", at);
        wd = inotify_add_watch(fd, place, mask);
        fm_close_quietly(at);
        return wd;
    }
    """
    ssize_t fm_read_nowait(int fd, void* buf, size_t n, int64_t at) nogil
    int64_t fm_regular_size(int fd) nogil
    int64_t fm_directory_time(const char* path) nogil
    int fm_watch(int fd, const char* path, uint32_t mask) nogil
    int c_inotify_init1 "inotify_init1"(int flags) nogil
    int c_inotify_rm "inotify_rm_watch"(int fd, int wd) nogil

cdef enum:
    TOUCHED = 16777216  # octets that one touch_batch reads, at most
    RENAME, LINK, UNLINK, SYNC

cdef list each(int work, tuple first, tuple second):
    """Do the work for each path; return a list of errno, or 0.

    The GIL is released once for the whole batch. Taking it back for each file would interrupt the thread that serves
    sessions as many times."""
    cdef Py_ssize_t count = len(first), i
    cdef const char** a = <const char**>malloc((count + 1) * sizeof(char*))
    cdef const char** b = <const char**>malloc((count + 1) * sizeof(char*))
    cdef int* codes = <int*>malloc((count + 1) * sizeof(int))
    cdef bytes path
    cdef OpenDirectories open
    fm_begin(&open)
    try:
        if a == NULL or b == NULL or codes == NULL:
            raise MemoryError
        for i in range(count):
            path = first[i]
            a[i] = path
            path = second[i]
            b[i] = path
        with nogil:
            for i in range(count):
                if work == RENAME:
                    codes[i] = errno if fm_rename_at(&open, a[i], b[i]) else 0
                elif work == LINK:
                    codes[i] = errno if fm_link_at(&open, a[i], b[i]) else 0
                elif work == UNLINK:
                    codes[i] = errno if fm_unlink_at(&open, a[i]) else 0
                else:
                    codes[i] = fm_sync_dir(a[i])
            fm_forget(&open)
        return [codes[i] for i in range(count)]
    finally:
        free(a)
        free(b)
        free(codes)


def rename_batch(list pairs not None):
    return each(RENAME, tuple(old for old, _ in pairs), tuple(new for _, new in pairs))


def link_batch(list pairs not None):
    return each(LINK, tuple(old for old, _ in pairs), tuple(new for _, new in pairs))


def sync_dirs(list paths not None):
    cdef tuple every = tuple(paths)
    return each(SYNC, every, every)


class NotOpened(OSError):
    """A directory that was to be synced could not be opened."""


def sync_file_system(bytes path not None):
    """Sync the file system of the directory: everything written to it is on the disk when this returns.

    Raises OSError; NotOpened if the sync was not even tried."""
    cdef const char* p = path
    cdef int fd, unopened = 0, error = 0
    with nogil:
        fd = fm_open(p, O_RDONLY | O_DIRECTORY, 0, 0)
        if fd < 0:
            unopened = errno
        else:
            if c_syncfs(fd):
                error = errno
            c_close(fd)
    if unopened:
        raise NotOpened(unopened, strerror(unopened), path)
    if error:
        raise OSError(error, strerror(error), path)


def unlink_batch(list paths not None):
    cdef tuple every = tuple(paths)
    return each(UNLINK, every, every)


def open_fd(bytes path not None, int flags, int mode=0o600):
    """Open a file, non-blocking and close-on-exec, and return the descriptor. Raises OSError."""
    cdef const char* p = path
    cdef int fd, error = 0
    with nogil:
        fd = fm_open(p, flags, mode, 0)
        if fd < 0:
            error = errno
    if error:
        raise OSError(error, strerror(error), path)
    return fd


def parent(bytes path not None):
    """Return (descriptor of the directory, name in it); (-1, path) if it is not guarded. Raises OSError."""
    cdef const char* p = path
    cdef const char* name = NULL
    cdef int fd, error = 0
    with nogil:
        fd = fm_parent_of(p, &name)
        if fd == -1:
            error = errno
    if error:
        raise OSError(error, strerror(error), path)
    return (-1, path) if fd == AT_FDCWD else (fd, <bytes>name)


def directory_times(list paths not None):
    """Return when each directory was last changed, in ns; -1 if it is not a directory, or is reached by a link."""
    cdef list out = []
    cdef bytes path
    cdef const char* p
    cdef int64_t found
    for path in paths:
        p = path
        with nogil:
            found = fm_directory_time(p)
        out.append(found)
    return out


def make_file(bytes path not None, bytes content not None):
    """Make a new file, mode 0600. Returns False if it exists. Raises OSError, and leaves no file, if writing fails."""
    cdef const char* p = path
    cdef const char* c = content
    cdef ssize_t length = len(content), n = 0
    cdef int fd, error = 0
    with nogil:
        fd = fm_open(p, O_WRONLY | O_CREAT | O_EXCL, 0o600, 0)
        if fd < 0:
            error = errno
        else:
            n = c_write(fd, c, length)
            if n != length:
                error = errno if n < 0 else ENOSPC
                fm_unlink(p)
            c_close(fd)
    if fd < 0 and error == EEXIST:
        return False
    if error:
        raise OSError(error, "cannot write", path)
    return True


cdef bytes read_open(int fd, bytes path, bint nowait):
    """Return the octets of a regular file that was opened, and close it; see ``read_file``."""
    cdef int error = 0
    cdef int64_t size
    cdef ssize_t n = 0
    cdef size_t got = 0
    cdef bytes out
    cdef char* w
    with nogil:
        size = fm_regular_size(fd)
    if size < 0:
        c_close(fd)
        raise OSError(EIO, "not a regular file", path)
    try:
        out = PyBytes_FromStringAndSize(NULL, size)
    except MemoryError:
        c_close(fd)
        raise
    w = PyBytes_AS_STRING(out)
    with nogil:
        while got < <size_t>size:
            if nowait:
                n = fm_read_nowait(fd, w + got, size - got, got)
            else:
                n = c_read(fd, w + got, size - got)
            if n < 0:
                if errno == EINTR:
                    continue
                error = errno
                break
            if n == 0:
                break
            got += n
        c_close(fd)
    if error:
        if nowait and (error == EAGAIN or error == ENOSYS or error == EOPNOTSUPP):
            return None
        raise OSError(error, "cannot read", path)
    return out if got == <size_t>size else out[:got]


def read_file(bytes path not None, bint nowait=False):
    """Return the octets of a regular file; with ``nowait`` None if that would wait for the disk. Raises OSError."""
    cdef const char* p = path
    cdef int fd, error = 0
    with nogil:
        fd = fm_open(p, O_RDONLY | O_NOFOLLOW, 0, FM_CACHED if nowait else 0)
        if fd < 0:
            error = errno
    if fd < 0:
        if nowait and (error == EAGAIN or error == ENOSYS):
            return None
        raise OSError(error, "cannot open", path)
    return read_open(fd, path, nowait)


cdef class Directory:
    """Files of one directory, read one after the other: what is above the guard is opened once for all of them."""
    cdef bytes path
    cdef int root  # descriptor of the guarded path's ROOT; -1 before the first read

    def __cinit__(self, bytes path not None):
        self.path = path
        self.root = -1

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Close the directory; a later read opens it again."""
        if self.root >= 0:
            c_close(self.root)
            self.root = -1

    def read_now(self, bytes name not None):
        """Return the octets of a regular file, ``name`` below the directory; None if that would wait for the disk.
        Raises OSError."""
        cdef const char* p = self.path
        cdef const char* n = name
        cdef const char* rest
        cdef int fd = -1, error = 0
        with nogil:
            if self.root < 0:
                self.root = fm_root(p, &rest, FM_CACHED)
            if self.root != -1:  # a path that is not guarded has no ROOT to be opened
                fd = fm_open_in(p, self.root, n, O_RDONLY | O_NOFOLLOW, FM_CACHED)
            if fd < 0:
                error = errno
        if fd < 0:
            if error == EAGAIN or error == ENOSYS:
                return None
            raise OSError(error, "cannot open", self.path + b"/" + name)
        return read_open(fd, name, True)


cdef int64_t touch_file(const char* path, int64_t left) noexcept nogil:
    """Read a file into the page cache, at most ``left`` octets; return how many may still be read.

    Errors are ignored here: whoever reads the file later gets them."""
    cdef char room[65536]
    cdef ssize_t n
    cdef int fd = fm_open(path, O_RDONLY | O_NOFOLLOW, 0, 0)
    if fd < 0:
        return left
    if fm_regular_size(fd) >= 0:
        while left > 0:
            n = c_read(fd, room, sizeof(room))
            if n <= 0:
                break
            left -= n
    c_close(fd)
    return left


def touch_batch(list paths not None):
    """Read files into the page cache, up to TOUCHED octets in all."""
    cdef bytes path
    cdef const char* p
    cdef int64_t left = TOUCHED
    for path in paths:
        p = path
        with nogil:
            left = touch_file(p, left)
        if left <= 0:
            break


IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_CLOSE_WRITE = 0x8
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000


cdef bint has_octets(int fd, const char* content, size_t n, int64_t at) noexcept nogil:
    """Return True if the file has these octets at the offset; False if they cannot be read."""
    cdef char room[65536]
    cdef ssize_t got
    while n:
        got = c_pread(fd, room, n if n < sizeof(room) else sizeof(room), at)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0 or memcmp(room, content, got):
            return False
        content += got
        at += got
        n -= got
    return True


def same_batch(list paths not None, list contents not None):
    cdef list out = []
    cdef bytes path
    cdef const char* p
    cdef Py_buffer content
    cdef int fd
    cdef bint same
    for path, octets in zip(paths, contents, strict=True):
        p = path
        PyObject_GetBuffer(octets, &content, PyBUF_SIMPLE)
        try:
            with nogil:
                fd = fm_open(p, O_RDONLY | O_NOFOLLOW, 0, 0)
                same = fd >= 0 and fm_regular_size(fd) == content.len and has_octets(fd, <const char*>content.buf, content.len, 0)
                if fd >= 0:
                    c_close(fd)
        finally:
            PyBuffer_Release(&content)
        out.append(same)
    return out


def same_pieces(bytes path not None, list offsets not None, list contents not None):
    cdef list out = []
    cdef const char* p = path
    cdef Py_buffer content
    cdef int64_t at
    cdef int fd
    cdef bint same
    with nogil:
        fd = fm_open(p, O_RDONLY | O_NOFOLLOW, 0, 0)
    try:
        for offset, octets in zip(offsets, contents, strict=True):
            at = offset
            PyObject_GetBuffer(octets, &content, PyBUF_SIMPLE)
            try:
                with nogil:
                    same = fd >= 0 and has_octets(fd, <const char*>content.buf, content.len, at)
            finally:
                PyBuffer_Release(&content)
            out.append(same)
    finally:
        if fd >= 0:
            c_close(fd)
    return out


cdef class Inotify:
    """One inotify descriptor, non-blocking."""
    cdef readonly int fd

    def __cinit__(self):
        self.fd = c_inotify_init1(0o2000000 | 0o4000)
        if self.fd < 0:
            raise OSError(errno, "inotify_init1")

    def close(self):
        if self.fd >= 0:
            c_close(self.fd)
            self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    def add(self, bytes path not None, uint32_t mask):
        cdef int wd = fm_watch(self.fd, path, mask)
        if wd < 0:
            raise OSError(errno, "inotify_add_watch", path)
        return wd

    def remove(self, int wd):
        c_inotify_rm(self.fd, wd)

    def read(self):
        """Return all waiting events: (watch, mask, name)."""
        cdef uint64_t room[2048]
        cdef char* buf = <char*>room
        cdef ssize_t n, at
        cdef list out = []
        cdef uint32_t size
        while True:
            n = c_read(self.fd, buf, sizeof(room))
            if n <= 0:
                return out
            at = 0
            while at + 16 <= n:
                size = (<uint32_t*>(buf + at + 12))[0]
                out.append(((<int*>(buf + at))[0], (<uint32_t*>(buf + at + 4))[0],
                            <bytes>(buf + at + 16)[:strlen(buf + at + 16)] if size else b""))
                at += 16 + size


cdef class Mapped:
    """A file mapped for reading, with address space for its growth; it supports the buffer protocol."""
    cdef void* at
    cdef int fd
    cdef readonly size_t size

    def __cinit__(self, bytes path not None, size_t size):
        self.fd = fm_open(path, O_RDONLY, 0, 0)
        if self.fd < 0:
            raise OSError(errno, "open", path)
        self.at = mmap(NULL, size, PROT_READ, MAP_SHARED, self.fd, 0)
        if self.at == MAP_FAILED:
            self.at = NULL
            raise OSError(errno, "mmap", path)
        self.size = size

    def __dealloc__(self):
        if self.at != NULL:
            munmap(self.at, self.size)
        if self.fd >= 0:
            c_close(self.fd)

    def end(self):
        cdef int64_t size = fm_regular_size(self.fd)
        return size if size > 0 else 0

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.at, <Py_ssize_t>self.size, 1, flags)
