"""Makes a backup beside a running server: every account in one consistent state, only new messages read.

Promise: a message that was acknowledged before the account's turn came is in the backup, unless it was removed before
it could be read. Each account is as of one commit. What cannot be read is named in the result and the rest goes on.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail.backup import keys
from fastmail.backup.vault import VERSION, Vault, write_rows
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Totp
from fastmail.durable.replace import replace_file
from fastmail.model.errors import CorruptData, DamagedAccount, MailError, in_words
from fastmail.store.interface import Account, Store

Known = tuple[str, int, int]


@dataclass(slots=True)
class Saved:
    """One account."""

    account: str
    mailboxes: int = 0
    messages: int = 0
    new: int = 0
    octets: int = 0
    problems: list[str] = field(default_factory=list)


def directory_rows(directory: LocalDirectory, data_dir: str) -> dict[str, Any]:
    """Everything that the built-in directory holds, and the private keys that its domains name."""
    domains, accounts, aliases = directory.domains(), directory.accounts(), directory.aliases()
    lists = list(directory.each_list())
    return {
        "version": VERSION,
        "domains": [one.name for one in domains],
        "accounts": [_plain(one) | {"quota": list(one.quota), "scram": one.scram} for one in accounts],
        "aliases": [[one.address, list(one.targets)] for one in aliases],
        # what an older fastmail, which reads the rows above, takes no notice of
        "settings": {
            "domains": [_plain(one) for one in domains],
            "aliases": [_plain(one) for one in aliases],
            "groups": [_plain(one) | {"members": directory.members(one)} for one in directory.each_group()],
            "apps": {
                one.address: [_plain(app) for app in apps]
                for one in accounts
                if (apps := directory.app_passwords(one.id))
            },
            "scripts": {
                one.address: [_plain(script) for script in scripts]
                for one in accounts
                if (scripts := directory.scripts(one.id))
            },
            "totp": {one.address: _plain(totp) for one in accounts if (totp := _codes(directory, one.id))},
            "passkeys": {
                one.address: [_plain(each) for each in passkeys]
                for one in accounts
                if (passkeys := directory.passkeys(one.id))
            },
            "keys": keys.texts(domains, data_dir),
            "lists": [_plain(one) for one in lists],
            "link_keys": [[made, b64encode(key).decode()] for made, key in directory.link_keys()],
            "members": {
                one.address: [_plain(each) for each in directory.each_member(one.address, left=True)] for one in lists
            },
        },
    }


def _codes(directory: LocalDirectory, number: int) -> Totp | None:
    """One-time codes that logins ask for; None for none, and for a row that cannot be read."""
    with suppress(DamagedAccount):
        found = directory.totp(number)
        return found if found is not None and found.confirmed else None
    return None


def _plain(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


async def save(
    vault: Vault,
    directory: LocalDirectory,
    store: Store,
    accounts: list[Account],
    told: Callable[[Saved], None],
    help: Callable[..., Any],
    data_dir: str = "",
    more: Callable[[str], object] = lambda place: None,
) -> tuple[str, list[Saved]]:
    """One run: its name, and a result for each account. ``help`` runs a function on a helper thread; ``data_dir``: in
    which private keys lie; ``more``: writes what is neither mail nor accounts into the run at a place
    (backup.others)."""
    place = await help(vault.begin)
    replace_file(f"{place}/directory.json", json.dumps(directory_rows(directory, data_dir)).encode())
    out = []
    for account in accounts:
        known = await help(_known, vault, account.address)
        result = Saved(account.address)
        try:
            await _account(vault, store, account, place, known, result, help)
        except (MailError, OSError) as error:
            result.problems.append(in_words(error))
        out.append(result)
        told(result)
    await help(more, place)
    return await help(vault.finish, place), out


def _known(vault: Vault, address: str) -> dict[Known, tuple[str, int]]:
    """{(mailbox, UIDVALIDITY, UID): (object, octets)} of the last run: what need not be read again."""
    known: dict[Known, tuple[str, int]] = {}
    if not vault.runs() or address not in vault.accounts():
        return known
    name, validity = "", 0
    try:
        for row in vault.rows(address):
            if "mailbox" in row:
                name, validity = row["mailbox"], row["uidvalidity"]
            elif "uid" in row:
                known[name, validity, row["uid"]] = row["object"], row.get("octets", -1)
    except CorruptData:
        return {}
    return known


def _sound(vault: Vault, known: dict[int, tuple[str, int]]) -> set[int]:
    """UIDs whose objects are there as the last run wrote them."""
    return {uid for uid, (digest, octets) in known.items() if digest and vault.is_sound(digest, octets)}


async def _account(
    vault: Vault,
    store: Store,
    account: Account,
    place: str,
    known: dict[Known, tuple[str, int]],
    result: Saved,
    help: Callable[..., Any],
) -> None:
    listing = await store.listing(account)
    for box in listing.mailboxes:
        await store.sync(account, box.key)
    rows: list[Any] = []
    with store.snapshot(account) as snapshot:  # one state of all mailboxes; content never changes, so it can follow
        for box in snapshot.boxes(account.id):
            records = [record for page in snapshot.pages(box.key) for record in pages.records(page)]
            notes = {
                name.decode("latin-1"): b64encode(value).decode() for name, value in snapshot.notes(box.key).items()
            }
            words = [word.decode("latin-1") for word in snapshot.keywords(box.key)]
            rows.append((box, records, notes, words, snapshot.pop3(box.key)))
    file = write_rows(f"{place}/accounts/{account.address}.jsonl.gz")
    try:
        head = {"account": account.address, "subscribed": sorted(listing.subscribed)}
        file.write(json.dumps(head) + "\n")
        for box, records, notes, words, pop3 in rows:
            result.mailboxes += 1
            head = {"mailbox": box.name, "uidvalidity": box.uidvalidity, "uidnext": box.uidnext, "special": box.special}
            file.write(json.dumps(head | {"words": words, "notes": notes}) + "\n")
            there = {
                record[Field.UID]: known.get((box.name, box.uidvalidity, record[Field.UID]), ("", -1))
                for record in records
            }
            sound = await help(_sound, vault, there)
            for uid, flags, _, keywords, date, *_ in records:
                digest, octets = there[uid]
                if uid not in sound:
                    content = await _content(store, account, box.key, uid, result, box.name)
                    if content is None:
                        continue
                    octets = len(content)
                    digest, fresh = await help(vault.keep, content)
                    result.new += fresh
                    result.octets += len(content) * fresh
                row = {"uid": uid, "flags": flags, "keywords": keywords, "date": date, "object": digest}
                row |= {"octets": octets} if octets >= 0 else {}
                if uid in pop3:
                    row["pop3"] = [pop3[uid][0], pop3[uid][1].decode("latin-1")]
                file.write(json.dumps(row) + "\n")
                result.messages += 1
    finally:
        file.close()


async def _content(store: Store, account: Account, key: bytes, uid: int, result: Saved, mailbox: str) -> bytes | None:
    try:
        return await store.content(account, key, uid)
    except MailError as error:
        result.problems.append(f"{mailbox}: UID {uid}: {error}")
        return None


def verify(vault: Vault, run: str, told: Callable[[int], None]) -> list[str]:
    """Read every object of a run; what is damaged or missing, by account, mailbox and UID."""
    bad: list[str] = []
    checked: dict[str, str] = {}
    vault.directory(run)
    for address in vault.accounts(run):
        mailbox = ""
        try:
            for row in vault.rows(address, run):
                mailbox = row.get("mailbox", mailbox)
                digest = row.get("object")
                if digest is None:
                    continue
                if digest not in checked:
                    try:
                        vault.read(digest)
                        checked[digest] = ""
                    except CorruptData as error:
                        checked[digest] = str(error)
                    told(len(checked))
                if checked[digest]:
                    bad.append(f"{address}: {mailbox}: UID {row['uid']}: {checked[digest]}")
        except CorruptData as error:
            bad.append(f"{address}: {error}")
    return bad
