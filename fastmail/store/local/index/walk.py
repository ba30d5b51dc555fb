"""Iterates over tables: the rows with a common prefix, and the mailboxes of an account."""

from collections.abc import Iterator
from typing import Any

from fastmail.durable.transaction import Reading, Txn
from fastmail.model.errors import CorruptData
from fastmail.store.local.index.layout import ACCOUNT, MAILBOX, MailboxRow, row_key, unpack_row
from fastmail.store.local.index.tables import Tables
from fastmail.telemetry import log


def rows(txn: Reading, table: Any, prefix: bytes) -> Iterator[tuple[Any, Any]]:
    """Yield (key, value) of the rows whose keys begin with ``prefix``."""
    cursor = txn.cursor(db=table)
    if cursor.set_range(prefix):
        for at, value in cursor.iternext():
            if at[: len(prefix)] != prefix:
                return
            yield at, value


def clear(txn: Txn, table: Any, prefix: bytes) -> None:
    """Delete the rows whose keys begin with ``prefix``."""
    cursor = txn.cursor(db=table)
    if cursor.set_range(prefix):
        while cursor.key()[: len(prefix)] == prefix and cursor.delete():
            pass


def boxes(txn: Reading, t: Tables, account: bytes) -> list[MailboxRow]:
    """Return all mailboxes of the account with this key, by id, exactly as their rows are."""
    out = []
    cursor = txn.cursor(db=t.page)
    at = account
    while cursor.set_range(at) and cursor.key()[:ACCOUNT] == account:
        key = bytes(cursor.key()[:MAILBOX])
        if not cursor.set_key(row_key(key)):
            break
        try:
            out.append(unpack_row(key, cursor.value()))
        except CorruptData as error:  # one damaged row must not hide the account's other mailboxes
            log.event("mailbox.damaged", "error", why=error, then="fastmail check --repair")
        at = row_key(key) + b"\0"
    return out
