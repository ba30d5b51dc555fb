"""EXPUNGE: removed messages stay readable for the views of other sessions, unless there is no room for that.

Promise: removing always works. Where the index is full, nothing is kept for views, and commits become small.
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

FEW = 16  # messages in one commit when the map is nearly full


class Removals:
    """One for each store. ``views``: the announced views; ``due``: returns until when the messages that an account
    loses now are kept, 0 for not at all; ``touch``: note that files of a mailbox have to be brought in line with the
    index."""

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
        """A context in which messages of the mailbox are removed. Its value is until when they are kept; 0 if no views
        but the caller's ``mine`` have them."""
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
        """Do the same in small commits: LMDB stores the list of the pages that one commit frees on adjacent pages, and
        a nearly full map may not have enough of those."""
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
