"""SEARCH (RFC 3501 6.4.4), with ESEARCH (RFC 4731), SEARCHRES (RFC 5182), WITHIN (RFC 5032), PARTIAL (RFC 9394), MODSEQ
(RFC 7162 3.1.5), save dates (RFC 8514), EMAILID (RFC 8474), FUZZY (RFC 6203), INPROGRESS (RFC 9585), and the
comparator i;unicode-casemap (RFC 5255 4.3).

The key tree is turned into nodes that narrow a set of UIDs. Keys about flags, dates, sizes and UIDs become one
program that the compiled evaluator runs over index pages; header keys read the cached fields of what is left; BODY,
TEXT and fields that are not cached read the message. Under AND the cheap keys go first. Matching is by substring of
decoded, case-folded text; a charset that is not known is NO [BADCHARSET].
"""

import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fastmail.imap.state import Session
from fastmail._core import envelope, mime, pages
from fastmail._core.imap import ParseError, Reader
from fastmail._core.lines import to_crlf
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds, context
from fastmail.imap.aside import BIG
from fastmail.imap.command import Command, Work
from fastmail.imap.turns import Pace
from fastmail.imap.views import Selected
from fastmail.message import charsets, identity, summary, text
from fastmail.message.collate import fold
from fastmail.model.errors import MailError
from fastmail.store import fulltext
from fastmail.store.interface import Unsure


T = TypeVar("T")
ALL, FLAGS, KEYWORD, LARGER, SMALLER, DATE, UIDS, MODSEQ, NOT, AND, OR, SAVED = range(12)
DAY = 86400
FAR = 1 << 40
BLOCK = 200
COMPILED = 4000
STEPS = 1_000_000  # keys times messages that the index answers in one go: about 3 ms
AT_ONCE = 10_000  # numbers of an answer that are written in one go
WORDS = 20  # of a FUZZY key
INDEX_KEYS = {"ALL", "RECENT", "NEW", "OLD", "FLAG", "KEYWORD", "DATE", "LARGER", "SMALLER", "UID", "SEQ"} | {
    "SAVED",
    "AGE",
    "MODSEQ",
}
ADDRESSES = {b"from": 2, b"to": 5, b"cc": 6, b"bcc": 7}  # places in the ENVELOPE, see _core/envelope.pyi
COSTS = {"SENT": 1, "OBJECT": 2, "HEADER": 2, "ADDRESS": 2, "TEXT": 4, "BODY": 4}


RETURNS = (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE", b"RELEVANCY")


@dataclass(slots=True)
class Wanted:
    """What is to be returned (RFC 4731, 5182, 9394): names, and the range of PARTIAL. ``names`` None: plain SEARCH.
    ``update``: and what changes later (RFC 5267 4.3); ``hints``: UPDATE or CONTEXT was among the options."""

    names: list[bytes] | None = None
    partial: tuple[int, int] | None = None
    label: bytes = b""
    update: bool = False
    hints: bool = False

    @property
    def silent(self) -> bool:
        """Is nothing to be told now? SAVE alone is the only option without an answer (RFC 5182 2.1); a client that
        asks for updates is told at least that its search was made."""
        return self.names is not None and set(self.names) == {b"SAVE"} and self.partial is None and not self.hints


def read_return(reader: Reader) -> Wanted:
    """``RETURN (...)`` and the space behind it, when it is there."""
    wanted = Wanted()
    if not reader.skip(b"RETURN "):
        return wanted
    wanted.names = []
    reader.open()
    while reader.peek() != 41:
        at = reader.pos
        name = reader.atom().upper()
        if name == b"PARTIAL" and wanted.partial is None and b"ALL" not in wanted.names:
            reader.sp()
            wanted.partial, wanted.label = read_partial(reader)
        elif name in (b"UPDATE", b"CONTEXT"):
            wanted.update = wanted.update or name == b"UPDATE"
            wanted.hints = True
        elif name not in RETURNS or (name == b"ALL" and wanted.partial is not None):
            raise ParseError("MIN, MAX, ALL, COUNT, SAVE or PARTIAL range", at)
        else:
            wanted.names.append(name)
        if reader.peek() != 32:
            break
        reader.sp()
    reader.close()
    reader.sp()
    if not wanted.names and wanted.partial is None and not wanted.hints:
        wanted.names = [b"ALL"]
    return wanted


def read_partial(reader: Reader) -> tuple[tuple[int, int], bytes]:
    """``1:100`` or ``-1:-100`` (RFC 9394 3.1): both ends, and the text as it is told, the nearer end first: ``4:2`` is
    ``2:4`` (RFC 5267 5)."""
    at = reader.pos
    ends = []
    signs = []
    for position in range(2):
        if position and not reader.skip(b":"):
            raise ParseError("a range such as 1:100", reader.pos)
        signs.append(reader.skip(b"-"))
        ends.append(reader.number(True))
    if signs[0] != signs[1]:
        raise ParseError("both ends of the range of one sign", at)
    low, high = min(ends), max(ends)
    sign = b"-" if signs[0] else b""
    label = b"%b%d:%b%d" % (sign, low, sign, high)
    return ((-high, -low) if signs[0] else (low, high)), label


def search(command: Command) -> Work:
    """RFC 3501 6.4.4."""
    session, reader = command.session, command.reader
    reader.sp()
    wanted = read_return(reader)
    charset, tree = reader.search()
    reader.end()
    if wanted.names and b"RELEVANCY" in wanted.names and not _asks("FUZZY", tree):
        command.bad("RELEVANCY needs a FUZZY key")  # RFC 6203 4
        return None
    if wanted.update and context.in_use(command):
        command.bad("another search that is kept up to date has this command.tag")
        return None
    if session.rev2 and wanted.names is None:
        wanted.names = [b"ALL"]  # RFC 9051 6.4.4
    selected = session.selected
    assert selected is not None
    job = make_job(command, selected, charset, tree)
    if job is None:
        if wanted.names and b"SAVE" in wanted.names:
            selected.saved = UidSet()  # RFC 5182 2.1
        return None
    steps = job.steps(tree, job.within)
    if job.cost(tree) == 0 and steps <= STEPS and not (job.modseq and len(job.within) > BLOCK):
        session.conn.charge(steps / STEPS)
        found = job.by_index(tree, job.within)
        return _answer(command, selected, job, wanted, found, command.by_uid)
    return _run(command, selected, job, wanted, tree, command.by_uid)


def make_job(
    command: Command, selected: Selected, charset: bytes | None, tree: tuple[Any, ...]
) -> "Job | None":
    """None when the charset is not known and the client was told."""
    session = command.session
    why = ""
    if session.uidonly and _asks("SEQ", tree):
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
    job = Job(session, selected, name, command.tag)
    job.modseq = _asks("MODSEQ", tree)
    job.tree = tree
    job.within, job.code = bounds.newest(session, selected.uids)
    if job.modseq:
        session.learn_modseq()
    return job


def _asks(key: str, tree: tuple[Any, ...]) -> bool:
    """Is this key anywhere in the tree?"""
    if tree[0] == key:
        return True
    inner = tree[1] if tree[0] == "AND" else tree[1:] if tree[0] in ("OR", "NOT", "FUZZY") else ()
    return any(_asks(key, one) for one in inner)


async def _run(
    command: Command,
    selected: Selected,
    job: "Job",
    wanted: Wanted,
    tree: tuple[Any, ...],
) -> None:
    found = await job.evaluate(tree, job.within)
    await job.learn_modseqs(found)
    work = _answer(command, selected, job, wanted, found, command.by_uid)
    if work is not None:
        await work


async def _long(command: Command, job: "Job", found: UidSet, shown: UidSet) -> None:
    """``* SEARCH`` with many numbers: they are made and written as the client reads them."""
    session = command.session
    conn = session.conn
    conn.write(b"* SEARCH")
    for part in _blocks(shown, AT_ONCE):
        conn.write(part.numbers())
        if conn.full:
            await conn.drain()
    conn.write((b" (MODSEQ %d)" % job.highest(found) if job.modseq and found else b"") + b"\r\n")
    await command.complete(bounds.told(session, job.code, b"OK SEARCH completed"))


def _answer(
    command: Command, selected: Selected, job: "Job", wanted: Wanted, found: UidSet
) -> Work:
    session = command.session
    shown = found if command.by_uid else selected.uids.seqs(found)
    if wanted.names is None and len(shown) > AT_ONCE:
        return _long(command, job, found, shown)
    if wanted.names is None:
        top = b" (MODSEQ %d)" % job.highest(found) if job.modseq and found else b""
        session.conn.write(b"* SEARCH" + shown.numbers() + top + b"\r\n")
    else:
        items = [b"* ESEARCH (TAG ", quoted(command.tag), b")", b" UID" if command.by_uid else b""]
        narrow = []
        if b"MIN" in wanted.names and found:
            items.append(b" MIN %d" % shown.first)
            narrow.append(found.first)
        if b"MAX" in wanted.names and found:
            items.append(b" MAX %d" % shown.last)
            narrow.append(found.last)
        if b"ALL" in wanted.names and found:
            items.append(b" ALL " + shown.octets())
        if b"RELEVANCY" in wanted.names and found:
            items.append(b" RELEVANCY (" + b" ".join(b"%d" % job.scores.get(uid, 100) for uid in found) + b")")
        if b"COUNT" in wanted.names:
            items.append(b" COUNT %d" % len(found))
        part = found
        if wanted.partial is not None:
            part = part_of(wanted.partial, found)
            told = (part if command.by_uid else selected.uids.seqs(part)).octets()
            items.append(b" PARTIAL (%b %b)" % (wanted.label, told or b"NIL"))
        if b"SAVE" in wanted.names:
            all_of_them = {b"ALL", b"COUNT"} & set(wanted.names) or (not narrow and wanted.partial is None)
            few = UidSet.of(sorted(set(narrow))).plus(part if wanted.partial is not None else UidSet())
            selected.saved = found if all_of_them else few  # the tables of RFC 5182 2.4 and RFC 9394 3.2
        if job.modseq and found:
            items.append(b" MODSEQ %d" % job.highest(UidSet.of(sorted(set(narrow))) if narrow else found))
        if not wanted.silent:
            session.conn.write(b"".join(items) + b"\r\n")
        if wanted.update:
            tree = context.frozen(selected, job.tree)

            async def again() -> list[int]:
                return list(await job.evaluate(tree, selected.uids))

            context.begin(command, command.by_uid, False, list(found), again)
    return command.finish(bounds.told(session, job.code, b"OK SEARCH completed"))


def quoted(tag: bytes) -> bytes:
    return b'"' + tag + b'"'


def narrowed(partial: tuple[int, int], count: int) -> tuple[int, int]:
    """Positions, from 1, that a PARTIAL range names; low above high for none."""
    low, high = partial
    if low < 0:
        low, high = count + 1 + low, count + 1 + high
    return max(1, low), min(high, count)


def part_of(wanted: tuple[int, int], found: UidSet) -> UidSet:
    """Those of ``found`` that a PARTIAL range names."""
    low, high = narrowed(wanted, len(found))
    return found.at(UidSet.of_ranges((low, high))) if low <= high else UidSet()


class Job:
    """One SEARCH under way."""

    def __init__(self, session: Session, selected: Selected, charset: str, tag: bytes) -> None:
        self._session = session
        self._selected = selected
        self._charset = charset
        self.pace = Pace(session.service.turns, session.conn, tag)
        self._highest_of: tuple[UidSet, int] | None = None  # what was found, and its highest MODSEQ
        self.modseq = False  # was MODSEQ a key?
        self.tree: tuple[Any, ...] = ("ALL",)
        self.within, self.code = selected.uids, b""  # the messages to look at; see bounds
        self.scores: dict[int, int] = {}  # relevancy of messages, where it is below 100

    # ---------------------------------------------------------------- keys that the index answers

    def cost(self, tree: tuple[Any, ...]) -> int:
        """0: the index alone; more: what the dearest key reads."""
        key = tree[0]
        if key in INDEX_KEYS:
            return 0
        if key == "AND":
            return max(self.cost(one) for one in tree[1])
        if key == "OR":
            return max(self.cost(tree[1]), self.cost(tree[2]))
        if key in ("NOT", "FUZZY"):
            return self.cost(tree[1])
        return COSTS[key]

    def by_index(self, tree: tuple[Any, ...], within: UidSet) -> UidSet:
        """Those of ``within`` for which an index-only tree is true; one pass over the pages."""
        session, selected = self._session, self._selected
        program: list[int] = []
        sets: list[UidSet] = []
        self._compile(tree, program, sets)
        code = array("q", program)
        with session.service.store.snapshot(self._selected.account) as snapshot:
            self._selected.recall(snapshot)
            found = pages.search(snapshot.pages(selected.key, within), within, code, sets)
        return UidSet.of(found)

    def steps(self, tree: tuple[Any, ...], within: UidSet) -> int:
        """How much ``by_index`` has to do."""
        return _keys(tree) * len(within)

    async def _by_long_index(self, tree: tuple[Any, ...], within: UidSet) -> UidSet:
        """``by_index``; with thousands of keys or millions of messages in pieces, between which others run."""
        found: list[int] = []
        for block in _blocks(within, max(1, STEPS // _keys(tree))):
            await self.pace.breathe()
            found += self.by_index(tree, block)
        return UidSet.of(found)

    def _compile(self, tree: tuple[Any, ...], out: list[int], sets: list[UidSet]) -> None:
        key = tree[0]
        if key == "ALL":
            out += [ALL, 0, 0]
        elif key == "FLAG":
            out += [FLAGS, tree[1], tree[2]]
        elif key == "KEYWORD":
            self._compile_keyword(tree[1], tree[2], out)
        elif key == "LARGER":
            out += [LARGER, tree[1], 0]
        elif key == "SMALLER":
            out += [SMALLER, tree[1], 0]
        elif key in ("DATE", "SAVED"):
            first, last = _days(tree[1], tree[2])
            out += [DATE if key == "DATE" else SAVED, first * DAY, last * DAY]
        elif key == "AGE":
            edge = int(time.time()) - tree[2]  # RFC 5032: OLDER is at least, YOUNGER at most so many seconds ago
            out += [DATE, -FAR, edge + 1] if tree[1] else [DATE, edge, FAR]
        elif key == "MODSEQ":
            out += [MODSEQ, tree[1], 0]
        elif key in ("UID", "SEQ", "RECENT", "OLD", "NEW"):
            self._compile_set(tree, out, sets)
        elif key == "FUZZY":
            self._compile(tree[1], out, sets)
        elif key == "NOT":
            self._compile(tree[1], out, sets)
            out += [NOT, 0, 0]
        elif key == "OR":
            self._compile(tree[1], out, sets)
            self._compile(tree[2], out, sets)
            out += [OR, 0, 0]
        else:
            for position, one in enumerate(tree[1]):
                self._compile(one, out, sets)
                if position:
                    out += [AND, 0, 0]

    def _compile_keyword(self, word: bytes, wanted: bool, out: list[int]) -> None:
        names = [name.lower() for name in self._selected.keywords]
        if word.lower() in names:
            out += [KEYWORD, names.index(word.lower()), 0]
        else:
            out += [ALL, 0, 0, NOT, 0, 0]
        if not wanted:
            out += [NOT, 0, 0]

    def _compile_set(self, tree: tuple[Any, ...], out: list[int], sets: list[UidSet]) -> None:
        key, selected = tree[0], self._selected
        if key in ("UID", "SEQ") and tree[1] is None:
            sets.append(selected.saved)
        elif key == "UID":
            sets.append(UidSet.of_ranges(tree[1], selected.uids.last))
        elif key == "SEQ":
            sets.append(selected.uids.at(UidSet.of_ranges(tree[1], len(selected.uids))))
        else:
            sets.append(selected.recent)
        out += [UIDS, len(sets) - 1, 0]
        if key == "OLD":
            out += [NOT, 0, 0]
        elif key == "NEW":
            out += [FLAGS, 1, 0, AND, 0, 0]

    async def learn_modseqs(self, found: UidSet) -> None:
        """What ``highest`` needs for an answer about many messages, read in pieces."""
        if not self.modseq or len(found) <= BLOCK:
            return
        top = 0
        for block in _blocks(found, COMPILED):
            await self.pace.breathe()
            top = max(top, self._highest(block))
        self._highest_of = found, top

    def highest(self, uids: UidSet) -> int:
        """Highest MODSEQ of these messages."""
        if self._highest_of is not None and self._highest_of[0] is uids:
            return self._highest_of[1]
        return self._highest(uids)

    def _highest(self, uids: UidSet) -> int:
        session = self._session
        with session.service.store.snapshot(self._selected.account) as snapshot:
            self._selected.recall(snapshot)
            every = (r for page in snapshot.pages(self._selected.key, uids) for r in pages.records(page))
            return max((record[2] for record in every if record[0] in uids), default=0)

    # ---------------------------------------------------------------- keys that read more

    async def evaluate(self, tree: tuple[Any, ...], within: UidSet) -> UidSet:
        """Those of ``within`` for which the tree is true."""
        if not within:
            return within
        key = tree[0]
        if self.cost(tree) == 0:
            return await self._by_long_index(tree, within)
        if key == "AND":
            cheap = [one for one in tree[1] if self.cost(one) == 0]
            if cheap:
                within = await self._by_long_index(("AND", cheap), within)
            for one in sorted((one for one in tree[1] if self.cost(one)), key=self.cost):
                within = await self.evaluate(one, within)
            return within
        if key == "OR":
            one, two = sorted(tree[1:], key=self.cost)
            first = await self.evaluate(one, within)
            return first.plus(await self.evaluate(two, within.minus(first)))
        if key == "NOT":
            return within.minus(await self.evaluate(tree[1], within))
        if key == "FUZZY":
            return await self._by_words(tree[1], within)
        if key == "OBJECT":
            return await self._by_object(tree[1], tree[2], within)
        if key == "SENT":
            return await self._by_sent_day(_days(tree[1], tree[2]), within)
        if key in ("HEADER", "ADDRESS"):
            return await self._by_header(tree[1], key == "ADDRESS", self._needle(tree[2]), within)
        return await self._by_body(self._needle(tree[1]), key == "TEXT", within)

    def _needle(self, raw: bytes) -> str:
        return fold(charsets.decode(raw, self._charset))

    async def _by_sent_day(self, days: tuple[int, int], within: UidSet) -> UidSet:
        found: list[int] = []
        session = self._session
        for block in _blocks(within, BLOCK):
            with session.service.store.snapshot(self._selected.account) as snapshot:
                self._selected.recall(snapshot)
                for uid, data in snapshot.summaries(self._selected.key, block).items():
                    day = summary.sent_day(data)
                    if day != summary.NO_DAY and days[0] <= day < days[1]:
                        found.append(uid)
            await self.pace.breathe()
        return UidSet.of(sorted(found))

    async def _by_words(self, tree: tuple[Any, ...], within: UidSet) -> UidSet:
        """A FUZZY key (RFC 6203 3): at least half of its words, in any order. The share of the words that are there is
        the message's relevancy."""
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
        """EMAILID and THREADID (RFC 8474 6): from the store's tables, where they have all messages."""
        found: list[int] = []
        session, selected = self._session, self._selected
        name = identity.mark_of(wanted, b"M" if message else b"T")
        if name is None:
            return UidSet()
        with session.service.store.snapshot(selected.account) as snapshot:
            look = snapshot.places if message else snapshot.members
            there = look(selected.account.id, name)
            selected.recall(snapshot)
        if there is not None:
            found += [uid for key, uid in there if key == selected.key and uid in within]
            within = within.both(selected.removed[1])  # what can still be read is in no table
        for block in _blocks(within, BLOCK):
            with session.service.store.snapshot(selected.account) as snapshot:
                selected.recall(snapshot)
                for uid, data in snapshot.summaries(selected.key, block).items():
                    if (identity.email_id(data) if message else identity.thread_id(data)) == wanted:
                        found.append(uid)
            await self.pace.breathe()
        return UidSet.of(sorted(found))

    async def _by_header(self, name: bytes, address: bool, needle: str, within: UidSet) -> UidSet:
        """Messages with the needle in a header field, or with ``address`` in that element of the ENVELOPE (RFC 3501
        6.4.4): comments do not count there, groups do, and an address in pieces is one address."""
        cached = address or not mime.is_bulk(name)
        plain = needle.encode() if needle.isascii() else b"\0"  # no field has a NUL: all that is plain is left out
        found: list[int] = []
        for block in _blocks(within, COMPILED if cached else BLOCK):
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
        """Do it here, or in another thread when it works on many octets."""
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
        """From the texts that are kept as far as they go; what they lack is scanned, and kept."""
        session, selected = self._session, self._selected
        found = known = UidSet()
        filler = session.service.filler
        key, validity = selected.key, selected.uidvalidity
        if filler is not None:
            is_over = self.pace.is_over
            found, known = await self.pace.aside(filler.index.find, key, validity, needle, with_headers, is_over)
            if known.minus(selected.uids):
                filler.changed([key])  # texts of removed mail, it may be
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
        """The folded texts of messages that can be read."""
        for done, uid in enumerate(within):
            content = await self._content(uid)
            await self.pace.breathe(done, len(within))
            if content is not None:
                yield await self._aside(len(content), fulltext.folded, uid, content)


def _keys(tree: tuple[Any, ...]) -> int:
    """How many keys the tree has."""
    inner = tree[1] if tree[0] == "AND" else tree[1:] if tree[0] in ("OR", "NOT", "FUZZY") else ()
    return 1 + sum(_keys(one) for one in inner)


def _header_of(content: bytes) -> bytes:
    return to_crlf(content[: summary.of(content).parts[0].body])


def _field_has(header: bytes, name: bytes, address: bool, needle: str) -> bool:
    """Is the text in a field of that name, or with ``address`` in that element of the ENVELOPE?"""
    if address:
        whole = mime.scan(header, False)  # with the addresses for which a stored ENVELOPE has no room
        return needle in fold(text.decode_value(envelope.line(whole, ADDRESSES[name])))
    return any(needle in fold(value) for value in text.field_values(header, name))


def _blocks(uids: UidSet, size: int) -> Iterator[UidSet]:
    """Pieces of so many messages."""
    for first in range(1, len(uids) + 1, size):
        yield uids.at(UidSet.of_ranges((first, min(first + size - 1, len(uids)))))


def _days(kind: str, day: int) -> tuple[int, int]:
    """First and past-last day of BEFORE, ON and SINCE."""
    if kind == "BEFORE":
        return -FAR // DAY, day
    if kind == "ON":
        return day, day + 1
    return day, FAR // DAY
