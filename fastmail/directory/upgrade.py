"""The layout before: how its rows become today's.

    domain    name                           nothing
    account   address                        a MessagePack list: see Former1
    id        number in digits               address
    alias     address or @domain             list of addresses

Everything is done in one transaction together with the layout's number, so whoever reads meanwhile sees all of the
old rows or all of the new ones, a conversion that is cut short has done nothing, and an older program refuses what it
finds afterwards. Rows that are damaged come over as they are, and are damaged still. Two accounts that were kept apart
by the spelling of their domain alone stay both: the later one with a key of its own, which ``faults`` names.
"""

import zlib
from contextlib import suppress
from typing import Any

import msgspec

from fastmail.directory.records import Account, Alias, Domain
from fastmail.directory.rows import ACCOUNTS, ALIASES, COUNTS, DOMAINS, NUL, U64, address_key, domain_key
from fastmail.directory.tables import TABLES
from fastmail.durable import progress
from fastmail.durable.layouts import Former, layout_of
from fastmail.model.errors import MailError
from fastmail.model.quota import Quota

FORMER_TABLES = ("domain", "account", "id", "alias")
SUMMED = 9  # fields that the checksum of a row without restrictions is of
DAMAGED = b"\0"  # no version and no checksum: what such a row begins with


class Former1(msgspec.Struct, array_like=True):
    """version 1: number, ``{SCHEME}hash``, enabled, limits (octets, messages, mailboxes), keys for SCRAM, home and
    Maildir where the source says so, a checksum of all that and the address (0 in rows from before there was one), from
    where the account may log in, and why it may not."""

    version: int
    id: int
    password: str
    enabled: bool = True
    quota: tuple[int, int, int] = (0, 0, 0)
    scram: str = ""
    home: str = ""
    maildir: str = ""
    check: int = 0
    nets: str = ""
    nologin: str = ""


_encode = msgspec.msgpack.Encoder().encode
_account = msgspec.msgpack.Decoder(Former1).decode
_names = msgspec.msgpack.Decoder(list[str]).decode


def _sum(address: str, row: Former1) -> int:
    bare = msgspec.structs.astuple(msgspec.structs.replace(row, check=0))
    found = zlib.crc32(_encode(bare[:SUMMED]), zlib.crc32(address.encode()))
    if any(bare[SUMMED:]):
        found = zlib.crc32(_encode(bare[SUMMED:]), found)
    return found or 1


def read_account(address: str, packed: bytes) -> Account | None:
    """An account of the layout before; None where its row is damaged."""
    try:
        row = _account(packed)
        if "\ufffd" in address or row.version != 1 or (row.check and row.check != _sum(address, row)):
            return None
    except (msgspec.DecodeError, UnicodeError):
        return None
    return Account(row.id, address, row.password, row.enabled, Quota(*row.quota), row.scram,
                   row.home, row.maildir, row.nets, row.nologin)  # fmt: skip


def convert(txn: Any, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Bring all rows over, all in this call (True); the caller removes the old tables. Nothing that is there in the new
    form is replaced: an older program that looked at it made empty tables again."""

    def rows(table: str) -> list[tuple[str, bytes]]:
        found = progress.each(txn.cursor(db=old[table]).iternext())
        return [(str(k, "utf-8", "replace"), bytes(v)) for k, v in found]

    counts: dict[bytes, list[int]] = {}
    for name, _ in rows("domain"):
        domain = domain_key(name)
        txn.put(domain, DOMAINS.pack(domain, Domain(name)), db=new["domains"], overwrite=False)
    numbers = {address: int(number) for number, address in _numbers(rows("id"))}
    for address, packed in rows("account"):
        _bring_account(txn, new, address, packed, numbers, counts)
    for address, packed in rows("alias"):
        with suppress(msgspec.DecodeError, UnicodeError):
            key = address_key(address)
            row = ALIASES.pack(key, Alias(address, tuple(_names(packed))))
            if txn.put(key, row, db=new["aliases"], overwrite=False):
                counts.setdefault(key.partition(NUL)[0], [0, 0])[1] += 1
            continue
        txn.put(address_key(address), DAMAGED + packed, db=new["aliases"], overwrite=False)
    for domain, (accounts, aliases) in counts.items():
        txn.put(domain, COUNTS.pack(accounts, aliases), db=new["counts"], overwrite=False)
    return True


def _numbers(found: list[tuple[str, bytes]]) -> list[tuple[str, str]]:
    return [(number, str(address, "utf-8", "replace")) for number, address in found if number.isdigit()]


def _bring_account(
    txn: Any, new: dict[str, Any], address: str, packed: bytes, numbers: dict[str, int], counts: dict[bytes, list[int]]
) -> None:
    found = read_account(address, packed)
    number = found.id if found is not None else numbers.get(address)
    key = address_key(address)
    if txn.get(key, db=new["accounts"]) is not None:
        key += NUL + str(number).encode()
    row = ACCOUNTS.pack(key, found) if found is not None else DAMAGED + packed
    txn.put(key, row, db=new["accounts"], overwrite=False)
    counts.setdefault(key.partition(NUL)[0], [0, 0])[0] += 1
    if number is not None:
        txn.put(U64.pack(number), key, db=new["numbers"], overwrite=False)


def tables_of(path: str) -> list[str]:
    """The tables of a directory that may have either layout, or be damaged."""
    try:
        _, there = layout_of(path)
    except MailError:
        return [*TABLES, *FORMER_TABLES]
    return [*TABLES, *(one for one in FORMER_TABLES if one in there)]


FORMER = (Former(frozenset(FORMER_TABLES), convert),)
