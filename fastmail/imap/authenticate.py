"""LOGIN and AUTHENTICATE (RFC 3501 6.2.2, 6.2.3, SASL-IR RFC 4959), UNAUTHENTICATE (RFC 8437).

Promise: every failed login gets the same text (RFC 5530 AUTHENTICATIONFAILED) after the same time. On a connection that
is not private the password is not even asked for. Every login goes through ``enter``. The SASL dialogue and the check
are in auth.login.
"""

from fastmail._core.imap import Reader
from fastmail.auth import login as logins
from fastmail.auth import sasl
from fastmail.auth.verifier import Entry
from fastmail.imap.capabilities import capabilities, may_login
from fastmail.imap.command import Command, Work
from fastmail.telemetry.counters import count


def unauthenticate(command: Command) -> Work:
    """RFC 8437: return to the state before login; TLS and compression stay on."""
    session = command.session
    command.reader.end()
    session.leave()
    session.record = session.account = session.login = None
    session.condstore = session.qresync = session.rev2 = session.utf8 = session.uidonly = False
    session.errors = 0  # those of before were counted by another limit: the next one would end the session
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
    return enter(command, claim)


def authenticate(command: Command) -> Work:
    """RFC 3501 6.2.2 with the initial response of RFC 4959."""
    session, reader = command.session, command.reader
    reader.sp()
    name = reader.atom()
    initial = None
    if reader.more():
        initial = b"=" if reader.skip(b"=") else reader.astring() if reader.peek() == 34 else _rest(reader)
    reader.end()
    if not session.logging_in.begin(name):
        command.answer(b"NO [CANNOT] " + session.logging_in.unknown.encode())
        return None
    if not may_login(session):
        session.logging_in.abandon()
        command.answer(b"NO [PRIVACYREQUIRED] TLS is needed first: STARTTLS")
        return None
    try:
        return _go_on(command, session.logging_in.answer(initial))
    except sasl.SaslError as error:
        command.bad(str(error))
        return None


def _rest(reader: Reader) -> bytes:
    out = bytearray()
    while reader.peek() not in (-1, 32):
        out.append(reader.peek())
        reader.pos += 1
    return bytes(out)


class Exchange:
    """A SASL exchange under way: it gets the lines that the client sends instead of commands."""

    __slots__ = ("_command", "tag")

    def __init__(self, command: Command) -> None:
        self._command = command
        self.tag = command.tag

    def line(self, line: bytes) -> None:
        """Take one response of the client."""
        session = self._command.session
        session.sasl = None
        try:
            work = _go_on(self._command, session.logging_in.line(line))
        except sasl.SaslError as error:
            self._command.bad(str(error))
            return
        if work is not None:
            session.conn.run(work)

    def abandon(self) -> None:
        """End the exchange without an answer."""
        self._command.session.sasl = None
        self._command.session.logging_in.abandon()


def _go_on(command: Command, answer: bytes | sasl.Claim) -> Work:
    """Send the next challenge (base64), or check the claim."""
    if isinstance(answer, bytes):
        _challenge(command, answer)
        return None
    return enter(command, answer)


def _challenge(command: Command, challenge: bytes) -> None:
    command.session.sasl = Exchange(command)
    command.session.conn.write(b"+ " + challenge + b"\r\n")


async def enter(command: Command, claim: sasl.Claim) -> None:
    """Check a login and open the account (response codes: RFC 5530 3)."""
    session, service = command.session, command.session.service

    async def open_account(entry: Entry) -> None:
        await service.store.open(service.account(entry.record))

    match await session.logging_in.attempt(claim, open_account):
        case Entry(record, standing) as entry:
            session.record, session.account, session.login = record, service.account(record), standing
            session.conn.touch(service.limits.idle_timeout)
            count("imap.logins")
            session.logging_in.entered(entry)
            command.answer(b"OK [CAPABILITY " + capabilities(session) + b"] logged in")
        case logins.Denied(why):
            command.answer(b"NO [AUTHORIZATIONFAILED] " + why.encode())
        case logins.Banned(why):
            session.conn.write(b"* BYE " + why.encode() + b"\r\n")
            command.answer(b"NO [UNAVAILABLE] " + why.encode())
            session.conn.close()
        case logins.NotNow():
            command.answer(b"NO [UNAVAILABLE] " + logins.NOT_NOW.encode())
        case logins.Again(challenge):
            _challenge(command, challenge)
        case logins.Failed(last):
            command.answer(b"NO [AUTHENTICATIONFAILED] login failed")
            if last:
                session.conn.write(b"* BYE too many failed logins\r\n")
                session.conn.close()
