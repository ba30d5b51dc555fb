"""Whose files a server's files are: root starts it, and its user works with them.

Promises: what the server needs belongs to its user before root is dropped; nothing that could be somebody else's file
is given away, even where that user plants links (only what root owns, no file with a second name; no link is followed).
Commands that root runs make files that belong to the server's user. Fails with ConfigError that says what to do.
"""

import ctypes
import grp
import os
import pwd
import stat
import struct
import threading
from collections.abc import Sequence

from fastmail.config.settings import Config
from fastmail.model.errors import ConfigError
from fastmail.telemetry import log

CAPABILITIES = 0x20080522  # version 3 of the interface (capget(2))
READ_SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
FILES = 0b11111  # CAP_CHOWN to CAP_FSETID: what root may do with files of others


def user_of(config: Config) -> tuple[int, int] | None:
    """(user, group) that the server runs as when root starts it; None where it stays who it is."""
    server = config.server
    if not server.user:
        return None
    try:
        user = pwd.getpwnam(server.user)
        group = grp.getgrnam(server.group).gr_gid if server.group else user.pw_gid
    except KeyError:
        raise ConfigError(f"[server] user {server.user!r} or group {server.group!r} is not known here") from None
    return None if os.geteuid() == user.pw_uid else (user.pw_uid, group)


def drop(config: Config, places: Sequence[str], sockets: Sequence[str] = ()) -> None:
    """Become the server's user for good. ``places``: directories that the server changes, with all that is in them;
    ``sockets``: paths that root has just made."""
    who = user_of(config)
    if who is None:
        return
    if os.geteuid() != 0:
        raise ConfigError(f"only root can become {config.server.user}")
    for place in places:
        give(place, *who)
    for path in sockets:
        _give(path, None, os.lstat(path), *who)
    os.setgroups([])
    os.setgid(who[1])
    os.setuid(who[0])
    for place in places:
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigError(
                f"{config.server.user} cannot read and write in {place}: it belongs to somebody else, or a directory "
                f"above it is closed; `chown -R {config.server.user} {place}`, and mode 711 for those above"
            )


def give(place: str, user: int, group: int) -> None:
    """Give a directory, and what root made in it, to a user. Once it is done, later starts find nothing to do."""
    kept = 0
    _give(place, None, os.lstat(place), user, group)
    for _, directories, files, here in os.fwalk(place, follow_symlinks=False):
        for name in [*directories, *files]:
            try:
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
            except FileNotFoundError:
                continue
            kept += not _give(name, here, found, user, group)
    if kept:
        log.event("owner.kept", "warning", place=place, files=kept, why="of root, with more than one name")


def _give(name: str, here: int | None, found: os.stat_result, user: int, group: int) -> bool:
    """False for a file of root's that is left alone: a second name may be somewhere else."""
    if found.st_uid != 0 or found.st_uid == user:
        return True
    if not stat.S_ISDIR(found.st_mode) and found.st_nlink > 1:
        return False
    os.chown(name, user, group, dir_fd=here, follow_symlinks=False)
    return True


def act_for(config: Config) -> None:
    """For commands that root runs: what this process makes from here on belongs to the server's user, while root's
    files can be read as before. Does nothing for other users."""
    who = user_of(config)
    if who is None or os.geteuid() != 0 or threading.active_count() > 1:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsgid(who[1])
    libc.setfsuid(who[0])
    effective, permitted = _capabilities(libc)
    _set_capabilities(libc, effective | permitted & FILES, permitted)


def keep_only_reading() -> None:
    """Of root's rights keep the one to read any file."""
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


def open_to_all(path: str) -> str:
    """What is wrong with who may come into the data directory; empty when nothing is. ConfigError where anybody may
    change what is in it: mail and passwords could be anybody's."""
    mode = os.stat(path).st_mode
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{path} can be changed by everybody on this machine: `chmod 700 {path}`")
    if mode & (stat.S_IROTH | stat.S_IXOTH | stat.S_IWGRP | stat.S_IRGRP | stat.S_IXGRP):
        others = "everybody on this machine" if mode & stat.S_IRWXO else "its group"
        return f"{path} is open to {others} (mode {stat.S_IMODE(mode):o}): `chmod 700 {path}` unless you mean that"
    return ""


def unreadable(config: Config) -> list[str]:
    """What will go wrong for a server that is never root: it cannot read the key then, at a reload or from the start.
    One that root starts can (see app.keyholder)."""
    path = config.tls.key
    if not path or os.geteuid() == 0 or os.access(path, os.R_OK):
        return []
    return [f"{path} cannot be read by this user: give it to a group of the server's user, with mode 640"]
