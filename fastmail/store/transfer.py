"""COPY and MOVE between accounts: messages are read from one and appended to the other, so that each owner's content
remains that owner's.

Promise: as within an account. The copies are durable before anything is removed; if not all of them can be made, those
that were made are removed again. EMAILID and THREADID are preserved, since they are part of the summary.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.store.interface import Account, Appended, Copied, NewMessage, Store

BATCH = 16 << 20  # octets of messages and summaries in one commit


async def transfer(
    store: Store, source: Account, key: bytes, uids: UidSet, target: Account, to: bytes, allowed: int, words: bool
) -> Copied:
    """Copy messages to another account's mailbox. UIDs in the result correspond in order.

    Only flags in ``allowed`` are copied; keywords only with ``words``."""
    with store.snapshot(source) as snapshot:
        names = snapshot.keywords(key)
        rows = [r for page in snapshot.pages(key, uids) for r in pages.records(page) if r[Field.UID] in uids]
    result = Copied(Appended(to, 0, []), [])
    batch: list[NewMessage] = []
    taken: list[int] = []
    size = 0
    try:
        for position, (uid, flags, _, keywords, date, octets, *_) in enumerate(rows):
            content = await store.content(source, key, uid)
            made = _summary(store, source, key, uid) if content is not None else None
            if content is not None and made is not None:
                kept = [name for bit, name in enumerate(names) if words and keywords >> bit & 1]
                batch.append(NewMessage((content,), made, octets, date, flags & allowed, kept))
                taken.append(uid)
                size += len(content) + len(made)
            if batch and (size >= BATCH or position == len(rows) - 1):
                done = await _kept(store.append(target, to, batch), result.target.uids)
                result.source += taken
                result.target.uidvalidity, result.target.modseq = done.uidvalidity, done.modseq
                batch, taken, size = [], [], 0
    except BaseException:
        if result.target.uids:
            await store.expunge(target, to, UidSet.of(result.target.uids), 0, mine=0)
        raise
    return result


def _summary(store: Store, account: Account, key: bytes, uid: int) -> bytes | None:
    """Return a message's summary. They are read one at a time, as all of them may be long."""
    with store.snapshot(account) as snapshot:
        found = snapshot.summaries(key, UidSet.of([uid])).get(uid)
        return bytes(found) if found is not None else None


async def _kept(work: Coroutine[Any, Any, Appended], uids: list[int]) -> Appended:
    """Wait for the append and add its UIDs to ``uids``, even if the command is cancelled meanwhile: else the copies
    could not be removed again."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None:
            uids += task.result().uids
        raise
    done = task.result()
    uids += done.uids
    return done
