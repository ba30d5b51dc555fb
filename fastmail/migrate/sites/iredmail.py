"""iRedMail's ``vmail`` database (MySQL, PostgreSQL): domain, alias_domain, mailbox, forwardings, alias, maillists,
domain_admins.

Since 0.9.7 a row of ``forwardings`` is one target of an address, and flags say what it is: is_forwarding (of a
mailbox, which keeps a copy if one row leads to itself), is_alias (another address of a mailbox), is_list (a member of
an entry of ``alias``), is_maillist (mlmmj, whose members are in files). An address without a local part is a domain's
catch-all. Before, ``alias.goto`` had all targets. An entry of ``alias`` that everybody may write to is an alias, any
other one a list: its policy says who may. Quotas are MB, 0 is no limit.
"""

import time

from fastmail.migrate.sites.base import Base, need, picked, selected
from fastmail.migrate.sites.model import (
    EVERYBODY,
    ITS_ANNOUNCERS,
    ITS_MEMBERS,
    MEMBERS_AND_ANNOUNCERS,
    OF_ITS_DOMAIN,
    Hint,
    NotTaken,
    Options,
    Records,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteDomain,
    SiteList,
)
from fastmail.migrate.sites.parts import RELAYS, Admins, forwards, groups, only_counted
from fastmail.migrate.sites.passwords import stored
from fastmail.migrate.sites.values import MIB, Row, flag, limit, moment, one_line, text, words

DOMAIN = (
    *("domain", "description", "aliases", "mailboxes", "maillists", "maxquota", "transport", "backupmx", "active"),
)
MAILBOX = (
    *("username", "password", "name", "language", "storagebasedirectory", "storagenode", "maildir", "quota", "active"),
    *("allow_nets", "expired", "isadmin", "isglobaladmin", "enablesmtp", "enableimap", "enablepop3", "enabledeliver"),
)
PUBLIC = ("", "public")
WRITERS = {  # accesspolicy of alias and maillists
    **dict.fromkeys(PUBLIC, EVERYBODY),
    "domain": OF_ITS_DOMAIN,
    "membersonly": ITS_MEMBERS,
    "allowedonly": ITS_ANNOUNCERS,
    "moderatorsonly": ITS_ANNOUNCERS,
    "membersandmoderatorsonly": MEMBERS_AND_ANNOUNCERS,
}
LEFT = (
    ("sender_bcc_user", "BCC of senders", "nothing copies mail unasked here"),
    ("sender_bcc_domain", "BCC of senders", "nothing copies mail unasked here"),
    ("recipient_bcc_user", "BCC of recipients", "make the address a forward with a copy"),
    ("recipient_bcc_domain", "BCC of recipients", "nothing copies mail unasked here"),
    ("sender_relayhost", "senders with a host of their own", "set [relay] routes"),
    (
        "share_folder",
        "shared mailboxes",
        "their lists of rights are in the Maildirs: `fastmail migrate switch` reads them",
    ),
    ("anyone_shares", "mailboxes shared with everybody", "share them anew"),
)


def read(base: Base, options: Options) -> Records:
    need(base, "iRedMail", "domain", "mailbox", "alias")
    names = {
        text(row, "alias_domain").lower(): text(row, "target_domain")
        for row in selected(base, "alias_domain", ("alias_domain", "target_domain", "active"))
        if flag(row, "active")
    }
    for row in selected(base, "domain", DOMAIN, "ORDER BY domain"):
        name = text(row, "domain")
        if name.lower() in names:
            continue
        if flag(row, "backupmx", False) or text(row, "transport").lower().startswith(RELAYS):
            yield RelayDomain(name)
            continue
        yield SiteDomain(
            name,
            flag(row, "active"),
            description=one_line(text(row, "description")),
            most_accounts=limit(row, "mailboxes"),
            most_aliases=limit(row, "aliases"),
            most_lists=limit(row, "maillists"),
            most_octets=limit(row, "maxquota", MIB),
        )
    for name, target in names.items():
        yield SiteDomain(name, alias_of=target)
    admins = Admins()
    for row in selected(base, "domain_admins", ("username", "domain", "active")):
        if flag(row, "active"):
            admins.add(text(row, "username"), text(row, "domain"))
    yield from _accounts(base, options, admins)
    moderators = _People(base, "moderators", "moderator")
    if base.columns("forwardings"):
        yield from _aliases(base)
        yield from _lists(base, moderators)
    else:
        yield from _old_aliases(base)
    yield from _mlmmj(base, moderators)
    yield from admins.left()
    yield from only_counted(base, LEFT)
    yield Hint(
        "Sieve scripts", "sieve/dovecot.sieve below the directory of each mailbox", "keep them, nothing runs them yet"
    )


def _accounts(base: Base, options: Options, admins: Admins) -> Records:
    columns = picked(base, "mailbox", MAILBOX, "m")
    if base.columns("forwardings"):
        targets = "f.forwarding AS target FROM mailbox m LEFT JOIN forwardings f ON f.address = m.username"
        targets += " AND f.is_forwarding = 1 AND f.active = 1"
    else:
        targets = "f.goto AS target FROM mailbox m LEFT JOIN alias f ON f.address = m.username AND f.active = 1"
    partly = ending = 0
    place = ""
    for address, rows in groups(base.rows(f"SELECT {columns}, {targets} ORDER BY m.username"), "username"):
        row = rows[0]
        place = place or _place(row)
        password, why = stored(text(row, "password"), options.scheme)
        to, keeps = forwards(address, [one for each in rows for one in words(text(each, "target"))])
        role, domains = admins.take(address)
        if flag(row, "isglobaladmin", False):
            admins.add(address, server=True)
            role, domains = admins.take(address)
        ends = moment(row, "expired")
        over = 0 < ends <= time.time()
        ending += ends > 0 and not over
        closed = [flag(row, name) for name in ("enableimap", "enablepop3")].count(False)
        partly += closed == 1
        yield SiteAccount(
            address,
            password,
            why,
            flag(row, "active") and not over,
            logs_in=closed < 2,
            receives=flag(row, "enabledeliver"),
            sends=flag(row, "enablesmtp"),
            quota=limit(row, "quota", MIB),
            forward=to,
            keeps=keeps,
            nets=words(text(row, "allow_nets").replace(" ", ",")),
            role=role,
            administers=domains,
            name=one_line(text(row, "name")),
            language=one_line(text(row, "language")),
            maildir=_place(row),
        )
    if partly:
        yield NotTaken("accounts without IMAP, or without POP3", "both are open here", count=partly)
    if ending:
        yield NotTaken("accounts that end on a date", "accounts do not end by themselves here", count=ending)
    if place:
        yield Hint("mail", f"{place} and others", "`migrate accounts --maildirs DIRECTORY` keeps where each is")


def _place(row: Row) -> str:
    """The Maildir of a mailbox."""
    parts = [text(row, name).rstrip("/") for name in ("storagebasedirectory", "storagenode", "maildir")]
    return "/".join([part for part in parts if part] + ["Maildir"]) if parts[-1] else ""


def _catching(address: str) -> str:
    """The address as ours is written: a bare domain is its catch-all."""
    return address if "@" in address or not address else f"@{address}"


def _aliases(base: Base) -> Records:
    """Addresses of mailboxes, and catch-alls, which is what is_forwarding says of an address that is no mailbox."""
    rows = base.rows(
        "SELECT f.address AS address, f.forwarding AS forwarding, f.active AS active FROM forwardings f "
        "LEFT JOIN mailbox m ON m.username = f.address "
        "WHERE f.is_alias = 1 OR (f.is_forwarding = 1 AND m.username IS NULL) ORDER BY f.address"
    )
    for address, mine in groups(rows, "address"):
        on = [row for row in mine if flag(row, "active")]
        yield SiteAlias(_catching(address), tuple(text(row, "forwarding") for row in on or mine), bool(on))


class _People:
    """Those whom a table names for a list, by its address: they are few."""

    def __init__(self, base: Base, table: str, column: str) -> None:
        self._of: dict[str, tuple[str, ...]] = {}
        for row in selected(base, table, ("address", column)):
            name, person = text(row, "address").lower(), text(row, column)
            if name and person:
                self._of[name] = (*self._of.get(name, ()), person)

    def of(self, address: str) -> tuple[str, ...]:
        return self._of.get(address.lower(), ())


def _writers(row: Row) -> str:
    policy = text(row, "accesspolicy").lower()
    return WRITERS.get(policy, policy)


def _lists(base: Base, moderators: _People) -> Records:
    """Entries of ``alias``, with their members."""
    columns = picked(base, "alias", ("address", "name", "accesspolicy", "active"), "a")
    rows = base.rows(
        f"SELECT {columns}, f.forwarding AS member FROM alias a "
        "LEFT JOIN forwardings f ON f.address = a.address AND f.is_list = 1 AND f.active = 1 ORDER BY a.address"
    )
    for address, mine in groups(rows, "address"):
        row, writers = mine[0], _writers(mine[0])
        members = tuple(one for each in mine if (one := text(each, "member")))
        name, on = one_line(text(row, "name")), flag(row, "active")
        if writers == EVERYBODY:
            yield SiteAlias(_catching(address), members, on, note=name)
        else:
            yield SiteList(address, members, on, name, writers, moderators.of(address))


def _mlmmj(base: Base, moderators: _People) -> Records:
    """Mailing lists, whose members are in files of mlmmj."""
    owners = _People(base, "maillist_owners", "owner")
    for row in selected(base, "maillists", ("address", "name", "accesspolicy", "active"), "ORDER BY address"):
        address = text(row, "address")
        yield SiteList(
            address,
            None,
            flag(row, "active"),
            one_line(text(row, "name")),
            _writers(row),
            moderators.of(address),
            owners=owners.of(address),
        )


def _old_aliases(base: Base) -> Records:
    columns = picked(base, "alias", ("address", "goto", "name", "accesspolicy", "active"), "a")
    rows = base.rows(
        f"SELECT {columns} FROM alias a LEFT JOIN mailbox m ON m.username = a.address "
        "WHERE m.username IS NULL ORDER BY a.address"
    )
    for row in rows:
        address, targets, policy = text(row, "address"), words(text(row, "goto")), text(row, "accesspolicy").lower()
        if policy in PUBLIC or "@" not in address:
            yield SiteAlias(_catching(address), targets, flag(row, "active"), note=one_line(text(row, "name")))
        else:
            yield SiteList(address, targets, flag(row, "active"), one_line(text(row, "name")), _writers(row))
