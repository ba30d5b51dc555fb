"""The state of one SMTP session and what its commands may do with it (RFC 5321 3, RFC 6409, RFC 2033).

Commands (one family a file, named in smtp.table) take a Dialogue and the rest of their line. They reply with ``say``,
or with ``bad`` where the client made a mistake. smtp.session reads the lines.
"""

from collections.abc import Awaitable, Callable

from fastmail.auth.login import Login
from fastmail.delivery.envelope import Outcome
from fastmail.directory.interface import AccountRecord
from fastmail.directory.standing import Standing
from fastmail.net.connection import Connection
from fastmail.net.networks import address_in
from fastmail.policy.strangers.gate import Stranger
from fastmail.smtp.milter import Filters
from fastmail.smtp.service import LMTP, SUBMISSION, Service
from fastmail.smtp.transaction import NONE, START, State, Transaction
from fastmail.telemetry.counters import count


class Dialogue:
    """See the module. ``transaction`` is None while there is no mail transaction."""

    __slots__ = (
        "_errors",
        "conn",
        "deciding",
        "extended",
        "filters",
        "gone",
        "hello",
        "host",
        "logging_in",
        "login",
        "service",
        "stranger",
        "transaction",
        "user",
    )

    def __init__(self, service: Service, connection: Connection) -> None:
        self.service = service
        self.conn = connection
        # who the client is
        self.host = connection.host  # XCLIENT may tell of another
        self.hello = ""  # what it calls itself; empty before EHLO
        self.extended = True  # it said EHLO or LHLO, and not HELO
        self.stranger: Stranger | None = None  # what is noted of it, where nobody vouches for it
        self.user: AccountRecord | None = None
        self.login: Standing | None = None
        self.logging_in = Login(service.verifier, service.limits, SUBMISSION, connection, self)
        # its mail
        self.transaction: Transaction | None = None
        self.filters: Filters | None = None
        self.deciding = False  # content is complete, and it is being decided what becomes of it
        self.gone = False  # the connection has ended
        self._errors = 0

    @property
    def state(self) -> State:
        """The column of smtp.table that holds for the next command."""
        if self.transaction is not None:
            return self.transaction.state
        return NONE if self.hello else START

    def end_transaction(self) -> None:
        """End the mail transaction, if there is one, and drop its content (RFC 5321 4.1.1.5)."""
        if self.filters is not None:
            self.filters.abort()
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.drop()

    async def consult(
        self, question: Awaitable[Outcome | None], then: Callable[[], None], otherwise: Callable[[str], None]
    ) -> None:
        """Ask the filters, and go on, or refuse. ``otherwise`` is called with the reply, before that is given."""
        refusal = await question
        if refusal is None:
            then()
            return
        count("milter.refused")
        reply = f"{refusal.code} {refusal.enhanced} {refusal.text}"
        otherwise(reply)
        self.refuse(reply)

    def may_relay(self) -> bool:
        """Users may send anywhere; so may hosts of trusted networks, by port 25."""
        service = self.service
        if service.outbound is None or service.kind == LMTP:
            return False
        if service.kind == SUBMISSION:
            return self.user is not None
        return bool(service.networks) and any(address_in(self.host, network) for network in service.networks)

    def blame(self, points: float, why: str) -> None:
        """Count a mistake of the peer; mistakes of a host that forwards for many are not counted."""
        if self.host == self.conn.host:
            self.conn.blame(points, why)

    # ---------------------------------------------------------------- replies

    def say(self, line: str) -> None:
        """A reply."""
        self.conn.write(line.encode() + b"\r\n")

    def bad(self, line: str) -> None:
        """An error reply; too many of them end the session, and strangers may have to wait for each."""
        self._errors += 1
        self.say(line)
        if self._errors >= self.service.limits.errors:
            count("smtp.errors")
            self.blame(2, "too many errors")
            self.say("421 4.7.0 too many errors, closing")
            self.conn.close()
        elif self.stranger is not None and self.stranger.slowed:
            self._slow(self.stranger)

    def refuse(self, line: str) -> None:
        """An error reply to an address or a message. By LMTP that is no mistake of the client: the host in front passes
        on what others wrote, and cannot know who is here. If it were sent away for that, nobody in its transaction
        would get the message, and it would try again in vain."""
        (self.say if self.service.kind == LMTP else self.bad)(line)

    def _slow(self, stranger: Stranger) -> None:
        """Send what is queued later. Only so many sessions wait at once, because each has a socket and memory; one more
        is ended."""
        gate = stranger.gate
        if gate.held >= gate.rules.held:
            count("smtp.tarpit_full")
            self.say(f"421 4.7.0 {self.service.hostname} too many errors, closing")
            self.conn.close()
            return
        count("smtp.slowed")
        gate.held += 1
        self.conn.hold(gate.rules.tarpit, gate.let_go)
