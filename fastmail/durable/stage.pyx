"""The first stage of a group commit: a native thread that puts files in place without ever taking the GIL.

A task is the files of one operation; a file is written to its temporary path, or linked to its place. The thread works
in rounds. A round writes what waits, syncs each file, and syncs each directory once. The files of a round are synced by
several threads at the same moment, so that they wait for one commit of the file system's journal together. Under load a
round waits a moment for all who lately came together, and writes their files while it waits; a lone operation is never
held back. A job may also be a piece of a file that is open already (a segment): it is written at its offset, and the
file synced once for all its pieces of a round.

Where the file system's journal keeps the order of what is done (XFS, and ext4 with a journal: order.h finds out what is
mounted), a file gets its name as soon as its content has been written out to the device, and before the syncs: whatever
commits the name also flushes the content before it, so no crash leaves a name without its content, and one commit makes
both durable. Elsewhere the content is synced before the file gets its name, and the name after that: two commits (see
benchmarks/notes.md).

Promise: a file reported as 0 is synced, content and name; a name never is on disk before its content. Each file has its
own errno; the temporary file of one that failed is removed, and whoever submitted it removes the final one. Made after a
fork; ``close`` finishes what was submitted.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EINTR, EIO, ENOSYS, EPERM, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset, strcmp

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <time.h>
    #include <stdio.h>
    #include <sys/stat.h>
    #include <sys/uio.h>
    #include <unistd.h>
    static void fm_start_writing(int fd) { sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }
    static int fm_finish_writing(int fd) {
        return sync_file_range(fd, 0, 0,
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }
    static void fm_cond_init(pthread_cond_t *c) {
        pthread_condattr_t a;
        pthread_condattr_init(&a);
        pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
        pthread_cond_init(c, &a);
        pthread_condattr_destroy(&a);
    }
    static int fm_wait_until(pthread_cond_t *c, pthread_mutex_t *m, long long ns) {
        struct timespec t = { ns / 1000000000LL, ns % 1000000000LL };
        return pthread_cond_timedwait(c, m, &t);
    }
    static long long fm_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }
    /* Wait to be woken, in a loop that looks at what it waits for. Not for ever: a wake-up can be lost in glibc up to
       2.40 (bug 25847), so each waiter looks again after a second by itself. */
    static void fm_wait(pthread_cond_t *c, pthread_mutex_t *m) {
        fm_wait_until(c, m, fm_now() + 1000000000LL);
    }
    typedef struct iovec iovec;
    /* All of v, at an offset or (at < 0) where the file stands; v is used up. 0 or an errno. */
    static int fm_write_all(int fd, struct iovec *v, int n, long long at) {
        while (n) {
            ssize_t done = at < 0 ? write(fd, v->iov_base, v->iov_len) : pwritev(fd, v, n, at);
            if (done < 0) {
                if (errno == EINTR) continue;
                return errno;
            }
            if (at >= 0) at += done;
            if (done == 0 && v->iov_len) return EIO;
            while (n && (size_t)done >= v->iov_len) { done -= v->iov_len; v++; n--; }
            if (n) { v->iov_base = (char *)v->iov_base + done; v->iov_len -= done; }
        }
        return 0;
    }
    static int fm_set_mtime(int fd, long long s) {
        struct timespec t[2] = {{ s, 0 }, { s, 0 }};
        return futimens(fd, t);
    }
    static int fm_spawn(pthread_t *thread, void *(*run)(void *), void *arg) {
        pthread_attr_t attr;
        sigset_t all, old;
        int error;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, 131072);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        error = pthread_create(thread, &attr, run, arg);
        pthread_sigmask(SIG_SETMASK, &old, 0);
        pthread_attr_destroy(&attr);
        return error;
    }
    """
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    ctypedef struct iovec:
        void* iov_base
        size_t iov_len
    int pthread_mutex_init(pthread_mutex_t* m, void* attr) nogil
    int pthread_cond_init(pthread_cond_t* c, void* attr) nogil
    int pthread_mutex_lock(pthread_mutex_t* m) nogil
    int pthread_mutex_unlock(pthread_mutex_t* m) nogil
    void fm_cond_init(pthread_cond_t* c) nogil
    int fm_wait_until(pthread_cond_t* c, pthread_mutex_t* m, int64_t ns) nogil
    int64_t fm_now() nogil
    void fm_wait(pthread_cond_t* c, pthread_mutex_t* m) nogil
    int pthread_cond_signal(pthread_cond_t* c) nogil
    int pthread_join(pthread_t t, void** result) nogil
    void fm_start_writing(int fd) nogil
    int fm_finish_writing(int fd) nogil
    int fm_set_mtime(int fd, int64_t s) nogil
    int fm_spawn(pthread_t* t, void* (*run)(void*) noexcept nogil, void* arg) nogil
    int c_close "close"(int fd) nogil
    int c_fsync "fsync"(int fd) nogil
    int c_fdatasync "fdatasync"(int fd) nogil
    int fm_write_all(int fd, iovec* v, int n, int64_t at) nogil

cdef extern from "order.h" nogil:
    int fm_keeps_order(int fd)

cdef extern from "beneath.h" nogil:
    int fm_open(const char* path, int flags, int mode, int cached)
    ctypedef struct Places "struct fm_places":
        pass
    int fm_unlink(const char* path)
    int fm_rename_at(Places* p, const char* a, const char* b)
    int fm_link_at(Places* p, const char* a, const char* b)
    void fm_begin(Places* p)
    void fm_forget(Places* p)
    int fm_sync_dir(const char* path)
    enum: O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW

cdef enum:
    HELPERS = 15         # threads beside the first that sync the files of a round
    DIRECTORIES = 64     # directories of a round that are remembered as synced
    CHUNKS = 8           # buffers a file may have
    GATHER = 700000      # ns that a round waits at most for operations that the last rounds had
    SEGMENTS = 16        # files with pieces of a round that are remembered
    RUN = 32             # pieces that are written in one call
    GAP = 8              # octets between two pieces that may be written with them, as zeros
    LARGE = 16384        # octets from which on a piece is written by itself, while a round gathers
    MOST = 64            # tasks that may wait behind a round; it takes what is beyond

cdef struct File:
    const char* source       # where it is written (in tmp/), or what is linked when chunks is -1
    const char* final        # its place
    const char* directory    # of final
    Py_ssize_t chunks
    Py_buffer chunk[CHUNKS]
    int64_t mtime            # of a piece: its offset
    bint piece               # fd was given, and stays open
    bint named               # it has its name
    bint written             # a piece that is
    int64_t size             # octets to be written
    int fd
    int error

cdef struct Task:
    Task* next
    uint64_t number
    bint written             # its temporary files are, not yet synced
    bint early               # it makes files, or is large: worth writing while a round gathers
    Py_ssize_t files
    File* file

cdef struct Run:             # pieces of one file that lie one behind the other
    int files
    int vectors
    int64_t end
    char nothing[GAP]
    File* file[RUN]
    iovec vector[RUN * (CHUNKS + 1)]

cdef struct Helped:          # the files that a round syncs, by whoever has time
    pthread_mutex_t mutex
    pthread_cond_t work
    pthread_cond_t done
    File** file
    int room
    int files
    int next
    int left
    int helpers              # that were started
    bint closing
    pthread_t thread[HELPERS]

cdef struct Shared:
    Helped helped
    pthread_mutex_t mutex
    pthread_cond_t work
    pthread_cond_t done
    Task* first              # submitted
    Task* last
    Task* finished           # newest first
    int waiting              # tasks submitted and not yet begun
    int active               # tasks submitted and not yet settled: acknowledged to whoever waits for them
    double goal              # tasks that the next round may expect, from what was active lately
    bint gathering           # the thread waits for company, and need not hear of each
    bint started
    bint closing
    int pings
    pthread_t thread


cdef void iovecs(File* f, iovec* v) noexcept nogil:
    """What is to be written, as the kernel takes it."""
    cdef Py_ssize_t i
    for i in range(f.chunks):
        v[i].iov_base = f.chunk[i].buf
        v[i].iov_len = f.chunk[i].len


cdef void write_file(File* f) noexcept nogil:
    """Write the temporary file, and start it on its way to the disk."""
    cdef iovec all_of_it[CHUNKS]
    f.fd = fm_open(f.source, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600, 0)
    if f.fd < 0:
        f.error = errno
        return
    iovecs(f, all_of_it)
    f.error = fm_write_all(f.fd, all_of_it, <int>f.chunks, -1)
    if not f.error and f.mtime >= 0 and fm_set_mtime(f.fd, f.mtime):
        f.error = errno
    if not f.error:
        fm_start_writing(f.fd)


cdef void write_large(File* f) noexcept nogil:
    """Write a piece by itself."""
    cdef iovec all_of_it[CHUNKS]
    iovecs(f, all_of_it)
    f.error = fm_write_all(f.fd, all_of_it, <int>f.chunks, f.mtime)
    f.written = True


cdef void write_run(Run* r) noexcept nogil:
    """Pieces that lie one behind the other, in one call."""
    cdef int error = fm_write_all(r.file[0].fd, r.vector, r.vectors, r.file[0].mtime) if r.files else 0
    cdef int i
    for i in range(r.files):
        r.file[i].error = error
    r.files = r.vectors = 0


cdef void write_pieces(Task* task) noexcept nogil:
    """The pieces of a round. Between two may lie a few octets that are nobody's."""
    cdef Run run
    cdef Py_ssize_t i
    cdef int64_t gap
    cdef File* f
    run.files = run.vectors = 0
    run.end = 0
    memset(run.nothing, 0, GAP)
    while task != NULL:
        for i in range(task.files):
            f = &task.file[i]
            if not f.piece or f.written:
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
        task = task.next
    write_run(&run)


cdef void name_one(File* f, Places* places) noexcept nogil:
    """Give the file its name."""
    if f.piece or f.named:
        return
    f.named = True
    if (fm_rename_at(places, f.source, f.final) if f.chunks >= 0 else fm_link_at(places, f.source, f.final)):
        f.error = errno


cdef void name_early(Task* task) noexcept nogil:
    """Name what may have its name before its sync: content that has reached the device, where the journal keeps order."""
    cdef Py_ssize_t i
    cdef File* f
    cdef Places places
    fm_begin(&places)
    while task != NULL:
        for i in range(task.files):
            f = &task.file[i]
            if f.error or f.piece or f.chunks < 0 or not fm_keeps_order(f.fd):
                continue
            if fm_finish_writing(f.fd) == 0:
                name_one(f, &places)
            elif errno != ENOSYS and errno != EPERM:  # told once for each descriptor: the sync would not tell it again
                f.error = errno
        task = task.next
    fm_forget(&places)


cdef void sync_one(File* f) noexcept nogil:
    f.error = errno if (c_fsync(f.fd) if not f.piece and f.mtime >= 0 else c_fdatasync(f.fd)) else 0


cdef void sync_some(Helped* h) noexcept nogil:
    """Sync what nobody has begun; called and left with the mutex held."""
    cdef File* f
    while h.next < h.files:
        f = h.file[h.next]
        h.next += 1
        pthread_mutex_unlock(&h.mutex)
        sync_one(f)
        pthread_mutex_lock(&h.mutex)
        h.left -= 1


cdef void* help_syncing(void* argument) noexcept nogil:
    cdef Helped* h = <Helped*>argument
    pthread_mutex_lock(&h.mutex)
    while not h.closing:
        if h.next < h.files:
            sync_some(h)
            if h.left == 0:
                pthread_cond_signal(&h.done)
        else:
            fm_wait(&h.work, &h.mutex)
    pthread_mutex_unlock(&h.mutex)
    return NULL


cdef bint make_room(Helped* h, Task* task) noexcept nogil:
    cdef int files = 0
    while task != NULL:
        files += <int>task.files
        task = task.next
    if files > h.room:
        free(h.file)
        h.room = 0
        h.file = <File**>malloc(2 * files * sizeof(File*))
        if h.file == NULL:
            return False
        h.room = 2 * files
    return True


cdef void sync_contents(Helped* h, Task* first) noexcept nogil:
    """Sync every file once, all at the same time."""
    cdef File* segment[SEGMENTS]
    cdef int segments = 0, files = 0, k
    cdef Py_ssize_t i
    cdef Task* task = first
    cdef File* f
    cdef bint room = make_room(h, first)
    while task != NULL:
        for i in range(task.files):
            f = &task.file[i]
            if f.error or (f.chunks < 0 and not f.piece):
                continue
            if f.piece:
                k = 0
                while k < segments and segment[k].fd != f.fd:
                    k += 1
                if k < segments:
                    continue
                if segments < SEGMENTS:
                    segment[segments] = f
                    segments += 1
            if room:
                h.file[files] = f
                files += 1
            else:
                sync_one(f)
        task = task.next
    if files == 1:
        sync_one(h.file[0])
    elif files:
        pthread_mutex_lock(&h.mutex)
        h.files = h.left = files
        h.next = 0
        while h.helpers < HELPERS and h.helpers < files - 1 and fm_spawn(&h.thread[h.helpers], help_syncing, h) == 0:
            h.helpers += 1
        for k in range(files - 1 if files - 1 < h.helpers else h.helpers):
            pthread_cond_signal(&h.work)
        sync_some(h)
        while h.left:
            fm_wait(&h.done, &h.mutex)
        h.files = h.next = 0
        pthread_mutex_unlock(&h.mutex)
    task = first
    while task != NULL and segments:
        for i in range(task.files):
            f = &task.file[i]
            if f.piece and not f.error:
                for k in range(segments):
                    if segment[k].fd == f.fd:
                        f.error = segment[k].error
        task = task.next


cdef void sync_names(Task* task) noexcept nogil:
    """Each directory once; the first sync commits the names of all, the others find little left to do."""
    cdef const char* path[DIRECTORIES]
    cdef int result[DIRECTORIES]
    cdef int known = 0, k
    cdef Py_ssize_t i
    cdef File* f
    while task != NULL:
        for i in range(task.files):
            f = &task.file[i]
            if f.error or f.piece:
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
        task = task.next


cdef void settle(Task* task) noexcept nogil:
    """Close everything; the temporary file of one that failed is removed."""
    cdef Py_ssize_t i
    cdef File* f
    while task != NULL:
        for i in range(task.files):
            f = &task.file[i]
            if f.piece:
                continue
            if f.fd >= 0:
                if c_close(f.fd) and not f.error and errno != EINTR:
                    f.error = errno
                f.fd = -1
            if f.error and f.chunks >= 0:
                fm_unlink(f.source)
        task = task.next


cdef void write_files(Task* task) noexcept nogil:
    """The temporary files of a task, and its large pieces."""
    cdef Py_ssize_t i
    cdef File* f
    for i in range(task.files):
        f = &task.file[i]
        if f.piece and f.size >= LARGE:
            write_large(f)
        elif f.chunks >= 0 and not f.piece:
            write_file(f)
    task.written = True


cdef void name_all(Task* task) noexcept nogil:
    cdef Py_ssize_t i
    cdef Places places
    fm_begin(&places)
    while task != NULL:
        for i in range(task.files):
            if not task.file[i].error:
                name_one(&task.file[i], &places)
        task = task.next
    fm_forget(&places)


cdef void gather(Shared* s) noexcept nogil:
    """Wait a moment for the company that lately came, so that it shares this round's syncs; make its files meanwhile.

    Where the company stays away the expectation shrinks, so a server that was busy soon answers a lone client at once.
    """
    cdef int64_t deadline = fm_now() + GATHER
    cdef Task* task
    cdef int late = 0
    if s.active > s.goal:
        s.goal = s.active
    while not s.closing and s.waiting < <int>s.goal:
        task = s.first
        while task != NULL and (task.written or not task.early):
            task = task.next
        if task != NULL:
            pthread_mutex_unlock(&s.mutex)
            write_files(task)
            pthread_mutex_lock(&s.mutex)
        elif late:
            s.goal -= (s.goal - s.waiting) / 4
            return
        else:
            s.gathering = True
            late = fm_wait_until(&s.work, &s.mutex, deadline)
            s.gathering = False


cdef Task* take(Shared* s) noexcept nogil:
    """The tasks of the next round, taken off the queue."""
    cdef Task* first = s.first
    cdef Task* last = first
    cdef int left = <int>s.goal - 1
    s.waiting -= 1
    while last.next != NULL and (left > 0 or s.waiting >= MOST):
        last = last.next
        left -= 1
        s.waiting -= 1
    s.first = last.next
    if s.first == NULL:
        s.last = NULL
    last.next = NULL
    return first


cdef void* serve(void* argument) noexcept nogil:
    cdef Shared* s = <Shared*>argument
    cdef Task* tasks
    cdef Task* one
    pthread_mutex_lock(&s.mutex)
    while True:
        while s.first == NULL and not s.closing:
            fm_wait(&s.work, &s.mutex)
        if s.first == NULL:
            break
        gather(s)
        tasks = take(s)
        pthread_mutex_unlock(&s.mutex)
        # 1. content, synced
        one = tasks
        while one != NULL:
            if not one.written:
                write_files(one)
            one = one.next
        write_pieces(tasks)
        name_early(tasks)
        sync_contents(&s.helped, tasks)
        # 2. names, synced
        name_all(tasks)
        sync_names(tasks)
        settle(tasks)
        pthread_mutex_lock(&s.mutex)
        while tasks != NULL:
            one = tasks
            tasks = tasks.next
            one.next = s.finished
            s.finished = one
        pthread_mutex_unlock(&s.mutex)
        pthread_cond_signal(&s.done)
        pthread_mutex_lock(&s.mutex)
    pthread_mutex_unlock(&s.mutex)
    return NULL


def keeps_order(int fd):
    """May a file there get its name before its sync?"""
    return bool(fm_keeps_order(fd))


cdef class FileStage:
    """See the module. ``submit`` and ``ping`` from any thread, ``wait`` from one."""
    cdef Shared* shared
    cdef dict held
    cdef uint64_t count

    def __cinit__(self):
        self.shared = <Shared*>calloc(1, sizeof(Shared))
        if self.shared == NULL:
            raise MemoryError()
        pthread_mutex_init(&self.shared.mutex, NULL)
        fm_cond_init(&self.shared.work)
        fm_cond_init(&self.shared.done)
        pthread_mutex_init(&self.shared.helped.mutex, NULL)
        fm_cond_init(&self.shared.helped.work)
        fm_cond_init(&self.shared.helped.done)
        self.held = {}

    def submit(self, token, list jobs not None):
        cdef Py_ssize_t n = len(jobs), i, k
        cdef bytes a, b, c
        cdef Task* task = <Task*>calloc(1, sizeof(Task))
        cdef Shared* s = self.shared
        cdef bint wanted
        if task == NULL:
            raise MemoryError()
        task.file = <File*>calloc(n if n else 1, sizeof(File))
        if task.file == NULL:
            free(task)
            raise MemoryError()
        task.files = n
        try:
            for i in range(n):
                a, b, c, chunks, mtime, fd = jobs[i]
                task.file[i].source = a
                task.file[i].final = b
                task.file[i].directory = c
                task.file[i].fd = fd
                task.file[i].piece = fd >= 0
                task.file[i].mtime = mtime
                if chunks is None:
                    task.file[i].chunks = -1
                    continue
                if len(chunks) > CHUNKS:
                    raise ValueError("too many chunks in one file")
                for k in range(len(chunks)):
                    PyObject_GetBuffer(chunks[k], &task.file[i].chunk[k], PyBUF_SIMPLE)
                    task.file[i].chunks = k + 1
                    task.file[i].size += task.file[i].chunk[k].len
                task.early |= fd < 0 or task.file[i].size >= LARGE
        except BaseException:
            self.release(task)
            raise
        self.count += 1
        task.number = self.count
        self.held[self.count] = (token, jobs)
        with nogil:
            pthread_mutex_lock(&s.mutex)
            if s.last == NULL:
                s.first = task
            else:
                s.last.next = task
            s.last = task
            s.waiting += 1
            s.active += 1
            if not s.started:
                s.started = fm_spawn(&s.thread, serve, s) == 0
            wanted = task.early or not s.gathering or s.waiting >= <int>s.goal
            pthread_mutex_unlock(&s.mutex)
            if wanted:
                pthread_cond_signal(&s.work)  # behind the mutex, or the thread would wake only to wait for it

    cdef list release(self, Task* task):
        cdef Py_ssize_t i, k
        cdef list out = []
        for i in range(task.files):
            out.append(task.file[i].error)
            for k in range(task.file[i].chunks):
                PyBuffer_Release(&task.file[i].chunk[k])
        free(task.file)
        free(task)
        return out

    def settled(self, int tasks):
        """So many tasks were acknowledged."""
        cdef Shared* s = self.shared
        pthread_mutex_lock(&s.mutex)
        s.active -= tasks
        pthread_mutex_unlock(&s.mutex)

    def ping(self):
        """Make ``wait`` return."""
        cdef Shared* s = self.shared
        with nogil:
            pthread_mutex_lock(&s.mutex)
            s.pings += 1
            pthread_mutex_unlock(&s.mutex)
            pthread_cond_signal(&s.done)

    def wait(self):
        """Wait for a finished task or a ping: a list of (token, errnos), oldest first."""
        cdef Shared* s = self.shared
        cdef Task* task
        cdef Task* rest
        cdef list out = []
        with nogil:
            pthread_mutex_lock(&s.mutex)
            while s.finished == NULL and not s.pings:
                fm_wait(&s.done, &s.mutex)
            s.pings = 0
            task = s.finished
            s.finished = NULL
            pthread_mutex_unlock(&s.mutex)
        while task != NULL:
            rest = task.next
            token, _ = self.held.pop(task.number)
            out.append((token, self.release(task)))
            task = rest
        out.reverse()
        return out

    def close(self):
        """Finish what was submitted and end the thread; ``wait`` once more for the results."""
        cdef Shared* s = self.shared
        cdef Helped* h = &s.helped
        cdef int k
        with nogil:
            pthread_mutex_lock(&s.mutex)
            s.closing = True
            pthread_cond_signal(&s.work)
            pthread_mutex_unlock(&s.mutex)
            if s.started:
                pthread_join(s.thread, NULL)
                s.started = False
            pthread_mutex_lock(&h.mutex)
            h.closing = True
            for k in range(h.helpers):
                pthread_cond_signal(&h.work)
            pthread_mutex_unlock(&h.mutex)
            for k in range(h.helpers):
                pthread_join(h.thread[k], NULL)
            h.helpers = 0
        self.ping()

    def __dealloc__(self):
        if self.shared != NULL and not self.shared.started:
            free(self.shared.helped.file)
            free(self.shared)
