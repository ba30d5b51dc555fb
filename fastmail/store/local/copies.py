"""COPY and MOVE within an account (RFC 9051 6.4.7, 6.4.8): hard links of files, references to records, then one commit.

Promise: the result is that of one commit. If a source is renamed or moved meanwhile (by housekeeping, compaction, a
conversion, or another program), the copy is tried again with its new path. What MOVE removes stays readable for other
views (removals.py), unless there is no room for that.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial

from fastmail._core import pages as page_format
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath
from fastmail.durable.commit import FileWrite
from fastmail.model.errors import NoSuchMailbox, StorageFailed, StorageFull
from fastmail.store.interface import Account, Copied, Expunged
from fastmail.store.local import long_copies
from fastmail.store.local.going_on import GoingOn
from fastmail.store.local.index import copying, references
from fastmail.store.local.index.copying import Source, SourceMoved
from fastmail.store.local.index.layout import CUR
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir.account_paths import AccountPaths
from fastmail.store.local.maildir.lists import Lists
from fastmail.store.local.maildir.names import NameMaker, below
from fastmail.store.local.removals import Removals

TRIES = 40  # tries to copy messages whose files are renamed meanwhile: a second in all
PAUSE = 0.025  # s between two tries
LOOK_EVERY = 8  # tries after which the mailbox is compared with its directories again


class Copies:
    """One for each store. ``lists``: given where UIDs are assigned under another server's locks; ``take_in``: apply
    other programs' changes of a mailbox; ``touch``: note that files of a mailbox have to be brought in line with the
    index."""

    def __init__(
        self,
        commits: Commits,
        account_paths: AccountPaths,
        maker: NameMaker,
        removals: Removals,
        going_on: GoingOn,
        lists: Lists | None,
        take_in: Callable[[Account, bytes], Awaitable[None]],
        touch: Callable[[Account, bytes], None],
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._maker = maker
        self._removals = removals
        self._going_on = going_on
        self._lists = lists
        self._take_in = take_in
        self._touch = touch

    async def copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False, mine: int = 1
    ) -> Copied:
        """See interface.Store."""
        with self._commits.snapshot(account) as snapshot:
            parts = long_copies.split(uids, snapshot.long(key, uids))
        if len(parts) > 1:

            async def one(part: UidSet) -> Copied:
                return await self.copy(account, key, part, target)

            async def remove(of: bytes, some: UidSet) -> Expunged:
                return await self._removals.expunge(account, of, some, 0, 1)

            return await long_copies.copy(parts, key, target, move, one, remove)
        if not move:
            return await self._transfer(account, key, uids, target, False)
        with self._removals.announced(account, key, mine) as due:
            try:
                return await self._transfer(account, key, uids, target, True, due)
            except StorageFull:
                if not due:
                    raise
                return await self._transfer(account, key, uids, target, True)

    async def _transfer(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int = 0
    ) -> Copied:
        """COPY or MOVE. ``due``: until when moved messages stay readable for views."""
        for attempt in range(TRIES):
            try:
                return await self._once(account, key, uids, target, move, due)
            except SourceMoved:  # by housekeeping or a conversion whose commit follows, or by another program
                await asyncio.sleep(PAUSE)
                if attempt % LOOK_EVERY == 0:
                    await self._take_in(account, key)
        return await self._once(account, key, uids, target, move, due)

    async def _once(self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int) -> Copied:
        if self._lists is None:
            return (await self._copy(account, key, uids, target, move, due))[0]
        return await self._going_on.run(self._copy_listed(self._lists, account, key, uids, target, move, due))

    async def _copy_listed(
        self, lists: Lists, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int
    ) -> Copied:
        with self._commits.snapshot(account) as snapshot:
            names, used = snapshot.keywords(key), 0
            for page in snapshot.pages(key, uids):
                for record in page_format.records(page):
                    used |= record[Field.KEYWORDS] if record[Field.UID] in uids else 0
        words = [name for bit, name in enumerate(names) if used >> bit & 1]
        async with lists.giving([(account, target)], words) as lines:
            result, sources = await self._copy(account, key, uids, target, move, due)
            names_of = {uid: marked for uid, marked, _ in sources}
            lines += [
                (target, uid, names_of[source][1:])
                for source, uid in zip(result.source, result.target.uids, strict=True)
            ]
        return result

    async def _copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool, due: int
    ) -> tuple[Copied, list[Source]]:
        with self._commits.snapshot(account) as snapshot:
            source_box, target_box = snapshot.mailbox(key), snapshot.mailbox(target)
            if source_box is None or target_box is None:
                raise NoSuchMailbox("mailbox is gone")
            marked = snapshot.marks(key, uids)
        writes: list[FileWrite] = []
        sources: list[Source] = []
        source_dir = directory = b""
        for uid, old in marked.items():
            if references.in_segment(old):
                sources.append((uid, old, 0))
                continue
            if not directory:
                source_dir = os.fsencode(self._account_paths.folder(account, source_box.name)) + b"/"
                directory = os.fsencode(self._account_paths.folder(account, target_box.name)) + b"/cur"
            name, flags = self._maker.linked(old[1:])
            theirs = not self._maker.is_ours(old[1:])  # another program's file may not be on the disk yet: sync it
            writes.append(FileWrite(directory, directory + b"/" + name, source=source_dir + below(old), synced=theirs))
            sources.append((uid, CUR + name, flags))
        apply = partial(copying.copy, key=key, target=target, names=sources, saved=int(time.time()), move=move, due=due)

        def then(result: Copied) -> None:
            self._touch(account, target)
            if move:
                self._touch(account, key)

        try:
            result = await self._commits.change(account, apply, writes, adds=not move, then=then)
        except StorageFailed as error:
            if not isinstance(error, SourceMoved) and any(not beneath.exists(write.source) for write in writes):
                raise SourceMoved(str(error)) from error
            raise
        return result, sources
