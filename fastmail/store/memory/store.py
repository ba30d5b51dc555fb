"""A store in memory: the plainest implementation of the interface, for tests and as the oracle of the contract suite.

Lists and dictionaries; it shares only the page format with the local backend. Nothing survives the process, so nothing
is synced.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fastmail._core import idents, mime
from fastmail._core.uidset import UidSet
from fastmail.message import identity
from fastmail.message.identity import ident
from fastmail.model.errors import CannotDo, MailboxExists, NoSuchMailbox, TooMuch
from fastmail.model.flags import MAX_KEYWORDS
from fastmail.model.keys import OF_ACCOUNT, account_of, mailbox_key
from fastmail.model.mailbox_name import refuse_new
from fastmail.store.hub import Hub
from fastmail.store.interface import (
    ALL_MODSEQ,
    DEFAULT_MAILBOXES,
    GRACE,
    Account,
    Appended,
    Copied,
    Delivery,
    Expunged,
    Kind,
    Listing,
    Mailbox,
    NewMessage,
    Notes,
    Origin,
    Stored,
)
from fastmail.store.memory.holds import MemoryHolds
from fastmail.store.memory.snapshot import MemorySnapshot
from fastmail.store.memory.state import Box, Log, Message, State


class MemoryStore:
    """See interface.Store."""

    read_only = False

    def __init__(self, hub: Hub | None = None, grace: float = GRACE) -> None:
        self.grace = grace
        self.state = State()
        self.boxes, self.notes = self.state.boxes, self.state.notes
        self.log, self.messages = self.state.log, self.state.messages
        self.hub = hub or Hub()
        self.views = self.hub.views
        self._names: dict[tuple[int, str], bytes] = {}
        self._subscribed: dict[int, set[str]] = {}
        self._next: dict[int, int] = {}
        self._validity: dict[int, int] = {}
        self._owns: set[tuple[int, bytes]] = set()  # (account, hash of a Message-ID) of all messages ever stored
        self.holds = MemoryHolds()
        self._given: dict[tuple[bytes, int, int], Appended] = {}

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        self.boxes.clear()

    async def open(self, account: Account) -> None:
        if (account.id, "INBOX") in self._names:
            return
        self._subscribed[account.id] = set()
        self.log(account.id).modseq += 1
        for name, special in {"INBOX": 0, **DEFAULT_MAILBOXES}.items():
            self._create(account, name, special)
            self._subscribed[account.id].add(name)

    def _create(self, account: Account, name: str, special: int) -> None:
        number = self._next.get(account.id, 1)
        self._next[account.id] = number + 1
        validity = max(int(time.time()), self._validity.get(account.id, 0) + 1)
        self._validity[account.id] = validity
        key = mailbox_key(account.id, number)
        log = self.log(account.id)
        log.enter(Kind.MAILBOX_CREATED, key)
        self.boxes[key] = Box(
            Mailbox(key, name, validity, modseq=log.modseq, special=special, created=int(time.time()))
        )
        self._names[(account.id, name)] = key

    def _change(self, box: Box) -> Log:
        """Give a mailbox that is about to change the account's next MODSEQ."""
        log = self.log(account_of(box.row.key))
        log.modseq += 1
        box.row.modseq = log.modseq
        return log

    def find(self, account: Account, name: str) -> bytes | None:
        return self._names.get((account.id, name))

    def _box(self, key: bytes) -> Box:
        box = self.boxes.get(key)
        if box is None:
            raise NoSuchMailbox("mailbox is gone")
        return box

    @contextmanager
    def snapshot(self, account: Account) -> Iterator[MemorySnapshot]:
        yield MemorySnapshot(self.state)

    async def listing(self, account: Account) -> Listing:
        await self.open(account)
        return Listing(MemorySnapshot(self.state).boxes(account.id), set(self._subscribed[account.id]))

    async def create(self, account: Account, name: str, special: int = 0) -> None:
        if self.find(account, name) is not None:
            raise MailboxExists("mailbox already exists")
        refuse_new(name)
        levels = name.split("/")
        self.log(account.id).modseq += 1
        for i in range(1, len(levels)):
            if self.find(account, "/".join(levels[:i])) is None:
                self._create(account, "/".join(levels[:i]), 0)
        self._create(account, name, special)
        self._renamed(account)

    async def delete(self, account: Account, name: str) -> None:
        if self.find(account, name) is None:
            raise NoSuchMailbox("mailbox does not exist")
        if name == "INBOX":
            raise CannotDo("INBOX cannot be deleted")
        key = self._names.pop((account.id, name))
        self.notes.pop(key, None)
        log = self._change(self.boxes[key])
        for m in self.boxes.pop(key).messages:
            log.enter(Kind.REMOVED, key, m.uid, m.ident.email)
        log.enter(Kind.MAILBOX_REMOVED, key)
        self.hub.publish([key])
        self._renamed(account)

    def _renamed(self, account: Account) -> None:
        self.hub.publish([mailbox_key(account.id, OF_ACCOUNT)])

    async def rename(self, account: Account, old: str, new: str) -> None:
        if self.find(account, new) is not None:
            raise MailboxExists("mailbox already exists")
        key = self.find(account, old)
        if key is None:
            raise NoSuchMailbox("mailbox does not exist")
        if old == "INBOX":
            await self.create(account, new)
            await self.copy(account, key, UidSet.of_ranges((1, 0xFFFFFFFE)), self._names[(account.id, new)], True, 0)
            return
        refuse_new(new)
        if new.startswith(old + "/"):
            raise CannotDo("a mailbox cannot be moved into itself")
        parent = new.rpartition("/")[0]
        if parent and self.find(account, parent) is None:
            await self.create(account, parent)
        self.log(account.id).modseq += 1
        for owner, name in list(self._names):
            if owner == account.id and (name == old or name.startswith(old + "/")):
                moved = self._names.pop((owner, name))
                self.boxes[moved].row.name = new + name[len(old) :]
                self._names[(owner, new + name[len(old) :])] = moved
                self.log(account.id).enter(Kind.MAILBOX_CHANGED, moved)
        self._renamed(account)

    async def annotate(self, account: Account, key: bytes, changes: Notes, expected: Notes | None = None) -> bool:
        notes = self.notes.setdefault(key, {})
        if expected is not None and any(notes.get(name) != value for name, value in expected.items()):
            return False
        for name, value in changes.items():
            notes.pop(name, None)
            if value is not None:
                notes[name] = value
        self.hub.publish([key])
        return True

    async def subscribe(self, account: Account, name: str, on: bool) -> None:
        (self._subscribed[account.id].add if on else self._subscribed[account.id].discard)(name)
        self._renamed(account)

    async def sync(self, account: Account, key: bytes) -> None:
        """No other program has these mailboxes."""
        self._box(key)

    def is_up_to_date(self, account: Account, box: Mailbox) -> bool:
        return True

    async def content(self, account: Account, key: bytes, uid: int) -> bytes | None:
        box = self.boxes.get(key)
        found = box.read(uid) if box is not None else None
        return found.content if found is not None else None

    async def fetch_ahead(self, account: Account, key: bytes, uids: UidSet) -> None:
        pass  # all contents are in memory

    def _bits(self, box: Box, words: Sequence[bytes], create: bool) -> int:
        bits = 0
        for word in words:
            known = [w.lower() for w in box.words]
            if word.lower() not in known:
                if not create:
                    continue
                if len(known) >= MAX_KEYWORDS:
                    raise TooMuch(f"a mailbox can have {MAX_KEYWORDS} keywords")
                box.words.append(word)
                known.append(word.lower())
            bits |= 1 << known.index(word.lower())
        return bits

    async def append(
        self,
        account: Account,
        key: bytes,
        messages: Sequence[NewMessage],
        takes_recent: bool = False,
        origin: Origin | None = None,
    ) -> Appended:
        await asyncio.sleep(0)
        if origin is not None:
            there = {m.uid for m in self._box(origin.key).messages}
            messages = [one for one, uid in zip(messages, origin.uids, strict=True) if uid in there]
            if not messages:
                row = self._box(key).row
                return Appended(key, row.uidvalidity, [], row.modseq, moved=Expunged(origin.key, UidSet(), 0, 0))
        kept = self._append(key, messages)
        kept.recent = await self.take_recent(account, key) if takes_recent else (0, 0)
        if origin is not None:
            kept.moved = self._expunge(self._box(origin.key), UidSet.of(origin.uids), 0, True, 1)
        self.hub.publish([key] if origin is None else [key, origin.key])
        return kept

    def _append(self, key: bytes, messages: Sequence[NewMessage]) -> Appended:
        box = self._box(key)
        self._change(box)
        uids = []
        for m in messages:
            bits = self._bits(box, m.keywords, True)
            content = b"".join(bytes(chunk) for chunk in m.content)
            self._add(box, m.flags, bits, m.date, m.size, content, self._finished(box, m.summary))
            uids.append(box.row.uidnext - 1)
        return Appended(key, box.row.uidvalidity, uids, box.row.modseq)

    def _add(self, box: Box, flags: int, bits: int, date: int, size: int, content: bytes, summary: bytes) -> None:
        row, now = box.row, int(time.time())
        message = Message(row.uidnext, flags, row.modseq, bits, date, size, now, content, summary, ident(summary))
        self.log(account_of(row.key)).enter(Kind.CREATED, row.key, row.uidnext, message.ident.email)
        box.messages.append(message)
        row.uidnext += 1

    def _finished(self, box: Box, made: bytes) -> bytes:
        """Return a summary with EMAILID and THREADID: the nearest known message that it refers to decides its
        thread."""
        end = idents.rest_at(made)
        if end < len(made):
            return made[:end] + identity.TRAIL.pack(*ident(made)._replace(created=box.row.modseq))
        account = account_of(box.row.key)
        own, seed, names = idents.named(made)
        ours = identity.named(own) if own else identity.NOBODY
        email = identity.fresh()
        thread = identity.named(seed) if seed else email
        others = [*map(identity.named, names)]
        if (account, ours) in self._owns:
            others.append(ours)  # a second copy of a known message
        if own:
            self._owns.add((account, ours))
        every = [m.ident for _, m in self.messages(account)] if others else []
        for number, name in enumerate(others):
            known = [one.thread for one in every if one.own == name != one.thread]
            known += [one.thread for one in every if one.thread == name and number < len(names)]
            if known:
                thread = known[0]
                break
        return made[:end] + identity.TRAIL.pack(email, box.row.modseq, thread, ours)

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        await asyncio.sleep(0)
        for item in items:
            if not self._known(item):
                self._box(item.key)
        out = []
        for item in items:
            placed = self._known(item)
            if placed is not None:
                placed = replace(placed, repeated=True)
            else:
                placed = self._append(item.key, [item.message])
                self.hub.publish([item.key])
                if item.id:
                    self._given[item.id, item.account.id, item.copy] = placed
            out.append(placed)
        return out

    def _known(self, item: Delivery) -> Appended | None:
        return self._given.get((item.id, item.account.id, item.copy)) if item.id else None

    async def given(self, items: Sequence[Delivery]) -> list[Appended | None]:
        known = [self._known(item) for item in items]
        return [replace(one, repeated=True) if one is not None else None for one in known]

    async def store(
        self,
        account: Account,
        key: bytes,
        uids: UidSet,
        mode: int,
        flags: int,
        keywords: Sequence[bytes],
        unchanged_since: int = ALL_MODSEQ,
    ) -> Stored:
        await asyncio.sleep(0)
        box = self._box(key)
        before = box.row.modseq
        bits = self._bits(box, keywords, mode >= 0)
        changed, same, refused = [], [], []
        for m in box.messages:
            if m.uid not in uids:
                continue
            if m.modseq > unchanged_since:
                refused.append(m.uid)
                continue
            new = flags if mode == 0 else m.flags | flags if mode > 0 else m.flags & ~flags
            words = bits if mode == 0 else m.keywords | bits if mode > 0 else m.keywords & ~bits
            if (new, words) == (m.flags, m.keywords):
                same.append(m.uid)
                continue
            m.flags, m.keywords = new, words
            changed.append(m.uid)
        if changed:
            log = self._change(box)
            box.row.changed = log.modseq
            these = set(changed)
            for m in box.messages:
                if m.uid in these:
                    m.modseq = log.modseq
                    log.enter(Kind.CHANGED, key, m.uid, m.ident.email)
        self.hub.publish([key])
        return Stored(key, UidSet.of(changed), UidSet.of(same), UidSet.of(refused), box.row.modseq, before)

    async def copy(
        self, account: Account, key: bytes, uids: UidSet, target: bytes, move: bool = False, mine: int = 1
    ) -> Copied:
        await asyncio.sleep(0)
        source, box = self._box(key), self._box(target)
        taken = [m for m in source.messages if m.uid in uids]
        self._change(box)
        new = []
        for m in taken:
            bits = self._bits(box, [w for i, w in enumerate(source.words) if m.keywords >> i & 1], True)
            new.append(box.row.uidnext)
            self._add(box, m.flags, bits, m.date, m.size, m.content, m.summary)
        done = [m.uid for m in taken]
        gone = self._expunge(source, UidSet.of(done), 0, False, mine) if move and done else None
        self.hub.publish([target, key] if gone is not None else [target])
        return Copied(Appended(target, box.row.uidvalidity, new, box.row.modseq), done, gone)

    async def expunge(
        self, account: Account, key: bytes, uids: UidSet | None, required: int, mine: int = 1
    ) -> Expunged:
        done = self._expunge(self._box(key), uids, required, True, mine)
        self.hub.publish([key])
        return done

    def _expunge(self, box: Box, uids: UidSet | None, required: int, alone: bool, mine: int) -> Expunged:
        """Remove messages. ``alone``: it is an operation by itself and takes a MODSEQ of its own."""
        before = box.row.modseq
        gone = {
            m.uid: m.ident.email
            for m in box.messages
            if (uids is None or m.uid in uids) and m.flags & required == required
        }
        if gone:
            log = self._change(box) if alone else self.log(account_of(box.row.key))
            box.row.modseq = log.modseq
            now = time.monotonic()
            box.kept = {uid: one for uid, one in box.kept.items() if now < one[0]}
            if self.views.elsewhere(box.row.key, mine):
                box.kept |= {m.uid: (now + self.grace, m) for m in box.messages if m.uid in gone}
            box.messages = [m for m in box.messages if m.uid not in gone]
            box.gone += [(log.modseq, uid) for uid in gone]
            for uid, email in gone.items():
                log.enter(Kind.REMOVED, box.row.key, uid, email)
        return Expunged(box.row.key, UidSet.of(sorted(gone)), box.row.modseq, before)

    async def learn_previews(self, account: Account, key: bytes, found: Mapping[int, bytes]) -> None:
        for m in self._box(key).messages:
            if m.uid in found and idents.preview(m.summary) is None and not mime.lost(m.summary):
                m.summary = identity.kept(idents.with_preview(m.summary, found[m.uid]), m.summary)

    async def take_recent(self, account: Account, key: bytes) -> tuple[int, int]:
        row = self._box(key).row
        first, end = row.recent_from, row.uidnext
        row.recent_from = end
        return (first, end) if first < end else (0, 0)

    def watch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        self.hub.watch(key, callback)

    def unwatch(self, account: Account, key: bytes, callback: Callable[[], None]) -> None:
        self.hub.unwatch(key, callback)
