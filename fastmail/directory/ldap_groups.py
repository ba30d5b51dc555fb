"""Groups of an LDAP directory: entries whose values are the names (DN) of their members (RFC 4519 2.17 and 3.5), which
are accounts or groups themselves.

Groups in groups, by setting: FOLLOW finds the accounts in them, as long as they are among the groups that were read,
DEPTH levels deep; a group that is in itself ends there. CHAIN lets the directory find them: Active Directory knows the
members of members by the matching rule LDAP_MATCHING_RULE_IN_CHAIN, also of groups that were not read, with one
question for each group. NO takes direct members only.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from fastmail.directory import once
from fastmail.directory.membership import MOST
from fastmail.model.address import Address, refuse_unseen
from fastmail.model.errors import BadAddress

NO, FOLLOW, CHAIN = "no", "follow", "chain"
DEPTH = 10  # levels of groups in groups
IN_CHAIN = "memberOf:1.2.840.113556.1.4.1941:"  # MS-ADTS 3.1.1.3.4.4.3
NOTHING = "1.1"  # no attributes: the names of entries are enough (RFC 4511 4.5.1.8)
Entry = Mapping[str, Any]
Ask = Callable[[str, Sequence[str]], Iterable[Entry]]  # entries by filter, with attributes of these names
Named = dict[str, str]  # addresses of accounts by the plain names of their entries


class Settings(Protocol):
    """What ldap.Settings has of groups."""

    @property
    def filter(self) -> str: ...
    @property
    def groups(self) -> str: ...
    @property
    def group_name(self) -> str: ...
    @property
    def group_member(self) -> str: ...
    @property
    def nested(self) -> str: ...


def read(settings: Settings, domain: str, named: Mapping[str, str], ask: Ask) -> dict[str, list[str]]:
    """Members by the groups' names, ``name@domain``. Members that are no accounts here are left out."""
    entries = list(ask(settings.groups, (settings.group_name, settings.group_member)))
    members = {plain(_dn(one)): _members(one, settings.group_member) for one in entries}
    out: dict[str, list[str]] = {}
    for entry in entries:
        name = _name(entry, settings.group_name, domain)
        if not name:
            continue
        if settings.nested == CHAIN and _dn(entry):
            found = _in_chain(settings, _dn(entry), named, ask)
        else:
            found = accounts_in(_members(entry, settings.group_member), members, named, settings.nested == FOLLOW)
        out[name] = sorted(found)
    return out


def _name(entry: Entry, attribute: str, domain: str) -> str:
    """The group's name; empty where it has none that can be used."""
    name = text(next(iter(entry["raw_attributes"].get(attribute, [])), b"")).strip().lower()
    try:
        key = Address.parse(f"{name}@{domain}").key
        refuse_unseen(key)
        return key
    except BadAddress:
        once.event("directory.group", group=name[:100], why="no usable name")
        return ""


def accounts_in(
    direct: Sequence[str],
    groups: Mapping[str, Sequence[str]],
    named: Mapping[str, str],
    nested: bool,
    most: int = MOST,
) -> set[str]:
    """The addresses of the accounts in a group with these members, and with ``nested`` in the groups among them.
    ``groups``: members by the plain name of their group. Each group is looked at once, level by level, and with
    ``most`` of them found none further down."""
    found: set[str] = set()
    seen: set[str] = set()
    level: Iterable[str] = direct
    for _ in range(DEPTH + 1 if nested else 1):
        inside: dict[str, None] = {}
        for one in level:
            if one in named:
                found.add(named[one])
            elif one in groups and one not in seen:
                seen.add(one)
                inside.update(dict.fromkeys(groups[one]))
        if not inside or len(found) > most:  # a group has no more members than that
            break
        level = inside
    return found


def _in_chain(settings: Settings, group: str, named: Mapping[str, str], ask: Ask) -> set[str]:
    """The same, as the directory says it."""
    people = settings.filter if settings.filter.startswith("(") else f"({settings.filter})"
    entries = ask(f"(&{people}({IN_CHAIN}={escaped(group)}))", (NOTHING,))
    return {named[name] for name in map(plain, map(_dn, entries)) if name in named}


def _dn(entry: Entry) -> str:
    return str(entry.get("dn", ""))


def _members(entry: Entry, attribute: str) -> list[str]:
    return [plain(text(one)) for one in entry["raw_attributes"].get(attribute, [])]


def plain(name: str) -> str:
    """A name in one form for comparing: without case, and without blanks around commas and equals signs, which some
    directories write (RFC 4514 2 has none)."""
    return re.sub(r" *([,=+]) *", r"\1", name.strip().lower())


def escaped(value: str) -> str:
    """A value inside a filter (RFC 4515 3)."""
    shown = (c if c.isascii() and c not in "\\*()\0" else None for c in value)
    return "".join(c or "".join(f"\\{octet:02x}" for octet in value[at].encode()) for at, c in enumerate(shown))


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
