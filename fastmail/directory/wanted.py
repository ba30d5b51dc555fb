"""A wanted state of the directory: what has to be done until it is there, as requests (directory.requests).

A state is ``{"domains": {name: fields}, "accounts": {address: fields}, "aliases": ..., "groups": ..., "lists": ...,
"app_passwords": {"address/id": fields}}``. App passwords have to be there: only ``app-password add`` shows a new one.
What it does not name stays as it is, so bringing a directory to it twice changes nothing. Members of groups and lists
that are named are all that there shall be. Fails with DirectoryError, BadAddress or DamagedAccount.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastmail.directory import apps, audit, fields
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.groups import group_name
from fastmail.directory.interface import Administration
from fastmail.directory.records import Account, Alias, Domain, Group, List
from fastmail.directory.requests import alias_name, members_of
from fastmail.directory.told import CATCH_ALL
from fastmail.model.address import account_address, comparable, domain_name

PLURALS = {"domains": "domain", "accounts": "account", "aliases": "alias", "groups": "group", "lists": "list",
           "app_passwords": "app-password"}  # fmt: skip
SHOWN = 3  # members that a difference names
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is not as it is wanted. ``text``: what would change."""

    request: Fields = field(default_factory=dict)
    text: str = ""

    @property
    def name(self) -> str:
        return f"{self.request['do']} {self.request['name']}"


def steps(place: Administration, wanted: Mapping[str, Any]) -> Iterator[Step]:
    """What has to be done until the directory has what ``wanted`` says. A password counts for new accounts only."""
    unknown = wanted.keys() - PLURALS.keys()
    if unknown:
        raise DirectoryError(f"{sorted(unknown)[0]} is none of {', '.join(PLURALS)}")
    for plural, kind in PLURALS.items():
        rows = wanted.get(plural, {})
        if not isinstance(rows, Mapping) or not all(isinstance(one, Mapping) for one in rows.values()):
            raise DirectoryError(f"{plural}: names with their fields are expected")
        for name, given in rows.items():
            plain = dict(given)
            caught = plain.pop(CATCH_ALL, None) if kind == "domain" else None
            found = [STEPS[kind](place, name, plain), _caught(place, name, caught) if caught is not None else None]
            yield from (one for one in found if one is not None)


def _made(kind: str, name: str, given: Fields, text: str) -> Step:
    return Step({"do": f"{kind}.add", "name": name, "fields": given}, text)


def _set(kind: str, name: str, given: Fields, *texts: str) -> Step | None:
    """None where nothing is said of a difference."""
    text = "; ".join(filter(None, texts))
    return Step({"do": f"{kind}.set", "name": name, "fields": given}, text) if text else None


def _domain(place: Administration, name: str, given: Fields) -> Step | None:
    old = place.domain(domain_name(name))
    new = fields.changed(old or Domain(domain_name(name)), fields.read("domain", given))
    if old is None:
        return _made("domain", name, given, audit.difference(None, new))
    return _set("domain", name, given, audit.difference(old, new))


def _caught(place: Administration, name: str, wanted: Any) -> Step | None:
    """The catch-all of a domain, which is an alias: nobody gets it where no targets are wanted. What else is set of it
    stays."""
    targets = fields.read("alias", {"targets": wanted})["targets"]
    domain = place.domain(domain_name(name))
    address = f"@{domain.name if domain is not None else domain_name(name)}"
    if targets:
        return _alias(place, address, {"targets": list(targets)})
    old = place.alias(address)
    return Step({"do": "alias.remove", "name": address}, audit.difference(old, Alias(address, ()))) if old else None


def _account(place: Administration, name: str, given: Fields) -> Step | None:
    plain = {key: value for key, value in given.items() if key not in ("hash", "password")}
    old = place.account(account_address(name).key)
    new = fields.changed(old or Account(0, name, ""), fields.read("account", plain))
    if old is None:
        return _made("account", name, given, audit.difference(None, new))
    return _set("account", name, plain, audit.difference(old, new))


def _alias(place: Administration, name: str, given: Fields) -> Step | None:
    old = place.alias(alias_name(name))
    new = fields.changed(old or Alias(alias_name(name), ()), fields.read("alias", given))
    if old is None:
        return _made("alias", name, given, audit.difference(None, new))
    return _set("alias", name, given, audit.difference(old, new))


def _group(place: Administration, name: str, given: Fields) -> Step | None:
    if given.keys() - {"members", "description"}:
        raise DirectoryError(f"group {name}: members and description can be wanted of it")
    values = fields.read("group", given)
    old = place.group(group_name(name))
    known = {} if old is None else {comparable(one): one for one in place.members(old)}
    members = difference(known, map(_called(place), values["members"])) if "members" in values else ""
    said = old.description if old is not None else ""
    if (text := values.get("description", said)) != said:
        described = audit.difference(Group("", description=said), Group("", description=text))
        members = "; ".join(filter(None, [members, described]))
    if old is None:
        return _made("group", name, given, members)
    return _set("group", name, given, members)


def _called(place: Administration) -> Callable[[str], str]:
    """The address that an account has, which may be asked for by another name of its domain."""

    def call(address: str) -> str:
        found = place.account(address)
        return found.address if found is not None else address

    return call


def _list(place: Administration, name: str, given: Fields) -> Step | None:
    plain = dict(given)
    members = members_of(plain)
    address = account_address(name).key
    old = place.mailing_list(address)
    new = fields.changed(old or List(address), fields.read("list", plain))
    known = place.each_member(address) if old is not None and members is not None else ()
    there = {comparable(one.address): one for one in known}
    said = difference(there, [one.address for one in members]) if members is not None else ""
    if old is None:
        return _made("list", name, given, "; ".join(filter(None, [audit.difference(None, new), said])))
    return _set("list", name, given, audit.difference(old, new), said)


def _app_password(place: Administration, name: str, given: Fields) -> Step | None:
    address, _, ident = name.rpartition("/")
    record = place.account(account_address(address).key)
    if record is None:
        raise NoSuchUser(f"there is no account {address}; app passwords are named ADDRESS/ID")
    old = apps.named(place, record, ident)
    new = fields.changed(old, fields.read("app-password", given))
    return _set("app-password", record.address, {**given, "id": ident}, audit.difference(old, new))


def difference(known: Mapping[str, object], wanted: Iterable[str]) -> str:
    """What is said of members. ``known``: those there are, by their address in the form for comparing."""
    asked = {comparable(one): one for one in wanted}
    more = [one for name, one in asked.items() if name not in known]
    less = [name for name in known if name not in asked]
    words = [_counted("+", more), _counted("-", less)]
    return f"members: {', '.join(filter(None, words))}" if more or less else ""


def _counted(sign: str, addresses: Sequence[str]) -> str:
    rest = len(addresses) - SHOWN
    words = ", ".join(f"{sign}{one}" for one in addresses[:SHOWN])
    return words + (f" and {sign}{rest} more" if rest > 0 else "")


STEPS: dict[str, Callable[[Administration, str, Fields], Step | None]] = {
    "domain": _domain,
    "account": _account,
    "alias": _alias,
    "group": _group,
    "list": _list,
    "app-password": _app_password,
}


def in_any_order(changes: Sequence[Callable[[], object]]) -> None:
    """Make changes of which some need others: what cannot be done is tried again after the rest. DirectoryError where
    that never helps."""
    while changes:
        left: list[Callable[[], object]] = []
        why: DirectoryError | None = None
        for one in changes:
            try:
                one()
            except DirectoryError as error:
                left.append(one)
                why = error
        if why is not None and len(left) == len(changes):
            raise why
        changes = left
