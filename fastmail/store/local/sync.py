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
from typing import Any

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath, files
from fastmail.durable.env import Read, translate
from fastmail.message.preview import scanned
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.flags import LETTERED_KEYWORDS, SEEN
from fastmail.store.interface import Account, Appended, Mailbox
from fastmail.store.local import emails, folders, foreign, given, holds, layout, ops, weight
from fastmail.store.local.accounts import Change
from fastmail.store.local.content import in_segment
from fastmail.store.local.layout import Tables
from fastmail.store.local.names import FileName, NameMaker, arrival_order, base_of, path_of, sizes_in
from fastmail.store.local.snapshot import LocalSnapshot

ADOPT_BATCH = 500  # files that are taken in at once, or fewer whose summaries have ops.WRITTEN octets
LETTER_MASK = (1 << LETTERED_KEYWORDS) - 1
UNDER_WAY = 600.0  # s after which a file of the running instance without a record is no delivery under way any more
FIRST_LOOK = 5.0  # the same when the mailbox is looked at for the first time: an account that came back
SEEN_NOTE = b"/seen"
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
    box: Mailbox,
    directory: str,
    maker: NameMaker,
    listed: foreign.Control | None = None,
    whole: bool = False,
) -> Plan:
    """Compare the directories with the index. ``listed``: what a shared list of UIDs has (the ``whole`` of it, or what
    is new there): a message that it names otherwise than the index is gone, and new."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for mark, sub in ((b"n", "new"), (b"c", "cur")):
        for name in listing(directory, sub):
            found[base_of(name)] = (mark, name)
    known, todo, trash, box = read_index(read, t, box.key)
    plan = Plan(box.generation, fresh=box.generation == 0)
    plan.news = frozenset(name for mark, name in found.values() if mark == b"n" and not maker.under_way(name))
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


def assign(plan: Plan, listed: foreign.Control, uidnext: int) -> list[tuple[int, bytes]]:
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


def drop_cut_short(account: Account, directory: str, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The files to be taken in, without what was cut short and never answered: a link of a COPY or MOVE whose message
    is still where it was, which would be there twice; and a file of ours whose name a loss of power left, but nothing
    of its content."""
    out = []
    for mark, name in items:
        path = path_of(directory, mark + name)
        if (NameMaker.is_copy(name) and _linked_elsewhere(account, path)) or _is_empty(path, name):
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


def _linked_elsewhere(account: Account, path: bytes) -> bool:
    """Does another message file of the account share the file's content? After a loss of power the two may be files of
    their own: what the journal has is written anew."""
    try:
        status = beneath.lstat(path)
    except OSError:
        return False
    octets = sizes_in(os.path.basename(path))[0]
    for place in folders.directories(account):
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
) -> tuple[dict[bytes, tuple[int, bytes]], set[int], set[bytes], Mailbox]:
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
        todo = {int.from_bytes(at[12:], "big") for at, _ in layout.rows(txn, t.todo, key)}
        trash = {bytes(at[12:]) for at, _ in layout.rows(txn, t.trash, key)}
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


def examine(directory: str, items: Sequence[tuple[bytes, bytes]], known: foreign.Control) -> tuple[list[Found], int]:
    """Read and scan new files; those that vanished or are no regular files are left out. Returns with them how many of
    ``items`` were looked at: all, or those whose summaries are enough for one commit."""
    out: list[Found] = []
    octets = 0
    for place, (mark, name) in enumerate(items):
        if octets > ops.WRITTEN:
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
                int.from_bytes(summary[20:24], "little"),
                int(status.st_ctime) & 0xFFFFFFFF,
                summary,
                mark + name,
                known.pop3.get(base),
            )
        )
    return out, len(items)


# ---------------------------------------------------------------- applied in the writer's transaction


def begin_adoption(txn: Any, t: Tables, key: bytes, generation: int, known: foreign.Control) -> bool:
    """First look at a mailbox: take UIDVALIDITY and keyword names over. False when another worker was first."""
    box = ops.load(txn, t, key)
    if box.generation != generation:
        return False
    if box.generation == 0:
        box.generation = 1
        if known.uidvalidity and box.uidnext == 1:
            box.uidvalidity = known.uidvalidity
            ops.note_uidvalidity(txn, t, int.from_bytes(key[:8], "big"), known.uidvalidity)
        if known.words and not ops.keyword_names(txn, t, key):
            txn.put(key, b"\0".join(known.words), db=t.kw)
        ops.save(txn, t, box)
    return True


def adopt(txn: Any, t: Tables, key: bytes, generation: int, found: Sequence[Found], floor: int) -> int | None:
    """Give records to files; the new generation, or None when another worker was first and must be looked at again.

    ``floor``: the next UID given is at least this (from a control file).
    """
    box = ops.load(txn, t, key)
    if box.generation != generation:
        return None
    change = Change(txn, t, key[:8])
    box.generation += 1
    box.modseq = change.modseq
    for item in found:
        number = NameMaker.number_in(item.marked[1:])
        if number and given.find_number(txn, t, number, key) is not None:
            continue  # delivered while it was looked at
        none_recent = box.recent_from >= box.uidnext
        if item.uid >= box.uidnext:
            box.uidnext = item.uid
        elif item.uid == 0:
            box.uidnext = max(box.uidnext, floor)
        (uid,) = ops.append_records(txn, t, box, [(item.flags, item.keywords, item.date, item.size, item.saved)])
        if number:
            holds.note_done(txn, t, number, Appended(key, box.uidvalidity, [uid]))
        at = layout.uid_key(key, uid)
        made = emails.finished(txn, t, key[:8], item.summary, box.modseq)
        value = layout.pack_message(item.marked, made)
        change.row.summaries += weight.of_value(value)
        txn.put(at, value, db=t.msg)
        change.created(key, [(uid, made, box.modseq)], item.size)
        if item.pop3 is not None:
            txn.put(at, item.pop3[0].to_bytes(4, "little") + item.pop3[1], db=t.pop)
        if none_recent:
            box.recent_from = uid + 1 if item.marked[:1] == b"c" else uid
    ops.save(txn, t, box)
    change.end()
    return box.generation


def end_adoption(txn: Any, t: Tables, key: bytes, floor: int) -> None:
    """UIDs of messages that were removed before are not given again."""
    box = ops.load(txn, t, key)
    if box.uidnext < floor:
        if box.recent_from >= box.uidnext:
            box.recent_from = floor
        box.uidnext = floor
        ops.save(txn, t, box)


def keep_seen(txn: Any, t: Tables, rows: Sequence[tuple[bytes, bytes]], least: int) -> None:
    """Write down the states of mailboxes with at least so many messages; see follow.Follower.save."""
    for key, value in rows:
        row = txn.get(layout.row_key(key), db=t.page)
        if row is not None and layout.unpack_row(key, row).exists >= least:
            ops.annotate(txn, t, key, {SEEN_NOTE: value})


def take_names(txn: Any, t: Tables, key: bytes, items: Sequence[tuple[int, bytes, bytes]], first: int = 0) -> int:
    """Flags that other programs put into file names become ordinary changes. Begins at a place in ``items``, and
    returns the place of what is left, after ops.WRITTEN octets of rows."""
    box = ops.load(txn, t, key)
    change = Change(txn, t, key[:8])
    changed: list[int] = []
    written = 0
    for place in range(first, len(items)):
        if written > ops.WRITTEN:
            break
        uid, mark, name = items[place]
        first = place + 1
        at = layout.uid_key(key, uid)
        value = txn.get(at, db=t.msg)
        if value is None or txn.get(at, db=t.todo) is not None:
            continue
        txn.put(at, layout.pack_message(mark + name, bytes(layout.summary_of(value))), db=t.msg)
        written += len(value)
        parsed = FileName.parse(name)
        page_at = layout.page_key(key, uid)
        page = txn.get(page_at, db=t.page)
        if page is None:
            continue
        one = UidSet.of([uid])
        old = next((r for r in pages.records(page) if r[0] == uid), None)
        if old is None:
            continue
        keywords = (old[3] & ~LETTER_MASK) | parsed.keywords
        flags = parsed.flags if parsed.has_info else old[1] & ~SEEN | (old[1] & SEEN)
        new, _, _, _, unseen, deleted = pages.update(page, one, 0, flags, keywords, change.modseq, (1 << 64) - 1)
        if new is not None:
            txn.put(page_at, new, db=t.page)
            box.unseen += unseen
            box.deleted += deleted
            changed.append(uid)
    if changed:
        box.modseq = box.changed = change.modseq
        ops.save(txn, t, box)
        change.changed(key, UidSet.of(sorted(changed)))
        change.end()
    return first


def forget(txn: Any, t: Tables, key: bytes, uids: Sequence[int]) -> None:
    """Files that other programs removed are expunged; there is nothing to unlink."""
    ops.expunge(txn, t, key, UidSet.of(uids), 0, unlink=False)
