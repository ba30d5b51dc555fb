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
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
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
    origin,
    outcome,
    received_spf,
    results,
    weighing,
    wishes,
)
from fastmail.policy.checkers import Checkers
from fastmail.policy.dkim import HEADER, SIGNATURES, Content, Own, Signature, Signed
from fastmail.policy.dmarc import LONGEST, Dmarc, NoAuthor, Unsure
from fastmail.policy.greylist import Greylist
from fastmail.policy.iprev import Reverse
from fastmail.policy.lists import DOMAINS, Listed
from fastmail.policy.origin import Origin, found
from fastmail.policy.reasons import RANK
from fastmail.policy.received import Look, Received, Settings
from fastmail.policy.series import Ending, Memory, Name, Series, signers
from fastmail.policy.spf import Checked
from fastmail.policy.strangers.rules import OFF, REFUSE
from fastmail.policy.verdict import Checks
from fastmail.policy.wishes import Wishes
from fastmail.telemetry.counters import count_each

T = TypeVar("T")
Octets = bytes | bytearray | memoryview
LF = 10
NOWHERE = Origin()
SENDER, HEAD, END = range(3)  # stages of a message, when the sender, the header and all of it are known


class Receiver(Checkers):
    """What the transactions of a worker share: settings, checks, and what is known of those who send."""

    def __init__(self, names: Names, settings: Settings, greylist: Greylist | None = None) -> None:
        super().__init__(names, settings)
        self.greylist = greylist
        self.wishes = settings.wishes
        self.memory = Memory()

    def begin(self, ip: str, helo: str) -> "Receiving":
        """A mail transaction of a client."""
        return Receiving(self, self.settings, ip, helo)


class Receiving(msgspec.Struct, eq=False):
    """One mail transaction; see the module. It is made within the event loop. What is known needs no task, and most of
    a message's checks are: so a budget, a task or a coroutine is made where something has to be asked, and nowhere
    else."""

    _receiver: Receiver
    _settings: Settings
    # who sends, and what is known of that
    _ip: str
    _helo: str
    _from: str = ""
    _origin: Origin = NOWHERE
    _noted: Sequence[claims.Finding] = ()
    # what is asked
    _spent: Budget | None = None
    _stage: int = SENDER
    _tasks: Sequence[asyncio.Task[Any]] = ()
    _finishing: bool = False
    # the content: its header until that has ended, then hashes of its body
    _head: bytes | bytearray = b""
    _looked: int = 0  # octets of it in which no empty line begins
    _content: Content | None = None
    # what the header says
    _signatures: Sequence[Signature | Signed] = ()
    _more: int = 0
    _chain: arc.Found | None = None
    _author: str = ""
    _written: Sequence[bytes] = ()  # values of From
    _nobody: str = ""
    _listed: bool = False
    _named: tuple[str, ...] = ()  # domains that lists are asked about
    _lists: asyncio.Task[list[Listed]] | Sequence[Listed] = ()  # what they say
    # which series the message is of, if its header is like most (Fields.usual)
    _name: Name | None = None
    _own: Sequence[Own] = ()
    _series: Series | None = None
    _subject: bytes | None = None
    _clean: bool = False

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
        self._tasks = (*self._tasks, task)
        return task

    def mail_from(self, sender: str) -> None:
        """Start what depends on client and sender."""
        self._from = sender
        origins = self._receiver.memory.origins
        key = self._ip, self._helo, sender.rpartition("@")[2]
        known = origins.get(key)
        if known is None:
            known = origin.ask(self._receiver, key, sender, self._start, lambda: self._budget(SENDER))
            if not self._tasks and not known.fresh:  # all was known, and is kept as one from now on
                known.until = origin.until(self._receiver, key)
                origins.put(key, known, known.until)
        self._origin = known

    def note(self, name: str, why: str) -> None:
        """Add a reason of the session's, by its name."""
        self._noted = (*self._noted, (name, why))

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
        if self._recognised(content):
            self._head = head  # if the message turns out to be unlike its series
        else:
            self._looked_at(head, content)
        return content

    def _recognised(self, content: Content) -> bool:
        """Is the message of a series that is known? Then no more has to be found out in its header."""
        if not self._origin.until or content.broken:  # no series is known, and none can be made of this message
            return False
        said = content.fields.usual(LONGEST, SIGNATURES, results.MARKS)
        if said is None:
            return False
        settings, memory = self._settings, self._receiver.memory
        author, replies, listed, self._subject, self._clean, common, own = said
        try:
            domain = dmarc.author_in(author)
        except NoAuthor:
            return False
        if not settings.dkim:
            common, own = (), []
        parts = domain, listed, replies if settings.domain_lists else b"", common
        series = memory.known(self._origin, parts)
        if series is None or self._noted:
            self._name = self._origin, *parts
            return False
        for *_, signed, expires in own:
            if dkim.bad_times(signed, expires):
                return False
        for signer in series.signers:
            content.want(signer.signature.body_relaxed)
        self._written, self._own, self._series = (author,), own, series
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
            listed = receiver.lists.at_once(named)
            self._named = named
            self._lists = self._start(receiver.lists.names(named)) if listed is None else listed
        if settings.dmarc and self._author and receiver.dmarc.unknown(self._author):
            self._start(receiver.dmarc.prepare(self._author, self._budget(HEAD)))

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
        self, look: Look | None = None, wanted: Iterable[Wishes] = (), content: Octets | None = None
    ) -> Received:
        """All of the content has come. ``look`` is asked about it, unless the message is refused anyway. ``wanted``:
        what is asked for its recipients; without any, what holds for all. ``content``: all of it, for lists of what it
        names."""
        self._finishing = True  # whoever closes this now, the checks go on, those that begin now too
        try:
            checks = self._known()
            asked = dict.fromkeys(wanted) or {self._receiver.wishes: None}
            mildest = next(iter(asked))
            greylisted = self._receiver.greylist is not None and mildest.greylist > 0
            others = look is not None or greylisted or bool(mildest.levels) or len(asked) > 1
            if checks is not None and self._series is not None and not others:
                return self._ended(checks, self._series.ending(mildest, self._settings, self._ip))
            if checks is None:
                checks = await self._found_out(content)
            return await self._judged(checks, look, asked, others)
        finally:
            self._finishing = False
            if self._tasks:
                self.close()

    async def _judged(self, checks: Checks, look: Look | None, wanted: Collection[Wishes], others: bool) -> Received:
        """What becomes of a message by itself. ``others``: more than the checks have a say."""
        settings, ip, mildest = self._settings, self._ip, next(iter(wanted))
        found = {one: outcome.of(checks, one.thresholds, ip, settings.hostname) for one in wanted}
        usual = found[mildest]
        field = usual.field(checks.dkim or ())
        each, earns = {mildest: usual.decided}, ""
        if others:
            letter = weighing.Letter(ip, self._from, self._written, self._receiver.greylist)
            checks, each, earns = await weighing.weighed(letter, checks, found, look, field)
            mildest = min(each, key=lambda one: RANK[one.done(each[one])])
        decided = each[mildest]
        count_each((*usual.counters, f"policy.{decided.action}"))
        if decided is usual.decided and len(each) == 1:  # nobody had a say but the checks
            field += usual.marks
            said = usual.words
        else:
            limits = mildest.thresholds if len(each) == 1 else settings.thresholds
            field += marks.fields(decided, checks.findings, limits)
            said = outcome.words(checks, decided)
        if settings.received_spf:
            field = self._of_spf(checks) + field
        removed = marks.removed(checks.findings) if checks.findings else ()
        enforce = mildest.enforce or decided.named == wishes.BLOCKED
        tag = settings.subject_tag
        if tag and not wishes.tagged(each, settings.subject_score):
            tag = ""
        each_one = tuple(each.items())
        return Received(
            field,
            checks,
            decided,
            self._asked,
            enforce,
            removed,
            each_one,
            tag,
            earns,
            said,
            0,
            self._subject,
            self._clean,
        )

    def _ended(self, checks: Checks, ending: Ending) -> Received:
        """The same of a message of a series, where nobody has a say but the checks."""
        usual = ending.outcome
        count_each(ending.counters)
        field = usual.field(checks.dkim or ()) + usual.marks
        if self._settings.received_spf:
            field = self._of_spf(checks) + field
        return Received(
            field,
            checks,
            usual.decided,
            0,
            ending.enforce,
            (),
            ending.each,
            ending.tag,
            "",
            usual.words,
            ending.alike,
            self._subject,
            self._clean,
        )

    def _of_spf(self, checks: Checks) -> bytes:
        """Received-SPF fields."""
        hostname = self._settings.hostname
        return received_spf.fields(hostname, self._ip, self._helo, self._from, checks.sender, checks.helo)

    def _known(self) -> Checks | None:
        """All of the content has come: the results of a message of a known series; None for any other."""
        content = self._content
        if content is None:
            head, self._head = self._head, b""
            content = self._header(bytes(head))
        content.finish()
        series = self._series
        if series is None:
            return None
        checks = series.checked(content, self._own) if series.until > time.monotonic() else None
        if checks is None:
            self._series = None
            self._looked_at(bytes(self._head), content)
        return checks

    async def _found_out(self, whole: Octets | None) -> Checks:
        """What is found out of a message by itself, when all of it has come. ``whole``: that, for lists of what it
        names."""
        settings, receiver, content = self._settings, self._receiver, self._content
        assert content is not None
        linked = self._start(self._linked(whole)) if settings.link_lists and whole is not None else None
        known = self._origin
        reverse, greeted, sender = await found(known.reverse), await found(known.greeted), await found(known.sender)
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
        listed = [*(await found(known.listed) or ()), *await found(self._lists)]
        if linked is not None:
            listed += [one for one in await linked if one not in listed]
        checks = Checks(greeted, sender, signed, self._more, policy, chain, reverse, self._nobody, self._listed, listed)
        if known.claims or self._noted:
            noted = tuple(await self._all_noted(reverse))
            refusal = claims.refusal(noted, settings.helo == REFUSE, settings.sender == REFUSE)
            checks = replace(checks, noted=noted, refusal=refusal)
        if self._name is not None and self._spent is None and not self._tasks and not self._noted:
            self._keep(self._name, checks)
        return checks

    def _keep(self, name: Name, checks: Checks) -> None:
        """Have these results for the next message of the series: all of them were known."""
        receiver, settings = self._receiver, self._settings
        known = signers(receiver.names, self._signatures, checks.dkim or ())
        if known is None or self._nobody or settings.link_lists:
            return
        until = [name[0].until, known[1]]
        if settings.domain_lists:
            until.append(receiver.lists.until(self._named))
        if settings.dmarc:
            passed, domains, unsure = _vouching(checks.sender, checks.dkim or ())
            until.append(0.0 if unsure else receiver.dmarc.until(self._author, passed, domains))
        receiver.memory.keep(name, Series(checks, known[0], min(until)))

    async def _linked(self, whole: Octets) -> list[Listed]:
        """What lists say of what the content names."""
        named = await links.find(whole)
        if named.many:
            self.note("links.many", "more names than are looked up")
        names = (*named.urls, *named.addresses)
        return await self._receiver.lists.links(names) if names else []

    async def _all_noted(self, reverse: Reverse | None) -> list[claims.Finding]:
        """What speaks against the client and what it said."""
        said = [one for claim in self._origin.claims for one in await found(claim)]
        if self._settings.helo != OFF and reverse is not None:
            said += claims.generic(reverse.name, self._ip)
        return [*self._noted, *said]

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
        self._tasks = ()


def _vouching(sender: Checked | None, signed: Sequence[Signed]) -> tuple[str, list[str], list[Unsure]]:
    """(the domain of MAIL FROM where SPF passed, domains of signatures that passed, those that could not be known)."""
    passed = sender.domain if sender is not None and sender.result == "pass" else ""
    domains = [one.domain for one in signed if one.result == "pass"]
    unsure = [Unsure("dkim", one.domain, one.why) for one in signed if one.result == "temperror"]
    if sender is not None and sender.result == "temperror":
        unsure.append(Unsure("spf", sender.domain, sender.why))
    return passed, domains, unsure
