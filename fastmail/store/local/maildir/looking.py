"""Finds what other programs did to a Maildir: new files, changed flags, files that are gone.

It runs on a helper thread and leaves all writing to the commit queue. Promise: nothing is renamed or removed here. A
file of the running server without a record is a delivery under way and is left alone for a while. A file that seems to
be gone is looked for again before its message is expunged, because readdir may miss a file that is being renamed. UIDs
of new files follow the order of arrival that their names state, or, in a new mailbox, a control file of Dovecot or
Courier. A file that is still being written in its place (``cp`` instead of a rename out of tmp/) is left for a later
look.
"""

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail.durable import beneath, files
from fastmail.durable.env import Read
from fastmail.durable.errors import translate
from fastmail.message.preview import scanned
from fastmail.message.summary import served_size
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.flags import LETTERED_KEYWORDS
from fastmail.store.local.index import box_rows, walk
from fastmail.store.local.index.layout import CUR, MAILBOX, NEW, MailboxRow, base_of, uid_of
from fastmail.store.local.index.references import in_segment
from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.names import FileName, NameMaker, arrival_order, path_of

ADOPT_BATCH = 500  # files added in one commit; fewer if their summaries have box_rows.WRITTEN octets
LETTER_MASK = (1 << LETTERED_KEYWORDS) - 1
UNDER_WAY = 600.0  # s for which a file of the running server without a record counts as a delivery under way
FIRST_LOOK = 5.0  # s, the same on the first look at a mailbox: the account may have been removed and created again
TICK = 0.05  # s after a change in which a directory may change again without a new mtime
WRITING = 30.0  # s after its last change in which a file that is open for writing is left alone
SETTLED = 2.0  # s, the same for a file of which nobody can tell whether it is open
LOOKS = 3  # further looks at a directory before a missing file counts as gone

State = tuple[int, int]


@dataclass(slots=True)
class Plan:
    """What a comparison of the directories with the index found."""

    generation: int
    new: list[tuple[bytes, bytes]] = field(default_factory=list)  # mark, name
    renamed: list[tuple[int, bytes, bytes]] = field(default_factory=list)  # uid, mark, name
    gone: list[int] = field(default_factory=list)
    unlisted: list[tuple[int, bytes]] = field(default_factory=list)  # (UID, base) to be added to a shared list
    fresh: bool = False
    news: frozenset[bytes] = frozenset()  # other programs' files in new/
    pending: bool = False  # files that may be deliveries under way were skipped: compare again next time

    unfinished: list[tuple[bytes, bytes]] = field(default_factory=list)  # mark, name of new files still being written

    def leave(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Leave unfinished files for a later look."""
        self.unfinished += items
        self.news = self.news.difference(name for mark, name in items if mark == NEW)
        self.pending = self.pending or bool(items)

    def __bool__(self) -> bool:
        return bool(self.new or self.renamed or self.gone or self.fresh)


def directory_times(directory: str) -> State | None:
    """Return the change times of new/ and cur/ in ns; None if one is missing."""
    new, cur = folders.directory_times((directory + "/new", directory + "/cur"))
    return (new, cur) if new >= 0 and cur >= 0 else None


def directory_state(directory: str) -> State | None:
    """Return the same, or None if a change just now may not show in them yet."""
    times = directory_times(directory)
    return None if times is None or max(times) > time.time_ns() - int(TICK * 1e9) else times


def quiet_cur(directory: str) -> int:
    """Return the change time of cur/, 0 if a change just now may not show in it yet. While it stays the same, only new/
    has to be listed."""
    times = directory_times(directory)
    return 0 if times is None or times[1] > time.time_ns() - int(TICK * 1e9) else times[1]


def listing(directory: str, sub: str) -> list[bytes]:
    """Return the names in new/ or cur/ that have the form of messages. StorageFailed if the directory cannot be read; a
    link is not followed."""
    try:
        there = beneath.names(f"{directory}/{sub}")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise translate(error) from error
    return [name.encode("utf-8", "surrogateescape") for name in there if not name.startswith((".", ":"))]


def look(
    read: Read,
    t: Tables,
    box: MailboxRow,
    directory: str,
    maker: NameMaker,
    listed: Control | None = None,
    whole: bool = False,
) -> Plan:
    """Compare the directories with the index.

    ``listed``: what a shared UID list has, either the ``whole`` list or what is new in it. A message to which the list
    gives another UID than the index counts as gone and as new."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for mark, sub in ((NEW, "new"), (CUR, "cur")):
        for name in listing(directory, sub):
            found[base_of(name)] = (mark, name)
    known, todo, trash, box = read_index(read, t, box.key)
    plan = Plan(box.generation, fresh=box.generation == 0)
    plan.news = frozenset(name for mark, name in found.values() if mark == NEW and not maker.under_way(name))
    for base, (mark, name) in found.items():
        entry = known.get(base)
        if listed is not None and entry is not None:
            uid = listed.uids.get(base, 0)
            if whole and not uid and entry[0] >= listed.uidnext:
                plan.unlisted.append((entry[0], base))
            elif uid != entry[0] and (uid or whole):
                plan.gone.append(entry[0])
                entry = None
        if entry is None:
            if base in trash:
                continue
            own = maker.under_way(name) and (listed is None or base not in listed.uids)
            if own and age_of(directory, mark + name) < (FIRST_LOOK if plan.fresh else UNDER_WAY):
                plan.pending = True
            else:
                plan.new.append((mark, name))
        elif entry[1] != mark + name and entry[0] not in todo and beneath.exists(path_of(directory, mark + name)):
            plan.renamed.append((entry[0], mark, name))
    missing = [(base, entry) for base, entry in known.items() if base not in found and entry[0] not in todo]
    if missing:
        lost = {base: uid for base, (uid, _) in missing}
        for _ in range(LOOKS):  # readdir may miss a file that is renamed meanwhile
            again = {base_of(n) for sub in ("new", "cur") for n in listing(directory, sub)}
            lost = {base: uid for base, uid in lost.items() if base not in again}
            if not lost:
                break
            time.sleep(0.001)
        plan.gone += lost.values()
        plan.pending = plan.pending or len(lost) < len(missing)  # renamed just now, or handled by another worker
    plan.gone.sort()
    plan.new.sort(key=lambda item: arrival_order(item[1]))
    return plan


def assign(plan: Plan, listed: Control, uidnext: int) -> list[tuple[int, bytes]]:
    """Assign UIDs to new files that a shared list does not have, or has with UIDs below ``uidnext``. Returns the lines
    to be added to the list."""
    lines = sorted(plan.unlisted)
    following = max(listed.uidnext, uidnext, lines[-1][0] + 1 if lines else 0)
    for _, name in plan.new:
        base = base_of(name)
        if listed.uids.get(base, 0) < uidnext:
            listed.uids[base] = following
            lines.append((following, base))
            following += 1
    listed.uidnext = following
    return lines


def age_of(directory: str, marked: bytes) -> float:
    """Return the seconds since the file got its name; negative if it does not exist."""
    try:
        return time.time() - beneath.lstat(path_of(directory, marked)).st_ctime
    except OSError:
        return -1.0


def foreign_news(directory: str, maker: NameMaker) -> frozenset[bytes]:
    """Return the names in new/ that the running server did not create."""
    return frozenset(name for name in listing(directory, "new") if not maker.under_way(name))


def read_index(
    read: Read, t: Tables, key: bytes
) -> tuple[dict[bytes, tuple[int, bytes]], set[int], set[bytes], MailboxRow]:
    """Return ({base: (UID, mark and name)}, UIDs whose files are to be renamed, bases to be unlinked, row) as of one
    commit."""
    known: dict[bytes, tuple[int, bytes]] = {}
    with read() as txn:
        snapshot = LocalSnapshot(txn, t)
        box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        for uid, marked in snapshot.files(key):
            if in_segment(marked):
                continue
            known[base_of(marked[1:])] = (uid, marked)
        todo = {uid_of(at) for at, _ in walk.rows(txn, t.todo, key)}
        trash = {bytes(at[MAILBOX:]) for at, _ in walk.rows(txn, t.trash, key)}
    return known, todo, trash, box


def unknown(read: Read, t: Tables, key: bytes, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return those of ``items`` (mark, name) that are neither in the index nor about to be unlinked."""
    known, _, trash, _ = read_index(read, t, key)
    return [item for item in items if base_of(item[1]) not in known and base_of(item[1]) not in trash]


@dataclass(slots=True)
class Found:
    """A file read and scanned, ready for a record."""

    uid: int
    flags: int
    keywords: int
    date: int
    size: int
    saved: int
    summary: bytes
    marked: bytes
    pop3: tuple[int, bytes] | None = None


def is_unfinished(path: bytes, status: os.stat_result) -> bool:
    """True if somebody may still be writing the file in its place. OSError.

    A rename changes ctime and not mtime, so a file that came by one out of tmp/ mostly shows that in the status alone;
    writing sets both. Only a file that was changed lately has to be asked about further. Times are the file system's:
    of a server whose clock is far from ours nothing can be told, and its files are taken as they are."""
    if status.st_mtime_ns != status.st_ctime_ns and status.st_size:
        return False
    age = abs(time.time() - status.st_ctime)
    if age >= WRITING:
        return False
    written = beneath.is_written(path)
    return age < SETTLED if written is None else written


def unfinished(directory: str, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return those of these files (mark, name) that are still being written."""
    out = []
    for item in items:
        path = path_of(directory, item[0] + item[1])
        try:
            status = beneath.lstat(path)
            if stat.S_ISREG(status.st_mode) and is_unfinished(path, status):
                out.append(item)
        except OSError:
            continue  # it has vanished; examine will see that too
    return out


def examine(
    directory: str,
    items: Sequence[tuple[bytes, bytes]],
    known: Control,
    unfinished: list[tuple[bytes, bytes]] | None = None,
) -> tuple[list[Found], int]:
    """Read and scan new files; those that have vanished or are no regular files are left out. Those that are still
    being written, and have no UID yet (``known``), are added to ``unfinished`` instead, if that is given.

    Also returns how many of ``items`` were looked at: all, or as many as have summaries enough for one commit."""
    out: list[Found] = []
    octets = 0
    for place, (mark, name) in enumerate(items):
        if octets > box_rows.WRITTEN:
            return out, place
        base = base_of(name)
        path = path_of(directory, mark + name)
        try:
            status = beneath.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                continue
            if unfinished is not None and base not in known.uids and is_unfinished(path, status):
                unfinished.append((mark, name))
                continue
            data = files.read_file(path) or b""
        except OSError:
            continue
        summary = scanned(data)
        octets += len(summary)
        parsed = FileName.parse(name)
        out.append(
            Found(
                known.uids.get(base, 0),
                parsed.flags,
                parsed.keywords | known.keywords.get(base, 0),
                int(status.st_mtime),
                served_size(summary),
                int(status.st_ctime) & 0xFFFFFFFF,
                summary,
                mark + name,
                known.pop3.get(base),
            )
        )
    return out, len(items)
