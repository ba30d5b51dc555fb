"""EHLO, HELO and LHLO (RFC 5321 4.1.1.1, RFC 2033 4.1): the client gives its name, and this server lists its
extensions.
"""

from collections.abc import Callable

from fastmail.smtp import authenticate, own_limits, xclient
from fastmail.smtp import envelope as grammar
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP, SUBMISSION

LONGEST = 255  # octets of a host name
EXTENSIONS = (
    *(b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"BINARYMIME"),
    *(b"ENHANCEDSTATUSCODES", b"DSN", b"HELP"),
)
LMTP_EXTENSIONS = tuple(one for one in EXTENSIONS if one != b"DSN")  # the host in front makes the reports


def ehlo(session: Dialogue, rest: bytes) -> None:
    """EHLO, and LMTP's LHLO."""
    if _take_name(session, rest):
        session.extended = True
        _ask_filters(session, lambda: _offer(session))


def helo(session: Dialogue, rest: bytes) -> None:
    """HELO: no extension is offered."""
    if _take_name(session, rest):
        session.extended = False
        _ask_filters(session, lambda: session.say(f"250 {session.service.hostname}"))


def _take_name(session: Dialogue, rest: bytes) -> bool:
    """Note the client's name, and end its mail transaction. False after an error reply."""
    name = rest.strip()
    if not name or any(c < 33 or c == 127 for c in name) or len(name) > LONGEST:
        session.bad("501 5.5.4 a host name or address literal is expected")
        return False
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        session.bad("501 5.5.4 the host name is not UTF-8")
        return False
    session.end_transaction()
    session.hello = text
    return True


def _ask_filters(session: Dialogue, then: Callable[[], None]) -> None:
    if session.filters is None:
        then()
        return

    def forget(_: str) -> None:
        session.hello = ""

    cipher = session.conn.transport.get_extra_info("cipher") if session.conn.tls else None
    session.conn.run(session.consult(session.filters.hello(session.hello, cipher or ()), then, forget))


def _offer(session: Dialogue) -> None:
    """Return the extensions that this server offers to this client now."""
    service, conn = session.service, session.conn
    lines = [service.hostname.encode(), *(LMTP_EXTENSIONS if service.kind == LMTP else EXTENSIONS)]
    lines += [b"SIZE %d" % (own_limits.most(session, own_limits.of(session)) or service.limits.message_size)]
    if service.outbound is not None and service.kind == SUBMISSION:
        lines.append(b"FUTURERELEASE %d %b" % (grammar.MOST_HELD, grammar.latest()))
    if service.outbound is not None and service.kind != LMTP and conn.tls:
        lines.append(b"REQUIRETLS")
    if service.outbound is not None and service.kind != LMTP:
        lines += [b"DELIVERBY", b"MT-PRIORITY"]
    lines.append(b"LIMITS RCPTMAX=%d" % service.limits.recipients)
    if conn.tls_available and not conn.tls:
        lines.append(b"STARTTLS")
    if service.kind == SUBMISSION and authenticate.allowed(session):
        lines.append(b"AUTH " + " ".join(service.verifier.mechanisms(conn)).encode())
    if service.kind == SUBMISSION and service.resolve_url is not None:
        lines.append(b"BURL imap" if session.user is not None else b"BURL")
    if xclient.allowed(session):
        lines.append(xclient.OFFER)
    conn.write(b"".join(b"250-%s\r\n" % x for x in lines[:-1]) + b"250 %s\r\n" % lines[-1])
