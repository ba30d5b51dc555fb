"""COPY (RFC 3501 6.4.7) and MOVE (RFC 6851), with COPYUID (RFC 4315 3).

All messages are copied, or none. MOVE to another account's mailbox may fail after some of them, and tells which.
"""

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds, errors, places
from fastmail.imap.command import Command, Work
from fastmail.imap.names import read_name
from fastmail.imap.places import Place
from fastmail.imap.sets import read_set
from fastmail.imap.views import Selected, writable
from fastmail.model import rights
from fastmail.model.errors import MailError, NoSuchMailbox
from fastmail.store import transfer
from fastmail.store.interface import Appended, Copied, Store
from fastmail.store.quota import check


def copy(command: Command) -> Work:
    """RFC 3501 6.4.7."""
    return _begin(command, move=False)


def move(command: Command) -> Work:
    """RFC 6851 3.1."""
    return _begin(command, move=True)


def _begin(command: Command, move: bool) -> Work:
    session, reader = command.session, command.reader
    assert session.selected is not None
    reader.sp()
    uids = read_set(command)
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    if move:
        writable(session.selected, "te")
    refusal = bounds.too_many(session, uids)
    if refusal:
        return command.finish(refusal)
    return _transfer(command, session.selected, uids, name, move)


async def _transfer(command: Command, selected: Selected, uids: UidSet, name: str, move: bool) -> None:
    session, store = command.session, command.session.service.store
    account = selected.account
    try:
        place = await places.find(session, name, "i")
    except NoSuchMailbox:
        command.answer(b"NO [TRYCREATE] mailbox does not exist")
        return
    target = place.key
    assert target is not None
    if not uids:
        await command.complete(b"OK MOVE completed" if move else b"OK COPY completed")
        return
    if not move or place.account != account:
        await _check_room(store, selected, uids, place)
    if place.account == account and rights.flags(place.rights) == rights.flags(rights.ALL):
        result = await store.copy(account, selected.key, uids, target, move)
    else:
        allowed, words = rights.flags(place.rights), "w" in place.rights
        ways = store, account, selected.key, uids, place.account, target, allowed, words
        if move:
            result = Copied(Appended(target, 0, []), [])
            try:
                await transfer.move(*ways, result)
            except MailError as error:
                if not result.source:
                    raise
                session.conn.write(b"* OK " + _code(result) + b" moved before it failed\r\n")
                await command.complete(errors.refusal(error))
                return
        else:
            result = await transfer.copy(*ways)
    if not result.source:
        await command.complete(b"NO [EXPUNGEISSUED] the messages are gone")
        return
    if session.service.moved is not None and account == place.account == session.account:
        session.service.moved(account, selected.key, target, result.target.uids)
    code = _code(result)
    if not move:
        await command.complete(b"OK " + code + b" COPY completed")
        return
    session.conn.write(b"* OK " + code + b" moved\r\n")  # before the EXPUNGEs (RFC 6851 4.3)
    text = b"OK MOVE completed"
    if session.condstore and result.expunged is not None:
        text = b"OK [HIGHESTMODSEQ %d] MOVE completed" % result.expunged.modseq
    await command.complete(text)


def _code(result: Copied) -> bytes:
    """Return the response code that says which messages have which UIDs now."""
    sources, copies = UidSet.of(result.source), UidSet.of(result.target.uids)
    return b"[COPYUID %d %b %b]" % (result.target.uidvalidity, sources.octets(), copies.octets())


async def _check_room(store: Store, selected: Selected, uids: UidSet, place: Place) -> None:
    """OverQuota where the quota of the mailbox's owner cannot take the messages."""
    pool = place.account.pool
    if not place.account.quota and pool is None:
        return
    with store.snapshot(selected.account) as snapshot:
        sizes = [size for page in snapshot.pages(selected.key, uids) for size in pages.sizes(page, uids)]
        kept = sum(mime.counted(one) for _, one in snapshot.summaries(selected.key, uids).items())
    octets = sum(sizes) + kept
    if pool is not None:
        await pool.ready(octets)
    check(store, place.account, octets, len(sizes))
    if pool is not None:
        pool.took(octets)
