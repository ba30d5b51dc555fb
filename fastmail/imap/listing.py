"""LIST and LSUB (RFC 3501 6.3.8, 6.3.9), with LIST-EXTENDED (RFC 5258), LIST-STATUS (RFC 5819), CHILDREN (RFC 3348),
SPECIAL-USE (RFC 6154), LIST-METADATA (RFC 9590) and LIST-MYRIGHTS (RFC 8440).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fastmail._core.imap import ParseError, Reader
from fastmail.imap import acl, metadata, places, status
from fastmail.imap.command import Command, Work
from fastmail.imap.names import decode_name, quoted, wire_text
from fastmail.imap.state import Session
from fastmail.model.errors import CannotDo, TooMuch
from fastmail.model.mailbox_name import INBOX, Pattern
from fastmail.store.interface import SPECIAL, Mailbox

SELECTION = (b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE")
RETURN = (b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"MYRIGHTS")
Match = Callable[[str], bool]
MOST_PATTERNS = 100  # patterns in one LIST; each is tried on each name
YIELD_EVERY = 500  # names after which other sessions have a turn


@dataclass(slots=True)
class Asked:
    """What one LIST asks for. ``extended``: it used a form of RFC 5258; ``items``: STATUS items for each mailbox;
    ``entries``: annotations."""

    reference: bytes = b""
    patterns: list[bytes] = field(default_factory=list)
    select: set[bytes] = field(default_factory=set)
    returns: set[bytes] = field(default_factory=set)
    items: list[bytes] = field(default_factory=list)
    entries: list[bytes] = field(default_factory=list)
    extended: bool = False


def list_(command: Command) -> Work:
    """RFC 5258 6."""
    session, reader = command.session, command.reader
    asked = Asked()
    reader.sp()
    if reader.peek() == 40:
        asked.extended = True
        _selection(reader, asked)
        reader.sp()
    asked.reference = reader.astring()
    reader.sp()
    if reader.peek() == 40:
        asked.extended = True
        reader.open()
        asked.patterns.append(reader.list_mailbox())
        while reader.more():
            asked.patterns.append(reader.list_mailbox())
        reader.close()
        asked.patterns = list(dict.fromkeys(asked.patterns))
        if len(asked.patterns) > MOST_PATTERNS:
            raise TooMuch(f"at most {MOST_PATTERNS} patterns are taken at once")
    else:
        asked.patterns.append(reader.list_mailbox())
    if reader.more():
        asked.extended = True
        _returns(reader, asked)
    reader.end()
    if b"HIGHESTMODSEQ" in asked.items:
        session.learn_modseq()
    return _list(command, asked)


def _selection(reader: Reader, asked: Asked) -> None:
    reader.open()
    while reader.peek() != 41:
        at = reader.pos
        option = reader.atom().upper()
        if option not in SELECTION:
            raise ParseError("SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE", at)
        asked.select.add(option)
        if reader.peek() == 32:
            reader.sp()
    if b"RECURSIVEMATCH" in asked.select and not asked.select & {b"SUBSCRIBED", b"SPECIAL-USE"}:
        raise ParseError("SUBSCRIBED or SPECIAL-USE beside RECURSIVEMATCH", reader.pos)
    reader.close()


def _returns(reader: Reader, asked: Asked) -> None:
    at = reader.pos
    if not reader.skip(b"RETURN ("):
        raise ParseError("RETURN (options)", at)
    while reader.peek() != 41:
        at = reader.pos
        option = reader.atom().upper()
        if option == b"STATUS":
            reader.sp()
            asked.items = status.read_items(reader)
        elif option == b"METADATA":
            reader.sp()
            asked.entries = metadata.read_entries(reader)
        elif option in RETURN:
            asked.returns.add(option)
        else:
            raise ParseError("SUBSCRIBED, CHILDREN, SPECIAL-USE, MYRIGHTS, STATUS (items) or METADATA (entries)", at)
        if reader.peek() == 32:
            reader.sp()
    reader.close()


def lsub(command: Command) -> Work:
    """RFC 3501 6.3.9."""
    reader = command.reader
    reader.sp()
    reference = reader.astring()
    reader.sp()
    wanted = reader.list_mailbox()
    reader.end()
    return _lsub(command, reference, wanted)


def _matcher(session: Session, reference: bytes, wanted: bytes, sep: str) -> tuple[str, Match]:
    asked = _text(session, reference) + _text(session, wanted)
    if asked[: len(INBOX)].upper() == INBOX and asked[len(INBOX) : len(INBOX) + 1] in ("", sep):
        asked = INBOX + asked[len(INBOX) :]
    match = Pattern(asked, sep).matches
    inbox = Pattern(asked.upper(), sep).matches(INBOX)  # INBOX is compared without case (RFC 3501 5.1)
    return asked, lambda name: inbox if name == INBOX else match(name)


async def _list(command: Command, asked: Asked) -> None:
    session = command.session
    sep = session.service.separator
    if asked.patterns == [b""] and not asked.extended:
        session.conn.write(b'* LIST (\\Noselect) %b ""\r\n' % quoted(sep))
        await command.complete(b"OK LIST completed")
        return
    listing, found = await places.everything(session)
    matchers = [_matcher(session, asked.reference, wanted, sep)[1] for wanted in asked.patterns]
    existing = {place.shown.replace("/", sep): (place, box) for place, box in found}
    subscribed = {name.replace("/", sep) for name in listing.subscribed}
    chosen = set(existing)
    if b"SUBSCRIBED" in asked.select:
        chosen = subscribed
    if b"SPECIAL-USE" in asked.select:
        chosen = {name for name in chosen if name in existing and existing[name][1].special}
    parents = {parent for name in existing for parent in _parents(name, sep)}
    above = {parent for name in chosen for parent in _parents(name, sep)}
    recursive = b"RECURSIVEMATCH" in asked.select
    candidates = chosen | (above if recursive or not asked.select else set())
    fits = await _fitting(session, candidates, matchers)
    # A parent is shown for what is chosen below it and not shown by itself (RFC 5258 3.5).
    hiding = {parent for name in chosen - fits for parent in _parents(name, sep)} if recursive else set()
    conn = session.conn
    for name in sorted(fits, key=lambda n: (n != INBOX, n)):
        place, box = existing.get(name, (None, None))
        if name not in chosen and (name not in hiding if recursive else box is not None):
            continue
        own = place is None or place.account == session.account
        marks = _marks(asked, box, own, name in parents, name in subscribed)
        below = b' ("CHILDINFO" ("SUBSCRIBED"))' if recursive and name in above else b""
        conn.write(b"* LIST (%b) %b %b%b\r\n" % (b" ".join(marks), quoted(sep), wire_text(session, name), below))
        if place is not None and box is not None:
            for line in _more(session, asked, place, box):
                conn.write(line)
        if conn.full:
            await conn.drain()
    await command.complete(b"OK LIST completed")


async def _fitting(session: Session, names: set[str], matchers: list[Match]) -> set[str]:
    """Return those of the names that match one of the patterns."""
    found = set()
    for number, name in enumerate(names, 1):
        if any(match(name) for match in matchers):
            found.add(name)
        if number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
            if session.conn.closing:
                raise ConnectionResetError("peer is gone")
    return found


def _more(session: Session, asked: Asked, place: places.Place, box: Mailbox) -> list[bytes]:
    """Return what follows the LIST line of a mailbox."""
    out = []
    if asked.items and "r" in place.rights:
        out.append(status.line(session, place, box, asked.items))
    if b"MYRIGHTS" in asked.returns:
        out.append(acl.line(session, place))
    if asked.entries and metadata.may_see(place):
        found = metadata.values(session, place, asked.entries)
        if found:
            out.append(metadata.line(session, place.shown, found))
    return out


def _marks(asked: Asked, box: Mailbox | None, own: bool, parent: bool, subscribed: bool) -> list[bytes]:
    """Return the attributes. ``own``: the mailbox belongs to the account; special uses of others' mailboxes are not
    shown."""
    marks = []
    if box is None:
        marks.append(b"\\NonExistent" if asked.extended else b"\\Noselect")
    if subscribed and (b"SUBSCRIBED" in asked.select or b"SUBSCRIBED" in asked.returns):
        marks.append(b"\\Subscribed")
    marks.append(b"\\HasChildren" if parent else b"\\HasNoChildren")
    if box is not None:
        marks += [text.encode() for bit, text in SPECIAL.items() if own and box.special & bit]
    return marks


async def _lsub(command: Command, reference: bytes, wanted: bytes) -> None:
    session = command.session
    sep = session.service.separator
    listing, found = await places.everything(session)
    asked, match = _matcher(session, reference, wanted, sep)
    existing = {place.shown.replace("/", sep) for place, _ in found}
    names = {name.replace("/", sep) for name in listing.subscribed}
    parents = {parent for name in names for parent in _parents(name, sep)}
    conn = session.conn
    for name in sorted(await _fitting(session, names | parents, [match]), key=lambda n: (n != INBOX, n)):
        if name not in names and not asked.endswith("%"):
            continue
        marks = b"\\Noselect" if name not in names or name not in existing else b""
        conn.write(b"* LSUB (%b) %b %b\r\n" % (marks, quoted(sep), wire_text(session, name)))
        if conn.full:
            await conn.drain()
    await command.complete(b"OK LSUB completed")


def _parents(name: str, sep: str) -> list[str]:
    levels = name.split(sep)
    return [sep.join(levels[:i]) for i in range(1, len(levels))]


def _text(session: Session, raw: bytes) -> str:
    """Return a pattern as text. With wildcards inside encoded text it cannot be decoded, and is taken as it is.
    CannotDo for octets that are not UTF-8."""
    try:
        return decode_name(session, raw)
    except CannotDo:
        if raw.isascii():
            return raw.decode("ascii")
        raise
