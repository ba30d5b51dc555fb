"""The state of one IMAP session: who its client is, what the client enabled (RFC 5161), which mailbox it selected
(RFC 3501 3), and who takes its next line. Every command works on this; ``session`` adds the dispatcher.

Promise: nothing here belongs to one command; such state is in ``command.Command``. A selected mailbox is watched until
``deselect``. This file imports no command, so every command may import it.
"""

from typing import Protocol

from fastmail._core.fetch import Item
from fastmail._core.uidset import UidSet
from fastmail.auth.login import Login
from fastmail.directory.interface import AccountRecord
from fastmail.directory.standing import Standing
from fastmail.imap.service import Service
from fastmail.imap.views import Selected
from fastmail.model.errors import TemporaryError
from fastmail.net.connection import Connection
from fastmail.store.interface import Account
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

NEW, AUTH, SELECTED = 1, 2, 4  # states (RFC 3501 3), as bits of the tables of commands and of capabilities
INSIDE = AUTH | SELECTED
ANY = NEW | INSIDE
ERRORS_AFTER_LOGIN = 50  # after a login so many times more errors are allowed: a user's client may get one thing wrong


class Lines(Protocol):
    """A command that takes the lines after its own."""

    def line(self, line: bytes) -> None:
        """Take one line, without CRLF."""


class Idle(Lines, Protocol):
    """IDLE (RFC 2177)."""

    def stirred(self) -> None:
        """The selected mailbox changed."""


class Exchange(Lines, Protocol):
    """AUTHENTICATE (RFC 3501 6.2.2)."""

    @property
    def tag(self) -> bytes: ...

    def abandon(self) -> None:
        """End the exchange without an answer."""


class Notifier(Protocol):
    """NOTIFY (RFC 5465)."""

    def wants_selected(self) -> bool:
        """True if the client asks for events of the selected mailbox."""

    def stir(self, key: bytes) -> None:
        """The mailbox changed: send that as soon as no command runs."""

    def annotated(self, key: bytes, changes: dict[bytes, bytes | None]) -> None:
        """The session itself is about to change these annotations, so they are no news to it."""

    def close(self) -> None:
        """Stop watching."""


class Session:
    """See the module."""

    __slots__ = (  # noqa: RUF023 - in the order in which a reader meets them
        # whom it serves, and by what
        "service",
        "conn",
        # the login; all None before it; and what leads to it
        "record",
        "account",
        "login",
        "logging_in",
        # what the client enabled, until UNAUTHENTICATE
        "condstore",
        "qresync",
        "rev2",
        "utf8",
        "uidonly",
        # what it looks at
        "selected",
        "notify",
        # who takes the next line in place of the command table
        "idle",
        "sasl",
        # how often, for limits
        "errors",
        "ids",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self.service = service
        self.conn = connection
        self.record: AccountRecord | None = None
        self.account: Account | None = None
        self.login: Standing | None = None
        self.logging_in = Login(service.verifier, service.limits, "imap", connection, connection)
        self.condstore = False  # the client knows MODSEQs (RFC 7162 3.1)
        self.qresync = False
        self.rev2 = False  # IMAP4rev2 (RFC 9051): no \\Recent, SEARCH answers with ESEARCH
        self.utf8 = False  # mailbox names in UTF-8 (RFC 9051, RFC 6855)
        self.uidonly = False  # no sequence numbers (RFC 9586)
        self.selected: Selected | None = None
        self.notify: Notifier | None = None
        self.idle: Idle | None = None
        self.sasl: Exchange | None = None
        self.errors = 0
        self.ids = 0  # ID commands that were logged

    # ---------------------------------------------------------------- the client

    @property
    def state(self) -> int:
        """The state: NEW, AUTH or SELECTED."""
        if self.account is None:
            return NEW
        return SELECTED if self.selected is not None else AUTH

    def bad(self, tag: bytes, text: str) -> None:
        """Answer a tagged BAD to input that did not become a command."""
        self.conn.write(b"%b BAD %b\r\n" % (tag, text.encode("utf-8", "replace")))
        self.count_error()

    def count_error(self) -> None:
        """Count an error; too many end the session."""
        self.errors += 1
        if self.errors >= self.service.limits.errors * (1 if self.account is None else ERRORS_AFTER_LOGIN):
            count("imap.errors")
            self.conn.blame(2, "too many errors")
            self.conn.write(b"* BYE too many errors\r\n")
            self.conn.close()

    def learn_modseq(self) -> None:
        """The client gave a CONDSTORE enabling command (RFC 7162 3.1): from now on its FETCH responses have MODSEQ.
        After the first such command it gets the MODSEQ up to which it knows the selected mailbox."""
        if not self.condstore:
            self.condstore = True
            if self.selected is not None:
                modseq = min(self.selected.modseq, self.selected.gone_modseq)
                self.conn.write(b"* OK [HIGHESTMODSEQ %d] highest\r\n" % modseq)

    def items(self, with_uid: bool) -> int:
        """Return the items that every FETCH response to this client has, as bits of ``_core.items``."""
        if self.uidonly:
            return Item.UIDONLY | (Item.MODSEQ if self.condstore else 0)
        return (Item.MODSEQ if self.condstore else 0) | (Item.UID if with_uid or self.qresync else 0)

    # ---------------------------------------------------------------- the selected mailbox

    def attach(self, selected: Selected) -> None:
        """Make this the selected mailbox. Its view was begun already."""
        if self.conn.closing:  # the client left meanwhile, and ``lost`` has been called already
            self.service.store.views.end(selected.key)
            return
        self.selected = selected
        self.service.store.watch(selected.account, selected.key, self._notified)

    def deselect(self) -> None:
        """Leave the selected mailbox; an IDLE ends with it."""
        if self.selected is not None:
            self.service.store.unwatch(self.selected.account, self.selected.key, self._notified)
            self.service.store.views.end(self.selected.key)
        self.selected = None
        self.idle = None

    def leave(self) -> None:
        """Leave the selected mailbox and stop watching others."""
        self.end_notify()
        self.deselect()

    def end_notify(self) -> None:
        """Stop telling what NOTIFY asked for."""
        if self.notify is not None:
            self.notify.close()
            self.notify = None

    def _notified(self) -> None:
        """The selected mailbox changed. Only IDLE and NOTIFY send that at once."""
        if self.notify is not None and self.selected is not None and self.notify.wants_selected():
            self.notify.stir(self.selected.key)
        elif self.idle is not None:
            self.idle.stirred()

    # ---------------------------------------------------------------- the store, while it may be full

    async def look(self, account: Account, key: bytes) -> None:
        """Apply other programs' changes of a mailbox's files. Without room for that, the session continues with what is
        known."""
        try:
            await self.service.store.sync(account, key)
        except TemporaryError as error:
            log.event("imap.sync", "warning", error=error)

    async def take_recent(self, selected: Selected) -> None:
        """Take \\Recent for new messages, unless the mailbox is open for reading only."""
        if not selected.readonly:
            first, end = await self.take_recent_of(selected.account, selected.key)
            if first < end:
                selected.recent = selected.recent.plus(UidSet.of_ranges((first, end - 1)))

    async def take_recent_of(self, account: Account, key: bytes) -> tuple[int, int]:
        """Do the same for a mailbox by key. Returns (first UID, UID after the last). Without room to record it, reading
        goes on."""
        try:
            return await self.service.store.take_recent(account, key)
        except TemporaryError as error:
            log.event("imap.recent", "warning", error=error)
            return 0, 0
