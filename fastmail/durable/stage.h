/* System calls that durable.stage needs and the C library of Cython does not declare. */
#ifndef FASTMAIL_STAGE_H
#define FASTMAIL_STAGE_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

typedef struct iovec iovec;

/* Start what was written on its way to the disk, without waiting for it. */
static void fm_start_writing(int fd) { sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); }

static int fm_set_mtime(int fd, long long s) {
    struct timespec t[2] = {{ s, 0 }, { s, 0 }};
    return futimens(fd, t);
}

/* All of v, at an offset or (at < 0) where the file stands; v is used up. 0 or an errno. */
static int fm_write_all(int fd, struct iovec *v, int n, long long at) {
    while (n) {
        ssize_t done = at < 0 ? writev(fd, v, n) : pwritev(fd, v, n, at);
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
#endif
