"""A record of a site as a request to the directory would have it: its fields as directory.fields takes them.

A value that a field cannot have is left out and named in ``left``; the rest of the row stays good. BadAddress and
DirectoryError are raised where nothing of the row can be kept: no address, or no password that can be checked.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fastmail.directory import apps, fields, named
from fastmail.directory.errors import DirectoryError
from fastmail.directory.requests import alias_name
from fastmail.migrate.sites import lists
from fastmail.migrate.sites.model import Linked, SiteAccount, SiteAlias, SiteDomain, SiteList
from fastmail.model.address import account_address
from fastmail.model.errors import BadAddress

Fields = dict[str, Any]
ACCOUNT, ALIAS, LIST, DOMAIN = "account", "alias", "list", "domain"
LIMITS = ("most_accounts", "most_aliases", "most_lists", "most_octets", "most_storage")


@dataclass(frozen=True, slots=True)
class Asked:
    """``kind``: what it is; ``name``: its address here; ``targets``: where it leads, of a mailbox its forwards, of a
    list its members. ``owners``: of a list, empty where the site names none. ``fields``: all but those. ``first``:
    fields that count only where it is new. ``say``: what the report says of it besides. ``maildir``: where its mail is,
    empty where the configuration says it."""

    kind: str
    name: str
    fields: Fields
    targets: tuple[str, ...] = ()
    password: str = ""
    left: tuple[str, ...] = field(default=())
    say: str = ""
    maildir: str = ""
    owners: tuple[str, ...] = ()
    first: Fields = field(default_factory=dict)

    @property
    def links(self) -> tuple[str, ...]:
        """All addresses that have to be there before it."""
        return (*self.targets, *self.owners)

    def without(self, targets: Iterable[str], why: Iterable[str]) -> "Asked":
        """It with other targets."""
        return replace(self, targets=tuple(targets), left=(*self.left, *why))


def asked(one: Linked, most_storage: int = 0, maildirs: str = "") -> Asked:
    """``most_storage``: octets that an account of its domain may have, 0 for no limit. ``maildirs``: the directory of
    all mail, empty where Maildirs do not count. BadAddress, DirectoryError."""
    if isinstance(one, SiteAccount):
        found = _account(one, most_storage)
        return _placed(found, one.maildir, maildirs) if maildirs and one.maildir else found
    if isinstance(one, SiteList):
        return _list(one)
    return _alias(one)


def domain(one: SiteDomain) -> tuple[Fields, list[str]]:
    """(fields but limits, what was left out). Limits come last (``limits``), so that they keep out nothing of the
    site."""
    given: Fields = {"enabled": one.enabled}
    given |= {
        name: value
        for name in ("description", "message_size", "footer", "footer_html")
        if (value := getattr(one, name))
    }
    if one.separators is not None:
        given["separators"] = one.separators or "none"
    if one.quota:
        given["quota_storage"] = one.quota
    left: list[str] = []
    for name in ("allow", "block"):
        good, wrong = _each(getattr(one, name), named.parse, name)
        left += wrong + [f"{name} {entry}: more than {named.MOST}: left out" for entry in good[named.MOST :]]
        if good:
            given[name] = good[: named.MOST]
    found, more = readable(DOMAIN, given)
    return found, left + more


def limits(one: SiteDomain) -> Fields:
    return {name: value for name in LIMITS if (value := getattr(one, name))}


def readable(kind: str, given: Fields) -> tuple[Fields, list[str]]:
    """(the values that their fields can have, what is wrong with the others)."""
    good: Fields = {}
    left = []
    for name, value in given.items():
        try:
            fields.read(kind, {name: value})
            good[name] = value
        except (DirectoryError, BadAddress) as error:
            left.append(f"{error}: left out")
    return good, left


def _each(values: Iterable[str], check: Callable[[str], object], what: str) -> tuple[list[str], list[str]]:
    """(what passes the check, what is wrong with the rest)."""
    good, left = [], []
    for value in values:
        try:
            check(value)
            good.append(value)
        except (BadAddress, DirectoryError, ValueError) as error:
            left.append(f"{what} {value[: fields.LINE]}: {error}: left out")
    return good, left


def _account(one: SiteAccount, most_storage: int) -> Asked:
    name = account_address(one.address).key
    if not one.password:
        raise DirectoryError(one.why)
    given: Fields = {"enabled": one.enabled}
    for switch in ("logs_in", "receives", "sends"):
        if (value := getattr(one, switch)) is not None:
            given[switch] = value
    quota, left = _quota(one, most_storage)
    given |= quota
    given |= {key: value for key in ("name", "language", "notes") if (value := getattr(one, key))}
    if one.role:
        given |= {"role": one.role, "administers": list(one.administers)}
    if one.answer is not None:
        given |= {
            "answer_subject": one.answer.subject if one.answer.text else "",
            "answer_text": one.answer.text,
            "answer_begins": one.answer.begins if one.answer.text else 0,
            "answer_ends": one.answer.ends if one.answer.text else 0,
            "answer_enabled": bool(one.answer.text) and one.answer.enabled,
            "answer_days": one.answer.days if one.answer.text else 0,
        }
    good, wrong = readable(ACCOUNT, given)
    senders, bad_senders = _each(one.senders, lambda value: fields.identities([value]), "sender")
    nets, bad_nets = _each(one.nets, lambda value: apps.networks([value]), "network")
    targets, bad_targets = _each(one.forward, fields.address, "forward to")
    if senders:
        good["senders"] = senders
    if nets:
        good["nets"] = nets
    if bad_nets and not nets:  # it was put there to keep somebody out
        good["logs_in"] = False
        bad_nets = [*bad_nets, "no network is left: its logins are off"]
    good["keeps"] = one.keeps
    whole = (*left, *wrong, *bad_senders, *bad_nets, *bad_targets)
    return Asked(ACCOUNT, name, good, fields.addresses(targets), one.password, whole)


def _placed(found: Asked, maildir: str, maildirs: str) -> Asked:
    """With its Maildir, if that is below the directory of all mail."""
    path = os.path.normpath(os.path.join(maildirs, maildir))
    if not path.startswith(maildirs.rstrip("/") + "/") or not path.isprintable():
        return replace(found, left=(*found.left, f"its Maildir {maildir} is not below {maildirs}: left out"))
    return replace(found, maildir=path)


def _quota(one: SiteAccount, most_storage: int) -> tuple[Fields, list[str]]:
    """Limits, in which 0 is none there; never above the domain's, which counts for all of its accounts."""
    out: Fields = {}
    left = []
    if one.quota is not None:
        above = most_storage and (one.quota == 0 or one.quota > most_storage)
        out["quota_storage"] = "default" if above else one.quota or "none"
        if above and one.quota:
            left.append(f"quota {one.quota}: its domain lets an account have {most_storage}, which counts")
    if one.quota_messages is not None:
        out["quota_messages"] = one.quota_messages or "none"
    return out, left


def _alias(one: SiteAlias) -> Asked:
    name = alias_name(one.address)
    good, left = readable(
        ALIAS, {"enabled": one.enabled, "internal": one.internal, "expires": one.expires, "note": one.note}
    )
    targets, bad = _each(one.targets, fields.address, "target")
    return Asked(ALIAS, name, good, fields.addresses(targets), left=(*left, *bad))


def _list(one: SiteList) -> Asked:
    name = account_address(one.address).key
    given, say = lists.values(one)
    good, wrong = readable(LIST, given)
    announcers, bad_announcers = _each(one.announcers, fields.address, "announcer")
    owners, bad_owners = _each(one.owners, fields.address, "owner")
    members, bad = _each(one.members or (), fields.address, "member")
    if announcers:
        good["announcers"] = list(fields.addresses(announcers))
    return Asked(
        LIST,
        name,
        good,
        fields.addresses(members),
        left=(*wrong, *bad_announcers, *bad_owners, *bad),
        say=say,
        owners=fields.addresses(owners),
        first={"enabled": False} if one.members is None else {},
    )
