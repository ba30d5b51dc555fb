"""Messages that an earlier version had in its table ``new``: put in place by the first who opens the index, once each,
wherever they were (in the table, or only in the journal), and whenever that is cut short."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import idents, mime, pages
from fastmail.durable.env import Environment
from fastmail.durable.layouts import layout_of
from fastmail.durable.opening import Journaled
from fastmail.message.identity import TRAIL, named
from fastmail.store.interface import Account, Delivery, Kind, NewMessage
from fastmail.store.local.index import account_log, former_arrivals, layout, object_ids
from fastmail.store.local.index.layout import TABLES
from fastmail.store.local.index.shard import FORMER, open_index
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store
from tests.support.journals import crashed

OLD_TABLES = [*TABLES[:2], former_arrivals.TABLE, *TABLES[2:]]
MAP = 1 << 26


def account_in(place: Path) -> Account:
    return housed(1, "a@example.test", str(place / "mail"))


def store_in(place: Path, kind: str = "maildir") -> LocalStore:
    account = account_in(place)
    return local_store(str(place), kind=kind, map_size=MAP, resolve=lambda number: account if number == 1 else None)


def text(n: int) -> bytes:
    head = f"Message-ID: <{n}@x>\n" + (f"In-Reply-To: <{n - 1}@x>\n" if n % 2 else "")
    return f"Subject: {n}\n{head}\nbody {n}\n".encode()


def message(n: int) -> NewMessage:
    return NewMessage((text(n),), mime.scan(text(n)), mime.served_size(text(n)), 1000 + n)


@dataclass
class Layout3:
    """An index as version 3 left it, in ``place``: two mailboxes with messages in their pages, and others in ``new``.
    ``expected``: of each mailbox {UID: (number of the message, MODSEQ, flags)}; ``logged``: what the log will say."""

    place: Path
    boxes: dict[str, bytes] = field(default_factory=dict)
    expected: dict[str, dict[int, tuple[int, int, int]]] = field(default_factory=dict)
    logged: list[tuple[int, str, int]] = field(default_factory=list)
    threads: dict[int, bytes] = field(default_factory=dict)
    since: int = 0
    number: int = 0  # of the last row of new

    def make(self) -> None:
        """What is in pages."""

        async def work() -> None:
            store = store_in(self.place)
            account = account_in(self.place)
            await store.start()
            await store.open(account)
            for name in ("INBOX", "Archive"):
                key = self.boxes[name] = store.find(account, name) or b""
                for n in range(3):
                    (placed,) = await store.deliver([Delivery(account, key, message(n))])
                    self.expected.setdefault(name, {})[placed.uids[0]] = (n, placed.modseq, 0)
            with store.snapshot(account) as snapshot:
                self.since = snapshot.holding(1).modseq
            await store.close()

        asyncio.run(work())
        env = Environment(self.index, [*TABLES, former_arrivals.TABLE], layout.LAYOUT, MAP)
        with env.write() as txn:
            txn.put(b"layout", b"3", db=env.db["meta"])
            for key in self.boxes.values():  # rows that are settled and not trimmed yet
                row = bytearray(txn.get(layout.row_key(key), db=env.db["page"]))
                page = txn.get(layout.page_key(key, 1), db=env.db["page"])
                self.number += 1
                row[52:60] = self.number.to_bytes(8, "little")
                txn.put(layout.row_key(key), bytes(row), db=env.db["page"])
                record = pages.pack(*pages.records(page)[-1])
                value = txn.get(layout.uid_key(key, 3), db=env.db["msg"])
                txn.put(self.number.to_bytes(8, "big"), key + record + value, db=env.db["new"])
        env.close()

    @property
    def index(self) -> str:
        return str(self.place / "index-0")

    def open(self) -> Environment:
        """As that version had it open."""
        return Environment(self.index, OLD_TABLES, 3, MAP, journaled=Journaled(str(self.place)))

    def arrive(self, env: Environment, name: str, numbers: list[int], flags: int = 0) -> None:
        """One commit of that version: messages of one operation, with one MODSEQ."""
        txn = env.begin(write=True)
        try:
            modseq = max([self.since, *(one[0] for one in self.logged)]) + 1
            for n in numbers:
                self._arrive(txn, env.db, name, n, flags, modseq)
            txn.commit()
        finally:
            txn.abort()
        env.sync()

    def _arrive(self, txn: Any, db: dict[str, Any], name: str, n: int, flags: int, modseq: int) -> None:
        key, made = self.boxes[name], message(n).summary
        uid = max(self.expected[name]) + 1
        own = named(idents.named(made)[0])
        thread = self.threads.setdefault(n, named(b"<%d@x>" % (n - n % 2)))
        stored = made + TRAIL.pack(n.to_bytes(4, "little") + key[8:], modseq, thread, own)
        file = b"%d.M1P1.host" % (1000 * int.from_bytes(key[8:], "big") + n)
        folder = self.place / "mail" / ("" if name == "INBOX" else ".Archive") / "new"
        (folder / os.fsdecode(file)).write_bytes(text(n))
        txn.made(os.fsencode(folder) + b"/" + file, 1000 + n, [text(n)])
        if own != thread and txn.get(key[:8] + own, db=db["thread"]) is None:
            txn.put(key[:8] + own, object_ids.THREAD.pack(thread, 0), db=db["thread"])
        self.number += 1
        record = pages.pack(uid, flags, modseq, 0, 1000 + n, message(n).size, 7)
        txn.put(self.number.to_bytes(8, "big"), key + record + layout.pack_message(b"n" + file, stored), db=db["new"])
        self.expected[name][uid] = n, modseq, flags
        self.logged.append((modseq, name, uid))

    def check(self, place: Path) -> None:
        """All of it is there, once."""
        asyncio.run(self._check(place))
        assert layout_of(str(place / "index-0")) == (layout.LAYOUT, {*TABLES, "meta"})

    async def _check(self, place: Path) -> None:
        account, store = account_in(place), store_in(place)
        await store.start()
        t = store.commits.shards[0].tables
        for name, rows in self.expected.items():
            key = self.boxes[name]
            with store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                records = [r for page in snapshot.pages(key) for r in pages.records(page)]
                assert box is not None and box.exists == len(rows) and box.uidnext == max(rows) + 1
                assert box.modseq == max(modseq for _, modseq, _ in rows.values())
                assert box.unseen == sum(not flags & 1 for _, _, flags in rows.values())
            assert [(r[0], r[2], r[1]) for r in records] == [(uid, rows[uid][1], rows[uid][2]) for uid in sorted(rows)]
            for uid, (n, _, _) in rows.items():
                assert await store.content(account, key, uid) == text(n)
        octets = sum(message(n).size for rows in self.expected.values() for n, _, _ in rows.values())
        with store.snapshot(account) as snapshot:
            held = snapshot.holding(1)
            assert (held.octets, held.messages) == (octets, sum(map(len, self.expected.values())))
            for n, thread in self.threads.items():
                there = {
                    (self.boxes[b], u) for b, rows in self.expected.items() for u, one in rows.items() if one[0] == n
                }
                assert there <= set(snapshot.members(1, thread) or ())
                assert len(snapshot.members(1, thread) or ()) == len(set(snapshot.members(1, thread) or ()))
        with store.commits.shards[0].env.read() as txn:
            told = account_log.told(account_log.entries(txn, t, layout.account_key(1), self.since), self.since)
            assert account_log.problems(txn, t, layout.account_key(1)) == []
        boxes = {key: name for name, key in self.boxes.items()}
        assert [(one.modseq, boxes[one.key], one.uid) for one in told] == sorted(self.logged)
        assert {one.kind for one in told} <= {Kind.CREATED}
        assert all(one.detail == "ok" for one in await checking.check(store, account))
        (placed,) = await store.deliver([Delivery(account, self.boxes["INBOX"], message(99))])
        assert placed.uids[0] > max(self.expected["INBOX"]) and placed.modseq > held.modseq - 1
        with store.snapshot(account) as snapshot:
            assert snapshot.holding(1).messages == held.messages + 1
        await store.close()


@pytest.fixture
def old(tmp_path: Path) -> Layout3:
    made = Layout3(tmp_path / "one")
    made.place.mkdir()
    made.make()
    return made


def moved(old: Layout3, where: Path) -> Path:
    """The directory alone, under another name: nobody has it open."""
    shutil.rmtree(old.place)
    where.rename(old.place)
    return old.place


def test_after_a_clean_stop(old: Layout3) -> None:
    """Nearly always there is nothing but what counts no more; settling may have failed."""
    env = old.open()
    old.arrive(env, "INBOX", [3, 4, 5])
    old.arrive(env, "Archive", [6], flags=1)
    env.close()
    old.check(old.place)


def test_what_counts_no_more_is_dropped(old: Layout3) -> None:
    env = old.open()
    env.close()
    old.check(old.place)


@pytest.mark.parametrize("files", ["there", "gone"])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_after_a_kill(old: Layout3, tmp_path: Path, checkpoint: bool, files: str) -> None:
    """Some are in the table as the last checkpoint has it, some only in the journal; of these the files may be gone."""
    env = old.open()
    for n in range(3, 40):  # over the end of a page
        old.arrive(env, "INBOX" if n % 3 else "Archive", [n], flags=n % 2)
        if checkpoint and n == 20:
            env.checkpoint()
    old.arrive(env, "INBOX", [40, 41, 42])
    crashed(old.place, tmp_path / "copy")
    env.close()
    place = moved(old, tmp_path / "copy")
    if files == "gone":
        for n in range(21, 43):
            for path in place.glob(f"mail/**/new/?0{n:02}.*"):
                path.unlink()
    old.check(place)


@contextmanager
def killed_after(count: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the transaction behind so many."""
    convert, calls = former_arrivals.convert, 0

    class Killed(BaseException):
        pass

    def counted(*args: Any) -> bool:
        nonlocal calls
        calls += 1
        done = convert(*args)
        if calls > count:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        former = tuple(type(one)(one.tables, counted if one.convert is convert else one.convert) for one in FORMER)
        patch.setattr("fastmail.store.local.index.shard.FORMER", former)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("clean", [True, False])
def test_it_is_cut_short_anywhere(old: Layout3, tmp_path: Path, clean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_arrivals, "BATCH", 2)
    env = old.open()
    for n in range(3, 12):
        old.arrive(env, "INBOX" if n % 2 else "Archive", [n])
    old.arrive(env, "INBOX", [12, 13, 14])
    if clean:
        env.close()
        shutil.copytree(old.place, tmp_path / "copy")
    else:
        crashed(old.place, tmp_path / "copy")
        env.close()
    for count in range(7):
        shutil.rmtree(old.place)
        shutil.copytree(tmp_path / "copy", old.place)
        with killed_after(count, monkeypatch):
            open_index(str(old.place), 0, MAP, None)
        assert layout_of(old.index)[0] == 3, "an older version goes on where it was"
        old.check(old.place)


def test_a_mailbox_that_was_removed_takes_nothing(old: Layout3) -> None:
    env = old.open()
    old.arrive(env, "INBOX", [3])
    old.arrive(env, "Archive", [4])
    with env.write() as txn:
        old.number += 1
        row = txn.get((old.number - 1).to_bytes(8, "big"), db=env.db["new"])
        nowhere = layout.mailbox_key(1, 77)
        txn.put(old.number.to_bytes(8, "big"), nowhere + row[12:], db=env.db["new"])
        txn.put((old.number + 1).to_bytes(8, "big"), bytes(54), db=env.db["new"])  # of no mailbox: the highest number
        txn.put((old.number + 2).to_bytes(8, "big"), b"short", db=env.db["new"])
    env.close()
    old.check(old.place)
