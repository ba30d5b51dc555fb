"""Compares the index of an account with its Maildir, and makes it anew from there.

``check`` changes nothing. ``rebuild`` forgets all records of a mailbox and takes its files in again, with the UIDs and
UIDVALIDITY that the old index knows (or, without one, a control file of Dovecot or Courier). Nothing on disk is
touched; mail that a running server delivers meanwhile is left to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable import files
from fastmail.message import identity
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.index import account_log, box_rows, layout, mailboxes, object_ids, references, weight
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.layout import Tables
from fastmail.store.local.maildir import aside, control, looking
from fastmail.store.local.maildir.folders import control_directory, folder, index_directory
from fastmail.store.local.maildir.names import arrival_order, base_of
from fastmail.store.local.recovery import agree
from fastmail.store.local.store import LocalStore
from fastmail.store.room import LONG

Late = tuple[int, bytes, bytes]  # UID, mark and name, names that the message had (emails.only_names)


@dataclass(slots=True)
class Report:
    """One mailbox."""

    account: str
    mailbox: str
    messages: int
    problems: int
    detail: str


async def check(store: LocalStore, account: Account) -> list[Report]:
    """A report for each mailbox."""
    listing = await store.listing(account)
    every = [await store.help(_check_one, store, account, box) for box in listing.mailboxes]
    every += await store.help(_lost, store, account, {box.key: box.name for box in listing.mailboxes})
    every += await store.help(_wrong, store, account)
    return every


def _wrong(store: LocalStore, account: Account) -> list[Report]:
    """What is counted of the account as a whole."""
    shard = store.shard(account.id)
    try:
        with shard.env.read() as txn:
            found = account_log.problems(txn, shard.tables, layout.account_key(account.id))
    except (MailError, ValueError) as error:
        found = [str(error)]
    return [Report(account.address, "", 0, len(found), "; ".join(found))] if found else []


def _lost(store: LocalStore, account: Account, boxes: dict[bytes, str]) -> list[Report]:
    """Names without a mailbox, and subscriptions that cannot be read."""
    prefix = layout.account_key(account.id)
    shard = store.shard(account.id)
    with shard.env.read() as txn:
        names = {bytes(at): boxes.get(prefix + bytes(key)) for at, key in layout.rows(txn, shard.tables.name, prefix)}
        bad = sum("\ufffd" in name for name in mailboxes.subscriptions(txn, shard.tables, account.id))
    out = [
        Report(account.address, str(at[8:], "utf-8", "replace"), 0, 1, "there is a name, and no mailbox that has it")
        for at, found in names.items()
        if found is None or layout.name_key(prefix, found) != at
    ]
    if bad:
        out.append(Report(account.address, "", 0, 1, f"{bad} subscriptions cannot be read"))
    return out


def _check_one(store: LocalStore, account: Account, box: Mailbox) -> Report:
    shard = store.shard(account.id)
    directory = folder(account, box.name)
    found: list[str] = []
    try:
        known, _, _, row = looking.read_index(shard.env.read, shard.tables, box.key)
        records = []
        with shard.env.read() as txn:
            if mailboxes.find(txn, shard.tables, account.id, box.name) != box.key:
                found.append("its name does not lead to it")
            bad = sum(agree.bad_page(bytes(at), bytes(v)) for at, v in layout.rows(txn, shard.tables.page, box.key))
        if bad:
            found.append(f"{bad} index pages are damaged")
        with store.snapshot(account) as snapshot:
            for page in snapshot.pages(box.key):
                records += pages.records(page)
            uids = {record[0] for record in records}
            inside = {uid for uid, marked in snapshot.files(box.key) if references.in_segment(marked)}
            missing_summary = len(uids) - len(list(snapshot.summaries(box.key, UidSet.of(sorted(uids))).items()))
        if len(records) != row.exists:
            found.append(f"{row.exists} messages counted, {len(records)} recorded")
        if sum(1 for r in records if not r[1] & 1) != row.unseen:
            found.append("count of unseen messages is wrong")
        if any(uid >= row.uidnext for uid in uids):
            found.append("a UID is not below UIDNEXT")
        if uids != {uid for uid, _ in known.values()} | inside:
            found.append("records and names of their content differ")
        if missing_summary:
            found.append(f"{missing_summary} summaries are missing")
        plan = looking.look(shard.env.read, shard.tables, row, directory, store.maker)
        if plan.new and row.generation:
            found.append(f"{len(plan.new)} files without a record")
        if plan.gone:
            found.append(f"{len(plan.gone)} records without a file")
        left = aside.unnamed(shard.env.read, shard.tables, box.key, directory)
        if left:
            found.append(f"{len(left)} files of expunged messages in tmp that nothing names")
        return Report(account.address, box.name, len(records), len(found), "; ".join(found) or "ok")
    except (MailError, ValueError) as error:
        return Report(account.address, box.name, 0, 1, str(error))


async def rebuild(store: LocalStore, account: Account) -> list[Report]:
    """The same after the work."""
    await store.submit(account, partial(agree.agree, prefix=layout.account_key(account.id)))
    listing = await store.listing(account)
    for box in listing.mailboxes:
        directory = folder(account, box.name)
        known = await store.help(_known_uids, store, account, box, directory)
        names = await store.help(_names_on_disk, store, account, box, directory, known)
        known.uidnext = known.following(sum(base_of(name) not in known.uids for _, name in names))
        names.sort(key=lambda item: (known.uids.get(base_of(item[1]), 1 << 40), arrival_order(item[1])))
        found = await store.help(_examine, directory, names, known)
        late: list[Late] = []

        def apply(
            txn: Any,
            t: Tables,
            key: bytes = box.key,
            found: list[looking.Found] = found,
            known: control.Control = known,
            late: list[Late] = late,
        ) -> bytes:
            late[:] = _replace(txn, t, key, found, known)
            return key

        await store.submit(account, apply)
        for uid, name, names_of in late:
            again, _ = await store.help(looking.examine, directory, [(name[:1], name[1:])], known)
            for one in again:
                fill = partial(_fill, key=box.key, uid=uid, made=one.summary, names_of=names_of)
                await store.submit(account, fill)
        await store.help(_remove_unnamed, store, account, box.key, directory)
    await store.submit(account, partial(account_log.again, account=layout.account_key(account.id)))
    return await check(store, account)


def _examine(directory: str, names: Sequence[tuple[bytes, bytes]], known: control.Control) -> list[looking.Found]:
    """All of these files, without the summaries that are long: together they might not fit into memory."""
    found: list[looking.Found] = []
    done = 0
    while done < len(names):
        some, looked = looking.examine(directory, names[done : done + looking.ADOPT_BATCH], known)
        done += looked
        for one in some:
            if len(one.summary) > LONG:
                one.summary = b""
        found += some
    return found


def _fill(txn: Any, t: Tables, key: bytes, uid: int, made: bytes, names_of: bytes) -> None:
    """A summary that was too long to be written with all the others, with the names that the message had."""
    at = layout.uid_key(key, uid)
    value = txn.get(at, db=t.msg)
    if value is None or layout.summary_of(value):
        return
    modseq = account_log.load(txn, t, key[:8]).modseq
    object_ids.drop(txn, t, key, [(uid, b"", 0)])
    whole = identity.kept(made, names_of) if names_of else object_ids.finished(txn, t, key[:8], made, modseq)
    object_ids.add(txn, t, key, [(uid, whole, modseq)])
    new = layout.pack_message(layout.marked_of(value), whole)
    account_log.weigh(txn, t, key[:8], weight.of_value(new))
    txn.put(at, new, db=t.msg)


def _remove_unnamed(store: LocalStore, account: Account, key: bytes, directory: str) -> None:
    shard = store.shard(account.id)
    files.unlink_batch(aside.unnamed(shard.env.read, shard.tables, key, directory))


def _known_uids(store: LocalStore, account: Account, box: Mailbox, directory: str) -> control.Control:
    shard = store.shard(account.id)
    try:
        known, _, _, row = looking.read_index(shard.env.read, shard.tables, box.key)
        if known:
            return control.Control(row.uidvalidity, row.uidnext, {base: uid for base, (uid, _) in known.items()})
    except (MailError, ValueError):
        pass
    found = control_files.read_control(control_directory(account, box.name), index_directory(account, box.name))
    if not found.uidvalidity:  # the list's is lost: the row has it from there
        found.uidvalidity, found.uidnext = box.uidvalidity, max(box.uidnext, found.uidnext)
    return found


def _names_on_disk(
    store: LocalStore, account: Account, box: Mailbox, directory: str, known: control.Control
) -> list[tuple[bytes, bytes]]:
    """Marks and names of the files, without what was expunged and is still to be unlinked, and without what a running
    server may be delivering right now."""
    shard = store.shard(account.id)
    with shard.env.read() as txn:
        trash = {bytes(at[12:]) for at, _ in layout.rows(txn, shard.tables.trash, box.key)}
    return [
        (mark, name)
        for mark, sub in ((b"n", "new"), (b"c", "cur"))
        for name in looking.listing(directory, sub)
        if base_of(name) not in trash
        if base_of(name) in known.uids
        or not store.maker.under_way(name)
        or looking.age_of(directory, mark + name)
        > (looking.FIRST_LOOK if store.maker.number_in(name) else looking.UNDER_WAY)
    ]


def _replace(txn: Any, t: Tables, key: bytes, found: list[looking.Found], known: control.Control) -> list[Late]:
    """All records of a mailbox from what was found; what was delivered since the listing keeps its record and its row.
    Returns the messages whose summaries are still to be made."""
    box = agree.sound(txn, t, key)
    late: list[Any] = []
    have = {base_of(item.marked[1:]) for item in found}
    records = {r[0]: r for _, page in box_rows.pages_of(txn, t, key, None) for r in pages.records(page)}
    todo = {at for at, _ in layout.rows(txn, t.todo, key)}
    names: dict[int, bytes] = {}
    before: dict[int, bytes] = {}  # summaries with nothing but names, as they may be long
    heavy: dict[int, int] = {}
    for at, value in layout.rows(txn, t.msg, key):
        uid = int.from_bytes(at[12:], "big")
        names[uid], before[uid] = layout.marked_of(value), object_ids.only_names(layout.summary_of(value))
        heavy[uid] = weight.of_value(value)
    by_base = {base_of(name[1:]): uid for uid, name in names.items()}
    for uid, name in names.items():
        here = references.in_segment(name) or (base_of(name[1:]) not in have and uid >= known.uidnext)
        if here and uid in records:
            late.append(records[uid])
    layout.clear(txn, t.page, key)
    for uid in set(names) - {r[0] for r in late}:
        txn.delete(layout.uid_key(key, uid), db=t.msg)
    uidnext = max(box.uidnext, known.uidnext)
    change = Change(txn, t, key[:8])
    change.row.messages += len(names) - box.exists
    octets = box.octets
    box.exists = box.unseen = box.deleted = box.octets = 0
    box.uidnext = 1
    box.uidvalidity = known.uidvalidity or box.uidvalidity
    box.modseq = change.modseq
    entries: list[tuple[int, Any, bytes, bytes]] = [(r[0], r[1:], b"", before[r[0]]) for r in late]
    for item in found:
        old = records.get(by_base.get(base_of(item.marked[1:]), 0))
        flags, keywords, saved = item.flags, item.keywords, item.saved
        if old is not None:
            keywords |= old[3] & ~looking.LETTER_MASK
            saved = old[6]
            if layout.uid_key(key, old[0]) in todo:
                flags, keywords = old[1], old[3]
        made = names_of = b""
        if old is not None:
            names_of = before[old[0]]
            made = identity.kept(item.summary, names_of) if item.summary else b""
        elif item.summary:
            made = object_ids.finished(txn, t, key[:8], item.summary, box.modseq)
        record = (flags, 0, keywords, item.date, item.size, saved)
        entries.append((item.uid or layout.MAX_UID, record, layout.pack_message(item.marked, made), names_of))
    change.removed(key, [(uid, one, 0) for uid, one in before.items()], octets)
    change.row.summaries += sum(weight.of_value(one[2]) for one in entries if one[2])
    change.row.summaries -= sum(heavy.values()) - sum(heavy[r[0]] for r in late)
    entries.sort(key=lambda entry: entry[0])  # new ones stay in their order, behind all
    left: list[Late] = []
    for uid, (flags, _, keywords, date, size, saved), value, names_of in entries:
        box.uidnext = uid if uid < layout.MAX_UID else max(box.uidnext, uidnext)
        (uid,) = box_rows.append_records(txn, t, box, [(flags, keywords, date, size, saved)])
        if value:
            txn.put(layout.uid_key(key, uid), value, db=t.msg)
            if not layout.summary_of(value):
                left.append((uid, layout.marked_of(value), names_of))
        change.created(key, [(uid, layout.summary_of(value) if value else names_of, box.modseq)], size)
    change.end()
    for at in todo:
        if txn.get(at, db=t.msg) is None:
            txn.delete(at, db=t.todo)
    gone = UidSet.of(sorted(set(records) - {i.uid for i in found} - {r[0] for r in late}))
    if gone:
        txn.put(
            key + layout.U64.pack(box.modseq), b"".join(layout.PAIR.pack(a, b) for a, b in gone.ranges()), db=t.gone
        )
    box.uidnext = max(box.uidnext, uidnext)
    box.generation = max(1, box.generation) + 1
    box_rows.save(txn, t, box)
    return left
