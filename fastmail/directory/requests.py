"""Requests to the directory as plain data: what a batch has in each line, and what a file of a wanted state comes to
(directory.wanted).

A request is ``{"do": "account.set", "name": "a@example.org", "fields": {...}}``. ``do`` is domain, account, alias,
group or list with add, set, show, and but for accounts remove behind the point (account.remove is a command of its own,
because mail belongs to it); domain, account, alias or list with rename, whose fields are ``to`` and ``keep``; member
with add, set or remove, where the name is a list's and the member's address is a field; or app-password with add, set,
show and remove, where the name is an account's and all but add have a field ``id``. ``perform`` gives what the answer
has beside ``ok``. Fails with DirectoryError, which leaves everything as it was.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from fastmail.directory import apps, fields, roles
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.groups import group_name
from fastmail.directory.interface import Administration
from fastmail.directory.records import Account, Alias, AppPassword, Domain, List, Member
from fastmail.model import domain as names
from fastmail.model.address import Address, account_address, comparable, domain_name

Hash = Callable[[str], tuple[str, str]]  # of a password: what is stored of it, and keys for SCRAM


def perform(
    place: Administration, request: Mapping[str, Any], hashed: Hash, by: Account | None = None
) -> dict[str, Any]:
    """Do it. ``by``: the administrator who asks, with the rights of its role (directory.roles); None for whoever runs
    the server. DirectoryError, BadAddress."""
    if by is not None:
        roles.check(place, by, request)
    what, name, given = request.get("do"), request.get("name"), request.get("fields", {})
    action = ACTIONS.get(what) if isinstance(what, str) else None
    if what == "account.remove":
        raise DirectoryError("account.remove: mail belongs to an account: `fastmail account remove ADDRESS` does it")
    if action is None:
        raise DirectoryError(f"do: one of {', '.join(ACTIONS)} is expected")
    if not isinstance(name, str) or not isinstance(given, Mapping):
        raise DirectoryError("name has to be a text, fields an object")
    return action(place, name, dict(given), hashed)


def alias_name(text: str) -> str:
    """An alias's address, or ``@domain`` for a catch-all, as it is kept. BadAddress."""
    return "@" + domain_name(text[1:]) if text.startswith("@") else Address.parse(text).key


def _add_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    if "catch_all" in given:  # it is another row, which may not be possible, and a request is done whole or not at all
        raise DirectoryError("catch_all: set it by domain.set, in a request of its own")
    place.add_domain(fields.changed(Domain(domain_name(name)), fields.read("domain", given)))
    return {}


def _set_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    if "catch_all" in given:
        if len(given) > 1:  # it is another row, and a request is done whole or not at all
            raise DirectoryError("catch_all: set it by a request of its own")
        catch_all(place, name, fields.read("alias", {"targets": given["catch_all"]})["targets"])
        return {}
    values = fields.read("domain", given)
    place.change_domain(domain_name(name), lambda old: fields.changed(old, values))
    return {}


def catch_all(place: Administration, name: str, targets: Sequence[str]) -> None:
    """Let mail for addresses that a domain does not have go there; to nobody where there are no targets. The catch-all
    is the alias that has the domain's name alone; what else is set of that alias stays. DirectoryError, NoSuchUser."""
    found = place.domain(domain_name(name))
    if found is None:
        raise NoSuchUser(f"there is no domain {name}; `fastmail domain list` shows them")
    address = f"@{found.name}"
    there = place.alias(address)
    if there is None and targets:
        place.put_alias(Alias(address, tuple(targets)))
    elif there is not None and targets:
        place.change_alias(address, lambda old: replace(old, targets=tuple(targets)))
    elif there is not None:
        place.remove_alias(address)


def _remove_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_domain(domain_name(name))
    return {}


def _show_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.domain(domain_name(name))
    if found is None:
        raise DirectoryError(f"there is no domain {name}")
    accounts, aliases = place.counts(found.name)
    shown = {"fields": fields.shown(found), "dkim": fields.keys_shown(found), "from_source": place.said_of(found)}
    caught = place.alias(f"@{found.name}")
    more = {"catch_all": list(caught.targets) if caught is not None else []}
    return {"name": found.name, "accounts": accounts, "aliases": aliases, **more, **shown}


def password_of(given: dict[str, Any], hashed: Hash) -> tuple[str, str] | None:
    """Takes ``hash`` or ``password`` out of the fields: what is stored of it, and keys for SCRAM."""
    stored, plain = given.pop("hash", None), given.pop("password", None)
    if stored is None and plain is None:
        return None
    text = stored if stored is not None else plain
    if not isinstance(text, str) or not text or not _is_utf8(text):
        raise DirectoryError("a password is a text that is not empty, without half a pair of surrogates")
    if stored is not None:
        if not str(stored).startswith("{"):
            raise DirectoryError("hash: {SCHEME}hash is expected")
        return str(stored), ""
    return hashed(str(plain))


def _is_utf8(text: str) -> bool:
    """False for halves of surrogate pairs, which JSON can have and no login can send."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


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
    found = _account(place, name)
    shown = {"fields": fields.shown(found), "from_source": place.said_of(found)}
    return {"name": found.address, "id": found.id, **shown}


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


def members_of(given: dict[str, Any]) -> list[Member] | None:
    """Takes ``members`` out of the fields of a list: addresses, or objects with the fields of members. None where
    nothing is said of them."""
    found = given.pop("members", None)
    if found is None:
        return None
    if isinstance(found, str):
        found = fields.listed(found)
    if not isinstance(found, list | tuple):
        raise DirectoryError("members: a list of addresses is expected")
    return [_member(one) for one in found]


def _member(given: Any) -> Member:
    if not isinstance(given, str | Mapping):
        raise DirectoryError("members: each is an address, or an object with the fields of a member")
    values = fields.read("member", {"address": given} if isinstance(given, str) else dict(given))
    if "address" not in values:
        raise DirectoryError("a member needs an address")
    return Member(**values)


def _add_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    members = members_of(given)
    place.put_list(fields.changed(List(account_address(name).key), fields.read("list", given)), members or ())
    return {}


def _set_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    members = members_of(given)
    values = fields.read("list", given)
    place.change_list(account_address(name).key, lambda old: fields.changed(old, values), members)
    return {}


def _remove_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    return {"members": place.remove_list(account_address(name).key)}


def _show_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    found = place.mailing_list(account_address(name).key)
    if found is None:
        raise NoSuchUser(f"there is no list {name}")
    shown = {"fields": fields.shown(found), "from_source": place.said_of(found)}
    return {"name": found.address, "members": place.count_members(found.address), **shown}


def _add_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    return {"new": place.put_members(account_address(name).key, [_member(given)])}


def _set_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    values = fields.read("member", given)
    address = values.pop("address", "")
    place.change_member(account_address(name).key, address, lambda old: replace(old, **values))
    return {}


def _remove_member(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    place.remove_member(account_address(name).key, fields.read("member", given).get("address", ""))
    return {}


def _add_app_password(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    """The password is in the answer, this once."""
    values = fields.read("app-password", given)
    if not values.get("name"):
        raise DirectoryError("an app password needs a name")
    text = apps.make()
    new = AppPassword(apps.digest(text.encode()), created=int(time.time()), **values)
    place.add_app_password(_account(place, name).address, new)
    return {"app": apps.ident(new), "password": text}


def _app_password(place: Administration, name: str, given: dict[str, Any]) -> tuple[Account, AppPassword]:
    """Takes ``id`` out of the fields: the account, and the app password of that name."""
    record, ident = _account(place, name), given.pop("id", None)
    if not isinstance(ident, str):
        raise DirectoryError("id: the name of an app password is expected, as app-password.show gives it")
    return record, apps.named(place, record, ident)


def _set_app_password(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    record, found = _app_password(place, name, given)
    place.change_app_password(record.address, fields.changed(found, fields.read("app-password", given)))
    return {}


def _show_app_passwords(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    record = _account(place, name)
    every = [
        {
            "id": apps.ident(one),
            "name": one.name,
            "enabled": one.enabled,
            "protocols": list(one.protocols),
            "nets": fields.listed(one.nets),
            "expires": one.expires,
        }
        for one in place.app_passwords(record.id)
    ]
    return {"name": record.address, "app_passwords": every}


def _remove_app_password(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    record, found = _app_password(place, name, given)
    place.remove_app_password(record.address, found)
    return {}


def _account(place: Administration, name: str) -> Account:
    found = place.account(account_address(name).key)
    if found is None:
        raise NoSuchUser(f"there is no account {name}")
    return found


def _renamed(place: Administration, name: str, given: dict[str, Any]) -> tuple[str, bool]:
    """(the new name, whether the old one stays) of a rename. DirectoryError while the mail store has still to follow an
    earlier change of the same name: it follows one after the other."""
    new, keep = given.pop("to", ""), given.pop("keep", True)
    try:
        keep = fields.flag(keep)
    except ValueError as error:
        raise DirectoryError(f"keep: {keep!r}: {error}") from None
    if given or not new or not isinstance(new, str):
        raise DirectoryError("a rename has the fields to (the new name) and keep (yes or no)")
    if any(_follows(name, one.new) for _, one in place.renames()):
        raise DirectoryError(f"{name} was renamed a moment ago, and lists of rights still have to follow: try again")
    return new, keep


def _follows(name: str, new: str) -> bool:
    """Would a change of ``name`` change what was called ``new``, or what is in that domain, or the other way round?"""
    local, _, domain = name.rpartition("@")
    before, _, there = new.rpartition("@")
    if names.comparable(domain) != names.comparable(there):
        return False
    return not local or not before or comparable(name) == comparable(new)


def _rename_domain(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    new, keep = _renamed(place, name, given)
    return {"name": place.rename_domain(domain_name(name), domain_name(new), keep).name}


def _rename_account(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    new, keep = _renamed(place, account_address(name).key, given)
    return {"name": place.rename_account(account_address(name).key, account_address(new).key, keep).address}


def _rename_alias(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    new, keep = _renamed(place, alias_name(name), given)
    return {"name": place.rename_alias(alias_name(name), alias_name(new), keep).address}


def _rename_list(place: Administration, name: str, given: dict[str, Any], hashed: Hash) -> dict[str, Any]:
    new, keep = _renamed(place, account_address(name).key, given)
    return {"name": place.rename_list(account_address(name).key, account_address(new).key, keep).address}


RENAMES = ("domain.rename", "account.rename")  # the mail store has to follow them (app.renames)
Action = Callable[[Administration, str, dict[str, Any], Hash], dict[str, Any]]
ACTIONS: dict[str, Action] = {
    "domain.add": _add_domain,
    "domain.set": _set_domain,
    "domain.remove": _remove_domain,
    "domain.show": _show_domain,
    "domain.rename": _rename_domain,
    "account.add": _add_account,
    "account.set": _set_account,
    "account.show": _show_account,
    "account.rename": _rename_account,
    "alias.add": _add_alias,
    "alias.set": _set_alias,
    "alias.remove": _remove_alias,
    "alias.show": _show_alias,
    "alias.rename": _rename_alias,
    "group.add": _add_group,
    "group.set": _set_group,
    "group.remove": _remove_group,
    "group.show": _show_group,
    "list.add": _add_list,
    "list.set": _set_list,
    "list.remove": _remove_list,
    "list.show": _show_list,
    "list.rename": _rename_list,
    "member.add": _add_member,
    "member.set": _set_member,
    "member.remove": _remove_member,
    "app-password.add": _add_app_password,
    "app-password.set": _set_app_password,
    "app-password.show": _show_app_passwords,
    "app-password.remove": _remove_app_password,
}
