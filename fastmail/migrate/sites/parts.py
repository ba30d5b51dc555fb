"""What several readers do alike: rows of one address put together, a mailbox's own row among its aliases,
administrators, and kinds of rows that are only counted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fastmail.directory.records import OF_DOMAINS, SERVER
from fastmail.migrate.sites.base import Base, counted
from fastmail.migrate.sites.model import NotTaken, Records
from fastmail.migrate.sites.values import Row, once, text

RELAYS = ("relay:", "smtp:", "uucp:", "error:", "discard:")  # transports of Postfix that keep no mail here
EVERY = "ALL"  # in tables of administrators: all domains


def groups(rows: Iterable[Row], name: str) -> Iterator[tuple[str, list[Row]]]:
    """Rows of one address after the other; they have to be sorted by it, without case."""
    for _, found in groupby(rows, lambda row: text(row, name).lower()):
        mine = list(found)
        yield text(mine[0], name), mine


def forwards(address: str, targets: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """(addresses, whether a copy stays) of what a mailbox's own alias says: there it leads to itself where it keeps
    what comes. One that leads nowhere keeps it too."""
    others = tuple(one for one in once(targets) if one.lower() != address.lower())
    return others, not others or len(others) < len(once(targets))


@dataclass(slots=True)
class Admins:
    """Who administers what, by lower-case name: SERVER, or domains."""

    roles: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def add(self, name: str, domain: str = "", server: bool = False) -> None:
        """Once for each domain; ``domain`` may be EVERY."""
        if not name:
            return
        role, domains = self.roles.get(name.lower(), (OF_DOMAINS, ()))
        if server or role == SERVER or domain == EVERY:
            self.roles[name.lower()] = SERVER, ()
        else:
            self.roles[name.lower()] = OF_DOMAINS, (*domains, domain) if domain else domains

    def take(self, address: str) -> tuple[str, tuple[str, ...]]:
        """(role, domains) of an account; whoever was asked for is not left over."""
        return self.roles.pop(address.lower(), ("", ()))

    def left(self) -> Records:
        """Those who were not asked for: they have no mailbox."""
        say = "a role belongs to an account here: make one, and `fastmail account set` its role"
        for name in self.roles:
            yield NotTaken("administrators without a mailbox", say, name)


def only_counted(base: Base, tables: Sequence[tuple[str, str, str]]) -> Records:
    """(table, what it has, what to do) of tables that have no equivalent."""
    for table, what, say in tables:
        name, _, where = table.partition(" ")
        count = counted(base, name, where)
        if count:
            yield NotTaken(what, say, count=count)
