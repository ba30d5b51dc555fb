"""Where the folders of an account lie, in the two layouts of Dovecot, Courier and qmail (``[store] layout``).

Maildir++: INBOX is the Maildir, "A/B" the directory ``.A.B`` in it, with an empty ``maildirfolder``. fs: INBOX is the
Maildir, "A/B" the directory ``A/B`` in it, whatever else the levels are called; ``cur``, ``new`` and ``tmp`` are no
names there. Names are in modified UTF-7, or in UTF-8 where that is set. The Maildir itself may be a link; below it no
link is followed: every path from here has the mark of durable.beneath behind the Maildir. Directories that begin with
``..`` or ``.nfs`` are no folders, and what cannot be a mailbox name is left alone: what ``look`` lists can be opened by
the name under which it is listed. There is one INBOX: ``.Inbox`` is left alone, as by Dovecot, and ``.inbox.Sub`` is
INBOX/Sub.

Promise: what is made is synced before it is returned; what is removed goes into a place that the caller names first,
so that it vanishes in one step.
"""

import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fastmail.durable import beneath, files
from fastmail.durable.replace import make_directories, make_unsynced, sync_directories
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import INBOX, canonical, decode_utf7, encode_utf7, is_inbox, refuse_new
from fastmail.store.local.maildir.home import Home

PARTS = ("tmp", "new", "cur")
DEEPEST = 32
LONGEST_ENTRY = 255  # octets of a name in a directory
LONGEST_PATH = 4096 - 300  # octets of a mailbox's path: its files need some as well
INBOX_CASES = sorted({"".join(letters) for letters in itertools.product("Ii", "Nn", "Bb", "Oo", "Xx")})  # INBOX first


def encoded(home: Home, name: str) -> str:
    """A mailbox name as directories are called."""
    return name if home.utf8 else encode_utf7(name).decode()


def decoded(home: Home, name: bytes) -> str:
    """The reverse, for one or several levels; CannotDo when it is none."""
    if not home.utf8:
        return decode_utf7(name)
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotDo("mailbox name is not UTF-8") from None


def _inner(home: Home, name: str) -> str:
    text = encoded(home, name)
    inner = text if home.layout == "fs" else "." + text.replace("/", ".")
    if not name.startswith(INBOX + "/"):
        return inner
    start = len(inner) - len(text)
    ways = (inner[:start] + case + inner[start + len(INBOX) :] for case in INBOX_CASES)
    top = beneath.mark(home.root)
    return next((way for way in ways if beneath.is_directory(os.path.join(top, way))), inner)


def folder(home: Home, name: str) -> str:
    """The directory of a mailbox."""
    top = beneath.mark(home.root)
    return top if name == INBOX else os.path.join(top, _inner(home, name))


def control_root(home: Home) -> str:
    """Where the control files of an account are: subscriptions and the like."""
    return beneath.mark(home.control or home.root)


def control_directory(home: Home, name: str) -> str:
    """Where the control files of a mailbox are: in its Maildir, or in a tree of their own (``CONTROL=``), where INBOX
    has a directory like the others."""
    if not home.control:
        return folder(home, name)
    return os.path.join(beneath.mark(home.control), _inner(home, name))


def index_directory(home: Home, name: str) -> str:
    """The same for the index files of a Dovecot (``INDEX=``)."""
    if not home.indexes:
        return folder(home, name)
    return os.path.join(beneath.mark(home.indexes), _inner(home, name))


def refuse(home: Home, name: str) -> None:
    """CannotDo for a name that is not given to a new mailbox, or that the layout has no directory for."""
    refuse_new(name)
    refuse_length(home, name)
    for level in name.split("/"):
        if home.layout != "fs":
            if "." in level:
                raise CannotDo("character not allowed in mailbox name: .")
        elif level in PARTS or level == "." or level.startswith(".."):
            raise CannotDo(f"{level} is no name for a mailbox here")


def refuse_length(home: Home, name: str) -> None:
    """CannotDo for a name whose directory would have a longer path than the file system takes."""
    inner = os.fsencode(_inner(home, name))
    if len(os.fsencode(home.root)) + len(inner) > LONGEST_PATH or any(
        len(level) > LONGEST_ENTRY for level in inner.split(b"/")
    ):
        raise CannotDo("mailbox name is too long")


# ---------------------------------------------------------------- what is there


@dataclass(slots=True)
class Folders:
    """``ages``: seconds since each folder's directory changed, by name, INBOX not among them. ``times``: when the
    directories that can get folders changed, in ns."""

    ages: dict[str, float] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)


def unchanged(times: dict[str, int]) -> bool:
    """Did nothing come or go since the directories had these times?"""
    return directory_times(list(times)) == list(times.values())


def directory_times(paths: Sequence[str]) -> list[int]:
    """When directories changed, in ns; -1 for what is none."""
    return files.directory_times([os.fsencode(path) for path in paths])


def look(home: Home) -> Folders | None:
    """The folders on disk; None when this does not look like a Maildir."""
    root = folder(home, INBOX)
    if not beneath.is_directory(os.path.join(root, "cur")):
        return None
    out = Folders()
    try:
        out.times[root] = directory_times([root])[0]
        for raw, mtime in _fs(root, b"", out, 0) if home.layout == "fs" else _flat(root):
            name = _listed(home, raw)
            if name is not None:
                out.ages[name] = time.time() - mtime
    except OSError:
        return None
    return out


def openable(name: str) -> bool:
    """Is this what a client's name becomes, so that a mailbox of this name can be opened?"""
    try:
        return canonical(name, "/", dotted=True, new=False) == name
    except CannotDo:
        return False


def _listed(home: Home, raw: bytes) -> str | None:
    """The mailbox of a directory, ``raw`` as it is called with "/" between levels; None for one that is left alone: its
    name is none or is INBOX's, or another directory goes before it."""
    try:
        name = decoded(home, raw)
    except CannotDo:
        return None
    top, slash, below = name.partition("/")
    if is_inbox(top):
        name = INBOX + slash + below
    if name == INBOX or not openable(name):
        return None
    place = os.fsencode(_inner(home, name))  # one in the other coding would be looked for elsewhere
    if home.layout != "fs":
        place = place[1:].replace(b".", b"/")
    if place != raw or len(os.fsencode(home.root)) + len(raw) > LONGEST_PATH:
        return None
    return name


def _hidden(name: str) -> bool:
    return name.startswith(("..", ".nfs"))


def _is_mailbox(path: str) -> bool:
    """Has it a ``cur`` of its own? One that is a link would be the messages of another mailbox."""
    try:
        return stat.S_ISDIR(beneath.lstat(os.path.join(path, "cur")).st_mode)
    except OSError:
        return False


def _flat(root: str) -> Iterator[tuple[bytes, float]]:
    """(name, mtime) in Maildir++."""
    with beneath.scan(root) as entries:
        for entry in entries:
            if not entry.name.startswith(".") or _hidden(entry.name):
                continue
            try:
                if entry.is_dir(follow_symlinks=False) and _is_mailbox(os.path.join(root, entry.name)):
                    mtime = entry.stat(follow_symlinks=False).st_mtime
                    yield os.fsencode(entry.name[1:]).replace(b".", b"/"), mtime
            except OSError:
                continue


def _fs(place: str, above: bytes, out: Folders, depth: int) -> Iterator[tuple[bytes, float]]:
    """The same for directories in directories."""
    if depth > DEEPEST:
        return
    with beneath.scan(place) as entries:
        for entry in entries:
            if entry.name in PARTS or _hidden(entry.name):
                continue
            try:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                status = entry.stat(follow_symlinks=False)
                raw = above + os.fsencode(entry.name)
                path = os.path.join(place, entry.name)
                out.times[path] = status.st_mtime_ns
                if _is_mailbox(path):
                    yield raw, status.st_mtime
                yield from _fs(path, raw + b"/", out, depth + 1)
            except OSError:
                continue


def directories(home: Home) -> list[str]:
    """Every mailbox's directory."""
    found = look(home)
    return [folder(home, name) for name in (INBOX, *found.ages)] if found is not None else []


# ---------------------------------------------------------------- making and removing


def make(home: Home, *paths: str) -> None:
    """Make mailboxes' directories, and in Maildir++ their ``maildirfolder`` marks: all in one commit of the journal."""
    top = folder(home, INBOX)
    changed = [top]
    for path in paths:
        for sub in PARTS:
            changed += make_unsynced(os.path.join(path, sub))
        if home.layout != "fs" and path != top:
            os.close(beneath.open_file(os.path.join(path, "maildirfolder"), os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        changed.append(path)
    sync_directories(changed)


def make_all(home: Home, names: Iterable[str]) -> None:
    """The same by name; INBOX last, because an account that has it is not new any more."""
    make(home, *(folder(home, name) for name in sorted(names, key=lambda name: name == INBOX)))


def unmake(home: Home, names: Iterable[str]) -> None:
    """Take back what ``make_all`` made, as far as it is empty."""
    for name in sorted(names, key=lambda name: name == INBOX):
        path = folder(home, name)
        with suppress(OSError):
            for sub in PARTS:
                beneath.remove_directory(os.path.join(path, sub))
            if name != INBOX and home.layout != "fs":
                beneath.unlink(os.path.join(path, "maildirfolder"))
            beneath.remove_directory(path)


def move_away(home: Home, name: str, hidden: str) -> None:
    """Take a mailbox out of the account; folders below it stay. It does not come back when the power fails."""
    path = folder(home, name)
    changed = [os.path.dirname(path), os.path.dirname(hidden)]
    try:
        with suppress(FileExistsError):
            beneath.make_directory(os.path.dirname(hidden))  # only where the account has its Maildir
        if home.layout == "fs" and _has_folders(path):
            _move_own(path, hidden)
        else:
            beneath.rename(path, hidden)
    except FileNotFoundError:
        pass
    if home.layout == "fs":
        _clear(path, folder(home, INBOX))
    if home.control:
        place = control_directory(home, name)
        with suppress(FileNotFoundError):
            for one in _own_files(place):
                beneath.unlink(os.path.join(place, one))
        _clear(place, control_root(home))
        changed.append(place)
    sync_directories(one for one in changed if beneath.is_directory(one))


def rename(home: Home, pairs: Sequence[tuple[str, str]]) -> None:
    """Move mailboxes, (old name, new name) each, those above before those below; one that has no directory gets
    one."""
    changed = {folder(home, INBOX)}
    places = [(folder(home, old), folder(home, new)) for old, new in sorted(pairs)]
    for old, new in places:
        if not beneath.is_directory(old):
            make(home, new)
            continue
        changed |= _move(old, new)
    if home.layout == "fs":
        for old, _ in reversed(places):
            _clear(old, folder(home, INBOX))
    if home.control:
        places = [(control_directory(home, old), control_directory(home, new)) for old, new in sorted(pairs)]
        for old, new in places:
            if beneath.is_directory(old):
                changed |= _move(old, new)
        for old, _ in reversed(places):
            _clear(old, control_root(home))
    sync_directories(path for path in sorted(changed) if beneath.is_directory(path))


def _move(old: str, new: str) -> set[str]:
    """Move a directory with all that is below, or, where there is a new one, what belongs to the mailbox; the
    directories that changed."""
    make_directories(os.path.dirname(new))
    if beneath.is_directory(new):
        _move_own(old, new)
    else:
        beneath.rename(old, new)
    return {os.path.dirname(one) for one in (old, new)}


def _has_folders(path: str) -> bool:
    with beneath.scan(path) as entries:
        return any(entry.name not in PARTS and entry.is_dir(follow_symlinks=False) for entry in entries)


def _own_files(path: str) -> list[str]:
    with beneath.scan(path) as entries:
        return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]


def _move_own(old: str, new: str) -> None:
    """What belongs to one mailbox, without the folders below it."""
    beneath.make_directories(new)
    there = beneath.names(old)
    mine = {*_own_files(old), *(name for name in PARTS if name in there)}
    for name in sorted(mine, key=lambda name: name != "cur"):  # without cur it is no mailbox any more
        beneath.rename(os.path.join(old, name), os.path.join(new, name))


def _clear(path: str, root: str) -> None:
    """Remove levels that hold nothing any more."""
    while path != root:
        try:
            beneath.remove_directory(path)
        except FileNotFoundError:
            pass
        except OSError:
            return
        path = os.path.dirname(path)
