"""fastmail.store.local.maildir.folders: two layouts on disk."""

import asyncio
import os
from pathlib import Path

import pytest

from fastmail.message.preview import scanned
from fastmail.model.errors import CannotDo
from fastmail.store.interface import NewMessage
from fastmail.store.local.maildir import folders
from fastmail.store.local.maildir.home import Home
from tests.support.homes import Housed, local_store

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
