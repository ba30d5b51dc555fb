"""Mailing lists in the queue: a post becomes messages to its members, requests are answered, and what comes back is
counted.

A message for a list is taken into the queue like one for this server. When its turn comes, the commit that settles the
list as its recipient queues the message as its members will get it. That one is expanded in steps: each commit queues a
message for the next MEMBERS members and moves on in the list, so a crash loses nobody and doubles nobody, and memory
does not grow with the list. Members here and members elsewhere are jobs of the same message; its content is kept once
for a step. The envelope sender is the list's ``-bounces`` address; mail that leaves has one of its own for each member.

A post with the Message-ID of one that the list sent lately is not sent again: it came by two ways.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import ParamSpec, TypeVar

import msgspec

from fastmail.delivery import signing
from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.forward import Forward, is_junk
from fastmail.delivery.history import History
from fastmail.delivery.lists import answers, bounces, content, moderation, one_click, posting, requests
from fastmail.directory.interface import Directory
from fastmail.directory.list_tokens import Tokens, digest_of
from fastmail.directory.lookup import BOUNCES, OWNER, ToList
from fastmail.directory.records import ACTIVE, ALWAYS, NEVER, List, Member
from fastmail.message import submitted
from fastmail.model.address import comparable
from fastmail.model.errors import ClientError, CorruptData, DamagedAccount
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.policy.sealing import Sealer
from fastmail.policy.signer import Signer
from fastmail.queue.model import LOCAL, Item, Job, Outgoing
from fastmail.queue.routes import STRICT, Routes, marked
from fastmail.queue.spool import Spool
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MEMBERS = 20_000  # of one step: as many are in memory, and in one commit
P = ParamSpec("P")
T = TypeVar("T")
PUT_OFF = 300.0  # s until a list whose row is damaged is looked at again
Demands = Callable[[bytes], Awaitable[bool]]


async def nobody_demands(header: bytes) -> bool:
    """Where no policies of authors are looked up."""
    return False


@dataclass(slots=True)
class Lists:
    """One in the process that empties the queue. ``demands``: does the author of a header ask receivers to refuse or to
    set aside what is not signed as he wrote it? ``signer``: signs what a list sends, for the list's domain; ``sealer``:
    puts our ARC set on it, because the list may have changed what the author signed."""

    spool: Spool
    deliverer: Deliverer
    routes: Routes
    history: History
    hostname: str
    demands: Demands = nobody_demands
    signer: Signer | None = None
    sealer: Sealer | None = None
    _answered: answers.Bounded = field(default_factory=answers.Bounded)
    _under_way: dict[tuple[str, bytes], int] = field(default_factory=dict)  # posts: the item that makes each

    @property
    def _directory(self) -> Directory:
        return self.deliverer.directory

    async def of(self, item: Item, rcpt: Rcpt, text: bytes, lists: Sequence[ToList]) -> list[Forward]:
        """The messages that a recipient's lists make, to be queued in the commit that settles it. What a report says is
        counted, and what a request asks for is done, before that commit: doing it again does no harm."""
        out: list[Outgoing] = []
        junk = is_junk(item, rcpt.address)
        for one in lists:
            made = await self._made(item, text, one, junk)
            for outgoing in made:
                await signing.put(self.signer, outgoing, one.row.address.rpartition("@")[2])
            out += made
        return [Forward(outgoing, rcpt.address) for outgoing in out]

    async def _made(self, item: Item, text: bytes, to: ToList, junk: bool) -> list[Outgoing]:
        """What one list, or its part that the recipient names, sends."""
        if not to.part:
            return await self._post(item, text, to.row, junk)
        try:
            if to.part == BOUNCES:
                return await self._returned(item, text, to)
            if item.sender:
                return await self._asked(item, text, to)
        except (ClientError, CorruptData) as error:  # the list or the member is gone, or its row is damaged
            log.event("list.request", "error", id=item.number, list=to.row.address, error=repr(error))
        return []

    # ---------------------------------------------------------------- posts

    async def _post(self, item: Item, text: bytes, row: List, junk: bool) -> list[Outgoing]:
        """A message to a list, as its members get it; none where it is not to be sent. ``junk``: it was judged so."""
        ident = submitted.message_id(text)
        known = (row.address, _digest(ident))
        why = ""
        if not item.sender:
            why = "it has no sender"
        elif posting.has_passed(text, row):
            why = "the list sent it already: it loops"
        elif ident and not await self._claim(known, item):
            why = "the list sent this Message-ID already"
        if why:
            count("lists.left_out")
            log.event("list.left_out", id=item.number, list=row.address, why=why)
            self.history.note(item.number, "left out", (row.address,), list=row.address, why=why)
            return []
        rewrites = row.rewrite_from == ALWAYS or (row.rewrite_from != NEVER and await self.demands(text))
        whole = await _aside(content.made, row, text, rewrites)
        if self.sealer is not None and item.checked:
            whole = await self.sealer.seal(whole, one_click.CHANGED) + whole
        made = self._message(item, whole, row)
        made.mailing_list = row.address
        count("lists.posts")
        if junk or moderation.waits(self._directory, row, item.login):
            return self._to_owners(item, text, row, made, whole, junk)
        return [Outgoing(made, {LOCAL: [Rcpt(row.address, notify="NEVER")]}, [whole])]

    def _to_owners(self, item: Item, text: bytes, row: List, post: Item, whole: bytes, junk: bool) -> list[Outgoing]:
        """The post as it waits, and the question to its owners."""
        token, post.token = moderation.token()
        post.options = msgspec.structs.replace(post.options, release=moderation.until())
        asked = moderation.question(row, post, token, item.sender, text, self.hostname, junk)
        to = content.part_of(row, OWNER)
        where = self._destination(to.rpartition("@")[2], "")
        count("lists.moderated")
        log.event("list.waits", id=item.number, list=row.address, message=post.number)
        return [
            Outgoing(post, {moderation.destination(row): [Rcpt(row.address, notify="NEVER")]}, [whole]),
            answers.outgoing(self.spool.new_id(), to, where, asked, self.hostname),
        ]

    def _message(self, item: Item, whole: bytes, row: List) -> Item:
        """The queue's item of what a list sends."""
        asked = item.options
        back = content.part_of(row, BOUNCES)
        return Item(
            self.spool.new_id(),
            back,
            int(time.time()),
            len(whole) + whole.count(b"\n"),
            EsmtpOptions(
                utf8=asked.utf8 or not back.isascii(),
                ret="HDRS",
                require_tls=asked.require_tls,
                priority=asked.priority,
            ),
            item.eight or not whole.isascii(),
            helo=item.helo,
            peer=item.peer,
            protocol=item.protocol,
            owner=back,
        )

    async def _claim(self, post: tuple[str, bytes], item: Item) -> bool:
        """False where the list sent such a post, or another item makes it now; otherwise it is this item's until
        ``settled``. That is noted before anything is awaited, or two of them could pass each other."""
        if self._under_way.setdefault(post, item.id) != item.id:
            return False
        if await _aside(self._directory.was_posted, *post, int(time.time())):
            del self._under_way[post]
            return False
        return True

    async def settled(self, item: Item, text: bytes, lists: Sequence[ToList], done: bool) -> None:
        """The commit with what ``of`` made was made (``done``), or not: then it will all be done again."""
        digest = _digest(submitted.message_id(text))
        for one in lists:
            known = (one.row.address, digest)
            if one.part or self._under_way.get(known) != item.id:
                continue
            if done:
                await _aside(self._directory.note_post, *known, int(time.time()))
            self._under_way.pop(known, None)

    async def step(self, job: Job, item: Item, text: bytes) -> None:
        """Queue a post for the next members, and move on."""
        if item.token and not job.agreed:
            await self._over(job, item)
            return
        try:
            row = self._directory.mailing_list(item.mailing_list)
        except DamagedAccount as error:
            await self._put_off(job, error)
            return
        found: tuple[list[Member], dict[str, list[Rcpt]], bool] = [], {}, False
        if row is not None and row.enabled:
            found = await _aside(self._next, row, job.after, item)
        members, groups, utf8 = found
        out = []
        if row is not None and groups:
            made = self._message(item, text, row)
            made.mailing_list, made.verp, made.signed = row.address, True, item.signed
            made.options = msgspec.structs.replace(made.options, utf8=made.options.utf8 or utf8)
            out.append(Outgoing(made, groups, [text]))
        over = len(members) < MEMBERS

        def change(old: Job) -> Job | None:
            if over:
                return None
            old.after = members[-1].address
            return old

        queued = await self.spool.change(job.key, change, out)
        number = sum(map(len, groups.values()))
        for one in out:
            if one.item.id in queued:
                log.event("list.step", id=item.number, list=item.mailing_list, message=one.item.number, members=number)
                words = (one.item.number, item.mailing_list)
                self.history.note(
                    item.number, "expanded", words, list=item.mailing_list, message=one.item.number, members=number
                )

    async def _put_off(self, job: Job, error: DamagedAccount) -> None:
        """The list's row is damaged: its mail waits until that is mended."""
        log.event("list.damaged", "error", job=job.item, error=error)

        def change(old: Job) -> Job:
            old.due, old.last = int(time.time() + PUT_OFF), str(error)[:500]
            return old

        await self.spool.change(job.key, change)

    async def _over(self, job: Job, item: Item) -> None:
        """A post that nobody agreed to: dropped where its time is over, or it waits on."""
        over = item.options.release <= time.time()

        def change(old: Job) -> Job | None:
            if not over:
                old.due = item.options.release  # somebody wanted it tried
            return None if over else old

        await self.spool.change(job.key, change)
        if over:
            log.event("list.dropped", id=item.number, list=item.mailing_list)
            self.history.note(item.number, "dropped", (item.mailing_list,), list=item.mailing_list, why="nobody agreed")

    def _next(self, row: List, after: str, item: Item) -> tuple[list[Member], dict[str, list[Rcpt]], bool]:
        """(the next members, those who get mail by destination, is any address not ASCII?)."""
        members = list(islice(self._directory.each_member(row.address, after), MEMBERS))
        groups: dict[str, list[Rcpt]] = {}
        where: dict[str, str] = {}
        utf8, mark = False, STRICT if item.options.require_tls else ""
        for one in members:
            if one.state != ACTIVE:
                continue
            domain = one.address.rpartition("@")[2]
            to = where.get(domain)
            if to is None:
                to = where[domain] = marked(self._destination(domain, item.sender), mark)
            groups.setdefault(to, []).append(Rcpt(one.address, notify="FAILURE"))
            utf8 = utf8 or not one.address.isascii()
        return members, groups, utf8

    def _destination(self, domain: str, sender: str) -> str:
        return LOCAL if self._directory.is_local(domain) else self.routes.destination(domain, sender)

    # ---------------------------------------------------------------- what comes back

    async def _returned(self, item: Item, text: bytes, to: ToList) -> list[Outgoing]:
        """Count the members whose mail came back for good. ``to``: with the member's token, but for reports of our own
        queue (``item.owner``), which are believed."""
        ours = bool(item.owner) and not item.sender
        found = await _aside(self._failed, to, text, ours)
        out = []
        for address, why in found:
            noted = await _aside(self._directory.note_bounce, to.row.address, address, int(time.time()))
            if noted is None:
                continue
            member, suspended = noted
            count("lists.bounces")
            log.event("list.bounce", list=to.row.address, member=address, days=member.bounces, why=why)
            if suspended:
                out.append(self._tell_owner(to.row, member, why))
        return out

    def _failed(self, to: ToList, text: bytes, ours: bool) -> list[tuple[str, str]]:
        """(member, why) of each whose mail came back for good."""
        report = bounces.read(text)
        if ours:
            return [(one.address, one.why) for one in report or () if one.failed and one.address]
        address, digest = Tokens(self._directory).bounced(to.row, to.detail)
        if report is not None:
            failed = [one.why for one in report if one.failed]
        else:
            failed = [bounces.subject(text)] if bounces.is_failure(text) else []
        if not failed:
            return []
        if digest:  # an address that is too long for the token: few are, so all are looked at
            every = self._directory.each_member(to.row.address)
            address = next((one.address for one in every if digest_of(one.address) == digest), "")
        return [(address, failed[0])] if address else []

    def _tell_owner(self, row: List, member: Member, why: str) -> Outgoing:
        """Its owners hear of a member that was suspended."""
        to = content.part_of(row, OWNER)
        lines = [
            f"Mail of {row.address} to its member {member.address} came back",
            f"on {member.bounces} days, so it gets no more of it.",
            "",
            f"The last reason: {why}" if why else "No reason was given.",
            "",
            "To let it have mail again:",
            f"    fastmail list member resume {row.address} {member.address}",
        ]
        count("lists.suspended")
        log.event("list.suspended", list=row.address, member=member.address, days=member.bounces)
        return self._ours(row, to, f"A member of {row.address} was suspended", lines)

    # ---------------------------------------------------------------- requests

    async def _asked(self, item: Item, text: bytes, to: ToList) -> list[Outgoing]:
        """Do what a request asks for, and answer it; neither for a program, nor too often for one address. What comes
        with a token, from an owner or from who joins or leaves, is done in any case: the token is proof of who asks."""
        wish, said = requests.wish(to.part, text), None
        automatic = posting.is_automatic(text)
        if wish in (requests.APPROVE, requests.REJECT) and not automatic:
            said = await moderation.decide(self.spool, to.row, item.sender, text, wish == requests.APPROVE)
        elif wish == requests.CONFIRM and not automatic:
            said = await _aside(requests.answer, self._directory, to, item.sender, text)
        if automatic or not self._answered.allows(comparable(item.sender)):
            log.event("list.unanswered", id=item.number, list=to.row.address, sender=item.sender)
            return []
        if said is None:
            said = await _aside(requests.answer, self._directory, to, item.sender, text, item.login)
        return [self._ours(to.row, said.to, said.subject, said.lines, submitted.message_id(text) or "none@invalid")]

    def _ours(self, row: List, to: str, subject: str, lines: list[str], about: str = "") -> Outgoing:
        text = answers.text(row, to, subject, lines, self.hostname, about)
        where = self._destination(to.rpartition("@")[2], "")
        return answers.outgoing(self.spool.new_id(), to, where, text, self.hostname)


async def _aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Done by a helper thread, because it waits for the disk or reads much."""
    return await asyncio.get_running_loop().run_in_executor(None, partial(work, *args, **kwargs))


def _digest(ident: str) -> bytes:
    return hashlib.sha256(ident.encode("utf-8", "replace")).digest()
