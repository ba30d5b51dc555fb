"""The mailboxes that NOTIFY and ESEARCH name: filter-mailboxes (RFC 5465 6, 8; RFC 7377 2.2)."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from fastmail._core.imap import ParseError, Reader
from fastmail.imap.names import read_name
from fastmail.imap.state import Session
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import Listing

KINDS = (
    *(b"SELECTED", b"SELECTED-DELAYED", b"INBOXES", b"PERSONAL", b"SUBSCRIBED"),
    *(b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES"),
)
NAMED = (b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES")
CHOSEN = (b"SELECTED", b"SELECTED-DELAYED")


@dataclass(slots=True)
class Filter:
    """Which mailboxes; ``names`` as they are stored. It is a set, so one look costs the same however many are named."""

    kind: bytes
    names: set[str] = field(default_factory=set)

    def has(self, name: str, own: bool, listing: Listing) -> bool:
        """True if a mailbox (apart from the selected one) is named. ``own``: it belongs to the account."""
        if self.kind == b"PERSONAL":
            return own
        if self.kind == b"INBOXES":
            return name == INBOX
        if self.kind == b"SUBSCRIBED":
            return name in listing.subscribed
        if self.kind == b"SUBTREE":
            return any(one in self.names for one in levels(name))
        if self.kind == b"SUBTREE-ONE":
            return name in self.names or name.rpartition("/")[0] in self.names
        return self.kind == b"MAILBOXES" and name in self.names


def levels(name: str) -> Iterator[str]:
    """Yield the name, and each name above it."""
    yield name
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def read_filter(session: Session, reader: Reader) -> Filter:
    """RFC 5465 8: filter-mailboxes."""
    at = reader.pos
    kind = reader.atom().upper()
    if kind not in KINDS:
        raise ParseError(b", ".join(KINDS).decode().lower(), at)
    found = Filter(kind)
    if kind in NAMED:
        reader.sp()
        if reader.peek() == 40:
            reader.open()
            found.names.add(read_name(session, reader))
            while reader.more():
                found.names.add(read_name(session, reader))
            reader.close()
        else:
            found.names.add(read_name(session, reader))
    return found
