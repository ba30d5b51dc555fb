"""Has scanners judge the content of a message: mail from others as a part of its verdict (policy.receive), mail of
users by itself.

The reply is the one to the end of the data (RFC 5321 4.2.5). Scanners get the message with a Received field in front,
as a mailbox would have it, because some of them read the client's address there. Mail of users is either sent or
refused; it never goes into a Junk mailbox.
"""

from collections.abc import Sequence

from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.directory.interface import AccountRecord
from fastmail.message import trace
from fastmail.message.header import Octets
from fastmail.policy import marks, verdict
from fastmail.policy.learning.counts import EVERYBODY
from fastmail.policy.reasons import Finding
from fastmail.policy.received import Look
from fastmail.policy.scanners.nouns import STRANGERS, USERS, Shown
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.service import LMTP


def of_stranger(session: Dialogue, envelope: Envelope, content: Octets) -> Look | None:
    """Return how scanners of mail from others are asked about this message; None if there are none."""
    judge = session.service.judge
    if judge is None or not judge.wanted(STRANGERS):
        return None

    async def look(field: bytes, verified: str) -> Sequence[Finding]:
        mine = only(envelope)
        seen = shown(session, envelope, content, field, verified, mine)
        return await judge.look(STRANGERS, seen, mine.id if mine is not None else EVERYBODY)

    return look


async def of_user(session: Dialogue, envelope: Envelope, content: Octets) -> Outcome | None:
    """Return the reply that refuses a user's message, or None. The reasons are in the envelope's trace."""
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


def only(envelope: Envelope) -> AccountRecord | None:
    """Return the only account that the message is for; None if there are several, or none."""
    accounts = {record.id: record for _, records in envelope.recipients for record in records}
    return accounts.popitem()[1] if len(accounts) == 1 else None


def shown(
    session: Dialogue,
    envelope: Envelope,
    content: Octets,
    field: bytes = b"",
    host: str = "",
    owner: AccountRecord | None = None,
) -> Shown:
    """Return the message as scanners get it, after ``field``. ``host``: the client's verified name; ``owner``: the only
    account that it is for."""
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
        owner.address if owner is not None else "",
    )
