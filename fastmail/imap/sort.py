"""SORT and THREAD (RFC 5256), SORT=DISPLAY (RFC 5957), ESORT and CONTEXT=SORT (RFC 5267 3, 4), THREAD=REFS.

Messages are found as by SEARCH; ``compared`` reads what is compared of them, and remembers it.
"""

from array import array
from collections.abc import Callable

from fastmail._core import order
from fastmail._core.imap import ParseError
from fastmail._core.uidset import UidSet, in_order
from fastmail.imap import bounds, compared, updates
from fastmail.imap.command import Command, Work
from fastmail.imap.compared import ALGORITHMS, Criterion
from fastmail.imap.returns import Wanted, head, narrowed, read_return
from fastmail.imap.search import AT_ONCE
from fastmail.imap.search_run import SearchRun, make_run
from fastmail.imap.search_tree import frozen
from fastmail.imap.views import Context, Selected

KEYS = {b"ARRIVAL", b"SIZE", *order.NAMES}
CRITERIA = 50  # sort criteria of one command


def sort(command: Command) -> Work:
    """RFC 5256 4."""
    selected, reader = command.session.selected, command.reader
    assert selected is not None
    reader.sp()
    wanted = read_return(reader)
    reader.open()
    criteria: list[Criterion] = []
    while True:
        at = reader.pos
        reverse = reader.skip(b"REVERSE ")
        name = reader.atom().upper()
        if name not in KEYS:
            raise ParseError(b", ".join(sorted(KEYS)).decode() + ", with or without REVERSE", at)
        criteria.append((name, reverse))
        if len(criteria) > CRITERIA:
            raise ParseError("fewer sort criteria", at)
        if not reader.more():
            break
    reader.close()
    reader.sp()
    if wanted.update and updates.in_use(selected, command.tag):
        command.bad("another search that is kept up to date has this tag")
        return None
    return _begin(command, selected, lambda run: _sort(command, selected, run, criteria, wanted))


def thread(command: Command) -> Work:
    """RFC 5256 4."""
    selected, reader = command.session.selected, command.reader
    assert selected is not None
    reader.sp()
    at = reader.pos
    name = reader.atom().upper()
    if name not in ALGORITHMS:
        raise ParseError("ORDEREDSUBJECT, REFERENCES or REFS", at)
    reader.sp()
    return _begin(command, selected, lambda run: _thread(command, run, name))


def _begin(command: Command, selected: Selected, then: Callable[[SearchRun], Work]) -> Work:
    """Read charset and search keys, then call ``then``."""
    reader = command.reader
    charset = reader.astring()
    reader.sp()
    _, tree = reader.search()
    reader.end()
    run = make_run(command, selected, charset, tree)
    return then(run) if run is not None else None


async def _sort(
    command: Command, selected: Selected, run: SearchRun, criteria: list[Criterion], wanted: Wanted
) -> None:
    session = command.session
    conn = session.conn
    found = await run.evaluate(run.tree, run.within)
    await run.learn_modseqs(found)
    uids = await compared.ordered(session, run.pace, found, criteria)
    if wanted.names is None:
        conn.write(b"* SORT")
        view = None if command.by_uid else selected.uids
        for start in range(0, len(uids), AT_ONCE):  # written as fast as the client reads
            conn.write(order.numbered(uids[start : start + AT_ONCE], view))
            if conn.full:
                await conn.drain()
        conn.write((b" (MODSEQ %d)" % run.highest(found) if run.modseq and uids else b"") + b"\r\n")
    else:
        if b"SAVE" in wanted.names:
            selected.saved = found
        if not wanted.silent:
            conn.write(_line(command, selected, run, wanted, found, uids))
        if wanted.update:
            tree = frozen(selected, run.tree)

            async def again() -> list[int]:
                found = await run.evaluate(tree, selected.uids)
                return list(await compared.ordered(session, run.pace, found, criteria))

            updates.begin(conn, selected, Context(command.tag, command.by_uid, True, list(uids), again))
    await command.complete(bounds.told(session, run.code, b"OK SORT completed"))


def _line(
    command: Command, selected: Selected, run: SearchRun, wanted: Wanted, found: UidSet, uids: "array[int]"
) -> bytes:
    """Return ``* ESEARCH`` with what was asked for, in the order of ``uids`` (RFC 5267 3.1)."""
    numbers = list(uids) if command.by_uid else [selected.uids.seq(uid) for uid in uids]
    names = wanted.names or []
    items = [head(command.tag, command.by_uid)]
    if b"MIN" in names and numbers:
        items.append(b" MIN %d" % numbers[0])
    if b"MAX" in names and numbers:
        items.append(b" MAX %d" % numbers[-1])
    if b"ALL" in names and numbers:
        items.append(b" ALL " + in_order(numbers))
    if b"COUNT" in names:
        items.append(b" COUNT %d" % len(numbers))
    if wanted.partial is not None:
        low, high = narrowed(wanted.partial, len(numbers))
        items.append(b" PARTIAL (%b %b)" % (wanted.label, in_order(numbers[low - 1 : high]) or b"NIL"))
    if run.modseq and numbers:
        items.append(b" MODSEQ %d" % run.highest(found))
    return b"".join(items) + b"\r\n"


async def _thread(command: Command, run: SearchRun, name: bytes) -> None:
    session = command.session
    found = await run.evaluate(run.tree, run.within)
    text = await compared.threaded(session, run.pace, found, name, command.by_uid)
    session.conn.write(b"* THREAD" + (b" " + text if text else b"") + b"\r\n")
    await command.complete(bounds.told(session, run.code, b"OK THREAD completed"))
