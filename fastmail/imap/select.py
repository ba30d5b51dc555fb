"""SELECT, EXAMINE, CLOSE (RFC 3501 6.3.1, 6.3.2, 6.4.2), UNSELECT (RFC 3691)."""

from typing import TYPE_CHECKING

from fastmail._core.imap import Reader
from fastmail._core.uidset import UidSet
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name
from fastmail.imap.views import Selected, flags_line
from fastmail.model.errors import NoSuchMailbox
from fastmail.model.flags import DELETED, MAX_KEYWORDS

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession


def select(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.1."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _open(session, tag, name, readonly=False)


def examine(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.3.2."""
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    return _open(session, tag, name, readonly=True)


async def _open(session: "ImapSession", tag: bytes, name: str, readonly: bool) -> None:
    account, store = session.account, session.service.store
    assert account is not None
    session.deselect()
    key = store.find(account, name)
    if key is None:
        await store.listing(account)  # a folder that another program made
        key = store.find(account, name)
    if key is None:
        raise NoSuchMailbox("mailbox does not exist")
    await session.look(key)
    recent = await session.claim_range(key) if not readonly else (0, 0)
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox does not exist")
        uids, unseen = session.service.views.get(snapshot, box)
        words = snapshot.keywords(key)
    if readonly:
        recent = (box.recent_from, box.uidnext)
    fresh = uids.both(UidSet.of_ranges((recent[0], recent[1] - 1))) if recent[0] < recent[1] else UidSet()
    selected = Selected(key, name, box.uidvalidity, readonly, uids, box.uidnext, box.modseq, box.modseq, fresh, words)
    names = b" ".join([rb"\Answered \Flagged \Deleted \Seen \Draft", *words])
    more = rb" \*" if len(words) < MAX_KEYWORDS else b""
    permanent = b"" if readonly else names + more
    out = [
        flags_line(words),
        b"* OK [PERMANENTFLAGS (%b)] %b\r\n" % (permanent, b"nothing is kept" if readonly else b"kept flags"),
        b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(uids), len(fresh)),
    ]
    if unseen:
        out.append(b"* OK [UNSEEN %d] first unseen\r\n" % uids.seq(unseen))
    out.append(b"* OK [UIDVALIDITY %d] UIDs valid\r\n* OK [UIDNEXT %d] next UID\r\n" % (box.uidvalidity, box.uidnext))
    word = b"EXAMINE" if readonly else b"SELECT"
    mode = b"[READ-ONLY]" if readonly else b"[READ-WRITE]"
    out.append(b"%b OK %b %b completed\r\n" % (tag, mode, word))
    session.attach(selected)
    session.conn.write(b"".join(out))


def close(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.4.2: expunges without telling, unless the mailbox is open for reading only."""
    reader.end()
    return _close(session, tag)


async def _close(session: "ImapSession", tag: bytes) -> None:
    selected, account = session.selected, session.account
    assert selected is not None and account is not None
    session.deselect()
    if not selected.readonly:
        await session.service.store.expunge(account, selected.key, None, DELETED)
    session.conn.write(tag + b" OK CLOSE completed\r\n")


def unselect(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3691."""
    reader.end()
    session.deselect()
    session.conn.write(tag + b" OK UNSELECT completed\r\n")
    return None
