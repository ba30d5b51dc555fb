"""fastmail.store.local.maildir.follow: what a look costs."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.store.interface import Account, Delivery, Mailbox, NewMessage
from fastmail.store.local.maildir import follow, housekeeping, looking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store
from tests.support.waiting import until

TEXT = b"Subject: x\n\nx\n"


async def begun(place: Path, instance: str = "00000000") -> tuple[LocalStore, Account, bytes]:
    """A store, an account in it, and its INBOX. ``instance``: the server whose names new files get."""
    store = local_store(str(place / "data"), instance=instance)
    await store.start()
    account = housed(1, "user@example.test", str(place / "mail"))
    await store.open(account)
    key = store.find(account, "INBOX")
    assert key is not None
    return store, account, key


def test_mail_of_others_costs_a_listing_of_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon it is asked for behind the delivery."""
    looks = 0
    real = looking.look

    def counted(*args: object, **more: object) -> object:
        nonlocal looks
        looks += 1
        return real(*args, **more)  # type: ignore[arg-type]

    async def work() -> None:
        nonlocal looks
        store, account, key = await begun(tmp_path)
        for sub in ("new", "cur"):
            (tmp_path / "mail" / sub / f"1.{sub}{':2,S' if sub == 'cur' else ''}").write_bytes(b"Subject: x\n\nx\n")
            os.utime(tmp_path / "mail" / sub, (time.time() - 10, time.time() - 10))
        await store.sync(account, key)
        await store.sync(account, key)
        assert looks == 1
        for number in range(5):
            (tmp_path / "mail" / "new" / f"2.{number}").write_bytes(b"Subject: x\n\nx\n")
            await store.sync(account, key)  # the directory changed this moment
            with store.snapshot(account) as snapshot:
                box = snapshot.mailbox(key)
                assert box is not None and box.exists == 3 + number
        assert looks == 1
        await asyncio.sleep(2 * looking.TICK)
        await store.sync(account, key)
        os.rename(tmp_path / "mail" / "new" / "2.1", tmp_path / "mail" / "cur" / "2.1:2,F")
        os.unlink(tmp_path / "mail" / "new" / "2.2")
        await store.sync(account, key)
        assert looks > 1
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and box.exists == 6
        await store.close()

    monkeypatch.setattr(looking, "look", counted)
    asyncio.run(work())


@pytest.mark.parametrize("by", ["a look that finds a file gone", "a rebuild"])
def test_expunged_stays_expunged(tmp_path: Path, by: str) -> None:
    """Whatever happens before its file is removed."""

    async def work() -> None:
        store, account, key = await begun(tmp_path)
        for number in range(3):
            (tmp_path / "mail" / "cur" / f"{number}.x:2,T").write_bytes(b"Subject: x\n\nx\n")
        await store.follower.sync(account, key, force=True)
        removed = await store.expunge(account, key, UidSet.of([1]), 0)
        assert list(removed.uids) == [1]
        os.unlink(tmp_path / "mail" / "cur" / "1.x:2,T")
        if by == "a rebuild":
            await rebuild_account.rebuild(store, account)
        else:
            await store.follower.sync(account, key, force=True)
        await store.close()  # what is to be removed is removed at the end
        assert os.listdir(tmp_path / "mail" / "cur") == ["2.x:2,T"]
        again, account, key = await begun(tmp_path)
        await again.follower.sync(account, key, force=True)
        with again.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and box.exists == 1 and box.uidnext == 4
        await again.close()

    asyncio.run(work())


async def filled(place: Path, count: int) -> tuple[LocalStore, Account, bytes]:
    """The same with messages, all taken in, and nothing to be done any more."""
    store, account, key = await begun(place)
    for number in range(count):
        (place / "mail" / "cur" / f"{number}.x:2,").write_bytes(b"Subject: x\n\nx\n")
    await asyncio.sleep(2 * looking.TICK)
    await store.sync(account, key)
    assert store.is_up_to_date(account, box_of(store, account, key))
    return store, account, key


def box_of(store: LocalStore, account: Account, key: bytes) -> Mailbox:
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
    assert box is not None
    return box


@pytest.mark.parametrize("other", ["nobody", "before", "meanwhile", "right behind", "a moment later"])
def test_own_removals_are_told_from_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """Where no session looks: own ones cost no comparison with the index, and hide no other's."""
    cur = tmp_path / "mail" / "cur"
    real = housekeeping.tidy

    def tidy(*args: object) -> object:
        if other == "meanwhile":
            os.unlink(cur / "7.x:2,")
        return real(*args)  # type: ignore[arg-type]

    async def work() -> None:
        store, account, key = await filled(tmp_path, follow.LEAST + 20)
        await store.expunge(account, key, UidSet.of_ranges((1, 5)), 0)
        if other == "before":
            os.unlink(cur / "7.x:2,")
        end_own = store.follower.end_own

        def ended(*args: object) -> None:
            end_own(*args)  # type: ignore[arg-type]
            if other == "right behind":
                os.unlink(cur / "7.x:2,")

        monkeypatch.setattr(store.follower, "end_own", ended)
        await until(lambda: len(os.listdir(cur)) <= follow.LEAST + 15)
        await asyncio.sleep(4 * looking.TICK)
        assert not store.follower._watched and not store.follower._passing
        if other == "a moment later":
            os.unlink(cur / "7.x:2,")
            await asyncio.sleep(2 * looking.TICK)
        assert store.is_up_to_date(account, box_of(store, account, key)) == (other == "nobody")
        await store.sync(account, key)
        assert box_of(store, account, key).exists == follow.LEAST + (15 if other == "nobody" else 14)
        await store.close()

    monkeypatch.setattr(housekeeping, "tidy", tidy)
    asyncio.run(work())


@pytest.mark.parametrize("gone", [False, True], ids=["kept", "expunged"])
def test_what_was_delivered_after_the_last_look_is_not_taken_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """A start goes on from the state of a large mailbox that was written at the stop. Mail that came after the last
    look lies in new/, and by its name another server's process delivered it: the index has it all the same. What was
    expunged there and is not unlinked yet stays expunged."""
    monkeypatch.setattr(follow, "LARGE", 1)

    async def work() -> None:
        store, account, key = await filled(tmp_path, 3)
        for copy in range(2):
            await store.deliver(
                [Delivery(account, key, NewMessage((TEXT,), mime.scan(TEXT), len(TEXT) + 3, 1_700_000_000), copy=copy)]
            )
        if gone:
            monkeypatch.setattr(housekeeping, "tidy", lambda read, t, key, directory: housekeeping.Done(key))
            await store.expunge(account, key, UidSet.of([4]), 0)
        await store.close()
        assert len(os.listdir(tmp_path / "mail" / "new")) == 2
        (tmp_path / "mail" / "new" / "9.other").write_bytes(TEXT)
        monkeypatch.setattr(looking, "look", None)  # it is not compared as a whole
        again, account, key = await begun(tmp_path, "11111111")
        await asyncio.sleep(2 * looking.TICK)
        for _ in range(2):
            await again.sync(account, key)
            assert box_of(again, account, key).exists == (5 if gone else 6)
        await again.close()

    asyncio.run(work())


def test_a_session_may_come_and_go_while_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears of what others do as long as it looks, and nothing is watched behind it."""
    real = housekeeping.tidy

    def slow(*args: object) -> object:
        time.sleep(0.2)
        return real(*args)  # type: ignore[arg-type]

    async def work() -> None:
        store, account, key = await filled(tmp_path, follow.LEAST + 20)
        heard = asyncio.Event()
        await store.expunge(account, key, UidSet.of([1]), 0)
        await until(lambda: key in store.follower._own_events)
        store.watch(account, key, heard.set)
        await until(lambda: key not in store.follower._own_events)
        await asyncio.sleep(4 * looking.TICK)
        heard.clear()
        os.unlink(tmp_path / "mail" / "cur" / "7.x:2,")
        await asyncio.wait_for(heard.wait(), 5)
        await store.expunge(account, key, UidSet.of([2]), 0)
        await until(lambda: key in store.follower._own_events)
        store.unwatch(account, key, heard.set)
        os.unlink(tmp_path / "mail" / "cur" / "9.x:2,")
        await until(lambda: not store.follower._watched)
        await asyncio.sleep(2 * looking.TICK)
        await store.sync(account, key)
        assert box_of(store, account, key).exists == follow.LEAST + 16
        await store.close()

    monkeypatch.setattr(housekeeping, "tidy", slow)
    asyncio.run(work())
