"""What becomes of a site's mailing list: the one place that says it.

A list becomes a list, with its members. Whom a site lets write is said in ``MODES``; a group that has no equivalent
becomes the accounts of the list's domain, who have to log in: that lets in nobody from outside. Sites do not name
owners, but for iRedMail. So one is found for a list that is new here, and never another one afterwards. Where members
are not in the database, the list is made switched off: on, it would take mail that nobody gets.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from fastmail.directory.lookup import Lookup, landing
from fastmail.directory.records import ANNOUNCERS, INSIDE, MEMBERS, PUBLIC
from fastmail.migrate.sites.model import (
    EVERYBODY,
    ITS_ANNOUNCERS,
    ITS_MEMBERS,
    MEMBERS_AND_ANNOUNCERS,
    OF_ITS_DOMAIN,
    OF_THE_SERVER,
    SiteList,
)
from fastmail.model.address import comparable

# who may write there: (List.mode, whether they have to log in whatever the site says)
MODES = {
    EVERYBODY: (PUBLIC, False),
    ITS_MEMBERS: (MEMBERS, False),
    MEMBERS_AND_ANNOUNCERS: (MEMBERS, False),
    ITS_ANNOUNCERS: (ANNOUNCERS, False),
    OF_ITS_DOMAIN: (INSIDE, False),  # the mode asks for a login
    OF_THE_SERVER: (PUBLIC, True),
}
NARROW = INSIDE, False
IMPORT = "its members are not in the database: `fastmail list import` brings them, then `fastmail list enable`"
NOBODY = "it has nobody here who could be its owner: `fastmail list add` it with owners=ADDRESS"


class Wanted(Protocol):
    """What is asked of the list: asked.Asked."""

    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> dict[str, Any]: ...
    @property
    def targets(self) -> tuple[str, ...]: ...


def values(one: SiteList) -> tuple[dict[str, Any], str]:
    """(its fields but owners and announcers, what is to be said of it)."""
    mode, logged_in = MODES.get(one.writers, NARROW)
    given: dict[str, Any] = {"mode": mode, "logins_only": one.logins_only or logged_in}
    if one.name:
        given["name"] = one.name
    say = []
    if one.writers not in MODES:
        say.append(f"there {one.writers} may write to it, here logins of its domain")
    if one.members is None:
        say.append(IMPORT)
    else:
        given["enabled"] = one.enabled
    return given, "; ".join(say)


def owner(place: Lookup, one: Wanted, admin: str) -> str:
    """Who owns a new list whose site says nothing of that: who may announce, the domain's postmaster, its
    administrator (``admin``, or empty), or the first member with an account. Empty where there is nobody: a member of a
    list for announcers is not let write."""
    return next(_candidates(place, one, admin), "")


def _candidates(place: Lookup, one: Wanted, admin: str) -> Iterator[str]:
    yield from (found for found in one.fields.get("announcers", ()) if _is_there(place, found))
    postmaster = f"postmaster@{one.name.rpartition('@')[2]}"
    found = landing(place, comparable(postmaster))
    if found and not found.name.startswith("@"):  # a catch-all is for what nobody asked for
        yield postmaster
    if admin:
        yield admin
    if one.fields["mode"] != ANNOUNCERS:
        yield from (target for target in one.targets if place.account(target) is not None)


def _is_there(place: Lookup, address: str) -> bool:
    """Is it another host's, or somebody's here?"""
    found = landing(place, comparable(address))
    return found is None or bool(found)
