"""Lists what is in the mailbox: STAT, LIST (RFC 1939 5), UIDL (RFC 1939 7)."""

from collections.abc import Iterator
from itertools import count, islice

from fastmail._core.lines import numbered
from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View

LINES = 2000  # of a listing that are made at once


def stat(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5: messages that are not marked, and their octets."""
    total = sum(view.sizes)
    if view.deleted:
        total -= sum(view.sizes[n - 1] for n in view.deleted)
    session.ok(f"{len(view.sizes) - len(view.deleted)} {total}")


def list_(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5: the size of one message, or of each."""
    if rest.strip():
        number = session.number(view, rest.strip())
        if number:
            session.ok(f"{number} {view.sizes[number - 1]}")
        return
    sizes, gone = view.sizes, view.deleted
    blocks = (numbered(at + 1, sizes[at : at + LINES], gone) for at in range(0, len(sizes), LINES))
    session.multi(f"{len(sizes) - len(gone)} messages", blocks)


def uidl(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 7: the unique id of one message, or of each."""
    if rest.strip():
        number = session.number(view, rest.strip())
        if number:
            session.ok(f"{number} {view.uidl(view.uid(number))}")
        return
    session.multi("unique ids", _own_ids(view) if view.has_own_form else _ids(view))


def _own_ids(view: View) -> Iterator[bytes]:
    """Yield lines of UIDL where every unique id is of our own form."""
    validity = b"%08x" % view.validity
    for at in range(0, len(view.uids), LINES):
        yield numbered(at + 1, view.uids[at : at + LINES], view.deleted, validity)


def _ids(view: View) -> Iterator[bytes]:
    """Yield the same lines of any form."""
    lines = (f"{n} {view.uidl(uid)}\r\n" for n, uid in zip(count(1), view.uids) if n not in view.deleted)
    while part := "".join(islice(lines, LINES)):
        yield part.encode()
