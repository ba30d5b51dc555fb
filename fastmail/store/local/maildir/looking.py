"""Takes in what other programs did to a Maildir: new files, changed flags, files that are gone.

Runs on a helper thread and leaves all writing to the commit queue. Promise: nothing is renamed here, and nothing
removed but links of our own to content that is still there under its first name; a file of the running instance that
has no record yet is a delivery under way and is left alone for a while; what looks removed is looked for again before
it is believed, because readdir may miss a file that is being renamed. UIDs of new files follow the order of arrival
that their names state, or a control file of Dovecot or Courier when the mailbox is new.
"""

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastmail.durable import beneath, files
from fastmail.durable.env import Read, translate
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
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import FileName, NameMaker, arrival_order, path_of, sizes_in

ADOPT_BATCH = 500  # files that are taken in at once, or fewer whose summaries have box_rows.WRITTEN octets
LETTER_MASK = (1 << LETTERED_KEYWORDS) - 1
UNDER_WAY = 600.0  # s after which a file of the running instance without a record is no delivery under way any more
FIRST_LOOK = 5.0  # the same when the mailbox is looked at for the first time: an account that came back
TICK = 0.05  # a directory changed this recently may change again without a new mtime
LOOKS = 3  # more at a directory, before what it lacks is called gone

State = tuple[int, int]


@dataclass(slots=True)
class Plan:
    """What a look at the directories found."""

    generation: int
    new: list[tuple[bytes, bytes]] = field(default_factory=list)  # mark, name
    renamed: list[tuple[int, bytes, bytes]] = field(default_factory=list)  # uid, mark, name
    gone: list[int] = field(default_factory=list)
    unlisted: list[tuple[int, bytes]] = field(default_factory=list)  # uid, base, that a shared list is to get
    fresh: bool = False
    news: frozenset[bytes] = frozenset()  # names of others that new/ had
    pending: bool = False  # files that may be deliveries under way were passed over: look again next time

    def __bool__(self) -> bool:
        return bool(self.new or self.renamed or self.gone or self.fresh)


def directory_times(directory: str) -> State | None:
    """Change times of new/ and cur/ in ns; None when they are missing."""
    new, cur = folders.directory_times((directory + "/new", directory + "/cur"))
    return (new, cur) if new >= 0 and cur >= 0 else None


def directory_state(directory: str) -> State | None:
    """The same, or None when they can not be relied on yet."""
    times = directory_times(directory)
    return None if times is None or max(times) > time.time_ns() - int(TICK * 1e9) else times


def quiet_cur(directory: str) -> int:
    """Change time of cur/, 0 when it can not be relied on yet: names in new/ say all when it is what it was."""
    times = directory_times(directory)
    return 0 if times is None or times[1] > time.time_ns() - int(TICK * 1e9) else times[1]


def listing(directory: str, sub: str) -> list[bytes]:
    """Names in new/ or cur/ that are messages by their form. StorageFailed where that cannot be said: it is a link,
    say, which is not followed."""
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
    """Compare the directories with the index. ``listed``: what a shared list of UIDs has (the ``whole`` of it, or what
    is new there): a message that it names otherwise than the index is gone, and new."""
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
        for _ in range(LOOKS):  # a file that is renamed while its directory is read may be missed
            again = {base_of(n) for sub in ("new", "cur") for n in listing(directory, sub)}
            lost = {base: uid for base, uid in lost.items() if base not in again}
            if not lost:
                break
            time.sleep(0.001)
        plan.gone += lost.values()
        plan.pending = plan.pending or len(lost) < len(missing)  # renamed just now, or taken in by another worker
    plan.gone.sort()
    plan.new.sort(key=lambda item: arrival_order(item[1]))
    return plan


def assign(plan: Plan, listed: Control, uidnext: int) -> list[tuple[int, bytes]]:
    """Give UIDs to new files that a shared list does not name, or names too late for an index that is at ``uidnext``;
    the lines that it has to get."""
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


def drop_cut_short(home: Home, directory: str, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The files to be taken in, without what was cut short and never answered: a link of a COPY or MOVE whose message
    is still where it was, which would be there twice; and a file of ours whose name a loss of power left, but nothing
    of its content."""
    out = []
    for mark, name in items:
        path = path_of(directory, mark + name)
        if (NameMaker.is_copy(name) and _linked_elsewhere(home, path)) or _is_empty(path, name):
            files.unlink_batch([path])
        else:
            out.append((mark, name))
    return out


def _is_empty(path: bytes, name: bytes) -> bool:
    """Is it a file of ours without a single octet of its content, which its name says it has?"""
    size = NameMaker.octets_in(name)
    try:
        status = beneath.lstat(path)
        if not size or not stat.S_ISREG(status.st_mode) or status.st_size > size:
            return False
        return not (files.read_file(path) or b"").strip(b"\0")
    except OSError:
        return False


def _linked_elsewhere(home: Home, path: bytes) -> bool:
    """Does another message file of the account share the file's content? After a loss of power the two may be files of
    their own: what the journal has is written anew."""
    try:
        status = beneath.lstat(path)
    except OSError:
        return False
    octets = sizes_in(os.path.basename(path))[0]
    for place in folders.directories(home):
        for sub in ("/cur", "/new"):
            try:
                with beneath.scan(place + sub) as entries:
                    for entry in entries:
                        other = os.fsencode(f"{place}{sub}/{entry.name}")
                        if other == path:
                            continue
                        if entry.inode() == status.st_ino:
                            return True
                        if octets >= 0 and sizes_in(os.fsencode(entry.name))[0] == octets and _alike(path, other):
                            return True
            except OSError:
                continue
    return False


def _alike(path: bytes, other: bytes) -> bool:
    """Two files of the same time and content."""
    one, two = beneath.lstat(path), beneath.lstat(other)
    if (int(one.st_mtime), one.st_size) != (int(two.st_mtime), two.st_size):
        return False
    return beneath.read(os.fsdecode(path), one.st_size + 1) == beneath.read(os.fsdecode(other), two.st_size + 1)


def age_of(directory: str, marked: bytes) -> float:
    """Seconds since the file got its name; negative when it is gone."""
    try:
        return time.time() - beneath.lstat(path_of(directory, marked)).st_ctime
    except OSError:
        return -1.0


def foreign_news(directory: str, maker: NameMaker) -> frozenset[bytes]:
    """Names in new/ that the running instance did not give."""
    return frozenset(name for name in listing(directory, "new") if not maker.under_way(name))


def read_index(
    read: Read, t: Tables, key: bytes
) -> tuple[dict[bytes, tuple[int, bytes]], set[int], set[bytes], MailboxRow]:
    """({base: (uid, mark and name)}, UIDs whose name is to follow, bases to be unlinked, row) of one commit."""
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


def examine(directory: str, items: Sequence[tuple[bytes, bytes]], known: Control) -> tuple[list[Found], int]:
    """Read and scan new files; those that vanished or are no regular files are left out. Returns with them how many of
    ``items`` were looked at: all, or those whose summaries are enough for one commit."""
    out: list[Found] = []
    octets = 0
    for place, (mark, name) in enumerate(items):
        if octets > box_rows.WRITTEN:
            return out, place
        path = path_of(directory, mark + name)
        try:
            status = beneath.lstat(path)
            if not stat.S_ISREG(status.st_mode):
                continue
            data = files.read_file(path) or b""
        except OSError:
            continue
        summary = scanned(data)
        octets += len(summary)
        parsed = FileName.parse(name)
        base = base_of(name)
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


# ---------------------------------------------------------------- applied in the writer's transaction
