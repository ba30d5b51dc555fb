"""What was expunged stays readable for views that still have it, over every store (RFC 2180 4.1, RFC 9051 7.5.1)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.model.flags import DELETED, FLAGGED, SEEN
from fastmail.store.interface import Account, Kind, Snapshot, Store
from fastmail.store.memory.store import MemoryStore
from tests.contract.test_store import inbox, message, row, uids
from tests.support.homes import housed, local_store

Scenario = Callable[[Store, Account], Awaitable[None]]
TEXTS = [b"Subject: number %d\nFrom: a%d@example.test\n\nbody %d\n" % (n, n, n) for n in range(4)]
ALL = UidSet.of_ranges((1, 4))


@asynccontextmanager
async def opened(kind: str, path: Path, grace: float) -> AsyncIterator[Store]:
    store: Store
    store = MemoryStore(grace=grace) if kind == "memory" else local_store(str(path / "data"), kind=kind, grace=grace)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["memory", "maildir", "segments"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    def go(scenario: Scenario, grace: float = 60.0) -> None:
        async def main() -> None:
            async with opened(request.param, tmp_path, grace) as store:
                account = housed(1, "a@example.test", str(tmp_path / "mail" / "a"))
                await store.open(account)
                key = inbox(store, account)
                await store.append(account, key, [message(text, flags=SEEN) for text in TEXTS])
                await scenario(store, account)

        asyncio.run(main())

    return go


def seen(snapshot: Snapshot, key: bytes) -> dict[int, int]:
    """{UID: flags} of the four messages, as far as the snapshot shows them."""
    return {r[0]: r[1] for page in snapshot.pages(key, ALL) for r in pages.records(page) if r[0] in ALL}


def recalled(store: Store, account: Account, key: bytes, gone: UidSet) -> dict[int, int]:
    with store.snapshot(account) as snapshot:
        snapshot.recall(key, gone)
        return seen(snapshot, key)


async def later(store: Store, account: Account, key: bytes, uid: int) -> None:
    """Wait until nothing of a message can be read any more."""
    for _ in range(200):
        there = recalled(store, account, key, UidSet.of([uid]))
        if uid not in there and await store.content(account, key, uid) is None:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it is kept for ever")


def test_what_another_view_has_can_be_read(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.views.begin(key)
        await store.views.begin(key)
        await store.store(account, key, UidSet.of([2, 3]), 1, DELETED | FLAGGED, [b"$Work"])
        before = row(store, account, key)
        with store.snapshot(account) as snapshot:
            told = snapshot.modseq(key)
            kept = snapshot.holding(account.id).kept
        done = await store.expunge(account, key, None, DELETED)
        gone = UidSet.of([2, 3])
        assert list(done.uids) == [2, 3]
        for wait in (0.0, 0.5):  # before and after files are put aside
            await asyncio.sleep(wait)
            assert await store.content(account, key, 2) == TEXTS[1]
            assert uids(store, account, key) == [1, 4], "nobody sees it without asking for it"
            box = row(store, account, key)
            assert (box.exists, box.deleted, box.octets) == (2, 0, before.octets // 2), "and no quota has it"
            with store.snapshot(account) as snapshot:
                holding, changes = snapshot.holding(account.id), snapshot.changes(account.id, told)
                assert (holding.kept, holding.messages, holding.octets) == (kept, 2, before.octets // 2)
                assert changes is not None
                told_of = [(one.kind, one.key, one.uid) for one in changes]
                assert told_of == [(Kind.REMOVED, key, 2), (Kind.REMOVED, key, 3)], "once, whatever is kept of it"
                assert snapshot.modseq(key) > told
                assert snapshot.expunged(key, told).both(ALL).octets() == b"2:3"
                snapshot.recall(key, gone)
                assert seen(snapshot, key) == {
                    1: SEEN,
                    2: SEEN | DELETED | FLAGGED,
                    3: SEEN | DELETED | FLAGGED,
                    4: SEEN,
                }
                assert sorted(uid for uid, _ in snapshot.summaries(key, ALL).items()) == [1, 2, 3, 4]
                assert snapshot.summaries(key, UidSet.of([3])).get(3) is not None
                hits, unsure = snapshot.search_field(key, ALL, b"subject", b"number 1")
                assert (hits == [] and 2 in [uid for uid, _ in unsure]) or hits == [2]
                hits, _ = snapshot.search_addresses(key, ALL, 2, b"a2@example.test")
                assert hits == [3]
                assert snapshot.fields(key, ALL, (b"subject",))[2] == (b" number 1\r\n",)
                assert snapshot.content(key, 3) in (TEXTS[2], None)
                assert [uid for first, bits in snapshot.presence(key) for uid in range(32) if bits >> uid & 1] == [1, 4]

    run(scenario)


def test_nothing_is_kept_where_nobody_else_looks(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.views.begin(key)
        await store.expunge(account, key, UidSet.of([1]), 0)
        assert await store.content(account, key, 1) is None
        await store.expunge(account, key, UidSet.of([2]), 0, mine=0)
        assert await store.content(account, key, 2) == TEXTS[1], "the one view is another's"
        store.views.end(key)
        await store.expunge(account, key, UidSet.of([3]), 0, mine=0)
        assert await store.content(account, key, 3) is None
        assert recalled(store, account, key, UidSet.of([1, 2, 3])) == {2: SEEN, 4: SEEN}

    run(scenario)


@pytest.mark.slow
def test_its_time_comes(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.views.begin(key)
        await store.expunge(account, key, UidSet.of([1, 3]), 0, mine=0)
        assert await store.content(account, key, 3) == TEXTS[2]
        await later(store, account, key, 3)
        assert recalled(store, account, key, UidSet.of([1, 3])) == {2: SEEN, 4: SEEN}
        assert await store.content(account, key, 4) == TEXTS[3]

    run(scenario, grace=0.8)


def test_without_a_grace_nothing_is_kept(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.views.begin(key)
        await store.expunge(account, key, UidSet.of([1, 3]), 0, mine=0)
        assert await store.content(account, key, 3) is None

    run(scenario, grace=0)


@pytest.mark.slow
def test_what_was_moved_is_there_and_in_its_new_place(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key, trash = inbox(store, account), store.find(account, "Trash")
        assert trash is not None
        await store.views.begin(key)
        await store.views.begin(key)
        await store.copy(account, key, UidSet.of([2]), trash)
        moved = await store.copy(account, key, UidSet.of([2, 4]), trash, move=True)
        assert moved.source == [2, 4] and moved.target.uids == [2, 3]
        assert await store.content(account, key, 4) == TEXTS[3]
        assert recalled(store, account, key, UidSet.of([2, 4])) == dict.fromkeys([1, 2, 3, 4], SEEN)
        await later(store, account, key, 4)
        for uid, text in ((1, TEXTS[1]), (2, TEXTS[1]), (3, TEXTS[3])):
            assert await store.content(account, trash, uid) == text
        await store.expunge(account, trash, None, 0, mine=0)
        assert await store.content(account, trash, 3) is None

    run(scenario, grace=0.8)


def test_a_renamed_inbox_leaves_its_views_what_they_had(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.views.begin(key)
        await store.rename(account, "INBOX", "Old")
        assert uids(store, account, key) == []
        assert await store.content(account, key, 2) == TEXTS[1]
        assert sorted(recalled(store, account, key, ALL)) == [1, 2, 3, 4]

    run(scenario)


def test_a_removed_mailbox_keeps_nothing(run) -> None:
    async def scenario(store: Store, account: Account) -> None:
        await store.create(account, "Work")
        key = store.find(account, "Work")
        assert key is not None
        await store.append(account, key, [message(TEXTS[0]), message(TEXTS[1])])
        await store.views.begin(key)
        await store.expunge(account, key, UidSet.of([1]), 0, mine=0)
        await asyncio.sleep(0.4)
        await store.delete(account, "Work")
        assert await store.content(account, key, 1) is None
        await store.create(account, "Work")
        again = store.find(account, "Work")
        assert again is not None and await store.content(account, again, 1) is None

    run(scenario)


def test_many_pages_with_holes(run) -> None:
    """Whole pages that are kept, pages with both, and pages where nothing was removed."""

    async def scenario(store: Store, account: Account) -> None:
        key = inbox(store, account)
        await store.append(account, key, [message(b"Subject: %d\n\nx\n" % n) for n in range(200)])
        await store.views.begin(key)
        gone = UidSet.of([*range(3, 70), *range(100, 110, 2), 150, 200, 204])
        await store.expunge(account, key, gone, 0, mine=0)
        every = UidSet.of_ranges((1, 204))
        with store.snapshot(account) as snapshot:
            snapshot.recall(key, gone)
            for wanted in (None, every, UidSet.of([50]), UidSet.of([1, 60, 99, 100]), gone):
                found = [r[0] for page in snapshot.pages(key, wanted) for r in pages.records(page)]
                assert found == sorted(set(found))
                assert set(found) >= set(every if wanted is None else wanted)
            assert len(list(snapshot.summaries(key, gone).items())) == len(gone)

    run(scenario)
