"""The state of one POP3 session and what its commands may do with it (RFC 1939 3).

Commands (one family a file, named in pop3.table) take a Dialogue and the rest of their line. They reply with ``ok``,
with ``err``, or with ``bad`` where the client made a mistake. pop3.session reads the lines.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from fastmail.auth import sasl
from fastmail.auth.login import Login
from fastmail.directory.standing import Standing
from fastmail.net.connection import Connection
from fastmail.pop3.service import Service
from fastmail.pop3.view import View
from fastmail.telemetry.counters import count

LINES = 2000  # of a listing that are made at once
PATIENCE = 50  # times as many errors are allowed after the login


class Dialogue:
    """See the module. ``view`` is there from the login on: in the TRANSACTION state."""

    __slots__ = ("_errors", "_viewed", "conn", "logging_in", "login", "service", "user", "utf8", "view")

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
        number = int(word) if word.isdigit() and len(word) < 10 else 0
        if not 0 < number <= len(view.sizes):
            self.bad("no such message")
            return 0
        if number in view.deleted:
            self.bad("message is deleted")
            return 0
        return number

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

    def multi(self, title: str, lines: Iterable[str]) -> None:
        """A success of several lines."""
        self.ok(title)
        self.conn.run_now(self._listing(iter(lines)))

    async def _listing(self, lines: Iterator[str]) -> None:
        """A line for each message, some at a time; the peer reads them before there are more."""
        while part := list(islice(lines, LINES)):
            self.conn.write("\r\n".join([*part, ""]).encode())
            if self.conn.full:
                await self.conn.drain()
        self.conn.write(b".\r\n")
