"""Reads the content of messages, for callers that can wait for the disk: files under whatever name they have now,
records in segments, and expunged messages as long as they are kept for views (index/kept.py).
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from fastmail._core.uidset import UidSet
from fastmail.durable import files
from fastmail.durable.errors import translate
from fastmail.store.interface import Account
from fastmail.store.local.index import references
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import housekeeping
from fastmail.store.local.maildir.account_paths import AccountPaths
from fastmail.store.local.maildir.names import path_of

AHEAD = 64  # messages that one call reads ahead, at most
TRIES = 3  # attempts to find content whose name or place changes meanwhile
LATE = 0.01  # s that a commit with a file's new name gets to finish


class Reading:
    """One for each store. ``take_in``: adds other programs' changes to a mailbox's index."""

    def __init__(
        self, commits: Commits, account_paths: AccountPaths, take_in: Callable[[Account, bytes], Awaitable[None]]
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._take_in = take_in

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        """See interface.Store."""
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            if box is None:
                return
            marks = snapshot.marks(key, UidSet.of(itertools.islice(uids, AHEAD)))
        directory = self._account_paths.folder(account, box.name)
        paths = [path_of(directory, one) for one in marks.values() if not references.in_segment(one)]
        if len(paths) > 1:
            await self._commits.help(files.touch_batch, paths)

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        """See interface.Store."""
        for attempt in range(TRIES):
            with self._commits.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                marked = snapshot.file(key, uid)
                ready = snapshot.read(key, marked) if marked is not None else None
            if box is None:
                return None
            if marked is None:
                return await self._kept(account, key, uid)
            if ready is not None:
                return ready
            if references.in_segment(marked):
                try:
                    return await self._commits.help(self.record, account, marked)
                except FileNotFoundError:
                    continue  # compaction moved it; the index names the new place
                except OSError as error:
                    raise translate(error) from error
            directory = self._account_paths.folder(account, box.name)
            try:
                return await self._commits.help(files.read_file, path_of(directory, marked))
            except FileNotFoundError:
                # The file was renamed: by another program, or by housekeeping, whose commit of the new name may not be
                # done.
                if not attempt:
                    await asyncio.sleep(LATE)
                    continue
                late = await self._commits.help(housekeeping.read_by_base, directory, marked)
                if late is not None:
                    return late
                await self._take_in(account, key)
            except OSError as error:
                raise translate(error) from error
        return None

    def record(self, account: Account, marked: bytes) -> bytes | None:
        """Return the content of a record in a segment; waits for the disk."""
        with self._commits.snapshot(account) as snapshot:
            return snapshot.record(marked)

    async def _kept(self, account: Account, key: bytes, uid: int) -> bytes | None:
        """Return the content of a removed message, as long as it is kept; None after that."""
        with self._commits.snapshot(account) as snapshot:
            box, marked = snapshot.mailbox(key), snapshot.kept_file(key, uid)
        if box is None or marked is None:
            return None
        try:
            if references.in_segment(marked):
                return await self._commits.help(self.record, account, marked)
            return await self._commits.help(
                housekeeping.read_kept, self._account_paths.folder(account, box.name), marked
            )
        except FileNotFoundError:
            return None  # its time is over and it was deleted
        except OSError as error:
            raise translate(error) from error
