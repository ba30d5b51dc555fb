"""What the log and `fastmail trace` say of what MAIL, RCPT or DATA (RFC 5321 3.3) refused.

There is no message yet, so each refusal has an id of its own in the trace, and is found by the sender and by the
recipient: "why did her mail never come?" is mostly answered here. The log has each one. The trace has so many a minute
(`History.note_refusal`): guessed recipients shall not push the life of real messages out of it.
"""

from fastmail.delivery.envelope import Envelope
from fastmail.message import trace
from fastmail.smtp.dialogue import Dialogue
from fastmail.telemetry import log


def remember_all(session: Dialogue, envelope: Envelope, reply: str) -> None:
    """Note that DATA was refused: all recipients that were taken."""
    for address, _ in envelope.recipients:
        remember(session, envelope.sender, address, reply)


def remember(session: Dialogue, sender: str, recipient: str, reply: str) -> None:
    """Note a refusal. ``recipient``: empty for MAIL; ``reply``: the line that the client hears."""
    login = session.user.address if session.user is not None else ""
    log.event(
        "smtp.refused",
        sender=sender,
        recipient=recipient or None,
        peer=session.host,
        helo=session.hello,
        login=login or None,
        reply=reply,
    )
    history = session.service.deliverer.history
    if history is not None:
        history.note_refusal(
            trace.new_id(),
            (sender, recipient),
            sender=sender,
            recipients=[recipient] if recipient else [],
            helo=session.hello,
            peer=session.host,
            login=login,
            reply=reply,
        )
