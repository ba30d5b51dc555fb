"""Which mailbox of an account is for what (RFC 6154): the one with the attribute, whatever it is called; where none has
it, the one with the usual name."""

from collections.abc import Iterable

from fastmail.store.interface import DEFAULT_MAILBOXES, Mailbox

JUNK, TRASH = "Junk", "Trash"


def mailbox(boxes: Iterable[Mailbox], use: str) -> Mailbox | None:
    """``use``: a key of DEFAULT_MAILBOXES."""
    bit, named = DEFAULT_MAILBOXES[use], None
    for box in boxes:
        if box.special & bit:
            return box
        if box.name == use:
            named = box
    return named
