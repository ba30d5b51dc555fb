"""CHECK, EXPUNGE, STORE, COPY (RFC 3501 6.4.1, 6.4.3, 6.4.6, 6.4.7), UID EXPUNGE and COPYUID (RFC 4315), MOVE
(RFC 6851). Sets are resolved against the session's frozen view, never against the mailbox as it is now.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastmail._core import fetch as render
from fastmail._core import mime, pages
from fastmail._core.imap import ParseError, Reader
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds, places
from fastmail.imap.authenticate import Work
from fastmail.imap.mailboxes import read_name
from fastmail.imap.views import FLAGS_ITEM, Selected, new_keywords
from fastmail.model import rights
from fastmail.model.errors import CannotDo, NoPermission, NoSuchMailbox
from fastmail.model.flags import DELETED
from fastmail.store.interface import ALL_MODSEQ, Octets, Store, Stored
from fastmail.store.quota import check as room
from fastmail.store.transfer import transfer

if TYPE_CHECKING:
    from fastmail.imap.session import ImapSession


def read_set(session: "ImapSession", reader: Reader, by_uid: bool) -> UidSet:
    """The messages that a set names; ParseError for a sequence number that is not there."""
    return resolve(session, reader.sequence_set(), by_uid, reader.pos)


def resolve(session: "ImapSession", ranges: tuple[int, ...] | None, by_uid: bool, at: int) -> UidSet:
    """The same for a set that was read."""
    selected = session.selected
    assert selected is not None
    uids = selected.resolve(ranges, by_uid)
    if uids is None:
        raise ParseError(f"message numbers up to {len(selected.uids)}", at)
    return uids


def writable(selected: Selected, needs: str = "", some: str = "") -> None:
    """CannotDo when the mailbox was opened with EXAMINE; NoPermission without all of ``needs`` and one of ``some``."""
    held = selected.rights
    if held != rights.ALL and not (set(needs) <= set(held) and (not some or set(some) & set(held))):
        raise NoPermission("this account has no right to do that here")
    if selected.readonly:
        raise CannotDo("mailbox is open for reading only")


def check(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.4.1: everything is on disk already."""
    reader.end()
    return session.finish(tag, b"OK CHECK completed")  # type: ignore[no-any-return]


def expunge(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.4.3, RFC 4315 2.1."""
    selected = session.selected
    assert selected is not None
    uids = selected.uids
    if by_uid:
        reader.sp()
        uids = read_set(session, reader, True)
    reader.end()
    writable(selected, "e")
    return _expunge(session, tag, selected, uids)


async def _expunge(session: "ImapSession", tag: bytes, selected: Selected, uids: UidSet) -> None:
    account, store = selected.account, session.service.store
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(selected.key)
    text = b"OK EXPUNGE completed"
    uids, code = bounds.newest(session, uids)
    if uids and box is not None and box.deleted:
        done = await store.expunge(account, selected.key, uids, DELETED)
        if session.condstore and done.uids:
            text = b"OK [HIGHESTMODSEQ %d] EXPUNGE completed" % done.modseq
    work = session.finish(tag, bounds.told(session, code, text))
    if work is not None:
        await work


def store(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.4.6."""
    selected = session.selected
    assert selected is not None
    reader.sp()
    uids = read_set(session, reader, by_uid)
    reader.sp()
    unchanged = ALL_MODSEQ
    if reader.peek() == 40:
        reader.open()
        at = reader.pos
        if not reader.skip(b"UNCHANGEDSINCE "):
            raise ParseError("UNCHANGEDSINCE", at)
        unchanged = reader.number(False, (1 << 63) - 1)
        reader.close()
        reader.sp()
    mode, silent, flags, words = reader.store()
    reader.end()
    writable(selected, "", "swt")
    if unchanged != ALL_MODSEQ:
        session.learn_modseq()
    uids, code = bounds.newest(session, uids)
    job = StoreJob(tag, uids, mode, silent, flags, words, by_uid, unchanged, code)
    waves = session.stores
    if not waves or any(isinstance(one, StoreJob) and one.uids.both(uids) for one in waves[-1]):
        waves.append([])
    waves[-1].append(job)
    return None


@dataclass(slots=True)
class StoreJob:
    """One STORE whose arguments were read."""

    tag: bytes
    uids: UidSet
    mode: int
    silent: bool
    flags: int
    words: list[bytes]
    by_uid: bool
    unchanged: int
    code: bytes


def last_tag(waves: list[list[StoreJob | bytes]]) -> bytes:
    """The tag of the last STORE."""
    return [job.tag for wave in waves for job in wave if isinstance(job, StoreJob)][-1]


async def run_stores(session: "ImapSession", waves: list[list[StoreJob | bytes]]) -> None:
    """STOREs that came together, with replies to bad ones between them. Those of a wave name different messages, so
    they share a commit (RFC 3501 5.5), and each is answered with its own flags; what others changed is told at the
    end."""
    for position, wave in enumerate(waves):
        await _run_wave(session, wave, position == len(waves) - 1)


async def _run_wave(session: "ImapSession", wave: list[StoreJob | bytes], last: bool) -> None:
    selected, store = session.selected, session.service.store
    assert selected is not None
    jobs = [job for job in wave if isinstance(job, StoreJob)]
    results: list[Any]
    if len(jobs) == 1:
        try:
            results = [await _store(store, selected, jobs[0])]
        except Exception as error:
            results = [error]
    else:
        results = await asyncio.gather(*(_store(store, selected, job) for job in jobs), return_exceptions=True)
    own = None
    others = False  # did another session change the mailbox since this one was last told?
    upto = max((result.modseq for result in results if isinstance(result, Stored)), default=0)
    for asked, result in zip(jobs, results, strict=True):
        if isinstance(result, Stored):
            others = others or result.before != selected.modseq
            changed = note_own(selected, result)
            # The answer to a silent STORE does not show what others did to its messages before: that is told at the
            # end (RFC 3501 6.4.6).
            own = own if changed is None or asked.silent else changed
    answers = iter(results)
    for job in wave:
        if isinstance(job, bytes):
            session.conn.write(job)
            continue
        answer = next(answers)
        if isinstance(answer, Exception):
            session.fail(job.tag, answer)
            continue
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            _tell(session, selected, job, answer, others, upto)
        text = b"OK STORE completed"
        if answer is not None and answer.refused:
            numbers = answer.refused if job.by_uid else selected.uids.seqs(answer.refused)
            text = b"OK [MODIFIED " + numbers.octets() + b"] some were changed by others"
        text = bounds.told(session, job.code, text)
        if last and job is jobs[-1]:
            work = session.finish(job.tag, text, own, answer.box if answer is not None else None)
            if work is not None:
                await work
        else:
            session.conn.write(job.tag + b" " + text + b"\r\n")


async def _store(store: Store, selected: Selected, job: StoreJob) -> Stored | None:
    if not job.uids:
        return None
    if selected.rights != rights.ALL:
        return await _store_some(store, selected, job)
    return await store.store(selected.account, selected.key, job.uids, job.mode, job.flags, job.words, job.unchanged)


async def _store_some(store: Store, selected: Selected, job: StoreJob) -> Stored:
    """Change those of the flags that the rights allow; the others stay as they are (RFC 4314 4)."""
    account, key, allowed = selected.account, selected.key, rights.flags(selected.rights)
    words = job.words if "w" in selected.rights else []
    mode, flags, unchanged = job.mode, job.flags & allowed, job.unchanged
    if mode:
        if not flags and not words:
            raise NoPermission("this account has no right to change these flags")
        return await store.store(account, key, job.uids, mode, flags, words, unchanged)
    with store.snapshot(account) as snapshot:
        known = snapshot.keywords(key) if "w" in selected.rights else []
    kept = {word.lower() for word in words}
    others = [word for word in known if word.lower() not in kept]
    cleared = await store.store(account, key, job.uids, -1, allowed & ~flags, others, unchanged)
    done = await store.store(account, key, job.uids.minus(cleared.refused), 1, flags, words)
    done.changed = done.changed.plus(cleared.changed)
    done.same = done.same.minus(done.changed)
    done.refused, done.before, done.pages = cleared.refused, cleared.before, ()
    return done


def _tell(session: "ImapSession", selected: Selected, job: StoreJob, result: Stored, others: bool, upto: int) -> None:
    """The answer to a STORE. With ``others`` its messages may have keywords that the client was not told of. ``upto``:
    the MODSEQ of the last change that is answered with it."""
    known = {word.lower() for word in selected.keywords}
    if others or any(word.lower() not in known for word in job.words):
        learn_keywords(session, selected)
    if not job.silent:
        told = result.changed.plus(result.same).plus(result.refused)
        session.conn.write(responses(session, selected, told, job.by_uid, FLAGS_ITEM, result.pages, upto))
    elif session.condstore:
        session.conn.write(responses(session, selected, result.changed, job.by_uid, 0, result.pages, upto))


def note_own(selected: Selected, result: Stored) -> tuple[UidSet, int] | None:
    """After a change of this session: nothing else happened, so all is told; or what to leave out when telling."""
    if not result.changed:
        return None
    if selected.modseq == result.before and selected.gone_modseq == result.before:
        selected.modseq = selected.gone_modseq = result.modseq
        return None
    return result.changed, result.modseq


def learn_keywords(session: "ImapSession", selected: Selected) -> None:
    """Tell the client of new keywords before they show in a FETCH (RFC 3501 7.2.6)."""
    with session.service.store.snapshot(selected.account) as snapshot:
        session.conn.write(new_keywords(selected, snapshot))


def responses(
    session: "ImapSession",
    selected: Selected,
    uids: UidSet,
    with_uid: bool,
    items: int,
    known: Sequence[Octets],
    upto: int,
) -> bytes:
    """FETCH responses with these items of messages as they are now, or in the pages that are ``known``, and MODSEQ for
    who knows it (RFC 7162 3.1.3)."""
    out = Out(64 * len(uids) + 64)
    items |= session.items(with_uid)

    def write(page: Octets) -> None:
        render.page(out, page, selected.uids, uids, items, selected.keywords, selected.recent, None, [], False)

    if known:
        for page in known:
            write(page)
    else:
        with session.service.store.snapshot(selected.account) as snapshot:
            box = snapshot.mailbox(selected.key)
            if box is not None and box.modseq > upto:  # a later change of another session, perhaps with a new keyword
                session.conn.write(new_keywords(selected, snapshot))
            for page in snapshot.pages(selected.key, uids):
                write(page)
    return out.take()


def copy(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 3501 6.4.7."""
    return _transfer(session, tag, reader, by_uid, move=False)


def move(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool) -> Work:
    """RFC 6851 3.1."""
    assert session.selected is not None
    return _transfer(session, tag, reader, by_uid, move=True)


def _transfer(session: "ImapSession", tag: bytes, reader: Reader, by_uid: bool, move: bool) -> Work:
    reader.sp()
    uids = read_set(session, reader, by_uid)
    reader.sp()
    name = read_name(session, reader)
    reader.end()
    if move:
        assert session.selected is not None
        writable(session.selected, "te")
    refusal = bounds.too_many(session, uids)
    if refusal:
        return session.finish(tag, refusal)  # type: ignore[no-any-return]
    return _run_transfer(session, tag, uids, name, move)


async def _run_transfer(session: "ImapSession", tag: bytes, uids: UidSet, name: str, move: bool) -> None:
    selected, store = session.selected, session.service.store
    assert selected is not None
    account = selected.account
    word = b"MOVE" if move else b"COPY"
    try:
        place = await places.find(session, name, "i")
    except NoSuchMailbox:
        session.conn.write(tag + b" NO [TRYCREATE] mailbox does not exist\r\n")
        return
    target = place.key
    assert target is not None
    text = b"OK " + word + b" completed"
    if uids:
        if place.account.quota and (not move or place.account != account):
            with store.snapshot(account) as snapshot:
                found = [r for page in snapshot.pages(selected.key, uids) for r in pages.records(page) if r[0] in uids]
                kept = sum(mime.counted(one) for _, one in snapshot.summaries(selected.key, uids).items())
            room(store, place.account, sum(record[5] for record in found) + kept, len(found))
        if place.account == account and rights.flags(place.rights) == rights.flags(rights.ALL):
            result = await store.copy(account, selected.key, uids, target, move)
        else:
            allowed, words = rights.flags(place.rights), "w" in place.rights
            result = await transfer(store, account, selected.key, uids, place.account, target, allowed, words)
            if move and result.source:
                result.expunged = await store.expunge(account, selected.key, UidSet.of(result.source), 0)
        if result.source:
            code = b"[COPYUID %d %b %b]" % (
                result.target.uidvalidity,
                UidSet.of(result.source).octets(),
                UidSet.of(result.target.uids).octets(),
            )
            if move:
                session.conn.write(b"* OK " + code + b" moved\r\n")
                if session.condstore and result.expunged is not None:
                    text = b"OK [HIGHESTMODSEQ %d] MOVE completed" % result.expunged.modseq
            else:
                text = b"OK " + code + b" COPY completed"
        else:
            text = b"NO [EXPUNGEISSUED] the messages are gone"
    work = session.finish(tag, text)
    if work is not None:
        await work
