"""PostfixAdmin (tables as of 2.3 to 4.0): domain, alias_domain, mailbox, alias, vacation, admin, domain_admins.

Each mailbox has a row in ``alias`` too: it leads to the mailbox itself where that keeps its mail, to others where mail
is forwarded, and to ``user#domain@...`` while the vacation answers. Quotas of mailboxes are octets, those of domains
MB; 0 is no limit, and -1 in a domain's numbers forbids, which has no equivalent.
"""

from fastmail.directory.fields import MOST_DAYS
from fastmail.migrate.sites.base import Base, need, picked, selected
from fastmail.migrate.sites.model import (
    Hint,
    NotTaken,
    Options,
    Records,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteAnswer,
    SiteDomain,
)
from fastmail.migrate.sites.parts import EVERY, RELAYS, Admins, forwards, only_counted
from fastmail.migrate.sites.passwords import stored
from fastmail.migrate.sites.values import MIB, Row, flag, limit, lines, moment, number, one_line, text, words

DOMAIN = (
    *("domain", "description", "aliases", "mailboxes", "maxquota", "quota", "transport", "backupmx", "active"),
    "password_expiry",
)
MAILBOX = ("username", "password", "name", "maildir", "quota", "active", "smtp_active", "totp_secret")
VACATION = ("subject", "body", "activefrom", "activeuntil", "interval_time")
DAY = 86_400  # s
LEFT = (
    (
        "mailbox_app_password",
        "app passwords",
        "only their hashes are there: make new ones, `fastmail app-password add`",
    ),
    ("fetchmail", "mail that is fetched elsewhere", "`fastmail import imap` fetches once; nothing does it every hour"),
    ("dkim", "DKIM keys", "take the key files over"),
    ("totp_exception_address", "exceptions from second factors", "second factors are for administrators here"),
)
SIEVE = "where Dovecot's `sieve` setting says"


def read(base: Base, options: Options) -> Records:
    need(base, "PostfixAdmin", "domain", "mailbox", "alias")
    names = {
        text(row, "alias_domain").lower(): text(row, "target_domain")
        for row in selected(base, "alias_domain", ("alias_domain", "target_domain", "active"))
        if flag(row, "active")
    }
    forbidden = expiring = 0
    for row in selected(base, "domain", DOMAIN, "ORDER BY domain"):
        name = text(row, "domain")
        if name == EVERY or name.lower() in names:
            continue
        if flag(row, "backupmx", False) or text(row, "transport").lower().startswith(RELAYS):
            yield RelayDomain(name)
            continue
        forbidden += number(row, "aliases") < 0 or number(row, "mailboxes") < 0 or number(row, "maxquota") < 0
        expiring += number(row, "password_expiry") > 0
        yield SiteDomain(
            name,
            flag(row, "active"),
            description=one_line(text(row, "description")),
            most_accounts=limit(row, "mailboxes"),
            most_aliases=limit(row, "aliases"),
            most_octets=limit(row, "quota", MIB),
            most_storage=limit(row, "maxquota", MIB),
        )
    for name, target in names.items():
        yield SiteDomain(name, alias_of=target)
    if forbidden:
        yield NotTaken(
            "domains that may have no accounts, aliases or quotas", "no limit here: see most_accounts", count=forbidden
        )
    if expiring:
        yield NotTaken("domains whose passwords expire", "passwords do not expire here", count=expiring)
    admins = _admins(base)
    yield from _accounts(base, options, admins)
    yield from _aliases(base)
    yield from admins.left()
    yield from only_counted(base, LEFT)
    yield Hint("Sieve scripts", SIEVE, "files of the old server: keep them, nothing runs them yet")


def _admins(base: Base) -> Admins:
    out = Admins()
    for row in selected(base, "admin", ("username", "superadmin", "active")):
        if flag(row, "active") and flag(row, "superadmin", False):
            out.add(text(row, "username"), server=True)
    for row in selected(base, "domain_admins", ("username", "domain", "active")):
        if flag(row, "active"):
            out.add(text(row, "username"), text(row, "domain"))
    return out


def _accounts(base: Base, options: Options, admins: Admins) -> Records:
    columns = picked(base, "mailbox", MAILBOX, "m")
    answers = picked(base, "vacation", VACATION, "v")
    answering = ", v.active AS answers" if "active" in base.columns("vacation") else ", 1 AS answers"
    more = f", {answers}{answering}, v.email AS vacation" if answers else ""
    join = "LEFT JOIN vacation v ON v.email = m.username" if answers else ""
    secrets = 0
    maildir = ""
    for row in base.rows(
        f"SELECT {columns}, a.goto AS goto, a.active AS led{more} FROM mailbox m "
        f"LEFT JOIN alias a ON a.address = m.username {join}"
    ):
        address = text(row, "username")
        maildir = maildir or text(row, "maildir")
        secrets += bool(text(row, "totp_secret"))
        password, why = stored(text(row, "password"), options.scheme)
        mine = [one for one in words(text(row, "goto")) if not _answers(one, address)] if flag(row, "led") else []
        to, keeps = forwards(address, mine)
        role, domains = admins.take(address)
        yield SiteAccount(
            address,
            password,
            why,
            flag(row, "active"),
            sends=flag(row, "smtp_active") if "smtp_active" in row else None,
            quota=limit(row, "quota") if "quota" in row else None,
            forward=to,
            keeps=keeps,
            role=role,
            administers=domains,
            name=one_line(text(row, "name")),
            answer=_answer(row) if answers else None,
            maildir=text(row, "maildir"),
        )
    if secrets:
        yield NotTaken(
            "second factors (TOTP) of mailboxes",
            "they are for administrators here: the password alone counts",
            count=secrets,
        )
    if maildir:
        yield Hint(
            "mail",
            f"{maildir} and others, below virtual_mailbox_base",
            "set [store] maildir, or give --maildirs",
        )


def _answers(target: str, address: str) -> bool:
    """Is it the address of the program that answers for a mailbox?"""
    return target.rpartition("@")[0].lower() == address.lower().replace("@", "#")


def _answer(row: Row) -> SiteAnswer:
    """Also one that is switched off: its text is kept. ``interval_time``: s between two answers to a sender."""
    if not text(row, "vacation"):
        return SiteAnswer()
    return SiteAnswer(
        one_line(text(row, "subject")),
        lines(text(row, "body")),
        moment(row, "activefrom"),
        moment(row, "activeuntil"),
        flag(row, "answers", False),
        min(-(-max(0, number(row, "interval_time")) // DAY), MOST_DAYS),
    )


def _aliases(base: Base) -> Records:
    note = ", a.description AS note" if "description" in base.columns("alias") else ""
    for row in base.rows(
        f"SELECT a.address AS address, a.goto AS goto, a.active AS active{note} FROM alias a "
        "LEFT JOIN mailbox m ON m.username = a.address WHERE m.username IS NULL ORDER BY a.address"
    ):
        address = text(row, "address")
        targets = tuple(one for one in words(text(row, "goto")) if not _answers(one, address))
        yield SiteAlias(address, targets, flag(row, "active"), note=one_line(text(row, "note")))
