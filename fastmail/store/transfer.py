"""COPY and MOVE between accounts: messages are read from one and appended to the other, so that each owner's content
remains that owner's.

Promise: COPY copies all messages or none: if not all of the copies can be made, those that were made are removed again.
MOVE moves each message or leaves it as it is (RFC 6851 3.3), also if it fails in the middle or a crash ends it.
EMAILID and THREADID are preserved, since they are part of the summary.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.store.interface import Account, Appended, Copied, NewMessage, Origin, Store

BATCH = 16 << 20  # octets of messages and summaries in one commit


async def copy(
    store: Store, source: Account, key: bytes, uids: UidSet, target: Account, to: bytes, allowed: int, words: bool
) -> Copied:
    """Copy messages to another account's mailbox. UIDs in the result correspond in order.

    Only flags in ``allowed`` are copied; keywords only with ``words``."""
    result = Copied(Appended(to, 0, []), [])
    try:
        async for taken, batch in _batches(store, source, key, uids, allowed, words):
            await _store(store.append(target, to, batch), result)
            result.source += taken
    except BaseException:
        if result.target.uids:
            await store.expunge(target, to, UidSet.of(result.target.uids), 0, mine=0)
        raise
    return result


async def move(
    store: Store,
    source: Account,
    key: bytes,
    uids: UidSet,
    target: Account,
    to: bytes,
    allowed: int,
    words: bool,
    result: Copied,
) -> None:
    """Move them; ``result`` has what was moved, also if it raises."""
    async for taken, batch in _batches(store, source, key, uids, allowed, words):
        await _store(store.append(target, to, batch, origin=Origin(source, key, taken)), result)


async def _batches(
    store: Store, source: Account, key: bytes, uids: UidSet, allowed: int, words: bool
) -> AsyncIterator[tuple[list[int], list[NewMessage]]]:
    """Yield (UIDs, messages) of the mailbox, as many as one commit should have."""
    with store.snapshot(source) as snapshot:
        names = snapshot.keywords(key)
        rows = [r for page in snapshot.pages(key, uids) for r in pages.records(page) if r[Field.UID] in uids]
    batch: list[NewMessage] = []
    taken: list[int] = []
    size = 0
    for uid, flags, _, keywords, date, octets, *_ in rows:
        content = await store.content(source, key, uid)
        made = _summary(store, source, key, uid) if content is not None else None
        if content is None or made is None:
            continue
        kept = [name for bit, name in enumerate(names) if words and keywords >> bit & 1]
        batch.append(NewMessage((content,), made, octets, date, flags & allowed, kept))
        taken.append(uid)
        size += len(content) + len(made)
        if size >= BATCH:
            yield taken, batch
            batch, taken, size = [], [], 0
    if batch:
        yield taken, batch


def _summary(store: Store, account: Account, key: bytes, uid: int) -> bytes | None:
    """Return a message's summary. They are read one at a time, as all of them may be long."""
    with store.snapshot(account) as snapshot:
        found = snapshot.summaries(key, UidSet.of([uid])).get(uid)
        return bytes(found) if found is not None else None


async def _store(work: Coroutine[Any, Any, Appended], result: Copied) -> None:
    """Wait for the append and add what it stored to ``result``, even if the command is cancelled meanwhile: else nobody
    would know what was done."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError as error:
        cancelled = error
        await asyncio.wait([task])
    if cancelled is None or task.exception() is None:
        done = task.result()
        result.target.uids += done.uids
        result.target.uidvalidity, result.target.modseq = done.uidvalidity, done.modseq
        if done.moved is not None and done.moved.uids:
            result.source += done.moved.uids
            result.expunged = done.moved
    if cancelled is not None:
        raise cancelled
