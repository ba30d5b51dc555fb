"""Decides about a complete message: it is corrected, completed, shown to scanners and filters, then delivered or
queued.

The order matters. First a missing end of the header is added, because every later step reads the header. Then the
author fields of a user's message are checked (smtp.senders), whether its content came by DATA, BDAT or BURL. Then
scanners look at the message (smtp.judging); for mail from others this runs beside the checks of the sender. A message
that leaves gets the footer of its domain (smtp.footers). Then a user's message is completed (RFC 6409 8), so that
filters see what will be sent: with Date and Message-ID, without Bcc. Only after the filters it is decided where the
message goes, and a user's message is signed, whether it leaves or stays here: so the signature covers what filters
changed. Recipients may want a message judged in their own ways; smtp.wanted decides then.

By LMTP each recipient has a reply of its own (smtp.lmtp_verdicts).

Promise: with SMTP all recipients get the message or none does (RFC 5321 4.1.1.4). If some mailboxes here cannot take
the message now, the queue takes it for all recipients, and reports to the sender what it cannot deliver. If there is no
queue, no recipient gets the message, and the client gets the reason.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

from fastmail.auth.send_as import REFUSE
from fastmail.delivery.envelope import LEAVES_NOT, Envelope, NotAll, Outcome, note_accepted
from fastmail.delivery.forward import JUNK_BOX, leaves_only
from fastmail.delivery.planning import SCAN_ON_LOOP
from fastmail.directory.lookup import Destinations
from fastmail.durable.staging import Staged
from fastmail.feedback.service import Feedback
from fastmail.message import header, submitted, trace
from fastmail.message.header import Octets
from fastmail.model.domain import comparable
from fastmail.model.esmtp import Rcpt
from fastmail.policy import results, verdict
from fastmail.policy.receive import Receiving
from fastmail.policy.received import Received
from fastmail.policy.verdict import Checks
from fastmail.policy.wishes import Wanted, Wishes
from fastmail.smtp import (
    footers,
    forged,
    held_back,
    judging,
    lmtp_verdicts,
    own_limits,
    senders,
    strangers,
    untagged,
    wanted,
)
from fastmail.smtp.dialogue import Dialogue
from fastmail.smtp.milter import Filters, Verdict
from fastmail.smtp.service import LMTP, SUBMISSION
from fastmail.smtp.transaction import Own
from fastmail.smtp.wanted import INBOX
from fastmail.telemetry import log

ADDRESS, ASKED = itemgetter(0), attrgetter("wishes")  # of a recipient in the envelope, and of one in what is wanted
NOT_TAKEN = (verdict.REFUSE, verdict.LATER)  # actions
TAKEN = Outcome(250, "2.0.0", "message taken")
NOWHERE = Outcome(451, "4.3.5", "the filters of this server send the message where it cannot go")
NOT_FORWARDED = Outcome(550, "5.7.1", "this message looks unwanted, and is not forwarded")


def asks_nobody(session: Dialogue) -> bool:
    """True if mail of this session goes to mailboxes as it came: it comes by LMTP, and no setting has it judged,
    filtered, or read as a report. It counts in no limits of sending, since nobody sends to other hosts by LMTP."""
    service = session.service
    return service.kind == LMTP and service.wishes is None and service.feedback is None and session.filters is None


def take(session: Dialogue, envelope: Envelope, content: Octets) -> Coroutine[Any, Any, list[Outcome]]:
    """Deliver a message (LF), or queue it when a recipient is elsewhere; one Outcome for each recipient."""
    if header.end_at(content) == -1:
        return _take_ended(session, envelope, content)
    return _end_and_take(session, envelope, content)


async def _end_and_take(session: Dialogue, envelope: Envelope, content: Octets) -> list[Outcome]:
    """The same of a message whose header has no end, or of which that cannot be said by its beginning."""
    return await _take_ended(session, envelope, await header.with_end(content))


def _take_ended(session: Dialogue, envelope: Envelope, content: Octets) -> Coroutine[Any, Any, list[Outcome]]:
    """The same of a message whose header has an end."""
    if asks_nobody(session) and not envelope.forwards:
        return session.service.deliverer.deliver(envelope, content)  # what all the steps would come to
    asked = session.service.wishes
    if asked is None or session.service.kind != LMTP:
        return _take(session, envelope, content)
    return _take_each(session, envelope, content, asked)


async def _take_each(session: Dialogue, envelope: Envelope, content: Octets, asked: Wishes) -> list[Outcome]:
    """The same of mail by LMTP that is judged for each of its recipients as they and ``asked``, the server, want."""
    found = await lmtp_verdicts.judged(session, envelope, content, asked)
    outcomes = dict(found.refused)
    for at, outcome in found.refused.items():
        one = lmtp_verdicts.part(envelope, [at], envelope.filters)
        _refused(session, one, found.content, outcome)
    # quarantine comes last: if delivering fails, all recipients are tried again, and nothing may be kept twice
    if found.at:
        outcomes |= zip(found.at, await _take(session, found.left, found.content), strict=True)
    if found.back is not None:
        outcomes |= zip(found.back_at, await _held_back(session, found.back, found.content), strict=True)
    return [outcomes[at] for at in range(len(envelope.recipients))]


@dataclass(slots=True)
class _Message:
    """A message on its way through the steps. ``mailbox``: where recipients here get it, but for those in
    ``Envelope.places``; ``incomplete``: a user's program may have left out fields."""

    content: Octets
    mailbox: str = INBOX
    incomplete: bool = False


async def _take(session: Dialogue, envelope: Envelope, content: Octets) -> list[Outcome]:
    """The same of a message whose header has an end, for recipients that have one fate."""
    service, transaction = session.service, session.transaction
    message = _Message(content, incomplete=service.kind == SUBMISSION)
    own = transaction.own if transaction is not None else own_limits.of(session)
    receiving = transaction.receiving if transaction is not None else None
    received = None
    if transaction is not None and receiving is not None:
        received, content, limited = await _judged(session, envelope, content, receiving, transaction.wanted)
        ended = await _ended(session, envelope, content, received, limited)
        if ended is not None:
            return ended
        message.mailbox, envelope.places = wanted.places(received, transaction.wanted)
    elif service.kind != LMTP:
        content = await forged.removed(session, content)
    if service.kind != LMTP:  # its client is a server, whose mail nobody here has written
        refused = await _unwanted(session, envelope, content, receiving)
        if refused is not None:
            return _refused(session, envelope, content, refused)
        message.content = await footers.put(session, content, envelope)
        envelope.signs = await _signs(session, message.content)
        envelope.feedback = _feedback(session)
    if session.filters is not None:
        outcomes = await _filtered(session, envelope, message, session.filters)
        if outcomes is not None:
            return outcomes
    outcomes = await _passed_on(session, envelope, message, received, own)
    earned = received is not None and message.mailbox != JUNK_BOX and strangers.may_earn(session, received)
    if received is not None and earned and any(one.ok for one in outcomes):
        strangers.earns(session, received)
    return outcomes


async def _unwanted(
    session: Dialogue, envelope: Envelope, content: Octets, receiving: Receiving | None
) -> Outcome | None:
    """Return the reply to a message whose author or content is refused; None where it goes on."""
    service = session.service
    refused = await senders.refusal(service.deliverer.directory, service.senders, session.user, session.host, content)
    refused = refused or untagged.refusal(session, envelope, content)
    if refused is None and receiving is None:
        refused = await judging.of_user(session, envelope, content)
    return refused


async def _filtered(session: Dialogue, envelope: Envelope, message: _Message, filters: Filters) -> list[Outcome] | None:
    """Show the message to filters, and change it as they ask. Returns the outcomes if it goes no further."""
    content = message.content
    whole = await _whole([content] if not message.incomplete else await _completed(session, envelope, content))
    message.incomplete = False
    said = await filters.message(whole)
    envelope.filters = "; ".join(filter(None, (envelope.filters, _words(said, whole))))
    if said.refusal is not None or said.discard:
        outcome = said.refusal or TAKEN
        log.event("milter.verdict", sender=envelope.sender, reply=f"{outcome.code} {outcome.text}")
        _remember(session, envelope, whole, "refused" if said.refusal is not None else "discarded")
        return [outcome] * len(envelope.recipients)
    message.content = said.content
    if not _apply(session, envelope, said):
        return _refused(session, envelope, message.content, NOWHERE)
    if not envelope.recipients:
        return [TAKEN]
    if said.quarantine:
        message.mailbox, envelope.places = JUNK_BOX, {}
    return None


async def _passed_on(
    session: Dialogue, envelope: Envelope, message: _Message, received: Received | None, own: Own | None
) -> list[Outcome]:
    """Read the message if it is a report; otherwise deliver it or queue it. ``own``: whose limits it counts in."""
    service, content = session.service, message.content
    if service.feedback is not None and await _is_report(session, service.feedback, envelope, content, received):
        envelope.filters = "; ".join(filter(None, (envelope.filters, "read as a report")))
        _remember(session, envelope, content, "discarded")
        return [TAKEN] * len(envelope.recipients)
    if service.kind == LMTP and envelope.forwards:
        return await _each_passed_on(session, envelope, message, own)
    if message.mailbox == JUNK_BOX and not service.deliverer.forwards_junk and leaves_only(service.deliverer, envelope):
        return _refused(session, envelope, content, NOT_FORWARDED)
    return await _sent(session, envelope, message, own)


async def _each_passed_on(session: Dialogue, envelope: Envelope, message: _Message, own: Own | None) -> list[Outcome]:
    """The same by LMTP, where each recipient has a reply of its own, also if its mail leaves or is for a list."""
    if message.mailbox == JUNK_BOX:
        envelope.junk = set(envelope.forwards)
    outcomes = await lmtp_verdicts.not_passed_on(session, envelope, message.content, NOT_FORWARDED)
    for at, outcome in outcomes.items():
        _refused(session, lmtp_verdicts.part(envelope, [at], envelope.filters), message.content, outcome)
    rest = [at for at in range(len(envelope.recipients)) if at not in outcomes]
    if rest:
        left = lmtp_verdicts.part(envelope, rest, envelope.filters)
        left.places = envelope.places
        outcomes |= zip(rest, await _sent(session, left, message, own), strict=True)
    return [outcomes[at] for at in range(len(envelope.recipients))]


async def _sent(session: Dialogue, envelope: Envelope, message: _Message, own: Own | None) -> list[Outcome]:
    """Queue a message if it leaves or is for a list; deliver it otherwise."""
    service, content = session.service, message.content
    envelope.charges = own_limits.charges(session, own, len(envelope.recipients))
    if service.outbound is not None and (leaves(envelope) or envelope.options.release):
        outcome = await service.outbound.submit(envelope, content, message.incomplete, 0, message.mailbox)
        return [outcome] * len(envelope.recipients)
    refused = await service.outbound.charge(envelope) if service.outbound is not None and envelope.charges else None
    if refused is not None:
        return _refused(session, envelope, content, refused)
    if message.incomplete:
        content = await _whole(await _completed(session, envelope, content))
    if service.kind == SUBMISSION and service.outbound is not None and envelope.signs:
        content = await service.outbound.signed(envelope, await _whole([content]))
    return await _deliver(session, envelope, content, message.mailbox)


async def _judged(
    session: Dialogue, envelope: Envelope, content: Octets, receiving: Receiving, asked: Sequence[Wanted]
) -> tuple[Received, Octets, Outcome | None]:
    """Return what the checks of mail from others found, the message with their results on it, and the reply to a
    client that has sent enough for now."""
    service = session.service
    wishes = map(ASKED, asked)
    received = await receiving.finish(judging.of_stranger(session, envelope, content), wishes, content)
    action = received.action
    limited = None if action in NOT_TAKEN else strangers.limited(session, envelope.sender, received)
    if service.feedback is not None and limited is None:  # what has to come again is counted then
        service.feedback.note(received, session.host, envelope.sender, _addresses(envelope), content)
    # what leaves has to keep the signature that its next host verifies; what waits may turn out to be no junk
    tag = received.tag
    if tag and (leaves(envelope) or action == verdict.QUARANTINE):
        tag = ""
    if received.clean and not received.remove and not tag and len(content) <= header.ON_LOOP:  # as most messages
        content = b"".join((received.add, content))
    else:
        again = Staged(service.staging, service.budget)
        content = await results.put(received.add, content, service.hostname, again, received.remove, tag=tag)
    envelope.filters, envelope.checked = wanted.words(received, asked), True
    envelope.doubted = not envelope.login and not _vouched(received.checks)
    return received, content, limited


async def _ended(
    session: Dialogue, envelope: Envelope, content: Octets, received: Received, limited: Outcome | None
) -> list[Outcome] | None:
    """Return the outcomes of a message that goes no further after these checks; None if it goes on."""
    action = received.action
    if action in NOT_TAKEN:
        return _refused(session, envelope, content, Outcome(*received.reply))
    if limited is not None:
        return _refused(session, envelope, content, limited)
    return await _held_back(session, envelope, content) if action == verdict.QUARANTINE else None


def leaves(envelope: Envelope) -> bool:
    """True if a message goes to other servers, whether or not it also goes to accounts here."""
    return bool(envelope.forwards) or not all(records for _, records in envelope.recipients)


async def _signs(session: Dialogue, content: Octets) -> bool:
    """True if the author of a message is shown to be one of ours, so that his domain may sign it. Each address in the
    author fields has to be the login's own, even if ``[auth] header_senders`` allows others. Networks that may relay
    are believed."""
    service = session.service
    if service.outbound is None or not session.may_relay():
        return False
    if session.user is None or service.senders.header == REFUSE:
        return True
    return await senders.owns(service.deliverer.directory, service.senders, session.user, content)


def _vouched(checks: Checks) -> bool:
    """True if the domain of the author vouches for the message: by DMARC, or if it has no such policy, by a signature
    of its own or by SPF for the reverse-path."""
    dmarc = checks.dmarc
    if dmarc is None or dmarc.result != "none":
        return dmarc is not None and dmarc.result == "pass"
    names = [one.domain for one in checks.dkim or () if one.result == "pass"]
    if checks.sender is not None and checks.sender.vouches:
        names.append(checks.sender.domain)
    return any(dmarc.domain == one or dmarc.domain.endswith(f".{one}") for one in names)


async def _is_report(
    session: Dialogue, feedback: Feedback, envelope: Envelope, content: Octets, received: Received | None
) -> bool:
    """Read a report that the message carries. True if nothing else is to be done with the message."""
    if session.user is None:
        return await feedback.take(_addresses(envelope), content, received)
    return await feedback.take(_addresses(envelope), content, received, session.user.address)


def _addresses(envelope: Envelope) -> list[str]:
    return list(map(ADDRESS, envelope.recipients))


def _refused(session: Dialogue, envelope: Envelope, content: Octets, outcome: Outcome) -> list[Outcome]:
    """Nobody gets it, and the trace knows why."""
    words = f"refused: {outcome.code} {outcome.enhanced} {outcome.text}"
    envelope.filters = "; ".join(filter(None, (envelope.filters, words)))
    _remember(session, envelope, content, "refused")
    return [outcome] * len(envelope.recipients)


async def _held_back(session: Dialogue, envelope: Envelope, content: Octets) -> list[Outcome]:
    """Put the message into quarantine for all recipients. The administrator releases or deletes it."""
    outcome, ident = await held_back.put(session, envelope, content)
    if not outcome.ok:
        return _refused(session, envelope, content, outcome)
    _remember(session, envelope, content, "quarantined", ident)
    return [outcome] * len(envelope.recipients)


async def _deliver(session: Dialogue, envelope: Envelope, content: Octets, mailbox: str) -> list[Outcome]:
    """All recipients are of this server."""
    service, outbound = session.service, session.service.outbound
    if service.kind == LMTP:  # one reply for each recipient (RFC 2033 4.2)
        outcomes = await service.deliverer.deliver(envelope, content, mailbox)
    else:
        ident = outbound.new_id() if outbound is not None else 0
        try:
            outcomes = await service.deliverer.deliver_to_all(envelope, content, mailbox, ident)
        except NotAll as trouble:
            outcome = trouble.worst
            if outbound is not None and trouble.some:
                outcome = await outbound.submit(envelope, content, False, ident, mailbox)
            if not outcome.ok:
                await service.deliverer.take_back(trouble.kept)
            return [outcome] * len(envelope.recipients)
    if outbound is not None and any("SUCCESS" in one.notify for one in envelope.asked):
        await outbound.tell_delivered(envelope, content, [outcome.ok for outcome in outcomes])
    return outcomes


async def _completed(session: Dialogue, envelope: Envelope, content: Octets) -> Sequence[Octets]:
    """Return the message with the fields that a user's program left out (RFC 6409 8)."""
    sender, hostname, feedback = envelope.sender, session.service.hostname, envelope.feedback
    if len(content) > SCAN_ON_LOOP:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, submitted.complete, content, sender, hostname, feedback)
    return submitted.complete(content, sender, hostname, feedback)


def _feedback(session: Dialogue) -> str:
    """Return the Feedback-ID of a login, as Gmail reads it: up to three names by which complaints are counted, then the
    sender's. The account is named by its number, which tells strangers nothing and tells the support who it is."""
    user, ours = session.user, session.service.feedback_id
    if user is None or not ours:
        return ""
    return f"{user.id}:{comparable(user.address.rpartition('@')[2])}:user:{ours}"


async def _whole(pieces: Sequence[Octets]) -> bytes:
    """Return the whole content in one piece of memory. Until then, a large message may be in a file."""
    if len(pieces) == 1 and isinstance(pieces[0], bytes):
        return pieces[0]
    if sum(map(len, pieces)) > SCAN_ON_LOOP:
        return await asyncio.get_running_loop().run_in_executor(None, b"".join, pieces)
    return b"".join(pieces)


def _words(verdict: Verdict, shown: bytes) -> str:
    """Return what the filters decided about a message, for the trace."""
    if verdict.refusal is not None:
        return f"refused: {verdict.refusal.code} {verdict.refusal.enhanced} {verdict.refusal.text}"
    if verdict.discard:
        return "discarded"
    changed = "changed" if verdict.content != shown or verdict.added or verdict.removed or verdict.sender else "passed"
    return f"quarantined: {verdict.quarantine}" if verdict.quarantine else changed


def _remember(session: Dialogue, envelope: Envelope, content: Octets, what: str, ident: str = "") -> None:
    """Put a message that was refused into the trace too, because somebody may ask what became of it. ``ident``: its id,
    if it has one already."""
    history = session.service.deliverer.history
    if history is None:
        return
    found = submitted.message_id(bytes(content[:8192]))
    note_accepted(history, ident or trace.new_id(), envelope, found, len(content), what)


def _apply(session: Dialogue, envelope: Envelope, verdict: Verdict) -> bool:
    """Change the envelope as the filters asked, as far as this session is allowed to. A recipient that they add and
    that cannot have the message is left out, as RCPT would refuse it; the log and the trace say so. False, and its
    recipients are as before, if all that are left would be such ones: nobody would have a message that the client hears
    is taken."""
    if verdict.sender is not None:
        envelope.sender = verdict.sender
    if session.service.kind == LMTP:  # one reply for each recipient: they stay who they are
        asked = (*verdict.added, *verdict.removed)
        _left_out(envelope, [(address, "recipients stay as they are by LMTP") for address in asked])
        return True
    gone = {address.lower() for address in verdict.removed}
    before = envelope.recipients, envelope.asked, envelope.forwards
    kept = [at for at, (address, _) in enumerate(envelope.recipients) if address.lower() not in gone]
    envelope.recipients = [envelope.recipients[at] for at in kept]
    envelope.asked = [envelope.asked[at] for at in kept]
    # a mailing list that a filter took out has no word about those who are left
    envelope.forwards = {address for address in envelope.forwards if address.lower() not in gone}
    without: list[tuple[str, str]] = []
    for address in verdict.added:
        there = session.service.deliverer.destinations(address)
        why = _unreachable(session, address, there)
        if why:
            without.append((address, why))
            continue
        if there.queued:
            envelope.forwards.add(address)
        envelope.recipients.append((address, there.accounts))
        envelope.asked.append(Rcpt(address))
    _left_out(envelope, without)
    if envelope.recipients or not without:
        return True
    envelope.recipients, envelope.asked, envelope.forwards = before
    return False


def _unreachable(session: Dialogue, address: str, there: Destinations) -> str:
    """Why a recipient that a filter adds cannot have the message; empty where it can."""
    service = session.service
    if there:
        return LEAVES_NOT if there.queued and service.outbound is None else ""
    if service.deliverer.directory.is_local(address.rpartition("@")[2]):
        return there.refusal
    return "" if session.may_relay() else "this client's mail may not leave this server"


def _left_out(envelope: Envelope, without: Sequence[tuple[str, str]]) -> None:
    """Say which wishes of filters were not followed."""
    for address, why in without:
        log.event("milter.recipient", "warning", sender=envelope.sender, recipient=address, why=why)
        envelope.filters += f"; {address} of a filter is left out: {why}"
