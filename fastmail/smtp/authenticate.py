"""AUTH of the submission service (RFC 4954): SASL exchanges, and what becomes of a login."""

import time
from base64 import b64encode
from typing import TYPE_CHECKING

from fastmail.auth import sasl
from fastmail.auth.verifier import until_refusal
from fastmail.model.errors import KeptOut, LoginRefused, TemporaryError
from fastmail.telemetry import log

if TYPE_CHECKING:
    from fastmail.smtp.session import SmtpSession

LONGEST = 12288  # octets of AUTH with its initial response, and of a response (RFC 4954 4)


def allowed(session: "SmtpSession") -> bool:
    """May a password come over this connection?"""
    near = session.conn.local and session.host == session.conn.host
    plaintext = session.service.plaintext
    return session.conn.tls or plaintext is True or (plaintext == "loopback" and near)


def begin(session: "SmtpSession", rest: bytes, mail: bool) -> None:
    """The command; ``mail``: a transaction is under way."""
    words = rest.split()
    verifier = session.service.verifier
    if session.user is not None:
        session.bad("503 5.5.1 logged in already")
    elif mail:
        session.bad("503 5.5.1 not inside a mail transaction")
    elif not allowed(session):
        session.bad("538 5.7.11 TLS is needed first: STARTTLS")
    elif not 1 <= len(words) <= 2:
        session.bad("501 5.5.4 AUTH mechanism [initial response] is expected")
    elif (mechanism := verifier.begin(_name(words[0]), session.conn, session.host)) is None:
        known = ", ".join(verifier.mechanisms(session.conn))
        session.bad(f"504 5.5.4 mechanism is not known; known are {known}")
    else:
        session.sasl = mechanism
        _step(session, words[1] if len(words) == 2 else None)


def _name(word: bytes) -> str:
    return word.decode("ascii", "replace").upper()


def line(session: "SmtpSession", text: bytes) -> None:
    """A line of the exchange."""
    text = text.rstrip(b"\r\n")
    # It came whole, so nothing of it was passed over; what is longer still is refused by sasl.decode.
    if LONGEST < len(text) <= sasl.MAX_RESPONSE:
        session.sasl = None
        session.bad("500 5.5.6 line of the login is too long")
        return
    if text == b"*":
        session.sasl = None
        session.bad("501 5.7.0 login cancelled")
        return
    _step(session, text)


def _step(session: "SmtpSession", text: bytes | None) -> None:
    try:
        answer = session.sasl.step(None if text is None else sasl.decode(text))
    except sasl.SaslError as error:
        session.sasl = None
        session.bad(f"501 5.5.2 {error}")
        return
    if isinstance(answer, bytes):
        session.conn.write(b"334 " + b64encode(answer) + b"\r\n")
        return
    session.sasl = None
    session.conn.run(_login(session, answer))


async def _login(session: "SmtpSession", claim: sasl.Claim) -> None:
    limits, begun = session.service.limits, time.monotonic()
    try:
        entry = await session.service.verifier.admit(claim, session.host, "smtp")
    except LoginRefused as error:
        session.say(f"525 5.7.13 {error}")
        return
    except KeptOut as error:
        session.say(f"421 4.7.0 {session.service.hostname} {error}")
        session.conn.close()
        return
    except TemporaryError:
        session.say("454 4.7.0 logins cannot be checked now, try again later")
        return
    if entry is None:
        if not isinstance(claim, sasl.Spent):
            session.failures += 1
            session.blame(1, "failed logins")
            log.event("login.failed", "warning", protocol="submission", login=claim.login, peer=session.host)
            await until_refusal(begun, limits.auth_failure_delay)
        if isinstance(claim, sasl.Token) and session.failures < limits.auth_failures:
            session.sasl = claim.mechanism  # told why, before the exchange fails (RFC 7628 3.2.3)
            session.conn.write(b"334 " + b64encode(claim.mechanism.refusal) + b"\r\n")
            return
        session.say("535 5.7.8 login failed")
        if session.failures >= limits.auth_failures:
            session.say("421 4.7.0 too many failed logins")
            session.conn.close()
        return
    session.user, session.login = entry.record, entry.login
    log.event("login", protocol="submission", account=entry.record.address, peer=session.host)
    session.say("235 2.7.0 logged in")
