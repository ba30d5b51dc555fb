"""Commands that change little: RSET, NOOP, QUIT, VRFY (RFC 5321 4.1.1.5, 4.1.1.9, 4.1.1.10, 3.5.3) and STARTTLS (RFC
3207)."""

from fastmail.smtp import envelope as grammar
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP


def no_hello(session: Dialogue, rest: bytes) -> None:
    """A command that comes before EHLO."""
    session.bad("503 5.5.1 say LHLO first" if session.service.kind == LMTP else "503 5.5.1 say EHLO first")


def rset(session: Dialogue, rest: bytes) -> None:
    """RFC 5321 4.1.1.5."""
    session.end_transaction()
    session.say("250 2.0.0 ok")


def noop(session: Dialogue, rest: bytes) -> None:
    """RFC 5321 4.1.1.9."""
    session.say("250 2.0.0 ok")


def quit_(session: Dialogue, rest: bytes) -> None:
    """RFC 5321 4.1.1.10."""
    session.say(f"221 2.0.0 {session.service.hostname} closing")
    session.conn.close()


def vrfy(session: Dialogue, rest: bytes) -> None:
    """RFC 5321 3.5.3: the reply never tells whether an address exists."""
    try:
        grammar.vrfy(rest)
    except grammar.Refused as refusal:
        session.bad(str(refusal))
        return
    session.say("252 2.0.0 send mail to find out")  # 2.1.5 would say that the address is valid


def starttls(session: Dialogue, rest: bytes) -> None:
    """RFC 3207 4."""
    trouble = _no_tls(session)
    if trouble:
        session.bad(trouble)
        return
    session.say("220 2.0.0 start TLS now")
    session.conn.start_tls()


def starttls_in_transaction(session: Dialogue, rest: bytes) -> None:
    """STARTTLS within a mail transaction."""
    session.bad(_no_tls(session) or "503 5.5.1 not inside a mail transaction")


def _no_tls(session: Dialogue) -> str:
    """Why there can be no TLS handshake on this connection; empty when there can."""
    if session.conn.tls:
        return "503 5.5.1 TLS is on already"
    return "" if session.conn.tls_available else "502 5.5.1 TLS is not available"
