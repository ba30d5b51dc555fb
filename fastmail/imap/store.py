"""STORE (RFC 3501 6.4.6, RFC 7162 3.1.3, RFC 4314 4), also several that a client sends one after the other.

STOREs of different messages that arrive together share one commit (RFC 3501 5.5): a client that marks a hundred
messages costs one sync, not a hundred.

Promise: each is answered by itself and in its order, refused ones too. One that names a message of an earlier STORE is
done after that. What others changed in the mailbox is sent at the end of the last one.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from fastmail._core import fetch as render
from fastmail._core.fetch import Item
from fastmail._core.imap import ParseError
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.imap import bounds
from fastmail.imap.command import Command, Work
from fastmail.imap.sets import read_set
from fastmail.imap.state import Session
from fastmail.imap.telling import Own
from fastmail.imap.views import Selected, new_keywords, note_own, writable
from fastmail.model import rights
from fastmail.model.errors import NoPermission
from fastmail.store.interface import ALL_MODSEQ, Octets, Store, Stored

Results = Sequence[Stored | BaseException | None]  # None: a STORE that names no message
COMPLETED = b"OK STORE completed"
TOGETHER = 256  # STOREs of one batch, and replies to bad ones: bounds the size of a commit


def store(command: Command) -> Work:
    """RFC 3501 6.4.6."""
    selected = command.session.selected
    assert selected is not None
    run = _read(command, selected)
    pipeline, row = command.pipeline, command.row
    following = pipeline.following(row)
    if following is None:
        return _alone(command.session, selected, run)
    batch = Batch(command.session, selected)
    batch.add(run)
    last = command
    while following is not None:
        following.out = batch
        if pipeline.may_begin(following):
            try:
                batch.add(_read(following, selected))
                last = following
            except Exception as error:
                following.fail(error)
        following.out = command.out
        following = pipeline.following(row) if batch.has_room else None
    work = batch.run()
    return work if last is command else last.run(work)  # an error becomes the answer to the last of them


@dataclass(slots=True)
class StoreRun:
    """One STORE whose arguments were read. ``mode``: 0 replaces flags, 1 adds, -1 removes; ``code``: MESSAGELIMIT."""

    command: Command
    uids: UidSet
    mode: int
    silent: bool
    flags: int
    words: list[bytes]
    unchanged: int
    code: bytes


def _read(command: Command, selected: Selected) -> StoreRun:
    """The arguments of a STORE."""
    session, reader = command.session, command.reader
    reader.sp()
    uids = read_set(command)
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
    return StoreRun(command, uids, mode, silent, flags, words, unchanged, code)


async def _alone(session: Session, selected: Selected, run: StoreRun) -> None:
    """Do a STORE that no other one follows yet, and answer. Its error becomes the answer."""
    if not run.uids:
        await run.command.complete(bounds.told(session, run.code, COMPLETED))
        return
    result = await _store(session.service.store, selected, run)
    others = result.before != selected.modseq
    own = note_own(selected, result.changed, result.before, result.modseq)
    text = _tell(session, selected, run, result, others, result.modseq)
    work = run.command.finish(text, None if run.silent else own, result.box)
    if work is not None:
        await work


class Batch:
    """STOREs that came together, with the replies to bad ones between them. ``waves``: the STOREs of one wave name
    different messages, so they share a commit."""

    __slots__ = ("_selected", "_session", "_waves")

    def __init__(self, session: Session, selected: Selected) -> None:
        self._session = session
        self._selected = selected
        self._waves: list[list[StoreRun | bytes]] = [[]]

    @property
    def has_room(self) -> bool:
        """True if another STORE may join. A second wave is the last: what follows would wait for the first commit
        anyway."""
        return len(self._waves) == 1 and len(self._waves[0]) < TOGETHER

    def add(self, run: StoreRun) -> None:
        """Add a STORE."""
        if any(isinstance(one, StoreRun) and one.uids.both(run.uids) for one in self._waves[-1]):
            self._waves.append([])
        self._waves[-1].append(run)

    def write(self, data: bytes) -> None:
        """Add a reply to a command that is not done, after those of the STOREs before it."""
        self._waves[-1].append(data)

    async def run(self) -> None:
        """Do all of them, and answer."""
        for position, wave in enumerate(self._waves):
            await self._run(wave, position == len(self._waves) - 1)

    async def _run(self, wave: list[StoreRun | bytes], last: bool) -> None:
        session, selected = self._session, self._selected
        runs = [run for run in wave if isinstance(run, StoreRun)]
        results = await _commit(session.service.store, selected, runs)
        own, others, upto = _note(selected, runs, results)
        answers = iter(results)
        for run in wave:
            if isinstance(run, bytes):
                session.conn.write(run)
                continue
            result = next(answers)
            if isinstance(result, Exception):
                run.command.fail(result)
                continue
            if isinstance(result, BaseException):
                raise result
            if result is not None:
                text = _tell(session, selected, run, result, others, upto)
            else:
                text = bounds.told(session, run.code, COMPLETED)
            if last and run is runs[-1]:
                await run.command.complete(text, own, result.box if result is not None else None)
            else:
                run.command.answer(text)


async def _commit(store: Store, selected: Selected, runs: list[StoreRun]) -> Results:
    """Return what became of each."""
    stores = [_store(store, selected, run) if run.uids else _nothing() for run in runs]
    results: Results = await asyncio.gather(*stores, return_exceptions=True)
    return results


async def _nothing() -> None:
    """A STORE that names no message."""


def _note(selected: Selected, runs: list[StoreRun], results: Results) -> tuple[Own | None, bool, int]:
    """Return (what must not be sent again; True if another session changed the mailbox after the last change sent here;
    MODSEQ of the last change of this wave)."""
    own: Own | None = None
    others = False
    upto = 0
    for asked, result in zip(runs, results, strict=True):
        if isinstance(result, Stored):
            upto = max(upto, result.modseq)
            others = others or result.before != selected.modseq
            changed = note_own(selected, result.changed, result.before, result.modseq)
            # The answer to a silent STORE does not show what others did to its messages before: that is sent at the
            # end (RFC 3501 6.4.6).
            own = own if changed is None or asked.silent else changed
    return own, others, upto


def _store(store: Store, selected: Selected, run: StoreRun) -> Coroutine[Any, Any, Stored]:
    """Change the flags. The STORE names messages."""
    if selected.rights != rights.ALL:
        return _store_some(store, selected, run)
    return store.store(selected.account, selected.key, run.uids, run.mode, run.flags, run.words, run.unchanged)


async def _store_some(store: Store, selected: Selected, run: StoreRun) -> Stored:
    """Change those flags that the rights allow; the others stay as they are (RFC 4314 4)."""
    account, key, allowed = selected.account, selected.key, rights.flags(selected.rights)
    words = run.words if "w" in selected.rights else []
    mode, flags, unchanged = run.mode, run.flags & allowed, run.unchanged
    if mode:
        if not flags and not words:
            raise NoPermission("this account has no right to change these flags")
        return await store.store(account, key, run.uids, mode, flags, words, unchanged)
    with store.snapshot(account) as snapshot:
        known = snapshot.keywords(key) if "w" in selected.rights else []
    kept = {word.lower() for word in words}
    others = [word for word in known if word.lower() not in kept]
    cleared = await store.store(account, key, run.uids, -1, allowed & ~flags, others, unchanged)
    done = await store.store(account, key, run.uids.minus(cleared.refused), 1, flags, words)
    done.changed = done.changed.plus(cleared.changed)
    done.same = done.same.minus(done.changed)
    done.refused, done.before, done.pages = cleared.refused, cleared.before, ()
    return done


def _tell(session: Session, selected: Selected, run: StoreRun, result: Stored, others: bool, upto: int) -> bytes:
    """Write the untagged answer to a STORE; return the text of the tagged one. With ``others``, its messages may have
    keywords that the client does not know. ``upto``: the MODSEQ of the last change that is answered with it."""
    if others or (run.words and _are_new(selected, run.words)):
        with session.service.store.snapshot(selected.account) as snapshot:
            session.conn.write(new_keywords(selected, snapshot))
    by_uid, text = run.command.by_uid, COMPLETED
    if not run.silent:
        told = result.changed.plus(result.same) if result.same else result.changed
        told = told.plus(result.refused) if result.refused else told
        session.conn.write(_responses(session, selected, told, by_uid, Item.FLAGS, result.pages, upto))
    elif session.condstore:
        session.conn.write(_responses(session, selected, result.changed, by_uid, 0, result.pages, upto))
    if result.refused:
        numbers = result.refused if by_uid else selected.uids.seqs(result.refused)
        text = b"OK [MODIFIED " + numbers.octets() + b"] some were changed by others"
    return bounds.told(session, run.code, text)


def _are_new(selected: Selected, words: list[bytes]) -> bool:
    """True if the client does not know all of these keywords."""
    known = {word.lower() for word in selected.keywords}
    return any(word.lower() not in known for word in words)


def _responses(
    session: Session, selected: Selected, uids: UidSet, by_uid: bool, items: int, known: Sequence[Octets], upto: int
) -> bytes:
    """Return FETCH responses with these items, from the present rows or from the ``known`` pages, with MODSEQ for a
    client that knows it (RFC 7162 3.1.3)."""
    out = Out(64 * len(uids) + 64)
    items |= session.items(by_uid)
    view, words, recent = selected.uids, selected.keywords, selected.recent
    if known:
        for page in known:
            render.page(out, page, view, uids, items, words, recent, None, [], False)
    else:
        with session.service.store.snapshot(selected.account) as snapshot:
            box = snapshot.mailbox(selected.key)
            if box is not None and box.modseq > upto:  # a later change of another session, perhaps with a new keyword
                session.conn.write(new_keywords(selected, snapshot))
            for page in snapshot.pages(selected.key, uids):
                render.page(out, page, view, uids, items, selected.keywords, recent, None, [], False)
    return out.take()
