"""AUTH of the submission service (RFC 4954): the exchange in lines and replies of SMTP; auth.login does the rest."""

from fastmail.auth import login, sasl
from fastmail.auth.verifier import Entry
from fastmail.smtp.dialogue import Dialogue

LONGEST = 12288  # octets of AUTH with its initial response, and of a response (RFC 4954 4)


def allowed(session: Dialogue) -> bool:
    """True if a password may come over this connection."""
    conn = session.conn
    return login.allowed(conn.tls, conn.local and session.host == conn.host, session.service.plaintext)


def auth(session: Dialogue, rest: bytes) -> None:
    """The command (RFC 4954 4)."""
    words = rest.split()
    if session.user is not None:
        session.bad("503 5.5.1 logged in already")
    elif not allowed(session):
        session.bad("538 5.7.11 TLS is needed first: STARTTLS")
    elif not 1 <= len(words) <= 2:
        session.bad("501 5.5.4 AUTH mechanism [initial response] is expected")
    elif not session.logging_in.begin(words[0]):
        session.bad(f"504 5.5.4 {session.logging_in.unknown}")
    else:
        try:
            _go_on(session, session.logging_in.answer(words[1] if len(words) == 2 else None))
        except sasl.SaslError as error:
            session.bad(f"501 5.5.2 {error}")


def in_transaction(session: Dialogue, rest: bytes) -> None:
    """AUTH within a mail transaction."""
    session.bad(
        "503 5.5.1 logged in already" if session.user is not None else "503 5.5.1 not inside a mail transaction"
    )


def line(session: Dialogue, text: bytes) -> None:
    """A line of the exchange."""
    text = text.rstrip(b"\r\n")
    # It came whole, so nothing of it was passed over; what is longer still is refused by sasl.decode.
    if LONGEST < len(text) <= sasl.MAX_RESPONSE:
        session.logging_in.abandon()
        session.bad("500 5.5.6 line of the login is too long")
        return
    try:
        _go_on(session, session.logging_in.line(text))
    except login.Cancelled as error:
        session.bad(f"501 5.7.0 {error}")
    except sasl.SaslError as error:
        session.bad(f"501 5.5.2 {error}")


def _go_on(session: Dialogue, answer: bytes | sasl.Claim) -> None:
    if isinstance(answer, bytes):
        session.conn.write(b"334 " + answer + b"\r\n")
    else:
        session.conn.run(_check(session, answer))


async def _check(session: Dialogue, claim: sasl.Claim) -> None:
    match await session.logging_in.attempt(claim):
        case Entry(record, standing) as entry:
            session.user, session.login = record, standing
            session.logging_in.entered(entry)
            session.say("235 2.7.0 logged in")
        case login.Denied(why):
            session.say(f"525 5.7.13 {why}")
        case login.Banned(why):
            session.say(f"421 4.7.0 {session.service.hostname} {why}")
            session.conn.close()
        case login.NotNow():
            session.say(f"454 4.7.0 {login.NOT_NOW}")
        case login.Again(challenge):
            session.conn.write(b"334 " + challenge + b"\r\n")
        case login.Failed(last):
            session.say("535 5.7.8 login failed")
            if last:
                session.say("421 4.7.0 too many failed logins")
                session.conn.close()
