"""EXPUNGE: what is removed stays readable for the views of other sessions, unless there is no room for that.

Promise: removing always works. Where the index is full nothing is kept, and commits become small.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from fastmail._core import pages
from fastmail._core.pages import Field
from fastmail._core.uidset import UidSet
from fastmail.model.errors import StorageFull
from fastmail.store.interface import Account, Expunged
from fastmail.store.local.index import removal
from fastmail.store.local.index.writer import Commits
from fastmail.store.views import Views

FEW = 16  # messages that are removed at once where there is hardly any room


class Removals:
    """One for each store. ``views``: which sessions see what; ``due``: until when what an account loses now is kept, 0
    for not at all; ``touch``: files of a mailbox have to follow the index soon."""

    def __init__(
        self,
        commits: Commits,
        views: Views,
        due: Callable[[Account], int],
        touch: Callable[[Account, bytes], None],
    ) -> None:
        self._commits = commits
        self._views = views
        self._due = due
        self._touch = touch

    @contextmanager
    def announced(self, account: Account, key: bytes, mine: int) -> Iterator[int]:
        """Messages of the mailbox are removed within this: until when they are kept, 0 where only the caller's ``mine``
        views have them."""
        seen = self._views.begin_removal(key, mine)
        try:
            yield self._due(account) if seen else 0
        finally:
            self._views.end_removal(key)

    async def expunge(self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int) -> Expunged:
        """See interface.Store."""

        def then(result: Expunged) -> None:
            if result.uids:
                self._touch(account, key)

        with self.announced(account, key, mine) as due:
            try:
                return await self._commits.change(
                    account, lambda txn, t: removal.expunge(txn, t, key, uids, required, due=due), then=then
                )
            except StorageFull:
                return await self.expunge_few(account, key, uids, required, True)

    async def expunge_few(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, unlink: bool
    ) -> Expunged:
        """The same in small commits. LMDB lists the pages that one commit sets free side by side, for which a map that
        is nearly full may have no room."""
        with self._commits.snapshot(account) as snapshot:
            records = (one for page in snapshot.pages(key, uids) for one in pages.records(page))
            wanted = [one[Field.UID] for one in records if uids is None or one[Field.UID] in uids]
        gone, result = UidSet(), None
        for start in range(0, len(wanted), FEW):
            some = UidSet.of(wanted[start : start + FEW])
            remove = partial(removal.expunge, key=key, uids=some, required=required, unlink=unlink)
            result = await self._commits.change(account, remove, then=lambda _: self._touch(account, key))
            gone = gone.plus(result.uids)
        if result is None:
            raise StorageFull("index map is full")
        return Expunged(key, gone, result.modseq, result.before)
