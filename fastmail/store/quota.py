"""How much an account holds, and whether more fits (RFC 9208 in numbers).

Usage is what the account's row says, which every change of the account brings up to date: exact, and one row to read.
What the index keeps of a message beyond a few KiB counts with it, and so do annotations; STATUS SIZE is of the messages
alone. Two messages that arrive in the same instant may both fit: a limit
can be passed by what one moment brings, never by more.
"""

from dataclasses import dataclass

from fastmail.model.errors import OverQuota
from fastmail.store.interface import Account, Store


@dataclass(frozen=True, slots=True)
class Usage:
    """Octets (of messages as served, of what is kept beside them), messages, mailboxes."""

    octets: int
    messages: int
    mailboxes: int


def usage(store: Store, account: Account) -> Usage:
    """What the account holds now."""
    with store.snapshot(account) as snapshot:
        held = snapshot.holding(account.id)
    return Usage(held.octets + held.kept, held.messages, held.mailboxes)


def check(store: Store, account: Account, octets: int, messages: int = 1, mailboxes: int = 0) -> None:
    """OverQuota when so much more does not fit. Of a limit that accounts share, see Pool.ready."""
    quota, pool = account.quota, account.pool
    if pool is not None and octets and not pool.fits(octets):
        raise OverQuota("the domain is full: its storage limit is reached")
    if not quota:
        return
    held = usage(store, account)
    if quota.octets and octets and held.octets + octets > quota.octets:
        raise OverQuota("mailbox is full: its storage limit is reached")
    if quota.messages and messages and held.messages + messages > quota.messages:
        raise OverQuota("mailbox is full: its limit of messages is reached")
    if quota.mailboxes and mailboxes and held.mailboxes + mailboxes > quota.mailboxes:
        raise OverQuota("the limit of mailboxes is reached")
