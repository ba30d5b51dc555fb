"""The tables of the ISPmail guide (workaround.org): virtual_domains, virtual_users, virtual_aliases.

An alias has a row for each target; ``@domain`` is a catch-all. A mailbox with alias rows of its own gets its mail only
if one of them leads to itself. Quotas are octets, 0 is no limit; older tables have none. The guide puts no index on
``source``, so both tables come as one sorted stream instead of by a join: once for accounts, once for aliases.
"""

from collections.abc import Iterator

from fastmail.migrate.sites.base import Base, need, selected
from fastmail.migrate.sites.model import Hint, Options, Records, SiteAccount, SiteAlias, SiteDomain
from fastmail.migrate.sites.parts import forwards, groups
from fastmail.migrate.sites.passwords import stored
from fastmail.migrate.sites.values import Row, flag, limit, number, text, words
from fastmail.model.errors import CannotDo


def read(base: Base, options: Options) -> Records:
    need(base, "ISPmail", "virtual_domains", "virtual_users", "virtual_aliases")
    if "email" not in base.columns("virtual_users"):
        raise CannotDo("the table virtual_users has no column email: tables of before 2010 cannot be read")
    limited = "quota" in base.columns("virtual_users")
    for row in selected(base, "virtual_domains", ("name",), "ORDER BY name"):
        yield SiteDomain(text(row, "name"))
    for address, users, targets in _addresses(base):
        for row in users:
            password, why = stored(text(row, "password"), options.scheme)
            to, keeps = forwards(address, targets)
            quota = limit(row, "quota") if limited else None
            yield SiteAccount(address, password, why, flag(row, "enabled"), quota=quota, forward=to, keeps=keeps)
    for address, users, targets in _addresses(base):
        if not users:
            yield SiteAlias(address, tuple(targets))
    yield Hint("mail", "/var/vmail/DOMAIN/USER/Maildir", "[store] maildir names it")
    yield Hint("Sieve scripts", "/var/vmail/DOMAIN/USER/sieve", "keep them, nothing runs them yet")


def _addresses(base: Base) -> Iterator[tuple[str, list[Row], list[str]]]:
    """(address, its rows in virtual_users, its targets), by address."""
    there = base.columns("virtual_users")
    quota = "quota" if "quota" in there else "0"
    enabled = next((name for name in ("enabled", "active") if name in there), "1")
    rows = base.rows(
        f"SELECT * FROM (SELECT 0 AS part, email AS address, password, {quota} AS quota, {enabled} AS enabled, "
        "NULL AS destination FROM virtual_users UNION ALL "
        "SELECT 1, source, NULL, NULL, NULL, destination FROM virtual_aliases) t ORDER BY LOWER(t.address), t.part"
    )
    for address, mine in groups(rows, "address"):
        users = [row for row in mine if not number(row, "part")]
        yield address, users, [one for row in mine if number(row, "part") for one in words(text(row, "destination"))]
