"""Domains and mailing lists of an LDAP directory.

A domain is an entry with a name and fields. A list is an entry with an address, such as a groupOfNames with mail; its
members are entries by their names (DN), each with the first address that it has whether it is an account or not, or
plain addresses. Lists among the members of a list stand for their members, as ``nested`` of directory.ldap_groups has
it; the rule of Active Directory for chains is not asked, because contacts are members too.
"""

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from fastmail.directory.external import Content
from fastmail.directory.incoming import Incoming
from fastmail.directory.ldap_groups import NO, Ask, Entry, accounts_in, plain, text
from fastmail.directory.told import Told, told

MOST = 1_000_000  # members of a list, those of lists in it among them
Pairs = Sequence[tuple[str, str]]  # (field, attribute that says it)


class Settings(Protocol):
    """What ldap.Settings has of domains and lists."""

    @property
    def address(self) -> str: ...
    @property
    def nested(self) -> str: ...
    @property
    def domains(self) -> str: ...
    @property
    def domain_name(self) -> str: ...
    @property
    def domain_fields(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def lists(self) -> str: ...
    @property
    def list_address(self) -> str: ...
    @property
    def list_members(self) -> tuple[str, ...]: ...
    @property
    def list_fields(self) -> tuple[tuple[str, str], ...]: ...


def said(entry: Entry, pairs: Pairs) -> dict[str, Any]:
    """Return what an entry says of fields; several values with commas between."""
    return {name: ",".join(found) for name, attribute in pairs if (found := _values(entry, attribute))}


def domains(settings: Settings, ask: Ask, out: Content) -> None:
    """Note what the directory says of domains."""
    out.domains = {}
    for entry in ask(settings.domains, (settings.domain_name, *(one for _, one in settings.domain_fields))):
        for name in _values(entry, settings.domain_name)[:1]:
            out.add_domain(name.lower(), said(entry, settings.domain_fields))


def lists(settings: Settings, domain: str, named: Mapping[str, str], ask: Ask) -> tuple[dict[str, Told], Incoming]:
    """Return what the directory says of lists, by address, and their members. ``named``: addresses of accounts by the
    plain names of their entries."""
    names = (settings.list_address, *settings.list_members, *(one for _, one in settings.list_fields))
    entries = list(ask(settings.lists, names))
    contacts = _contacts(settings, ask)
    known: ChainMap[str, str] = ChainMap({}, dict(named), contacts)
    inside = {plain(str(one.get("dn", ""))): _members(one, settings, known) for one in entries}
    for name in inside if settings.nested != NO else ():
        contacts.pop(name, None)  # a list in a list stands for its members, although it has an address
    out: dict[str, Told] = {}
    incoming = Incoming()
    for entry in entries:
        for name in _values(entry, settings.list_address)[:1]:
            address = name.lower() if "@" in name else f"{name.lower()}@{domain}"
            out[address] = told(address, said(entry, settings.list_fields), "list")
            direct = inside[plain(str(entry.get("dn", "")))]
            found = accounts_in(direct, inside, known, settings.nested != NO, MOST)
            incoming.add((address, one, "") for one in found if one != address)
    return out, incoming


def _contacts(settings: Settings, ask: Ask) -> dict[str, str]:
    """Addresses of all entries that have one, by their plain names."""
    out = {}
    for entry in ask(f"({settings.address}=*)", (settings.address,)):
        for address in _values(entry, settings.address)[:1]:
            out[plain(str(entry.get("dn", "")))] = address
    return out


def _members(entry: Entry, settings: Settings, known: ChainMap[str, str]) -> list[str]:
    """The plain names of an entry's members; those that are addresses are noted in ``known``."""
    out = []
    for value in (one for attribute in settings.list_members for one in _values(entry, attribute)):
        name = plain(value)
        if "@" in value and "=" not in value:
            known[name] = value
        out.append(name)
    return out


def _values(entry: Entry, attribute: str) -> list[str]:
    found: Iterable[bytes] = entry["raw_attributes"].get(attribute, [])
    return [value for one in found if (value := text(one).strip())]
