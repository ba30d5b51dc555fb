"""The content of a message that has come, shown to those who look at it: of strangers as a part of their message's
verdict (policy.receive), of users by itself. The reply is that of the end of the data (RFC 5321 4.2.5).

What scanners are shown has a Received field in front, as a mailbox would have it: some of them read from it who the
client is. Users' mail is either sent or refused: nothing of it goes into a Junk mailbox.
"""

from collections.abc import Sequence

from fastmail.delivery.deliver import Envelope, Outcome
from fastmail.message import trace
from fastmail.message.header import Octets
from fastmail.policy import marks, verdict
from fastmail.policy.learning.counts import EVERYBODY
from fastmail.policy.reasons import Finding
from fastmail.policy.receive import Look
from fastmail.policy.scanners.nouns import STRANGERS, USERS, Shown
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP


def of_stranger(session: Dialogue, envelope: Envelope, content: Octets) -> Look | None:
    """How those who look at strangers' mail are asked about this message; None where nobody does."""
    judge = session.service.judge
    if judge is None or not judge.wanted(STRANGERS):
        return None

    async def look(field: bytes, verified: str) -> Sequence[Finding]:
        seen = shown(session, envelope, content, field, verified)
        return await judge.look(STRANGERS, seen, owner(envelope))

    return look


async def of_user(session: Dialogue, envelope: Envelope, content: Octets) -> Outcome | None:
    """The reply that refuses a user's message, or None. What was said of it is in the envelope's trace."""
    judge = session.service.judge
    trusted = session.service.kind != LMTP and (session.user is not None or session.may_relay())
    if judge is None or not trusted or not judge.wanted(USERS):
        return None
    findings = await judge.look(USERS, shown(session, envelope, content))
    decided = verdict.decide(verdict.Checks(findings=findings), judge.thresholds)
    envelope.filters = f"{marks.words(findings)}: {decided.action} {decided.score:g}"
    action, reply = decided.action, decided.reply
    if not judge.enforce:
        action, reply = decided.always, decided.always_reply
    return Outcome(*reply) if action in (verdict.REFUSE, verdict.LATER) else None


def owner(envelope: Envelope) -> int:
    """The number of the one account that the message is for; 0 where there are several, or none."""
    accounts = {record.id for _, records in envelope.recipients for record in records}
    return accounts.pop() if len(accounts) == 1 else EVERYBODY


def shown(session: Dialogue, envelope: Envelope, content: Octets, field: bytes = b"", host: str = "") -> Shown:
    """The message as scanners are shown it, behind ``field``. ``host``: the client's verified name."""
    hostname, number = session.service.hostname, trace.new_id()
    recipients = [address for address, _ in envelope.recipients]
    single = recipients[0] if len(recipients) == 1 else ""
    received = trace.received(envelope.helo, envelope.peer, hostname, envelope.protocol, number, single, host=host)
    return Shown(
        content,
        trace.return_path(envelope.sender) + received + field,
        envelope.sender,
        recipients,
        envelope.peer if envelope.peer != "local" else "",
        envelope.helo,
        host,
        envelope.login,
        number,
        hostname,
    )
