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
from collections.abc import Collection, Coroutine, Sequence
from math import inf
from typing import Any, TypeVar

from msgspec.structs import replace

from fastmail._core import header as scanner
from fastmail._core import lines
from fastmail.dns.interface import LOOKUPS, Budget, Names
from fastmail.message import authors, header
from fastmail.message.authors import MOST as MOST_FROM
from fastmail.policy import (
    arc,
    claims,
    dkim,
    dmarc,
    links,
    marks,
    outcome,
    received_spf,
    results,
    weighing,
    wishes,
)
from fastmail.policy.arc import Arc
from fastmail.policy.claims import Claims
from fastmail.policy.dkim import HEADER, SIGNATURES, Content, Own, Signature, Signed, Verifier
from fastmail.policy.dmarc import LONGEST, Dmarc, Evaluator, NoAuthor
from fastmail.policy.greylist import Greylist
from fastmail.policy.iprev import Iprev, Reverse
from fastmail.policy.lists import DOMAINS, Listed, Lists
from fastmail.policy.reasons import RANK
from fastmail.policy.received import Look, Received, Settings
from fastmail.policy.series import Memory, Name, Origin, Series, signers
from fastmail.policy.spf import Checked, Spf
from fastmail.policy.strangers.rules import OFF, REFUSE
from fastmail.policy.verdict import Checks
from fastmail.policy.wishes import Wishes
from fastmail.telemetry.counters import count

T = TypeVar("T")
Octets = bytes | bytearray | memoryview
LF = 10
SENDER, HEAD, END = range(3)  # stages of a message, when the sender, the header and all of it are known


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
        self.names = names
        self.memory = Memory()

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
        *("_reverse", "_greeted", "_sender", "_lists", "_claims", "_noted", "_origin"),  # what is known of him
        *("_head", "_looked", "_content"),
        *(
            "_signatures",
            "_more",
            "_chain",
            "_author",
            "_written",
            "_nobody",
            "_listed",
            "_named",
        ),  # what the header says
        *("_name", "_own", "_series", "_subject", "_clean"),  # and which series it is of, if it is like most
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
        self._claims: Sequence[asyncio.Task[Sequence[claims.Finding]] | Sequence[claims.Finding]] = ()
        self._origin: Origin | None = None
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
        self._named: tuple[str, ...] = ()  # domains that lists are asked about
        self._name: Name | None = None
        self._own: Sequence[Own] = ()
        self._series: Series | None = None
        self._subject: bytes | None = None
        self._clean = False

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
        self._from = sender
        name = self._ip, self._helo, sender.rpartition("@")[2]
        origin = self._origin = self._receiver.memory.origins.get(name)
        if origin is None:
            self._ask(name[2])
            if not self._tasks:  # all is known, and kept as one from now on
                origin = self._origin_of(name[2])
                self._receiver.memory.origins.put(name, origin, origin.until)
            return
        if origin.listed is not None:
            self._lists.append(origin.listed)
        self._reverse, self._greeted, self._sender = origin.reverse, origin.greeted, origin.sender
        self._claims = origin.claims

    def _ask(self, domain: str) -> None:
        """``domain``: of MAIL FROM."""
        receiver, settings, ip, helo = self._receiver, self._settings, self._ip, self._helo
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
                self._sender = self._start(receiver.spf.mail_from(ip, helo, self._from, self._budget(SENDER)))
        asked: list[asyncio.Task[Sequence[claims.Finding]] | Sequence[claims.Finding]] = []
        if settings.helo != OFF:
            said = receiver.claims.known_helo(ip, helo)
            asked.append(self._start(receiver.claims.helo(ip, helo, self._budget(SENDER))) if said is None else said)
        if settings.sender != OFF:
            said = receiver.claims.known_sender(domain)
            asked.append(self._start(receiver.claims.sender(domain, self._budget(SENDER))) if said is None else said)
        self._claims = asked

    def _origin_of(self, domain: str) -> Origin:
        """What ``_ask`` found, all of which was known."""
        receiver, settings, ip, helo = self._receiver, self._settings, self._ip, self._helo
        until = [inf]
        if settings.lists:
            until.append(receiver.lists.until(ip))
        if settings.reverse:
            until.append(receiver.iprev.until(ip))
        if settings.spf:
            until += receiver.spf.until(ip, helo, "helo"), receiver.spf.until(ip, domain or helo, "mailfrom")
        if settings.helo != OFF:
            until.append(receiver.claims.helo_until(ip, helo))
        if settings.sender != OFF:
            until.append(receiver.claims.sender_until(domain))
        return Origin(
            _at_hand(self._lists[0]) if self._lists else None,
            _at_hand(self._reverse),
            _at_hand(self._greeted),
            _at_hand(self._sender),
            tuple(map(_at_hand, self._claims)),
            min(until),
        )

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
        self._header(data, content)
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
        """The header has come, perhaps with what is behind it: see what it asks for, and start it. ``content``: made of
        it, if it is already."""
        content = self._content = content or Content(head)
        if self._origin is None or not self._recognised(self._origin, content):
            self._looked_at(head, content)
        else:
            self._head = head  # if the message turns out to be unlike its series
        return content

    def _recognised(self, origin: Origin, content: Content) -> bool:
        """Is the message of a series that is known? Then no more has to be found out in its header."""
        said = content.fields.usual(LONGEST, SIGNATURES, results.MARKS) if not content.broken else None
        if said is None:
            return False
        settings, memory = self._settings, self._receiver.memory
        author, replies, self._listed, self._subject, self._clean, common, self._own = said
        self._written = [author]
        try:
            self._author = dmarc.author_of(self._written)
        except NoAuthor:
            return False
        if not settings.dkim:
            common, self._own = (), ()
        self._name = origin, self._author, self._listed, replies if settings.domain_lists else b"", common
        series = memory.series.get(self._name)
        if series is None or self._noted:
            return False
        for *_, signed, expires in self._own:
            if dkim.bad_times(signed, expires):
                return False
        for signer in series.signers:
            content.want(signer.signature.body_relaxed)
        self._series = series
        return True

    def _looked_at(self, head: bytes, content: Content) -> None:
        """The same of a header by itself."""
        settings, receiver = self._settings, self._receiver
        if len(head) <= HEADER:
            head = head[: content.fields.end]
        self._listed = content.fields.number(b"list-id") > 0
        self._find_author(head, content)
        if settings.dkim:
            self._signatures, self._more = dkim.read(content)
            if self._signatures and receiver.dkim.wanted(self._signatures):
                self._start(receiver.dkim.prefetch(self._signatures, self._budget(HEAD)))
        if settings.arc and arc.there(content):
            self._chain = arc.read(content)
        if settings.domain_lists:
            domains = [one.domain for one in self._signatures if isinstance(one, Signature)]
            replies = self._values(head, content, b"reply-to")
            answered = authors.domains(replies, DOMAINS) if replies else ()
            named = (self._helo, self._from.rpartition("@")[2], self._author, *domains, *answered)
            listed = receiver.lists.known(named)
            self._named = named
            self._lists.append(self._start(receiver.lists.names(named)) if listed is None else listed)
        if settings.dmarc and self._author and receiver.dmarc.unknown(self._author):
            self._start(receiver.dmarc.walk(self._author, self._budget(HEAD), {}))

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
            self._author, self._nobody = "", str(error)

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
        settings, ip = self._settings, self._ip
        checks = await self._checks(whole)
        series, alike = self._series, 0
        if series is None:
            found = {one: outcome.of(checks, one.thresholds, ip, settings.hostname) for one in wanted}
        else:
            known = {one: series.outcome(one, ip, settings.hostname) for one in wanted}
            found = {one: its for one, (its, _) in known.items()}
        mildest, usual = next(iter(found.items()))
        field = usual.field(checks.dkim or ())
        each, earns = {mildest: usual.decided}, ""
        if look is not None or self._receiver.greylist is not None or mildest.levels or len(found) > 1:
            letter = weighing.Letter(ip, self._from, self._written, self._receiver.greylist)
            checks, each, earns = await weighing.weighed(letter, checks, found, look, field)
            mildest = min(each, key=lambda one: RANK[one.done(each[one])])
        elif series is not None:
            alike = known[mildest][1]
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
            field = (
                received_spf.fields(settings.hostname, ip, self._helo, self._from, checks.sender, checks.helo) + field
            )
        removed = marks.removed(checks.findings) if checks.findings else ()
        enforce = mildest.enforce or decided.named == wishes.BLOCKED
        tag = settings.subject_tag
        if tag and not wishes.tagged(each, settings.subject_score):
            tag = ""
        return Received(
            field, checks, decided, self._asked, enforce, removed, tuple(each.items()), tag, earns, said,
            alike, self._subject, self._clean,
        )  # fmt: skip

    async def _checks(self, whole: Octets | None) -> Checks:
        """What is found out without looking at the content's meaning, when all of it has come. ``whole``: that, for
        lists of what it names."""
        content = self._content
        if content is None:
            head, self._head = self._head, b""
            content = self._header(bytes(head))
        content.finish()
        series = self._series
        if series is not None:
            checks = series.checked(content, self._own) if series.until > time.monotonic() else None
            if checks is not None:
                return checks
            self._series = None
            self._looked_at(bytes(self._head), content)
        return await self._found_out(content, whole)

    async def _found_out(self, content: Content, whole: Octets | None) -> Checks:
        """The same of a message by itself."""
        settings, receiver = self._settings, self._receiver
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
            checks = replace(
                checks, noted=noted, refusal=claims.refusal(noted, settings.helo == REFUSE, settings.sender == REFUSE)
            )
        if self._name is not None and self._spent is None and not self._tasks and not self._noted:
            self._keep(self._name, checks)
        return checks

    def _keep(self, name: Name, checks: Checks) -> None:
        """Have these results for the next message of the series: all of them were known."""
        receiver, settings = self._receiver, self._settings
        found = signers(receiver.names, self._signatures, checks.dkim or ())
        if found is None or self._nobody or settings.link_lists:
            return
        until = [name[0].until, found[1]]
        if settings.domain_lists:
            until.append(receiver.lists.until(self._named))
        if settings.dmarc:
            passed, domains, unsure = _vouching(checks.sender, checks.dkim or ())
            until.append(0.0 if unsure else receiver.dmarc.until(self._author, passed, domains))
        receiver.memory.series.put(name, Series(checks, found[0], min(until)), min(until))

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

    async def _evaluate(self, sender: Checked | None, signed: Sequence[Signed]) -> Dmarc:
        """DMARC, of what SPF and DKIM came to."""
        evaluator = self._receiver.dmarc
        passed, domains, unsure = _vouching(sender, signed)
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


def _at_hand(result: "asyncio.Task[T] | T") -> T:
    """What is no task, because nobody was asked."""
    assert not isinstance(result, asyncio.Task)
    return result


def _vouching(sender: Checked | None, signed: Sequence[Signed]) -> tuple[str, list[str], str]:
    """(the domain of MAIL FROM where SPF passed, domains of signatures that passed, why another of them could not be
    known)."""
    passed, unsure = "", ""
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
    return passed, domains, unsure
