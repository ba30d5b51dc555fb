"""One POP3 session (RFC 1939; CAPA RFC 2449, STLS RFC 2595, SASL RFC 5034, AUTH-RESP-CODE RFC 3206): lines out of
octets.

pop3.table has the commands, pop3.dialogue what they work with, pop3.view the mailbox as the session sees it. Promise: a
line that is too long is passed over in bounded memory; a session that is lost or too slow deletes nothing.
"""

from fastmail._core.lines import find_crlf
from fastmail.net.connection import Connection
from fastmail.pop3 import enter
from fastmail.pop3.dialogue import Dialogue
from fastmail.pop3.service import Service
from fastmail.pop3.table import COMMANDS

LINE = 512
AUTH_LINE = 12288  # of AUTH with its initial response, and of responses (RFC 5034 4, RFC 4954 4)


class Pop3Session(Dialogue):
    """See the module."""

    __slots__ = ("_skipping",)

    def __init__(self, service: Service, connection: Connection) -> None:
        super().__init__(service, connection)
        self._skipping = False  # the octets of a line that is too long are passed over

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self.ok("fastmail ready")
        self.conn.touch(self.service.limits.login_timeout, fixed=True)

    def tls_started(self) -> None:
        self.user = None
        self.conn.touch(self.service.limits.login_timeout, fixed=True)

    def timed_out(self) -> None:
        self.err("[SYS/TEMP] timeout, nothing was deleted")
        self.conn.close()

    def ended(self) -> str:
        return self.service.verifier.ended(self.login)

    def dismiss(self, why: str) -> None:
        """End the session without deleting the marked messages (RFC 1939 6)."""
        self.err(f"[AUTH] {why}; nothing was deleted")
        self.conn.close()

    def failed(self) -> None:
        self.err("[SYS/TEMP] internal error, nothing was deleted")
        self.conn.close()

    def lost(self) -> None:
        self.end_view()
        self.view = None

    def feed(self, data: memoryview) -> int:
        position, size = 0, len(data)
        conn = self.conn
        if self.view is not None:
            conn.touch(self.service.limits.pop3_timeout)
        try:
            while position < size and not conn.busy and not conn.closing and not conn.full:
                end = find_crlf(data, position, size)
                if end < 0:
                    if size - position > self._most(data, position) + len(b"\r"):
                        self._skipping = True
                        return size
                    return position
                line = bytes(data[position:end]).removesuffix(b"\r")
                if self._skipping or (len(line) > LINE and len(line) > self._most(data, position)):
                    self._skipping = False
                    self.logging_in.abandon()  # an exchange with a line that could not be read is over
                    self.bad("line is too long")
                elif self.logging_in.under_way:
                    enter.line(self, line)
                else:
                    self._command(line)
                position = end + 1
        finally:
            self.end_reading()
        return position

    def _most(self, data: memoryview, position: int) -> int:
        """Return how many octets the line that begins there may have."""
        long = self.logging_in.under_way or bytes(data[position : position + 5]).upper() == b"AUTH "
        return AUTH_LINE if long else LINE

    def _command(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        command = COMMANDS.get(verb.upper())
        if command is None:
            self.bad("unknown command")
        elif self.view is not None:
            if command.after is not None:
                command.after(self, self.view, rest)
            else:
                self.bad("logged in already")
        elif command.before is not None:
            command.before(self, rest)
        else:
            self.bad("log in first")
