"""Requests to the directory as plain data: what a batch has in each line, and what a file of a wanted state comes to.

A request is ``{"do": "account.set", "name": "a@example.org", "fields": {...}}``; ``do`` is domain, account, alias or
group with add, set, remove or show behind the point (account.remove is a command of its own, because mail belongs to
it). ``perform`` gives what the answer has beside ``ok``. Fails with DirectoryError, which leaves everything as it was.
list with add, set, remove or show behind the point (account.remove is a command of its own, because mail belongs to
it), or member with add, set or remove, where the name is a list's and the member's address is a field. ``perform``
gives what the answer has beside ``ok``. Fails with DirectoryError, which leaves everything as it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from fastmail.directory import audit, fields
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.groups import group_name
from fastmail.directory.interface import Administration
from fastmail.directory.records import Account, Alias, Domain, List, Member
from fastmail.model.address import Address, account_address, domain_name

Hash = Callable[[str], tuple[str, str]]  # of a password: what is stored of it, and keys for SCRAM
PLURALS = {"domains": "domain", "accounts": "account", "aliases": "alias", "lists": "list"}


def perform(place: Administration, request: Mapping[str, Any], hashed: Hash) -> dict[str, Any]:
    """Do it. DirectoryError, BadAddress."""
    what, name, given = request.get("do"), request.get("name"), request.get("fields", {})
    action = ACTIONS.get(what) if isinstance(what, str) else None
    if action is None:
        raise DirectoryError(f"do: one of {', '.join(ACTIONS)} is expected")
    if not isinstance(name, str) or not isinstance(given, Mapping):
        raise DirectoryError("name has to be a text, fields an object")
    return action(place, name, dict(given), hashed)


def alias_name(text: str) -> str:
    """An alias's address, or ``@domain`` for a catch-all, as it is kept. BadAddress."""
    return "@" + domain_name(text[1:]) if text.startswith("@") else Address.parse(text).key


def _add_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.add_domain(fields.changed(Domain(domain_name(name)), fields.read("domain", given)))
    return {}


def _set_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("domain", given)
    place.change_domain(domain_name(name), lambda old: fields.changed(old, values))
    return {}


def _remove_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_domain(domain_name(name))
    return {}


def _show_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.domain(domain_name(name))
    if found is None:
        raise DirectoryError(f"there is no domain {name}")
    accounts, aliases = place.counts(found.name)
    shown = {"fields": fields.shown(found), "dkim": fields.keys_shown(found)}
    return {"name": found.name, "accounts": accounts, "aliases": aliases, **shown}


def password_of(given: dict[str, Any], hashed: Hash) -> tuple[str, str] | None:
    """Takes ``hash`` or ``password`` out of the fields: what is stored of it, and keys for SCRAM."""
    stored, plain = given.pop("hash", None), given.pop("password", None)
    if stored is None and plain is None:
        return None
    if not isinstance(stored if stored is not None else plain, str) or not (stored or plain):
        raise DirectoryError("a password is a text that is not empty")
    if stored is not None:
        if not str(stored).startswith("{"):
            raise DirectoryError("hash: {SCHEME}hash is expected")
        return str(stored), ""
    return hashed(str(plain))


def _add_account(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    password = password_of(given, hashed)
    if password is None:
        raise DirectoryError("a new account needs a password, or a hash")
    values = fields.read("account", given)
    place.add_account(account_address(name).key, *password, lambda new: fields.changed(new, values))
    return {}


def _set_account(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    password = password_of(given, hashed)
    values = fields.read("account", given)
    if password is not None:
        values |= {"password": password[0], "scram": password[1]}
    place.change_account(account_address(name).key, lambda old: fields.changed(old, values))
    return {}


def _show_account(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.account(account_address(name).key)
    if found is None:
        raise NoSuchUser(f"there is no account {name}")
    return {"name": found.address, "id": found.id, "fields": fields.shown(found)}


def _add_alias(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.put_alias(fields.changed(Alias(alias_name(name), ()), fields.read("alias", given)))
    return {}


def _set_alias(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("alias", given)
    place.change_alias(alias_name(name), lambda old: fields.changed(old, values))
    return {}


def _remove_alias(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_alias(alias_name(name))
    return {}


def _show_alias(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.alias(alias_name(name))
    if found is None:
        raise NoSuchUser(f"there is no alias {name}")
    return {"name": found.address, "fields": fields.shown(found)}


def _add_group(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("group", {key: value for key, value in given.items() if key not in ("join", "leave")})
    place.put_group(group_name(name), values.get("members", ()), values.get("description", ""))
    return {}


def _set_group(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.change_group(group_name(name), **fields.read("group", given))
    return {}


def _remove_group(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_group(group_name(name))
    return {}


def _show_group(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = shown_group(place, name)
    return {"name": found.pop("group"), "fields": found}


def shown_group(place: Administration, name: str) -> dict[str, Any]:
    """A group with the addresses of its members. NoSuchUser."""
    found = place.group(group_name(name))
    if found is None:
        raise NoSuchUser(f"there is no group {name}; `fastmail group list` shows them")
    return {"group": found.name, "members": place.members(found), "description": found.description}


def _add_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.put_list(fields.changed(List(account_address(name).key), fields.read("list", given)))
    return {}


def _set_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("list", given)
    place.change_list(account_address(name).key, lambda old: fields.changed(old, values))
    return {}


def _remove_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    return {"members": place.remove_list(account_address(name).key)}


def _show_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.mailing_list(account_address(name).key)
    if found is None:
        raise NoSuchUser(f"there is no list {name}")
    return {"name": found.address, "members": place.count_members(found.address), "fields": fields.shown(found)}


def _add_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("member", given)
    if "address" not in values:
        raise DirectoryError("a member needs an address")
    return {"new": place.put_members(account_address(name).key, [Member(**values)])}


def _set_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("member", given)
    address = values.pop("address", "")
    place.change_member(account_address(name).key, address, lambda old: replace(old, **values))
    return {}


def _remove_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_member(account_address(name).key, fields.read("member", given).get("address", ""))
    return {}


Action = Callable[[Administration, str, dict[str, Any], Hash], dict[str, Any]]
ACTIONS: dict[str, Action] = {
    "domain.add": _add_domain,
    "domain.set": _set_domain,
    "domain.remove": _remove_domain,
    "domain.show": _show_domain,
    "account.add": _add_account,
    "account.set": _set_account,
    "account.show": _show_account,
    "alias.add": _add_alias,
    "alias.set": _set_alias,
    "alias.remove": _remove_alias,
    "alias.show": _show_alias,
    "group.add": _add_group,
    "group.set": _set_group,
    "group.remove": _remove_group,
    "group.show": _show_group,
    "list.add": _add_list,
    "list.set": _set_list,
    "list.remove": _remove_list,
    "list.show": _show_list,
    "member.add": _add_member,
    "member.set": _set_member,
    "member.remove": _remove_member,
}


# -------------------------------------------------------------------- a wanted state


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is not as it is wanted. ``text``: what would change."""

    request: dict[str, Any] = field(default_factory=dict)
    text: str = ""

    @property
    def name(self) -> str:
        return f"{self.request['do']} {self.request['name']}"


def steps(place: Administration, wanted: Mapping[str, Any]) -> Iterator[Step]:
    """What has to be done until the directory has what ``wanted`` says: ``{"domains": {name: fields}, "accounts":
    {address: fields}, "aliases": {address: fields}, "lists": {address: fields}}``. What it does not name stays as it
    is; a password counts for new accounts only."""
    unknown = wanted.keys() - PLURALS.keys()
    if unknown:
        raise DirectoryError(f"{sorted(unknown)[0]} is none of {', '.join(PLURALS)}")
    for plural, kind in PLURALS.items():
        rows = wanted.get(plural, {})
        if not isinstance(rows, Mapping) or not all(isinstance(one, Mapping) for one in rows.values()):
            raise DirectoryError(f"{plural}: names with their fields are expected")
        for name, given in rows.items():
            found = _step(place, kind, name, dict(given))
            if found is not None:
                yield found


def _step(place: Administration, kind: str, name: str, given: dict[str, Any]) -> Step | None:
    plain = {key: value for key, value in given.items() if key not in ("hash", "password")}
    values = fields.read(kind, plain)
    old: Domain | Account | Alias | List | None
    new: Domain | Account | Alias | List
    if kind == "domain":
        old = place.domain(domain_name(name))
        new = fields.changed(old or Domain(domain_name(name)), values)
    elif kind == "account":
        old = place.account(account_address(name).key)
        new = fields.changed(old or Account(0, name, ""), values)
    elif kind == "list":
        old = place.mailing_list(account_address(name).key)
        new = fields.changed(old or List(account_address(name).key), values)
    else:
        old = place.alias(alias_name(name))
        new = fields.changed(old or Alias(alias_name(name), ()), values)
    if old is None:
        return Step({"do": f"{kind}.add", "name": name, "fields": given}, audit.difference(None, new))
    if old == new:
        return None
    return Step({"do": f"{kind}.set", "name": name, "fields": plain}, audit.difference(old, new))


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
