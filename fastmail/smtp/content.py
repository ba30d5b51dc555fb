"""The content of a message: DATA (RFC 5321 4.1.1.4), BDAT (RFC 3030 2) and BURL (RFC 4468 3), up to its last octet.

smtp.transaction takes the octets; smtp.end_of_data decides and replies. Promise: a chunk that nobody gets is read to
its end, so that its octets are never taken for commands.
"""

from collections.abc import Awaitable, Callable
from functools import partial

from fastmail.delivery.envelope import Envelope
from fastmail.directory.interface import AccountRecord
from fastmail.durable.staging import Staged
from fastmail.model.errors import CannotDo, MailError
from fastmail.smtp import refusals
from fastmail.smtp.basics import no_hello
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.end_of_data import begin, decide, refuse
from fastmail.smtp.service import LMTP, Service
from fastmail.smtp.transaction import BDAT, DATA, DECIDING, LAST_CHUNK, MAIL, PASSED_OVER, START, TAKE, Transaction
from fastmail.telemetry import log

GO_ON = b"354 end with CRLF . CRLF\r\n"
LONGEST_SIZE = 18  # digits of the size of a chunk

# ---------------------------------------------------------------- commands


def data(session: Dialogue, rest: bytes) -> None:
    """DATA."""
    transaction = session.transaction
    assert transaction is not None
    if transaction.binary:
        session.bad("503 5.5.1 BODY=BINARYMIME needs BDAT")
        return
    if session.filters is None:
        _begin_data(session, transaction)
        return

    def turned_down(reply: str) -> None:
        refusals.remember_all(session, transaction.envelope, reply)
        session.end_transaction()

    then = partial(_begin_data, session, transaction)
    session.conn.run(session.consult(session.filters.data(), then, turned_down))


def _begin_data(session: Dialogue, transaction: Transaction) -> None:
    """Take content from here on, and say so."""
    if session.transaction is transaction:  # otherwise the client is gone
        service = session.service
        transaction.begin_data(service.staging, service.budget, _most(service, transaction))
    session.conn.write(GO_ON)


def bdat(session: Dialogue, rest: bytes) -> None:
    """BDAT, if there are recipients."""
    transaction, chunk = session.transaction, _chunk(session, rest)
    assert transaction is not None
    if chunk is None:
        return
    _begin_chunk(session, transaction, *chunk)
    if not transaction.left:
        _end_chunk(session, transaction)


def bdat_for_nobody(session: Dialogue, rest: bytes) -> None:
    """BDAT before there is a recipient, a sender, or even EHLO: the chunk follows in any case (RFC 3030 2)."""
    chunk = _chunk(session, rest)
    if chunk is None:
        return
    transaction = session.transaction
    if transaction is None:
        transaction = session.transaction = Transaction(Envelope(), session.state)
    transaction.pass_over(chunk[0])
    if not transaction.left:
        _passed_over(session, transaction)


def _chunk(session: Dialogue, rest: bytes) -> tuple[int, bool] | None:
    """Return (octets of the chunk, True if it is the last one); None after an error reply."""
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
    """BURL: adds a message from a mailbox, or a part of one."""
    asked = _place(session, rest)
    if asked is not None and session.transaction is not None:
        url, last, user, resolve = asked
        session.conn.run(_burl(session, session.transaction, last, resolve(user, url)))


def burl_for_nobody(session: Dialogue, rest: bytes) -> None:
    """BURL before there is a recipient."""
    if _place(session, rest) is not None:
        _no_burl(session, "554 5.5.1 no valid recipients")


Resolve = Callable[[AccountRecord, str], Awaitable[bytes]]


def _place(session: Dialogue, rest: bytes) -> tuple[str, bool, AccountRecord, Resolve] | None:
    """Return (the URL, True if it is the last piece, the account, the function that resolves the URL); None after an
    error reply."""
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
    """Reply with an error. All content that was sent so far is void (RFC 4468 3.3)."""
    session.end_transaction()
    session.bad(line)


async def _burl(session: Dialogue, transaction: Transaction, last: bool, content: Awaitable[bytes]) -> None:
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
        transaction.state = DECIDING
        await decide(session, transaction)
    else:
        _end_chunk(session, transaction)


# ---------------------------------------------------------------- content comes


def feed(session: Dialogue, transaction: Transaction, data: memoryview, position: int) -> int:
    """Take content, and return the offset after it. When the end of the content was found, the session takes commands
    again."""
    position, ended, spill = transaction.feed(data, position)
    session.conn.progress(transaction.begun, transaction.received, session.service.limits.command_timeout)
    if ended and transaction.state is DATA:
        begin(session, transaction)
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
    """Write content that is too large for memory to the disk. If the disk is full, content is dropped, but its end is
    still found."""
    try:
        await staged.spill()
    except OSError as error:
        log.event("smtp.staging", "error", error=error)
        if transaction.staged is staged:
            transaction.lose_room(session.service.staging, session.service.budget)


def _most(service: Service, transaction: Transaction) -> int:
    """Return how many octets the content may have."""
    return transaction.most or service.limits.message_size


def _begin_chunk(session: Dialogue, transaction: Transaction, octets: int, last: bool) -> None:
    service = session.service
    transaction.begin_chunk(octets, last, service.staging, service.budget, _most(service, transaction))


def _end_chunk(session: Dialogue, transaction: Transaction) -> None:
    """Act on the end of a chunk (RFC 3030 2)."""
    if transaction.state is PASSED_OVER:
        _passed_over(session, transaction)
    elif transaction.state is LAST_CHUNK:
        transaction.finish_chunks()
        begin(session, transaction)
    elif transaction.too_big:
        refuse(session, transaction, "full")
    else:
        transaction.state = BDAT
        session.say("250 2.0.0 chunk taken")


def _passed_over(session: Dialogue, transaction: Transaction) -> None:
    """Reply to a chunk that no recipient gets."""
    transaction.state = transaction.resumes
    if transaction.state is MAIL:
        no_recipients(session, b"")
        return
    session.transaction = None
    if transaction.state is START:
        no_hello(session, b"")
    else:
        session.bad("503 5.5.1 need MAIL first")
