"""Names that are taken although no row of an account or alias has them: those whose Maildir belongs to an account of
another name (table ``homes``), and old names that the mail store still knows somebody by (table ``renames``)."""

from collections.abc import Iterator
from contextlib import suppress

from fastmail.directory.errors import DirectoryError
from fastmail.directory.records import Account
from fastmail.directory.rows import ACCOUNTS, RENAMES, U64, address_key
from fastmail.directory.tables import Txn
from fastmail.model import domain as names
from fastmail.model.address import comparable
from fastmail.model.errors import CorruptData

BESIDE = "%"  # no account may have it in its address (model.address), so a place with it is nobody else's


def keep_home(txn: Txn, account: Account) -> None:
    """The Maildir that is called ``placed`` is this account's, whatever its name is."""
    txn.put("homes", address_key(account.placed), U64.pack(account.id) + account.placed.encode())


def free_home(txn: Txn, placed: str) -> None:
    """Whoever gets that name may have the Maildir of that name."""
    txn.delete("homes", address_key(placed))


def home_for(txn: Txn, address: str, number: int) -> str:
    """What the place of a new account's Maildir is called, where it cannot be called by its address; else nothing."""
    if txn.get("homes", address_key(address)) is None:
        return ""
    local, _, domain = address.rpartition("@")
    return f"{local}{BESIDE}{number}@{domain}"


def home_of(txn: Txn, number: int) -> str:
    """Where the Maildir of an account is whose row cannot say it; nothing where it is called by its address."""
    mine = U64.pack(number)
    return next((row[U64.size :].decode() for _, row in txn.items("homes") if row[: U64.size] == mine), "")


def rebuild_homes(txn: Txn) -> None:
    """After damage: each account that can be read has the place that it says."""
    for account in list(_accounts(txn)):
        if account.placed and BESIDE not in account.placed:
            keep_home(txn, account)


def _accounts(txn: Txn) -> Iterator[Account]:
    for key, row in txn.items("accounts"):
        with suppress(CorruptData):
            yield ACCOUNTS.unpack(key, row)


def refuse_while_renaming(txn: Txn, address: str) -> None:
    """DirectoryError for an address (or ``@domain``) that the mail store still knows somebody by, who has another name
    now: whoever got it would have the rights that were given to them."""
    wanted = {comparable(address), "@" + names.comparable(address.rpartition("@")[2])}
    for key, row in txn.items("renames"):
        with suppress(CorruptData):
            if comparable(RENAMES.unpack(key, row).old) in wanted:
                raise DirectoryError(
                    f"{address.removeprefix('@')} was the name of somebody else until now, and lists of rights still "
                    "have to follow: start the server, or try again in a moment"
                )
