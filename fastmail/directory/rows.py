"""How rows of the directory lie in its tables.

    domains   domain                     Domain
    accounts  domain NUL local-part      Account
    numbers   number(8)                  key of the account
    aliases   domain NUL local-part      Alias; the catch-all has no local-part
    lists     domain NUL local-part      List
    members   key of the list, NUL, address   Member
    posts     key of the list            what it sent lately: hashes of Message-IDs (directory.mailing)
    apps      number(8) digest(8)        AppPassword
    used      number(8) [digest(8)]      Used
    totp      number(8)                  Totp
    passkeys  number(8) digest(8)        Passkey
    scripts   number(8) digest(8)        Script
    groups    domain NUL local-part      Group
    members   number(8) key of a group   nothing (directory.membership)
    homes     domain NUL local-part      number(8) address: whose Maildir is called by that name (directory.taken)
    renames   number(8)                  Renamed; numbers grow (directory.renaming)
    counts    domain                     accounts(4) aliases(4)
    audit     number(8)                  Change; numbers grow
    acted     number(8)                  Change: a master user opened a mailbox (directory.audit); numbers grow
    meta                                 counters; the layout (durable.env)

Names in keys are in the form in which they are compared (model.address.comparable), so every spelling of an address
finds its row in one step, and the addresses of a domain lie side by side. A row is a version, a CRC-32 of key and body,
and the body, a MessagePack map of the fields that are not the default.

Promise: a row whose octets or key are not what was written is DamagedAccount, and harms no other. A row of a higher
version is DamagedAccount too: whoever does not know all fields of a row must not act on it. Version 2 is an account
with ``placed``, whose Maildir an older program would look for in the wrong place; version 3 are one-time codes whose
secret is sealed; all other rows have version 1.
"""

import struct
import zlib
from typing import Generic, TypeVar

import msgspec

from fastmail.directory.records import (
    Account,
    Alias,
    AppPassword,
    Change,
    Domain,
    Group,
    List,
    Member,
    Passkey,
    Renamed,
    Script,
    Totp,
    Used,
)
from fastmail.model import domain as names
from fastmail.model.address import comparable, folded
from fastmail.model.errors import DamagedAccount

PLAIN, PLACED, SEALED = 1, 2, 3  # versions
HEAD = struct.Struct(">BI")
U64 = struct.Struct(">Q")
COUNTS = struct.Struct(">II")  # accounts, aliases
NUL = b"\0"
LONGEST = 500  # octets of a key
DIGEST = 8  # octets of an app password's digest that are in its key
MEND = "`fastmail account import --replace` makes it anew"

T = TypeVar("T", Account, Alias, AppPassword, Change, Domain, Group, List, Member, Passkey, Renamed, Script, Totp, Used)
_encode = msgspec.msgpack.Encoder().encode


def domain_key(name: str) -> bytes:
    """Where a domain's rows are."""
    return names.comparable(name).encode("utf-8", "surrogatepass")[:LONGEST]


def address_key(address: str) -> bytes:
    """Where the row of an account or an alias is; empty for what is too long to have one."""
    local, _, domain = address.rpartition("@")
    return _key(folded(local), names.comparable(domain))


def compared_key(address: str) -> bytes:
    """The same of an address that is in the form for comparing."""
    local, _, domain = address.rpartition("@")
    return _key(local, domain)


def _key(local: str, domain: str) -> bytes:
    key = f"{domain}\0{local}".encode("utf-8", "surrogatepass")
    return key if len(key) <= LONGEST else b""


def shown(key: bytes) -> str:
    """The address of a key, for people."""
    domain, _, local = key.decode("utf-8", "replace").partition("\0")
    return f"{local.partition(chr(0))[0]}@{domain}"


class Shape(Generic[T]):
    """Packs and unpacks the rows of one table. ``word``: what a row is called; ``newest``: its highest version."""

    def __init__(self, kind: type[T], word: str, then: str, newest: int = PLACED) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)
        self.word, self._then, self._newest = word, then, newest

    def pack(self, key: bytes, value: T) -> bytes:
        body = _encode(value)
        version = SEALED if getattr(value, "sealed", b"") else PLACED if getattr(value, "placed", "") else PLAIN
        return HEAD.pack(version, zlib.crc32(body, zlib.crc32(key))) + body

    def unpack(self, key: bytes, row: bytes) -> T:
        """DamagedAccount when it is not what was written: a changed limit would send mail back, a changed number lead
        to another one's."""
        try:
            version, check = HEAD.unpack_from(row)
            body = row[HEAD.size :]
            if version > self._newest:
                raise DamagedAccount(f"{self.word} {shown(key)} has layout {version}")
            if version >= PLAIN and check == zlib.crc32(body, zlib.crc32(key)):
                return self._decoder.decode(body)
        except (struct.error, msgspec.DecodeError, UnicodeError):
            pass  # said below
        raise DamagedAccount(f"{self.word} {shown(key)}: its row is damaged; {self._then}")


DOMAINS = Shape(Domain, "domain", "`fastmail domain add` makes it anew")
ACCOUNTS = Shape(Account, "account", MEND)
ALIASES = Shape(Alias, "alias", "`fastmail alias remove` and `add` make it anew")
LISTS = Shape(List, "list", "`fastmail list add` makes it anew, its members stay")
MEMBER_ROWS = Shape(Member, "member of list", "`fastmail list member add --replace` makes it anew")
APPS = Shape(AppPassword, "app password", "`fastmail app-password remove` removes it")
USED = Shape(Used, "last login", "the next login makes it anew")
TOTPS = Shape(Totp, "one-time code", "`fastmail admin totp disable` removes it", SEALED)
PASSKEYS = Shape(Passkey, "passkey", "`fastmail admin passkey remove` removes it")
SCRIPTS = Shape(Script, "script", "bring it in again")
GROUPS = Shape(Group, "group", "`fastmail group remove` and `add` make it anew")
RENAMES = Shape(Renamed, "change of name", "lists of rights may name somebody by an old name")
AUDIT = Shape(Change, "audit row", "it is left out")


def member_key(of: bytes, address: str = "") -> bytes:
    """Of a member of the list with the key ``of``, or with no address what the keys of all its members begin with.
    Empty for what is too long to have one."""
    key = of + NUL + comparable(address).encode("utf-8", "surrogatepass")
    return key if len(key) <= LONGEST else b""


def app_key(number: int, digest: bytes = b"") -> bytes:
    """Of an app password, or with no digest what the keys of all of an account begin with."""
    return U64.pack(number) + digest[:DIGEST]
