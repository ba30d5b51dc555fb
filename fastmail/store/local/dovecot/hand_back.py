"""Returns an account's Maildir to Dovecot or Courier: UIDs, UIDVALIDITY, keywords, subscriptions and POP3 UIDLs are
written to the control files that it reads, so that no client notices the change of server.

Promise: nothing is renamed or removed that the running server would not have. A folder that has messages in segments
is refused as a whole, with an error. Each file is replaced atomically (control_files.py). It may be repeated at any
time.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastmail._core import pages
from fastmail.durable import beneath
from fastmail.model import rights
from fastmail.model.errors import CannotDo
from fastmail.model.flags import LETTERED_KEYWORDS
from fastmail.model.mailbox_name import INBOX
from fastmail.store import sharing
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.dovecot import control_files, courier, index_files
from fastmail.store.local.index import mailboxes, references
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.maildir import housekeeping
from fastmail.store.local.maildir.folders import control_root
from fastmail.store.local.maildir.opened import OpenedStore

ROUNDS = 100  # of housekeeping at most: bounds the work if another program keeps renaming
DOVECOT, COURIER = "dovecot", "courier"
OLD_INDEX = ("dovecot.index", "dovecot.index.cache", "dovecot.index.log", "dovecot.index.log.2")


@dataclass(slots=True)
class Handed:
    """One mailbox with which the other server can continue."""

    account: str
    mailbox: str
    messages: int
    uidvalidity: int
    uidnext: int
    indexed_keywords: int  # names beyond the 26 letters of file names: they are in Dovecot's new index
    lost_uidls: int = 0  # POP3 UIDLs that Courier cannot express: clients see these messages as new


async def hand_back(store: OpenedStore, account: Account, to: str = DOVECOT) -> list[Handed]:
    """Write the control files of every mailbox, and the subscriptions, for the server ``to``.

    CannotDo if a message is not in a file, or if Courier has no such layout."""
    home = store.account_paths.home(account)
    if to == COURIER and (home.layout == "fs" or home.control):
        raise CannotDo(
            "Courier has Maildir++ only, with its files in the Maildirs: layout fs and control are Dovecot's"
        )
    listing = await store.listing(account)
    out = []
    for box in listing.mailboxes:
        await store.sync(account, box.key)
        await _finish_names(store, account, box)
        out.append(await store.commits.help(_write_courier if to == COURIER else _write_one, store, account, box))
    names = [name for name in listing.subscribed if not name.startswith(("Other Users/", "Shared/"))]
    place = control_root(home)
    if to == COURIER:
        await store.commits.help(
            control_files.write, place, "courierimapsubscribed", courier.subscribed_file(home, names)
        )
        return out
    await store.commits.help(control_files.write, place, "subscriptions", control_files.subscription_file(home, names))
    shard = store.commits.shard(account.id)
    with shard.env.read() as txn:
        last = mailboxes.last_uidvalidity(txn, shard.tables, account.id)
    await store.commits.help(control_files.write_last_uidvalidity, home, last)
    return out


async def _finish_names(store: OpenedStore, account: Account, box: Mailbox) -> None:
    """Run housekeeping until the file names say what the index says."""
    shard = store.commits.shard(account.id)
    directory = store.paths.directory(account, box.key)
    for _ in range(ROUNDS):
        done = await store.commits.help(housekeeping.tidy, shard.env.read, shard.tables, box.key, directory)
        if not done.named and not done.unlinked and not done.aside and not done.more:
            return
        await housekeeping.clear_all(partial(store.commits.submit, account), done)


def _write_one(store: OpenedStore, account: Account, box: Mailbox) -> Handed:
    place = store.account_paths.control(account, box.name)
    with store.commits.snapshot(account) as snapshot:
        row: Any = snapshot.mailbox(box.key)
        words = snapshot.keywords(box.key)
        pop3 = snapshot.pop3(box.key)
        acl = snapshot.note(box.key, sharing.ACL)
        kept = []
        for uid, marked in snapshot.files(box.key):
            _refuse_segment(account, box, marked)
            kept.append(control_files.Kept(uid, base_of(marked[1:]), *pop3.get(uid, (0, b""))))
    kept.sort(key=lambda one: one.uid)
    beneath.make_directories(place)
    data = control_files.uidlist(row.uidvalidity, row.uidnext, control_files.guid_of(place), kept)
    control_files.write(place, "dovecot-uidlist", data)
    if words:
        control_files.write(place, "dovecot-keywords", control_files.keyword_file(words))
    if len(words) > LETTERED_KEYWORDS:
        _write_index(store, account, row, words)
    directory = store.paths.directory(account, box.key)
    if acl is not None:
        control_files.write(directory, "dovecot-acl", control_files.acl_file(rights.load(acl), account.address))
    elif beneath.exists(os.path.join(directory, "dovecot-acl")):
        beneath.unlink(os.path.join(directory, "dovecot-acl"))  # the list was removed here
    if box.name == INBOX and beneath.exists(os.path.join(place, "maildirsize")):
        beneath.unlink(os.path.join(place, "maildirsize"))  # Dovecot counts again
    return Handed(
        account.address, box.name, len(kept), row.uidvalidity, row.uidnext, max(0, len(words) - LETTERED_KEYWORDS)
    )


def _write_courier(store: OpenedStore, account: Account, box: Mailbox) -> Handed:
    directory = store.paths.directory(account, box.key)
    with store.commits.snapshot(account) as snapshot:
        row: Any = snapshot.mailbox(box.key)
        words = snapshot.keywords(box.key)
        pop3 = snapshot.pop3(box.key)
        acl = snapshot.note(box.key, sharing.ACL)
        names = dict(snapshot.files(box.key))
        messages = []
        for page in snapshot.pages(box.key):
            for uid, _, _, keywords, _, size, _ in pages.records(page):
                _refuse_segment(account, box, names[uid])
                messages.append(courier.Message(uid, names[uid][1:], size, keywords, *pop3.get(uid, (0, b""))))
    listed = control_files.acl_file(rights.load(acl), account.address) if acl is not None else None
    numbers = row.uidvalidity, row.uidnext
    lost = courier.write(directory, numbers, words, messages, listed, box.name == INBOX)
    if box.name == INBOX and beneath.exists(os.path.join(directory, "maildirsize")):
        beneath.unlink(os.path.join(directory, "maildirsize"))  # Courier counts again
    return Handed(account.address, box.name, len(messages), *numbers, 0, lost)


def _refuse_segment(account: Account, box: Mailbox, marked: bytes) -> None:
    if references.in_segment(marked):
        raise CannotDo(
            f"{account.address}: {box.name} has messages in segments; first: "
            f"fastmail content convert --to maildir {account.address}"
        )


def _write_index(store: OpenedStore, account: Account, box: Mailbox, words: Sequence[bytes]) -> None:
    """Write a new log for Dovecot's index of a mailbox, with the keywords that have no letters."""
    messages: list[tuple[int, int]] = []
    having: dict[bytes, list[int]] = {word: [] for word in words[LETTERED_KEYWORDS:]}
    with store.commits.snapshot(account) as snapshot:
        for page in snapshot.pages(box.key):
            for uid, flags, _, keywords, *_ in pages.records(page):
                messages.append((uid, index_files.flag_bits(flags)))
                for bit in range(LETTERED_KEYWORDS, min(keywords.bit_length(), len(words))):
                    if keywords >> bit & 1:
                        having[words[bit]].append(uid)
    place = store.account_paths.indexes(account, box.name)
    beneath.make_directories(place)
    for name in OLD_INDEX:
        with contextlib.suppress(FileNotFoundError):
            beneath.unlink(os.path.join(place, name))
    control_files.write(place, "dovecot.index.log", index_files.log(box.uidvalidity, box.uidnext, messages, having))
