"""MULTISEARCH (RFC 7377): one search over several mailboxes, answered with UIDs for each mailbox. The mailboxes are
named (``personal``, ``subtree`` and so on) by the filter of RFC 5465 6.
"""

from fastmail._core.imap import ParseError
from fastmail._core.uidset import UidSet
from fastmail.imap import places
from fastmail.imap.command import Command, Work
from fastmail.imap.filters import CHOSEN, Filter, read_filter
from fastmail.imap.names import wire
from fastmail.imap.returns import Wanted, part_of, read_return
from fastmail.imap.search_run import make_run
from fastmail.imap.search_tree import Tree
from fastmail.imap.state import Session
from fastmail.imap.turns import Pace
from fastmail.imap.views import Selected
from fastmail.model.errors import TooMuch
from fastmail.store.interface import Mailbox

MOST_FILTERS = 100  # filters of one command; each is applied to each mailbox


def esearch(command: Command) -> Work:
    """RFC 7377 2."""
    session, reader = command.session, command.reader
    reader.sp()
    filters = [Filter(b"SELECTED")]
    if reader.skip(b"IN ("):
        filters = [read_filter(session, reader)]
        while reader.more():
            if reader.peek() == 40:
                raise ParseError("no scope options: none are known", reader.pos)
            filters.append(read_filter(session, reader))
            if len(filters) > MOST_FILTERS:
                raise TooMuch(f"at most {MOST_FILTERS} kinds of mailboxes are taken at once")
        reader.close()
        reader.sp()
    wanted = read_return(reader)
    at = reader.pos
    if wanted.names is None:
        wanted.names = [b"ALL"]
    if wanted.update or b"SAVE" in wanted.names:
        raise ParseError("MIN, MAX, ALL, COUNT or PARTIAL", at)
    charset, tree = reader.search()
    reader.end()
    chosen = any(one.kind in CHOSEN for one in filters)
    if chosen and session.selected is None:
        command.bad("no mailbox is selected")
        return None
    return _run(command, filters, chosen, wanted, charset, tree)


async def _run(
    command: Command,
    filters: list[Filter],
    chosen: bool,
    wanted: Wanted,
    charset: bytes | None,
    tree: Tree,
) -> None:
    session = command.session
    listing, found_all = await places.everything(session)
    pace = Pace(session.service.turns, session.conn, command.tag)
    for place, box in found_all:
        mine = session.selected is not None and session.selected.key == box.key
        named = any(one.has(place.shown, place.account == session.account, listing) for one in filters)
        await pace.breathe()
        if not (chosen and mine) and not (named and "r" in place.rights):
            continue
        await session.look(place.account, box.key)
        selected = session.selected if mine else None
        view = selected if selected is not None else _view(session, place, box)
        run = make_run(command, view, charset, tree)
        if run is None:
            return
        found = await run.evaluate(tree, view.uids)
        await run.learn_modseqs(found)
        if found:
            session.conn.write(_answer(command, view, wanted, found, run.highest(found) if run.modseq else 0))
            await session.conn.drain()
    await command.complete(b"OK ESEARCH completed")


def _view(session: Session, place: places.Place, box: Mailbox) -> Selected:
    """Return a mailbox as it is now, without selecting it."""
    account = place.account
    with session.service.store.snapshot(account) as snapshot:
        now = snapshot.mailbox(box.key) or box
        uids, _ = session.service.views.get(snapshot, now)
        words = snapshot.keywords(box.key)
    return Selected(
        account, box.key, place.shown, now.uidvalidity, True, uids, now.uidnext, now.modseq, now.modseq, UidSet(), words
    )


def _answer(command: Command, view: Selected, wanted: Wanted, found: UidSet, modseq: int) -> bytes:
    session = command.session
    names = wanted.names or []
    of = (command.tag, wire(session, view.name), view.uidvalidity)
    items = [b'* ESEARCH (TAG "%b" MAILBOX %b UIDVALIDITY %d) UID' % of]
    if b"MIN" in names:
        items.append(b" MIN %d" % found.first)
    if b"MAX" in names:
        items.append(b" MAX %d" % found.last)
    if b"ALL" in names:
        items.append(b" ALL " + found.octets())
    if b"COUNT" in names:
        items.append(b" COUNT %d" % len(found))
    if wanted.partial is not None:
        items.append(b" PARTIAL (%b %b)" % (wanted.label, part_of(wanted.partial, found).octets() or b"NIL"))
    if modseq:
        items.append(b" MODSEQ %d" % modseq)
    return b"".join(items) + b"\r\n"
