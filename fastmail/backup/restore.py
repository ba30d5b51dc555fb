"""Brings back what a backup holds: everything, one account, one mailbox, or one message.

A whole account comes back as it was, UIDs and all: its Maildir is written with the control files from which UIDs are
taken over, and then read. It must be empty or not there: nothing is ever overwritten. A mailbox or a message comes into
a mailbox of the account as it is now, as new messages.
"""

import itertools
import os
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec

from fastmail._core.lines import to_lf
from fastmail._core.uidset import UidSet
from fastmail.backup import keys, sound
from fastmail.backup.vault import Vault
from fastmail.directory.interface import Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.origins import domain_of
from fastmail.directory.records import LOCAL, Alias, Domain, List, Member
from fastmail.directory.records import Account as Record
from fastmail.directory.wanted import in_any_order
from fastmail.durable import beneath, files
from fastmail.durable.replace import make_directories, sync_directory
from fastmail.durable.transaction import Txn
from fastmail.message.preview import scanned
from fastmail.message.summary import served_size
from fastmail.model import domain as names
from fastmail.model.errors import CannotDo, CorruptData
from fastmail.model.flags import LETTERED_KEYWORDS, to_info
from fastmail.model.mailbox_name import INBOX
from fastmail.model.quota import Quota
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.index import box_rows
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.maildir.folders import PARTS, folder
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.store import LocalStore

BATCH, OCTETS = 100, 8 << 20  # messages, their octets and those of their summaries, that are kept in one commit
KEPT = ("enabled", "logs_in", "receives", "sends", "suspended", "stopped", "forward", "keeps", "senders", "role",
        "administers", "name", "language", "zone", "notes", "message_size", "recipients_per_hour", "answer",
        "messages_per_hour", "allow", "block", "blocked", "junk_score", "refuse_score", "greylist",
        "enforce")  # fmt: skip
LETTERS = (1 << LETTERED_KEYWORDS) - 1


@dataclass(slots=True)
class Restored:
    """One mailbox."""

    account: str
    mailbox: str
    messages: int = 0
    problems: list[str] = field(default_factory=list)


def directory(vault: Vault, into: LocalDirectory, run: str, only: str = "", data_dir: str = "") -> list[str]:
    """Add the domains, accounts, aliases, groups and mailing lists that are not there yet, in one transaction: a
    restore that is cut short can be repeated, and no account is there without its settings. Returns the addresses of
    the accounts that are in the backup. ``data_dir``: where private keys of domains go."""
    with into.batch():
        return _directory(vault, into, run, only, data_dir)


def _directory(vault: Vault, into: LocalDirectory, run: str, only: str, data_dir: str) -> list[str]:
    found = vault.directory(run)
    sound.check_directory(found)
    wanted = [row for row in found["accounts"] if not only or row["address"] == only]
    if only and not wanted:
        raise CannotDo(f"the backup has no account {only}")
    settings = sound.settings(found)
    known = {names.comparable(one.name): one for one in settings.domains}
    rows = [known.get(names.comparable(name), Domain(name)) for name in found["domains"]]
    for domain in sorted(rows, key=lambda one: bool(one.alias_of)):  # another name comes after what it stands for
        if not into.is_local(domain.name) and (not only or only.endswith("@" + domain.name)):
            into.add_domain(keys.restored(domain, settings.keys, data_dir))
    fresh = []
    for row in wanted:
        if into.account(row["address"]) is None:
            _add(into, row)
            fresh.append(row)
    later: list[Callable[[], object]] = []  # what may need others to be there
    for row in fresh:
        later.append(partial(_set, into, row, settings))
        for app in settings.apps.get(row["address"], []):
            into.add_app_password(row["address"], app)
        for script in settings.scripts.get(row["address"], []):
            into.put_script(row["address"], script)
    if not only:
        into.put_link_keys(settings.link_keys)  # links in mail that members have go on to work
        of = {one.address: one for one in settings.aliases}
        later += [
            partial(into.put_alias, of.get(address, Alias(address, tuple(targets))))
            for address, targets in found["aliases"]
            if into.alias(address) is None and into.account(address) is None
        ]
        later += [
            partial(into.put_group, one.name, _there(into, one.members), one.description, one.source)
            for one in settings.groups
            if into.group(one.name) is None
        ]
        later += [
            partial(_put_list, into, one, settings.members.get(one.address, []))
            for one in settings.lists
            if into.mailing_list(one.address) is None
        ]
    in_any_order(later)
    return [row["address"] for row in wanted]


def _add(into: LocalDirectory, row: Mapping[str, Any]) -> None:
    """Add an account. One that a source keeps is added as that source would: its next look says what counts."""
    address, nets, nologin = row["address"], row.get("nets", ""), row.get("nologin", "")
    quota = Quota(*row["quota"])
    if into.source_of(domain_of(address)) not in ("", LOCAL):
        into.bring([Line(address, row["password"], quota, nets=nets, nologin=nologin)], [])
        return
    into.add_accounts([(address, row["password"], row["scram"], nets, nologin)])
    if quota:
        into.set_quota(address, quota)


def _set(into: LocalDirectory, row: Mapping[str, Any], settings: sound.Settings) -> None:
    """Give an account its settings, and its second factors if it administers: without them its password would be
    enough. DirectoryError, before anything is changed, while something that it needs is not there."""
    address = row["address"]
    if not into.change_account(address, partial(_restored, sound.account_of(row))).role:
        return
    totp = settings.totp.get(address)
    if totp is not None:
        into.change_totp(address, "restore", lambda _: totp)
    for one in settings.passkeys.get(address, []):
        into.add_passkey(address, one)


def _put_list(into: LocalDirectory, row: List, members: list[Member]) -> None:
    into.put_list(row, members)


def _there(into: LocalDirectory, addresses: Sequence[str]) -> list[str]:
    """Those of the accounts that are there."""
    return [one for one in addresses if into.account(one) is not None]


def _restored(saved: Record, made: Record) -> Record:
    """An account with what the backup says of it; where its mail lies is not the backup's to say."""
    kept = {name: getattr(saved, name) for name in KEPT}
    return msgspec.structs.replace(made, **kept)


def check(vault: Vault, run: str, only: str, form: Home) -> None:
    """CorruptData where something of what would be restored is not what a backup has; before anything is changed.
    ``form``: how accounts lie here."""
    found = vault.directory(run)
    sound.check_directory(found)
    there = set(vault.accounts(run))
    for row in found["accounts"]:
        if row["address"] in there and only in ("", row["address"]):
            sound.check_account(vault, row["address"], form, run)


async def account(
    vault: Vault, store: LocalStore, owner: Account, run: str, told: Callable[[Restored], None]
) -> list[Restored]:
    """A whole account, into an empty one."""
    home = store.account_paths.home(owner)
    await store.commits.help(sound.check_account, vault, owner.address, home, run)
    known = store.find(owner, INBOX) is not None
    if known:
        with store.snapshot(owner) as snapshot:
            if any(box.exists for box in snapshot.boxes(owner.id)):
                raise CannotDo(f"{owner.address} has mail: restore a mailbox with --into, or empty the account first")
    cur = os.path.join(folder(home, INBOX), "cur")
    if beneath.is_directory(cur) and beneath.names(cur):
        raise CannotDo(f"{home.root} is not empty")
    results: list[Restored] = []
    later: list[tuple[str, dict[str, Any], dict[int, int]]] = []
    beside = replace(home, root=f"{home.root}.restoring")  # it gets its name when all of it is there
    try:
        await store.commits.help(_begin, beside.root)
        await store.commits.help(_write, vault, owner.address, beside, run, results, later, told)
        # all files at once; sync(2) would report no error, and wait for other disks
        await store.commits.help(files.sync_file_system, os.fsencode(beside.root))
    except BaseException:
        await store.commits.help(beneath.remove_tree, beside.root)
        raise
    if known:
        await store.forget(owner, returns=True)
    if os.path.lexists(home.root):
        os.rename(home.root, next(aside for aside in _asides(home.root) if not os.path.lexists(aside)))
    os.rename(beside.root, home.root)
    await store.commits.help(sync_directory, os.path.dirname(home.root))
    await store.listing(owner)
    for name, head, keywords in later:
        key = store.find(owner, name)
        if key is None:
            raise CorruptData(f"{owner.address}: {name} could not be made again")
        await store.sync(owner, key)
        notes = {note.encode("latin-1"): b64decode(value) for note, value in head["notes"].items()}
        if notes:
            await store.annotate(owner, key, dict(notes))

        def apply(txn: Txn, t: Tables, key: bytes = key, head: dict[str, Any] = head) -> Changed[None]:
            box = box_rows.load(txn, t, key)
            box.special = head["special"]
            box.uidnext = max(box.uidnext, head["uidnext"])
            box_rows.save(txn, t, box)
            return Changed(None, (key,))

        await store.commits.change(owner, apply)
        words = [word.encode("latin-1") for word in head["words"]]
        for bit in range(LETTERED_KEYWORDS, len(words)):  # those that file names have no letters for
            uids = UidSet.of(sorted(uid for uid, bits in keywords.items() if bits >> bit & 1))
            if uids:
                await store.store(owner, key, uids, 1, 0, [words[bit]])
    return results


def _begin(root: str) -> None:
    """An empty directory, whatever a restore that was cut short left."""
    beneath.remove_tree(root)
    make_directories(root)


def _asides(root: str) -> Iterator[str]:
    """Where what is there goes: other folders may hold something."""
    return (f"{root}.before-restore{number or ''}" for number in itertools.count())


def _write(
    vault: Vault,
    address: str,
    home: Home,
    run: str,
    results: list[Restored],
    later: list[tuple[str, dict[str, Any], dict[int, int]]],
    told: Callable[[Restored], None],
) -> None:
    """The Maildir with its control files."""
    kept: list[control_files.Kept] = []
    head: dict[str, Any] = {}
    place = ""

    def finish() -> None:
        if head:
            data = control_files.uidlist(head["uidvalidity"], head["uidnext"], b"", kept)
            control_files.write(place, "dovecot-uidlist", data)
            words = [word.encode("latin-1") for word in head["words"]]
            if words:
                control_files.write(place, "dovecot-keywords", control_files.keyword_file(words))
            told(results[-1])

    for row in vault.rows(address, run):
        if "account" in row:
            top = folder(home, INBOX)
            for sub in PARTS:
                beneath.make_directories(os.path.join(top, sub))
            control_files.write(top, "subscriptions", control_files.subscription_file(home, row["subscribed"]))
        elif "mailbox" in row:
            finish()
            kept, head = [], row
            place = folder(home, row["mailbox"])
            for sub in PARTS:
                beneath.make_directories(os.path.join(place, sub))
            results.append(Restored(address, row["mailbox"]))
            later.append((row["mailbox"], row, {}))
        else:
            try:
                content = _read(vault, row)
            except CorruptData as error:
                results[-1].problems.append(f"UID {row['uid']}: {error}")
                continue
            base = f"{row['date']}.M0P0R{row['uid']}.restored,S={len(content)}"
            name = f"{base}:2,{to_info(row['flags'], row['keywords'] & LETTERS)}"
            path = os.path.join(place, "cur", name)
            with os.fdopen(beneath.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(content)
                file.flush()
                os.utime(file.fileno(), (row["date"], row["date"]))
            order, uidl = row.get("pop3", (0, ""))
            kept.append(control_files.Kept(row["uid"], base.encode(), order, uidl.encode("latin-1")))
            if row["keywords"] > LETTERS:
                later[-1][2][row["uid"]] = row["keywords"]
            results[-1].messages += 1
    finish()


def _read(vault: Vault, row: dict[str, Any]) -> bytes:
    """A message's octets; CorruptData where the object is not what its name and the row say."""
    content = vault.read(row["object"])
    if row.get("octets", len(content)) != len(content):
        raise CorruptData(f"object {row['object']} has {len(content)} octets, and not {row['octets']}")
    return content


async def mailbox(
    vault: Vault, store: LocalStore, owner: Account, run: str, name: str, uid: int, into: str
) -> list[Restored]:
    """One mailbox, or with ``uid`` one message of it, as new messages of ``into``."""
    await store.commits.help(sound.check_account, vault, owner.address, store.account_paths.home(owner), run)
    result = Restored(owner.address, into)
    here = False
    words: list[bytes] = []
    key: bytes | None = None
    batch: list[NewMessage] = []
    octets = 0
    found = False

    async def keep() -> None:
        nonlocal octets
        assert key is not None
        if batch:
            await store.append(owner, key, batch)
            result.messages += len(batch)
            batch.clear()
            octets = 0

    for row in vault.rows(owner.address, run):
        if "mailbox" in row:
            here = row["mailbox"] == name
            if here:
                found = True
                words = [word.encode("latin-1") for word in row["words"]]
                if store.find(owner, into) is None:
                    await store.create(owner, into)
                key = store.find(owner, into)
        elif here and "uid" in row and uid in (0, row["uid"]):
            try:
                content = to_lf(await store.commits.help(_read, vault, row))
            except CorruptData as error:
                result.problems.append(f"UID {row['uid']}: {error}")
                continue
            summary = scanned(content)
            kept = [word for bit, word in enumerate(words) if row["keywords"] >> bit & 1]
            size = served_size(summary)
            batch.append(NewMessage((content,), summary, size, row["date"], row["flags"], kept, False))
            octets += len(content) + len(summary)
            if len(batch) >= BATCH or octets > OCTETS:
                await keep()
    if not found:
        raise CannotDo(f"the backup of {owner.address} has no mailbox {name}")
    await keep()
    if uid and not result.messages and not result.problems:
        raise CannotDo(f"the backup of {owner.address} has no message {uid} in {name}")
    return [result]
