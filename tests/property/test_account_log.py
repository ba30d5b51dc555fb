"""The account log against plain counting: random work of every kind, over every store, beside the same work in memory.

After each step: what an account holds is what its mailboxes and messages add up to; EMAILIDs and THREADIDs lead to the
places of their messages, and nowhere else; what is told of the time since any earlier state makes of that state the
present one, and names every message whose flags are others; and messages have the same threads as in memory, where
they are looked for by walking over all messages.
"""

import asyncio
import os
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import transaction
from fastmail.message.identity import ident
from fastmail.model.keys import EVERYTHING
from fastmail.store import transfer
from fastmail.store.interface import Account, Delivery, Kind, NewMessage, Store, counts
from fastmail.store.local.index import account_log, layout, walk
from fastmail.store.local.maildir.folders import folder
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.segments import convert
from fastmail.store.local.store import LocalStore
from fastmail.store.memory.store import MemoryStore
from tests.support.examples import seeds
from tests.support.homes import home_of, housed, local_store

STEPS = 45
ALL = UidSet.of_ranges((1, 0xFFFFFFFE))
Places = dict[tuple[bytes, int], bytes]


@dataclass(slots=True)
class Picture:
    """An account as a client could know it: EMAILIDs by place, flags by place, mailboxes."""

    modseq: int
    marks: Places
    flags: dict[tuple[bytes, int], Any]
    boxes: set[bytes]


@dataclass(slots=True)
class World:
    """One store, what was seen of it, and how often its account was said to have changed."""

    store: Store
    account: Account
    other: Account
    seen: list[Picture] = field(default_factory=list)
    rung: list[int] = field(default_factory=list)

    def key(self, name: str) -> bytes:
        key = self.store.find(self.account, name)
        assert key is not None
        return key

    def names(self) -> list[str]:
        with self.store.snapshot(self.account) as snapshot:
            return sorted(box.name for box in snapshot.boxes(self.account.id))

    def uids(self, name: str) -> list[int]:
        with self.store.snapshot(self.account) as snapshot:
            return [r[0] for page in snapshot.pages(self.key(name)) for r in pages.records(page)]

    def look(self) -> tuple[Picture, dict[tuple[str, int], tuple[bytes, int]]]:
        """Everything, read message by message, and compared with what is counted. Also the thread and the flags of
        every message."""
        with self.store.snapshot(self.account) as snapshot:
            held = snapshot.holding(self.account.id)
            boxes = snapshot.boxes(self.account.id)
            marks: Places = {}
            flags: dict[tuple[bytes, int], Any] = {}
            common: dict[tuple[str, int], tuple[bytes, int]] = {}
            by_mark, by_thread = defaultdict(set), defaultdict(set)
            octets = kept = 0
            for box in boxes:
                assert box.modseq <= held.modseq
                words = snapshot.keywords(box.key)
                made = {uid: bytes(one) for uid, one in snapshot.summaries(box.key, ALL).items()}
                for record in (r for page in snapshot.pages(box.key) for r in pages.records(page)):
                    uid, at = record[0], (box.key, record[0])
                    one = ident(made[uid])
                    assert one.created <= record[2] <= box.modseq
                    marks[at] = one.email
                    flags[at] = record[1], frozenset(w for i, w in enumerate(words) if record[3] >> i & 1)
                    by_mark[one.email].add(at)
                    by_thread[one.thread].add(at)
                    common[box.name, uid] = one.thread if one.thread != one.email else b"", record[1]
                    octets += record[5]
                    kept += mime.counted(made[uid])
            for key in [*(box.key for box in boxes), self.account.id.to_bytes(8, "big") + bytes(4)]:
                kept += sum(len(name) + len(value) for name, value in snapshot.notes(key).items() if counts(name))
            assert (held.octets, held.messages, held.mailboxes) == (octets, len(marks), len(boxes))
            assert held.kept == kept
            for mark, there in by_mark.items():
                places = snapshot.places(self.account.id, mark)
                assert places is not None and sorted(places) == sorted(there)
            for thread, there in by_thread.items():
                places = snapshot.members(self.account.id, thread)
                assert places is not None and sorted(places) == sorted(there)
            now = Picture(held.modseq, marks, flags, {box.key for box in boxes})
            for before in self.seen:
                self._follow(before, now, snapshot.changes(self.account.id, before.modseq))
        return now, common

    def _follow(self, before: Picture, now: Picture, changes: Any) -> None:
        marks, boxes = dict(before.marks), set(before.boxes)
        touched = set()
        last = before.modseq
        for one in changes:
            assert last <= one.modseq <= now.modseq and one.modseq > before.modseq
            last = one.modseq
            at = one.key, one.uid
            if one.kind is Kind.CREATED:
                marks[at] = one.email
                touched.add(at)
            elif one.kind is Kind.REMOVED:
                assert marks.pop(at) == one.email
            elif one.kind is Kind.CHANGED:
                assert marks[at] == one.email
                touched.add(at)
            elif one.kind is Kind.MAILBOX_CREATED:
                boxes.add(one.key)
            elif one.kind is Kind.MAILBOX_REMOVED:
                boxes.remove(one.key)
        assert marks == now.marks and boxes == now.boxes
        assert all(at in touched for at in now.flags if before.flags.get(at) not in (None, now.flags[at]))

    def check(self) -> dict[tuple[str, int], tuple[bytes, int]]:
        now, common = self.look()
        if self.seen:
            before = self.seen[-1]
            same = (now.marks, now.flags, now.boxes) == (before.marks, before.flags, before.boxes)
            assert now.modseq >= before.modseq and (same or now.modseq > before.modseq)
        self.seen.append(now)
        del self.seen[1:-6]  # the first one, and the last few
        return common


class Work:
    """Steps, each done to several worlds alike; numbers of messages are the same in all of them."""

    def __init__(self, worlds: list[World], rng: random.Random) -> None:
        self.worlds = worlds
        self.rng = rng
        self.count = 0
        self.files: dict[int, str] = {}

    def text(self) -> bytes:
        """A message that may name others, known ones and such that there never were."""
        rng = self.rng
        self.count += 1
        head = [f"Subject: {self.count}", f"Message-ID: <m{self.count}@x>"]
        if rng.random() < 0.1:
            head.pop()
        named = [f"<m{rng.randrange(self.count + 3)}@x>" for _ in range(rng.choice([0, 0, 1, 2, 3]))]
        if named and rng.random() < 0.7:
            head.append("References: " + "\n ".join(named))
        if named and rng.random() < 0.5:
            head.append(f"In-Reply-To: {named[-1]}")
        long = "X-Long: " + "y" * rng.choice([5000, 9000, 40_000]) if rng.random() < 0.1 else "X-Short: 1"
        return "\n".join([*head, long, "", "body" * rng.randrange(20), ""]).encode()

    def message(self) -> NewMessage:
        text = self.text()
        words = self.rng.choice([(), (), (), (b"$Work",)])
        return NewMessage((text,), mime.scan(text), mime.served_size(text), 1000, self.rng.choice([0, 1, 8, 9]), words)

    def some(self, world: World, name: str) -> UidSet:
        return UidSet.of(sorted(self.rng.sample(uids, min(len(uids), 3)))) if (uids := world.uids(name)) else UidSet()

    async def step(self) -> None:
        first = self.worlds[0]
        names = first.names()
        name, target = self.rng.choice(names), self.rng.choice(names)
        kind = self.rng.choice(
            [
                "append",
                "append",
                "deliver",
                "deliver",
                "deliver",
                "many",
                "store",
                "store",
                "copy",
                "move",
                "expunge",
                "delete",
                "create",
                "rename",
                "annotate",
                "claim",
                "outside",
                "outside",
                "give",
                "take",
                "convert",
                "rebuild",
                "again",
                "look",
                "look",
                "sweep",
            ]
        )
        uids = self.some(first, name)
        state = self.rng.getstate()
        number = self.count
        for world in self.worlds:
            self.rng.setstate(state)
            self.count = number
            await getattr(self, "_" + kind)(world, name, target, uids)

    async def _append(self, world: World, name: str, target: str, uids: UidSet) -> None:
        await world.store.append(world.account, world.key(name), [self.message()])

    async def _many(self, world: World, name: str, target: str, uids: UidSet) -> None:
        every = [self.message() for _ in range(self.rng.choice([2, 3, 12]))]
        await world.store.append(world.account, world.key(name), every)

    async def _deliver(self, world: World, name: str, target: str, uids: UidSet) -> None:
        items = [Delivery(world.account, world.key(at), self.message()) for at in (name, target, name)]
        await world.store.deliver(items)

    async def _again(self, world: World, name: str, target: str, uids: UidSet) -> None:
        """The same delivery twice: the second one changes nothing."""
        item = Delivery(world.account, world.key(name), self.message(), id=self.count.to_bytes(transaction.SIZE, "big"))
        (first,) = await world.store.deliver([item])
        with world.store.snapshot(world.account) as snapshot:
            held = snapshot.holding(world.account.id)
        (second,) = await world.store.deliver([item])
        assert (second.key, second.uids, second.repeated) == (first.key, first.uids, True)
        with world.store.snapshot(world.account) as snapshot:
            assert snapshot.holding(world.account.id) == held

    async def _look(self, world: World, name: str, target: str, uids: UidSet) -> None:
        """Two sessions have a view of the mailbox from now on: what is removed stays readable."""
        for _ in range(2):
            await world.store.views.begin(world.key(name))

    async def _sweep(self, world: World, name: str, target: str, uids: UidSet) -> None:
        """What was kept for views is forgotten."""
        if isinstance(world.store, LocalStore):
            await world.store.sweeper.sweep(True)

    async def _store(self, world: World, name: str, target: str, uids: UidSet) -> None:
        mode, flags = self.rng.choice([-1, 0, 1]), self.rng.choice([0, 1, 8, 9])
        await world.store.store(
            world.account, world.key(name), uids, mode, flags, [b"$Seldom"][: self.rng.randrange(2)]
        )

    async def _copy(self, world: World, name: str, target: str, uids: UidSet) -> None:
        if uids:
            await world.store.copy(world.account, world.key(name), uids, world.key(target))

    async def _move(self, world: World, name: str, target: str, uids: UidSet) -> None:
        if uids and name != target:
            await world.store.copy(world.account, world.key(name), uids, world.key(target), move=True)

    async def _expunge(self, world: World, name: str, target: str, uids: UidSet) -> None:
        await world.store.expunge(
            world.account, world.key(name), self.rng.choice([None, uids]), self.rng.choice([0, 8])
        )

    async def _delete(self, world: World, name: str, target: str, uids: UidSet) -> None:
        if name != "INBOX":
            await world.store.delete(world.account, name)

    async def _create(self, world: World, name: str, target: str, uids: UidSet) -> None:
        await world.store.create(world.account, f"{name}/n{self.rng.randrange(10**6)}")

    async def _rename(self, world: World, name: str, target: str, uids: UidSet) -> None:
        await world.store.rename(world.account, name, f"r{self.rng.randrange(10**6)}")

    async def _annotate(self, world: World, name: str, target: str, uids: UidSet) -> None:
        value = self.rng.choice([None, b"x" * self.rng.randrange(50)])
        await world.store.annotate(world.account, world.key(name), {b"/private/comment": value, b"/from/x": b"1"})

    async def _claim(self, world: World, name: str, target: str, uids: UidSet) -> None:
        await world.store.take_recent(world.account, world.key(name))

    async def _give(self, world: World, name: str, target: str, uids: UidSet) -> None:
        """Copies in another account keep their names."""
        inbox = world.store.find(world.other, "INBOX")
        assert inbox is not None
        if uids:
            await transfer.copy(world.store, world.account, world.key(name), uids, world.other, inbox, 255, True)

    async def _take(self, world: World, name: str, target: str, uids: UidSet) -> None:
        inbox = world.store.find(world.other, "INBOX")
        assert inbox is not None
        await transfer.copy(world.store, world.other, inbox, ALL, world.account, world.key(name), 255, True)
        await world.store.expunge(world.other, inbox, None, 0)

    async def _convert(self, world: World, name: str, target: str, uids: UidSet) -> None:
        to = self.rng.choice(["maildir", "segments"])
        if isinstance(world.store, LocalStore) and world.store.commits.shards[0].writer is not None:
            await convert.convert(world.store, world.account, to, lambda number: None)

    async def _rebuild(self, world: World, name: str, target: str, uids: UidSet) -> None:
        if isinstance(world.store, LocalStore) and self.rng.random() < 0.3:
            await rebuild_account.rebuild(world.store, world.account)
            world.seen.clear()  # the log begins anew

    async def _outside(self, world: World, name: str, target: str, uids: UidSet) -> None:
        """Another program puts a message into a Maildir, changes the name of one, or removes one."""
        what, message = self.rng.choice(["put", "flag", "remove"]), self.message()
        key = world.key(name)
        if not isinstance(world.store, LocalStore) or world.store.commits.shards[0].writer is not None:
            if what == "put":
                await world.store.append(
                    world.account, key, [NewMessage(message.content, message.summary, message.size, 1)]
                )
            elif what == "flag":
                await world.store.store(world.account, key, uids, 0, 2, [])
            else:
                await world.store.expunge(world.account, key, uids, 0)
            return
        store, place = world.store, folder(home_of(world.account), name)
        await store._tidier.close()
        await self._finish_names(store, world.account, key)
        if what == "put":
            path = os.path.join(place, "cur", f"1.{self.count}.elsewhere:2,")
            Path(path).write_bytes(b"".join(message.content))
        else:
            with store.snapshot(world.account) as snapshot:
                marked = snapshot.marks(key, uids)
            for one in marked.values():
                path = os.path.join(place, {"n": "new", "c": "cur"}[chr(one[0])], os.fsdecode(one[1:]))
                base = os.path.basename(path).partition(":")[0]
                if what == "flag":
                    os.rename(path, os.path.join(place, "cur", base + ":2,R"))
                else:
                    os.unlink(path)
        await store.follower.sync(world.account, key, force=True)

    async def _finish_names(self, store: LocalStore, account: Account, key: bytes) -> None:
        while await store._tidier._tidy(account, key):
            pass


async def play(store: Store, place: Path, seed: int) -> None:
    memory = MemoryStore()
    worlds = []
    for one, where in ((store, place / "mail"), (memory, Path())):
        await one.start()
        world = World(one, housed(1, "a@x.test", str(where / "a")), housed(2, "b@x.test", str(where / "b")))
        await one.open(world.account)
        await one.open(world.other)
        one.watch(world.account, (1).to_bytes(8, "big") + EVERYTHING, lambda world=world: world.rung.append(1))  # type: ignore[misc]
        worlds.append(world)
    work = Work(worlds, random.Random(seed))
    try:
        assert [world.check() for world in worlds] == [{}, {}]
        for _ in range(STEPS):
            before = [(len(world.rung), world.look()[0].modseq) for world in worlds]
            await work.step()
            ours, theirs = [world.check() for world in worlds]
            assert ours == theirs
            for world, (rung, modseq) in zip(worlds, before, strict=True):
                assert world.seen[-1].modseq == modseq or len(world.rung) > rung, "its watcher was not told"
        if isinstance(store, LocalStore):
            raw(store)
    finally:
        await store.close()


def raw(store: LocalStore) -> None:
    """The rows themselves, when nothing is on its way."""
    shard = store.commits.shards[0]
    account = layout.account_key(1)
    with shard.env.read() as txn:
        t = shard.tables
        row, counted = account_log.read(txn, t, account), account_log.count(txn, t, account, everything=True)
        for name in ("octets", "messages", "mailboxes", "summaries", "notes"):
            assert getattr(row, name) == getattr(counted, name), name
        logged = [(len(at) + len(value)) for at, value in walk.rows(txn, t.alog, account)]
        assert row.logged == sum(logged)
        for table in (t.place, t.member):
            assert sum(1 for _ in walk.rows(txn, table, account)) == row.messages


@pytest.mark.parametrize("kind", ["maildir", "segments"])
@pytest.mark.parametrize("seed", seeds(12))
def test_the_log_says_what_happened(kind: str, seed: int, tmp_path: Path) -> None:
    asyncio.run(play(local_store(str(tmp_path / "data"), kind=kind), tmp_path, seed))
