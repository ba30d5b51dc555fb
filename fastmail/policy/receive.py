"""The checks of one message as it comes in by port 25, from the first command to the verdict.

A ``Receiver`` is a worker's; ``begin`` gives an object for one mail transaction. Its calls in order: ``mail_from``,
which starts what needs the client and the sender; ``feed`` for the content as it comes (dots undone, CRLF or LF, cut
anywhere), which starts keys and records when the header has ended, while the body is still coming; ``finish``, which
waits for all of it within the message's budget of look-ups, asks those who look at the content, and then judges the
message for each recipient that wants it judged in its own way (policy.wishes); ``close`` at any time, which ends what
is under way.

One reply answers for all recipients (RFC 5321 4.1.1.4), so the mildest verdict says whether a message is taken: it is
refused only where all refuse it, and put off only where all who do not refuse it ask for that.

Promise: nothing raises for what a message or the DNS says. The result does not depend on how the content was cut.
What is kept of a message is its header, HEADER octets at most.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from fastmail._core import header as scanner
from fastmail._core import lines
from fastmail.directory.named import NOBODY, Book
from fastmail.dns.interface import LOOKUPS, Budget, Names
from fastmail.message import authors, header
from fastmail.message.authors import MOST as MOST_FROM
from fastmail.policy import arc, claims, dkim, dmarc, links, marks, outcome, received_spf, verdict, wishes
from fastmail.policy.arc import Arc
from fastmail.policy.claims import Claims
from fastmail.policy.dkim import HEADER, Content, Signature, Signed, Verifier
from fastmail.policy.dmarc import Dmarc, Evaluator, NoAuthor
from fastmail.policy.greylist import Greylist, place
from fastmail.policy.iprev import Iprev, Reverse
from fastmail.policy.lists import DOMAINS, Listed, Lists, Zone
from fastmail.policy.outcome import Outcome
from fastmail.policy.reasons import RANK, Finding, Reply
from fastmail.policy.spf import Checked, Spf
from fastmail.policy.strangers.rules import OFF, REFUSE
from fastmail.policy.verdict import Checks, Thresholds, Verdict
from fastmail.policy.wishes import Wishes
from fastmail.telemetry.counters import count

T = TypeVar("T")
# asks those who look at the content, given our Authentication-Results field and the client's verified name
Look = Callable[[bytes, str], Awaitable[Sequence[Finding]]]
Octets = bytes | bytearray | memoryview
LF = 10
SENDER, HEAD, END = range(3)  # stages of a message, when the sender, the header and all of it are known


@dataclass(frozen=True, slots=True)
class Settings:
    """What is looked at. ``hostname`` names us in Authentication-Results; ``enforce``: act upon the verdict, or only
    write it down; ``greylist``: the score from which a message of an unknown sender is put off, 0 for never; ``allow``,
    ``block``: the operator's own lists, and ``junk``: what is blocked goes into Junk, otherwise it is refused;
    ``received_spf``: write the results of SPF into fields of their own too; ``subject_tag``: what is put in front of
    the subject of a message with ``subject_score`` or more, 0 for what is junk; empty for nothing; ``helo``,
    ``sender``: what becomes of messages whose client's name in EHLO, or whose sender's domain, is not what it should be
    (off, score, refuse); ``link_lists``: lists of what the content names."""

    hostname: str
    spf: bool = True
    dkim: bool = True
    dmarc: bool = True
    arc: bool = True
    reverse: bool = True
    enforce: bool = False
    seconds: float = 20.0
    voids: int = 2
    thresholds: Thresholds = Thresholds()
    lists: Sequence[Zone] = ()
    domain_lists: Sequence[Zone] = ()
    greylist: float = 0.0
    allow: Book = NOBODY
    block: Book = NOBODY
    junk: bool = False
    received_spf: bool = False
    subject_tag: str = ""
    subject_score: float = 0.0
    helo: str = OFF
    sender: str = OFF
    link_lists: Sequence[Zone] = ()

    @property
    def wishes(self) -> Wishes:
        """What holds for recipients that ask for nothing else."""
        level = wishes.Level(wishes.SERVER, self.allow, self.block, self.junk)
        levels = (level,) if self.allow or self.block else ()
        return Wishes(self.enforce, self.thresholds, self.greylist, levels, self.junk)


class Received(msgspec.Struct, frozen=True):
    """What the checks came to. ``add``: the fields to put in front of the message (LF); what to remove from it,
    ``results.unwanted`` says of the content as it is kept, with ``remove`` for more of its fields. ``each``: the
    verdict by what was asked for recipients; ``verdict`` is the mildest of these, and ``enforce`` says whether that
    counts; ``tag``: what is put in front of its subject; ``earns``: who waits for nothing from now on if the message is
    taken (policy.greylist), empty for nobody; ``words``: for the trace of the message, in one line."""

    add: bytes
    checks: Checks
    verdict: Verdict
    asked: int = 0
    enforce: bool = False
    remove: tuple[tuple[bytes, int], ...] = ()
    each: tuple[tuple[Wishes, Verdict], ...] = ()
    tag: str = ""
    earns: str = ""
    words: str = ""

    def done(self, wanted: Wishes) -> str:
        """The action for a recipient for whom this was asked."""
        return next((one.done(decided) for one, decided in self.each if one == wanted), self.verdict.always)

    @property
    def action(self) -> str:
        """What is done with the message: what the verdict says, where that counts."""
        return self.verdict.action if self.enforce else self.verdict.always

    def enforced(self, action: str) -> bool:
        """Is this what is done?"""
        return action == self.action

    @property
    def reply(self) -> Reply:
        """Of what is done."""
        return self.verdict.reply if self.enforce else self.verdict.always_reply


class Receiver:
    """What the transactions of a worker share: resolver, caches, settings."""

    def __init__(self, names: Names, settings: Settings, greylist: Greylist | None = None) -> None:
        self.greylist = greylist
        self.settings = settings
        self.wishes = settings.wishes
        self.spf = Spf(names, settings.hostname, settings.voids)
        self.dkim = Verifier(names)
        self.dmarc = Evaluator(names)
        self.arc = Arc(names, self.dkim)
        self.iprev = Iprev(names)
        self.lists = Lists(names, settings.lists, settings.domain_lists, settings.link_lists, settings.seconds)
        self.claims = Claims(names, settings.hostname)

    def begin(self, ip: str, helo: str) -> "Receiving":
        """A mail transaction of a client."""
        return Receiving(self, ip, helo)


class Receiving:
    """One mail transaction; see the module. It is made within the event loop. What is known needs no task, and most of
    a message's checks are: so a budget, a task or a coroutine is made where something has to be asked, and nowhere
    else."""

    __slots__ = (
        *("_receiver", "_settings", "_ip", "_helo", "_from"),  # who sends
        *("_spent", "_stage", "_tasks", "_finishing"),
        *("_reverse", "_greeted", "_sender", "_lists", "_claims", "_noted"),  # what is known of him
        *("_head", "_looked", "_content"),
        *("_signatures", "_more", "_chain", "_author", "_written", "_nobody", "_listed"),  # what the header says
    )

    def __init__(self, receiver: Receiver, ip: str, helo: str) -> None:
        self._receiver = receiver
        self._settings = receiver.settings
        self._ip = ip
        self._helo = helo
        self._spent: Budget | None = None
        self._stage = SENDER
        self._tasks: list[asyncio.Task[Any]] = []
        self._finishing = False
        # What is known at once, or the task that finds it out.
        self._reverse: asyncio.Task[Reverse] | Reverse | None = None
        self._greeted: asyncio.Task[Checked] | Checked | None = None
        self._sender: asyncio.Task[Checked] | Checked | None = None
        self._from = ""
        self._lists: list[asyncio.Task[list[Listed]] | list[Listed]] = []
        self._noted: list[claims.Finding] = []
        self._claims: list[asyncio.Task[Sequence[claims.Finding]] | Sequence[claims.Finding]] = []
        # The content: its header until that has ended, then hashes of its body.
        self._head: bytes | bytearray = b""
        self._looked = 0  # octets of it in which no empty line begins
        self._content: Content | None = None
        self._signatures: list[Signature | Signed] = []
        self._more = 0
        self._chain: arc.Found | None = None
        self._author = ""
        self._written: list[bytes] = []  # values of From
        self._nobody = ""
        self._listed = False

    def _budget(self, stage: int) -> Budget:
        """What all look-ups of the message may take together, for those of one of its stages. Its time begins anew with
        each stage, because the content may be long on its way, and a name server that is slow on purpose must not use
        up what the checks behind it need. So all of them end that long after the content has come, at the latest."""
        if self._spent is None:
            self._spent = Budget(self._settings.seconds, LOOKUPS)
        elif stage != self._stage:
            self._spent.deadline = time.monotonic() + self._settings.seconds
        self._stage = stage
        return self._spent

    @property
    def _asked(self) -> int:
        return self._spent.asked if self._spent is not None else 0

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    def mail_from(self, sender: str) -> None:
        """Start what depends on client and sender."""
        receiver, settings, ip, helo = self._receiver, self._settings, self._ip, self._helo
        self._from = sender
        domain = sender.rpartition("@")[2]
        if settings.lists:
            listed = receiver.lists.known(ip)
            self._lists.append(self._start(receiver.lists.client(ip)) if listed is None else listed)
        if settings.reverse:
            self._reverse = receiver.iprev.known(ip)
            if self._reverse is None:
                self._reverse = self._start(receiver.iprev.check(ip, self._budget(SENDER)))
        if settings.spf:
            self._greeted = receiver.spf.known(ip, helo, "helo")
            if self._greeted is None:
                self._greeted = self._start(receiver.spf.helo(ip, helo, self._budget(SENDER)))
            self._sender = receiver.spf.known(ip, domain or helo, "mailfrom")
            if self._sender is None:
                self._sender = self._start(receiver.spf.mail_from(ip, helo, sender, self._budget(SENDER)))
        if settings.helo != OFF:
            said = receiver.claims.known_helo(ip, helo)
            asked = self._start(receiver.claims.helo(ip, helo, self._budget(SENDER))) if said is None else said
            self._claims.append(asked)
        if settings.sender != OFF:
            said = receiver.claims.known_sender(domain)
            asked = self._start(receiver.claims.sender(domain, self._budget(SENDER))) if said is None else said
            self._claims.append(asked)

    def note(self, name: str, why: str) -> None:
        """Add a reason of the session's, by its name."""
        self._noted.append((name, why))

    # ---------------------------------------------------------------- content

    def feed(self, data: Octets) -> None:
        """More of the content."""
        content = self._content
        if content is not None:
            if content.wanted:
                content.feed(data)
            return
        if not self._head:
            self._head = bytes(data)
            if len(data) <= HEADER and self._whole(self._head):
                return
        else:
            if isinstance(self._head, bytes):
                self._head = bytearray(self._head)
            self._head += data
        head = self._head
        at, behind = self._end()
        if at >= 0:
            self._head = b""
            content = self._header(bytes(head[:at]))
            if content.wanted:
                content.feed(memoryview(head)[behind:])
        elif len(head) > HEADER:
            self._head = b""
            self._header(bytes(head))
        else:
            self._looked = max(0, len(head) - len(b"\n\r\n") + 1)

    def _whole(self, data: bytes) -> bool:
        """Take a piece that has all of the header, as that of most messages has: the walk over its fields finds the end
        of the header too. False where it has not."""
        content = Content(data)
        end = content.fields.end
        if end == len(data):
            return False
        self._head = b""
        self._header(data[:end], content)
        if content.wanted:
            content.feed(memoryview(data)[end + (1 if data[end] == LF else 2) :])
        return True

    def _end(self) -> tuple[int, int]:
        """(where the empty line begins that ends the header, where the body does); -1 for what has not come yet."""
        head = self._head
        for start in (b"\n", b"\r\n"):
            if head.startswith(start):
                return 0, len(start)
        at = head.find(b"\n\n", self._looked)
        # the other form is of interest in front of this one only, and all of a body is long to look through
        crlf = head.find(b"\n\r\n", self._looked, at + 2 if at >= 0 else len(head))
        if crlf >= 0:
            return crlf + 1, crlf + 3
        return (at + 1, at + 2) if at >= 0 else (-1, -1)

    def _header(self, head: bytes, content: Content | None = None) -> Content:
        """The header has come: see what it asks for, and start it. ``content``: made of it, if it is already."""
        settings, receiver = self._settings, self._receiver
        content = self._content = content or Content(head)
        self._listed = content.fields.number(b"list-id") > 0
        self._find_author(head, content)
        if settings.dkim:
            self._signatures, self._more = dkim.read(content)
            if self._signatures and receiver.dkim.wanted(self._signatures):
                self._start(receiver.dkim.prefetch(self._signatures, self._budget(HEAD)))
        if settings.arc and arc.there(content):
            self._chain = arc.read(content)
        if settings.domain_lists:
            signers = [one.domain for one in self._signatures if isinstance(one, Signature)]
            replies = self._values(head, content, b"reply-to")
            answered = authors.domains(replies, DOMAINS) if replies else ()
            named = (self._helo, self._from.rpartition("@")[2], self._author, *signers, *answered)
            listed = receiver.lists.known(named)
            self._lists.append(self._start(receiver.lists.names(named)) if listed is None else listed)
        if settings.dmarc and self._author and receiver.dmarc.unknown(self._author):
            self._start(receiver.dmarc.walk(self._author, self._budget(HEAD), {}))
        return content

    def _find_author(self, head: bytes, content: Content) -> None:
        """The values of From, and the domain that they name."""
        values = self._values(head, content, b"from")
        self._written = values or []
        try:
            if len(head) > HEADER:  # another From may stand behind what is read
                raise NoAuthor("the header is too long")
            odd = content.broken or content.fields.cr
            self._author = dmarc.author(header.shown(lines.to_lf(head)), True) if odd else dmarc.author_of(values)
        except NoAuthor as error:
            self._nobody = str(error)

    def _values(self, head: bytes, content: Content, name: bytes) -> list[bytes] | None:
        """The values of the fields of a name; None where they are longer than MOST_FROM together."""
        if content.broken or content.fields.cr:
            found = scanner.values(header.shown(lines.to_lf(head[:HEADER])), (name,), MOST_FROM)
            return [value for _, value in found] if found is not None else None
        return content.fields.values(name, MOST_FROM)  # the header was looked through already

    # ---------------------------------------------------------------- the end

    async def finish(
        self, look: Look | None = None, wanted: Sequence[Wishes] = (), content: Octets | None = None
    ) -> Received:
        """All of the content has come. ``look`` is asked about it, unless the message is refused anyway. ``wanted``:
        what is asked for its recipients; without any, what holds for all. ``content``: all of it, for lists of what it
        names."""
        self._finishing = True  # whoever closes this now, the checks go on, those that begin now too
        try:
            return await self._finish(look, dict.fromkeys(wanted) or {self._receiver.wishes: None}, content)
        finally:
            self._finishing = False
            self.close()

    async def _finish(self, look: Look | None, wanted: Collection[Wishes], whole: Octets | None) -> Received:
        settings = self._settings
        checks = await self._checks(whole)
        found = {one: outcome.of(checks, one.thresholds, self._ip, settings.hostname) for one in wanted}
        mildest, usual = next(iter(found.items()))
        field = usual.field(checks.dkim or ())
        each, earns = {mildest: usual.decided}, ""
        if look is not None or self._receiver.greylist is not None or mildest.levels or len(found) > 1:
            checks, each, earns = await self._weighed(checks, found, look, field)
            mildest = min(each, key=lambda one: RANK[one.done(each[one])])
        decided = each[mildest]
        for name in usual.counters:
            count(name)
        count(f"policy.{decided.action}")
        if decided is usual.decided and len(each) == 1:  # nobody had a say but the checks
            field += usual.marks
            said = usual.words
        else:
            limits = mildest.thresholds if len(each) == 1 else settings.thresholds
            field += marks.fields(decided, checks.findings, limits)
            said = outcome.words(checks, decided)
        if settings.received_spf:
            own = received_spf.fields(settings.hostname, self._ip, self._helo, self._from, checks.sender, checks.helo)
            field = own + field
        removed = marks.removed(checks.findings) if checks.findings else ()
        enforce = mildest.enforce or decided.named == wishes.BLOCKED
        tag = settings.subject_tag
        if tag and not wishes.tagged(each, settings.subject_score):
            tag = ""
        return Received(field, checks, decided, self._asked, enforce, removed, tuple(each.items()), tag, earns, said)

    async def _weighed(
        self, checks: Checks, found: dict[Wishes, Outcome], look: Look | None, field: bytes
    ) -> tuple[Checks, dict[Wishes, Verdict], str]:
        """The checks with what is said of the content; the verdict for each by lists of senders, by that, and by
        greylisting; and who earns to be greylisted no more. ``field``: our Authentication-Results."""
        who = wishes.Who(self._ip)
        if any(one.levels for one in found):
            who = wishes.who(self._ip, self._from, self._written, checks)
        each = {one: wishes.listed(its.decided, one, who) for one, its in found.items()}
        if look is not None and any(one.done(decided) != verdict.REFUSE for one, decided in each.items()):
            reverse = checks.reverse
            verified = reverse.name if reverse is not None and reverse.result == "pass" else ""
            checks = replace(checks, findings=tuple(await look(field, verified)))
            each = {one: wishes.judged(checks, one, who) for one in each}
        earns = ""
        if self._receiver.greylist is not None and any(one.greylist > 0 for one in each):
            suspect, sent_by = marks.suspect(checks.findings), place(self._ip, checks.sender)
            if wishes.all_put_off(each, suspect):
                each = self._put_off(self._receiver.greylist, each, sent_by)
            elif wishes.all_good(each, suspect):
                earns = sent_by
        return checks, each, earns

    async def _checks(self, whole: Octets | None) -> Checks:
        """What is found out without looking at the content's meaning, when all of it has come. ``whole``: that, for
        lists of what it names."""
        settings, receiver = self._settings, self._receiver
        content = self._content
        if content is None:
            head, self._head = self._head, b""
            content = self._header(bytes(head))
        content.finish()
        linked = self._start(self._linked(whole)) if settings.link_lists and whole is not None else None
        reverse = await self._reverse if isinstance(self._reverse, asyncio.Task) else self._reverse
        greeted = await self._greeted if isinstance(self._greeted, asyncio.Task) else self._greeted
        sender = await self._sender if isinstance(self._sender, asyncio.Task) else self._sender
        signed = chain = policy = None
        if settings.dkim:
            signed = receiver.dkim.verify_known(content, self._signatures)
            if signed is None:
                signed = await receiver.dkim.verify(content, self._signatures, self._budget(END))
        if settings.arc:
            chain = arc.NO_CHAIN
            if self._chain is not None:
                chain = await receiver.arc.verify(content, self._chain, self._budget(END))
        if settings.dmarc and self._author:
            policy = await self._evaluate(sender, signed or [])
        listed: list[Listed] = []
        for found in self._lists:
            listed += await found if isinstance(found, asyncio.Task) else found
        if linked is not None:
            listed += [one for one in await linked if one not in listed]
        checks = Checks(greeted, sender, signed, self._more, policy, chain, reverse, self._nobody, self._listed, listed)
        if self._claims or self._noted:
            noted = tuple(await self._all_noted(reverse))
            checks = replace(checks, noted=noted, refusal=self._refusal(noted))
        return checks

    def _put_off(self, greylist: Greylist, each: dict[Wishes, Verdict], sent_by: str) -> dict[Wishes, Verdict]:
        """The same verdicts, or, where the sender has to wait, later ones for all who do not refuse the message."""
        seconds = greylist.wait(sent_by, self._from)
        if not seconds:
            return each
        reply = (450, "4.7.1", f"not known here yet: try again in {seconds} seconds")
        later = {one: replace(decided, action=verdict.LATER, reply=reply) for one, decided in each.items()}
        return {one: each[one] if one.done(each[one]) == verdict.REFUSE else later[one] for one in each}

    async def _linked(self, whole: Octets) -> list[Listed]:
        """What lists say of what the content names."""
        found = await links.find(whole)
        if found.many:
            self.note("links.many", "more names than are looked up")
        names = (*found.urls, *found.addresses)
        return await self._receiver.lists.links(names) if names else []

    async def _all_noted(self, reverse: Reverse | None) -> list[claims.Finding]:
        """What speaks against the client and what it said."""
        found = [one for said in self._claims for one in await _found(said)]
        if self._settings.helo != OFF and reverse is not None:
            found += claims.generic(reverse.name, self._ip)
        return self._noted + found

    def _refusal(self, noted: Sequence[claims.Finding]) -> Reply | None:
        """The reply to the first finding that is enough by itself."""
        settings = self._settings
        refusing = {kind for kind, done in (("helo", settings.helo), ("sender", settings.sender)) if done == REFUSE}
        if not refusing:
            return None
        replies = (claims.REFUSALS.get(name) for name, _ in noted if name.partition(".")[0] in refusing)
        return next((reply for reply in replies if reply is not None), None)

    async def _evaluate(self, sender: Checked | None, signed: list[Signed]) -> Dmarc:
        """DMARC, of what SPF and DKIM came to."""
        evaluator, passed, unsure = self._receiver.dmarc, "", ""
        domains = []
        for one in signed:
            if one.result == "pass":
                domains.append(one.domain)
            elif one.result == "temperror":
                unsure = unsure or one.why
        if sender is not None and sender.result == "pass":
            passed = sender.domain
        elif sender is not None and sender.result == "temperror":
            unsure = unsure or sender.why
        known = evaluator.known(self._author, passed, domains) if not unsure else None
        if known is not None:
            return known
        return await evaluator.evaluate(self._author, passed, domains, unsure, self._budget(END))

    def close(self) -> None:
        """End what is under way, but for ``finish``, which ends by itself."""
        if self._finishing:
            return
        for task in self._tasks:
            task.cancel()
        self._tasks = []


async def _found(result: "asyncio.Task[T] | T") -> T:
    return await result if isinstance(result, asyncio.Task) else result
