"""FETCH (RFC 3501 6.4.5), CHANGEDSINCE and VANISHED (RFC 7162 3.1.4, 3.2.6), PARTIAL (RFC 9394 3.3), and UIDFETCH
(RFC 9586).

A plan is made of the items once (``fetch_plan``); ``fetch_run`` writes the responses. What the index answers is written
at once, up to one block, which is all of most commands; the rest is a coroutine.
"""

from dataclasses import dataclass

from fastmail._core import pages
from fastmail._core.fetch import Item
from fastmail._core.imap import ParseError
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds
from fastmail.imap.command import Command, Work
from fastmail.imap.fetch_plan import make_plan
from fastmail.imap.fetch_run import FetchRun
from fastmail.imap.returns import part_of, read_partial
from fastmail.imap.sets import resolve
from fastmail.imap.state import Session
from fastmail.imap.views import Selected


def fetch(command: Command) -> Work:
    """RFC 3501 6.4.5."""
    session, reader = command.session, command.reader
    selected = session.selected
    assert selected is not None
    reader.sp()
    ranges = reader.sequence_set()
    uids = resolve(command, selected, ranges)
    reader.sp()
    plan = make_plan(reader.fetch_items(), command.by_uid and not session.uidonly)
    vanished = b""
    if reader.more():
        only = _modifiers(command)
        reader.end()
        if only.partial is not None:
            uids = part_of(only.partial, uids)  # before CHANGEDSINCE (RFC 9394 3.4)
        if only.since is not None:
            plan.items |= Item.MODSEQ
            asked = None
            if only.vanished and ranges is not None:
                asked = UidSet.of_ranges(ranges, max(1, selected.uidnext - 1))
            uids, vanished = _changed(session, selected, uids, only.since, asked)
    reader.end()
    if plan.items & Item.MODSEQ:
        session.learn_modseq()
    plan.items |= session.items(command.by_uid) & ~Item.MODSEQ
    if vanished:
        session.conn.write(vanished)
    uids, code = bounds.newest(session, uids)
    run = FetchRun(session, selected, plan, uids)
    run.code = code
    if plan.one_by_one or (plan.sees and not selected.readonly):
        return run.whole(command)
    # the index answers all of it: the first block is written now, which is everything for most commands
    rest = run.block(uids)
    if rest or run.missing:
        return run.blocks(command, rest)
    return command.finish(bounds.told(session, code, b"OK FETCH completed"))


@dataclass(slots=True)
class Only:
    """Which of the named messages are meant: those changed after MODSEQ ``since``, and those in the range ``partial``.
    ``vanished``: also send which were removed since."""

    since: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


def _modifiers(command: Command) -> Only:
    """Read ``(CHANGEDSINCE n [VANISHED])`` (RFC 7162 3.1.4.1, 3.2.6), ``(PARTIAL range)`` (RFC 9394 3.3)."""
    reader, by_uid = command.reader, command.by_uid
    only = Only()
    reader.open()
    while True:
        at = reader.pos
        word = reader.atom().upper()
        if word == b"CHANGEDSINCE":
            reader.sp()
            only.since = reader.number(False, (1 << 63) - 1)
        elif word == b"VANISHED" and by_uid and command.session.qresync:
            only.vanished = True
        elif word == b"PARTIAL" and by_uid and only.partial is None:
            reader.sp()
            only.partial, _ = read_partial(reader)
        else:
            raise ParseError("CHANGEDSINCE; PARTIAL in a UID FETCH, or VANISHED in one after ENABLE QRESYNC", at)
        if not reader.more():
            break
    reader.close()
    if only.vanished and only.since is None:
        raise ParseError("CHANGEDSINCE", reader.pos)
    return only


def _changed(
    session: Session, selected: Selected, uids: UidSet, since: int, asked: UidSet | None
) -> tuple[UidSet, bytes]:
    """Return (those of ``uids`` that changed after ``since``, VANISHED (EARLIER) for those of ``asked`` that were
    removed)."""
    changed: list[int] = []
    with session.service.store.snapshot(selected.account) as snapshot:
        for page in snapshot.pages(selected.key, uids):
            changed += pages.changed_since(page, uids, since)
        gone = UidSet()
        if asked is not None:
            gone = snapshot.expunged(selected.key, since).both(asked).minus(selected.uids)
    told = b"* VANISHED (EARLIER) " + gone.octets() + b"\r\n" if gone else b""
    return UidSet.of(changed), told
