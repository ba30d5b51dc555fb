"""Lists what is in the mailbox: STAT, LIST (RFC 1939 5), UIDL (RFC 1939 7)."""

from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View


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
    gone, sizes = view.deleted, view.sizes
    lines = (f"{n} {size}" for n, size in enumerate(sizes, 1) if n not in gone)
    session.multi(f"{len(sizes) - len(gone)} messages", lines)


def uidl(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 7: the unique id of one message, or of each."""
    if rest.strip():
        number = session.number(view, rest.strip())
        if number:
            session.ok(f"{number} {view.uidl(view.uid(number))}")
        return
    gone, validity = view.deleted, f"{view.validity:08x}"
    if view.has_own_form:
        lines = (f"{n} {uid:08x}{validity}" for n, uid in enumerate(view.uids, 1) if n not in gone)
    else:
        lines = (f"{n} {view.uidl(uid)}" for n, uid in enumerate(view.uids, 1) if n not in gone)
    session.multi("unique ids", lines)
