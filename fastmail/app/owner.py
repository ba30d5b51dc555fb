"""Which user owns the server's files, and with whose rights they are touched: root starts the server, which then runs
as a user of its own.

An attacker who controls a worker has that user's rights. He can plant links in directories where the user may write,
and wait until root follows them. So in such directories root does nothing with root's rights.

Promises: everything the server needs belongs to its user before root is dropped. In a directory that the user can
change (see ``trusted``), root follows no link, creates nothing, and gives away only files that root owns and that have
one name; everything else is done with the user's own rights (``acting``). Commands that root runs act as that user too;
of root's rights they keep only the right to read. Errors are ConfigError, which says what to do.
"""

import contextlib
import ctypes
import errno
import grp
import os
import pwd
import stat
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from fastmail.app import preload
from fastmail.config.settings import Config
from fastmail.durable.replace import make_directories
from fastmail.model.errors import ConfigError
from fastmail.telemetry import log

CAPABILITIES = 0x20080522  # version 3 of the interface (capget(2))
READ_SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
FILES = 0b11111  # CAP_CHOWN to CAP_FSETID: what root may do with files of others
AT_EMPTY_PATH = 0x1000
MOST_LINKS = 40  # as the kernel has it
Who = tuple[int, int]  # user, group


def named_user(name: str) -> pwd.struct_passwd | None:
    """Return a user by name, or by number, which other servers' configurations may have; None if there is none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    with contextlib.suppress(KeyError, ValueError, OverflowError):
        return pwd.getpwuid(int(name))
    return None


def user_of(config: Config) -> Who | None:
    """Return (user, group) that the server runs as if root starts it; None if it keeps its user."""
    server = config.server
    if not server.user:
        return None
    user = named_user(server.user)
    if user is None:
        make = f"`useradd --system --shell /usr/sbin/nologin {server.user}` makes one"
        raise ConfigError(f"[server] user: this machine has no user {server.user!r}; {make}")
    try:
        group = grp.getgrnam(server.group).gr_gid if server.group else user.pw_gid
    except KeyError:
        raise ConfigError(f"[server] group: this machine has no group {server.group!r}") from None
    return None if os.geteuid() == user.pw_uid else (user.pw_uid, group)


def root_for(config: Config) -> Who | None:
    """Do the same, but return None if this process does not run as root."""
    return user_of(config) if os.geteuid() == 0 else None


# ---------------------------------------------------------------- with whose rights


@contextlib.contextmanager
def acting(who: Who | None) -> Iterator[None]:
    """Act as the user inside the context, and as root again afterwards. Only for a process without threads."""
    if who is None:
        yield
        return
    groups, group, user = os.getgroups(), os.getegid(), os.geteuid()
    os.setgroups([])
    os.setegid(who[1])
    os.seteuid(who[0])
    try:
        yield
    finally:
        os.seteuid(user)
        os.setegid(group)
        os.setgroups(groups)


def act_as_owner_of(path: str) -> None:
    """If this process is root's and the directory is somebody else's, become that user for good."""
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    found = os.stat(place)
    if os.geteuid() == 0 and found.st_uid != 0:
        preload.everything()  # that user may not be able to read the program's files
        os.setgroups([])
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)


def act_for(config: Config) -> None:
    """In a command that root runs: from now on, do everything with files as the server's user, except that all files
    can be read. Does nothing if this process is not root's."""
    who = root_for(config)
    if who is None or threading.active_count() > 1:
        return
    prepare(config, whole=False)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsgid(who[1])
    libc.setfsuid(who[0])
    effective, permitted = _capabilities(libc)
    _set_capabilities(libc, effective & ~FILES | permitted & READ_SEARCH, permitted)


@contextlib.contextmanager
def as_root() -> Iterator[None]:
    """In such a command: create files as root inside the context. Does nothing if this process is not root's."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = libc.setfsuid(0), libc.setfsgid(0)
    effective, permitted = _capabilities(libc)
    _set_capabilities(libc, effective | permitted & FILES, permitted)
    try:
        yield
    finally:
        libc.setfsgid(group)
        libc.setfsuid(user)
        _set_capabilities(libc, effective, permitted)


def drop(config: Config, places: Sequence[str], sockets: Sequence[str] = ()) -> None:
    """Become the server's user for good. ``places``: directories that the server changes and that already belong to
    that user (``prepare``); ``sockets``: paths of bound sockets."""
    who = user_of(config)
    if who is None:
        return
    if os.geteuid() != 0:
        raise ConfigError(f"only root can become {config.server.user}")
    for path in sockets:
        _give_one(path, who)
    os.setgroups([])
    os.setgid(who[1])
    os.setuid(who[0])
    refuse_closed(config, places)


def refuse_closed(config: Config, places: Sequence[str]) -> None:
    """ConfigError where this process, with the rights that it has now, cannot work in one of the server's places."""
    for place in places:
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise ConfigError(
                f"{config.server.user} cannot read and write in {place}: it belongs to somebody else, or a directory "
                f"above it is closed; `chown -R {config.server.user} {place}`, and mode 711 for those above"
            )


def keep_only_reading() -> None:
    """Give up root's rights except the right to read any file."""
    _set_capabilities(ctypes.CDLL(None, use_errno=True), READ_SEARCH, READ_SEARCH)


def _capabilities(libc: ctypes.CDLL) -> tuple[int, int]:
    """The effective and the permitted set of this thread, as bits (capget(2))."""
    data = ctypes.create_string_buffer(24)
    if libc.capget(struct.pack("=Ii", CAPABILITIES, 0), data):
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted, _, more_effective, more_permitted, _ = struct.unpack("=6I", data.raw)
    return effective | more_effective << 32, permitted | more_permitted << 32


def _set_capabilities(libc: ctypes.CDLL, effective: int, permitted: int) -> None:
    low = 0xFFFFFFFF
    packed = struct.pack("=6I", effective & low, permitted & low, 0, effective >> 32, permitted >> 32, 0)
    if libc.capset(struct.pack("=Ii", CAPABILITIES, 0), packed):
        raise OSError(ctypes.get_errno(), "capset")


# ---------------------------------------------------------------- where paths lead


def _may_change(directory: os.stat_result, entry: os.stat_result | None, who: Who) -> bool:
    """True if the user can change what a name in a directory refers to."""
    user, group = who
    if directory.st_uid == user:
        return True
    mode = directory.st_mode
    if not mode & stat.S_IWOTH and not (directory.st_gid == group and mode & stat.S_IWGRP):
        return False
    return not mode & stat.S_ISVTX or entry is None or entry.st_uid == user  # sticky: only what is the user's own


class _Walk:
    """Walks along a path, one name after the other. ``here``: a descriptor (O_PATH) of the present directory; ``rest``:
    names to come; ``trusted``: the user could change no part of the path so far. In an untrusted part a link raises
    ELOOP."""

    def __init__(self, path: str, who: Who) -> None:
        self.rest = deque(part for part in os.path.abspath(path).split("/") if part)
        self.trusted = True
        self.here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._who = who
        self._links = 0

    def step(self, flags: int = os.O_PATH) -> None:
        """Take the next name; the last one is opened with ``flags``."""
        name = self.rest[0]
        found = os.stat(name, dir_fd=self.here, follow_symlinks=False)
        self.trusted = self.trusted and not _may_change(os.fstat(self.here), found, self._who)
        if stat.S_ISLNK(found.st_mode) and self.trusted and self._links < MOST_LINKS:
            self._links += 1
            target = os.readlink(name, dir_fd=self.here)
            self.rest.popleft()
            self.rest.extendleft(part for part in reversed(target.split("/")) if part not in ("", "."))
            if target.startswith("/"):
                self._go(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            return
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "a link in a place that the server's user can change", name)
        self.rest.popleft()
        last = not self.rest
        self._go(os.open(name, (flags if last else os.O_PATH) | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.here))

    def make(self) -> None:
        """Create the next name as a directory of the user. Only allowed in a trusted directory."""
        os.mkdir(self.rest[0], 0o700, dir_fd=self.here)
        self.step()
        _chown(self.here, self._who)

    def _go(self, descriptor: int) -> None:
        os.close(self.here)
        self.here = descriptor

    def close(self) -> None:
        os.close(self.here)


@contextlib.contextmanager
def _walking(path: str, who: Who) -> Iterator[_Walk]:
    walk = _Walk(path, who)
    try:
        yield walk
    finally:
        walk.close()


def trusted(path: str, who: Who) -> bool:
    """True if the server's user can change neither where a path leads nor what is in that directory."""
    try:
        with _walking(path, who) as walk:
            while walk.rest:
                walk.step()
            return walk.trusted and not _may_change(os.fstat(walk.here), None, who)
    except OSError:
        return False


def open_for(path: str, who: Who) -> int:
    """Open a file that root reads for the server; return its descriptor. If the server's user can change the path, the
    file has to belong to that user; otherwise PermissionError, because the user will see the content."""
    with _walking(path, who) as walk:
        while walk.rest:
            walk.step(os.O_RDONLY | os.O_NONBLOCK)
        found = os.fstat(walk.here)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if not walk.trusted and found.st_uid != who[0]:
            why = "the server's user can put any file there: move it to a directory of root's, or give it to that user"
            raise PermissionError(errno.EACCES, why, path)
        return os.dup(walk.here)


def make_place(path: str, who: Who) -> None:
    """Create a directory and its parents for the user. Directories in which the user may write are created with that
    user's rights."""
    try:
        with _walking(path, who) as walk:
            while walk.rest:
                try:
                    walk.step()
                except FileNotFoundError:
                    if not walk.trusted or _may_change(os.fstat(walk.here), None, who):
                        break
                    walk.make()
            else:
                return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    with acting(who):
        make_directories(path)


def prepare(config: Config, whole: bool = True) -> list[str]:
    """Create the directories that the server changes, give them to its user, and return them. ``whole``: give
    everything in them too; otherwise only directories that still belong to root."""
    who = root_for(config)
    places = [config.server.data_dir, config.server.run_dir]
    if who is None:
        for place in places:
            make_directories(place)
        return places
    for place in places:
        make_place(place, who)
    mail = os.path.join(config.server.data_dir, config.store.maildir).partition("{")[0]
    if mail and os.path.isdir(mail) and not mail.startswith(config.server.data_dir + "/"):
        places.append(mail)
    for place in places:
        if whole or os.stat(place).st_uid == 0:
            give(place, who)
    return places


def hand_over(path: str, config: Config) -> None:
    """Prepare a directory that the operator names for the output of a command. It is created for the server's user, or
    given to that user if it is empty and belongs to root. ConfigError if the user cannot write in it: root writes
    nothing there."""
    with as_root():
        who = root_for(config)
        if who is None:
            os.makedirs(path, mode=0o700, exist_ok=True)
            return
        make_place(path, who)
        if trusted(path, who) and os.stat(path).st_uid == 0 and not os.listdir(path):
            give(path, who)
        with acting(who):
            if os.access(path, os.W_OK, effective_ids=True):
                return
        # a directory above may be closed to the user, but not to a command of root's, which may read and search all
        if os.stat(path).st_uid == who[0]:
            return
    user = config.server.user
    raise ConfigError(f"{user} cannot write in {path}: name a new directory, or `chown -R {user} {path}`")


def give(place: str, who: Who) -> None:
    """Give a directory, and what root created in it, to a user. Later starts find nothing more to do."""
    kept = 0
    try:
        with _walking(place, who) as walk:
            while walk.rest:
                walk.step()
            if not stat.S_ISDIR(os.fstat(walk.here).st_mode):
                return
            kept += not _give(walk.here, who)
            for _, directories, names, here in os.fwalk(".", follow_symlinks=False, dir_fd=walk.here):
                for name in [*directories, *names]:
                    with contextlib.suppress(FileNotFoundError):
                        kept += not _give_in(here, name, who)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        log.event("owner.kept", "warning", place=place, why="a link of the server's user leads there")
    if kept:
        log.event("owner.kept", "warning", place=place, files=kept, why="of root, with more than one name")


def _give_one(path: str, who: Who) -> None:
    with _walking(path, who) as walk:
        while walk.rest:
            walk.step()
        _give(walk.here, who)


def _give_in(here: int, name: str, who: Who) -> bool:
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    try:
        return _give(descriptor, who)
    finally:
        os.close(descriptor)


def _give(descriptor: int, who: Who) -> bool:
    """Give one file to a user. Returns False for a file of root's that has several names, and leaves it alone: another
    name may be elsewhere. The descriptor that is examined is the one that is given, so a rename in between changes
    nothing."""
    found = os.fstat(descriptor)
    if found.st_uid != 0 or found.st_uid == who[0]:
        return True
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
        return False
    _chown(descriptor, who)
    return True


def _chown(descriptor: int, who: Who) -> None:
    """Change the owner of a descriptor, which may be O_PATH."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fchownat(descriptor, b"", who[0], who[1], AT_EMPTY_PATH):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def open_to_all(path: str) -> str:
    """Return a warning if users other than the server's may look into the data directory; empty if not. ConfigError if
    anybody may write in it, because mail and passwords could then be forged."""
    mode = os.stat(path).st_mode
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{path} can be changed by everybody on this machine: `chmod 700 {path}`")
    if mode & (stat.S_IROTH | stat.S_IXOTH | stat.S_IWGRP | stat.S_IRGRP | stat.S_IXGRP):
        others = "everybody on this machine" if mode & stat.S_IRWXO else "its group"
        return f"{path} is open to {others} (mode {stat.S_IMODE(mode):o}): `chmod 700 {path}` unless you mean that"
    return ""


def unreadable(config: Config) -> list[str]:
    """Return a warning if this server, which never runs as root, cannot read the TLS key. A server that root starts can
    read it (see app.keyholder)."""
    path = config.tls.key
    if not path or os.geteuid() == 0 or os.access(path, os.R_OK):
        return []
    return [f"{path} cannot be read by this user: give it to a group of the server's user, with mode 640"]
