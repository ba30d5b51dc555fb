"""Rebuilds the index of an account from its Maildir.

``rebuild`` deletes all records of a mailbox and adds its files again, with the UIDs and UIDVALIDITY that the old index
has (or, without one, a control file of Dovecot or Courier). Nothing on disk is touched; mail that a running server
delivers meanwhile is left to that server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from fastmail._core import idents, pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable import files
from fastmail.durable.transaction import Txn
from fastmail.message import identity
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.index import account_log, box_rows, layout, object_ids, references, walk, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import ACCOUNT, CUR, MAILBOX, NEW, MailboxRow, base_of, uid_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir import aside, housekeeping, looking
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.names import arrival_order
from fastmail.store.local.maildir.opened import OpenedStore
from fastmail.store.local.recovery import check_account, consistent_rows
from fastmail.store.local.recovery.check_account import Report
from fastmail.store.room import LONG

Record = tuple[int, int, int, int, int, int, int]  # as pages.records returns it; see pages.Field
Late = tuple[int, bytes, bytes]  # UID, mark and name, ids that the message had (object_ids.only_names)


async def rebuild(store: OpenedStore, account: Account) -> list[Report]:
    """Rebuild the index of an account, and return what a check finds afterwards."""
    await store.commits.submit(account, partial(consistent_rows.make_consistent, prefix=layout.account_key(account.id)))
    listing = await store.listing(account)
    for box in listing.mailboxes:
        directory = store.account_paths.folder(account, box.name)
        known = await store.commits.help(_known_uids, store, account, box)
        found = await store.commits.help(_find, store, account, box, directory, known)
        late: list[Late] = []

        def apply(
            txn: Txn,
            t: Tables,
            key: bytes = box.key,
            found: list[looking.Found] = found,
            known: Control = known,
            late: list[Late] = late,
        ) -> Changed[None]:
            late[:] = _replace(txn, t, key, found, known)
            return Changed(None, (key,))

        await store.commits.change(account, apply)
        for uid, name, names_of in late:
            for one in await store.commits.help(_find_one, directory, name, known):
                fill = partial(_fill, key=box.key, uid=uid, made=one.summary, names_of=names_of)
                await store.commits.submit(account, fill)
        await store.commits.help(_remove_unnamed, store, account, box.key, directory)
    await store.commits.submit(account, partial(account_log.again, account=layout.account_key(account.id)))
    return await check_account.check(store, account)


def _find(store: OpenedStore, account: Account, box: Mailbox, directory: str, known: Control) -> list[looking.Found]:
    """Return all files of a mailbox, in the order of their UIDs or arrival. A file that is renamed meanwhile may be
    missed, so one look never proves that a message has no file."""
    found: dict[bytes, looking.Found] = {}
    order: list[tuple[bytes, bytes]] = []
    for look in range(looking.LOOKS):
        names = [one for one in _names_on_disk(store, account, box, directory, known) if base_of(one[1]) not in found]
        if look == 0:
            known.uidnext = known.following(sum(base_of(name) not in known.uids for _, name in names))
        order += names
        found |= {base_of(one.marked[1:]): one for one in _examine(directory, names, known)}
        if known.uids.keys() <= found.keys():
            break
    order.sort(key=lambda item: (known.uids.get(base_of(item[1]), 1 << 40), arrival_order(item[1])))
    return [one for base in dict.fromkeys(base_of(name) for _, name in order) if (one := found.get(base)) is not None]


def _find_one(directory: str, marked: bytes, known: Control) -> list[looking.Found]:
    """Return a message's file, whatever its present name."""
    found: list[looking.Found] = []
    for _ in range(looking.LOOKS):
        found, _ = looking.examine(directory, [(marked[:1], marked[1:])], known)
        now = housekeeping.by_base(directory).get(base_of(marked[1:])) if not found else None
        if now is None:
            break
        marked = now
    return found


def _examine(directory: str, names: Sequence[tuple[bytes, bytes]], known: Control) -> list[looking.Found]:
    """Read all of these files, without the long summaries: together they might not fit into memory. A file without a
    UID that is still being written is found by a later look at the mailbox."""
    found: list[looking.Found] = []
    done = 0
    while done < len(names):
        some, looked = looking.examine(directory, names[done : done + looking.ADOPT_BATCH], known, [])
        done += looked
        for one in some:
            if len(one.summary) > LONG:
                one.summary = b""
        found += some
    return found


def _fill(txn: Txn, t: Tables, key: bytes, uid: int, made: bytes, names_of: bytes) -> None:
    """Add a summary that was too long to be written with the others, with the ids that the message had."""
    at = layout.uid_key(key, uid)
    value = txn.get(at, db=t.msg)
    if value is None or layout.summary_of(value):
        return
    modseq = account_log.load(txn, t, key[:ACCOUNT]).modseq
    object_ids.drop(txn, t, idents.entered(key, [(uid, b"", 0)], False, identity.ident))
    whole = identity.kept(made, names_of) if names_of else object_ids.finished(txn, t, key[:ACCOUNT], made, modseq)
    object_ids.add(txn, t, idents.entered(key, [(uid, whole, modseq)], True, identity.ident))
    new = layout.pack_message(layout.marked_of(value), whole)
    account_log.weigh(txn, t, key[:ACCOUNT], weight.of_value(new))
    txn.put(at, new, db=t.msg)


def _remove_unnamed(store: OpenedStore, account: Account, key: bytes, directory: str) -> None:
    shard = store.commits.shard(account.id)
    files.unlink_batch(aside.unnamed(shard.env.read, shard.tables, key, directory))


def _known_uids(store: OpenedStore, account: Account, box: Mailbox) -> Control:
    shard = store.commits.shard(account.id)
    try:
        known, _, _, row = looking.read_index(shard.env.read, shard.tables, box.key)
        if known:
            return Control(row.uidvalidity, row.uidnext, {base: uid for base, (uid, _) in known.items()})
    except (MailError, ValueError):
        pass
    paths = store.account_paths
    found = control_files.read_control(paths.control(account, box.name), paths.indexes(account, box.name))
    if not found.uidvalidity:  # missing in the list: the row had it from there
        found.uidvalidity, found.uidnext = box.uidvalidity, max(box.uidnext, found.uidnext)
    return found


def _names_on_disk(
    store: OpenedStore, account: Account, box: Mailbox, directory: str, known: Control
) -> list[tuple[bytes, bytes]]:
    """Return mark and name of the files, without expunged ones that are to be unlinked, and without those that a
    running server may be delivering."""
    shard = store.commits.shard(account.id)
    with shard.env.read() as txn:
        trash = {bytes(at[MAILBOX:]) for at, _ in walk.rows(txn, shard.tables.trash, box.key)}
    return [
        (mark, name)
        for mark, sub in ((NEW, "new"), (CUR, "cur"))
        for name in looking.listing(directory, sub)
        if base_of(name) not in trash
        if base_of(name) in known.uids
        or not store.maker.under_way(name)
        or looking.age_of(directory, mark + name)
        > (looking.FIRST_LOOK if store.maker.number_in(name) else looking.UNDER_WAY)
    ]


@dataclass(frozen=True, slots=True)
class _Indexed:
    """What the index has of a mailbox, by UID. ``names``: marks and names; ``ids``: summaries shortened to their ids,
    because they may be long; ``weights``: octets that count in quotas. ``todo``: keys of files that must be renamed."""

    records: dict[int, Record]
    names: dict[int, bytes]
    ids: dict[int, bytes]
    weights: dict[int, int]
    todo: set[bytes]


class _New(NamedTuple):
    """A message as it will be in the index. ``record``: flags, keywords, dates and sizes for append_records; ``value``:
    its row of msg, empty if the present row stays; ``ids``: as in _Indexed, empty for a new message."""

    uid: int
    record: tuple[int, int, int, int, int]
    value: bytes
    ids: bytes


def _indexed(txn: Txn, t: Tables, key: bytes) -> _Indexed:
    records = {r[Field.UID]: r for _, page in box_rows.pages_of(txn, t, key, None) for r in pages.records(page)}
    found = _Indexed(records, {}, {}, {}, {at for at, _ in walk.rows(txn, t.todo, key)})
    for at, value in walk.rows(txn, t.msg, key):
        uid = uid_of(at)
        found.names[uid] = layout.marked_of(value)
        found.ids[uid] = object_ids.only_names(layout.summary_of(value))
        found.weights[uid] = weight.of_value(value)
    return found


def _of_file(txn: Txn, t: Tables, key: bytes, item: looking.Found, before: _Indexed, uid: int, modseq: int) -> _New:
    """Return the message of a file. ``uid``: the UID that the index has for it, 0 if it has none."""
    old = before.records.get(uid)
    flags, keywords, saved = item.flags, item.keywords, item.saved
    made = ids = b""
    if old is not None:
        keywords |= old[Field.KEYWORDS] & ~looking.LETTER_MASK
        saved = old[Field.SAVED]
        if layout.uid_key(key, uid) in before.todo:  # the file's name does not show the latest flags yet
            flags, keywords = old[Field.FLAGS], old[Field.KEYWORDS]
        ids = before.ids[uid]
        made = identity.kept(item.summary, ids) if item.summary else b""
    elif item.summary:
        made = object_ids.finished(txn, t, key[:ACCOUNT], item.summary, modseq)
    record = (flags, keywords, item.date, item.size, saved)
    return _New(item.uid or layout.MAX_UID, record, layout.pack_message(item.marked, made), ids)


def _stays(record: Record, ids: bytes) -> _New:
    """Return a message whose row stays."""
    uid, flags, _, keywords, date, size, saved = record
    return _New(uid, (flags, keywords, date, size, saved), b"", ids)


def _replace(txn: Txn, t: Tables, key: bytes, found: list[looking.Found], known: Control) -> list[Late]:
    """Replace all records of a mailbox by what was found. Messages delivered since the listing keep their records and
    rows.

    Returns the messages whose summaries are still to be added."""
    box = box_rows.load(txn, t, key)
    before = _indexed(txn, t, key)
    expunged = {bytes(at[MAILBOX:]) for at, _ in walk.rows(txn, t.trash, key)}  # some since the files were read
    found = [item for item in found if base_of(item.marked[1:]) not in expunged]
    have = {base_of(item.marked[1:]) for item in found}
    by_base = {base_of(name[1:]): uid for uid, name in before.names.items()}
    late = set()
    for uid, name in before.names.items():
        here = references.in_segment(name) or (base_of(name[1:]) not in have and uid >= known.uidnext)
        if here and uid in before.records:
            late.add(uid)
    walk.clear(txn, t.page, key)
    for uid in before.names.keys() - late:
        txn.delete(layout.uid_key(key, uid), db=t.msg)
    uidnext = max(box.uidnext, known.uidnext)
    change = Change(txn, t, key[:ACCOUNT])
    change.row.messages += len(before.names) - box.exists
    octets = box.octets
    box.exists = box.unseen = box.deleted = box.octets = 0
    box.uidnext = 1
    box.uidvalidity = known.uidvalidity or box.uidvalidity
    box.modseq = change.modseq
    new = [_stays(before.records[uid], before.ids[uid]) for uid in late]
    for item in found:
        new.append(_of_file(txn, t, key, item, before, by_base.get(base_of(item.marked[1:]), 0), box.modseq))
    change.removed(key, [(uid, ids, 0) for uid, ids in before.ids.items()], octets)
    change.row.summaries += sum(weight.of_value(one.value) for one in new if one.value)
    change.row.summaries -= sum(counted for uid, counted in before.weights.items() if uid not in late)
    left = _append(txn, t, box, change, sorted(new, key=attrgetter("uid")), uidnext)
    for at in before.todo:
        if txn.get(at, db=t.msg) is None:
            txn.delete(at, db=t.todo)
    gone = UidSet.of(sorted(set(before.records) - {item.uid for item in found} - late))
    if gone:
        pairs = b"".join(layout.PAIR.pack(first, last) for first, last in gone.ranges())
        txn.put(key + layout.U64.pack(box.modseq), pairs, db=t.gone)
    box.uidnext = max(box.uidnext, uidnext)
    box.generation = max(1, box.generation) + 1
    box_rows.save(txn, t, box)
    return left


def _append(txn: Txn, t: Tables, box: MailboxRow, change: Change, new: list[_New], uidnext: int) -> list[Late]:
    """Write the messages in the order of their UIDs; new ones come last, from ``uidnext`` on."""
    left: list[Late] = []
    for one in new:
        box.uidnext = one.uid if one.uid < layout.MAX_UID else max(box.uidnext, uidnext)
        (uid,) = box_rows.append_records(txn, t, box, [one.record])
        summary = layout.summary_of(one.value) if one.value else one.ids
        if one.value:
            txn.put(layout.uid_key(box.key, uid), one.value, db=t.msg)
            if not summary:
                left.append((uid, layout.marked_of(one.value), one.ids))
        _, _, _, size, _ = one.record
        change.created(box.key, [(uid, summary, box.modseq)], size)
    change.end()
    return left
