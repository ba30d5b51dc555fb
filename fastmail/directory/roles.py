"""What an administrator may ask of the directory, by the role of the account (``Account.role``).

    server     everything
    domain     what is in the domains that it ``administers``, and their settings; not the domains themselves: what they
               are called, what they may use, where their accounts come from
    helpdesk   of accounts in these domains: look, new passwords, and whether they may be used now

Nobody but a server's administrator gives roles, or changes an account that has one: that would be more than the role
itself. An address of an account's ``senders`` has to be of the same domains, because mail in its name can be sent then.

Promise: what is not listed here is not allowed. Fails with NotAllowed, which says what the role lacks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastmail.directory import fields, lookup
from fastmail.directory.errors import DirectoryError
from fastmail.directory.records import HELPDESK, OF_DOMAINS, SERVER, Account, Domain
from fastmail.model import domain as names
from fastmail.model.address import Address, account_address, domain_name
from fastmail.model.errors import BadAddress

# fields of a domain that its administrator may change
OF_DOMAIN = frozenset(
    (
        "description",
        "catch_all",
        "separators",
        "postmaster",
        *fields.QUOTA_FIELDS,
        "app_passwords_only",
        "footer",
        "footer_html",
        "allow",
        "block",
        "blocked",
        "junk_score",
        "refuse_score",
        "greylist",
        "enforce",
    )
)
ROLE = frozenset(("role", "administers"))  # fields that only a server's administrator may change
OF_HELP = frozenset(("password", "hash", "enabled", "logs_in", "suspended", "stopped"))  # fields for helpdesk
SHOWN = frozenset(("account.show", "alias.show", "group.show", "list.show", "domain.show"))
# what an administrator of domains may do: requests about what is in a domain, whose names end in it
WITHIN = SHOWN | {
    f"{kind}.{verb}" for kind in ("account", "alias", "group", "list", "member") for verb in ("add", "set", "remove")
}
RENAMED = frozenset(("account.rename", "alias.rename", "list.rename"))  # new names have to be in such a domain as well


class NotAllowed(DirectoryError):
    """An administrator asked for more than the role allows."""


class Known(lookup.Domains, Protocol):
    """What is asked of the directory."""

    def account(self, address: str) -> Account | None: ...


def check(known: Known, by: Account, request: Mapping[str, Any]) -> None:
    """Raise NotAllowed where an account may not ask for this (see directory.requests); a request that is none is left
    to who reads it."""
    what, name, given = request.get("do"), request.get("name"), request.get("fields", {})
    if by.role == SERVER:
        return
    if by.role not in (OF_DOMAINS, HELPDESK):
        raise NotAllowed(f"{by.address} administers nothing: `fastmail account set {by.address} role=...` lets it")
    if not isinstance(what, str) or not isinstance(name, str) or not isinstance(given, Mapping):
        return
    name = _kept(what, name)
    _within(known, by, name)
    if what.startswith(("account.", "app-password.")) and not what.endswith(".show"):
        _plain_account(known, name)
    if by.role == HELPDESK:
        _helpdesk(what, given)
        return
    if what == "domain.set":
        _only(OF_DOMAIN, given, "a domain's administrator changes no")
    elif what in RENAMED:
        _within(known, by, _kept(what, str(given.get("to", ""))))
    elif what.startswith("app-password."):
        return
    elif what not in WITHIN:
        raise NotAllowed(f"{what} is for administrators of the server")
    if what in ("account.add", "account.set"):
        _refuse(ROLE.intersection(given), "only administrators of the server give")
        for one in _addresses(given.get("senders", ())):
            _within(known, by, one)


def _helpdesk(what: str, given: Mapping[str, Any]) -> None:
    if what == "account.set":
        _only(OF_HELP, given, "the helpdesk changes no")
    elif what not in SHOWN and not what.startswith("app-password."):
        raise NotAllowed(f"{what} is not for the helpdesk")


def _kept(what: str, name: str) -> str:
    """Return the name in the form in which its row has it: the request finds an account by each form of its address,
    such as ``"anna"@example.org``, so its role is looked up by the same one. BadAddress."""
    match what.partition(".")[0]:
        case "domain":
            return domain_name(name)
        case "alias" if name.startswith("@"):
            return "@" + domain_name(name[1:])
        case "alias" | "group":
            return Address.parse(name).key
        case _:
            return account_address(name).key


def _within(known: Known, by: Account, name: str) -> None:
    """Is a name, or the domain of an address, of the domains that the account administers, by any of their names?"""
    domain = name.rpartition("@")[2]
    row = lookup.home(known, domain)
    if row is not None and row.name in by.administers:
        return  # nearly always; an administrator of thousands of domains asks for thousands of changes
    if row is None or names.comparable(row.name) not in {_first(known, one) for one in by.administers}:
        raise NotAllowed(f"{by.address} does not administer {domain}")


def _first(known: Known, name: str) -> str:
    row: Domain | None = lookup.home(known, name)
    return names.comparable(row.name if row is not None else name)


def _plain_account(known: Known, address: str) -> None:
    """The account has no role: with its password everything that the role allows could be done."""
    there = known.account(address)
    if there is not None and there.role:
        raise NotAllowed(f"{there.address} is an administrator: only administrators of the server change it")


def _only(allowed: frozenset[str], given: Mapping[str, Any], words: str) -> None:
    _refuse(set(given) - allowed, words)


def _refuse(found: set[str] | frozenset[str], words: str) -> None:
    if found:
        raise NotAllowed(f"{words} {', '.join(sorted(map(str, found)))}")


def _addresses(value: Any) -> Sequence[str]:
    try:
        return fields.identities(value)
    except (ValueError, BadAddress):
        return []  # whoever reads the field says what is wrong with it
