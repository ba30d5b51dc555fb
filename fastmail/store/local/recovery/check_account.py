"""Compares the index of an account with its Maildir, and its totals with its rows. Nothing is changed."""

from dataclasses import dataclass

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.model.errors import MailError
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.index import account_log, layout, mailboxes, references, walk
from fastmail.store.local.index.layout import ACCOUNT
from fastmail.store.local.maildir import aside, looking
from fastmail.store.local.maildir.opened import OpenedStore
from fastmail.store.local.recovery import consistent_rows


@dataclass(slots=True)
class Report:
    """The result for one mailbox."""

    account: str
    mailbox: str
    messages: int
    problems: int
    detail: str


async def check(store: OpenedStore, account: Account) -> list[Report]:
    """Return a report for each mailbox."""
    listing = await store.listing(account)
    every = [await store.commits.help(_check_one, store, account, box) for box in listing.mailboxes]
    every += await store.commits.help(_lost, store, account, {box.key: box.name for box in listing.mailboxes})
    every += await store.commits.help(_wrong, store, account)
    return every


def _wrong(store: OpenedStore, account: Account) -> list[Report]:
    """Check the totals of the account as a whole."""
    shard = store.commits.shard(account.id)
    try:
        with shard.env.read() as txn:
            found = account_log.problems(txn, shard.tables, layout.account_key(account.id))
    except (MailError, ValueError) as error:
        found = [str(error)]
    return [Report(account.address, "", 0, len(found), "; ".join(found))] if found else []


def _lost(store: OpenedStore, account: Account, boxes: dict[bytes, str]) -> list[Report]:
    """Find names without a mailbox, and subscriptions that cannot be read."""
    prefix = layout.account_key(account.id)
    shard = store.commits.shard(account.id)
    with shard.env.read() as txn:
        names = {bytes(at): boxes.get(prefix + bytes(key)) for at, key in walk.rows(txn, shard.tables.name, prefix)}
        bad = sum("\ufffd" in name for name in mailboxes.subscriptions(txn, shard.tables, account.id))
    out = [
        Report(account.address, str(at[ACCOUNT:], "utf-8", "replace"), 0, 1, "a name leads to no mailbox")
        for at, found in names.items()
        if found is None or layout.name_key(prefix, found) != at
    ]
    if bad:
        out.append(Report(account.address, "", 0, 1, f"{bad} subscriptions cannot be read"))
    return out


def _check_one(store: OpenedStore, account: Account, box: Mailbox) -> Report:
    shard = store.commits.shard(account.id)
    directory = store.account_paths.folder(account, box.name)
    found: list[str] = []
    try:
        known, _, _, row = looking.read_index(shard.env.read, shard.tables, box.key)
        records = []
        with shard.env.read() as txn:
            if mailboxes.find(txn, shard.tables, account.id, box.name) != box.key:
                found.append("its name does not lead to it")
            bad = sum(
                consistent_rows.bad_page(bytes(at), bytes(v)) for at, v in walk.rows(txn, shard.tables.page, box.key)
            )
        if bad:
            found.append(f"{bad} index pages are damaged")
        with store.commits.snapshot(account) as snapshot:
            for page in snapshot.pages(box.key):
                records += pages.records(page)
            uids = {record[Field.UID] for record in records}
            inside = {uid for uid, marked in snapshot.files(box.key) if references.in_segment(marked)}
            missing_summary = len(uids) - len(list(snapshot.summaries(box.key, UidSet.of(sorted(uids))).items()))
        if len(records) != row.exists:
            found.append(f"{row.exists} messages counted, {len(records)} recorded")
        if sum(1 for r in records if not r[Field.FLAGS] & 1) != row.unseen:
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
            found.append(f"{len(left)} files of expunged messages in tmp that nothing refers to")
        return Report(account.address, box.name, len(records), len(found), "; ".join(found) or "ok")
    except (MailError, ValueError) as error:
        return Report(account.address, box.name, 0, 1, str(error))
