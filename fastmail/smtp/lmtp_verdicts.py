"""Mail that comes by LMTP, judged for each of its recipients: each has a reply of its own (RFC 2033 4.2), so none of
them gets what another one asked for.

The client is the MTA in front of this server. It has seen who sent the message; here the content is looked at, by the
scanners and the classifier, and the lists of senders that are blocked. Nothing shows who the sender is, so lists of
allowed senders do not count, and nobody is put off for being unknown. For one address:

1. It is refused (5xx) if all accounts behind it refuse the message, and put off (4xx) if all others of them ask for
   that.
2. It is kept in quarantine if no account behind it would have the message in a mailbox; all such addresses of the
   message together.
3. Otherwise it is taken. Accounts that would not have it in INBOX have it in Junk. One that has it by two addresses has
   it in INBOX if one of them says so.
4. Where mail of an address leaves or is for a mailing list, and all behind the address call the message junk, it does
   not leave: a copy that is kept stays, a list's owners decide, and an address that only forwards is refused. So it is
   by SMTP (delivery.forward), but there one reply stands for all recipients.

Authentication-Results stay as they came, because the MTA in front may have this server's name. Fields of scanners are
replaced by ours (policy.marks), which go by what is the mildest of the verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from fastmail._core import header as scanner
from fastmail.delivery.envelope import Envelope, Outcome
from fastmail.delivery.forward import leaves_only
from fastmail.directory.lookup import Destinations
from fastmail.durable.staging import Staged
from fastmail.message.authors import MOST
from fastmail.message.header import Octets
from fastmail.policy import marks, results, wishes
from fastmail.policy.learning.counts import EVERYBODY
from fastmail.policy.reasons import LATER, QUARANTINE, RANK, REFUSE, Finding
from fastmail.policy.scanners.nouns import STRANGERS
from fastmail.policy.verdict import Checks, Verdict
from fastmail.policy.wishes import Wishes
from fastmail.smtp import judging, wanted
from fastmail.smtp.dialogue import Dialogue

NO_SERVER = ""  # whose results are taken out: nobody's, so those of the MTA in front stay


@dataclass(slots=True)
class Judged:
    """``content``: the message with the fields that say what was found. ``left``: the envelope of who gets it, at the
    positions ``at`` of all recipients. ``refused``: replies by position; ``back``: the envelope of whom it is kept
    back for, at the positions ``back_at``."""

    content: Octets
    left: Envelope
    at: list[int] = field(default_factory=list)
    refused: dict[int, Outcome] = field(default_factory=dict)
    back: Envelope | None = None
    back_at: list[int] = field(default_factory=list)


async def judged(session: Dialogue, envelope: Envelope, content: Octets, base: Wishes) -> Judged:
    """Return what becomes of a message (LF) for each recipient. ``base``: what the server asks for."""
    findings = await _findings(session, envelope, content)
    checks = Checks(findings=findings)
    written = [value for _, value in scanner.values(content, (b"from",), MOST) or []]
    who = wishes.who("", envelope.sender, written, checks)
    directory = session.service.deliverer.directory
    decided: dict[Wishes, Verdict] = {}
    out = Judged(content, envelope)
    inbox: dict[int, bool] = {}  # by account: does anything want the message in INBOX?
    junk: set[str] = set()  # addresses that call it so, whoever is behind them
    for at, (address, records) in enumerate(envelope.recipients):
        asked = wanted.behind(directory, base, address, Destinations(records))
        for one in asked:
            if one.wishes not in decided:
                decided[one.wishes] = wishes.judged(checks, one.wishes, who)
        done = [one.wishes.done(decided[one.wishes]) for one in asked]
        mildest = min(range(len(asked)), key=lambda n: RANK[done[n]])
        if done[mildest] in (REFUSE, LATER):
            out.refused[at] = _reply(asked[mildest].wishes, decided[asked[mildest].wishes])
        elif done[mildest] == QUARANTINE:
            out.back_at.append(at)
        else:
            out.at.append(at)
            for one, action in zip(asked, done, strict=True):
                inbox[one.number] = inbox.get(one.number, False) or action not in wanted.IN_JUNK
            if all(action in wanted.IN_JUNK for action in done):
                junk.add(address)
    first = min(decided, key=lambda one: RANK[one.done(decided[one])])
    words = f"{marks.words(findings)}: {decided[first].action} {decided[first].score:g}".lstrip(": ")
    if findings:
        limits = first.thresholds if len(decided) == 1 else base.thresholds
        add = marks.fields(decided[first], findings, limits)
        again = Staged(session.service.staging, session.service.budget)
        out.content = await results.put(add, content, NO_SERVER, again, marks.removed(findings))
    envelope.junk = junk & envelope.forwards
    out.left = part(envelope, out.at, words)
    out.left.places = {number: wanted.JUNK_BOX for number, good in inbox.items() if not good and number}
    if out.back_at:
        out.back = part(envelope, out.back_at, words)
    envelope.filters = words
    return out


async def _findings(session: Dialogue, envelope: Envelope, content: Octets) -> Sequence[Finding]:
    judge = session.service.judge
    if judge is None or not judge.wanted(STRANGERS):
        return ()
    mine = judging.only(envelope)
    shown = judging.shown(session, envelope, content, owner=mine)
    return await judge.look(STRANGERS, shown, mine.id if mine is not None else EVERYBODY)


def _reply(asked: Wishes, decided: Verdict) -> Outcome:
    return Outcome(*(decided.reply if asked.enforce else decided.always_reply))


async def not_passed_on(
    session: Dialogue, envelope: Envelope, content: Octets, not_forwarded: Outcome
) -> dict[int, Outcome]:
    """Return the replies to recipients, by their positions, whose mail would leave or go to a list, and may not.
    ``not_forwarded``: the one for junk."""
    deliverer, outbound = session.service.deliverer, session.service.outbound
    refused: dict[str, Outcome] = {}
    if outbound is not None and len(envelope.recipients) > 1:  # one alone is asked about when it is queued
        refused = await outbound.refusals(envelope, content)
    found: dict[int, Outcome] = {}
    for at, (address, _) in enumerate(envelope.recipients):
        unwanted = address in envelope.junk and not deliverer.forwards_junk
        if unwanted and leaves_only(deliverer, part(envelope, [at], "")):
            found[at] = not_forwarded
        elif address in refused:
            found[at] = refused[address]
    return found


def part(envelope: Envelope, at: Sequence[int], words: str) -> Envelope:
    """The envelope with these of its recipients."""
    some = [envelope.recipients[n] for n in at]
    names = {address for address, _ in some}
    return replace(
        envelope,
        recipients=some,
        asked=[envelope.asked[n] for n in at],
        forwards=envelope.forwards & names,
        junk=envelope.junk & names,
        filters=words,
        places={},
    )
