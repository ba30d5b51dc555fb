"""A part of the map of an index is kept for removing and changing: deliveries are refused before it is used."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.durable.space import RESERVE
from fastmail.model.errors import StorageFull
from fastmail.model.flags import DELETED, SEEN
from fastmail.store.interface import Account, Delivery, NewMessage
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

MAP = 4 << 20
TEXT = b"Subject: s\nX-Long: " + b"x" * 12_000 + b"\n\nbody\n"
Scenario = Callable[[LocalStore, Account, bytes], Awaitable[None]]


def message(text: bytes = TEXT) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), 1000)


def run(place: Path, scenario: Scenario, kind: str = "maildir") -> None:
    async def main() -> None:
        store = local_store(str(place / "data"), kind=kind, map_size=MAP)
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


async def fill(store: LocalStore, account: Account, key: bytes) -> int:
    """Deliver until there is no room; how many."""
    count, refused = 0, False
    while count < 5000:
        try:
            await store.deliver([Delivery(account, key, message())])
            count, refused = count + 1, False
        except StorageFull:
            if refused:
                return count
            refused = True
    raise AssertionError("never full")


def used(store: LocalStore) -> int:
    """Octets of the pages that hold something."""
    env = store.commits.shards[0].env
    with env.read() as txn:
        stats = [txn.stat(table) for table in env.db.values()]
    return sum(int(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"]) for s in stats) * 4096


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_deliveries_leave_a_reserve_that_removing_can_use(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        for turn in range(4):
            count = await fill(store, account, key)
            assert count > 50
            assert used(store) <= MAP - MAP // RESERVE + 65536
            everything = UidSet.of_ranges((1, 9999))
            if not turn:  # later there are single pages, in which something small may still find room
                for refused in (
                    store.append(account, key, [message()]),
                    store.append(account, key, [message() for _ in range(20)]),
                    store.copy(account, key, everything, key),
                    store.annotate(account, key, {b"/private/comment": b"x"}),
                    store.holds.keep(account, message(), 7),
                ):
                    with pytest.raises(StorageFull):
                        await refused
            changed = await store.store(account, key, everything, 1, SEEN | DELETED, [b"word"])
            assert len(changed.changed) >= count
            await store.annotate(account, key, {b"/private/comment": None})
            trash = store.find(account, "Trash")
            assert trash is not None
            moved = await store.copy(account, key, UidSet.of(list(changed.changed)[:5]), trash, True)
            assert len(moved.source) == 5
            gone = await store.expunge(account, key, None, DELETED)
            assert len(gone.uids) >= count - 5
            await store.expunge(account, trash, None, 0)
            await asyncio.sleep(0)

    run(tmp_path, scenario, kind)
    told = [line for line in capsys.readouterr().err.splitlines() if "index.full" in line]
    assert len(told) == 1, "once a minute"
    assert "index_map_size" in told[0]


def test_a_mailbox_can_be_deleted_when_there_is_no_room(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        await store.create(account, "Big")
        big = store.find(account, "Big")
        assert big is not None
        assert await fill(store, account, big) > 50
        await store.delete(account, "Big")
        await store.deliver([Delivery(account, key, message())])

    run(tmp_path, scenario)


def test_files_that_others_removed_make_room(tmp_path: Path) -> None:
    async def scenario(store: LocalStore, account: Account, key: bytes) -> None:
        count = await fill(store, account, key)
        await asyncio.sleep(1.3)
        place = tmp_path / "mail" / "a"
        for path in list(place.glob("[cn]*/*")):
            path.unlink()
        (place / "new" / "1000.foreign.host").write_bytes(TEXT)
        with pytest.raises(StorageFull):
            await store.sync(account, key)
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
        assert box is not None
        assert box.exists < count
        await store.sync(account, key)
        await store.deliver([Delivery(account, key, message())])

    run(tmp_path, scenario)
