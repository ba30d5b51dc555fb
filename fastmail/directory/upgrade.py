"""The layout before: how its rows become today's.

    domain    name                           nothing
    account   address                        a MessagePack list: see Former1
    id        number in digits               address
    alias     address or @domain             list of addresses

Rows go over part by part, each in one transaction. The first part has the layout's number, so an older program refuses
what it finds; a process of this version reads nothing before all rows are over. Rows that are damaged come over as they
are, and are damaged still. Two accounts that were kept apart by the spelling of their domain alone stay both: the later
one with a key of its own, which ``faults`` names.
"""

import zlib
from contextlib import suppress
from typing import Any

import msgspec

from fastmail.directory.records import Account, Alias, Domain
from fastmail.directory.rows import ACCOUNTS, ALIASES, COUNTS, DOMAINS, NUL, U64, address_key, domain_key
from fastmail.directory.tables import TABLES
from fastmail.durable.layouts import Former, Part, layout_of
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
    """Bring some rows over; True if none are left. The caller removes the old tables. Nothing that is there in the new
    form is replaced: an older program that looked at it made empty tables again."""
    part = Part()
    counts: dict[bytes, list[int]] = {}
    for raw, _ in part.take(txn, old["domain"]):
        name = str(raw, "utf-8", "replace")
        domain = domain_key(name)
        txn.put(domain, DOMAINS.pack(domain, Domain(name)), db=new["domains"], overwrite=False)
    for number, raw in part.take(txn, old["id"]):
        _bring_damaged(txn, old, new, number, raw, counts)
    for raw, packed in part.take(txn, old["account"]):
        address = str(raw, "utf-8", "replace")
        _bring_account(txn, new, address, packed, read_account(address, packed), None, counts)
    for raw, packed in part.take(txn, old["alias"]):
        _bring_alias(txn, new, str(raw, "utf-8", "replace"), packed, counts)
    for domain, found in counts.items():
        before = COUNTS.unpack(txn.get(domain, default=bytes(COUNTS.size), db=new["counts"]))
        txn.put(domain, COUNTS.pack(*(was + more for was, more in zip(before, found, strict=True))), db=new["counts"])
    return not part.is_full


def _bring_damaged(
    txn: Any, old: dict[str, Any], new: dict[str, Any], number: bytes, raw: bytes, counts: dict[bytes, list[int]]
) -> None:
    """Bring over the account of an address that has this number, if its row is damaged: nothing else says its number
    then."""
    packed = txn.get(raw, db=old["account"]) if raw else None
    address = str(raw, "utf-8", "replace")
    if packed is None or not number.isdigit() or read_account(address, packed) is not None:
        return
    txn.delete(raw, db=old["account"])
    _bring_account(txn, new, address, packed, None, int(number), counts)


def _bring_alias(txn: Any, new: dict[str, Any], address: str, packed: bytes, counts: dict[bytes, list[int]]) -> None:
    key = address_key(address)
    with suppress(msgspec.DecodeError, UnicodeError):
        row = ALIASES.pack(key, Alias(address, tuple(_names(packed))))
        if txn.put(key, row, db=new["aliases"], overwrite=False):
            counts.setdefault(key.partition(NUL)[0], [0, 0])[1] += 1
        return
    txn.put(key, DAMAGED + packed, db=new["aliases"], overwrite=False)


def _bring_account(
    txn: Any,
    new: dict[str, Any],
    address: str,
    packed: bytes,
    found: Account | None,
    number: int | None,
    counts: dict[bytes, list[int]],
) -> None:
    """Bring over one account; ``found``: what its row says, None if it is damaged. ``number``: its number if the row
    does not say it."""
    number = found.id if found is not None else number
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


FORMER = (Former(frozenset(FORMER_TABLES), convert, bars_older=True),)
