"""Access control lists as the store keeps them.

The list of a mailbox is an annotation of the mailbox. Each account that is named in a list has an annotation for the
owner who shares something with it, so that no one has to search all accounts.
"""

import hashlib
from collections.abc import Callable, Iterable

from fastmail.model import rights
from fastmail.model.address import comparable
from fastmail.model.keys import OF_ACCOUNT, mailbox_key
from fastmail.store.interface import Account, Notes, Store

ACL = b"/acl"
FROM = b"/from/"
Find = Callable[[str], Account | None]  # an account by its address
EVERYBODY = 1 << 63  # numbers from here on stand for all accounts of a domain, or of a group


async def set_list(
    store: Store, find: Find, owner: Account, key: bytes, acl: rights.Acl, expected: Notes | None = None
) -> bool:
    """Set the mailbox's list, and note at every account in it where to look. Returns False without a change if the
    present list is not the ``expected`` one."""
    for name in acl:
        hint = _hint_account(find, name, owner)
        if hint is None:
            continue
        place = mailbox_key(hint.id, OF_ACCOUNT)
        note = FROM + owner.address.encode()
        with store.snapshot(hint) as snapshot:
            known = snapshot.note(place, note) is not None
        if not known:
            await store.annotate(hint, place, {note: b"1"})
    return await store.annotate(owner, key, {ACL: rights.dump(acl)}, expected)


async def forget_owner(store: Store, find: Find, owner: Account, acl: rights.Acl, former: str) -> None:
    """The owner of a mailbox with this list is not called ``former`` any more: let nobody look there."""
    for name in acl:
        hint = _hint_account(find, name, owner)
        if hint is not None:
            await store.annotate(hint, mailbox_key(hint.id, OF_ACCOUNT), {FROM + former.encode(): None})


def _hint_account(find: Find, name: str, owner: Account) -> Account | None:
    if name == rights.ANYONE:
        return everybody(rights.domain_of(owner.address))
    if name.startswith(rights.GROUP):
        return members(name.removeprefix(rights.GROUP))
    return None if name.startswith("-") or name == owner.address else find(name)


def everybody(domain: str) -> Account:
    """Return the pseudo-account for all accounts of a domain. Its number is one that no account has."""
    digest = hashlib.blake2b(domain.encode(), digest_size=8).digest()
    return Account(int.from_bytes(digest, "big") | EVERYBODY, f"@{domain}")


def members(group: str) -> Account:
    """Return the account that stands for all members of a group, made in the same way."""
    name = rights.GROUP + comparable(group)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Account(int.from_bytes(digest, "big") | EVERYBODY, name)


def is_everybody(account: Account) -> bool:
    """True for an account that stands for all accounts of a domain or group: no directory knows it or removes it."""
    return account.id >= EVERYBODY


def givers(store: Store, account: Account, groups: Iterable[str] = ()) -> set[str]:
    """Addresses of those who may share something with an account, which is in these groups."""
    found = set()
    for one in (account, everybody(rights.domain_of(account.address)), *map(members, groups)):
        with store.snapshot(one) as snapshot:
            for note in snapshot.notes(mailbox_key(one.id, OF_ACCOUNT)):
                if note.startswith(FROM):
                    found.add(note.removeprefix(FROM).decode())
    return found
