"""One SMTP, submission or LMTP session (RFC 5321, 6409, 2033): lines and content, out of octets.

Extensions: PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), CHUNKING and BINARYMIME
(RFC 3030), ENHANCEDSTATUSCODES (RFC 2034), STARTTLS (RFC 3207), AUTH (RFC 4954), DSN (RFC 3461), LIMITS (RFC 9422),
FUTURERELEASE (RFC 4865), REQUIRETLS (RFC 8689), DELIVERBY (RFC 2852), MT-PRIORITY (RFC 6710), BURL (RFC 4468). What
users send is completed (RFC 6409 8).

smtp.table has the commands, smtp.dialogue what they work with, smtp.transaction the state of a message.

Promise: end of data is CRLF "." CRLF and nothing else; 250 comes after the message is durable in every mailbox it
names (LMTP: one reply for each recipient). No limit is found out after memory was spent. A session that makes
``errors`` mistakes, is slow, or speaks HTTP is ended with 421.
"""

from fastmail._core.smtp import next_command
from fastmail.net.connection import Connection
from fastmail.policy.strangers.gate import Stranger
from fastmail.smtp import authenticate, content, strangers
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.end_of_data import release
from fastmail.smtp.greeting import greet
from fastmail.smtp.service import LMTP, SUBMISSION, Service
from fastmail.smtp.table import BY_SERVICE
from fastmail.smtp.transaction import CONTENT, DECIDING, NONE, RCPT, START
from fastmail.telemetry.counters import count

LINE = 4096  # RFC 5321 4.5.3.1.4 asks for 512, extensions add to it
HELLO = frozenset((b"EHLO", b"HELO"))
LONGEST_VERB = 8  # octets of HTTP's verbs with a space
HTTP = frozenset((b"GET", b"POST", b"CONNECT", b"HEAD", b"PUT", b"OPTIONS"))


class SmtpSession(Dialogue):
    """See the module."""

    __slots__ = ("_commands", "_logs_in", "_skipping")

    def __init__(self, service: Service, connection: Connection) -> None:
        super().__init__(service, connection)
        self._commands = BY_SERVICE[service.kind]
        self._logs_in = service.kind == SUBMISSION
        self._skipping = ""  # the reply to the line whose octets are passed over

    # ---------------------------------------------------------------- connection's calls

    def connected(self) -> None:
        self.conn.touch(self.service.limits.command_timeout)
        greet(self)

    def tls_started(self) -> None:
        """Forget everything that the client said before TLS (RFC 3207 4.2)."""
        self.hello = ""
        self.user = self.login = None
        self.end_transaction()
        self.conn.touch(self.service.limits.command_timeout)

    def timed_out(self) -> None:
        if self.state is DECIDING:  # "try again" would be no true answer: the message may be kept by then
            self.conn.touch(self.service.limits.command_timeout)
            return
        self.say(f"421 4.4.2 {self.service.hostname} timeout, closing")
        self.conn.close()

    def ended(self) -> str:
        return self.service.verifier.ended(self.login)

    def dismiss(self, why: str) -> None:
        self.say(f"421 4.7.0 {self.service.hostname} {why}")
        self.conn.close()

    def failed(self) -> None:
        self.end_transaction()
        self.logging_in.abandon()
        self.say("451 4.3.0 local error, try again later")

    def lost(self) -> None:
        self.gone = True
        if not self.deciding:  # otherwise end_of_data does it
            release(self)

    def feed(self, data: memoryview) -> int:
        position = 0
        size = len(data)
        conn = self.conn
        touched = False  # the deadline was moved for what came in this piece
        stranger = self.stranger
        if stranger is not None and stranger.wait is not None and not self._spoke(stranger, data):
            return size
        while position < size and not conn.busy and not conn.closing and not conn.full:
            transaction = self.transaction
            if transaction is not None and transaction.state >= CONTENT:
                position, touched = content.feed(self, transaction, data, position), False
                continue
            found = next_command(data, position)
            if found is None:
                if size - position > self._longest(data, position) + len(b"\r"):
                    self._skipping = self._skipping or self._too_long(data, position)
                    return size
                return position
            if self._skipping:
                reply, self._skipping = self._skipping, ""
                self.logging_in.abandon()  # an exchange with a line that was not read is over (RFC 4954 4)
                position = found[0]
                self.bad(reply)
                continue
            start, (position, verb, rest) = position, found
            if not touched:
                conn.touch(self.service.limits.command_timeout)
                touched = True
            if self._logs_in and self.logging_in.under_way:
                authenticate.line(self, bytes(data[start:position]))
            elif verb is None or position - start > LINE:
                self._doubtful(verb, rest, data, start, position)
            else:
                self._command(verb, rest, position < size)
        return position

    def _spoke(self, stranger: Stranger, data: memoryview) -> bool:
        """Octets came before the greeting. True if the session goes on."""
        if bytes(data[:LONGEST_VERB]).partition(b" ")[0].upper() in HTTP:
            stranger.end_wait()
            self._not_http()
            return False
        return strangers.spoke(self, stranger)

    def _longest(self, data: memoryview | bytes, start: int = 0) -> int:
        """Return how many octets the line that begins there may have, without its line end."""
        is_auth = self.logging_in.under_way or bytes(data[start : start + 5]).upper() == b"AUTH "
        return authenticate.LONGEST if is_auth else LINE

    def _too_long(self, data: memoryview | bytes, start: int = 0) -> str:
        """Return the reply to a line that is too long."""
        if self._longest(data, start) > LINE:
            return "500 5.5.6 line of the login is too long"
        return "500 5.5.2 line is too long"

    # ---------------------------------------------------------------- commands

    def _doubtful(self, verb: bytes | None, rest: bytes, data: memoryview, start: int, end: int) -> None:
        """Refuse a line that is no command line, or is too long for its command."""
        line = bytes(data[start:end])
        fault = self._fault(line)
        if fault or verb is None:
            self.bad(fault)
            if line[:5].upper() == b"BDAT ":
                self.conn.close()  # a chunk follows, and where it ends can not be known
        else:
            self._command(verb, rest, end < len(data))

    def _command(self, verb: bytes, rest: bytes, more: bool) -> None:
        """Run a command by its row in the table. ``more``: octets after its line have already come."""
        command = self._commands.get(verb)
        if command is None:
            self._unknown(verb.upper())
            return
        if not command.args and rest.strip():
            self.bad("501 5.5.4 no argument is allowed")
            return
        transaction = self.transaction
        if transaction is not None:
            state = transaction.state
        else:
            state = NONE if self.hello else START
        if more:
            if command.alone and state >= RCPT:
                self.say("554 5.5.0 message was sent before the 354 reply")
                count("smtp.early")
                self.conn.close()
                return
            stranger = self.stranger
            if stranger is not None and verb in HELLO and not strangers.pipelined(self, stranger):
                return
        command.run[state](self, rest)

    def _fault(self, line: bytes) -> str:
        """Return the reply to a line that is no command line, whatever its verb; empty if it is one."""
        if not line.endswith(b"\r\n"):
            return "500 5.5.2 line must end in CRLF"
        line = line[:-2]
        if len(line) > LINE and len(line) > self._longest(line):
            return self._too_long(line)
        return "500 5.5.2 bare CR or NUL in a command" if b"\r" in line or b"\0" in line else ""

    def _unknown(self, verb: bytes) -> None:
        """Reply to a verb that is not known, or not known to this service."""
        if verb in HTTP:
            self._not_http()
        elif verb == b"EXPN":
            self.bad("502 5.5.1 EXPN is not done here")
        elif verb == b"AUTH":
            self.bad("502 5.5.1 no AUTH here: users send on the submission ports")
        elif verb in HELLO and self.service.kind == LMTP:
            self.bad("500 5.5.1 use LHLO")
        else:
            self.bad("500 5.5.1 unknown command; try HELP")

    def _not_http(self) -> None:
        self.say("421 4.7.0 this is not an HTTP server")
        self.conn.close()
