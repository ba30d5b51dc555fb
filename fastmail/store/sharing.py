"""Access control lists as the store keeps them.

The list of a mailbox is an annotation of the mailbox. Each account that is named in a list has an annotation for the
owner who shares something with it, so that no one has to search all accounts.
"""

import hashlib
from collections.abc import Callable

from fastmail.model import rights
from fastmail.store.interface import Account, Notes, Store

ACL = b"/acl"
FROM = b"/from/"
Find = Callable[[str], Account | None]  # an account by its address
EVERYBODY = 1 << 63  # account numbers from here on stand for all accounts of a domain


async def set_list(
    store: Store, find: Find, owner: Account, key: bytes, acl: rights.Acl, expected: Notes | None = None
) -> bool:
    """Set the mailbox's list, and note at every account in it where to look. Returns False without a change if the
    present list is not the ``expected`` one."""
    for name in acl:
        hint = _hint_account(find, name, owner)
        if hint is None:
            continue
        place = hint.id.to_bytes(8, "big") + bytes(4)
        note = FROM + owner.address.encode()
        with store.snapshot(hint) as snapshot:
            known = snapshot.note(place, note) is not None
        if not known:
            await store.annotate(hint, place, {note: b"1"})
    return await store.annotate(owner, key, {ACL: rights.dump(acl)}, expected)


def _hint_account(find: Find, name: str, owner: Account) -> Account | None:
    if name == rights.ANYONE:
        return everybody(rights.domain_of(owner.address))
    return None if name.startswith("-") or name == owner.address else find(name)


def everybody(domain: str) -> Account:
    """Return the pseudo-account for all accounts of a domain. Its number is one that no account has."""
    digest = hashlib.blake2b(domain.encode(), digest_size=8).digest()
    return Account(int.from_bytes(digest, "big") | EVERYBODY, f"@{domain}")


def is_everybody(account: Account) -> bool:
    """True for such a pseudo-account. No directory knows it, so it cannot have been removed."""
    return account.id >= EVERYBODY


def givers(store: Store, account: Account) -> set[str]:
    """Return the addresses of the accounts that may share something with an account."""
    found = set()
    for one in (account, everybody(rights.domain_of(account.address))):
        with store.snapshot(one) as snapshot:
            for note in snapshot.notes(one.id.to_bytes(8, "big") + bytes(4)):
                if note.startswith(FROM):
                    found.add(note.removeprefix(FROM).decode())
    return found
