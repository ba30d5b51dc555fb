"""SEARCH (RFC 3501 6.4.4) and its answers: ESEARCH (RFC 4731), SEARCHRES (RFC 5182), PARTIAL (RFC 9394), FUZZY
(RFC 6203), MODSEQ (RFC 7162 3.1.5), CONTEXT=SEARCH (RFC 5267 4). The search itself is in ``search_run``.

A search that the index answers within a slice of time is answered at once, every other one as a coroutine. An unknown
charset gets NO [BADCHARSET].
"""

from fastmail._core.uidset import UidSet
from fastmail.imap import bounds, updates
from fastmail.imap.command import Command, Work
from fastmail.imap.returns import Wanted, head, part_of, read_return
from fastmail.imap.search_run import BLOCK, STEPS, SearchRun, blocks, make_run
from fastmail.imap.search_tree import asks, cost, frozen
from fastmail.imap.views import Context, Selected

AT_ONCE = 10_000  # numbers of an answer that are written at a time


def search(command: Command) -> Work:
    """RFC 3501 6.4.4."""
    session, reader = command.session, command.reader
    selected = session.selected
    assert selected is not None
    reader.sp()
    wanted = read_return(reader)
    charset, tree = reader.search()
    reader.end()
    if wanted.names and b"RELEVANCY" in wanted.names and not asks("FUZZY", tree):
        command.bad("RELEVANCY needs a FUZZY key")  # RFC 6203 4
        return None
    if wanted.update and updates.in_use(selected, command.tag):
        command.bad("another search that is kept up to date has this tag")
        return None
    if session.rev2 and wanted.names is None:
        wanted.names = [b"ALL"]  # RFC 9051 6.4.4
    run = make_run(command, selected, charset, tree)
    if run is None:
        if wanted.names and b"SAVE" in wanted.names:
            selected.saved = UidSet()  # RFC 5182 2.1
        return None
    steps = run.steps(tree, run.within)
    if cost(tree) == 0 and steps <= STEPS and not (run.modseq and len(run.within) > BLOCK):
        session.conn.charge(steps / STEPS)
        return _answer(command, selected, run, wanted, run.by_index(tree, run.within))
    return _run(command, selected, run, wanted)


async def _run(command: Command, selected: Selected, run: SearchRun, wanted: Wanted) -> None:
    found = await run.evaluate(run.tree, run.within)
    await run.learn_modseqs(found)
    work = _answer(command, selected, run, wanted, found)
    if work is not None:
        await work


def _answer(command: Command, selected: Selected, run: SearchRun, wanted: Wanted, found: UidSet) -> Work:
    conn = command.session.conn
    shown = found if command.by_uid else selected.uids.seqs(found)
    if wanted.names is None and len(shown) > AT_ONCE:
        return _long(command, run, found, shown)
    if wanted.names is None:
        conn.write(b"* SEARCH" + shown.numbers() + _highest(run, found) + b"\r\n")
    else:
        line = _line(command, selected, run, wanted, found, shown)
        if not wanted.silent:
            conn.write(line)
        if wanted.update:
            tree = frozen(selected, run.tree)

            async def again() -> list[int]:
                return list(await run.evaluate(tree, selected.uids))

            context = Context(command.tag, command.by_uid, False, list(found), again)
            updates.begin(conn, selected, context)
    return command.finish(bounds.told(command.session, run.code, b"OK SEARCH completed"))


def _highest(run: SearchRun, found: UidSet) -> bytes:
    """Return the highest MODSEQ of what was found, if MODSEQ was a key."""
    return b" (MODSEQ %d)" % run.highest(found) if run.modseq and found else b""


async def _long(command: Command, run: SearchRun, found: UidSet, shown: UidSet) -> None:
    """Write ``* SEARCH`` with many numbers, as fast as the client reads them."""
    conn = command.session.conn
    conn.write(b"* SEARCH")
    for part in blocks(shown, AT_ONCE):
        conn.write(part.numbers())
        if conn.full:
            await conn.drain()
    conn.write(_highest(run, found) + b"\r\n")
    await command.complete(bounds.told(command.session, run.code, b"OK SEARCH completed"))


def _line(command: Command, selected: Selected, run: SearchRun, wanted: Wanted, found: UidSet, shown: UidSet) -> bytes:
    """Return ``* ESEARCH`` with what was asked for; SAVE is done here, too. ``shown``: UIDs or sequence numbers of
    ``found``."""
    names = wanted.names or []
    items = [head(command.tag, command.by_uid)]
    narrow = []
    if b"MIN" in names and found:
        items.append(b" MIN %d" % shown.first)
        narrow.append(found.first)
    if b"MAX" in names and found:
        items.append(b" MAX %d" % shown.last)
        narrow.append(found.last)
    if b"ALL" in names and found:
        items.append(b" ALL " + shown.octets())
    if b"RELEVANCY" in names and found:
        items.append(b" RELEVANCY (" + b" ".join(b"%d" % run.scores.get(uid, 100) for uid in found) + b")")
    if b"COUNT" in names:
        items.append(b" COUNT %d" % len(found))
    part = UidSet()
    if wanted.partial is not None:
        part = part_of(wanted.partial, found)
        told = (part if command.by_uid else selected.uids.seqs(part)).octets()
        items.append(b" PARTIAL (%b %b)" % (wanted.label, told or b"NIL"))
    ends = UidSet.of(sorted(set(narrow)))
    if b"SAVE" in names:
        all_of_them = {b"ALL", b"COUNT"} & set(names) or (not narrow and wanted.partial is None)
        selected.saved = found if all_of_them else ends.plus(part)  # the tables of RFC 5182 2.4 and RFC 9394 3.2
    if run.modseq and found:
        items.append(b" MODSEQ %d" % run.highest(ends if narrow else found))
    return b"".join(items) + b"\r\n"
