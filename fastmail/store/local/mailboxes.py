"""Mailboxes of accounts: opened, listed, created, renamed and removed, in the index and as folders of a Maildir.

Promise: a folder is created before its row; it is removed, or hidden, before its row is removed. So a crash in between
leaves a folder that is found again and added, or one that does not exist. Nothing is created for an account that was
removed. Where another server serves the same mail, its lists are written too.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from fastmail._core.uidset import UidSet
from fastmail.durable import beneath
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CannotDo, MailboxExists, NoSuchMailbox, StorageFull
from fastmail.model.mailbox_name import INBOX
from fastmail.store.interface import DEFAULT_MAILBOXES, Account, Copied, Listing
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.going_on import GoingOn
from fastmail.store.local.index import box_rows, layout, mailboxes, renaming
from fastmail.store.local.index.account_log import Change
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import MailboxRow
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.account_paths import AccountPaths, Paths
from fastmail.store.local.maildir.found_folders import FoundFolders
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.removals import Removals

ELSEWHERE = ("Other Users/", "Shared/")  # name prefixes of other accounts' mailboxes
ALL = UidSet.of_ranges((1, 0xFFFFFFFF))


class Subscriptions(Protocol):
    """The subscriptions that another server keeps (dovecot.shared_mode)."""

    async def subscribed(self, account: Account) -> set[str] | None:
        """Return its subscriptions, None if it keeps none."""
        ...

    async def subscribe(self, account: Account, names: set[str], name: str, on: bool, keep: bool = False) -> None:
        """Change one. ``names``: initial list if there is none. ``keep``: do nothing if there is a list."""
        ...

    def listed(self, account: Account, name: str) -> bool:
        """True if a mailbox has a list of UIDs: then it was created completely, by whichever server."""
        ...


class Mailboxes:
    """One for each store.

    ``theirs``: the subscriptions of another server that serves the same mail; ``take_in``: apply other programs'
    changes of a mailbox; ``publish``: tell those who watch; ``move_all``: move messages to another mailbox of the
    account."""

    def __init__(
        self,
        commits: Commits,
        account_paths: AccountPaths,
        paths: Paths,
        maker: NameMaker,
        removals: Removals,
        theirs: Subscriptions | None,
        take_in: Callable[[Account, bytes], Awaitable[None]],
        publish: Callable[[list[bytes]], None],
        move_all: Callable[[Account, bytes, UidSet, bytes], Awaitable[Copied]],
        read_only: bool,
        going_on: GoingOn,
    ) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._paths = paths
        self._maker = maker
        self._removals = removals
        self._theirs = theirs
        self._take_in = take_in
        self._publish = publish
        self._move_all = move_all
        self._read_only = read_only
        self._going_on = going_on
        self._found = FoundFolders(
            commits, account_paths, maker.instance, theirs.listed if theirs is not None else lambda account, name: False
        )
        self._opening: dict[int, asyncio.Task[None]] = {}

    # ---------------------------------------------------------------- accounts

    async def open(self, account: Account) -> None:
        """See interface.Store."""
        if account.id in self._paths.inboxes:
            return
        task = self._opening.get(account.id)
        if task is None:  # later callers wait for this task: they must not see a half-created account
            task = self._opening[account.id] = self._commits.loop.create_task(self._open(account))
            task.add_done_callback(lambda _: self._opening.pop(account.id, None))
        await asyncio.shield(task)

    async def _open(self, account: Account) -> None:
        if self.find(account, INBOX) is None:
            await self._begin(account)
        key = self.find(account, INBOX)
        assert key is not None
        self._paths.inboxes[account.id] = key

    async def _begin(self, account: Account) -> None:
        """Create the rows of an account that the index does not have: a new one, or one with an existing Maildir."""
        self._commits.refuse_gone(account)
        home, help = self._account_paths.home(account), self._commits.help
        fresh = not await help(beneath.is_directory, os.path.join(folders.folder(home, INBOX), "cur"))
        subscribed: list[str] | None = None
        given = await help(control_files.last_uidvalidity, home) if not fresh else 0
        names = {INBOX: 0, **(DEFAULT_MAILBOXES if fresh and not self._read_only else {})}
        if not fresh:  # an existing Maildir: take its subscriptions and folders
            subscribed = await help(control_files.read_subscriptions, home)
            found = await help(folders.look, home)
            names |= {name: DEFAULT_MAILBOXES.get(name, 0) for name in (found.ages if found is not None else ())}
        if self._has_files(account) and not self._read_only:
            await help(folders.make_all, home, list(names) if fresh else [INBOX])
            if not fresh:
                await help(folders.complete, home, [name for name in names if name != INBOX])

        def apply(txn: Txn, t: Tables) -> None:
            mailboxes.note_uidvalidity(txn, t, account.id, given)
            change = Change(txn, t, layout.account_key(account.id))
            for name, special in names.items():
                if mailboxes.find(txn, t, account.id, name) is None:
                    box = mailboxes.create(txn, t, account.id, name, special, change)
                    box.generation = 1 if fresh else 0
                    box_rows.save(txn, t, box)
                    if subscribed is None:
                        mailboxes.subscribe(txn, t, account.id, name, True)
            change.end()
            for name in subscribed or ():
                mailboxes.subscribe(txn, t, account.id, name, True)

        try:
            await self._commits.submit_new(account, apply)
        except NoSuchMailbox:  # the account was removed meanwhile
            if fresh and not self._read_only:
                await help(folders.unmake, home, list(names))
            raise
        if self._theirs is not None:
            if subscribed is None:
                await self._theirs.subscribe(account, set(names), INBOX, True, keep=True)
            await self._list(account, names)

    async def forget(self, account: Account, returns: bool = False) -> None:
        """Remove the records of an account that was removed; its Maildir is not touched.

        ``returns``: the account is created again at once with other mail, so no MODSEQ and no mailbox number is used
        twice."""
        await self._commits.submit(account, lambda txn, t: mailboxes.forget_account(txn, t, account.id, returns))
        self._paths.inboxes.pop(account.id, None)

    def _has_files(self, account: Account) -> bool:
        """True if the account has, or will get, a Maildir."""
        return not self._commits.settings.segments or os.path.isdir(self._account_paths.home(account).root)

    async def listing(self, account: Account) -> Listing:
        """See interface.Store."""
        await self.open(account)
        await self._found.look(account)
        with self._commits.snapshot(account) as snapshot:
            boxes = snapshot.boxes(account.id)
        subscribed = self._subscribed(account)
        if self._theirs is not None:
            theirs = await self._theirs.subscribed(account)
            if theirs is not None:
                subscribed = theirs | {name for name in subscribed if name.startswith(ELSEWHERE)}
        return Listing(list(boxes), subscribed)

    def _subscribed(self, account: Account) -> set[str]:
        shard = self._commits.shard(account.id)
        with shard.env.read() as txn:
            return mailboxes.subscriptions(txn, shard.tables, account.id)

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        """See interface.Store."""
        await self._commits.submit_new(account, lambda txn, t: mailboxes.subscribe(txn, t, account.id, name, on))
        if self._theirs is not None and not name.startswith(ELSEWHERE):
            names = {one for one in self._subscribed(account) if not one.startswith(ELSEWHERE)}
            await self._theirs.subscribe(account, names, name, on)
        self._tell_names(account)

    def _tell_names(self, account: Account) -> None:
        """Tell those who watch the account that names or subscriptions changed."""
        self._publish([layout.mailbox_key(account.id, layout.OF_ACCOUNT)])

    # ---------------------------------------------------------------- one mailbox

    def find(self, account: Account, name: str) -> bytes | None:
        """Return the key of a mailbox, None if there is none of that name."""
        if name == INBOX and account.id in self._paths.inboxes:
            return self._paths.inboxes[account.id]
        shard = self._commits.shard(account.id)
        with shard.env.read() as txn:
            return mailboxes.find(txn, shard.tables, account.id, name)

    async def create(self, account: Account, name: str, special: int = 0) -> None:
        """See interface.Store."""
        if self.find(account, name) is not None:
            raise MailboxExists("mailbox already exists")
        home = self._account_paths.home(account)
        folders.refuse(home, name)
        levels = name.split("/")
        wanted = ["/".join(levels[: i + 1]) for i in range(len(levels))]
        missing = [n for n in wanted if n == name or self.find(account, n) is None]
        self._commits.refuse_gone(account)
        if self._has_files(account):
            await self._commits.help(folders.make_all, home, missing)
        given = await self._commits.help(control_files.last_uidvalidity, home) if self._theirs is not None else 0

        def apply(txn: Txn, t: Tables) -> None:
            mailboxes.note_uidvalidity(txn, t, account.id, given)
            change = Change(txn, t, layout.account_key(account.id))
            for one in missing:
                if one == name or mailboxes.find(txn, t, account.id, one) is None:
                    box = mailboxes.create(txn, t, account.id, one, special if one == name else 0, change)
                    box.generation = 1
                    box_rows.save(txn, t, box)
            change.end()

        try:
            await self._commits.submit_new(account, apply)
        except NoSuchMailbox:
            await self._commits.help(folders.unmake, home, missing)
            raise
        await self._list(account, missing)
        self._tell_names(account)

    async def _list(self, account: Account, names: Iterable[str]) -> None:
        """Write the other server's lists for mailboxes that were created, before it assigns UIDs of its own."""
        if self._theirs is None:
            return
        shard = self._commits.shard(account.id)
        with shard.env.read() as txn:
            last = mailboxes.last_uidvalidity(txn, shard.tables, account.id)
        await self._commits.help(control_files.write_last_uidvalidity, self._account_paths.home(account), last)
        for name in names:
            key = self.find(account, name)
            if key is not None:
                await self._take_in(account, key)

    async def delete(self, account: Account, name: str) -> None:
        """See interface.Store."""
        key = self.find(account, name)
        if key is None:
            raise NoSuchMailbox("mailbox does not exist")
        if name == INBOX:
            raise CannotDo("INBOX cannot be deleted")
        unique = self._maker.make(0, 0).decode().partition(",")[0]
        hidden = os.path.join(self._account_paths.folder(account, INBOX), "tmp", "deleted." + unique)
        if self._has_files(account):
            await self._commits.help(folders.move_away, self._account_paths.home(account), name, hidden)

        def apply(txn: Txn, t: Tables) -> Changed[None]:
            with suppress(NoSuchMailbox):  # whoever looked meanwhile found no directory, and dropped the mailbox
                mailboxes.drop(txn, t, box_rows.load(txn, t, key))
            return Changed(None, (key,))

        try:
            await self._commits.change(account, apply)
        except StorageFull:
            await self._removals.expunge_few(account, key, None, 0, False)
            await self._commits.change(account, apply)
        self._tell_names(account)
        await self._commits.help(beneath.remove_tree, hidden)

    async def rename(self, account: Account, old: str, new: str) -> None:
        """See interface.Store."""
        if self.find(account, new) is not None:
            raise MailboxExists("mailbox already exists")
        key = self.find(account, old)
        if key is None:
            raise NoSuchMailbox("mailbox does not exist")
        if old == INBOX:  # its messages are moved, and INBOX itself stays (RFC 9051 6.3.6)
            await self.create(account, new)
            target = self.find(account, new)
            assert target is not None
            await self._move_all(account, key, ALL, target)
            return
        home = self._account_paths.home(account)
        folders.refuse(home, new)
        if new.startswith(old + "/"):
            raise CannotDo("a mailbox cannot be moved into itself")
        parent = new.rpartition("/")[0]
        if parent and self.find(account, parent) is None:
            await self.create(account, parent)
        shard = self._commits.shard(account.id)
        with shard.env.read() as txn:
            boxes = mailboxes.boxes(txn, shard.tables, account.id)
        moved = [(b, new + b.name[len(old) :]) for b in boxes if b.name == old or b.name.startswith(old + "/")]
        for _, name in moved:
            folders.refuse_length(home, name)
        self._commits.refuse_gone(account)
        await self._going_on.run(self._rename(account, moved))

    async def _rename(self, account: Account, moved: Sequence[tuple[MailboxRow, str]]) -> None:
        """Rename mailboxes: the directories, then the rows. If there is no room for that, nothing is renamed."""
        pairs = [(box.key, name) for box, name in moved]
        if not self._has_files(account):
            await self._commits.submit(account, lambda txn, t: mailboxes.rename(txn, t, account.id, pairs))
            self._tell_names(account)
            return
        home, instance = self._account_paths.home(account), self._maker.instance
        at = await self._commits.submit(account, lambda txn, t: renaming.begin(txn, t, account.id, instance))

        def apply(txn: Txn, t: Tables) -> None:
            mailboxes.rename(txn, t, account.id, pairs)
            renaming.end(txn, t, at)

        names = [(box.name, name) for box, name in moved]
        try:
            await self._commits.help(folders.rename, home, names)
            try:
                await self._commits.submit(account, apply)
            except StorageFull:
                await self._commits.help(folders.rename, home, [(new, old) for old, new in names])
                raise
        except Exception:
            await self._commits.submit(account, partial(renaming.end, at=at))
            raise
        self._tell_names(account)
