"""The end of a message's content: what becomes of the message, and the reply (RFC 5321 4.2.5, RFC 2033 4.2).

smtp.content calls ``decide`` when the last octet has come; smtp.accept delivers the message or queues it. Promise: the
client gets 250 after the message is durable in every mailbox that it is for, or in the queue.

A client that hangs up meanwhile changes nothing about its message: what judges it, and the filters, stay until it is
decided. Otherwise it could hang up at the right moment to have a message delivered that nobody has looked at.
"""

import asyncio
from collections.abc import Sequence

from fastmail.delivery.envelope import Envelope, Outcome, worst
from fastmail.message.header import Octets
from fastmail.message.recode import without_binary
from fastmail.model.errors import ClientError, StorageFull
from fastmail.smtp import accept, strangers
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.envelope import printable
from fastmail.smtp.service import LMTP
from fastmail.smtp.transaction import State, Transaction
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


async def decide(session: Dialogue, transaction: Transaction) -> None:
    """Decide, deliver, and reply: one reply, or for LMTP one for each recipient (RFC 2033 4.2)."""
    session.deciding = True
    try:
        await _decide(session, transaction)
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


async def _decide(session: Dialogue, transaction: Transaction) -> None:
    if session.transaction is not transaction:
        return  # the client is gone, and its content with it: nothing was decided
    fault = transaction.fault()
    if fault:
        refuse(session, transaction, fault)
        return
    envelope = transaction.envelope
    outcomes: Sequence[Outcome] | None
    try:
        staged = transaction.staged
        if transaction.no_room:
            outcomes = [NO_ROOM] * len(envelope.recipients)
        elif staged is None or staged.spilled or transaction.binary:
            outcomes = await _decided(session, transaction)
        else:
            outcomes = await _unless_known(session, envelope, staged.content())
    except (StorageFull, OSError) as error:
        log.event("smtp.staging", "error", error=error)
        outcomes = [NO_ROOM] * len(envelope.recipients)
    except ClientError as error:
        log.event("smtp.deliver", "warning", error=error)
        outcomes = [OUR_ERROR] * len(envelope.recipients)
    if outcomes is None:
        return
    count(f"{session.service.kind}.messages")
    if session.service.kind == LMTP:
        for (address, _), outcome in zip(envelope.recipients, outcomes, strict=True):
            session.say(f"{outcome.code} {outcome.enhanced} <{printable(address)}> {outcome.text}")
    else:
        outcome = worst(outcomes)
        session.say(f"{outcome.code} {outcome.enhanced} {outcome.text}")
    session.end_transaction()


async def _decided(session: Dialogue, transaction: Transaction) -> Sequence[Outcome] | None:
    """Return an Outcome for each recipient, of content that is not as it lies in memory. None if nothing was decided,
    because the client is gone or has its reply."""
    staged = transaction.staged
    assert staged is not None
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
    return await _unless_known(session, transaction.envelope, content)


async def _unless_known(session: Dialogue, envelope: Envelope, content: Octets) -> Sequence[Outcome]:
    """Return the outcomes of the message. If it was decided before and the client did not hear the reply, these are the
    earlier ones."""
    unheard, known_by, outcomes = session.service.unheard, b"", None
    if unheard.any or session.filters is not None:  # filters may change the envelope
        known_by = transaction_of(envelope)
        outcomes = await unheard.find(known_by, content)
    if outcomes is None:
        outcomes = await accept.take(session, envelope, content)
    if session.conn.transport is None or session.conn.closing:
        await unheard.remember(known_by or transaction_of(envelope), content, outcomes)
    return outcomes


def refuse(session: Dialogue, transaction: Transaction, why: str) -> None:
    """Refuse the content for a reason of REFUSALS. By LMTP, complete content has one reply for each recipient."""
    complete = transaction.state is State.DECIDING
    times = len(transaction.envelope.recipients) if session.service.kind == LMTP and complete else 1
    count("smtp.refused")
    session.end_transaction()
    for _ in range(times):
        session.refuse(REFUSALS[why])
