"""One search under way, for SEARCH, SORT, THREAD and ESEARCH (RFC 3501 6.4.4, with RFC 5032, RFC 6203, RFC 7162 3.1.5,
RFC 8474 6, RFC 8514, and the comparator i;unicode-casemap of RFC 5255 4.3).

The tree of keys narrows a set of UIDs. Keys about flags, dates, sizes and UIDs become one program that the compiled
evaluator runs over index pages. Header keys read the cached fields of what is left. BODY, TEXT and fields that are not
cached read the message. Under AND the cheap keys go first. Matching is by substring of decoded, case-folded text.

Promise: a search that reads more than the index works for a few milliseconds, then lets other sessions run (``turns``).
A message that cannot be read is not found.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from fastmail._core import envelope, mime, pages
from fastmail._core.envelope import Element
from fastmail._core.lines import to_crlf
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds
from fastmail.imap.aside import BIG
from fastmail.imap.command import Command
from fastmail.imap.search_program import compiled, days
from fastmail.imap.search_tree import Tree, asks, cost, count
from fastmail.imap.state import Session
from fastmail.imap.turns import Pace
from fastmail.imap.views import Selected
from fastmail.message import charsets, identity, summary, text
from fastmail.message.collate import fold
from fastmail.model.errors import MailError
from fastmail.store import fulltext
from fastmail.store.interface import Unsure

T = TypeVar("T")
BLOCK = 200  # messages after which other sessions have a turn
COMPILED = 4000  # the same, for compiled code
STEPS = 1_000_000  # keys times messages that the index answers at a time: about 3 ms
WORDS = 20  # words of a FUZZY key that count
ADDRESSES = {b"from": Element.FROM, b"to": Element.TO, b"cc": Element.CC, b"bcc": Element.BCC}


class SearchRun:
    """One SEARCH under way."""

    def __init__(self, session: Session, selected: Selected, charset: str, tag: bytes) -> None:
        self._session = session
        self._selected = selected
        self._charset = charset
        self.pace = Pace(session.service.turns, session.conn, tag)
        self._highest_of: tuple[UidSet, int] | None = None  # what was found, and the highest MODSEQ of it
        self.modseq = False  # was MODSEQ a key?
        self.tree: Tree = ("ALL",)
        self.within, self.code = selected.uids, b""  # the messages to look at; see bounds
        self.scores: dict[int, int] = {}  # relevancy by UID, if it is below 100

    # ---------------------------------------------------------------- keys that the index answers

    def by_index(self, tree: Tree, within: UidSet) -> UidSet:
        """Return those of ``within`` for which an index-only tree is true, in one pass over the pages."""
        selected = self._selected
        program, sets = compiled(selected, tree)
        with self._session.service.store.snapshot(selected.account) as snapshot:
            selected.recall(snapshot)
            found = pages.search(snapshot.pages(selected.key, within), within, program, sets)
        return UidSet.of(found)

    def steps(self, tree: Tree, within: UidSet) -> int:
        """Return how much work ``by_index`` would have."""
        return count(tree) * len(within)

    async def _by_long_index(self, tree: Tree, within: UidSet) -> UidSet:
        """Do what ``by_index`` does; with thousands of keys or millions of messages in parts, between which others
        run."""
        found: list[int] = []
        for block in blocks(within, max(1, STEPS // count(tree))):
            await self.pace.breathe()
            found += self.by_index(tree, block)
        return UidSet.of(found)

    async def learn_modseqs(self, found: UidSet) -> None:
        """Read what ``highest`` needs for an answer about many messages, in parts."""
        if not self.modseq or len(found) <= BLOCK:
            return
        top = 0
        for block in blocks(found, COMPILED):
            await self.pace.breathe()
            top = max(top, self._highest(block))
        self._highest_of = found, top

    def highest(self, uids: UidSet) -> int:
        """Return the highest MODSEQ of these messages."""
        if self._highest_of is not None and self._highest_of[0] is uids:
            return self._highest_of[1]
        return self._highest(uids)

    def _highest(self, uids: UidSet) -> int:
        session = self._session
        with session.service.store.snapshot(self._selected.account) as snapshot:
            self._selected.recall(snapshot)
            every = (r for page in snapshot.pages(self._selected.key, uids) for r in pages.records(page))
            return max((record[Field.MODSEQ] for record in every if record[Field.UID] in uids), default=0)

    # ---------------------------------------------------------------- keys that read more

    async def evaluate(self, tree: Tree, within: UidSet) -> UidSet:
        """Return those of ``within`` for which the tree is true."""
        if not within:
            return within
        key = tree[0]
        if cost(tree) == 0:
            return await self._by_long_index(tree, within)
        if key == "AND":
            cheap = [one for one in tree[1] if cost(one) == 0]
            if cheap:
                within = await self._by_long_index(("AND", cheap), within)
            for one in sorted((one for one in tree[1] if cost(one)), key=cost):
                within = await self.evaluate(one, within)
            return within
        if key == "OR":
            one, two = sorted(tree[1:], key=cost)
            first = await self.evaluate(one, within)
            return first.plus(await self.evaluate(two, within.minus(first)))
        if key == "NOT":
            return within.minus(await self.evaluate(tree[1], within))
        if key == "FUZZY":
            return await self._by_words(tree[1], within)
        if key == "OBJECT":
            return await self._by_object(tree[1], tree[2], within)
        if key == "SENT":
            return await self._by_sent_day(days(tree[1], tree[2]), within)
        if key in ("HEADER", "ADDRESS"):
            return await self._by_header(tree[1], key == "ADDRESS", self._needle(tree[2]), within)
        return await self._by_body(self._needle(tree[1]), key == "TEXT", within)

    def _needle(self, raw: bytes) -> str:
        return fold(charsets.decode(raw, self._charset))

    async def _by_sent_day(self, days: tuple[int, int], within: UidSet) -> UidSet:
        found: list[int] = []
        session = self._session
        for block in blocks(within, BLOCK):
            with session.service.store.snapshot(self._selected.account) as snapshot:
                self._selected.recall(snapshot)
                for uid, data in snapshot.summaries(self._selected.key, block).items():
                    day = summary.sent_day(data)
                    if day != summary.NO_DAY and days[0] <= day < days[1]:
                        found.append(uid)
            await self.pace.breathe()
        return UidSet.of(sorted(found))

    async def _by_words(self, tree: Tree, within: UidSet) -> UidSet:
        """Evaluate a FUZZY key (RFC 6203 3): at least half of its words, in any order. The share of words that are
        found is the message's relevancy."""
        key = tree[0]
        if key == "AND":
            return await self.evaluate((key, [("FUZZY", one) for one in tree[1]]), within)
        if key in ("OR", "NOT"):
            return await self.evaluate((key, *(("FUZZY", one) for one in tree[1:])), within)
        words = tree[-1].split() if key in ("HEADER", "ADDRESS", "TEXT", "BODY") else []
        if len(words) < 2:
            return await self.evaluate(tree, within)
        hits: Counter[int] = Counter()
        for word in words[:WORDS]:
            hits.update(await self.evaluate((*tree[:-1], word), within))
        found = [uid for uid, count in hits.items() if 2 * count >= min(len(words), WORDS)]
        for uid in found:
            score = 100 * hits[uid] // min(len(words), WORDS)
            self.scores[uid] = min(score, self.scores.get(uid, 100))
        return UidSet.of(sorted(found))

    async def _by_object(self, message: bool, wanted: bytes, within: UidSet) -> UidSet:
        """Evaluate EMAILID and THREADID (RFC 8474 6) from the store's tables, if these have all messages."""
        found: list[int] = []
        session, selected = self._session, self._selected
        name = identity.octets_of(wanted, b"M" if message else b"T")
        if name is None:
            return UidSet()
        with session.service.store.snapshot(selected.account) as snapshot:
            look = snapshot.places if message else snapshot.members
            there = look(selected.account.id, name)
            selected.recall(snapshot)
        if there is not None:
            found += [uid for key, uid in there if key == selected.key and uid in within]
            within = within.both(selected.removed[1])  # removed messages that can still be read are in no table
        for block in blocks(within, BLOCK):
            with session.service.store.snapshot(selected.account) as snapshot:
                selected.recall(snapshot)
                for uid, data in snapshot.summaries(selected.key, block).items():
                    if (identity.email_id(data) if message else identity.thread_id(data)) == wanted:
                        found.append(uid)
            await self.pace.breathe()
        return UidSet.of(sorted(found))

    async def _by_header(self, name: bytes, address: bool, needle: str, within: UidSet) -> UidSet:
        """Return messages with the needle in a header field, or with ``address`` in that element of the ENVELOPE
        (RFC 3501 6.4.4).

        In addresses, comments do not count and groups do, and an address in several pieces is one address."""
        cached = address or not mime.is_bulk(name)
        plain = needle.encode() if needle.isascii() else b"\0"  # no field has a NUL, so plain ASCII fields do not match
        found: list[int] = []
        for block in blocks(within, COMPILED if cached else BLOCK):
            hits, unsure = self._scan(block, name, address, plain) if cached else ([], [(uid, None) for uid in block])
            found += hits
            for uid, raw in unsure:
                if raw is None:
                    header = await self._whole_header(uid)
                    good = await self._aside(len(header), _field_has, header, name, address, needle)
                else:
                    good = any(needle in text.folded_value(value) for value in raw)
                await self.pace.breathe()
                if good:
                    found.append(uid)
            await self.pace.breathe()
        return UidSet.of(sorted(found))

    def _scan(self, block: UidSet, name: bytes, address: bool, needle: bytes) -> tuple[list[int], Unsure]:
        session = self._session
        with session.service.store.snapshot(self._selected.account) as snapshot:
            self._selected.recall(snapshot)
            if address:
                return snapshot.search_addresses(self._selected.key, block, ADDRESSES[name], needle)
            return snapshot.search_field(self._selected.key, block, name, needle)

    async def _whole_header(self, uid: int) -> bytes:
        content = await self._content(uid)
        return await self._aside(len(content), _header_of, content) if content else b""

    async def _aside(self, octets: int, work: Callable[..., T], *args: Any) -> T:
        """Do the work here, or on another thread if it works on many octets."""
        if octets <= BIG:
            return work(*args)
        return await self.pace.aside(work, *args)

    async def _content(self, uid: int) -> bytes | None:
        session = self._session
        try:
            return await session.service.store.content(self._selected.account, self._selected.key, uid)
        except MailError:
            return None

    async def _by_body(self, needle: str, with_headers: bool, within: UidSet) -> UidSet:
        """Search the full-text index as far as it goes; messages that it lacks are read, and added to it."""
        session, selected = self._session, self._selected
        found = known = UidSet()
        filler = session.service.filler
        key, validity = selected.key, selected.uidvalidity
        if filler is not None:
            is_over = self.pace.is_over
            found, known = await self.pace.aside(filler.index.find, key, validity, needle, with_headers, is_over)
            if known.minus(selected.uids):
                filler.changed([key])  # the index may have texts of removed mail
        hits: list[int] = []
        batch: list[fulltext.Text] = []
        size = 0
        async for one in self._texts(within.minus(known)):
            if one.has(needle, with_headers):
                hits.append(one.uid)
            if filler is not None:
                batch.append(one)
                size += len(one.head) + len(one.body)
                if size > fulltext.FILL:
                    await filler.put(key, validity, batch)
                    batch, size = [], 0
        if filler is not None and batch:
            await filler.put(key, validity, batch)
        return within.both(found).plus(UidSet.of(hits))

    async def _texts(self, within: UidSet) -> AsyncIterator[fulltext.Text]:
        """Yield the folded texts of messages that can be read."""
        for done, uid in enumerate(within):
            content = await self._content(uid)
            await self.pace.breathe(done, len(within))
            if content is not None:
                yield await self._aside(len(content), fulltext.folded, uid, content)


def make_run(command: Command, selected: Selected, charset: bytes | None, tree: Tree) -> SearchRun | None:
    """Return the search; None if it was refused and the client was told."""
    session = command.session
    why = ""
    if session.uidonly and asks("SEQ", tree):
        why = "[UIDREQUIRED] sequence numbers are off: use UID"
    elif charset is not None and session.utf8 and not session.rev2:
        why = "CHARSET is not for use after ENABLE UTF8=ACCEPT"  # RFC 6855 3
    if why:
        command.bad(why)
        return None
    name = (charset or b"utf-8").decode("ascii", "replace")
    if not charsets.known(name):
        command.answer(b"NO [BADCHARSET (US-ASCII UTF-8)] charset is not known")
        return None
    run = SearchRun(session, selected, name, command.tag)
    run.tree = tree
    run.modseq = asks("MODSEQ", tree)
    run.within, run.code = bounds.newest(session, selected.uids)
    if run.modseq:
        session.learn_modseq()
    return run


def _header_of(content: bytes) -> bytes:
    return to_crlf(content[: summary.of(content).parts[0].body])


def _field_has(header: bytes, name: bytes, address: bool, needle: str) -> bool:
    """True if the text is in a field of that name, or with ``address`` in that element of the ENVELOPE."""
    if address:
        whole = mime.scan(header, False)  # with all addresses: a stored ENVELOPE may have no room for them
        return needle in fold(text.decode_value(envelope.line(whole, ADDRESSES[name])))
    return any(needle in fold(value) for value in text.field_values(header, name))


def blocks(uids: UidSet, size: int) -> Iterator[UidSet]:
    """Yield parts of so many messages."""
    for first in range(1, len(uids) + 1, size):
        yield uids.at(UidSet.of_ranges((first, min(first + size - 1, len(uids)))))
