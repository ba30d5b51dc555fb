"""How a client logs in, the same in SMTP, POP3 and IMAP: the SASL dialogue, the check, and what a failure costs
(RFC 4422, RFC 4954, RFC 5034, RFC 9051 6.2).

The protocol reads lines and words the replies. It asks a Login for everything else:

    begin(name)              choose a mechanism, then for each response
    answer(line)             -> the next challenge, or the claim with which the exchange ends; SaslError ends it too
    await attempt(claim)     -> a Result: Entry, Denied, Banned, NotNow, Again or Failed

Promise: each finished exchange is counted once. A failure is answered no sooner than ``auth_failure_delay`` after the
exchange ended, is logged, and is held against the peer's network (net.bans, net.guesses); after ``auth_failures`` of
them the session ends. Nothing that a failure is answered with says whether there is such a user.
"""

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from fastmail.auth import sasl
from fastmail.auth.verifier import Entry, Verifier, until_refusal
from fastmail.model.errors import KeptOut, LoginRefused, TemporaryError
from fastmail.model.limits import Limits
from fastmail.telemetry import log

APPS_SAY = {"submission": "smtp"}  # the protocol as app passwords and last logins name it
NOT_NOW = "logins cannot be checked now, try again later"


class Peer(Protocol):
    """Who logs in: the address at the other end, and who is blamed for failures."""

    host: str

    def blame(self, points: float, why: str) -> None: ...


class Cancelled(sasl.SaslError):
    """The client ended the exchange with ``*``."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The claim is right, and the account may not log in; ``why`` is for its user."""

    why: str


@dataclass(frozen=True, slots=True)
class Banned:
    """The peer's network may try no login now: the session ends; ``why`` is for the peer."""

    why: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Nobody can tell now (``NOT_NOW`` is for the peer)."""


@dataclass(frozen=True, slots=True)
class Again:
    """A token was refused: ``challenge`` (base64) says why, and the client answers once more before the exchange has
    failed (RFC 7628 3.2.3)."""

    challenge: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The claim is wrong. ``last``: it was one failure too many, and the session ends."""

    last: bool


Result = Entry | Denied | Banned | NotNow | Again | Failed


def allowed(tls: bool, near: bool, plaintext: bool | str) -> bool:
    """True if a password may come over a connection: with TLS, or as ``[auth] plaintext_without_tls`` says. ``near``:
    the client is on this machine."""
    return tls or plaintext is True or (plaintext == "loopback" and near)


class Login:
    """The logins of one session. ``channel`` is the connection, ``peer`` whoever is at its other end."""

    __slots__ = ("_channel", "_limits", "_mechanism", "_peer", "_protocol", "_verifier", "failures")

    def __init__(self, verifier: Verifier, limits: Limits, protocol: str, channel: sasl.Channel, peer: Peer) -> None:
        self._verifier = verifier
        self._limits = limits
        self._protocol = protocol
        self._channel = channel
        self._peer = peer
        self._mechanism: sasl.Mechanism | None = None
        self.failures = 0

    # ---------------------------------------------------------------- the exchange

    @property
    def under_way(self) -> bool:
        """True while the client's next line is a response."""
        return self._mechanism is not None

    def begin(self, word: bytes) -> bool:
        """Begin an exchange with a mechanism of that name. False when there is none, which ``unknown`` tells."""
        self._mechanism = self._verifier.begin(word.decode("ascii", "replace").upper(), self._channel, self._peer.host)
        return self._mechanism is not None

    @property
    def unknown(self) -> str:
        """The reply to a mechanism that is not offered."""
        return f"mechanism is not known; known are {', '.join(self._verifier.mechanisms(self._channel))}"

    def abandon(self) -> None:
        """The exchange is over, if there is one."""
        self._mechanism = None

    def line(self, line: bytes) -> bytes | sasl.Claim:
        """A line of the exchange without its end; see ``answer``. Cancelled for ``*``."""
        if line == b"*":
            self._mechanism = None
            raise Cancelled("login cancelled")
        return self.answer(line)

    def answer(self, response: bytes | None) -> bytes | sasl.Claim:
        """Take a response in base64, None where the client gave no initial one. Returns the next challenge in base64,
        or the claim to be checked by ``attempt``. SaslError, whose text may be sent, ends the exchange."""
        mechanism, self._mechanism = self._mechanism, None
        assert mechanism is not None
        found = mechanism.step(None if response is None else sasl.decode(response))
        if isinstance(found, bytes):
            self._mechanism = mechanism
            return b64encode(found)
        if isinstance(found, sasl.Credentials) and found.acting and not self._verifier.lets_act(self._protocol):
            raise sasl.SaslError(sasl.NOT_FOR_OTHERS)
        return found

    # ---------------------------------------------------------------- the check

    async def attempt(self, claim: sasl.Claim, prepare: Callable[[Entry], Awaitable[object]] | None = None) -> Result:
        """Check a claim. ``prepare``: what has to be done before the client hears that it is in; a login that ends
        meanwhile (directory.standing) has failed."""
        begun = time.monotonic()
        if isinstance(claim, sasl.Credentials):
            claim = self._verifier.named(claim, self._protocol)
        try:
            entry = await self._verifier.admit(claim, self._peer.host, APPS_SAY.get(self._protocol, self._protocol))
        except LoginRefused as error:
            return Denied(str(error))
        except KeptOut as error:
            return Banned(str(error))
        except TemporaryError:
            return NotNow()
        if entry is not None and prepare is not None:
            await prepare(entry)
            if self._verifier.ended(entry.login):
                entry = None
        return entry if entry is not None else await self._failed(claim, begun)

    async def _failed(self, claim: sasl.Claim, begun: float) -> Again | Failed:
        if not isinstance(claim, sasl.Spent):
            self.failures += 1
            self._peer.blame(1, "failed logins")
            log.event("login.failed", "warning", protocol=self._protocol, login=claim.login, peer=self._peer.host)
            await until_refusal(begun, self._limits.auth_failure_delay)
        if isinstance(claim, sasl.Token) and self.failures < self._limits.auth_failures:
            self._mechanism = claim.mechanism
            return Again(b64encode(claim.mechanism.refusal))
        return Failed(self.failures >= self._limits.auth_failures)

    def entered(self, entry: Entry) -> None:
        """The client is in: write it to the log."""
        master = {"master": entry.login.address} if entry.login.acting else {}
        log.event("login", protocol=self._protocol, account=entry.record.address, peer=self._peer.host, **master)
