"""The content of a message: DATA (RFC 5321 4.1.1.4), BDAT (RFC 3030 2) and BURL (RFC 4468 3), up to the reply for it.

smtp.transaction takes the octets, smtp.accept decides what becomes of the message; this file leads from one to the
other. Promise: 250 comes after the message is durable in every mailbox it names, or in the queue. A chunk that nobody
gets is read to its end, so that its octets are never taken for commands.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from fastmail.delivery.deliver import Envelope, Outcome, worst
from fastmail.directory.interface import AccountRecord
from fastmail.durable.staging import Staged
from fastmail.message.header import Octets
from fastmail.message.recode import without_binary
from fastmail.model.errors import CannotDo, ClientError, MailError, StorageFull
from fastmail.smtp import accept
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.envelope import printable
from fastmail.smtp.service import LMTP, Service
from fastmail.smtp.transaction import TAKE, State, Transaction
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
LONGEST_SIZE = 18  # digits of the size of a chunk

# ---------------------------------------------------------------- commands


def data(session: Dialogue, rest: bytes) -> None:
    """DATA."""
    transaction = session.transaction
    assert transaction is not None
    if transaction.binary:
        session.bad("503 5.5.1 BODY=BINARYMIME needs BDAT")
        return

    def begin() -> None:
        if session.transaction is transaction:  # the client may be gone
            service = session.service
            transaction.begin_data(service.staging, service.budget, _most(service, transaction))
        session.say("354 end with CRLF . CRLF")

    if session.filters is None:
        begin()
    else:
        session.conn.run(session.consult(session.filters.data(), begin, session.end_transaction))


def bdat(session: Dialogue, rest: bytes) -> None:
    """BDAT, when there are recipients."""
    transaction, chunk = session.transaction, _chunk(session, rest)
    assert transaction is not None
    if chunk is None:
        return
    _begin_chunk(session, transaction, *chunk)
    if not transaction.left:
        _end_chunk(session, transaction)


def bdat_for_nobody(session: Dialogue, rest: bytes) -> None:
    """BDAT before there is a recipient, or even a sender: the chunk comes all the same (RFC 3030 2)."""
    chunk = _chunk(session, rest)
    if chunk is None:
        return
    transaction = session.transaction
    if transaction is None:
        transaction = session.transaction = Transaction(Envelope(), State.NONE)
    transaction.pass_over(chunk[0])
    if not transaction.left:
        _passed_over(session, transaction)


def _chunk(session: Dialogue, rest: bytes) -> tuple[int, bool] | None:
    """(octets of the chunk, is it the last one); None after an error reply."""
    words = rest.split()
    valid = 1 <= len(words) <= 2 and words[0].isdigit() and len(words[0]) <= LONGEST_SIZE
    if not valid or (len(words) == 2 and words[1].upper() != b"LAST"):
        session.bad("501 5.5.4 BDAT size [LAST] is expected")
        session.conn.close()  # where the next command starts can not be known
        return None
    return int(words[0]), len(words) == 2


def no_recipients(session: Dialogue, rest: bytes) -> None:
    """Content for nobody: RFC 5321 3.3 allows both replies to DATA, RFC 2033 4.2 only one of them."""
    lmtp = session.service.kind == LMTP
    session.bad("503 5.5.1 need RCPT first" if lmtp else "554 5.5.1 no valid recipients")


def burl(session: Dialogue, rest: bytes) -> None:
    """BURL: a message, or a part of it, that lies in a mailbox."""
    asked = _place(session, rest)
    if asked is not None and session.transaction is not None:
        url, last, user, resolve = asked
        session.conn.run(_burl(session, session.transaction, url, last, resolve(user, url)))


def burl_for_nobody(session: Dialogue, rest: bytes) -> None:
    """BURL before there is a recipient."""
    if _place(session, rest) is not None:
        _no_burl(session, "554 5.5.1 no valid recipients")


Resolve = Callable[[AccountRecord, str], Awaitable[bytes]]


def _place(session: Dialogue, rest: bytes) -> tuple[str, bool, AccountRecord, Resolve] | None:
    """(the URL, is it the last piece, whose it is, who finds it); None after an error reply."""
    words = rest.split()
    if not words or len(words) > 2 or (len(words) == 2 and words[1].upper() != b"LAST"):
        session.bad("501 5.5.4 BURL url [LAST] is expected")
        return None
    resolve, user = session.service.resolve_url, session.user
    if resolve is None or user is None:
        _no_burl(session, "502 5.5.1 no URLs here")
        return None
    return words[0].decode("ascii", "replace"), len(words) == 2, user, resolve


def _no_burl(session: Dialogue, line: str) -> None:
    """Whatever of the message was sent is void (RFC 4468 3.3)."""
    session.end_transaction()
    session.bad(line)


async def _burl(session: Dialogue, transaction: Transaction, url: str, last: bool, content: Awaitable[bytes]) -> None:
    try:
        found = await content
    except CannotDo:
        _no_burl(session, "554 5.6.6 no such content, or not for this login")
        return
    except MailError:
        _no_burl(session, "451 4.4.1 the content can not be had now, try again later")
        return
    if session.transaction is not transaction:
        return  # the client is gone
    _begin_chunk(session, transaction, 0, last)
    for start in range(0, len(found), TAKE):
        if transaction.add(memoryview(found)[start : start + TAKE]) and transaction.staged is not None:
            await _spill(session, transaction, transaction.staged)
        if session.transaction is not transaction:
            return
    if last:
        transaction.finish_chunks()
        transaction.state = State.DECIDING
        await _end_of_data(session, transaction)
    else:
        _end_chunk(session, transaction)


# ---------------------------------------------------------------- content comes


def feed(session: Dialogue, transaction: Transaction, data: memoryview, position: int) -> int:
    """Take content. Returns the offset behind it; the session is back at commands when its end was found."""
    position, ended, spill = transaction.feed(data, position)
    session.conn.progress(transaction.begun, transaction.received, session.service.limits.command_timeout)
    if ended and transaction.state is State.DATA:
        transaction.state = State.DECIDING
        session.conn.run(_end_of_data(session, transaction))
    elif ended and not spill:
        _end_chunk(session, transaction)
    elif spill:
        assert transaction.staged is not None
        session.conn.run_aside(_spilled(session, transaction, transaction.staged, ended))
    return position


async def _spilled(session: Dialogue, transaction: Transaction, staged: Staged, ended: bool) -> None:
    await _spill(session, transaction, staged)
    if ended and session.transaction is transaction:
        _end_chunk(session, transaction)


async def _spill(session: Dialogue, transaction: Transaction, staged: Staged) -> None:
    """To disk with what is too big for memory; on a full disk content is dropped, its end still found."""
    try:
        await staged.spill()
    except OSError as error:
        log.event("smtp.staging", "error", error=error)
        if transaction.staged is staged:
            transaction.lose_room(session.service.staging, session.service.budget)


def _most(service: Service, transaction: Transaction) -> int:
    """Octets that the content may have."""
    return transaction.most or service.limits.message_size


def _begin_chunk(session: Dialogue, transaction: Transaction, octets: int, last: bool) -> None:
    service = session.service
    transaction.begin_chunk(octets, last, service.staging, service.budget, _most(service, transaction))


def _end_chunk(session: Dialogue, transaction: Transaction) -> None:
    """A chunk is complete (RFC 3030 2)."""
    if transaction.state is State.PASSED_OVER:
        _passed_over(session, transaction)
    elif transaction.state is State.LAST_CHUNK:
        transaction.finish_chunks()
        transaction.state = State.DECIDING
        session.conn.run(_end_of_data(session, transaction))
    elif transaction.too_big:
        _refuse(session, transaction, "full")
    else:
        transaction.state = State.BDAT
        session.say("250 2.0.0 chunk taken")


def _passed_over(session: Dialogue, transaction: Transaction) -> None:
    """A chunk that nobody gets is complete."""
    transaction.state = transaction.resumes
    if transaction.state is State.NONE:
        session.transaction = None
        session.bad("503 5.5.1 need MAIL first")
    else:
        no_recipients(session, b"")


# ---------------------------------------------------------------- content has come


def _refuse(session: Dialogue, transaction: Transaction, why: str) -> None:
    """Refuse the content; by LMTP complete content has one reply for each recipient."""
    complete = transaction.state is State.DECIDING
    times = len(transaction.envelope.recipients) if session.service.kind == LMTP and complete else 1
    count("smtp.refused")
    session.end_transaction()
    for _ in range(times):
        session.bad(REFUSALS[why])


async def _end_of_data(session: Dialogue, transaction: Transaction) -> None:
    """Decide, deliver, and reply: one reply, or for LMTP one for each recipient (RFC 2033 4.2)."""
    if session.transaction is not transaction:
        return  # the client is gone, and its content with it: nothing was decided
    fault = transaction.fault()
    if fault:
        _refuse(session, transaction, fault)
        return
    envelope = transaction.envelope
    outcomes: Sequence[Outcome] | None
    try:
        outcomes = [NO_ROOM] * len(envelope.recipients) if transaction.no_room else await _decided(session, transaction)
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
    """An Outcome for each recipient. None when nothing was decided: the client is gone, or has its reply."""
    staged = transaction.staged
    assert staged is not None
    if staged.spilled:
        await staged.spill()
        if session.transaction is not transaction:
            return None  # the client is gone, and its content with it
    content = staged.content()
    if transaction.binary:
        content = await asyncio.get_running_loop().run_in_executor(None, without_binary, bytes(content))
        if b"\0" in content:
            _refuse(session, transaction, "nul")
            return None
    return await _unless_known(session, transaction.envelope, content)


async def _unless_known(session: Dialogue, envelope: Envelope, content: Octets) -> Sequence[Outcome]:
    """What becomes of the message, unless that was decided before and the client did not hear it."""
    unheard, known_by, outcomes = session.service.unheard, b"", None
    if unheard.any or session.filters is not None:  # filters may change the envelope
        known_by = transaction_of(envelope)
        outcomes = await unheard.find(known_by, content)
    if outcomes is None:
        outcomes = await accept.take(session, envelope, content)
    if session.conn.transport is None or session.conn.closing:
        await unheard.remember(known_by or transaction_of(envelope), content, outcomes)
    return outcomes
