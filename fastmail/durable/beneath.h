/* Paths below a directory that somebody else may write in: no link below it is followed.

A guarded path, "ROOT/./INNER", is opened in two steps: ROOT as ever (links there are the administrator's), INNER
without following any link or climbing: by openat2, or one level after the other where the kernel has none. The first
mark counts. A path that ends in "/." is ROOT itself. Any other path is what it is to any other program.
Errors: ELOOP for a link below ROOT, EXDEV for "..". Descriptors are close-on-exec, and no open waits for a FIFO. */
#ifndef FM_BENEATH_H
#define FM_BENEATH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define FM_NOT_GUARDED -2
#define FM_CACHED 0x20      /* RESOLVE_CACHED: EAGAIN rather than a wait for the disk */
#define FM_STRICT 0x0e      /* RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH */

struct fm_how { unsigned long long flags, mode, resolve; };

static int fm_no_openat2;   /* an older kernel, or a filter of system calls that does not know it */

static int fm_openat2(int at, const char *path, int flags, int mode, unsigned long long resolve) {
    struct fm_how how = { (unsigned)flags, (unsigned)mode, resolve };
    return (int)syscall(SYS_openat2, at, path, &how, sizeof how);
}

static void fm_close_quietly(int fd) {
    int kept = errno;
    if (fd >= 0) close(fd);
    errno = kept;
}

/* Was it refused as a whole, and not for this path? */
static int fm_lacks_openat2(int error) {
    int fd;
    if (error == ENOSYS) return 1;
    if (error != EPERM) return 0;
    fd = fm_openat2(AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0, 0);
    if (fd < 0) return 1;
    close(fd);
    return 0;
}

static int fm_climbs(const char *path) {
    while (*path) {
        while (*path == '/') path++;
        if (path[0] == '.' && path[1] == '.' && (path[2] == '/' || !path[2])) return 1;
        while (*path && *path != '/') path++;
    }
    return 0;
}

/* The same as openat2 does at once. */
static int fm_level_by_level(int at, const char *path, int flags, int mode) {
    char name[NAME_MAX + 1];
    struct stat found;
    int here = at, next;
    for (;;) {
        size_t n = strcspn(path, "/");
        const char *rest = path + n + strspn(path + n, "/");
        if (n > NAME_MAX) { errno = ENAMETOOLONG; next = -1; }
        else {
            memcpy(name, path, n);
            name[n] = 0;
            next = openat(here, name, (*rest ? O_PATH | O_DIRECTORY : flags) | O_NOFOLLOW | O_CLOEXEC, *rest ? 0 : mode);
            if (next < 0 && errno == ENOTDIR) { /* a link says so here too */
                if (fstatat(here, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(found.st_mode)) errno = ELOOP;
                else errno = ENOTDIR;
            }
        }
        if (here != at) fm_close_quietly(here);
        if (next < 0 || !*rest) return next;
        here = next;
        path = rest;
    }
}

static int fm_strict_at(int at, const char *path, int flags, int mode, int cached) {
    int fd;
    if (fm_climbs(path)) { errno = EXDEV; return -1; }
    while (*path == '/') path++;
    if (!*path) path = ".";
    flags |= O_NOFOLLOW | O_CLOEXEC | (flags & O_PATH ? 0 : O_NONBLOCK);
    if (!(flags & O_CREAT)) mode = 0;
    if (!fm_no_openat2) {
        fd = fm_openat2(at, path, flags, mode, FM_STRICT | cached);
        if (fd < 0 && cached && errno == EINVAL) errno = EAGAIN; /* Linux before 5.12 */
        if (fd >= 0 || !fm_lacks_openat2(errno)) return fd;
        fm_no_openat2 = 1;
    }
    if (cached) { errno = EAGAIN; return -1; }
    return fm_level_by_level(at, path, flags, mode);
}

/* ROOT of a guarded path, open; FM_NOT_GUARDED without one. rest: INNER. */
static int fm_root_of(const char *path, size_t *root, const char **rest) {
    const char *guard = strstr(path, "/./");
    size_t n = strlen(path);
    if (guard) *rest = guard + 3;
    else if (n >= 2 && !strcmp(path + n - 2, "/.")) { guard = path + n - 2; *rest = path + n; }
    else return FM_NOT_GUARDED;
    *root = (size_t)(guard - path);
    return 0;
}

static int fm_open_root(const char *path, size_t n, int cached) {
    char root[PATH_MAX];
    int fd;
    if (n >= sizeof root) { errno = ENAMETOOLONG; return -1; }
    memcpy(root, path, n);
    root[n] = 0;
    if (!n) strcpy(root, "/");
    if (!cached || fm_no_openat2) return open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    fd = fm_openat2(AT_FDCWD, root, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, cached);
    if (fd < 0 && (errno == EINVAL || fm_lacks_openat2(errno))) errno = EAGAIN;
    return fd;
}

static int fm_root(const char *path, const char **rest, int cached) {
    size_t n;
    return fm_root_of(path, &n, rest) ? FM_NOT_GUARDED : fm_open_root(path, n, cached);
}

static int fm_open(const char *path, int flags, int mode, int cached) {
    const char *rest;
    int fd, root = fm_root(path, &rest, cached);
    if (root == FM_NOT_GUARDED) {
        flags |= O_CLOEXEC | (flags & O_PATH ? 0 : O_NONBLOCK);
        if (!cached) return open(path, flags, mode);
        fd = fm_no_openat2 ? -1 : fm_openat2(AT_FDCWD, path, flags, 0, cached);
        if (fd < 0 && (fm_no_openat2 || errno == EINVAL || fm_lacks_openat2(errno))) errno = EAGAIN;
        return fd;
    }
    if (root < 0) return -1;
    fd = fm_strict_at(root, rest, flags, mode, cached);
    fm_close_quietly(root);
    return fd;
}

/* A file, by its name below a directory whose ROOT is open; FM_NOT_GUARDED for the root of a path without one. */
static int fm_open_in(const char *directory, int root, const char *name, int flags, int cached) {
    char path[PATH_MAX];
    const char *rest = directory;
    size_t n;
    if (root != FM_NOT_GUARDED && fm_root_of(directory, &n, &rest)) { errno = EINVAL; return -1; }
    n = (size_t)snprintf(path, sizeof path, *rest ? "%s/%s" : "%s%s", rest, name);
    if (n >= sizeof path) { errno = ENAMETOOLONG; return -1; }
    return root == FM_NOT_GUARDED ? fm_open(path, flags, 0, cached) : fm_strict_at(root, path, flags, 0, cached);
}

/* Directories that are open while paths are worked on one after the other: their neighbours are often the same. The
paths must last as long. From fm_begin to fm_forget. */
struct fm_kept { const char *path; size_t n; int fd; };
struct fm_open_directories { struct fm_kept root, from, to; };
#define FM_NOTHING_OPEN {{ 0, 0, -1 }, { 0, 0, -1 }, { 0, 0, -1 }}

static void fm_begin(struct fm_open_directories *p) { *p = (struct fm_open_directories)FM_NOTHING_OPEN; }

static void fm_let_go(struct fm_kept *k) {
    fm_close_quietly(k->fd);
    k->fd = -1;
}

static void fm_forget(struct fm_open_directories *p) {
    fm_let_go(&p->root);
    fm_let_go(&p->from);
    fm_let_go(&p->to);
}

static int fm_is(const struct fm_kept *k, const char *path, size_t n) {
    return k->fd >= 0 && k->n == n && !memcmp(k->path, path, n);
}

/* The directory of a path, open, and the name in it. AT_FDCWD and the path itself where it is not guarded. */
static int fm_parent(struct fm_open_directories *p, struct fm_kept *mine, const char *path, const char **name) {
    const char *rest, *slash = strrchr(path, '/');
    char inner[PATH_MAX];
    size_t n, root;
    if (fm_root_of(path, &root, &rest)) { *name = path; return AT_FDCWD; }
    *name = slash + 1;
    n = (size_t)(*name - path);
    if (!**name || !strcmp(*name, ".") || !strcmp(*name, "..")) {
        errno = **name && (*name)[1] ? EXDEV : EINVAL;
        return -1;
    }
    if (fm_is(&p->from, path, n)) return p->from.fd;
    if (fm_is(mine, path, n)) return mine->fd;
    if (!fm_is(&p->root, path, root)) {
        fm_let_go(&p->root);
        p->root = (struct fm_kept){ path, root, fm_open_root(path, root, 0) };
        if (p->root.fd < 0) return -1;
    }
    fm_let_go(mine);
    n = *name > rest ? (size_t)(*name - rest) : 0;
    if (n >= sizeof inner) { errno = ENAMETOOLONG; return -1; }
    memcpy(inner, rest, n);
    inner[n] = 0;
    *mine = (struct fm_kept){ path, (size_t)(*name - path), fm_strict_at(p->root.fd, inner, O_PATH | O_DIRECTORY, 0, 0) };
    return mine->fd;
}

static int fm_unlink_at(struct fm_open_directories *p, const char *path) {
    const char *name;
    int at = fm_parent(p, &p->from, path, &name);
    return at == -1 ? -1 : unlinkat(at, name, 0);
}

/* A new file, open for writing. */
static int fm_create_at(struct fm_open_directories *p, const char *path, int mode) {
    const char *name;
    int at = fm_parent(p, &p->from, path, &name);
    return at == -1 ? -1 : openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

static int fm_both(struct fm_open_directories *p, const char *from, const char *to, int linking) {
    const char *old, *new;
    int there, here = fm_parent(p, &p->from, from, &old);
    if (here == -1) return -1;
    there = fm_parent(p, &p->to, to, &new);
    if (there == -1) return -1;
    return linking ? linkat(here, old, there, new, 0) : renameat(here, old, there, new);
}

static int fm_rename_at(struct fm_open_directories *p, const char *from, const char *to) { return fm_both(p, from, to, 0); }
static int fm_link_at(struct fm_open_directories *p, const char *from, const char *to) { return fm_both(p, from, to, 1); }

static int fm_unlink(const char *path) {
    struct fm_open_directories p = FM_NOTHING_OPEN;
    int done = fm_unlink_at(&p, path);
    fm_forget(&p);
    return done;
}

/* The same for whoever does more in it: the descriptor is the caller's. */
static int fm_parent_of(const char *path, const char **name) {
    struct fm_open_directories p = FM_NOTHING_OPEN;
    int fd = fm_parent(&p, &p.from, path, name);
    if (fd >= 0) p.from.fd = -1;
    fm_forget(&p);
    return fd;
}

/* The names in a directory to the disk: 0 or an errno. */
static int fm_sync_dir(const char *path) {
    int error, fd = fm_open(path, O_RDONLY | O_DIRECTORY, 0, 0);
    if (fd < 0) return errno;
    error = fsync(fd) ? errno : 0;
    close(fd);
    return error;
}
#endif
