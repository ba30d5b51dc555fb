"""Maildirs that Dovecot serves at the same time (``[store] shared = "dovecot"``): ``dovecot-uidlist``,
``dovecot-keywords`` and ``subscriptions`` are authoritative, and are read and written under Dovecot's own locks.

Every UID is assigned while ``dovecot-uidlist.lock`` is held, in this order:

1. what the list has and the index has not is added to the index;
2. files are written, synced, and recorded in the index;
3. their lines are added to the list and synced; only then anything is answered.

After a crash in between, the list decides: a message that it does not have gets a line, and one for which it has
another UID gets that UID. Directories are listed, and files renamed, only under that lock, because a listing can miss a
file that is renamed meanwhile. A keyword has its letter in the file before a message gets it. Nothing is removed from
the list.

Dovecot compacts the list, which makes it another file, sometimes with the inode of the old one: so what was read of a
list counts only while its first and last octets are unchanged. If its UIDVALIDITY has changed, the index of that
mailbox is rebuilt. A damaged list is written again, with UIDNEXT above every UID in it.

Raises StorageFailed if a lock cannot be taken in time.
"""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastmail.durable import beneath, dotlock
from fastmail.durable.errors import translate
from fastmail.durable.replace import make_directories, replace_file, sync_directory, sync_octets
from fastmail.durable.transaction import Txn
from fastmail.model.errors import NoSuchMailbox, StorageFailed
from fastmail.model.flags import LETTERED_KEYWORDS
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.index import box_rows, mailboxes
from fastmail.store.local.index.changed import Changed
from fastmail.store.local.index.layout import MailboxRow, base_of
from fastmail.store.local.index.tables import Tables
from fastmail.store.local.index.writer import Commits
from fastmail.store.local.maildir import looking
from fastmail.store.local.maildir.account_paths import AccountPaths
from fastmail.store.local.maildir.control import Control
from fastmail.store.local.maildir.folders import control_root
from fastmail.store.local.maildir.lists import Line
from fastmail.telemetry import log

TIDY_PATIENCE = 2.0  # s that housekeeping waits for a lock, as other mailboxes wait behind it
PATIENCE = 90.0  # s to wait for a lock; Dovecot gives up after 120
PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
UIDLIST, KEYWORDS, SUBSCRIPTIONS = "dovecot-uidlist", "dovecot-keywords", "subscriptions"
Stamp = tuple[int, int, int]  # inode, size, mtime in ns
NONE: Stamp = (0, 0, 0)
SAMPLE = 200  # octets at both ends of what was read, by which a list is recognised


@dataclass(slots=True)
class Known:
    """What was read of a mailbox's files.

    ``uidlist``: stamp of the list when all of it was in the index. ``inode``, ``offset``, ``head``, ``tail``: of the
    list that was read: how much of it, and how that part begins and ends."""

    uidlist: Stamp = NONE
    inode: int = 0
    offset: int = 0
    head: bytes = b""
    tail: bytes = b""
    uidvalidity: int = 0
    uidnext: int = 1
    keywords: Stamp = NONE


def stamp(path: str) -> Stamp:
    """Return what changes with a file; NONE if it does not exist."""
    try:
        found = beneath.lstat(path)
    except OSError:
        return NONE
    return found.st_ino, found.st_size, found.st_mtime_ns


TakeIn = Callable[[Account, bytes], Awaitable[None]]


class SharedMode:
    """One for each store that shares its Maildirs. ``take_in``: apply everything that is new in a mailbox whose list is
    locked."""

    def __init__(self, commits: Commits, account_paths: AccountPaths, take_in: TakeIn) -> None:
        self._commits = commits
        self._account_paths = account_paths
        self._take_in = take_in
        self._known: dict[bytes, Known] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._subscribed: dict[int, tuple[Stamp, set[str]]] = {}

    # ---------------------------------------------------------------- locks

    @asynccontextmanager
    async def _locked(self, path: str, patience: float = PATIENCE) -> AsyncIterator[None]:
        """Hold ``path``.lock: within this process, and on the disk."""
        path += ".lock"
        own = self._locks.setdefault(path, asyncio.Lock())
        try:
            async with own:
                end = time.monotonic() + patience
                tries = 0
                while not await self._taken(path):
                    if time.monotonic() > end:
                        raise StorageFailed(f"{path}: another program keeps it locked")
                    await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                    tries += 1
                toucher = self._commits.loop.create_task(_keep(path))
                try:
                    yield
                finally:
                    toucher.cancel()
                    await self._commits.help(dotlock.drop, path)
        finally:
            if not own.locked():
                self._locks.pop(path, None)

    @asynccontextmanager
    async def tidying(self, account: Account, key: bytes) -> AsyncIterator[None]:
        """Hold the list of a mailbox while its files are renamed, so that no program lists them meanwhile."""
        async with self.lock(account, self.box(account, key), TIDY_PATIENCE):
            yield

    async def _taken(self, path: str) -> bool:
        """Take the lock if it is free. If the caller is cancelled meanwhile, the lock is released."""
        taking = asyncio.ensure_future(self._commits.help(_take, path))

        def give_back(done: "asyncio.Future[bool]") -> None:
            if not done.cancelled() and done.exception() is None and done.result():
                self._commits.help(dotlock.drop, path)

        try:
            return bool(await asyncio.shield(taking))
        except asyncio.CancelledError:
            taking.add_done_callback(give_back)
            raise

    @asynccontextmanager
    async def lock(self, account: Account, box: Mailbox, patience: float = PATIENCE) -> AsyncIterator[None]:
        """Hold the list of a mailbox, so that UIDs can be assigned; waits up to ``patience`` seconds for it."""
        async with self._locked(os.path.join(self._account_paths.control(account, box.name), UIDLIST), patience):
            yield

    @asynccontextmanager
    async def giving(self, boxes: Iterable[tuple[Account, bytes]], words: Sequence[bytes]) -> AsyncIterator[list[Line]]:
        """Hold the lists of mailboxes while they get messages with these keywords. The caller adds the messages' lines
        to the value."""
        lines: list[Line] = []
        wanted = {key: account for account, key in boxes}
        floors: dict[bytes, int] = {}
        rows: dict[bytes, MailboxRow] = {}
        async with AsyncExitStack() as stack:
            for key, account in sorted(wanted.items()):  # all processes lock in the same order, so none deadlock
                rows[key] = box = self.box(account, key)
                await stack.enter_async_context(self.lock(account, box))
            for key, account in wanted.items():
                box = rows[key]
                known = self._known.get(key)
                if known is None or known.uidlist == NONE or not self.same(account, box):
                    await self._take_in(account, key)
                if words:
                    await self._keywords(account, key, words)
                floors[key] = self._known[key].uidnext
            try:
                yield lines
                for key, account in wanted.items():
                    mine = [(uid, base_of(name)) for at, uid, name in lines if at == key and uid >= floors[key]]
                    if mine:
                        await self.write(account, rows[key], sorted(mine))
            except BaseException:  # messages may be in the index without a line: the next look compares everything
                for key in wanted:
                    self.forget(key)
                raise

    def box(self, account: Account, key: bytes) -> MailboxRow:
        """Return the mailbox's present row."""
        with self._commits.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        return box

    # ---------------------------------------------------------------- the list of UIDs

    def same(self, account: Account, box: Mailbox) -> bool:
        """True if the files are as they were when all of them was applied."""
        known = self._known.get(box.key)
        place = self._account_paths.control(account, box.name)
        return (
            known is not None
            and stamp(os.path.join(place, UIDLIST)) == known.uidlist
            and stamp(os.path.join(place, KEYWORDS)) == known.keywords
        )

    async def read(self, account: Account, key: bytes) -> tuple[Control, bool]:
        """Return what the list has that was not applied yet, and True if that is the whole list. Call it under the
        lock.

        If the list has another UIDVALIDITY than the index, the index first removes its messages."""
        box = self.box(account, key)
        known = self._known.setdefault(key, Known())
        place = self._account_paths.control(account, box.name)
        found, whole = await self._commits.help(_read, os.path.join(place, UIDLIST), known)
        if found is None:  # missing or damaged: the index is right
            found = await self._commits.help(self._write_all, account, box, known)
            whole = True
        if box.generation and found.uidvalidity != box.uidvalidity:
            log.event("store.renumbered", "warning", mailbox=place, uidvalidity=found.uidvalidity)
            validity = found.uidvalidity
            await self._commits.change(account, lambda txn, t: _renumber(txn, t, key, validity))
            known.uidlist, known.keywords, known.offset = NONE, NONE, 0
            again, whole = await self._commits.help(_read, os.path.join(place, UIDLIST), known)
            found = again or found
        await self._keywords(account, key, ())
        return found, whole

    def _write_all(self, account: Account, box: MailboxRow, known: Known) -> Control:
        """Write a list of the messages in the index, or, for a mailbox that is new to it, of those in another server's
        files."""
        place = self._account_paths.control(account, box.name)
        make_directories(place)
        indexes = self._account_paths.indexes(account, box.name)
        found = control_files.read_control(place, indexes) if not box.generation else Control()
        if found.uidvalidity or found.uids:
            found.uidvalidity = found.uidvalidity or box.uidvalidity
            found.uidnext, found.torn = (
                found.following(_unlisted(found, self._account_paths.folder(account, box.name))),
                False,
            )
            found.keywords.clear()
            kept = [control_files.Kept(uid, base, *found.pop3.get(base, (0, b""))) for base, uid in found.uids.items()]
        else:
            found.uidvalidity = box.uidvalidity
            found.uidnext = max(box.uidnext, control_files.uidnext_of_damaged(place, box.uidvalidity))
            kept = self._kept(account, box)
            found.uids = {one.base: one.uid for one in kept}
        kept.sort(key=lambda one: one.uid)
        data = control_files.uidlist(found.uidvalidity, found.uidnext, control_files.guid_of(place), kept)
        replace_file(os.path.join(place, UIDLIST), data, like=place)
        known.uidvalidity, known.uidnext = found.uidvalidity, found.uidnext
        known.offset, known.head, known.tail = len(data), data[:SAMPLE], data[-SAMPLE:]
        known.uidlist = stamp(os.path.join(place, UIDLIST))
        known.inode = known.uidlist[0]
        return found

    def _kept(self, account: Account, box: MailboxRow) -> list[control_files.Kept]:
        with self._commits.snapshot(account) as snapshot:
            pop3 = snapshot.pop3(box.key)
            return [
                control_files.Kept(uid, base_of(marked[1:]), *pop3.get(uid, (0, b"")))
                for uid, marked in snapshot.files(box.key)
            ]

    async def write(self, account: Account, box: Mailbox, lines: Sequence[tuple[int, bytes]]) -> None:
        """Add (UID, base name) to the list, in order; durable when it returns. Call it under the lock."""
        path = os.path.join(self._account_paths.control(account, box.name), UIDLIST)
        known = self._known[box.key]
        data = b"".join(b"%d :%b\n" % line for line in lines)
        now = await self._commits.help(_append, path, data, known)
        if now == NONE:  # another program broke our lock: the next look finds the messages without a line
            log.event("store.lock_lost", "warning", path=path)
            self.forget(box.key)
            return
        known.uidlist, known.offset, known.tail = now, now[1], (known.tail + data)[-SAMPLE:]
        known.uidnext = lines[-1][0] + 1

    def listed(self, account: Account, name: str) -> bool:
        """True if a mailbox has a list: then it was created completely, by whichever server."""
        return stamp(os.path.join(self._account_paths.control(account, name), UIDLIST)) != NONE

    def forget(self, key: bytes) -> None:
        """Read the whole list the next time, because something went wrong."""
        self._known.pop(key, None)

    def taken_in(self, account: Account, box: Mailbox) -> None:
        """Record that everything in the list is in the index. Call it under the lock."""
        known = self._known.get(box.key)
        if known is None:
            return  # ``forget`` was called meanwhile
        known.uidlist = stamp(os.path.join(self._account_paths.control(account, box.name), UIDLIST))
        if len(self._known) > 100_000:
            self._known.pop(next(iter(self._known)))

    # ---------------------------------------------------------------- keywords

    async def keywords(self, account: Account, key: bytes, words: Sequence[bytes]) -> None:
        """Make sure that the keywords have letters."""
        with self._commits.snapshot(account) as snapshot:
            there = {word.lower() for word in snapshot.keywords(key)}
        if any(word.lower() not in there for word in words):
            async with self.lock(account, self.box(account, key)):
                await self._keywords(account, key, words)

    async def _keywords(self, account: Account, key: bytes, words: Sequence[bytes]) -> None:
        """Do the same under the lock; keywords that Dovecot has added since come into the index."""
        box = self.box(account, key)
        place = self._account_paths.control(account, box.name)
        path = os.path.join(place, KEYWORDS)
        known = self._known.setdefault(key, Known())
        now = await self._commits.help(stamp, path)
        with self._commits.snapshot(account) as snapshot:
            ours = snapshot.keywords(key)
        if now == known.keywords and now != NONE and not words:
            return
        theirs = await self._commits.help(control_files.read_keywords, place)
        merged = _merge(ours, theirs, words)
        if merged != ours:
            value = b"\0".join(merged)
            await self._commits.submit(account, lambda txn, t: txn.put(key, value, db=t.kw))
        if merged[:LETTERED_KEYWORDS] != theirs:
            await self._commits.help(_write_keywords, path, merged[:LETTERED_KEYWORDS])
        known.keywords = await self._commits.help(stamp, path)

    async def take_overflow(self, account: Account, box: Mailbox, listed: Control) -> None:
        """Learn keywords without letters from Dovecot's index, for messages that are new here. Later ones remain
        Dovecot's. Call it under the lock."""
        key, indexes = box.key, self._account_paths.indexes(account, box.name)
        with self._commits.snapshot(account) as snapshot:
            listed.words = snapshot.keywords(key)
        if len(listed.words) >= LETTERED_KEYWORDS:
            await self._commits.help(control_files.take_overflow, listed, indexes)
            value = b"\0".join(listed.words)
            await self._commits.submit(account, lambda txn, t: txn.put(key, value, db=t.kw))

    # ---------------------------------------------------------------- subscriptions

    async def subscribed(self, account: Account) -> set[str] | None:
        """Return the subscriptions in Dovecot's file, None if there is none."""
        path = os.path.join(control_root(self._account_paths.home(account)), SUBSCRIPTIONS)
        now = stamp(path)
        if now == NONE:
            return None
        known = self._subscribed.get(account.id)
        if known is None or known[0] != now:
            if len(self._subscribed) > 10_000:
                self._subscribed.clear()
            known = self._subscribed[account.id] = (
                now,
                set(
                    await self._commits.help(control_files.read_subscriptions, self._account_paths.home(account)) or ()
                ),
            )
        return known[1]

    async def subscribe(self, account: Account, names: set[str], name: str, on: bool, keep: bool = False) -> None:
        """Change the file. ``names``: initial list if there is no file. ``keep``: do nothing if there is one."""
        place = control_root(self._account_paths.home(account))
        async with self._locked(os.path.join(place, SUBSCRIPTIONS)):
            there = await self.subscribed(account)
            if there is not None and keep:
                return
            now = set(names if there is None else there)
            now = now | {name} if on else now - {name}
            data = control_files.subscription_file(self._account_paths.home(account), now)
            await self._commits.help(partial(replace_file, os.path.join(place, SUBSCRIPTIONS), data, like=place))


def _take(path: str) -> bool:
    try:
        return dotlock.take(path)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        return dotlock.take(path)


async def _keep(path: str) -> None:
    while True:
        await asyncio.sleep(dotlock.TOUCH)
        dotlock.touch(path)


def _read(path: str, known: Known) -> tuple[Control | None, bool]:
    """Return what a list has after the part that is known, and True if that is all of it. None if it is missing or
    damaged."""
    try:
        with os.fdopen(beneath.open_file(path), "rb", buffering=0) as file:
            descriptor = file.fileno()
            if _continues(descriptor, known):
                added = _behind(descriptor, known.offset)
                found = _parse(b"3 V%d N%d\n" % (known.uidvalidity, known.uidnext) + added)
                if found is not None and min(found.uids.values(), default=known.uidnext) >= known.uidnext:
                    known.offset, known.tail = known.offset + len(added), (known.tail + added)[-SAMPLE:]
                    known.uidnext = found.uidnext
                    return found, False
            data, inode = _behind(descriptor, 0), os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return None, True
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL):
            raise translate(error) from error
        log.event("store.list_damaged", "warning", path=path, why="a link, or not a regular file", then="written again")
        return None, True
    found = _parse(data)
    if found is None:
        log.event("store.list_damaged", "warning", path=path, then="written again")
        return None, True
    known.inode, known.offset, known.head, known.tail = inode, len(data), data[:SAMPLE], data[-SAMPLE:]
    known.uidvalidity, known.uidnext = found.uidvalidity, found.uidnext
    return found, True


def _behind(descriptor: int, offset: int) -> bytes:
    return os.pread(descriptor, min(max(os.fstat(descriptor).st_size - offset, 0), control_files.LARGEST), offset)


def _unlisted(found: Control, directory: str) -> int:
    """Return how many files of a mailbox have no UID."""
    names = (name for sub in ("new", "cur") for name in looking.listing(directory, sub))
    return sum(base_of(name) not in found.uids for name in names)


def _parse(data: bytes) -> Control | None:
    return control_files.parse_uidlist(data) if data.endswith(b"\n") else None


def _continues(descriptor: int, known: Known) -> bool:
    """True if an open list is the one that was read, perhaps with more lines after that part."""
    return (
        known.offset > 0
        and os.fstat(descriptor).st_ino == known.inode
        and os.pread(descriptor, len(known.head), 0) == known.head
        and os.pread(descriptor, len(known.tail), known.offset - len(known.tail)) == known.tail
    )


def _append(path: str, data: bytes, known: Known) -> Stamp:
    """Append lines, all or none: Dovecot gives up a list with half a line.

    Returns NONE without writing if the list no longer ends where it was last read."""
    descriptor = beneath.open_file(path, os.O_RDWR | os.O_APPEND)
    try:
        before = os.fstat(descriptor).st_size
        if before != known.offset or not _continues(descriptor, known):
            return NONE
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            sync_octets(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, before)
            raise translate(error) from error
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _merge(ours: Sequence[bytes], theirs: Sequence[bytes], words: Sequence[bytes]) -> list[bytes]:
    """Return the names of the keyword bits: Dovecot's, with ours added after them."""
    merged = list(ours)
    for bit, word in enumerate(theirs):
        if bit >= len(merged):
            merged.append(word)
        elif word.startswith(b"unknown-"):
            continue  # a gap in Dovecot's file
        elif merged[bit].lower() != word.lower():
            displaced, merged[bit] = merged[bit], word
            if not displaced.startswith(b"unknown-"):
                log.event("store.keyword", "warning", was=displaced.decode("latin-1"), now=word.decode("latin-1"))
    known = {word.lower() for word in merged}
    for word in words:
        if word.lower() not in known:
            known.add(word.lower())
            merged.append(word)
    return merged


def _write_keywords(path: str, words: Sequence[bytes]) -> None:
    """Write the file. Dovecot reads it again only if its time, in seconds, has changed."""
    before = stamp(path)[2]
    replace_file(path, control_files.keyword_file(words), like=os.path.dirname(path))
    after = beneath.lstat(path).st_mtime_ns
    if before and after // 10**9 <= before // 10**9:
        later = (before // 10**9 + 1) * 10**9
        beneath.set_times(path, (later, later))
        sync_directory(os.path.dirname(path))


def _renumber(txn: Txn, t: Tables, key: bytes, uidvalidity: int) -> Changed[None]:
    """Remove the messages of a mailbox from the index; their files stay and get new UIDs."""
    box = box_rows.load(txn, t, key)
    mailboxes.forget_messages(txn, t, box)
    txn.delete(key, db=t.kw)
    box.uidvalidity, box.uidnext, box.recent_from, box.generation = uidvalidity, 1, 1, 0
    box_rows.save(txn, t, box)
    return Changed(None, (key,))
