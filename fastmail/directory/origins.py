"""Where the accounts of each domain come from: this directory itself (LOCAL), the source of the ``[directory]`` section
(an empty name), or a source of a name of its own (``[[source]]``), which the domain's field ``source`` says.

Promises: a source changes accounts, aliases and groups of its own domains only. While a source cannot be read, and
until it was read for a domain that names it since a moment ago, an address of its domains that is not known is
``uncertain``: nobody says "no such user" then. Other domains are not concerned.

A domain that names a source which the configuration does not have keeps the accounts that are known, and is uncertain.
"""

import os
from collections.abc import Collection, Iterator

from fastmail.directory.lookup import home
from fastmail.directory.reading import Reading
from fastmail.directory.records import LOCAL, Account, Domain, List
from fastmail.directory.tables import META, Txn
from fastmail.model.errors import DamagedAccount

UNCERTAIN = b"uncertain"  # with a colon and a name for the source of that name
MARK = 8  # octets: each time another mark, so that whoever takes one away knows which


def domain_of(address: str) -> str:
    """The domain of an address; empty where a login has none."""
    _, at, name = address.rpartition("@")
    return name if at else ""


def uncertain_key(source: str) -> bytes:
    return UNCERTAIN + b":" + source.encode() if source else UNCERTAIN


class Origins(Reading):
    """See interface.Directory. ``sources``: the names that the configuration has, an empty one for the source of the
    ``[directory]`` section; None where nobody has said."""

    sources: Collection[str] | None = None
    _marks: tuple[int, dict[str, bytes]] = -1, {}  # the commit that marks were read at, and the marks by source

    def source_of(self, domain: str) -> str:
        """The source that a domain, or the one that it is another name of, has its accounts from; LOCAL for none, an
        empty name for that of the [directory] section, if there is one. DamagedAccount."""
        found = home(self, domain)
        return found.source if found is not None else ""

    def is_from(self, source: str, address: str) -> bool:
        """True if what a source says of an address counts. Nobody can say so where the domain's row is damaged, which
        then stays as it is and harms no other."""
        try:
            return self.source_of(domain_of(address)) == source
        except DamagedAccount:
            return False

    def is_followed(self, domain: str) -> bool:
        """True if somebody else keeps the accounts of the domain."""
        source = self.source_of(domain)
        return source != LOCAL and (bool(source) or "" in (self.sources or ()))

    def said_of(self, row: Domain | Account | List) -> list[str]:
        """See interface.Administration. Nothing where the domain has its accounts here now."""
        name = row.name if isinstance(row, Domain) else domain_of(row.address)
        return list(row.said) if row.said and self.is_followed(name) else []

    def is_uncertain(self, domain: str) -> bool:
        """True if an unknown address of the domain may be known to its source, which cannot be asked now."""
        try:
            source = self.source_of(domain)
        except DamagedAccount:
            return True  # the row says where its accounts come from, and cannot be read
        if source == LOCAL:
            return False
        if self.sources is not None and source not in self.sources:
            return bool(source)
        return bool(self.uncertain_mark(source))

    def uncertain_mark(self, source: str) -> bytes:
        """What ``settle`` takes back; empty while the source is readable and was read for all of its domains."""
        commit, marks = self._marks
        if commit != self._last_commit():
            commit, marks = self._marks = self._last_commit(), {}
        found = marks.get(source)
        if found is None:
            found = marks[source] = self._tables.get(META, uncertain_key(source)) or b""
        return found

    def names(self, source: str) -> frozenset[str]:
        """The domains that name a source. For the source of the [directory] section, which has all the others: those
        that name another one."""
        if source:
            return frozenset(one.name for one in self.each_domain() if one.source == source)
        return frozenset(one.name for one in self.each_domain() if one.source)

    def accounts_from(self, source: str) -> Iterator[Account]:
        """The accounts of the domains that a source has, of those that can be read."""
        if source:
            for name in sorted(self.names(source)):
                yield from self.each_account(name)
            return
        for one in self.each_account():
            if self.is_from(source, one.address):
                yield one


def mark(txn: Txn, source: str) -> None:
    """Unknown addresses of the source's domains are uncertain from now on."""
    txn.put(META, uncertain_key(source), os.urandom(MARK))


def mark_new(txn: Txn, old: Domain | None, new: Domain) -> None:
    """The same where a domain names a source now that it did not name before: it was not read for that domain."""
    before = old.source if old is not None else ""
    if new.source != before and new.source != LOCAL:
        mark(txn, new.source)
