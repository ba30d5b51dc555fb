"""How much an account holds, and whether more fits (RFC 9208 in numbers).

Usage comes from the account's row, which every change of the account updates: it is exact, and one row to read. What
the index keeps of a message beyond a few KiB counts too, and so do annotations; STATUS SIZE counts messages only. Two
messages that arrive at the same instant may both be accepted, so a limit can be exceeded by what one moment brings.
"""

from dataclasses import dataclass

from fastmail.model.errors import OverQuota
from fastmail.model.quota import NO_QUOTA
from fastmail.store.interface import Account, Store


@dataclass(frozen=True, slots=True)
class Usage:
    """``octets`` of messages as served and of what is kept beside them; numbers of messages and mailboxes."""

    octets: int
    messages: int
    mailboxes: int


def usage(store: Store, account: Account) -> Usage:
    """Return what the account holds now."""
    with store.snapshot(account) as snapshot:
        held = snapshot.holding(account.id)
    return Usage(held.octets + held.kept, held.messages, held.mailboxes)


def check(store: Store, account: Account, octets: int, messages: int = 1, mailboxes: int = 0) -> None:
    """Raise OverQuota if these octets, messages and mailboxes do not fit any more. For a limit that accounts share, see
    Pool.ready."""
    quota, pool = account.quota, account.pool
    if pool is not None and octets and not pool.fits(octets):
        raise OverQuota("the domain is full: its storage limit is reached")
    if quota == NO_QUOTA:  # of nearly all, and asked for each recipient
        return
    held = usage(store, account)
    if quota.octets and octets and held.octets + octets > quota.octets:
        raise OverQuota("mailbox is full: its storage limit is reached")
    if quota.messages and messages and held.messages + messages > quota.messages:
        raise OverQuota("mailbox is full: its limit of messages is reached")
    if quota.mailboxes and mailboxes and held.mailboxes + mailboxes > quota.mailboxes:
        raise OverQuota("the limit of mailboxes is reached")
