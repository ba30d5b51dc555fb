"""The state of one POP3 session and what its commands may do with it (RFC 1939 3).

Commands (one family a file, named in pop3.table) take a Dialogue and the rest of their line. They reply with ``ok``,
with ``err``, or with ``bad`` where the client made a mistake. pop3.session reads the lines.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from fastmail.auth import sasl
from fastmail.auth.login import Login
from fastmail.directory.standing import Standing
from fastmail.net.connection import Connection
from fastmail.pop3.service import Service
from fastmail.pop3.view import View
from fastmail.store.interface import Octets, Snapshot
from fastmail.telemetry.counters import count

PATIENCE = 50  # times as many errors are allowed after the login


class Dialogue:
    """See the module. ``view`` is there from the login on: in the TRANSACTION state."""

    __slots__ = (
        "_errors",
        "_opened",
        "_snapshot",
        "_viewed",
        "conn",
        "logging_in",
        "login",
        "service",
        "user",
        "utf8",
        "view",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self.service = service
        self.conn = connection
        # before the login
        self.utf8 = False  # header fields may be UTF-8 (RFC 6856)
        self.user: sasl.Login | None = None  # USER was given, and PASS is to come
        self.logging_in = Login(service.verifier, service.limits, "pop3", connection, connection)
        # after it
        self.login: Standing | None = None
        self.view: View | None = None
        self._viewed = b""  # the mailbox of which the store believes that it is viewed
        self._errors = 0
        # while a batch of commands is answered
        self._opened: AbstractContextManager[Snapshot] | None = None
        self._snapshot: Snapshot | None = None

    async def begin_view(self, key: bytes) -> bool:
        """Tell the store that this session views a mailbox. Returns False if the client has gone meanwhile."""
        await self.service.store.views.begin(key)
        self._viewed = key
        if self.conn.closing:
            self.end_view()  # ``lost`` will not come again
            return False
        return True

    def end_view(self) -> None:
        """There is no view any more."""
        if self._viewed:
            self.service.store.views.end(self._viewed)
        self._viewed = b""

    @property
    def views(self) -> int:
        """Return how many views of the mailbox this session has: 0 or 1."""
        return 1 if self._viewed else 0

    def number(self, view: View, word: bytes) -> int:
        """A message number that is there and not deleted; 0 after an error reply."""
        number = int(word) if word.isdigit() else 0
        if not 0 < number <= len(view.sizes):
            self.bad("no such message")
            return 0
        if number in view.deleted:
            self.bad("message is deleted")
            return 0
        return number

    # ---------------------------------------------------------------- reading

    def at_hand(self, view: View, uid: int) -> Octets | None:
        """Return a message if that needs no waiting; valid until ``end_reading``. MailError if the index cannot be
        read.

        All commands that came together are answered from one snapshot. Whoever waits for anything has to call
        ``end_reading`` before: a snapshot may not stay open meanwhile."""
        if self._snapshot is None:
            opened = self.service.store.snapshot(view.account)
            self._snapshot = opened.__enter__()
            self._opened = opened
        try:
            return self._snapshot.content(view.key, uid)
        except Exception as error:
            self.end_reading(error)  # which raises it as one of model.errors, if it is the index's
            raise

    def end_reading(self, error: Exception | None = None) -> None:
        """End the snapshot of the commands that came together, if there is one."""
        opened, self._opened, self._snapshot = self._opened, None, None
        if opened is None:
            return
        if error is None:
            opened.__exit__(None, None, None)
        else:
            opened.__exit__(type(error), error, error.__traceback__)

    # ---------------------------------------------------------------- replies: of ASCII, as LANG promises

    def ok(self, text: str) -> None:
        """A success."""
        self.conn.write(f"+OK {text}".rstrip().encode("ascii", "replace") + b"\r\n")

    def err(self, text: str) -> None:
        """A failure that is not the client's."""
        self.conn.write(f"-ERR {text}".encode("ascii", "replace") + b"\r\n")

    def bad(self, text: str) -> None:
        """An error of the client; too many end the session."""
        self._errors += 1
        self.err(text)
        if self._errors >= self.service.limits.errors * (1 if self.view is None else PATIENCE):
            count("pop3.errors")
            self.conn.blame(2, "too many errors")
            self.conn.close()

    def multi(self, title: str, blocks: Iterable[bytes]) -> None:
        """A success of several lines, given as blocks of whole lines."""
        self.ok(title)
        self.conn.run_now(self._listing(blocks))

    async def _listing(self, blocks: Iterable[bytes]) -> None:
        """A line for each message, some at a time; the peer reads them before there are more."""
        for block in blocks:
            self.conn.write(block)
            if self.conn.full:
                await self.conn.drain()
        self.conn.write(b".\r\n")
