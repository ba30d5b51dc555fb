"""fastmail.store.local.maildir.folders: two layouts on disk."""

import asyncio
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from fastmail.message.preview import scanned
from fastmail.model.errors import CannotDo, StorageFull
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import mailboxes, renaming
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.store import LocalStore
from tests.support.homes import Housed, home_of, local_store

LAYOUTS = [("maildir++", False), ("maildir++", True), ("fs", False), ("fs", True)]


def home(path: Path, layout: str, utf8: bool) -> Home:
    return Home(str(path / "mail"), layout=layout, utf8=utf8)


@pytest.mark.parametrize(("layout", "utf8"), LAYOUTS)
def test_what_is_made_is_found(tmp_path: Path, layout: str, utf8: bool) -> None:
    one = home(tmp_path, layout, utf8)
    assert folders.look(one) is None
    folders.make_all(one, ["INBOX"])
    names = ["Work", "Work/2026/Q4", "Entwürfe/M & N", "a/b/c"]
    folders.make_all(one, names)
    found = folders.look(one)
    assert found is not None and set(found.ages) == set(names)
    assert folders.unchanged(found.times)
    assert len(folders.directories(one)) == 5
    marks = list(Path(one.root).rglob("maildirfolder"))
    assert len(marks) == (0 if layout == "fs" else 4)
    folders.make_all(one, ["a/b/d"])
    assert not folders.unchanged(found.times)


@pytest.mark.parametrize(("layout", "utf8"), LAYOUTS)
def test_moves_and_removals_keep_what_lies_below(tmp_path: Path, layout: str, utf8: bool) -> None:
    one = home(tmp_path, layout, utf8)
    folders.make_all(one, ["INBOX"])
    folders.make_all(one, ["A", "A/x", "A/x/y", "B/z"])
    for name in ("A", "A/x", "A/x/y"):
        (Path(folders.folder(one, name)) / "cur" / "1.m").write_text(name)
    folders.rename(one, [("A", "B"), ("A/x", "B/x"), ("A/x/y", "B/x/y")])  # B is a level already
    found = folders.look(one)
    assert found is not None and set(found.ages) == {"B", "B/x", "B/x/y", "B/z"}
    assert not os.path.exists(os.path.join(one.root, "A"))
    for name, text in (("B", "A"), ("B/x", "A/x"), ("B/x/y", "A/x/y")):
        assert (Path(folders.folder(one, name)) / "cur" / "1.m").read_text() == text
    folders.rename(one, [("B", "C/D"), ("B/x", "C/D/x"), ("B/x/y", "C/D/x/y"), ("B/z", "C/D/z")])  # as a whole
    found = folders.look(one)
    assert found is not None and set(found.ages) == {"C/D", "C/D/x", "C/D/x/y", "C/D/z"}
    folders.move_away(one, "C/D/x", one.root + "/tmp/deleted.1")
    found = folders.look(one)
    assert found is not None and set(found.ages) == {"C/D", "C/D/x/y", "C/D/z"}
    assert Path(one.root, "tmp/deleted.1/cur/1.m").read_text() == "A/x"
    folders.move_away(one, "C/D/x/y", one.root + "/tmp/deleted.2")
    if layout == "fs":
        assert not os.path.exists(os.path.join(one.root, "C/D/x"))
    folders.move_away(one, "none", one.root + "/tmp/deleted.3")


def test_what_is_no_folder_is_left_alone(tmp_path: Path) -> None:
    one = home(tmp_path, "fs", False)
    folders.make_all(one, ["INBOX"])
    folders.make_all(one, ["a.b", ".dot", "up/.x"])
    root = Path(one.root)
    for name in ("..DOVECOT-TrasH/cur", ".nfs01/cur", "&bad/cur", "only a level/deeper", "cur/cur"):
        (root / name).mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / "dovecot-uidlist").write_text("x")
    found = folders.look(one)
    assert found is not None and set(found.ages) == {"a.b", ".dot", "up/.x"}


@pytest.mark.parametrize(("layout", "utf8"), LAYOUTS)
def test_no_folder_is_inbox(tmp_path: Path, layout: str, utf8: bool) -> None:
    """INBOX is the Maildir itself, whatever a directory in it is called; what lies below such a directory is listed."""
    one = home(tmp_path, layout, utf8)
    folders.make_all(one, ["INBOX"])
    dot = "" if layout == "fs" else "."
    for name in ("INBOX", "Inbox", "inbox"):
        Path(one.root, dot + name, "cur").mkdir(parents=True)
    Path(one.root, "INBOX/Sub/cur" if layout == "fs" else ".INBOX.Sub/cur").mkdir(parents=True)
    found = folders.look(one)
    assert found is not None and set(found.ages) == {"INBOX/Sub"}


@pytest.mark.parametrize("name", ["cur", "a/new/b", "tmp", "..x", "a/.."])
def test_names_without_a_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotDo):
        folders.refuse(home(tmp_path, "fs", False), name)


def test_dots_in_the_other_layout(tmp_path: Path) -> None:
    folders.refuse(home(tmp_path, "maildir++", False), "cur/new")
    with pytest.raises(CannotDo):
        folders.refuse(home(tmp_path, "maildir++", False), "a.b")


@pytest.mark.parametrize(("layout", "utf8"), LAYOUTS)
def test_a_store_sees_what_others_do_to_folders(tmp_path: Path, layout: str, utf8: bool) -> None:
    async def work() -> None:
        store = local_store(str(tmp_path / "index"))
        await store.start()
        where = home(tmp_path, layout, utf8)
        one = Housed(1, "user@example.test", home=where)
        await store.open(one)
        await store.create(one, "Wörk/deep")
        folders.make_all(where, ["Wörk/others"])
        os.utime(folders.folder(where, "Wörk/others"), (1, 1))
        names = {box.name for box in (await store.listing(one)).mailboxes}
        assert {"INBOX", "Wörk", "Wörk/deep", "Wörk/others"} <= names
        await store.rename(one, "Wörk", "New/er")
        names = {box.name for box in (await store.listing(one)).mailboxes}
        assert {"New", "New/er", "New/er/deep", "New/er/others"} <= names and "Wörk" not in names
        await store.delete(one, "New/er")
        names = {box.name for box in (await store.listing(one)).mailboxes}
        assert "New/er" not in names and "New/er/deep" in names
        folders.move_away(where, "New/er/deep", where.root + "/tmp/gone")
        assert "New/er/deep" not in {box.name for box in (await store.listing(one)).mailboxes}
        with pytest.raises(CannotDo):
            await store.create(one, "cur/a.b/tmp")
        await store.close()

    asyncio.run(work())


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("layout", ["maildir++", "fs"])
def test_a_folder_that_was_left_half_made_takes_messages(tmp_path: Path, layout: str, known: bool) -> None:
    """A loss of power while a folder is created may leave its ``cur`` alone, before the account is known or later."""

    async def work() -> None:
        where = home(tmp_path, layout, False)
        one = Housed(1, "user@example.test", home=where)
        half = os.path.join(folders.folder(where, "Half"), "cur")
        if not known:
            folders.make_all(where, ["INBOX"])
            os.makedirs(half)
        store = local_store(str(tmp_path / "index"))
        await store.start()
        await store.open(one)
        if known:
            os.makedirs(half)
            os.utime(os.path.dirname(half), (1, 1))
        assert "Half" in {box.name for box in (await store.listing(one)).mailboxes}
        key = store.find(one, "Half")
        assert key is not None
        text = b"Subject: x\n\nbody\n"
        await store.append(one, key, [NewMessage((text,), scanned(text), len(text) + 3, 1)])
        assert len(list(Path(folders.folder(where, "Half")).rglob("*=*"))) == 1
        await store.close()

    asyncio.run(work())


async def listing_meanwhile(
    store: LocalStore, account: Housed, work: Coroutine[Any, Any, None], name: str, patch: pytest.MonkeyPatch
) -> None:
    """Do the work; after its step ``folders.NAME`` somebody lists the mailboxes, before the rows are changed."""
    real, loop = getattr(folders, name), asyncio.get_running_loop()

    def step(*words: Any) -> None:
        real(*words)
        top = home_of(account).root
        for path in (top, *(one.path for one in os.scandir(top) if one.is_dir())):
            os.utime(path, (1_000_000_000, 1_000_000_000))  # nobody waits whether somebody is still making them
        asyncio.run_coroutine_threadsafe(store.listing(account), loop).result(20)

    with patch.context() as patched:
        patched.setattr(folders, name, step)
        await work


@pytest.mark.parametrize("layout", ["maildir++", "fs"])
def test_a_mailbox_is_renamed_while_others_look(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same mailbox afterwards, and so are those below it."""

    async def work() -> None:
        store, account = local_store(str(tmp_path / "data")), Housed(1, "a@x.test", home=home(tmp_path, layout, False))
        await store.start()
        await store.open(account)
        await store.create(account, "Old/Deep")
        before = [store.find(account, name) for name in ("Old", "Old/Deep")]
        await listing_meanwhile(store, account, store.rename(account, "Old", "New"), "rename", monkeypatch)
        for _ in range(2):
            names = {box.name for box in (await store.listing(account)).mailboxes}
            assert {"New", "New/Deep"} <= names and not {"Old", "Old/Deep"} & names
        assert [store.find(account, name) for name in ("New", "New/Deep")] == before
        os.rename(folders.folder(home_of(account), "New"), tmp_path / "away")  # looking goes on
        assert "New" not in {box.name for box in (await store.listing(account)).mailboxes}
        await store.close()

    asyncio.run(work())


def test_a_mailbox_is_deleted_while_others_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        store, account = local_store(str(tmp_path / "data")), Housed(1, "a@x.test", home=home(tmp_path, "fs", False))
        await store.start()
        await store.open(account)
        await store.create(account, "Old")
        await listing_meanwhile(store, account, store.delete(account, "Old"), "move_away", monkeypatch)
        assert store.find(account, "Old") is None
        await store.close()

    asyncio.run(work())


def test_a_rename_without_room_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        store, account = local_store(str(tmp_path / "data")), Housed(1, "a@x.test", home=home(tmp_path, "fs", False))
        await store.start()
        await store.open(account)
        await store.create(account, "Old/Deep")

        def full(*_: object) -> None:
            raise StorageFull("no room")

        with monkeypatch.context() as patch:
            patch.setattr(mailboxes, "rename", full)
            with pytest.raises(StorageFull):
                await store.rename(account, "Old", "New")
        found = folders.look(home_of(account))
        assert found is not None and {"Old", "Old/Deep"} <= set(found.ages) and "New" not in found.ages
        shard = store.commits.shards[0]
        with shard.env.read() as txn:
            assert not renaming.is_under_way(txn, shard.tables, 1, store.maker.instance)
        await store.rename(account, "Old", "New")
        assert store.find(account, "New/Deep") is not None
        await store.close()

    asyncio.run(work())


def test_a_rename_that_a_crash_left_keeps_nobody_from_looking(tmp_path: Path) -> None:
    async def work() -> None:
        store = local_store(str(tmp_path / "data"), instance="00000001")
        await store.start()
        shard = store.commits.shards[0]

        def under_way(instance: bytes) -> bool:
            with shard.env.read() as txn:
                return renaming.is_under_way(txn, shard.tables, 1, instance)

        with shard.env.write() as txn:
            renaming.begin(txn, shard.tables, 1, b"00000001")
            at = renaming.begin(txn, shard.tables, 1, b"00000001")
            old = renaming.NOTE.pack(b"00000002", int(time.time() - renaming.MOST - 2))
            txn.put(at[:-1] + bytes([at[-1] ^ 1]), old, db=shard.tables.meta)
        assert under_way(b"00000001") and not under_way(b"00000002") and not under_way(b"00000003")
        with shard.env.write() as txn:
            renaming.end(txn, shard.tables, at)
        assert under_way(b"00000001")
        await store.close()
        store = local_store(str(tmp_path / "data"), instance="00000002")
        await store.start()
        shard = store.commits.shards[0]
        assert not under_way(b"00000001") and not under_way(b"00000002")
        await store.close()

    asyncio.run(work())
