"""LOGIN and AUTHENTICATE (RFC 3501 6.2.2, 6.2.3, SASL-IR RFC 4959), UNAUTHENTICATE (RFC 8437).

Promise: one text for every login that fails (RFC 5530 AUTHENTICATIONFAILED), after the same time; the password is not
asked for where the connection is not private. ``enter`` is the one way in.
"""

import time
from base64 import b64encode

from fastmail._core.imap import Reader
from fastmail.auth import sasl
from fastmail.auth.verifier import until_refusal
from fastmail.imap.capabilities import capabilities, may_login
from fastmail.imap.command import Command, Work
from fastmail.model.errors import KeptOut, LoginRefused, TemporaryError
from fastmail.telemetry import log
from fastmail.telemetry.counters import count


def unauthenticate(command: Command) -> Work:
    """RFC 8437: back to the state before login; TLS and compression stay."""
    session = command.session
    command.reader.end()
    session.leave()
    session.record = session.account = session.login = None
    session.condstore = session.qresync = session.rev2 = session.utf8 = session.uidonly = False
    session.conn.touch(session.service.limits.login_timeout, fixed=True)
    command.answer(b"OK UNAUTHENTICATE completed")
    return None


def login(command: Command) -> Work:
    """RFC 3501 6.2.3."""
    session, reader = command.session, command.reader
    reader.sp()
    name = reader.astring()
    reader.sp()
    password = reader.astring()
    reader.end()
    if not may_login(session):
        command.answer(b"NO [PRIVACYREQUIRED] TLS is needed first: STARTTLS")
        return None
    try:
        claim = sasl.Credentials(sasl.login_name(name), password)
    except sasl.SaslError as error:
        command.bad(str(error))
        return None
    return _login(command, claim)


async def _login(command: Command, claim: sasl.Credentials) -> None:
    await enter(command, claim)


def authenticate(command: Command) -> Work:
    """RFC 3501 6.2.2 with the initial response of RFC 4959."""
    session, reader = command.session, command.reader
    reader.sp()
    name = reader.atom().upper().decode("ascii", "replace")
    initial = None
    if reader.more():
        initial = b"=" if reader.skip(b"=") else reader.astring() if reader.peek() == 34 else _rest(reader)
    reader.end()
    verifier = session.service.verifier
    mechanism = verifier.begin(name, session.conn)
    if mechanism is None:
        known = ", ".join(verifier.mechanisms(session.conn)).encode()
        command.answer(b"NO [CANNOT] mechanism is not known; known are " + known)
        return None
    if not may_login(session):
        command.answer(b"NO [PRIVACYREQUIRED] TLS is needed first: STARTTLS")
        return None
    return Exchange(command, mechanism).step(initial)


def _rest(reader: Reader) -> bytes:
    out = bytearray()
    while reader.peek() not in (-1, 32):
        out.append(reader.peek())
        reader.pos += 1
    return bytes(out)


class Exchange:
    """A SASL exchange under way: it takes the lines that the client sends in place of commands."""

    __slots__ = ("_command", "_mechanism", "_session", "tag")

    def __init__(self, command: Command, mechanism: sasl.Mechanism) -> None:
        self._command = command
        self._session = command.session
        self._mechanism = mechanism
        self.tag = command.tag

    def line(self, line: bytes) -> None:
        """One response from the client."""
        self._session.sasl = None
        if line == b"*":
            self._command.bad("login cancelled")
            return
        work = self.step(line)
        if work is not None:
            self._session.conn.run(work)

    def step(self, line: bytes | None) -> Work:
        """The mechanism's answer to a response, or to None at the start."""
        try:
            answer = self._mechanism.step(None if line is None else sasl.decode(line))
        except sasl.SaslError as error:
            self._command.bad(str(error))
            return None
        if isinstance(answer, bytes):
            self._challenge(answer)
            return None
        return self._enter(answer)

    def _challenge(self, octets: bytes) -> None:
        self._session.sasl = self
        self._session.conn.write(b"+ " + b64encode(octets) + b"\r\n")

    async def _enter(self, claim: sasl.Claim) -> None:
        """A token that is refused is told why before the exchange fails (RFC 7628 3.2.3)."""
        if not await enter(self._command, claim) and isinstance(claim, sasl.Token):
            self._challenge(claim.mechanism.refusal)


async def enter(command: Command, claim: sasl.Claim) -> bool:
    """Check a login and open the account; one text for every failure (RFC 5530 AUTHENTICATIONFAILED). False when that
    is still to be said, of a token."""
    session = command.session
    service, begun = session.service, time.monotonic()
    try:
        entry = await service.verifier.admit(claim, session.conn.host, "imap")
    except LoginRefused as error:  # RFC 5530 3
        command.answer(b"NO [AUTHORIZATIONFAILED] " + str(error).encode())
        return True
    except KeptOut as error:
        said = str(error).encode()
        session.conn.write(b"* BYE " + said + b"\r\n" + command.tag + b" NO [UNAVAILABLE] " + said + b"\r\n")
        session.conn.close()
        return True
    except TemporaryError:
        command.answer(b"NO [UNAVAILABLE] logins cannot be checked now, try again later")
        return True
    account = service.account(entry.record) if entry is not None else None
    if account is not None and entry is not None:
        await service.store.open(account)
        if service.verifier.ended(entry.login):  # meanwhile
            entry = None
    if account is None or entry is None:
        if not isinstance(claim, sasl.Spent):
            session.failures += 1
            session.conn.blame(1, "failed logins")
            log.event("login.failed", "warning", protocol="imap", login=claim.login, peer=session.conn.host)
            await until_refusal(begun, service.limits.auth_failure_delay)
        if isinstance(claim, sasl.Token) and session.failures < service.limits.auth_failures:
            return False
        command.answer(b"NO [AUTHENTICATIONFAILED] login failed")
        if session.failures >= service.limits.auth_failures:
            session.conn.write(b"* BYE too many failed logins\r\n")
            session.conn.close()
        return True
    session.record, session.account, session.login = entry.record, account, entry.login
    session.conn.touch(service.limits.idle_timeout)
    count("imap.logins")
    log.event("login", protocol="imap", account=account.address, peer=session.conn.host)
    command.answer(b"OK [CAPABILITY " + capabilities(session) + b"] logged in")
    return True
