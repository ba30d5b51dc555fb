"""The account's row and log: an index of an earlier version, threads of messages that come quickly one after the other,
what is trimmed, and what a repair makes of damaged rows."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import identity
from fastmail.message.identity import ident
from fastmail.store.interface import Account, Delivery, Holding, Kind, NewMessage
from fastmail.store.local.index import account_log, box_rows, layout, upkeep, walk, weight
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

PLACE = layout.account_key(1)
ALL = UidSet.of_ranges((1, 0xFFFFFFFE))
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def run(place: Path, scenario: Scenario) -> None:
    async def main() -> None:
        store = local_store(str(place / "data"))
        await store.start()
        try:
            account = housed(1, "a@example.test", str(place / "mail" / "a"))
            await store.open(account)
            key = store.find(account, "INBOX")
            assert key is not None
            await scenario(store, account, key)
        finally:
            await store.close()

    asyncio.run(main())


def message(*head: str) -> NewMessage:
    text = "\n".join([*head, "", "body", ""]).encode()
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1000)


def held(store: LocalStore, account: Account) -> Holding:
    with store.snapshot(account) as snapshot:
        return snapshot.holding(account.id)


def idents_of(store: LocalStore, account: Account, key: bytes) -> list[identity.Ident]:
    with store.snapshot(account) as snapshot:
        return [ident(one) for _, one in sorted((u, bytes(s)) for u, s in snapshot.summaries(key, ALL).items())]


def earlier(txn: Any, t: Any) -> None:
    """Make the index what version 2 would have written, without the tables of version 3."""
    row = account_log.read(txn, t, PLACE)
    for table in (t.acct, t.alog, t.place, t.member, t.thread):
        walk.clear(txn, table, b"")
    txn.put(weight.NAME + PLACE, weight.ROW.pack(row.summaries, row.notes), db=t.meta)
    for at, value in list(txn.cursor(db=t.msg).iternext()):
        stored = layout.summary_of(value)
        end = len(stored) - identity.TRAIL.size
        txn.put(at, layout.pack_message(layout.marked_of(value), stored[:end] + ident(stored).email), db=t.msg)  # type: ignore[operator]


def test_an_index_of_an_earlier_version_is_counted_by_the_first_write(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message("Message-ID: <a@x>"), message("In-Reply-To: <a@x>")])
        await store.annotate(account, key, {b"/private/comment": b"x" * 100})
        before, names = held(store, account), idents_of(store, account, key)
        await store.commits.submit(account, earlier)
        now = held(store, account)
        assert (now.octets, now.messages, now.mailboxes, now.kept) == (before.octets, 2, 6, 116)
        assert now.low == now.modseq, "nothing before is remembered"
        with store.snapshot(account) as snapshot:
            assert snapshot.places(1, names[0].email) is snapshot.members(1, names[0].thread) is None
            assert snapshot.changes(1, now.modseq) == [] and snapshot.changes(1, now.modseq - 1) is None
        await store.deliver([Delivery(account, key, message("In-Reply-To: <a@x>"))])
        assert (held(store, account).messages, held(store, account).kept) == (3, 116)
        assert [one.thread for one in idents_of(store, account, key)] == [names[0].thread] * 3
        with store.snapshot(account) as snapshot:
            assert [(c.kind, c.uid) for c in snapshot.changes(1, now.modseq) or ()] == [(Kind.CREATED, 3)]
            assert snapshot.places(1, names[0].email) is None
        await store.expunge(account, key, UidSet.of([2]), 0)  # before it was entered
        await upkeep.fill(store.commits.shards[0])
        with store.snapshot(account) as snapshot:
            assert snapshot.places(1, names[0].email) == [(key, 1)] and snapshot.places(1, names[1].email) == []
            assert snapshot.members(1, names[0].thread) == [(key, 1), (key, 3)]
        with store.commits.shards[0].env.read() as txn:
            t = store.commits.shards[0].tables
            assert txn.get(weight.NAME + PLACE, db=t.meta) is None, "there is one row of it"

    run(tmp_path, scenario)


def test_messages_are_entered_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "FILL", 3)
    monkeypatch.setattr(upkeep, "PAUSE", 0.0)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        other = store.find(account, "Trash")
        assert other is not None
        await store.append(account, key, [message(f"Message-ID: <{n}@x>") for n in range(10)])
        await store.append(
            account, other, [message(f"In-Reply-To: <{n}@x>", f"Message-ID: <r{n}@x>") for n in range(7)]
        )
        names = {key: idents_of(store, account, key), other: idents_of(store, account, other)}
        await store.commits.submit(account, earlier)
        await store.store(account, key, UidSet.of([1]), 1, 1, [])
        await upkeep.fill(store.commits.shards[0])
        await upkeep.fill(store.commits.shards[0])
        with store.snapshot(account) as snapshot:
            for box, every in names.items():
                for uid, one in enumerate(every, 1):
                    assert snapshot.places(1, one.email) == [(box, uid)]
            for uid, one in enumerate(names[other], 1):
                assert snapshot.members(1, one.thread) == [(key, uid), (other, uid)]

    run(tmp_path, scenario)


def test_a_reply_takes_the_thread_of_what_it_names(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        async def come(*head: str) -> bytes:
            await store.deliver([Delivery(account, key, message(*head))])
            return idents_of(store, account, key)[-1].thread

        first = await come("Message-ID: <a@x>")
        assert first == identity.named(b"<a@x>"), "as every version named it"
        assert await come("Message-ID: <b@x>", "In-Reply-To: <a@x>") == first
        assert await come("Message-ID: <c@x>", "In-Reply-To: <b@x>") == first, "by what it names, not by itself"
        assert await come("Message-ID: <d@x>", "References: <z@x> <c@x>") == first, "the nearest decides"
        other = await come("Message-ID: <e@x>", "References: <y@x> <w@x>")
        assert other == identity.named(b"<y@x>"), "nobody knows what it names"
        assert await come("Message-ID: <f@x>", "References: <v@x> <a@x> <unknown@x>") == first
        assert await come("Message-ID: <g@x>", "References: <a@x> <e@x>") == other, "threads are never merged"
        assert await come("Message-ID: <w@x>") == identity.named(b"<w@x>"), "nor does one change that came early"
        assert await come("Subject: none") not in (first, other)
        assert await come("Message-ID: <b@x>", "Subject: again") == first, "the same message once more"

    run(tmp_path, scenario)


def test_a_reply_takes_the_thread_of_what_is_appended_with_it(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        every = [
            message("Message-ID: <a@x>"),
            message("Message-ID: <b@x>", "In-Reply-To: <a@x>"),
            message("Message-ID: <c@x>", "In-Reply-To: <b@x>"),
            message("Message-ID: <d@x>"),
        ]
        await store.append(account, key, every)
        first, other = identity.named(b"<a@x>"), identity.named(b"<d@x>")
        assert [one.thread for one in idents_of(store, account, key)] == [first, first, first, other]
        with store.snapshot(account) as snapshot:
            assert snapshot.members(1, first) == [(key, 1), (key, 2), (key, 3)]
            told = snapshot.changes(1, snapshot.holding(1).modseq - 1)
            assert told is not None and [one.uid for one in told] == [1, 2, 3, 4]

    run(tmp_path, scenario)


def test_a_thread_is_forgotten_with_its_last_message(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        every = [message("Message-ID: <a@x>"), message("Message-ID: <b@x>", "In-Reply-To: <a@x>")]
        await store.append(account, key, every)
        trash = store.find(account, "Trash")
        assert trash is not None
        await store.copy(account, key, UidSet.of([2]), trash)
        await store.expunge(account, key, None, 0)
        await store.append(account, key, [message("Message-ID: <c@x>", "In-Reply-To: <b@x>")])
        await store.expunge(account, trash, None, 0)
        await store.expunge(account, key, None, 0)
        await store.append(account, key, [message("Message-ID: <d@x>", "In-Reply-To: <b@x>")])
        shard = store.commits.shards[0]
        with shard.env.read() as txn:
            t = shard.tables
            assert [len(list(walk.rows(txn, table, PLACE))) for table in (t.place, t.member, t.thread)] == [1, 1, 1]
        assert idents_of(store, account, key)[0].thread == identity.named(b"<b@x>")

    run(tmp_path, scenario)


def test_what_is_old_is_trimmed(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        shard = store.commits.shards[0]
        await store.append(account, key, [message()] * 20)
        state = held(store, account).modseq
        await store.store(account, key, UidSet.of([1]), 1, 1, [])

        def age(txn: Any, t: Any) -> None:
            for at, value in list(walk.rows(txn, t.alog, PLACE)):
                if int.from_bytes(at[8:16], "big") <= state:
                    txn.put(at, account_log.HEAD.pack(1, 1000) + bytes(value[account_log.HEAD.size :]), db=t.alog)

        await store.commits.submit(account, age)
        await upkeep.trim(shard, int(time.time()) - 100)
        with store.snapshot(account) as snapshot:
            assert snapshot.holding(1).low == state
            assert snapshot.changes(1, state - 1) is None
            assert [(c.kind, c.uid) for c in snapshot.changes(1, state) or ()] == [(Kind.CHANGED, 1)]
        await upkeep.trim(shard, int(time.time()) + 100)
        assert held(store, account).low == held(store, account).modseq
        with shard.env.read() as txn:
            row = account_log.read(txn, shard.tables, PLACE)
            assert row.logged == 0 and not list(walk.rows(txn, shard.tables.alog, PLACE))

    run(tmp_path, scenario)


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_log, "MOST", 2000)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()])
        shard = store.commits.shards[0]
        for n in range(100):
            await store.store(account, key, UidSet.of([1]), 1 if n % 2 else -1, 1, [])
            await store.store(account, key, UidSet.of([1]), 1, 2 if n % 2 else 4, [])
            with shard.env.read() as txn:
                row = account_log.read(txn, shard.tables, PLACE)
                sizes = [len(at) + len(value) for at, value in walk.rows(txn, shard.tables.alog, PLACE)]
                assert row.logged == sum(sizes) <= 2000
        with store.snapshot(account) as snapshot:
            low, now = snapshot.holding(1).low, snapshot.holding(1).modseq
            assert low > 50 and snapshot.changes(1, low - 1) is None
            found = snapshot.changes(1, low)
            assert found is not None and [(c.modseq, c.kind, c.uid) for c in found] == [(now, Kind.CHANGED, 1)], "once"
        with shard.env.read() as txn:
            every = account_log.entries(txn, shard.tables, PLACE, low)
            assert [entry.modseq for entry in every] == list(range(low + 1, now + 1))

    run(tmp_path, scenario)


def test_a_long_change_has_several_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_log, "PART_OCTETS", 100)
    monkeypatch.setattr(account_log, "PART_ITEMS", 4)

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        before = held(store, account).modseq
        await store.append(account, key, [message()] * 50)
        await store.store(account, key, UidSet.of(range(1, 50, 2)), 1, 1, [])
        await store.expunge(account, key, None, 1)
        with store.snapshot(account) as snapshot:
            found = snapshot.changes(1, before)
            assert found is not None
            told = [(c.modseq - before, c.kind, c.uid) for c in found]
        odd = list(range(1, 50, 2))
        assert told == [
            *((1, Kind.CREATED, uid) for uid in range(1, 51)),
            *((2, Kind.CHANGED, uid) for uid in odd),
            *((3, Kind.REMOVED, uid) for uid in odd),
        ]
        marks = {c.uid: c.email for c in found if c.kind is Kind.CREATED}
        assert all(c.email == marks[c.uid] for c in found)

    run(tmp_path, scenario)


def test_a_move_is_one_change(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()] * 3)
        trash = store.find(account, "Trash")
        assert trash is not None
        before = held(store, account)
        await store.copy(account, key, UidSet.of([1, 3]), trash, move=True)
        with store.snapshot(account) as snapshot:
            found = snapshot.changes(1, before.modseq)
            assert found is not None and {c.modseq for c in found} == {before.modseq + 1}
            assert snapshot.holding(1) == Holding(
                before.modseq + 1, before.octets, before.messages, before.mailboxes, before.kept, before.low
            )
            records = [r for box in (key, trash) for page in snapshot.pages(box) for r in pages.records(page)]
            assert [r[2] - before.modseq for r in records] == [0, 1, 1]

    run(tmp_path, scenario)


@pytest.mark.parametrize("damage", ["gone", "short", "wrong"])
def test_a_repair_counts_again(tmp_path: Path, damage: str) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message("Message-ID: <a@x>"), message("In-Reply-To: <a@x>")])
        await store.annotate(account, key, {b"/private/comment": b"x" * 100})
        right = held(store, account)

        def spoil(txn: Any, t: Any) -> None:
            row = account_log.read(txn, t, PLACE)
            for table in (t.place, t.member, t.thread):
                walk.clear(txn, table, b"")
            txn.put(PLACE + b"12345678" + bytes(8), b"", db=t.place)
            if damage == "gone":
                txn.delete(PLACE, db=t.acct)
            elif damage == "short":
                txn.put(PLACE, b"short", db=t.acct)
            else:
                row.octets += 7
                row.messages = row.notes = 5
                txn.put(PLACE, account_log.pack(row), db=t.acct)

        assert all(one.detail == "ok" for one in await checking.check(store, account))
        await store.commits.submit(account, spoil)
        await store.store(account, key, UidSet.of([1]), 1, 1, [])
        if damage == "wrong":
            (bad,) = [one for one in await checking.check(store, account) if one.problems]
            assert bad.mailbox == "" and "octets counted in all" in bad.detail and "EMAILIDs" in bad.detail
        assert all(one.detail == "ok" for one in await rebuild_account.rebuild(store, account))
        now = held(store, account)
        assert (now.octets, now.messages, now.mailboxes, now.kept) == (right.octets, 2, 6, right.kept)
        assert now.modseq > right.modseq and now.low == now.modseq
        with store.snapshot(account) as snapshot:
            names = idents_of(store, account, key)
            assert snapshot.members(1, names[0].thread) == [(key, 1), (key, 2)]
            assert snapshot.places(1, b"12345678") == []

    run(tmp_path, scenario)


def test_an_account_that_returns_gives_no_modseq_again(tmp_path: Path) -> None:
    """As after a restore from a backup."""

    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message("Message-ID: <a@x>")])
        before = held(store, account)
        await store.forget(account, returns=True)
        assert held(store, account).messages == held(store, account).mailboxes == 0
        await store.open(account)
        inbox = store.find(account, "INBOX")
        assert inbox is not None
        await store.append(account, inbox, [message("Message-ID: <a@x>")])
        now = held(store, account)
        with store.snapshot(account) as snapshot:
            assert min(box.modseq for box in snapshot.boxes(1)) > before.modseq
            assert snapshot.changes(1, before.modseq) is None and now.messages == 1
            assert len(snapshot.members(1, identity.named(b"<a@x>")) or ()) == 1

    run(tmp_path, scenario)


def test_a_removed_account_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message("Message-ID: <b@x>", "In-Reply-To: <a@x>")])
        await store.forget(account)
        shard = store.commits.shards[0]
        with shard.env.read() as txn:
            t = shard.tables
            for table in (t.acct, t.alog, t.place, t.member, t.thread):
                assert not list(txn.cursor(db=table).iternext())

    run(tmp_path, scenario)


def test_a_recovery_puts_the_account_above_what_was_seen(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        shard = store.commits.shards[0]
        await store.append(account, key, [message("Message-ID: <a@x>")] * 20)
        await store.deliver([Delivery(account, key, message("Message-ID: <b@x>"))])
        seen = held(store, account).modseq
        object.__setattr__(shard, "tables", shard.tables._replace(recovered=1))
        before = held(store, account)
        assert before.modseq >= before.low > account_log.MODSEQS_ABOVE > seen
        with store.snapshot(account) as snapshot:
            assert snapshot.changes(1, seen) is None, "of what was lost the log tells nothing"
        for n in range(3):
            (placed,) = await store.deliver([Delivery(account, key, message("Message-ID: <c@x>"))])
            assert seen + account_log.MODSEQS_ABOVE < placed.modseq < seen + account_log.MODSEQS_ABOVE + 10, n
            assert placed.uids[0] >= 22 + box_rows.UIDS_ABOVE
        after = held(store, account)
        assert after.modseq == placed.modseq and after.messages == 24
        assert after.low >= before.low
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and box.modseq == placed.modseq
            assert snapshot.changes(1, after.low - 1) is None
            told = snapshot.changes(1, after.low)
            assert told is not None and [one.uid for one in told] == list(range(placed.uids[0] - 2, placed.uids[0] + 1))
        other = store.find(account, "Sent")
        assert other is not None
        done = await store.copy(account, key, UidSet.of([1]), other)
        assert done.target.modseq > placed.modseq
        await store.expunge(account, key, UidSet.of([1]), 0)
        with shard.env.read() as txn:
            assert not account_log.problems(txn, shard.tables, PLACE)

    run(tmp_path, scenario)
