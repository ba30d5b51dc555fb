"""vpopmail with its accounts in SQL: the table vpopmail (or, without many-domains, a table for each domain), valias,
aliasdomains, limits.

pw_gid has switches (Flag); pw_shell is the quota: ``NOQUOTA``, octets, ``10MB``, or ``1000000S,1000C`` for octets and
messages. A line of valias is ``&address`` or ``address``, a program ``|...``, or the path of a Maildir, by which a
mailbox keeps its mail; other lines are comments. What .qmail files say is not in the database.
"""

import re
from collections.abc import Iterable, Iterator
from enum import IntFlag

from fastmail.directory.records import OF_DOMAINS
from fastmail.migrate.sites.base import Base, picked, selected
from fastmail.migrate.sites.model import Hint, NotTaken, Options, Records, SiteAccount, SiteAlias, SiteDomain
from fastmail.migrate.sites.parts import groups
from fastmail.migrate.sites.passwords import stored
from fastmail.migrate.sites.values import MIB, Row, limit, number, once, one_line, text
from fastmail.model.errors import CannotDo

USER = (*("pw_name", "pw_domain", "pw_passwd", "pw_gid", "pw_gecos", "pw_dir", "pw_shell", "pw_clear_passwd"),)
LIMITS = ("domain", "maxpopaccounts", "maxaliases", "maxforwards", "diskquota", "defaultquota")
UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": MIB, "G": 1 << 30}
_NAME = re.compile(r"[A-Za-z0-9.-]+")  # what may stand in a statement
_SIZE = re.compile(r"(\d{1,18})\s*([KMG]?)B?", re.IGNORECASE)
_MAILDIR = re.compile(r"[./].*/", re.DOTALL)


class Flag(IntFlag):
    """Bits of pw_gid."""

    NO_POP = 0x02
    NO_WEBMAIL = 0x04
    NO_IMAP = 0x08
    BOUNCE_MAIL = 0x10
    NO_SMTP = 0x800
    QA_ADMIN = 0x1000


def read(base: Base, options: Options) -> Records:
    table, domain = _table(base, options)
    limits = {text(row, "domain").lower(): row for row in selected(base, "limits", LIMITS)}
    found = [domain] if domain else [
        text(row, "pw_domain") for row in base.rows(f"SELECT DISTINCT pw_domain FROM {table} ORDER BY pw_domain")
    ]  # fmt: skip
    for name in found:
        row = limits.get(name.lower(), {})
        yield SiteDomain(
            name,
            most_accounts=limit(row, "maxpopaccounts"),
            most_aliases=limit(row, "maxaliases"),
            most_octets=limit(row, "diskquota", MIB),
        )
    for row in selected(base, "aliasdomains", ("alias", "domain")):
        yield SiteDomain(text(row, "alias"), alias_of=text(row, "domain"))
    yield from _accounts(base, table, domain, options)
    yield from _aliases(base, table, domain)
    yield Hint("catch-alls, forwards, lists", ".qmail-default and .qmail-NAME in domains/DOMAIN", "set them by hand")


def _table(base: Base, options: Options) -> tuple[str, str]:
    """(table of accounts, the domain that it is of). CannotDo."""
    if options.domain and not _NAME.fullmatch(options.domain):
        raise CannotDo(f"{options.domain!r} is not a domain name")
    if {"pw_name", "pw_domain"} <= base.columns("vpopmail"):
        return "vpopmail", ""
    table = re.sub(r"[^a-z0-9]", "_", options.domain.lower())
    if not options.domain or "pw_name" not in base.columns(table):
        raise CannotDo("the database has no table vpopmail; where each domain has its own, name one by --domain")
    return table, options.domain


def quota(value: str) -> tuple[int | None, int | None]:
    """(octets, messages) of a pw_shell; 0 is no limit, None says nothing."""
    if value.upper() in ("NOQUOTA", ""):
        return (0, None) if value else (None, None)
    octets = messages = None
    for part in value.replace(",", " ").split():
        if part[-1:].upper() == "C" and part[:-1].isdecimal():
            messages = min(int(part[:-1]), 1 << 52)
        elif match := _SIZE.fullmatch(part.removesuffix("S").removesuffix("s")):
            octets = min(int(match[1]) * UNITS[match[2].upper()], 1 << 52)
    return octets, messages


def _targets(rows: list[Row]) -> tuple[list[str], bool, int]:
    """(addresses, whether a Maildir is among them, how many programs)."""
    out: list[str] = []
    keeps, programs = False, 0
    for row in rows:
        line = text(row, "valias_line")
        if line.startswith("|"):
            programs += 1
        elif _MAILDIR.fullmatch(line):
            keeps = True
        elif line and not line.startswith("#"):
            out.append(line.removeprefix("&").strip())
    return out, keeps, programs


def _accounts(base: Base, table: str, domain: str, options: Options) -> Records:
    columns = picked(base, table, USER, "u")
    led = bool(base.columns("valias"))
    of = "u.pw_domain" if not domain else f"'{domain}'"
    join = f"LEFT JOIN valias a ON a.alias = u.pw_name AND a.domain = {of}" if led else ""
    line = ", a.valias_line AS valias_line" if led else ""
    rows = base.rows(
        f"SELECT {columns}{line} FROM {table} u {join} ORDER BY u.pw_name" + ("" if domain else ", u.pw_domain")
    )
    programs = partly = 0
    place = ""
    for address, mine in groups(_addressed(rows, "pw_name", "pw_domain", domain), "address"):
        row = mine[0]
        place = place or text(row, "pw_dir")
        password, why = stored(text(row, "pw_passwd"), options.scheme)
        if not password and text(row, "pw_clear_passwd"):
            password, why = "{PLAIN}" + text(row, "pw_clear_passwd"), ""
        to, keeps, run = _targets(mine)
        programs += run
        bits = Flag(number(row, "pw_gid") & sum(Flag))
        partly += len(bits & (Flag.NO_IMAP | Flag.NO_POP)) == 1
        octets, messages = quota(text(row, "pw_shell"))
        admin = Flag.QA_ADMIN in bits
        yield SiteAccount(
            address,
            password,
            why,
            logs_in=Flag.NO_IMAP | Flag.NO_POP not in bits,
            receives=Flag.BOUNCE_MAIL not in bits,
            sends=Flag.NO_SMTP not in bits,
            quota=octets,
            quota_messages=messages,
            forward=once(to),
            keeps=keeps or not to,
            role=OF_DOMAINS if admin else "",
            administers=(address.rpartition("@")[2],) if admin else (),
            name=one_line(text(row, "pw_gecos")),
            maildir=f"{text(row, 'pw_dir')}/Maildir" if text(row, "pw_dir") else "",
        )
    if programs:
        yield NotTaken("programs that mailboxes hand mail to", "no programs are run for accounts here", count=programs)
    if partly:
        yield NotTaken("accounts without IMAP, or without POP3", "both are open here", count=partly)
    if place:
        yield Hint("mail", f"{place}/Maildir and others", "set [store] maildir, or give --maildirs")


def _addressed(rows: Iterable[Row], local: str, of: str, domain: str) -> Iterator[Row]:
    """Rows with the address that two of their columns make."""
    for row in rows:
        yield row | {"address": f"{text(row, local)}@{domain or text(row, of)}"}


def _aliases(base: Base, table: str, domain: str) -> Records:
    if not base.columns("valias"):
        return
    of = "u.pw_domain = a.domain" if not domain else f"a.domain = '{domain}'"
    rows = base.rows(
        f"SELECT a.alias AS alias, a.domain AS domain, a.valias_line AS valias_line FROM valias a LEFT JOIN {table} u "
        f"ON u.pw_name = a.alias AND {of} WHERE u.pw_name IS NULL ORDER BY a.alias, a.domain"
    )
    programs = 0
    for address, mine in groups(_addressed(rows, "alias", "domain", ""), "address"):
        to, _, run = _targets(mine)
        programs += run
        if to or not run:
            yield SiteAlias(address, once(to))
    if programs:
        yield NotTaken("programs that aliases hand mail to", "a route to `pipe:` can", count=programs)
