"""mailcow: domain, alias_domain, domain_wide_footer, mailbox, alias, spamalias, sender_acl, domain_admins.

As in PostfixAdmin each mailbox has a row in ``alias``. ``active`` is 0, 1, or 2: mail comes, and nobody logs in.
Quotas of mailboxes are octets, those of domains MiB. Targets at localhost throw mail away or teach the filter: those
aliases are counted, not taken. Temporary aliases keep their end. The mail itself is encrypted, with its key beside it.
A footer is taken as it stands; one with placeholders (``{= from_name =}``) would show them, and is only counted.
"""

import json

from fastmail.migrate.sites.base import Base, need, picked, selected
from fastmail.migrate.sites.model import (
    Hint,
    NotTaken,
    Options,
    Records,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteDomain,
    SiteScript,
)
from fastmail.migrate.sites.parts import Admins, forwards, groups, only_counted
from fastmail.migrate.sites.passwords import stored
from fastmail.migrate.sites.values import MIB, Row, flag, limit, lines, moment, number, one_line, text, words

DOMAIN = (
    *("domain", "description", "aliases", "mailboxes", "defquota", "maxquota", "quota", "backupmx", "active"),
    *("relay_all_recipients", "relayhost"),
)
MAILBOX = ("username", "password", "name", "quota", "attributes", "kind", "authsource", "active")
ALIAS = ("address", "goto", "active", "internal", "public_comment")
FOOTER = ("domain", "html", "plain", "mbox_exclude", "alias_domain_exclude", "skip_replies")
PLACEHOLDER = "{="
NOBODY = ("", "[]", "null")  # in the lists of who has no footer
SPECIAL = ("null@localhost", "spam@localhost", "ham@localhost")
ANYBODY = "*"  # in sender_acl
NO_LOGIN = 2  # mailbox.active
LEFT = (
    ("app_passwd", "app passwords", "only their hashes are there: make new ones, `fastmail app-password add`"),
    ("imapsync", "sync jobs", "`fastmail import imap` fetches once; nothing does it every hour"),
    ("bcc_maps", "BCC maps", "nothing copies mail unasked here"),
    ("recipient_maps", "recipient maps", "make aliases"),
    ("relayhosts", "hosts that mail is sent by", "set [relay] routes"),
    ("transports", "transports", "set [relay] routes"),
    ("tls_policy_override", "TLS policies", "set [relay] tls"),
    ("filterconf", "settings of the spam filter", "set them in the filter that you use"),
    ("tfa", "second factors of administrators", "make new ones: `fastmail admin totp enable`"),
)


def read(base: Base, options: Options) -> Records:
    need(base, "mailcow", "domain", "mailbox", "alias")
    relayed, footers = 0, _Footers(base)
    for row in selected(base, "domain", DOMAIN, "ORDER BY domain"):
        if flag(row, "backupmx", False):
            yield RelayDomain(text(row, "domain"))
            continue
        relayed += number(row, "relayhost") > 0
        plain, rich = footers.take(text(row, "domain"))
        yield SiteDomain(
            text(row, "domain"),
            flag(row, "active"),
            description=one_line(text(row, "description")),
            footer=plain,
            footer_html=rich,
            quota=limit(row, "defquota", MIB),
            most_accounts=limit(row, "mailboxes"),
            most_aliases=limit(row, "aliases"),
            most_octets=limit(row, "quota", MIB),
            most_storage=limit(row, "maxquota", MIB),
        )
    for row in selected(base, "alias_domain", ("alias_domain", "target_domain", "active")):
        yield SiteDomain(text(row, "alias_domain"), flag(row, "active"), alias_of=text(row, "target_domain"))
    if relayed:
        yield NotTaken("domains that send by a host of their own", "set [relay] routes", count=relayed)
    yield from footers.left()
    admins = Admins()
    for row in selected(base, "domain_admins", ("username", "domain", "active")):
        if flag(row, "active"):
            admins.add(text(row, "username"), text(row, "domain"))
    for row in selected(base, "admin", ("username", "superadmin", "active")):
        if flag(row, "active"):
            admins.add(text(row, "username"), server=flag(row, "superadmin"))
    senders = _Senders(base)
    yield from _accounts(base, options, admins, senders)
    yield from _aliases(base)
    yield from admins.left()
    if senders.anybody:
        yield NotTaken(
            "accounts that may send as anybody", "name their senders: `fastmail account set`", count=senders.anybody
        )
    yield from _scripts(base)
    yield from only_counted(base, LEFT)
    yield Hint("mail", "/var/vmail/DOMAIN/USER/Maildir", "encrypted and packed: `fastmail import imap` fetches it")
    yield Hint("DKIM keys", "Redis, DKIM_PRIV_KEYS", "export them before the old server goes")


def _scripts(base: Base) -> Records:
    """Users' filters, which mailcow runs before and behind the script that a user has by ManageSieve: that one is a
    file beside the mail. A name is the number of the row, because descriptions are not unique."""
    columns = ("id", "username", "script_desc", "script_name", "script_data", "filter_type")
    for row in selected(base, "sieve_filters", columns, "ORDER BY id"):
        stage = text(row, "filter_type")
        name = " ".join(filter(None, (stage, text(row, "id"), one_line(text(row, "script_desc"))[:80].strip())))
        active = text(row, "script_name") == "active"
        yield SiteScript(text(row, "username"), name or "mailcow", str(row.get("script_data") or ""), active, stage)
    yield Hint("Sieve scripts by ManageSieve", "/var/vmail/sieve", "keep them, nothing runs them yet")


class _Footers:
    """Footers by domain, as (plain, HTML): they are few."""

    def __init__(self, base: Base) -> None:
        self._varying = self._excepting = 0
        self._of: dict[str, tuple[str, str]] = {}
        for row in selected(base, "domain_wide_footer", FOOTER):
            texts = lines(text(row, "plain")), lines(text(row, "html"))
            if not any(texts):
                continue
            if PLACEHOLDER in "".join(texts):
                self._varying += 1
                continue
            excepted = {text(row, "mbox_exclude"), text(row, "alias_domain_exclude")} - set(NOBODY)
            self._excepting += bool(excepted) or flag(row, "skip_replies", False)
            self._of[text(row, "domain").lower()] = texts

    def take(self, domain: str) -> tuple[str, str]:
        return self._of.get(domain.lower(), ("", ""))

    def left(self) -> Records:
        if self._varying:
            yield NotTaken("footers with placeholders", "set footer of the domain, without any", count=self._varying)
        if self._excepting:
            say = "here each account of the domain has it, on all that leaves"
            yield NotTaken("exceptions from footers", say, count=self._excepting)


class _Senders:
    """Identities by account: they are few."""

    def __init__(self, base: Base) -> None:
        self.anybody = 0
        self._of: dict[str, tuple[str, ...]] = {}
        for row in selected(base, "sender_acl", ("logged_in_as", "send_as")):
            name, address = text(row, "logged_in_as").lower(), text(row, "send_as")
            if address == ANYBODY:
                self.anybody += 1
            elif name and address:
                self._of[name] = (*self._of.get(name, ()), address)

    def take(self, address: str) -> tuple[str, ...]:
        return self._of.pop(address.lower(), ())


def _accounts(base: Base, options: Options, admins: Admins, senders: _Senders) -> Records:
    resources = partly = 0
    columns = picked(base, "mailbox", MAILBOX, "m")
    for row in base.rows(
        f"SELECT {columns}, a.goto AS goto, a.active AS led FROM mailbox m LEFT JOIN alias a ON a.address = m.username"
    ):
        address, active = text(row, "username"), number(row, "active") if "active" in row else 1
        if text(row, "kind"):
            resources += 1
            continue
        password, why = stored(text(row, "password"), options.scheme)
        source = text(row, "authsource")
        if source not in ("", "mailcow"):
            password, why = "", f"its password is kept by {source}"
        to, keeps = forwards(address, words(text(row, "goto")) if flag(row, "led") else ())
        role, domains = admins.take(address)
        may = _attributes(row)
        closed = [name for name in ("imap_access", "pop3_access") if may.get(name) is False]
        partly += len(closed) == 1
        yield SiteAccount(
            address,
            password,
            why,
            active != 0,
            logs_in=active != NO_LOGIN and len(closed) < 2,
            sends=may.get("smtp_access", True),
            quota=limit(row, "quota"),
            forward=to,
            keeps=keeps,
            senders=senders.take(address),
            role=role,
            administers=domains,
            name=one_line(text(row, "name")),
        )
    if resources:
        yield NotTaken("resources (rooms, things, groups)", "there are no calendars here", count=resources)
    if partly:
        yield NotTaken("accounts without IMAP, or without POP3", "both are open here", count=partly)


def _attributes(row: Row) -> dict[str, bool]:
    """Switches in the JSON of a mailbox, where "0" and 0 are no."""
    try:
        found = json.loads(text(row, "attributes") or "{}")
    except (ValueError, RecursionError):
        return {}
    return {str(name): str(value) != "0" for name, value in found.items()} if isinstance(found, dict) else {}


def _aliases(base: Base) -> Records:
    columns = picked(base, "alias", ALIAS, "a")
    special = 0
    for row in base.rows(
        f"SELECT {columns} FROM alias a LEFT JOIN mailbox m ON m.username = a.address "
        "WHERE m.username IS NULL ORDER BY a.address"
    ):
        targets = words(text(row, "goto"))
        kept = tuple(one for one in targets if one.lower() not in SPECIAL)
        special += len(kept) < len(targets)
        if kept or not targets:
            yield SiteAlias(
                text(row, "address"),
                kept,
                flag(row, "active"),
                internal=flag(row, "internal", False),
                note=one_line(text(row, "public_comment")),
            )
    if special:
        say = "targets that throw mail away or teach the filter have no equivalent"
        yield NotTaken("aliases to null, spam or ham@localhost", say, count=special)
    wanted = ("address", "goto", "validity", "permanent")
    for address, rows in groups(selected(base, "spamalias", wanted, "ORDER BY address"), "address"):
        targets = tuple(one for row in rows for one in words(text(row, "goto")))
        ends = 0 if flag(rows[0], "permanent", False) else moment(rows[0], "validity")
        yield SiteAlias(address, targets, expires=ends)
