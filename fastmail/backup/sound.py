"""Is a backup what this program writes? Whoever can write into it could otherwise have a restore write anywhere.

Everything that names something, or is counted on, is looked at before a restore changes anything: addresses, names of
mailboxes and objects, UIDVALIDITY, UIDs, flags, keywords, dates and sizes. CorruptData says where, why, and what to do.
The content of objects is not read here: each is checked by its name when it is.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import msgspec

from fastmail.backup.vault import FORM, Vault
from fastmail.directory import list_links
from fastmail.directory.records import Account as Record
from fastmail.directory.records import Alias, AppPassword, Domain, List, Member, Passkey, Script, Totp
from fastmail.model.address import Address, account_address, domain_name
from fastmail.model.errors import BadAddress, CannotDo, CorruptData
from fastmail.model.flags import ALL_FLAGS, MAX_KEYWORDS
from fastmail.model.mailbox_name import INBOX
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home

MOST = 0xFFFFFFFF  # UIDs, UIDVALIDITYs and dates have four octets
SPECIAL = 31
LARGEST = 1 << 40
TEXTS = ("password", "scram", "nets", "nologin")
_WORD = re.compile(r"[\x21-\x7e\xa0-\xff]{1,255}")
_UIDL = re.compile(r"[\x21-\x7e]{0,1000}")


class _Bad(Exception):
    """What is wrong."""


def _number(row: Mapping[str, Any], name: str, least: int, most: int) -> int:
    found = row.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise _Bad(f"{name} is {str(found)[:40]!r}, not a number from {least} to {most}")
    return found


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    found = row.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise _Bad(f"{name} is no list of texts")
    return found


def _refuse(where: str, why: object) -> CorruptData:
    return CorruptData(
        f"{where}: {why}. Nothing was restored, because the backup is damaged or not one of fastmail's: take an "
        "earlier one (`fastmail backup PATH --list`, then --run), or the accounts that are sound one by one (--account)"
    )


def check_directory(found: Any) -> None:
    """Domains, accounts and aliases."""
    where = "directory.json"
    try:
        if not isinstance(found, dict):
            raise _Bad("it is no object")
        for name in _texts(found, "domains"):
            domain_name(name)
        for row in _rows(found, "accounts", dict):
            where = f"directory.json: account {str(row.get('address'))[:80]!r}"
            if not isinstance(row.get("address"), str) or account_address(row["address"]).key != row["address"].lower():
                raise _Bad("that is no address of an account")
            if not all(isinstance(row.get(name, ""), str) for name in TEXTS):
                raise _Bad("a password or condition is no text")
            quota = row.get("quota")
            if not isinstance(quota, list) or len(quota) != 3 or not all(type(one) is int for one in quota):
                raise _Bad("its quota is no list of three numbers")
            account_of(row)
        for row in _rows(found, "aliases", list):
            where = f"directory.json: alias {str(row[:1])[:80]}"
            if len(row) != 2 or not isinstance(row[0], str) or not isinstance(row[1], list):
                raise _Bad("it is not an address and a list")
            _alias(row[0], _texts({"targets": row[1]}, "targets"))
        settings(found)
    except (_Bad, BadAddress) as error:
        raise _refuse(where, error) from None


class SavedGroup(msgspec.Struct):
    """A group, whose members are named by their addresses: their numbers are others where it is restored."""

    name: str
    members: list[str] = []
    description: str = ""
    source: bool = False


class Settings(msgspec.Struct):
    """What a backup says of the directory beside the rows that every version reads."""

    domains: list[Domain] = []
    aliases: list[Alias] = []
    apps: dict[str, list[AppPassword]] = {}
    groups: list[SavedGroup] = []
    keys: dict[str, str] = {}
    lists: list[List] = []
    members: dict[str, list[Member]] = {}
    scripts: dict[str, list[Script]] = {}
    totp: dict[str, Totp] = {}
    passkeys: dict[str, list[Passkey]] = {}
    link_keys: list[tuple[int, bytes]] = []  # by which members leave lists (directory.list_links)


def settings(found: Mapping[str, Any]) -> Settings:
    """CorruptData for what is none; nothing in a backup of a version that had none."""
    try:
        made = msgspec.convert(found.get("settings", {}), Settings)
        for one in made.domains:
            domain_name(one.name)
        for alias in made.aliases:
            _alias(alias.address, list(alias.targets))
        for group in made.groups:
            _alias(group.name, group.members)
        for row in made.lists:
            account_address(row.address)
        for member in chain.from_iterable(made.members.values()):
            Address.parse(member.address)
        for at, key in made.link_keys:
            if len(key) != list_links.KEY or not 0 <= at < MOST:
                raise msgspec.ValidationError("a key of links is none")
        return made
    except (msgspec.ValidationError, BadAddress) as error:
        raise _refuse("directory.json: settings", error) from None


def account_of(row: Mapping[str, Any]) -> Record:
    """An account as the backup has it. CorruptData."""
    try:
        return msgspec.convert({"id": 0, **row}, Record)
    except msgspec.ValidationError as error:
        raise _refuse(f"directory.json: account {str(row.get('address'))[:80]!r}", error) from None


def _alias(address: str, targets: list[str]) -> None:
    for name in (address, *targets):
        domain_name(name[1:]) if name.startswith("@") else Address.parse(name)


def _rows(found: Mapping[str, Any], name: str, kind: type) -> Iterable[Any]:
    rows = found.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, kind) for row in rows):
        raise _Bad(f"{name} is not what it should be")
    return rows


class _Account:
    """The rows of an account's file, one after the other."""

    def __init__(self, address: str, home: Home) -> None:
        self._address = address
        self._home = home
        self._names: set[str] = set()
        self._places: set[str] = set()
        self.box = ""
        self._last = 0
        self._next = 0
        self._words = 0

    def take(self, number: int, row: Any) -> None:
        if not isinstance(row, dict):
            raise _Bad("it is no object")
        if number == 1:
            self._head(row)
        elif "mailbox" in row:
            self._mailbox(row)
        elif "uid" in row and self._names:
            self._message(row)
        else:
            raise _Bad("it is no mailbox and no message of one")

    def _head(self, row: Mapping[str, Any]) -> None:
        if row.get("account") != self._address:
            raise _Bad(f"it is of the account {str(row.get('account'))[:80]!r}")
        for name in _texts(row, "subscribed"):
            self._is_name(name)

    def _is_name(self, name: str) -> None:
        if not folders.openable(name) or "\0" in name or any(0xD800 <= ord(one) < 0xE000 for one in name):
            raise _Bad(f"{name[:80]!r} is no name of a mailbox")

    def _mailbox(self, row: Mapping[str, Any]) -> None:
        name = row["mailbox"]
        if not isinstance(name, str):
            raise _Bad("its name is no text")
        self._is_name(name)
        if name != INBOX:
            try:
                folders.refuse_length(self._home, name)
            except CannotDo as error:
                raise _Bad(error) from None
            levels = name.split("/")
            dotted = self._home.layout != "fs"
            if any("." in one if dotted else one in folders.PARTS or one.startswith("..") for one in levels):
                raise _Bad(f"{name[:80]!r} cannot be a folder in this server's layout")
        place = folders.folder(self._home, name)
        if name in self._names or place in self._places:
            raise _Bad(f"the mailbox {name[:80]!r} is there twice")
        self._names.add(name)
        self._places.add(place)
        self.box = name
        _number(row, "uidvalidity", 1, MOST)
        self._next = _number(row, "uidnext", 1, MOST)
        _number(row, "special", 0, SPECIAL)
        words = _texts(row, "words")
        if len(words) > MAX_KEYWORDS or not all(_WORD.fullmatch(word) for word in words):
            raise _Bad("its keywords are no keywords")
        self._words, self._last = len(words), 0
        notes = row.get("notes")
        if not isinstance(notes, dict):
            raise _Bad("its notes are no object")
        for note, value in notes.items():
            try:
                note.encode("latin-1")
                b64decode(value, validate=True)
            except (ValueError, TypeError):
                raise _Bad(f"the note {note[:40]!r} cannot be read") from None

    def _message(self, row: Mapping[str, Any]) -> None:
        uid = _number(row, "uid", 1, MOST)
        if uid <= self._last or uid >= self._next:
            raise _Bad(f"UID {uid} does not follow {self._last}, or is not below UIDNEXT {self._next}")
        self._last = uid
        _number(row, "flags", 0, ALL_FLAGS)
        _number(row, "keywords", 0, (1 << self._words) - 1)
        _number(row, "date", 0, MOST)
        if "octets" in row:
            _number(row, "octets", 0, LARGEST)
        if not isinstance(row.get("object"), str) or not FORM.fullmatch(row["object"]):
            raise _Bad(f"UID {uid}: {str(row.get('object'))[:80]!r} is no name of an object")
        if "pop3" in row:
            pop3 = row["pop3"]
            if (
                not isinstance(pop3, list)
                or len(pop3) != 2
                or not isinstance(pop3[1], str)
                or not _UIDL.fullmatch(pop3[1])
            ):
                raise _Bad(f"UID {uid}: pop3 is no place and UIDL")
            _number({"pop3": pop3[0]}, "pop3", 0, control_files.LAST_PLACE)


def check_account(vault: Vault, address: str, home: Home, run: str, told: Callable[[], None] = lambda: None) -> None:
    """An account's file, to be restored to the Maildir at ``home``."""
    reader = _Account(address, home)
    number = 0
    for number, row in enumerate(vault.rows(address, run), 1):
        try:
            reader.take(number, row)
        except _Bad as error:
            mailbox = f", mailbox {reader.box}" if reader.box else ""
            raise _refuse(f"{address}: line {number}{mailbox}", error) from None
        told()
    if not number:
        raise _refuse(address, "its file is empty")
