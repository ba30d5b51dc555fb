"""What is looked for in all accounts of a shard at once, because somebody has another name now. Each is one walk
through a table, in one short read transaction; both tables have a few rows for an account."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from fastmail.durable.transaction import Reading
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, account_of
from fastmail.store.local.index.tables import Tables

Read = Callable[[], AbstractContextManager[Reading]]


def annotated(read: Read, t: Tables, name: bytes) -> list[bytes]:
    """The keys of the mailboxes that have an annotation of this name."""
    with read() as txn:
        return [bytes(at[:MAILBOX]) for at, _ in txn.cursor(db=t.note).iternext() if at[MAILBOX:] == name]


def subscriptions(read: Read, t: Tables, top: str) -> list[tuple[int, str]]:
    """(account, name) of subscriptions to names that begin with ``top``."""
    first = top.encode()
    with read() as txn:
        return [
            (account_of(at), str(value or at[ACCOUNT:], "utf-8", "replace"))
            for at, value in txn.cursor(db=t.subs).iternext()
            if at[ACCOUNT : ACCOUNT + len(first)] == first
        ]
