"""Writes the responses of one FETCH (RFC 3501 7.4.2, with RFC 3516, RFC 8474 5, RFC 8970 and RFC 9586), also for NOTIFY
(RFC 5465).

The compiled writer renders what the index and the summaries have, a page of records at a time. Only BODY[...] beyond
the cached header fields reads content. Output goes in blocks, each with its own short snapshot, and waits while the
client does not read. A message with a missing or old summary is scanned again. One that cannot be read is left out, and
the answer is NO [EXPUNGEISSUED] or [SERVERBUG]; the other messages are not affected.
"""

from collections.abc import Iterator
from typing import Any

from fastmail._core import fetch as render
from fastmail._core import idents, mime, pages
from fastmail._core.fetch import Item
from fastmail._core.octets import Out
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds
from fastmail.imap.aside import BIG, aside
from fastmail.imap.command import Command, Work
from fastmail.imap.fetch_plan import Plan
from fastmail.imap.state import Session
from fastmail.imap.telling import Own
from fastmail.imap.views import OpenSection, Selected, new_keywords, note_own
from fastmail.message import identity, sections, summary
from fastmail.message.preview import preview
from fastmail.model.errors import MailError, TemporaryError
from fastmail.model.flags import SEEN
from fastmail.net.connection import Connection
from fastmail.store.interface import Mailbox, Octets, Snapshot
from fastmail.telemetry import log

BLOCK = 65536  # octets of responses written at a time
KEPT = 131072  # octets from which on a section stays in memory while it is fetched in parts
AT_ONCE = 8 << 20  # octets above which a response that repeats sections of a message is sent in parts
LEARNT = 2000  # previews that one FETCH adds to old summaries
MOST = 200  # messages read with one snapshot
END = b")\r\n"


class FetchRun:
    """One FETCH under way."""

    __slots__ = (
        "ahead",
        "box",
        "code",
        "gone",
        "missing",
        "plan",
        "previews",
        "selected",
        "session",
        "uids",
        "unknown",
        "unreadable",
    )

    def __init__(self, session: Session, selected: Selected, plan: Plan, uids: UidSet) -> None:
        self.session = session
        self.selected = selected
        self.plan = plan
        self.uids = uids
        self.code = b""  # MESSAGELIMIT, if these are not all messages that were asked for
        self.missing: list[int] = []
        self.gone = 0
        self.unreadable = 0
        self.unknown = 0
        self.previews: dict[int, bytes] = {}  # previews that were not in summaries, by UID
        self.box: Mailbox | None = None  # the mailbox's row when ``ready`` wrote the last response
        self.ahead = 0  # the first message of the last prefetch

    def block(self, uids: UidSet) -> UidSet:
        """Render about one block of responses for ``uids`` from the index; return the UIDs that are left."""
        session, selected, plan = self.session, self.selected, self.plan
        out = Out(BLOCK + 8192 if len(uids) > 100 else 1024)
        last = 0
        with session.service.store.snapshot(self.selected.account) as snapshot:
            selected.recall(snapshot)
            self._learn_keywords(out, snapshot)
            summaries = snapshot.summaries(selected.key, uids) if plan.items & Item.SUMMARY else None
            for page in snapshot.pages(selected.key, uids):
                missing, last = render.page_to(
                    out,
                    page,
                    selected.uids,
                    uids,
                    plan.items,
                    selected.keywords,
                    selected.recent,
                    summaries,
                    plan.asked,
                    BLOCK,
                )
                self.missing += missing
                if len(out) >= BLOCK:
                    last = last or pages.span(page)[1]
                    break
        session.conn.write(out.take())
        return uids.minus(UidSet.of_ranges((1, last))) if last else UidSet()

    def ready(self, uids: UidSet, seen: UidSet | None) -> tuple[UidSet, bool]:
        """Render responses with content, in one snapshot, as far as that needs no waiting and up to about one block.
        Returns (UIDs that are left, True if the first of them has to be waited for)."""
        session, selected, plan = self.session, self.selected, self.plan
        out = Out(1024)
        count = done = 0
        stuck = False
        with session.service.store.snapshot(self.selected.account) as snapshot:
            self.box = snapshot.mailbox(selected.key)
            selected.recall(snapshot, self.box)
            self._learn_keywords(out, snapshot)
            summaries = snapshot.summaries(selected.key, uids)
            for page in snapshot.pages(selected.key, uids):
                for uid in pages.changed_since(page, uids, 0):
                    stored = summaries.get(uid)
                    needed = stored is not None and plan.needs_content and plan.needs(stored)
                    content = snapshot.content(selected.key, uid) if needed else b""
                    if stored is None or content is None or self._is_long(stored, content):
                        stuck = True
                        break
                    if not self._write(out, page, uid, stored, content, seen):
                        stuck = True
                        break
                    done = uid
                    count += 1
                    if len(out) >= BLOCK or count >= MOST:
                        break
                if stuck or len(out) >= BLOCK or count >= MOST:
                    break
            else:
                done = uids.last
        session.conn.write(out.take())
        tried = uids.both(UidSet.of_ranges((1, done))) if done else UidSet()
        self.gone += len(tried) - count
        return uids.minus(tried), stuck

    def _learn_keywords(self, out: Out | Connection, snapshot: Snapshot) -> None:
        """Send new keywords first. Only FLAGS name keywords, and \\Seen that is set on the way is sent with FLAGS
        too."""
        if self.plan.items & Item.FLAGS or self.plan.sees:
            out.write(new_keywords(self.selected, snapshot))

    def _is_repeated(self, content: Octets) -> bool:
        """True if the sections together may be much larger than the message; they are then sent one by one."""
        return len(self.plan.bodies) > 1 and len(self.plan.bodies) * len(content) > AT_ONCE

    def _is_long(self, stored: Octets, content: Octets) -> bool:
        """True if the message should be parsed or decoded on another thread, or sent in parts because its sections
        repeat. What the compiled writer only copies is written here."""
        if self._is_repeated(content):
            return True
        if self.plan.plain:
            return False
        return (len(content) > BIG and self.plan.needs_content) or (len(stored) > BIG and self.plan.structure)

    def _write(self, out: Out, page: Octets, uid: int, stored: Octets, content: Octets, seen: UidSet | None) -> bool:
        """Write one message's response; False if its content has to be scanned for it."""
        selected, plan = self.selected, self.plan
        if plan.plain:
            items = plan.items | self._told_flags() if seen is not None and uid in seen else plan.items
            view, names, recent = selected.uids, selected.keywords, selected.recent
            if render.message(out, page, view, uid, items, names, recent, stored, plan.asked, content, plan.plain):
                return True
        parsed = summary.read(stored)
        if parsed is None or parsed.lost or (plan.items & Item.FIELDS and not parsed.complete):
            return False
        for part in self._response(page, uid, stored, parsed, content, seen):
            out.write(part)
        return True

    async def _some(self, uids: UidSet, seen: UidSet | None) -> UidSet:
        """Write some messages with their content; return those that are left."""
        rest, stuck = self.ready(uids, seen)
        return await self._stuck(rest, seen) if stuck else rest

    async def _stuck(self, rest: UidSet, seen: UidSet | None) -> UidSet:
        """Write the first of these messages, which has to be waited for; return those that are left. What is not in
        memory is prefetched for many messages at once."""
        if self.plan.needs_content and len(rest) > 1 and rest.first != self.ahead:
            self.ahead = rest.first
            await self.session.service.store.fetch_ahead(self.selected.account, self.selected.key, rest)
            return rest
        await self._one(rest.first, seen)
        return rest.minus(UidSet.of_ranges((1, rest.first)))

    async def render(self) -> None:
        """Write all responses, without setting \\Seen and without a tagged reply."""
        rest = self.uids
        while rest:
            if self.plan.one_by_one:
                rest = await self._some(rest, None)
            else:
                rest = self.block(rest)
            await self.session.conn.drain()
        for uid in self.missing:
            await self._one(uid, None)

    async def blocks(self, command: Command, rest: UidSet) -> None:
        """Write the rest of a FETCH that the index answers."""
        conn = self.session.conn
        await conn.drain()
        while rest:
            rest = self.block(rest)
            await conn.drain()
        for uid in self.missing:
            await self._one(uid, None)
        await self._finish(command, None)

    def whole(self, command: Command) -> Work:
        """Run a FETCH that reads messages or sets \\Seen. What needs no waiting is written at once."""
        if self._sees() or not self.plan.one_by_one or not self.uids:
            return self._whole(command)
        rest, stuck = self.ready(self.uids, None)
        if rest:
            return self._rest(command, rest, stuck)
        if self.previews:
            return self._finish(command, None)
        return command.finish(self._text(), box=self.box)

    async def _rest(self, command: Command, rest: UidSet, stuck: bool) -> None:
        """Go on after the first block. ``stuck``: the first of these messages has to be waited for."""
        if stuck:
            rest = await self._stuck(rest, None)
        if rest:
            await self.session.conn.drain()
        await self._slowly(command, rest, None, None)

    def _sees(self) -> bool:
        """True if messages are to be set \\Seen."""
        selected = self.selected
        return self.plan.sees and not selected.readonly and "s" in selected.rights and bool(self.uids)

    async def _whole(self, command: Command) -> None:
        session, selected, plan = self.session, self.selected, self.plan
        own: Own | None = None
        seen: UidSet | None = None
        if self._sees():
            unseen = self._unseen()
            if unseen:
                try:
                    result = await session.service.store.store(selected.account, selected.key, unseen, 1, SEEN, [])
                    own = note_own(selected, result.changed, result.before, result.modseq)
                    seen = result.changed
                except TemporaryError as error:
                    log.event("imap.seen", "warning", error=error)  # no room to record \\Seen: reading goes on
        rest = self.uids
        if plan.one_by_one:
            await self._slowly(command, rest, seen, own)
            return
        if seen:
            plan.items |= self._told_flags()
        while rest:
            rest = self.block(rest)
            await session.conn.drain()
        for uid in self.missing:
            await self._one(uid, seen)
        await self._finish(command, own)

    async def _slowly(self, command: Command, rest: UidSet, seen: UidSet | None, own: Own | None) -> None:
        """Write these messages with their content, and answer."""
        while rest:
            rest = await self._some(rest, seen)
            if rest:
                await self.session.conn.drain()
        await self._finish(command, own)

    def _told_flags(self) -> int:
        """Return the items that are sent about a message that was set \\Seen on the way."""
        return Item.FLAGS | (Item.MODSEQ if self.session.condstore else 0)

    def _unseen(self) -> UidSet:
        session = self.session
        found: list[int] = []
        with session.service.store.snapshot(self.selected.account) as snapshot:
            for page in snapshot.pages(self.selected.key, self.uids):
                for record in pages.records(page):
                    if not record[Field.FLAGS] & SEEN and record[Field.UID] in self.uids:
                        found.append(record[Field.UID])
        return UidSet.of(found)

    async def _one(self, uid: int, seen: UidSet | None) -> None:
        """Write one message that needs its content."""
        session, selected, plan = self.session, self.selected, self.plan
        account, store = selected.account, session.service.store
        content: bytes | None = None
        with store.snapshot(account) as snapshot:
            selected.recall(snapshot)
            stored = snapshot.summaries(selected.key, UidSet.of([uid])).get(uid)
            made = bytes(stored) if stored is not None else b""
        if plan.needs_content and plan.needs(made):
            try:
                content = await store.content(account, selected.key, uid)
            except MailError as error:
                log.event("imap.unreadable", "error", account=account.address, uid=uid, error=error)
                self.unreadable += 1
                return
            if content is None:
                self.gone += 1
                return
        parsed = summary.read(made)
        if parsed is None or parsed.lost or (plan.items & Item.FIELDS and not parsed.complete):
            if content is None:
                content = await store.content(account, selected.key, uid)
            if content is None:
                self.gone += 1
                return
            if parsed is None or parsed.lost:
                # the message's ids follow its summary
                made = await aside(len(content), mime.scan, content) + summary.rest(made)
                parsed = summary.read(made)
                assert parsed is not None
        with store.snapshot(account) as snapshot:
            selected.recall(snapshot)
            head, response = b"", iter(())  # type: bytes, Iterator[bytes]
            self._learn_keywords(session.conn, snapshot)
            for page in snapshot.pages(selected.key, UidSet.of([uid])):
                response = self._response(page, uid, made, parsed, content or b"", seen)
                head = next(response, b"")  # this reads the page, which is valid only until the snapshot ends
        if not head:
            self.gone += 1
            return
        session.conn.write(head)
        long = max(len(content or b""), len(made))
        while parts := await aside(long, _next, response):
            for part in parts:
                session.conn.write(part)
            if session.conn.full:
                await session.conn.drain()
        await session.conn.drain()

    def _response(
        self, page: Octets, uid: int, made: Octets, parsed: summary.Summary, content: Octets, seen: UidSet | None
    ) -> Iterator[bytes]:
        """Yield one message's response in parts; nothing if the page does not have it. Only the first part needs the
        page."""
        selected, plan = self.selected, self.plan
        items, asked = plan.items, plan.asked
        if not parsed.complete:
            items &= ~Item.FIELDS
            asked = []
        if seen is not None and uid in seen:
            items |= self._told_flags()
        out = Out(1024)
        one = UidSet.of([uid])
        render.page(out, page, selected.uids, one, items, selected.keywords, selected.recent, {uid: made}, asked, True)
        head = out.take()
        if not head:
            return
        yield head
        gap = b" " if items & ~Item.UIDONLY else b""
        for name in plan.extras:
            yield from (
                gap,
                *(self._preview(uid, made, parsed, content) if name == b"PREVIEW" else _object(name, made)),
            )
            gap = b" "
        if plan.structure:
            yield from (gap, b"BODY ", sections.body_of_structure(parsed.structure))
            gap = b" "
        if not parsed.complete:
            for label, names in plan.asked:
                yield from (gap, *_literal(label, sections.extract(content, parsed, (), b"HEADER.FIELDS", names)))
                gap = b" "
        for _, _, path, text, names, partial, label in plan.bodies:
            try:
                found = self._section(content, parsed, uid, (path, text, names), partial)
            except sections.UnknownEncoding:
                self.unknown += 1
                continue
            if text == b"SIZE":
                yield from (gap, label, b" ", found or b"0")
            else:
                yield from (gap, *_literal(label, found, text == b"BINARY"))
            gap = b" "
        if not gap:  # no part could be decoded, and a response has at least one item (RFC 3501 9 msg-att)
            yield b"UID %d" % uid
        yield END

    def _preview(self, uid: int, made: Octets, parsed: summary.Summary, content: Octets) -> tuple[bytes, ...]:
        """RFC 8970. A preview that had to be computed is stored, for the next time."""
        words = idents.preview(made)
        if words is None:
            words = preview(content, parsed).encode()
            if len(self.previews) < LEARNT:
                self.previews[uid] = words
        if words.isascii():
            return b"PREVIEW", b' "', words.replace(b"\\", b"\\\\").replace(b'"', b'\\"'), b'"'
        return _literal(b"PREVIEW", words)

    async def _learn_previews(self) -> None:
        """Store the previews that were computed. The client has its answer already."""
        found, self.previews = self.previews, {}
        try:
            await self.session.service.store.learn_previews(self.selected.account, self.selected.key, found)
        except MailError as error:  # they are computed again the next time
            log.event("imap.previews", "warning", account=self.selected.account.address, error=error)

    def _section(
        self, content: Octets, parsed: summary.Summary, uid: int, what: tuple[Any, ...], partial: tuple[int, int] | None
    ) -> bytes | None:
        """Return a section, or a part of it. A large one stays in memory while its parts are fetched one after the
        other."""
        if partial is None:
            return sections.extract(content, parsed, *what)
        selected, mark = self.selected, (uid, what)
        if selected.open_section is not None and selected.open_section.of == mark:
            found: bytes | None = selected.open_section.octets
        else:
            found = sections.extract(content, parsed, *what)
        if found is None:
            return None
        end = partial[0] + partial[1]
        selected.open_section = OpenSection(mark, found) if len(found) > KEPT and end < len(found) else None
        return found[partial[0] : end]

    async def _finish(self, command: Command, own: Own | None) -> None:
        await command.complete(self._text(), own)
        if self.previews:
            await self._learn_previews()

    def _text(self) -> bytes:
        """Return the text of the tagged reply."""
        text = b"OK FETCH completed"
        if self.unknown:
            text = b"NO [UNKNOWN-CTE] the transfer encoding of a part is not known"
        elif self.unreadable:
            text = b"NO [SERVERBUG] some of the messages cannot be read; the log says which"
        elif self.gone:
            text = b"NO [EXPUNGEISSUED] some of the messages are gone"
        return bounds.told(self.session, self.code, text)


def _next(response: Iterator[bytes]) -> list[bytes]:
    """Return the next parts of a response, about a block of them; none at its end."""
    out, size = [], 0
    for part in response:
        out.append(part)
        size += len(part)
        if size >= BLOCK:
            break
    return out


def _object(name: bytes, made: Octets) -> tuple[bytes, ...]:
    """EMAILID or THREADID (RFC 8474 5)."""
    return name, b" (", identity.email_id(made) if name == b"EMAILID" else identity.thread_id(made), b")"


def _literal(label: bytes, text: bytes | None, binary: bool = False) -> tuple[bytes, ...]:
    if text is None:
        return label, b" NIL"
    if 0 in text:
        if binary:
            return label, b" ~{%d}\r\n" % len(text), text
        text = text.replace(b"\0", b"\x80")  # CHAR8 has no NUL (RFC 3501 9)
    return label, b" {%d}\r\n" % len(text), text
