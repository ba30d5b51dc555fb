"""SORT and THREAD (RFC 5256), SORT=DISPLAY (RFC 5957), ESORT and CONTEXT=SORT (RFC 5267 3, 4), THREAD=REFS.

The messages are found as by SEARCH; ``compared`` reads what is compared of them, and remembers it.
"""

from collections.abc import Callable
from typing import Any

from fastmail._core import order
from fastmail._core.imap import ParseError, Reader
from fastmail._core.uidset import in_order
from fastmail.imap import bounds, compared, context
from fastmail.imap.command import Command, Work
from fastmail.imap.compared import ALGORITHMS, Criterion
from fastmail.imap.search import AT_ONCE, Job, Wanted, make_job, narrowed, quoted, read_return


KEYS = {b"ARRIVAL", b"SIZE", *order.NAMES}


def sort(command: Command) -> Work:
    """RFC 5256 4."""
    reader = command.reader
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
        if len(criteria) > 50:
            raise ParseError("fewer sort criteria", at)
        if not reader.more():
            break
    reader.close()
    reader.sp()
    if wanted.update and context.in_use(command):
        command.bad("another search that is kept up to date has this command.tag")
        return None
    return _begin(command, lambda job, tree: _sort(command, job, tree, criteria, wanted, command.by_uid))


def thread(command: Command) -> Work:
    """RFC 5256 4."""
    reader = command.reader
    reader.sp()
    at = reader.pos
    name = reader.atom().upper()
    if name not in ALGORITHMS:
        raise ParseError("ORDEREDSUBJECT, REFERENCES or REFS", at)
    reader.sp()
    return _begin(command, lambda job, tree: _thread(command, job, tree, name, command.by_uid))


def _begin(command: Command, run: Callable[[Job, Any], Work]) -> Work:
    """Charset and search keys, then ``run``."""
    session, reader = command.session, command.reader
    charset = reader.astring()
    reader.sp()
    _, tree = reader.search()
    reader.end()
    assert session.selected is not None
    job = make_job(command, session.selected, charset, tree)
    return run(job, tree) if job is not None else None


async def _sort(
    command: Command,
    job: Job,
    tree: tuple[Any, ...],
    criteria: list[Criterion],
    wanted: Wanted,
) -> None:
    session = command.session
    selected = session.selected
    assert selected is not None
    found = await job.evaluate(tree, job.within)
    await job.learn_modseqs(found)
    uids = await compared.ordered(session, job.pace, found, criteria)
    top = b" (MODSEQ %d)" % job.highest(found) if job.modseq and uids else b""
    if wanted.names is None:
        conn, view = session.conn, None if command.by_uid else selected.uids
        conn.write(b"* SORT")
        for start in range(0, len(uids), AT_ONCE):  # made and written as the client reads them
            conn.write(order.numbered(uids[start : start + AT_ONCE], view))
            if conn.full:
                await conn.drain()
        conn.write(top + b"\r\n")
    else:
        numbers = list(uids) if command.by_uid else [selected.uids.seq(uid) for uid in uids]
        items = [b"* ESEARCH (TAG ", quoted(command.tag), b")", b" UID" if command.by_uid else b""]
        if b"MIN" in wanted.names and numbers:
            items.append(b" MIN %d" % numbers[0])
        if b"MAX" in wanted.names and numbers:
            items.append(b" MAX %d" % numbers[-1])
        if b"ALL" in wanted.names and numbers:
            items.append(b" ALL " + in_order(numbers))
        if b"COUNT" in wanted.names:
            items.append(b" COUNT %d" % len(numbers))
        if wanted.partial is not None:
            low, high = narrowed(wanted.partial, len(numbers))
            part = in_order(numbers[low - 1 : high]) or b"NIL"
            items.append(b" PARTIAL (%b %b)" % (wanted.label, part))
        if b"SAVE" in wanted.names:
            selected.saved = found
        if job.modseq and uids:
            items.append(b" MODSEQ %d" % job.highest(found))
        if not wanted.silent:
            session.conn.write(b"".join(items) + b"\r\n")
        if wanted.update:
            keys = context.frozen(selected, tree)

            async def again() -> list[int]:
                found = await job.evaluate(keys, selected.uids)
                return list(await compared.ordered(session, job.pace, found, criteria))

            context.begin(command, command.by_uid, True, list(uids), again)
    await command.complete(bounds.told(session, job.code, b"OK SORT completed"))


async def _thread(
    command: Command, job: Job, tree: tuple[Any, ...], name: bytes
) -> None:
    session = command.session
    found = await job.evaluate(tree, job.within)
    text = await compared.threaded(session, job.pace, found, name, command.by_uid)
    session.conn.write(b"* THREAD" + (b" " + text if text else b"") + b"\r\n")
    await command.complete(bounds.told(session, job.code, b"OK THREAD completed"))
