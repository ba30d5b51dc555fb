"""fastmail.store.local.follow: what a look costs."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from fastmail._core.uidset import UidSet
from fastmail.store.interface import Account
from fastmail.store.local import repair, sync
from fastmail.store.local.store import LocalStore


async def begun(place: Path) -> tuple[LocalStore, Account, bytes]:
    """A store, an account in it, and its INBOX."""
    store = LocalStore(str(place / "data"))
    await store.start()
    account = Account(1, "user@example.test", str(place / "mail"))
    await store.open(account)
    key = store.find(account, "INBOX")
    assert key is not None
    return store, account, key


def test_mail_of_others_costs_a_listing_of_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon it is asked for behind the delivery."""
    looks = 0
    real = sync.look

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
        await asyncio.sleep(2 * sync.TICK)
        await store.sync(account, key)
        os.rename(tmp_path / "mail" / "new" / "2.1", tmp_path / "mail" / "cur" / "2.1:2,F")
        os.unlink(tmp_path / "mail" / "new" / "2.2")
        await store.sync(account, key)
        assert looks > 1
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and box.exists == 6
        await store.close()

    monkeypatch.setattr(sync, "look", counted)
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
            await repair.rebuild(store, account)
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
