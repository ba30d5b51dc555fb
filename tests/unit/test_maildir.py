"""``fastmail.Maildir`` against the library's own class: the library's tests, the same operations on both, and what the
index saves."""

import builtins
import importlib
import mailbox
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fastmail
from fastmail import maildir
from fastmail.durable import beneath

KINDS = [mailbox.Maildir, fastmail.Maildir]


def aged(path: Path) -> None:
    """As if nothing had changed for a while."""
    for sub in ("new", "cur"):
        stamp = time.time() - 100
        os.utime(path / sub, (stamp, stamp))


@pytest.fixture(params=KINDS, ids=["library", "ours"])
def box(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path / "box")


def test_the_same_operations(box: Any) -> None:
    keys = [box.add(f"Subject: {n}\n\nbody {n}\n") for n in range(5)]
    assert sorted(box.keys()) == sorted(keys) and len(box) == 5 and keys[0] in box
    assert box[keys[1]]["Subject"] == "1" and box.get_bytes(keys[2]).endswith(b"body 2\n")
    message = box[keys[3]]
    message.set_subdir("cur")
    message.set_flags("SF")
    box[keys[3]] = message
    assert box[keys[3]].get_flags() == "FS" and box[keys[3]].get_subdir() == "cur"
    box.remove(keys[0])
    box.discard("nothing")
    assert keys[0] not in box and len(box) == 4
    with pytest.raises(KeyError):
        box[keys[0]]
    folder = box.add_folder("Work.2026")
    folder.add("Subject: x\n\n")
    assert box.list_folders() == ["Work.2026"] and len(box.get_folder("Work.2026")) == 1
    folder.clear()
    folder.close()
    del folder
    box.remove_folder("Work.2026")
    assert box.list_folders() == []
    assert {m["Subject"] for m in box} == {"1", "2", "3", "4"}
    key, taken = box.popitem()
    assert key not in box and taken["Subject"] in "1234"
    box.clear()
    assert len(box) == 0


def test_what_others_do_is_seen(tmp_path: Path) -> None:
    ours, theirs = fastmail.Maildir(tmp_path / "box"), mailbox.Maildir(tmp_path / "box")
    choice = random.Random(5)
    for _ in range(60):
        keys = sorted(theirs.keys())
        what = choice.random()
        if what < 0.6 or not keys:
            theirs.add(f"Subject: {choice.random()}\n\nx\n")
        elif what < 0.8:
            theirs.remove(choice.choice(keys))
        else:
            key = choice.choice(keys)
            message = theirs[key]
            message.set_subdir("cur")
            message.set_flags(choice.choice(["S", "SF", ""]))
            theirs[key] = message
        if choice.random() < 0.3:
            aged(tmp_path / "box")
            ours._state = b""
        rows = {row.key: (row.subdir, row.flags, row.size) for row in ours.rows()}
        theirs = mailbox.Maildir(tmp_path / "box")
        wanted = {
            key: (m.get_subdir(), m.get_flags(), os.path.getsize(os.path.join(theirs._path, theirs._lookup(key))))  # type: ignore[attr-defined]
            for key, m in theirs.items()
        }
        assert rows == wanted
    again = maildir.Maildir(tmp_path / "box")
    assert sorted(again.keys()) == sorted(theirs.keys())


def filled(path: Path, count: int) -> None:
    box = mailbox.Maildir(path)
    for n in range(count):
        box.add(f"From: a@x.test\nSubject: number {n}\n\n" + "body\n" * 10)
    aged(path)


class Watched:
    """Counts what is opened and listed below a directory; the index, which LMDB has open anyway, does not count."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, below: Path) -> None:
        self.opened = self.listed = 0
        real_open, real_scan, real_list, real_fd = builtins.open, os.scandir, os.listdir, beneath.open_fd

        def opening(path: Any, *args: Any, **kwargs: Any) -> Any:
            self.opened += str(path).startswith(str(below)) and not str(path).endswith(".mdb")
            return real_open(path, *args, **kwargs)

        def scanning(path: Any = ".") -> Any:
            self.listed += str(path).startswith(str(below))
            return real_scan(path)

        def listing(path: Any = ".") -> Any:
            self.listed += str(path).startswith(str(below))
            return real_list(path)

        def descriptor(path: Any, flags: int, mode: int = 0o600) -> int:
            inside = str(path).startswith(str(below))
            self.listed += inside and flags & (os.O_DIRECTORY | os.O_PATH) == os.O_DIRECTORY
            self.opened += inside and not flags & os.O_DIRECTORY
            return real_fd(path, flags, mode)

        monkeypatch.setattr(beneath, "open_fd", descriptor)
        monkeypatch.setattr(builtins, "open", opening)
        monkeypatch.setattr(os, "scandir", scanning)
        monkeypatch.setattr(os, "listdir", listing)


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "box"
    filled(path, 300)
    first = fastmail.Maildir(path)
    assert first.read_all_headers() == 300 and first.read_all_headers() == 0
    first.close()
    watched = Watched(monkeypatch, path)
    again = fastmail.Maildir(path)
    rows = list(again.rows())
    subjects = {again.get_headers(row.key)["Subject"] for row in rows}
    assert len(rows) == 300 and "number 299" in subjects and len(subjects) == 300
    assert watched.opened == 0 and watched.listed == 0
    assert again.get_size(rows[0].key) == rows[0].size and again.get_flags(rows[0].key) == ""
    # one more message: the folder is listed, and one file read
    mailbox.Maildir(path).add("Subject: fresh\n\n")
    aged(path)
    os.utime(path / "new", (time.time() - 50, time.time() - 50))
    rows = list(again.rows())
    assert len(rows) == 301
    watched.opened = 0
    assert "fresh" in {again.get_headers(row.key)["Subject"] for row in rows}
    assert watched.opened == 1


def test_an_index_that_is_gone_or_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "box"
    filled(path, 5)
    one = fastmail.Maildir(path)
    assert len(one) == 5
    one.close()
    for name in os.listdir(path / maildir.FOLDER):
        os.unlink(path / maildir.FOLDER / name)
    os.rmdir(path / maildir.FOLDER)
    (path / maildir.FOLDER).write_text("in the way")
    other = fastmail.Maildir(path)
    assert len(other) == 5 and {other.get_headers(row.key)["Subject"] for row in other.rows()}
    assert len(fastmail.Maildir(path)) == 5


def test_the_librarys_own_tests(tmp_path: Path) -> None:
    try:
        importlib.import_module("test.test_mailbox")
    except ImportError:
        pytest.skip("this Python comes without its tests: apt-get install libpython3-testsuite")
    program = (
        "import mailbox, unittest, fastmail, test.test_mailbox as t\n"
        "class OursTest(t.TestMaildir):\n"
        "    _factory = lambda self, path, factory=None: fastmail.Maildir(path, factory)\n"
        "    # these look at private counters of the library's refresh, or replace it\n"
        "    test_reread = test_refresh = test_refresh_after_safety_period = test_create_tmp = None\n"
        "    test_initialize_existing = None\n"
        "unittest.main(argv=['x', 'OursTest'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "OK" in done.stderr


def test_links_are_no_messages(tmp_path: Path) -> None:
    """What leads elsewhere, or makes a reader wait, is not there, and a folder that is a link has no messages."""
    secret = tmp_path / "secret"
    secret.write_text("Subject: of somebody else\n\n")
    path = tmp_path / "box"
    mine = fastmail.Maildir(path)
    key = mine.add("Subject: mine\n\nx\n")
    (path / "new" / "1.link").symlink_to(secret)
    os.mkfifo(path / "cur" / "2.pipe")
    assert [row.key for row in mine.rows()] == [key] and len(mine) == 1
    assert mine.get_message(key)["Subject"] == "mine" and mine.get_bytes(key) == b"Subject: mine\n\nx\n"
    with mine.get_file(key) as file:
        assert file.read() == b"Subject: mine\n\nx\n"
    (path / "new" / key).unlink()
    (path / "new" / key).symlink_to(secret)  # the key is known; its file is not it any more
    for read in (mine.get_headers, mine.get_message, mine.get_bytes, mine.get_file, mine.get_string):
        with pytest.raises((OSError, KeyError)):
            read(key)
    mine.close()
    (path / "cur").rename(path / "kept")
    (path / "cur").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link"):
        list(fastmail.Maildir(path, create=False).rows())
    other = tmp_path / "other"
    other.mkdir()
    fastmail.Maildir(tmp_path / "third").close()
    shutil.rmtree(tmp_path / "third" / "fastmail.index")
    (tmp_path / "third" / "fastmail.index").symlink_to(other)
    third = fastmail.Maildir(tmp_path / "third")
    third.add("Subject: x\n\n")
    assert len(third) == 1 and not list(other.iterdir())
