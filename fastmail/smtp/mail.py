"""MAIL (RFC 5321 4.1.1.2): a mail transaction begins. Its parameters are read by smtp.envelope."""

from functools import cache

from msgspec.structs import replace

from fastmail.delivery.envelope import Envelope
from fastmail.message import trace
from fastmail.model.esmtp import NO_OPTIONS, EsmtpOptions
from fastmail.net.networks import address_in, is_here
from fastmail.smtp import envelope as grammar
from fastmail.smtp import own_limits, refusals, strangers
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.senders import barred, may
from fastmail.smtp.service import LMTP, MX, SUBMISSION
from fastmail.smtp.transaction import Own, Transaction

OK = b"250 2.1.0 sender ok\r\n"


def mail(session: Dialogue, rest: bytes) -> None:
    """The command."""
    service = session.service
    if service.kind == SUBMISSION and session.user is None:
        hint = "STARTTLS, then AUTH" if not session.conn.tls and session.conn.tls_available else "AUTH"
        session.bad(f"530 5.7.0 login needed: {hint}")
        return
    try:
        sender, options = grammar.mail(rest, service.limits.message_size)
    except grammar.Refused as refusal:
        session.refuse(str(refusal))
        return
    own = own_limits.of(session)
    # most clients have no login, and give no parameters: then there is nothing to ask
    plain = own is None and options is NO_OPTIONS
    refused = "" if plain else _refusal(session, sender, options)
    if not refused and service.kind != LMTP:  # whose clients send nothing elsewhere
        refused = own_limits.refusal(session, own, options.size)
    if not refused and session.stranger is not None:
        refused = strangers.mail_refusal(session, sender)
    if refused:
        refusals.remember(session, sender, "", refused)
        session.refuse(refused)
        return
    lowered = options.priority > 0 and not session.may_relay()
    if lowered:
        options = replace(options, priority=0)
    envelope = Envelope(
        sender=sender,
        options=options,
        login=session.user.address if session.user is not None else "",
        helo=session.hello,
        peer=session.host,
        protocol=_protocol(
            session.service.kind, session.extended, options.utf8, session.conn.tls, session.user is not None
        ),
        tls=_cipher(session) if session.conn.tls else "",
    )
    if session.filters is None:
        _begin(session, envelope, lowered, own)
        return
    words = rest.rpartition(b">")[2].split()
    question = session.filters.mail(trace.new_id(), envelope, words)

    def begin() -> None:
        _begin(session, envelope, lowered, own)

    def refuse(reply: str) -> None:
        refusals.remember(session, sender, "", reply)
        session.end_transaction()

    session.conn.run(session.consult(question, begin, refuse))


def _refusal(session: Dialogue, sender: str, options: EsmtpOptions) -> str:
    """The reply to parameters, or to a sender, that this client may not give here; empty when it may."""
    service = session.service
    if options.release and (service.kind != SUBMISSION or service.outbound is None):
        return "555 5.5.4 parameter HOLDFOR or HOLDUNTIL is for users, on the submission ports"
    if options.require_tls and not session.conn.tls:
        return "530 5.7.30 REQUIRETLS needs TLS on this connection too"
    directory = service.deliverer.directory
    if session.user is not None and sender and not may(directory, service.senders, session.user, sender):
        return "553 5.7.1 sender address does not belong to this login"
    if session.user is not None and session.login is not None:
        why = barred(directory, session.user, session.login.revision)
        if why:
            return f"550 5.7.1 {why}"
    if (options.by or options.priority) and (service.kind == LMTP or service.outbound is None):
        return "555 5.5.4 parameters BY and MT-PRIORITY are not known here"
    return ""


def _begin(session: Dialogue, envelope: Envelope, lowered: bool, own: Own | None) -> None:
    session.transaction = Transaction(envelope)
    if own is not None:
        session.transaction.own, session.transaction.most = own, own_limits.most(session, own)
    policy = session.service.policy if session.service.kind == MX else None
    if policy is not None and not is_here(session.host) and not session.may_relay() and not _exempt(session):
        session.transaction.receiving = receiving = policy.begin(session.host, session.hello)
        receiving.mail_from(envelope.sender)
        for name, why in strangers.reasons(session).items():
            receiving.note(name, why)
    if lowered:
        session.say("250 2.3.6 0 is the priority of this message: a higher one is for users")
    else:
        session.conn.write(OK)


def _exempt(session: Dialogue) -> bool:
    return any(address_in(session.host, network) for network in session.service.exempt)


@cache
def _protocol(kind: str, extended: bool, utf8: bool, tls: bool, login: bool) -> str:
    """The protocol as Received fields name it (RFC 5321 4.4, RFC 3848, RFC 6531 4.3). After HELO there is no word that
    also tells of TLS or a login."""
    if not extended and not utf8:
        return "SMTP"
    word = "LMTP" if kind == LMTP else "SMTP" if utf8 else "ESMTP"
    word = "UTF8" + word if utf8 else word
    return word + ("S" if tls else "") + ("A" if login else "")


def _cipher(session: Dialogue) -> str:
    """Version and cipher of the connection's TLS, for the trace; empty where the transport cannot say it."""
    cipher = session.conn.transport.get_extra_info("cipher")
    return f"{cipher[1]} {cipher[0]}" if cipher else ""
