"""Marks and the UPDATE state: DELE, RSET, NOOP, QUIT (RFC 1939 5, 6).

Promise: QUIT removes all that is marked in one durable step, and its +OK comes after that. A connection that is lost
deletes nothing.
"""

from fastmail._core.uidset import UidSet
from fastmail.model.errors import MailError
from fastmail.model.flags import SEEN
from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.view import View
from fastmail.telemetry import log


def dele(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5: marks a message."""
    number = session.number(view, rest.strip())
    if number:
        view.deleted.add(number)
        session.ok("marked")


def rset(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5: forgets the marks."""
    view.deleted.clear()
    session.ok("nothing is marked")


def noop(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 5."""
    session.ok("")


def leave(session: Dialogue, rest: bytes) -> None:
    """QUIT before the login (RFC 1939 4)."""
    session.ok("bye")
    session.conn.close()


def quit_(session: Dialogue, view: View, rest: bytes) -> None:
    """RFC 1939 6: the UPDATE state."""
    session.conn.run(_update(session, view))


async def _update(session: Dialogue, view: View) -> None:
    store = session.service.store
    try:
        seen = UidSet.of(sorted(view.uid(n) for n in view.read - view.deleted))
        if seen:
            await store.store(view.account, view.key, seen, 1, SEEN, [])
        if view.deleted:
            marked = UidSet.of(sorted(view.uid(n) for n in view.deleted))
            await store.expunge(view.account, view.key, marked, 0, mine=session.views)
        session.ok("bye")
    except (MailError, OSError) as error:
        log.event("pop3.update", "error", account=view.account.address, error=repr(error))
        session.err("[SYS/TEMP] some messages were not removed")
    session.conn.close()
