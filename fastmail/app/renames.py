"""Updates the mail store after a change of names in the directory (directory.renaming). Lists of rights that contain
the old name get the new one; users find mailboxes that they were given rights to under the owner's new name; and
subscriptions of others to the owner's mailboxes get the new name.

The command that changes a name does this; if it was interrupted, the next start of the server does. Doing it twice does
no harm: the row that asks for it is deleted last. Mail never waits for it.
"""

import asyncio

from fastmail.app.assembly import Assembly
from fastmail.directory.records import Renamed
from fastmail.directory.renaming import Moved, moved_by
from fastmail.imap.places import OTHER
from fastmail.model import rights
from fastmail.model.address import comparable
from fastmail.model.errors import MailError, NoSuchMailbox
from fastmail.store import sharing
from fastmail.store.interface import Account
from fastmail.store.local.index.layout import account_of
from fastmail.telemetry import log


async def finish(assembly: Assembly) -> int:
    """Follow all changes that are still to be followed; how many these were."""
    loop = asyncio.get_running_loop()
    pending = list(assembly.directory.renames())
    for number, change in pending:
        await _follow(assembly, change)
        await loop.run_in_executor(None, assembly.directory.followed, number)
        log.event("rename.followed", old=change.old, new=change.new)
    return len(pending)


async def at_start(assembly: Assembly) -> None:
    """The same for a server that starts: what cannot be done now is done at the next start."""
    try:
        await finish(assembly)
    except (MailError, OSError) as error:
        log.event("rename.later", "error", error=repr(error))


async def _follow(assembly: Assembly, change: Renamed) -> None:
    moved, store = moved_by(change), assembly.store
    for key in await store.commits.help(store.annotated, sharing.ACL):
        owner = assembly.account_of(account_of(key))
        if owner is not None:
            await _change_list(assembly, owner, key, change, moved)
    for number, name in await store.commits.help(store.subscriptions, OTHER + "/"):
        account, new = assembly.account_of(number), _subscription(assembly, name, moved)
        if account is not None and new != name:
            await store.subscribe(account, new, True)
            await store.subscribe(account, name, False)


async def _change_list(assembly: Assembly, owner: Account, key: bytes, change: Renamed, moved: Moved) -> None:
    """One list of rights; what others change in it meanwhile stays."""
    store = assembly.store
    before_name = _former(owner.address, change)
    while True:
        with store.snapshot(owner) as snapshot:
            before = snapshot.note(key, sharing.ACL)
        old = rights.load(before)
        new: rights.Acl = {}
        for name, letters in old.items():
            name = _identifier(name, moved)
            new[name] = rights.union(new.get(name, ""), letters)
        if new == old and not before_name:
            return
        try:
            if await sharing.set_list(store, _finder(assembly), owner, key, new, {sharing.ACL: before}):
                break
        except NoSuchMailbox:
            return  # it was deleted meanwhile
    if before_name:
        await sharing.forget_owner(store, _finder(assembly), owner, new, before_name)


def _finder(assembly: Assembly) -> sharing.Find:
    def find(name: str) -> Account | None:
        record = assembly.directory.account(name)
        return assembly.deliverer.account(record) if record is not None else None

    return find


def _former(address: str, change: Renamed) -> str:
    """Return the former name of what has this name now; empty if it had no other."""
    local, _, domain = address.rpartition("@")
    if not change.new.startswith("@"):
        return change.old if comparable(change.new) == comparable(address) else ""
    return f"{local}{change.old}" if comparable(change.new) == comparable("@" + domain) else ""


def _identifier(name: str, moved: Moved) -> str:
    """An identifier of a list of rights under the new name: an address, a group's, or with ``-`` in front."""
    sign = "-" if name.startswith("-") else ""
    plain = name.removeprefix("-")
    if plain.startswith(rights.GROUP):
        group = plain.removeprefix(rights.GROUP)
        new = moved(f"@{group.rpartition('@')[2]}")
        return f"{sign}{rights.GROUP}{group.rpartition('@')[0]}{new}"
    return sign + moved(plain)


def _subscription(assembly: Assembly, name: str, moved: Moved) -> str:
    """The name of a mailbox of somebody else under the owner's new name."""
    top, _, rest = name.partition("/")
    level, slash, below = rest.partition("/")
    dots = assembly.config.store.separator == "."
    owner = level.replace("^", ".") if dots else level
    new = moved(owner)
    if new == owner:
        return name
    return f"{top}/{new.replace('.', '^') if dots else new}{slash}{below}"
