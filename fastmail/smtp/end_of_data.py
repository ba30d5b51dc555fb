"""The end of a message's content: what becomes of the message, and the reply (RFC 5321 4.2.5, RFC 2033 4.2).

smtp.content calls ``begin`` when the last octet has come; smtp.accept delivers the message or queues it. Promise: the
client gets 250 after the message is durable in every mailbox that it is for, or in the queue.

A client that hangs up meanwhile changes nothing about its message: what judges it, and the filters, stay until it is
decided. Otherwise it could hang up at the right moment to have a message delivered that nobody has looked at.
"""

import asyncio
from collections.abc import Sequence

from fastmail.delivery.envelope import Envelope, Outcome, worst
from fastmail.durable.staging import Staged
from fastmail.message.header import Octets
from fastmail.message.recode import without_binary
from fastmail.model.errors import ClientError, StorageFull
from fastmail.smtp import accept, strangers
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.envelope import printable
from fastmail.smtp.service import LMTP
from fastmail.smtp.transaction import DECIDING, Transaction
from fastmail.smtp.unheard import transaction_of
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

REFUSALS = {  # by Transaction.fault
    "full": "552 5.3.4 message is too big",
    "bare": "550 5.6.11 bare CR or LF in the message; lines end in CRLF",
    "nul": "550 5.6.0 NUL in the message",
}
NO_ROOM = Outcome(452, "4.3.1", "not enough storage, try again later")
OUR_ERROR = Outcome(451, "4.3.0", "local error, try again later")


def begin(session: Dialogue, transaction: Transaction) -> None:
    """Have a complete message decided. Where nobody is asked about it, that waits once, for the store: no task then."""
    transaction.state = DECIDING
    run = session.conn.run_brief if accept.asks_nobody(session) else session.conn.run
    run(decide(session, transaction))


async def decide(session: Dialogue, transaction: Transaction) -> None:
    """Decide, deliver, and reply: one reply, or for LMTP one for each recipient (RFC 2033 4.2)."""
    if session.transaction is not transaction:
        return  # the client is gone, and its content with it: nothing was decided
    session.deciding = True
    try:
        fault = transaction.fault()
        if fault:
            refuse(session, transaction, fault)
            return
        outcomes = await _outcomes(session, transaction)
        if outcomes is not None:
            _reply(session, transaction.envelope, outcomes)
            session.end_transaction()
    finally:
        session.deciding = False
        if session.gone:
            release(session)


def release(session: Dialogue) -> None:
    """The client is gone, and nothing of it is being decided: let go of all that the session has."""
    session.end_transaction()
    strangers.leaves(session)
    if session.filters is not None:
        session.filters.close()
        session.filters = None


async def _outcomes(session: Dialogue, transaction: Transaction) -> Sequence[Outcome] | None:
    """Return an Outcome for each recipient; None if nothing was decided, because the client is gone or has its reply.
    If the message was decided before and the client did not hear the reply, the outcomes are the earlier ones."""
    envelope, unheard = transaction.envelope, session.service.unheard
    try:
        staged = transaction.staged
        if transaction.no_room:
            return [NO_ROOM] * len(envelope.recipients)
        assert staged is not None
        if staged.spilled or transaction.binary:
            found = await _content(session, transaction, staged)
            if found is None:
                return None
            content = found
        else:
            content = staged.content()
        known_by, outcomes = b"", None
        if unheard.any or session.filters is not None:  # filters may change the envelope
            known_by = transaction_of(envelope)
            outcomes = await unheard.find(known_by, content)
        if outcomes is None:
            outcomes = await accept.take(session, envelope, content)
        if session.conn.transport is None or session.conn.closing:
            await unheard.remember(known_by or transaction_of(envelope), content, outcomes)
    except (StorageFull, OSError) as error:
        log.event("smtp.staging", "error", error=error)
        outcomes = [NO_ROOM] * len(envelope.recipients)
    except ClientError as error:
        log.event("smtp.deliver", "warning", error=error)
        outcomes = [OUR_ERROR] * len(envelope.recipients)
    return outcomes


async def _content(session: Dialogue, transaction: Transaction, staged: Staged) -> Octets | None:
    """Return content that is not as it lies in memory; None if the client is gone or has its reply."""
    if staged.spilled:
        await staged.spill()
        if session.gone:
            return None  # nothing was decided yet
    content = staged.content()
    if transaction.binary:
        content = await asyncio.get_running_loop().run_in_executor(None, without_binary, bytes(content))
        if b"\0" in content:
            refuse(session, transaction, "nul")
            return None
    return content


def _reply(session: Dialogue, envelope: Envelope, outcomes: Sequence[Outcome]) -> None:
    count(f"{session.service.kind}.messages")
    if session.service.kind == LMTP:
        for at, (address, _) in enumerate(envelope.recipients):
            outcome = outcomes[at]
            session.say(f"{outcome.code} {outcome.enhanced} <{printable(address)}> {outcome.text}")
    else:
        outcome = worst(outcomes)
        session.say(f"{outcome.code} {outcome.enhanced} {outcome.text}")


def refuse(session: Dialogue, transaction: Transaction, why: str) -> None:
    """Refuse the content for a reason of REFUSALS. By LMTP, complete content has one reply for each recipient."""
    complete = transaction.state is DECIDING
    times = len(transaction.envelope.recipients) if session.service.kind == LMTP and complete else 1
    count("smtp.refused")
    session.end_transaction()
    for _ in range(times):
        session.refuse(REFUSALS[why])
