"""NOTIFY (RFC 5465 3): reads which events of which mailboxes the client wants to hear of. ``watcher`` sends them.

Annotations of messages are refused with BADEVENT; a client that asks for too much gets NOTIFICATIONOVERFLOW.
"""

from fastmail._core.imap import ParseError, Reader
from fastmail.imap.command import Command, Work
from fastmail.imap.fetch_plan import make_plan
from fastmail.imap.filters import CHOSEN, read_filter
from fastmail.imap.state import Session
from fastmail.imap.watcher import MESSAGES, METADATA, NAMES, SERVER, Group, Watcher

UNKNOWN = {b"ANNOTATIONCHANGE"}
EVENTS = MESSAGES | NAMES | {METADATA, SERVER} | UNKNOWN
TOLD = b"MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange"
MOST_GROUPS = 100  # event groups of one command


def notify(command: Command) -> Work:
    """RFC 5465 3."""
    session, reader = command.session, command.reader
    reader.sp()
    at = reader.pos
    word = reader.atom().upper()
    if word == b"NONE":
        reader.end()
        session.end_notify()
        return command.finish(b"OK NOTIFY completed")
    if word != b"SET":
        raise ParseError("SET or NONE", at)
    reader.sp()
    with_status = reader.skip(b"STATUS ")
    groups = [_group(session, reader)]
    while reader.more():
        groups.append(_group(session, reader))
        if len(groups) > MOST_GROUPS:
            command.answer(b"NO [NOTIFICATIONOVERFLOW] too many kinds of mailboxes")
            return None
    reader.end()
    bad = sorted({event for group in groups for event in group.events} & UNKNOWN)
    if bad:
        command.answer(b"NO [BADEVENT (" + TOLD + b")] some events are not known")
        return None
    return _set(command, groups, with_status)


def _group(session: Session, reader: Reader) -> Group:
    """Read an event-group (RFC 5465 8)."""
    at = reader.pos
    reader.open()
    group = Group(read_filter(session, reader), set())
    reader.sp()
    if not reader.skip(b"NONE"):
        reader.open()
        while True:
            event = reader.atom().upper()
            if event not in EVENTS:
                raise ParseError("an event such as MessageNew", at)
            group.events.add(event)
            more = reader.more()
            if more and event == b"MESSAGENEW" and reader.peek() == 40:
                if group.filter.kind not in CHOSEN:
                    raise ParseError("FETCH items for the selected mailbox only", reader.pos)
                group.plan = make_plan(reader.fetch_items(), not session.uidonly)
                group.plan.items |= session.items(True)
                more = reader.more()
            if not more:
                break
        reader.close()
    reader.close()
    events = group.events
    if (b"MESSAGENEW" in events) != (b"MESSAGEEXPUNGE" in events):
        raise ParseError("MessageNew and MessageExpunge together", at)
    if b"FLAGCHANGE" in events and b"MESSAGENEW" not in events:
        raise ParseError("MessageNew beside FlagChange", at)
    if group.filter.kind in CHOSEN and events & (NAMES | {METADATA, SERVER}):
        raise ParseError("message events for the selected mailbox", at)
    return group


async def _set(command: Command, groups: list[Group], with_status: bool) -> None:
    session = command.session
    session.end_notify()
    watcher = Watcher(session, groups)
    session.notify = watcher
    if not await watcher.start(with_status):
        session.end_notify()
        command.answer(b"NO [NOTIFICATIONOVERFLOW] too many annotations")
        return
    await command.complete(b"OK NOTIFY completed")
