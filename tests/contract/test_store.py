"""One suite for every store: what interface.Store promises, over the memory and the local backend."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail._core import idents, mime, pages
from fastmail._core.uidset import UidSet
from fastmail.message import identity, summary, transaction
from fastmail.message.identity import email_id, ident
from fastmail.message.preview import scanned
from fastmail.model.errors import CannotDo, CorruptData, MailboxExists, NoSuchMailbox, TooMuch
from fastmail.model.flags import DELETED, FLAGGED, SEEN
from fastmail.model.keys import EVERYTHING
from fastmail.store.interface import Account, Delivery, Kind, NewMessage, Origin, Store
from fastmail.store.local.maildir import looking
from fastmail.store.local.store import LocalStore
from fastmail.store.memory.store import MemoryStore
from tests.support.homes import housed, local_store

TEXT = b"Subject: hello\n\nbody\n"
Scenario = Callable[[Store, Account], Awaitable[None]]


@asynccontextmanager
async def opened(kind: str, path: Path) -> AsyncIterator[Store]:
    store: Store = MemoryStore() if kind == "memory" else local_store(str(path / "data"), kind=kind)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["memory", "maildir", "segments"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Scenario], None]:
    def go(scenario: Scenario) -> None:
        async def main() -> None:
            async with opened(request.param, tmp_path) as store:
                account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
                await store.open(account)
                await scenario(store, account)

        asyncio.run(main())

    return go


def message(text: bytes = TEXT, flags: int = 0, keywords: tuple[bytes, ...] = (), date: int = 1000) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), date, flags, keywords)


def queued(account: Account, key: bytes, number: int, hold: bytes = b"", text: bytes = TEXT) -> Delivery:
    """What has this number in the queue."""
    return Delivery(account, key, message(text), transaction.make(number, b""), hold, again=True)


def inbox(store: Store, account: Account) -> bytes:
    key = store.find(account, "INBOX")
    assert key is not None
    return key


def uids(store: Store, account: Account, key: bytes) -> list[int]:
    with store.snapshot(account) as snapshot:
        return [r[0] for page in snapshot.pages(key) for r in pages.records(page)]


def row(store: Store, account: Account, key: bytes):
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
        assert box is not None
        return box


def test_a_new_account_has_its_folders(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        listing = await store.listing(account)
        names = {box.name: box.special for box in listing.mailboxes}
        assert names == {"INBOX": 0, "Drafts": 1, "Sent": 2, "Trash": 4, "Junk": 8, "Archive": 16}
        assert listing.subscribed == set(names)

    run(scenario)


def test_append_gives_ascending_uids_and_counts(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        first = await store.append(account, key, [message(), message(flags=SEEN)])
        second = await store.append(account, key, [message(flags=DELETED)])
        assert (first.uids, second.uids) == ([1, 2], [3])
        box = row(store, account, key)
        assert (box.exists, box.unseen, box.deleted, box.uidnext) == (3, 2, 1, 4)
        assert box.octets == 3 * mime.served_size(TEXT)
        assert box.uidvalidity == first.uidvalidity
        assert second.modseq > first.modseq

    run(scenario)


def test_content_comes_back(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message(b"A: 1\n\none\n"), message(b"A: 2\n\ntwo\n")])
        assert await store.content(account, key, 2) == b"A: 2\n\ntwo\n"
        assert await store.content(account, key, 9) is None

    run(scenario)


def test_store_flags_in_all_modes(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message(), message()])
        both = UidSet.of([1, 2])
        added = await store.store(account, key, both, 1, SEEN, [b"$Work"])
        assert list(added.changed) == [1, 2]
        assert row(store, account, key).unseen == 0
        again = await store.store(account, key, UidSet.of([1]), 1, SEEN, [])
        assert (list(again.changed), list(again.same)) == ([], [1])
        assert again.modseq == added.modseq
        await store.store(account, key, UidSet.of([1]), -1, SEEN, [b"$WORK"])
        await store.store(account, key, UidSet.of([2]), 0, FLAGGED, [])
        with store.snapshot(account) as snapshot:
            records = [r for page in snapshot.pages(key) for r in pages.records(page)]
            assert snapshot.keywords(key) == [b"$Work"]
        assert [(r[1], r[3]) for r in records] == [(0, 0), (FLAGGED, 0)]

    run(scenario)


def test_unchanged_since_refuses(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        appended = await store.append(account, key, [message(), message()])
        await store.store(account, key, UidSet.of([1]), 1, SEEN, [])
        result = await store.store(account, key, UidSet.of([1, 2]), 1, FLAGGED, [], appended.modseq)
        assert (list(result.changed), list(result.refused)) == ([2], [1])

    run(scenario)


def test_keywords_end_at_sixty_four(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message()])
        one = UidSet.of([1])
        await store.store(account, key, one, 1, 0, [b"k%d" % n for n in range(64)])
        with pytest.raises(TooMuch):
            await store.store(account, key, one, 1, 0, [b"more"])
        await store.store(account, key, one, 1, SEEN, [])
        assert row(store, account, key).unseen == 0

    run(scenario)


def test_expunge_remembers_and_never_reuses(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message() for _ in range(5)])
        since = row(store, account, key).modseq
        await store.store(account, key, UidSet.of([2, 4, 5]), 1, DELETED, [])
        gone = await store.expunge(account, key, UidSet.of([1, 2, 5]), DELETED)
        assert list(gone.uids) == [2, 5]
        assert uids(store, account, key) == [1, 3, 4]
        with store.snapshot(account) as snapshot:
            assert list(snapshot.expunged(key, since)) == [2, 5]
            assert not snapshot.expunged(key, gone.modseq)
        assert (await store.append(account, key, [message()])).uids == [6]
        rest = await store.expunge(account, key, None, DELETED)
        assert list(rest.uids) == [4]
        assert not (await store.expunge(account, key, None, DELETED)).uids

    run(scenario)


def test_copy_and_move_keep_flags_and_dates(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key, target = inbox(store, account), store.find(account, "Archive")
        assert target is not None
        await store.append(account, key, [message(flags=SEEN, keywords=(b"x",), date=77), message(b"B: 2\n\n2\n")])
        copied = await store.copy(account, key, UidSet.of([1, 2, 9]), target)
        assert (copied.source, copied.target.uids) == ([1, 2], [1, 2])
        moved = await store.copy(account, key, UidSet.of([2]), target, move=True)
        assert moved.target.uids == [3]
        assert moved.expunged is not None and list(moved.expunged.uids) == [2]
        assert uids(store, account, key) == [1]
        with store.snapshot(account) as snapshot:
            record = next(r for page in snapshot.pages(target) for r in pages.records(page))
            assert (record[1], record[4]) == (SEEN, 77)
            assert snapshot.keywords(target) == [b"x"]
            assert snapshot.summaries(target, UidSet.of([3]))
        assert await store.content(account, target, 3) == b"B: 2\n\n2\n"

    run(scenario)


def test_copies_keep_the_identity_of_a_message(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message()])
        await store.append(account, key, [message() for _ in range(20)])
        target = store.find(account, "Archive")
        assert target is not None
        await store.copy(account, key, UidSet.of([1, 21]), target)
        with store.snapshot(account) as snapshot:
            here = {uid: email_id(data) for uid, data in snapshot.summaries(key, UidSet.of_ranges((1, 21))).items()}
            there = {uid: email_id(data) for uid, data in snapshot.summaries(target, UidSet.of_ranges((1, 2))).items()}
        assert len(set(here.values())) == 21
        assert there == {1: here[1], 2: here[21]}

    run(scenario)


def test_mailboxes_are_made_renamed_and_removed(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        await store.create(account, "Work/2026/May")
        assert store.find(account, "Work/2026") is not None
        with pytest.raises(MailboxExists):
            await store.create(account, "Work")
        key = store.find(account, "Work/2026/May")
        assert key is not None
        await store.append(account, key, [message()])
        await store.rename(account, "Work", "Old/Jobs")
        assert store.find(account, "Old/Jobs/2026/May") == key
        assert store.find(account, "Work") is None
        assert await store.content(account, key, 1) == TEXT
        with pytest.raises(CannotDo):
            await store.rename(account, "Old", "Old/Deeper")
        await store.delete(account, "Old/Jobs/2026/May")
        assert store.find(account, "Old/Jobs/2026/May") is None
        assert store.find(account, "Old/Jobs/2026") is not None
        with pytest.raises(NoSuchMailbox):
            await store.delete(account, "Nothing")
        with pytest.raises(CannotDo):
            await store.delete(account, "INBOX")

    run(scenario)


def test_a_new_mailbox_of_an_old_name_has_a_higher_uidvalidity(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        await store.create(account, "Again")
        key = store.find(account, "Again")
        assert key is not None
        old = row(store, account, key).uidvalidity
        await store.delete(account, "Again")
        await store.create(account, "Again")
        key = store.find(account, "Again")
        assert key is not None and row(store, account, key).uidvalidity > old

    run(scenario)


def test_renaming_inbox_moves_its_messages(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message()])
        await store.rename(account, "INBOX", "Before")
        assert inbox(store, account) == key and uids(store, account, key) == []
        moved = store.find(account, "Before")
        assert moved is not None and await store.content(account, moved, 1) == TEXT

    run(scenario)


def test_subscriptions_need_no_mailbox(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        await store.subscribe(account, "Not/There", True)
        await store.subscribe(account, "Junk", False)
        subscribed = (await store.listing(account)).subscribed
        assert "Not/There" in subscribed and "Junk" not in subscribed

    run(scenario)


def test_recent_is_given_once(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message(), message()])
        assert await store.take_recent(account, key) == (1, 3)
        assert await store.take_recent(account, key) == (0, 0)
        await store.append(account, key, [message()])
        assert await store.take_recent(account, key) == (3, 4)

    run(scenario)


def test_watchers_hear_of_every_commit(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        heard: list[int] = []

        def ring() -> None:
            heard.append(row(store, account, key).modseq)

        store.watch(account, key, ring)
        await store.append(account, key, [message()])
        await store.store(account, key, UidSet.of([1]), 1, SEEN, [])
        assert heard and heard[-1] == row(store, account, key).modseq
        store.unwatch(account, key, ring)
        count = len(heard)
        await store.append(account, key, [message()])
        assert len(heard) == count

    run(scenario)


def test_delivery_is_all_or_none(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.deliver([Delivery(account, key, message()), Delivery(account, key, message())])
        assert uids(store, account, key) == [1, 2]
        bad = key[:11] + b"\xff"
        with pytest.raises(NoSuchMailbox):
            await store.deliver([Delivery(account, key, message()), Delivery(account, bad, message())])
        assert uids(store, account, key) == [1, 2]

    run(scenario)


def test_many_at_once_stay_apart(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        results = await asyncio.gather(*(store.append(account, key, [message(b"N: %d\n\n" % n)]) for n in range(40)))
        given = [r.uids[0] for r in results]
        assert sorted(given) == list(range(1, 41))
        for n, uid in enumerate(given):
            assert await store.content(account, key, uid) == b"N: %d\n\n" % n

    run(scenario)


def test_presence_above_a_uid(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message() for _ in range(70)])
        await store.expunge(account, key, UidSet.of([3, 40, 70]), 0)
        with store.snapshot(account) as snapshot:
            assert UidSet().plus_pages(snapshot.presence(key), 0).octets() == b"1:2,4:39,41:69"
            assert UidSet().plus_pages(snapshot.presence(key, 50), 50).octets() == b"51:69"

    run(scenario)


def test_content_is_held_for_mailboxes_and_others(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        hold = await store.holds.keep(account, message(), 77)
        other = await store.holds.keep(account, message(b"Subject: other\n\n\n"), 78)
        assert store.holds.holders() == {77, 78}
        assert await store.holds.read(hold) == TEXT
        (placed,) = await store.deliver([queued(account, key, 77, hold)])
        assert await store.content(account, key, placed.uids[0]) == TEXT
        await store.holds.let_go([77])
        await store.holds.let_go([77])
        assert store.holds.holders() == {78}
        assert await store.content(account, key, placed.uids[0]) == TEXT, "the mailbox keeps what it shared"
        if not isinstance(store, LocalStore) or store.commits.shards[0].writer is None:
            with pytest.raises(CorruptData):
                await store.holds.read(hold)
        (placed,) = await store.deliver([queued(account, key, 78, other)])
        await store.expunge(account, key, UidSet.of(placed.uids), 0)
        assert await store.holds.read(other) == b"Subject: other\n\n\n", "the holder keeps what the mailbox lost"
        await store.holds.let_go([78, 79])
        assert store.holds.holders() == set()

    run(scenario)


@pytest.mark.parametrize("how", ["fresh", "from the queue", "with held content"])
def test_a_delivery_with_an_id_happens_once(run, how: str) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key, trash = inbox(store, account), store.find(account, "Trash")
        assert trash is not None
        number = 1_700_000_000_000_000 << 12
        hold = await store.holds.keep(account, message(), number) if how == "with held content" else b""

        def one(key: bytes, copy: int = 0, number: int = number) -> Delivery:
            return Delivery(account, key, message(), transaction.make(number, b"salted.."), hold, how != "fresh", copy)

        assert await store.given([one(key)]) == [None]
        (first,) = await store.deliver([one(key)])
        there, again = await store.deliver([one(trash, copy=1), one(key)])
        assert again == first and again.repeated and first.uids == [1] and not first.repeated
        assert there.key == trash and there.uids == [1], "each of its copies once"
        assert (uids(store, account, key), uids(store, account, trash)) == ([1], [1])
        assert await store.deliver([one(trash)]) == [first], "another mailbox is no other delivery"
        await store.copy(account, key, UidSet.of([1]), trash, move=True)
        assert await store.deliver([one(key)]) == [first] and uids(store, account, key) == [], "moved, it stays there"
        await store.expunge(account, trash, None, 0)
        assert await store.deliver([one(key), one(trash, copy=1)]) == [first, there]
        assert uids(store, account, key) == uids(store, account, trash) == [], "what was removed does not come back"
        await store.deliver([one(key, number=number + 1)])
        assert uids(store, account, key) == [2]
        assert await store.given([one(key), one(key, 7), one(key, number=number + 2)]) == [first, None, None]
        await store.holds.let_go([number])
        assert await store.given([one(key)]) == [first], "whatever the queue does"

    run(scenario)


def test_a_delivery_whose_mailbox_is_gone_is_known_all_the_same(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        await store.create(account, "Work")
        work, key = store.find(account, "Work"), inbox(store, account)
        assert work is not None
        fresh = Delivery(account, work, message(), transaction.new_id())
        (first,) = await store.deliver([fresh])
        await store.delete(account, "Work")
        assert await store.deliver([fresh]) == await store.given([fresh]) == [first]
        assert await store.deliver([replace(fresh, key=key)]) == [first] and uids(store, account, key) == []
        with pytest.raises(NoSuchMailbox):
            await store.deliver([replace(fresh, id=transaction.new_id())])

    run(scenario)


def test_deliveries_without_an_id_are_all_kept(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        for _ in range(3):
            (placed,) = await store.deliver([Delivery(account, key, message())])
        assert placed.uids == [3] and not placed.repeated
        assert await store.given([Delivery(account, key, message())]) == [None]

    run(scenario)


def test_repeats_at_the_same_time_are_one_delivery(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        one = Delivery(account, key, message(), transaction.new_id())
        await store.append(account, key, [message()])
        results = await asyncio.gather(*(store.deliver([one, replace(one, copy=1)]) for _ in range(20)))
        assert {(a.uids[0], b.uids[0]) for a, b in results} == {(2, 3)} and uids(store, account, key) == [1, 2, 3]
        assert await store.content(account, key, 2) == TEXT
        first, second = await store.deliver([one, one])
        assert first == second == results[0][0]

    run(scenario)


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_crash_left_of_a_numbered_delivery_is_taken_up(tmp_path: Path, shared: bool) -> None:
    number = 1_700_000_000_123_456 << 12 | 7

    async def main(left: bool) -> None:
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        async with opened("maildir", tmp_path) as store:
            assert isinstance(store, LocalStore)
            await store.open(account)
            key = inbox(store, account)
            new = tmp_path / "mail" / "a" / "new"
            place = new / os.fsdecode(store.maker.numbered(number, len(TEXT), mime.served_size(TEXT)))
            if left:  # the file had its place, the index had no record
                place.write_bytes(TEXT)
            hold = await store.holds.keep(account, message(), number) if shared else b""
            await store.sync(account, key)
            assert uids(store, account, key) == [] if left else [1], "a young one may be under way"
            (placed,) = await store.deliver([queued(account, key, number, hold)])
            assert placed.uids == [1] and uids(store, account, key) == [1]
            await store.sync(account, key)
            assert uids(store, account, key) == [1] and os.listdir(new) == [place.name]
            assert await store.content(account, key, 1) == TEXT

    asyncio.run(main(True))
    asyncio.run(main(False))


def test_a_numbered_delivery_that_was_taken_in_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = 1_700_000_000_123_456 << 12 | 7

    async def main() -> None:
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        async with opened("maildir", tmp_path) as store:
            assert isinstance(store, LocalStore)
            await store.open(account)
            key = inbox(store, account)
            name = os.fsdecode(store.maker.numbered(number, len(TEXT), mime.served_size(TEXT)))
            (tmp_path / "mail" / "a" / "new" / name).write_bytes(TEXT)
            monkeypatch.setattr(looking, "UNDER_WAY", 0.0)
            monkeypatch.setattr(looking, "FIRST_LOOK", 0.0)
            await store.sync(account, key)
            assert uids(store, account, key) == [1]
            (placed,) = await store.deliver([queued(account, key, number)])
            assert placed.uids == [1] and uids(store, account, key) == [1]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_held_content_is_there_once(tmp_path: Path, kind: str) -> None:
    text = b"Subject: once\n\n" + b"x" * 70 * 1000 + b"\n"

    def octets() -> int:
        files = [path.stat() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".mdb"]
        return sum({status.st_ino: status.st_size for status in files}.values())

    async def main() -> None:
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        async with opened(kind, tmp_path) as store:
            await store.open(account)
            key = inbox(store, account)
            hold = await store.holds.keep(account, message(text), 5)
            before = octets()
            await store.deliver([queued(account, key, 5, hold, text)])
            assert octets() - before < len(text) / 2
        async with opened(kind, tmp_path) as store:
            await store.open(account)
            assert store.holds.holders() == {5}, "a hold outlives the process"
            assert await store.holds.read(hold) == text
            assert await store.content(account, key, 1) == text
            await store.holds.let_go([5])
            assert await store.content(account, key, 1) == text
        assert not list(tmp_path.glob("data/held-0/*"))

    asyncio.run(main())


def test_an_account_is_opened_whole_by_several_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
        async with opened("maildir", tmp_path) as store:

            async def one(late: float) -> bytes | None:
                await asyncio.sleep(late)
                await store.open(account)
                return store.find(account, "Archive")

            found = await asyncio.gather(*(one(n / 2000) for n in range(20)))
            assert None not in found and len(set(found)) == 1

    asyncio.run(main())


def test_annotations_change_only_from_what_is_expected(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)

        def notes() -> dict[bytes, bytes]:
            with store.snapshot(account) as snapshot:
                return {name: bytes(value) for name, value in snapshot.notes(key).items()}

        before = notes()
        assert await store.annotate(account, key, {b"/a": b"1"}, {b"/a": None})
        assert not await store.annotate(account, key, {b"/a": b"2", b"/b": b"3"}, {b"/a": None})
        assert not await store.annotate(account, key, {b"/a": b"2"}, {b"/a": b"1", b"/b": b"x"})
        assert notes() == before | {b"/a": b"1"}
        assert await store.annotate(account, key, {b"/a": None, b"/b": b"3"}, {b"/a": b"1", b"/b": None})
        assert await store.annotate(account, key, {b"/c": b"4"})
        assert notes() == before | {b"/b": b"3", b"/c": b"4"}

    run(scenario)


LONG = b"Subject: s\nX-Long: " + b"x" * 9000 + b"\n\nbody\n"


def kept(store: Store, account: Account) -> int:
    with store.snapshot(account) as snapshot:
        return snapshot.holding(account.id).kept


def test_what_is_kept_beside_messages_is_counted(run: Callable[[Scenario], None]) -> None:
    """Long summaries and annotations, through all that adds and removes them."""

    async def scenario(store: Store, account: Account) -> None:
        key, other = inbox(store, account), store.find(account, "Trash")
        assert other is not None
        await store.append(account, key, [message()])
        assert kept(store, account) == 0
        long = message(LONG)
        await store.deliver([Delivery(account, key, long)])
        one = kept(store, account)
        assert one == len(long.summary) + identity.TRAIL.size - 4096  # with what names the message
        await store.append(account, key, [message(LONG, keywords=(b"word",)) for _ in range(9)])
        assert kept(store, account) == 10 * one
        every = UidSet.of_ranges((1, 99))
        await store.copy(account, key, every, other)
        assert kept(store, account) == 20 * one
        await store.copy(account, key, UidSet.of([2]), other, True)
        assert kept(store, account) == 20 * one
        await store.store(account, key, UidSet.of([3, 4]), 1, DELETED, [])
        await store.expunge(account, key, None, DELETED)
        assert kept(store, account) == 18 * one
        await store.annotate(account, key, {b"/private/comment": b"x" * 100, b"other": b"y" * 100})
        assert kept(store, account) == 18 * one + 116
        await store.annotate(account, key, {b"/private/comment": b"x" * 10, b"/of/7/private/a": b"z"})
        assert kept(store, account) == 18 * one + 26 + 16
        await store.annotate(account, key, {b"/private/comment": None})
        await store.annotate(account, account.id.to_bytes(8, "big") + bytes(4), {b"/private/a": b"12"})
        assert kept(store, account) == 18 * one + 16 + 12
        await store.create(account, "More")
        more = store.find(account, "More")
        assert more is not None
        await store.append(account, more, [message(LONG)])
        await store.annotate(account, more, {b"/shared/comment": b"x"})
        assert kept(store, account) == 19 * one + 16 + 12 + 16
        await store.delete(account, "More")
        assert kept(store, account) == 18 * one + 16 + 12
        await store.expunge(account, key, None, 0)
        await store.expunge(account, other, None, 0)
        assert kept(store, account) == 16 + 12

    run(scenario)


def test_an_account_tells_what_it_holds_and_what_changed(run: Callable[[Scenario], None]) -> None:
    """Each operation has one MODSEQ of the account's, which the mailboxes take over."""

    async def scenario(store: Store, account: Account) -> None:
        key, trash = inbox(store, account), store.find(account, "Trash")
        assert trash is not None
        states = []

        def told() -> list[tuple[Kind, bytes, int, bytes]]:
            """What happened since the last time, all of it with one MODSEQ."""
            with store.snapshot(account) as snapshot:
                now, since = snapshot.holding(account.id), states[-1] if states else 0
                found = snapshot.changes(account.id, since)
                assert found is not None and {one.modseq for one in found} <= {since + 1}
                assert now.modseq == since + bool(found)
                assert all(snapshot.changes(account.id, state) is not None for state in states)
            states.append(now.modseq)
            return [(one.kind, one.key, one.uid, one.email) for one in found]

        opened = told()
        assert [kind for kind, *_ in opened] == [Kind.MAILBOX_CREATED] * 6 and (
            Kind.MAILBOX_CREATED,
            key,
            0,
            b"",
        ) in opened
        await store.deliver([Delivery(account, key, message())])
        with store.snapshot(account) as snapshot:
            a = ident(snapshot.summaries(key, UidSet.of([1])).get(1) or b"")
        assert told() == [(Kind.CREATED, key, 1, a.email)] and a.created == states[-1]
        done = await store.append(account, key, [message(LONG, keywords=(b"word",))])
        with store.snapshot(account) as snapshot:
            b = ident(snapshot.summaries(key, UidSet.of([2])).get(2) or b"")
        assert told() == [(Kind.CREATED, key, 2, b.email)] and done.modseq == b.created == states[-1]
        await store.store(account, key, UidSet.of([1, 2]), 1, SEEN, [])
        assert told() == [(Kind.CHANGED, key, 1, a.email), (Kind.CHANGED, key, 2, b.email)]
        await store.store(account, key, UidSet.of([1, 2]), 1, SEEN, [])
        assert told() == [], "they were so before"
        await store.store(account, key, UidSet.of([1]), 1, FLAGGED, [])
        assert told() == [(Kind.CHANGED, key, 1, a.email)]
        with store.snapshot(account) as snapshot:
            changes = snapshot.changes(account.id, states[-4]) or []
            assert [(c.modseq, c.uid) for c in changes] == [(states[-3], 2), (states[-1], 1)], "each message once"
        await store.copy(account, key, UidSet.of([1]), trash)
        assert told() == [(Kind.CREATED, trash, 1, a.email)]
        with store.snapshot(account) as snapshot:
            assert sorted(snapshot.places(account.id, a.email) or ()) == sorted([(key, 1), (trash, 1)])
            assert snapshot.members(account.id, b.thread) == [(key, 2)]
        moved = await store.copy(account, key, UidSet.of([2]), trash, move=True)
        assert told() == [(Kind.CREATED, trash, 2, b.email), (Kind.REMOVED, key, 2, b.email)]
        assert moved.expunged is not None and moved.target.modseq == moved.expunged.modseq == states[-1]
        await store.expunge(account, key, None, 0)
        assert told() == [(Kind.REMOVED, key, 1, a.email)]
        await store.create(account, "One/Two")
        one, two = store.find(account, "One"), store.find(account, "One/Two")
        assert one is not None and two is not None
        assert told() == [(Kind.MAILBOX_CREATED, one, 0, b""), (Kind.MAILBOX_CREATED, two, 0, b"")]
        await store.rename(account, "One", "Other")
        assert sorted(told()) == [(Kind.MAILBOX_CHANGED, one, 0, b""), (Kind.MAILBOX_CHANGED, two, 0, b"")]
        await store.append(account, two, [message()])
        created = told()
        await store.delete(account, "Other/Two")
        assert told() == [(Kind.REMOVED, two, 1, created[0][3]), (Kind.MAILBOX_REMOVED, two, 0, b"")]
        with store.snapshot(account) as snapshot:
            held = snapshot.holding(account.id)
            assert (held.messages, held.mailboxes) == (2, 7)
            assert held.octets == mime.served_size(TEXT) + mime.served_size(LONG)
            assert [box.modseq for box in snapshot.boxes(account.id) if box.key == trash] == [moved.target.modseq]

    run(scenario)


def test_a_message_takes_the_thread_of_what_it_names(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)

        async def come(head: bytes, at: bytes = key) -> bytes:
            done = await store.append(account, at, [message(head + b"\n\nbody\n")])
            with store.snapshot(account) as snapshot:
                return ident(snapshot.summaries(at, UidSet.of(done.uids)).get(done.uids[0]) or b"").thread

        first = await come(b"Message-ID: <a@x>")
        assert await come(b"Message-ID: <b@x>\nIn-Reply-To: <a@x>") == first
        sent = store.find(account, "Sent")
        assert sent is not None
        assert await come(b"Message-ID: <c@x>\nIn-Reply-To: <b@x>", sent) == first
        assert await come(b"Message-ID: <d@x>\nReferences: <z@x> <c@x>") == first
        assert await come(b"Message-ID: <e@x>\nReferences: <z@x> <y@x>") == identity.named(b"<z@x>")
        assert await come(b"Message-ID: <f@x>\nReferences: <e@x> <c@x>") == first
        with store.snapshot(account) as snapshot:
            there = snapshot.members(account.id, first)
            assert there is not None and sorted(there) == [(key, 1), (key, 2), (key, 3), (key, 5), (sent, 1)]

    run(scenario)


def test_watchers_of_an_account_hear_of_everything(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store, account: Account) -> None:
        rung: list[int] = []
        everything = account.id.to_bytes(8, "big") + EVERYTHING

        def ring() -> None:
            rung.append(1)

        store.watch(account, everything, ring)
        key, trash = inbox(store, account), store.find(account, "Trash")
        assert trash is not None
        await store.append(account, key, [message()])
        assert len(rung) == 1
        await store.copy(account, key, UidSet.of([1]), trash, move=True)
        assert len(rung) == 2, "once for a commit, however many mailboxes it changes"
        await store.annotate(account, trash, {b"/private/comment": b"x"})
        await store.create(account, "New")
        await store.subscribe(account, "New", True)
        await store.delete(account, "New")
        assert len(rung) >= 6
        before = len(rung)
        store.unwatch(account, everything, ring)
        await store.append(account, key, [message()])
        assert len(rung) == before

    run(scenario)


def test_previews_come_with_messages_and_may_be_learnt(run: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        new = message(TEXT)
        new.summary = scanned(TEXT)
        await store.append(account, key, [message(TEXT), new])
        await store.deliver([Delivery(account, key, message(TEXT))])

        def now() -> tuple[list[bytes | None], list[bytes]]:
            with store.snapshot(account) as snapshot:
                found = snapshot.summaries(key, UidSet.of_ranges((1, 9)))
                every = [bytes(found.get(uid) or b"") for uid in (1, 2, 3)]
            assert all(summary.read(one) is not None for one in every)
            return [idents.preview(one) for one in every], [ident(one) for one in every]  # type: ignore[misc]

        previews, names = now()
        assert previews == [None, b"body", None]
        modseq = row(store, account, key).modseq
        await store.learn_previews(account, key, {1: b"first", 2: b"no", 3: b"x" * 1024, 99: b"gone"})
        assert now() == ([b"first", b"body", b"x" * 1024], names)
        assert row(store, account, key).modseq == modseq, "nothing changed that anybody is told of"

    run(scenario)


def test_messages_are_moved_to_another_account(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    async def scenario(store: Store, account: Account) -> None:
        other = housed(2, "b@example.test", str(tmp_path / "mail" / "b"))
        await store.open(other)
        key, to = inbox(store, account), inbox(store, other)
        texts = [b"Subject: %d\n\nbody\n" % n for n in range(3)]
        await store.append(account, key, [message(text) for text in texts])
        with store.snapshot(account) as snapshot:
            made = {uid: bytes(one) for uid, one in snapshot.summaries(key, UidSet.of([1, 2, 3])).items()}
        await store.expunge(account, key, UidSet.of([1]), 0)
        told: list[bytes] = []
        for owner, at in ((account, key), (other, to)):
            store.watch(owner, at, partial(told.append, at))
        new = [replace(message(text), summary=made[n + 1]) for n, text in enumerate(texts)]
        done = await store.append(other, to, new[:2], origin=Origin(account, key, [1, 2]))
        assert done.moved is not None and (done.uids, list(done.moved.uids)) == ([1], [2])
        assert uids(store, account, key) == [3] and row(store, account, key).modseq == done.moved.modseq
        assert await store.content(other, to, 1) == texts[1]
        with store.snapshot(other) as snapshot:
            assert email_id(bytes(snapshot.summaries(to, UidSet.of([1])).get(1) or b"")) == email_id(made[2])
        assert set(told) == {key, to}
        with store.snapshot(account) as snapshot:
            assert (snapshot.holding(1).messages, snapshot.holding(2).messages) == (1, 1)
            assert list(snapshot.expunged(key, 0)) == [1, 2]
        none = await store.append(other, to, new[:2], origin=Origin(account, key, [1, 2]))
        assert none.moved is not None and (none.uids, len(none.moved.uids)) == ([], 0)
        assert uids(store, other, to) == [1]

    run(scenario)
