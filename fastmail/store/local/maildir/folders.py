"""Where the folders of an account are, in the two layouts of Dovecot, Courier and qmail (``[store] layout``).

Maildir++: INBOX is the Maildir, "A/B" is the directory ``.A.B`` in it, with an empty ``maildirfolder``. fs: INBOX is
the Maildir, "A/B" is the directory ``A/B`` in it; ``cur``, ``new`` and ``tmp`` are no names for mailboxes. Names are in
modified UTF-7, or in UTF-8 if so configured.

The Maildir itself may be a link. Below it no link is followed: every path from here has a mark (durable.beneath) after
the Maildir. Directories that begin with ``..`` or ``.nfs`` are no folders, and a directory whose name cannot be a
mailbox name is ignored: every folder that ``look`` lists can be opened by its listed name. There is one INBOX:
``.Inbox`` is ignored, as by Dovecot, and ``.inbox.Sub`` is INBOX/Sub.

Promise: a directory is synced when the function that created it returns. What is removed is first renamed to a path
that the caller chooses, so that it disappears in one step.
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
DEEPEST = 32  # levels of folders in layout fs: bounds the recursion
LONGEST_ENTRY = 255  # octets of a name in a directory
LONGEST_PATH = 4096 - 300  # octets of a mailbox's path: the names of its files need the rest
INBOX_CASES = sorted({"".join(letters) for letters in itertools.product("Ii", "Nn", "Bb", "Oo", "Xx")})  # INBOX first


def encoded(home: Home, name: str) -> str:
    """Return a mailbox name as directories have it."""
    return name if home.utf8 else encode_utf7(name).decode()


def decoded(home: Home, name: bytes) -> str:
    """Return the mailbox name of one or several levels of directories. CannotDo if it is none."""
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
    top = beneath.guarded(home.root)
    return next((way for way in ways if beneath.is_directory(os.path.join(top, way))), inner)


def folder(home: Home, name: str) -> str:
    """Return the directory of a mailbox."""
    top = beneath.guarded(home.root)
    return top if name == INBOX else os.path.join(top, _inner(home, name))


def control_root(home: Home) -> str:
    """Return the directory of the account's control files, such as subscriptions."""
    return beneath.guarded(home.control or home.root)


def control_directory(home: Home, name: str) -> str:
    """Return the directory of a mailbox's control files: its Maildir, or a directory in a separate tree (``CONTROL=``),
    where INBOX has a directory like the others."""
    if not home.control:
        return folder(home, name)
    return os.path.join(beneath.guarded(home.control), _inner(home, name))


def index_directory(home: Home, name: str) -> str:
    """Return the directory of Dovecot's index files for a mailbox (``INDEX=``)."""
    if not home.indexes:
        return folder(home, name)
    return os.path.join(beneath.guarded(home.indexes), _inner(home, name))


def refuse(home: Home, name: str) -> None:
    """Raise CannotDo for a name that a new mailbox may not have, or that the layout has no directory for."""
    refuse_new(name)
    refuse_length(home, name)
    for level in name.split("/"):
        if home.layout != "fs":
            if "." in level:
                raise CannotDo("character not allowed in mailbox name: .")
        elif level in PARTS or level == "." or level.startswith(".."):
            raise CannotDo(f"{level} is not a valid mailbox name here")


def refuse_length(home: Home, name: str) -> None:
    """Raise CannotDo for a name whose directory would have a longer path than the file system allows."""
    inner = os.fsencode(_inner(home, name))
    if len(os.fsencode(home.root)) + len(inner) > LONGEST_PATH or any(
        len(level) > LONGEST_ENTRY for level in inner.split(b"/")
    ):
        raise CannotDo("mailbox name is too long")


# ---------------------------------------------------------------- what is there


@dataclass(slots=True)
class Folders:
    """``ages``: seconds since each folder's directory changed, by name, without INBOX. ``times``: change times in ns of
    the directories in which folders may appear."""

    ages: dict[str, float] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)


def unchanged(times: dict[str, int]) -> bool:
    """True if the directories still have these change times."""
    return directory_times(list(times)) == list(times.values())


def directory_times(paths: Sequence[str]) -> list[int]:
    """Return the change times of directories in ns; -1 for a path that is no directory."""
    return files.directory_times([os.fsencode(path) for path in paths])


def look(home: Home) -> Folders | None:
    """Return the folders on disk; None if this does not look like a Maildir."""
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
    """True if a client's name would be normalised to this one, so that a mailbox of this name can be opened."""
    try:
        return canonical(name, "/", dotted=True, new=False) == name
    except CannotDo:
        return False


def _listed(home: Home, raw: bytes) -> str | None:
    """Return the mailbox name of a directory, given with "/" between levels.

    None for a directory that is ignored: its name is none, or is INBOX's, or another directory takes precedence."""
    try:
        name = decoded(home, raw)
    except CannotDo:
        return None
    top, slash, below = name.partition("/")
    if is_inbox(top):
        name = INBOX + slash + below
    if name == INBOX or not openable(name):
        return None
    place = os.fsencode(_inner(home, name))  # a name in the other encoding would lead to a different directory
    if home.layout != "fs":
        place = place[1:].replace(b".", b"/")
    if place != raw or len(os.fsencode(home.root)) + len(raw) > LONGEST_PATH:
        return None
    return name


def _hidden(name: str) -> bool:
    return name.startswith(("..", ".nfs"))


def _is_mailbox(path: str) -> bool:
    """True if it has a ``cur`` of its own. A link would lead to the messages of another mailbox."""
    try:
        return stat.S_ISDIR(beneath.lstat(os.path.join(path, "cur")).st_mode)
    except OSError:
        return False


def _flat(root: str) -> Iterator[tuple[bytes, float]]:
    """Yield (name, mtime) of the folders in Maildir++."""
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
    """Yield the same for folders within folders."""
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
    """Return the directory of every mailbox."""
    found = look(home)
    return [folder(home, name) for name in (INBOX, *found.ages)] if found is not None else []


# ---------------------------------------------------------------- making and removing


def make(home: Home, *paths: str) -> None:
    """Create mailboxes' directories, in Maildir++ with their ``maildirfolder`` files, and sync all of them together."""
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
    """Create mailboxes by name. INBOX comes last, because an account that has it does not count as new any more."""
    make(home, *(folder(home, name) for name in sorted(names, key=lambda name: name == INBOX)))


def complete(home: Home, names: Iterable[str]) -> None:
    """Create the parts that folders lack. A program that was interrupted, or a loss of power, leaves a folder with its
    ``cur`` alone; it is a mailbox all the same, and messages are to be put into it."""
    paths = [folder(home, name) for name in names]
    lacking = [path for path in paths if not all(beneath.is_directory(os.path.join(path, sub)) for sub in PARTS)]
    if lacking:
        make(home, *lacking)


def unmake(home: Home, names: Iterable[str]) -> None:
    """Remove what ``make_all`` created, as far as it is empty."""
    for name in sorted(names, key=lambda name: name == INBOX):
        path = folder(home, name)
        with suppress(OSError):
            for sub in PARTS:
                beneath.remove_directory(os.path.join(path, sub))
            if name != INBOX and home.layout != "fs":
                beneath.unlink(os.path.join(path, "maildirfolder"))
            beneath.remove_directory(path)


def move_away(home: Home, name: str, hidden: str) -> None:
    """Move a mailbox out of the account to ``hidden``; folders below it stay. A loss of power does not bring it
    back."""
    path = folder(home, name)
    changed = [os.path.dirname(path), os.path.dirname(hidden)]
    try:
        with suppress(FileExistsError):
            beneath.make_directory(os.path.dirname(hidden))  # fails where the account has no Maildir
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
    """Rename mailboxes, given as (old name, new name), parents before children. One without a directory gets one."""
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
    """Move a directory with everything below it; if the new one exists, only the mailbox's own files. Returns the
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
    """Move the files of one mailbox, without the folders below it."""
    beneath.make_directories(new)
    there = beneath.names(old)
    mine = {*_own_files(old), *(name for name in PARTS if name in there)}
    for name in sorted(mine, key=lambda name: name != "cur"):  # cur first: without it, the old one is no mailbox
        beneath.rename(os.path.join(old, name), os.path.join(new, name))


def _clear(path: str, root: str) -> None:
    """Remove a directory and its parents as far as they are empty."""
    while path != root:
        try:
            beneath.remove_directory(path)
        except FileNotFoundError:
            pass
        except OSError:
            return
        path = os.path.dirname(path)
