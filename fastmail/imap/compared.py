"""What SORT and THREAD compare of messages (RFC 5256 2, RFC 5957), read from the index and remembered.

It is read in blocks, each with a short read transaction of its own; other sessions run in between. A mailbox that was
sorted or threaded before is not read again: new messages are inserted into a known order by bisection, and appended to
a table of threads. Both are kept in ``Answers``, which bounds their memory. A message without a usable summary is read
from the store; one that was removed meanwhile is left out, or compares as empty.
"""

import hashlib
import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

from fastmail._core import fetch, mime, order
from fastmail._core.lines import to_crlf
from fastmail._core.threads import Threads
from fastmail._core.uidset import UidSet
from fastmail.imap.state import Session
from fastmail.imap.turns import Pace
from fastmail.imap.views import EMPTY, Selected
from fastmail.message import order as keys
from fastmail.message import summary
from fastmail.model.errors import MailError
from fastmail.store.interface import Octets, Snapshot

BLOCK = 250  # messages read at a time
OCTETS = 2 << 20  # octets of summaries read at a time: what is compared may be nearly all of a long one
ON_LOOP = 2000  # messages compared on the event loop; more on a helper thread
DECODE_ON_LOOP = 32768  # octets decoded on the event loop
BIG = 262144  # octets from which on a message is scanned on a helper thread
FEW = 64  # new messages inserted into a known order; with more, sorting again is cheaper
SLACK = 64  # removed messages are dropped from a table that has twice the mailbox's messages and so many more
ALGORITHMS = {b"ORDEREDSUBJECT": 0, b"REFERENCES": 1, b"REFS": 2}  # numbers of Threads.answer
SECRET = os.urandom(16)  # key of the hashes in tables of threads, so that no sender can make them collide

T = TypeVar("T")
Criterion = tuple[bytes, bool]  # name, reverse
Value = bytes | int
Undecoded = tuple[int, bytes, bytes]  # position, octets, octets to use if decoding leaves nothing


@dataclass(slots=True)
class Block:
    """What is compared of some messages: for each criterion's name, a value for each of ``uids``."""

    uids: list[int]
    dates: list[int]
    columns: dict[bytes, list[Any]]
    undecoded: dict[bytes, list[Undecoded]]
    missing: list[int]  # positions of messages without a usable summary
    asked: UidSet  # the messages that were looked at


def _mark(selected: Selected, *parts: bytes) -> bytes:
    """Return the name in ``Answers`` of something that is remembered of a mailbox."""
    whole = b"\0".join((selected.key, b"%d" % selected.uidvalidity, *parts))
    return hashlib.blake2b(whole, digest_size=24).digest()


async def _work(pace: Pace, alone: bool, call: Callable[[], T]) -> T:
    """Return the call's result; it runs on a helper thread unless it may run ``alone`` on the loop."""
    return call() if alone else await pace.aside(call)


async def _content(session: Session, uid: int) -> bytes:
    """Return the message; empty if it was removed or cannot be read."""
    selected = session.selected
    assert selected is not None
    try:
        return await session.service.store.content(selected.account, selected.key, uid) or b""
    except MailError:
        return b""


# ---------------------------------------------------------------- SORT


def _look(snapshot: Snapshot, key: bytes, uids: UidSet, names: list[bytes]) -> Block:
    """Read what the index has of these messages; of fewer, if their summaries are long."""
    items: list[Any] = []
    if any(name in order.NAMES for name in names):
        items = sorted(snapshot.summaries(key, uids).items(), key=itemgetter(0))
        uids = _some(uids, items)
    found, dates, sizes = order.arrived(snapshot.pages(key, uids), uids)
    block = Block(found, dates, {}, {}, [], uids)
    for name in names:
        if name in order.NAMES:
            values, block.undecoded[name], block.missing = order.values(found, items, order.NAMES[name])
        else:
            values = list(dates if name == b"ARRIVAL" else sizes)
        block.columns[name] = values
    return block


def _some(uids: UidSet, items: list[tuple[int, Octets]]) -> UidSet:
    """Return the first of ``uids`` until their summaries ``items`` have OCTETS; usually all."""
    octets = 0
    for uid, one in items:
        octets += len(one)
        if octets > OCTETS:
            return uids.both(UidSet.of_ranges((1, uid)))
    return uids


def _decode(block: Block) -> None:
    """Make keys of values that are not plain ASCII. A date that cannot be read becomes the internal date (RFC 5256
    2.2)."""
    for name, undecoded in block.undecoded.items():
        values = block.columns[name]
        for place, octets, otherwise in undecoded:
            values[place] = keys.subject_key(octets)[0] if name == b"SUBJECT" else keys.text_key(octets, otherwise)
        undecoded.clear()
    for name, values in block.columns.items():
        if name in order.NAMES:
            for place, value in enumerate(values):
                if value is None:
                    values[place] = block.dates[place] if name == b"DATE" else b""


async def _mend(session: Session, pace: Pace, block: Block) -> None:
    """Scan the messages of which the index has no usable summary."""
    for place in block.missing:
        content = await _content(session, block.uids[place])
        made = await _work(pace, len(content) < BIG, lambda content=content: mime.scan(content))  # type: ignore[misc]
        item: list[tuple[int, Octets]] = [(block.uids[place], made)]
        for name, undecoded in block.undecoded.items():
            value, more, _ = order.values([block.uids[place]], item, order.NAMES[name])
            block.columns[name][place] = value[0]
            undecoded += [(place, octets, otherwise) for _, octets, otherwise in more]
    block.missing.clear()


async def _read(session: Session, pace: Pace, uids: UidSet, names: list[bytes]) -> Block:
    """Read what is compared of these messages."""
    selected = session.selected
    assert selected is not None
    whole = Block([], [], {name: [] for name in names}, {}, [], uids)
    first = 1
    while first <= len(uids):
        with session.service.store.snapshot(selected.account) as snapshot:
            selected.recall(snapshot)
            part = uids.at(UidSet.of_ranges((first, first + BLOCK - 1)))
            block = _look(snapshot, selected.key, part, names)
        first += len(block.asked)
        if block.missing:
            await _mend(session, pace, block)
        octets = sum(len(one[1]) for undecoded in block.undecoded.values() for one in undecoded)
        await _work(pace, octets < DECODE_ON_LOOP, lambda block=block: _decode(block))  # type: ignore[misc]
        whole.uids += block.uids
        for name, values in block.columns.items():
            whole.columns[name] += values
        await pace.breathe()
    return whole


async def _sorted(session: Session, pace: Pace, uids: UidSet, criteria: list[Criterion]) -> "array[int]":
    """Read and sort all of these messages."""
    block = await _read(session, pace, uids, list(dict.fromkeys(name for name, _ in criteria)))
    columns = [(block.columns[name], reverse) for name, reverse in criteria]
    places = await _work(pace, len(block.uids) <= ON_LOOP, lambda: order.ranked(columns, len(block.uids)))
    return array("I", [block.uids[place] for place in places])


def _before(one: list[Value], two: list[Value], criteria: list[Criterion]) -> bool:
    """True if one message comes before another. Values end with the UID, which decides between equal ones."""
    for a, b, (_, reverse) in zip(one, two, [*criteria, (b"", False)], strict=True):
        if a != b:
            return (a < b) != reverse  # type: ignore[operator]
    return False


async def _inserted(
    session: Session, pace: Pace, known: "array[int]", fresh: UidSet, criteria: list[Criterion]
) -> "array[int] | None":
    """Return the known order with some more messages; None if it has a message that cannot be compared any more."""
    selected = session.selected
    assert selected is not None
    names = list(dict.fromkeys(name for name, _ in criteria))
    block = await _read(session, pace, fresh, names)
    result = array("I", known)
    values = {uid: [*(block.columns[name][place] for name, _ in criteria), uid] for place, uid in enumerate(block.uids)}
    with session.service.store.snapshot(selected.account) as snapshot:
        selected.recall(snapshot)
        for uid in block.uids:
            low, high = 0, len(result)
            while low < high:
                middle = (low + high) // 2
                other = result[middle]
                if other not in values:
                    one = _look(snapshot, selected.key, UidSet.of([other]), names)
                    if not one.uids or one.missing:
                        return None
                    _decode(one)
                    values[other] = [*(one.columns[name][0] for name, _ in criteria), other]
                if _before(values[other], values[uid], criteria):
                    low = middle + 1
                else:
                    high = middle
            result.insert(low, uid)
    return result


async def ordered(session: Session, pace: Pace, found: UidSet, criteria: list[Criterion]) -> "array[int]":
    """Return the UIDs of ``found`` in the order that the criteria ask for; equal ones by UID (RFC 5256 3)."""
    selected = session.selected
    assert selected is not None
    answers = session.service.answers
    mark = _mark(selected, b"sort", b" ".join(b"-" + name if reverse else name for name, reverse in criteria))
    known, result = answers.get(mark) or (EMPTY, array("I"))
    fresh = found.minus(known)
    if fresh and known and len(fresh) <= FEW:
        inserted = await _inserted(session, pace, result, fresh, criteria)
        known = known.plus(fresh) if inserted is not None else EMPTY
        result = inserted if inserted is not None else result
        fresh = found.minus(known)
    if fresh:
        known, result = found, await _sorted(session, pace, found, criteria)
    if len(known) > 2 * len(selected.uids) + SLACK:
        known = known.both(selected.uids)
        result = array("I", order.kept(result, known))
    answers.keep(mark, (known, result), 4 * len(result) + known.size_in_memory())
    return result if len(found) == len(known) else array("I", order.kept(result, found))


# ---------------------------------------------------------------- THREAD


def _subjects(undecoded: list[tuple[int, bytes]]) -> list[tuple[int, bytes, bool]]:
    return [(uid, *keys.subject_key(octets)) for uid, octets in undecoded]


def _rescan(content: bytes) -> tuple[bytes, bytes]:
    """Return (summary, References field) of a message."""
    made = mime.scan(content)
    parsed = summary.read(made)
    header = to_crlf(content[: parsed.parts[0].body]) if parsed is not None else b""
    return made, fetch.header_fields(header, (b"references",), False).partition(b":")[2]


async def _take_in(session: Session, pace: Pace, table: Threads, uids: UidSet) -> None:
    """Append messages to a table."""
    selected = session.selected
    assert selected is not None
    first = 1
    while first <= len(uids):
        part = uids.at(UidSet.of_ranges((first, first + BLOCK - 1)))
        with session.service.store.snapshot(selected.account) as snapshot:
            selected.recall(snapshot)
            items = sorted(snapshot.summaries(selected.key, part).items(), key=itemgetter(0))
            part = _some(part, items)
            first += len(part)
            found, dates, _ = order.arrived(snapshot.pages(selected.key, part), part)
            undecoded, missing = table.add(found, dates, items)
        for uid in missing:
            content = await _content(session, uid)
            made = await _work(pace, len(content) < BIG, lambda content=content: _rescan(content))  # type: ignore[misc]
            subject = table.complete(uid, *made)
            if subject is not None:
                undecoded.append((uid, subject))
        octets = sum(len(one) for _, one in undecoded)
        decoded = await _work(pace, octets < DECODE_ON_LOOP, lambda undecoded=undecoded: _subjects(undecoded))  # type: ignore[misc]
        for uid, key, reply in decoded:
            table.subject(uid, key, reply)
        await pace.breathe()


async def threaded(session: Session, pace: Pace, found: UidSet, name: bytes, by_uid: bool) -> bytes:
    """Return the threads of ``found`` in the form of the response."""
    selected = session.selected
    assert selected is not None
    answers = session.service.answers
    numbers = None if by_uid else selected.uids
    exact = _mark(selected, name, found.octets(), b"" if by_uid else selected.uids.octets())
    remembered: bytes | None = answers.get(exact)
    if remembered is not None:
        return remembered
    # taken out of Answers while it is changed and read, so that no other session sees it half changed
    mark = _mark(selected, b"threads")
    table, known = answers.take(mark) or (Threads(SECRET), EMPTY)
    fresh = found.minus(known)
    if fresh and fresh.first <= table.last:  # rows are in UID order: read all again
        fresh = known.plus(fresh).both(selected.uids)
        table, known = Threads(SECRET), EMPTY
    await _take_in(session, pace, table, fresh)
    known = known.plus(fresh)
    if len(known) > 2 * len(selected.uids) + SLACK:
        known = known.both(selected.uids)
        table.keep(known)
    text = await _work(pace, len(found) <= ON_LOOP, lambda: table.answer(ALGORITHMS[name], found, numbers))
    answers.keep(mark, (table, known), table.octets + known.size_in_memory())
    answers.keep(exact, text, len(text))
    return text
