/* Does the file system's journal keep the order of what is done? Then a name is on the disk only after content that was
written out before it was given, without a sync in between.

XFS always has a journal. ext2, ext3 and ext4 have one number among types of file systems, and ext4 is often made without
a journal: the kernel's own account of the mounted device says (/sys/fs/ext4, or /proc/fs/jbd2 of older kernels). A
mount option can take the order away. What cannot be known has no order: content is synced first then. */
#ifndef FM_ORDER_H
#define FM_ORDER_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>
#define FM_EXT 0xEF53
#define FM_XFS 0x58465342
#define FM_ORDERS 16            /* devices that a thread remembers */
#define FM_ORDER_LASTS 1        /* s: another file system may be mounted on the device by then */

/* One option in a list with commas? */
static int fm_has_option(const char *options, const char *wanted) {
    size_t n = strlen(wanted);
    while (*options) {
        size_t length = strcspn(options, ",\n");
        if (length == n && !memcmp(options, wanted, n)) return 1;
        options += length + (options[length] != 0);
    }
    return 0;
}

/* Is the device mounted as ext3 or ext4, with barriers, and each commit written after what it is about? */
static int fm_mounted_in_order(dev_t device) {
    char wanted[40], *line = 0, *rest, *type, *options;
    size_t room = 0;
    int found = 0;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    if (!mounts) return 0;
    snprintf(wanted, sizeof wanted, "%u:%u", major(device), minor(device));
    while (getline(&line, &room, mounts) > 0) {
        char *at = line, *number;
        strsep(&at, " ");                       /* its id, its parent's, and the device */
        strsep(&at, " ");
        number = strsep(&at, " ");
        if (!number || !at || strcmp(number, wanted) || !(rest = strstr(at, " - "))) continue;
        rest += 3;
        type = strsep(&rest, " ");
        strsep(&rest, " ");
        options = rest ? rest : "";
        found = (!strcmp(type, "ext4") || !strcmp(type, "ext3")) && !fm_has_option(options, "nobarrier")
            && !fm_has_option(options, "barrier=0") && !fm_has_option(options, "journal_async_commit");
        break;
    }
    free(line);
    fclose(mounts);
    return found;
}

static int fm_has_journal(dev_t device) {
    char path[PATH_MAX], target[PATH_MAX], said[16];
    const char *name;
    ssize_t n;
    int fd;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(device), minor(device));
    n = readlink(path, target, sizeof target - 1);
    if (n <= 0) return 0;
    target[n] = 0;
    name = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
    if (strlen(name) > NAME_MAX) return 0;
    snprintf(path, sizeof path, "/sys/fs/ext4/%.255s/journal_task", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {                              /* the process that writes the journal, or "<none>" */
        n = read(fd, said, sizeof said);
        close(fd);
        return n > 0 && isdigit((unsigned char)said[0]);
    }
    snprintf(path, sizeof path, "/proc/fs/jbd2/%.255s-8", name);
    return access(path, F_OK) == 0;
}

static int fm_look_for_order(int fd, dev_t device) {
    struct statfs fs;
    if (fstatfs(fd, &fs)) return 0;
    if (fs.f_type == FM_XFS) return 1;
    return fs.f_type == FM_EXT && fm_mounted_in_order(device) && fm_has_journal(device);
}

static int fm_keeps_order(int fd) {
    static __thread struct { dev_t device; time_t until; int order; } known[FM_ORDERS];
    static __thread unsigned next;
    struct stat st;
    struct timespec now;
    int i;
    if (fstat(fd, &st)) return 0;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    for (i = 0; i < FM_ORDERS; i++)
        if (known[i].device == st.st_dev && known[i].until > now.tv_sec) return known[i].order;
    for (i = 0; i < FM_ORDERS && known[i].device != st.st_dev; i++);
    if (i == FM_ORDERS) i = next++ % FM_ORDERS;
    known[i].device = st.st_dev;
    known[i].order = fm_look_for_order(fd, st.st_dev);
    known[i].until = now.tv_sec + 1 + FM_ORDER_LASTS;
    return known[i].order;
}
#endif
