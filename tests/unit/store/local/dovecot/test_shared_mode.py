"""fastmail.store.local.dovecot.shared_mode: what is kept in Dovecot's files, with nobody else there."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.model.errors import StorageFull
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.dovecot import shared_mode
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store

TEXT = b"Subject: x\n\nbody\n"


def message(*words: bytes) -> NewMessage:
    return NewMessage((TEXT,), mime.scan(TEXT), mime.served_size(TEXT), 1_700_000_000, 1, words)


def run(path: Path, work: Callable[[LocalStore, Account, bytes], Awaitable[None]]) -> None:
    async def main() -> None:
        store = local_store(str(path / "data"), shared=True)
        await store.start()
        account = housed(1, "user@example.test", str(path / "mail"))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        await work(store, account, key)
        await store.close()

    asyncio.run(main())


def listed(path: Path, name: str = "") -> list[str]:
    return (path / "mail" / name / "dovecot-uidlist").read_text().splitlines()


def uids(store: LocalStore, account: Account, key: bytes) -> list[int]:
    with store.snapshot(account) as snapshot:
        return [uid for uid, _ in snapshot.files(key)]


def test_everything_gets_a_line(tmp_path: Path) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message(), message(b"todo")])
        sent = store.find(account, "Sent")
        assert sent is not None
        await store.copy(account, key, UidSet.of([2]), sent)
        await store.copy(account, key, UidSet.of([1]), key)
        assert [line.partition(" ")[0] for line in listed(tmp_path)[1:]] == ["1", "2", "3"]
        assert [line.partition(" ")[0] for line in listed(tmp_path, ".Sent")[1:]] == ["1"]
        for name in ("", ".Sent"):
            assert (tmp_path / "mail" / name / "dovecot-keywords").read_text() == "0 todo\n"
        bases = {line.partition(" :")[2] for line in listed(tmp_path)[1:]}
        there = {name.partition(":")[0] for sub in ("new", "cur") for name in os.listdir(tmp_path / "mail" / sub)}
        assert bases == there
        assert not list((tmp_path / "mail").rglob("*.lock"))
        assert (tmp_path / "mail" / "subscriptions").read_bytes().startswith(b"V\t2\n\n")

    run(tmp_path, work)


def test_what_another_server_gives_is_taken_before_ours(tmp_path: Path) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()])
        place = tmp_path / "mail"
        (place / "new" / "5.theirs").write_bytes(TEXT)
        with open(place / "dovecot-uidlist", "a", encoding="ascii") as file:
            file.write("7 :5.theirs\n")
        done = await store.append(account, key, [message()])
        assert done.uids == [8] and uids(store, account, key) == [1, 7, 8]
        (place / "dovecot-keywords").write_text("0 theirs\n1 more\n")
        await store.store(account, key, UidSet.of([7]), 1, 0, [b"ours", b"more"])
        assert (place / "dovecot-keywords").read_text() == "0 theirs\n1 more\n2 ours\n"
        # one more with a UID that is too low, and one without any
        (place / "new" / "6.low").write_bytes(TEXT)
        (place / "new" / "6.none").write_bytes(TEXT)
        os.utime(place / "new", (1, 1))
        await store.sync(account, key)
        assert uids(store, account, key) == [1, 7, 8, 9, 10]
        assert [line.partition(" ")[0] for line in listed(tmp_path)[1:]] == ["1", "7", "8", "9", "10"]

    run(tmp_path, work)


def test_another_uidvalidity(tmp_path: Path) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message(b"old"), message()])
        first, second = (line.partition(" :")[2] for line in listed(tmp_path)[1:])
        place = tmp_path / "mail"
        (place / "fresh").write_text(f"3 V77 N9\n4 :{second}\n6 :{first}\n")
        os.replace(place / "fresh", place / "dovecot-uidlist")
        (place / "dovecot-keywords").write_text("0 new\n")
        await store.sync(account, key)
        with store.snapshot(account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None and (box.uidvalidity, box.uidnext, box.exists) == (77, 9, 2)
            assert snapshot.keywords(key)[0] == b"new"
        assert uids(store, account, key) == [4, 6]

    run(tmp_path, work)


def test_a_list_that_cannot_be_written_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"3 V1 N1\n")
    known = shared_mode.Known()
    shared_mode._read(str(path), known)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))

    def full(fd: int) -> None:
        raise OSError(28, "full")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(StorageFull):
        shared_mode._append(str(path), b"1 :a\n2 :b\n", known)
    assert path.read_bytes() == b"3 V1 N1\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "words", "merged"),
    [
        ([], [b"a", b"b"], [], [b"a", b"b"]),
        ([b"a"], [], [b"A", b"c"], [b"a", b"c"]),
        ([b"a", b"b"], [b"x"], [b"c"], [b"x", b"b", b"c"]),
        ([b"a", b"b", b"c"], [b"a", b"unknown-1", b"c"], [], [b"a", b"b", b"c"]),
        ([], [b"unknown-0", b"b"], [b"c"], [b"unknown-0", b"b", b"c"]),
    ],
)
def test_keywords_of_both(ours: list[bytes], theirs: list[bytes], words: list[bytes], merged: list[bytes]) -> None:
    assert shared_mode._merge(ours, theirs, words) == merged


def test_a_list_made_anew_in_the_same_place(tmp_path: Path) -> None:
    """Another server writes a new list, and the file system gives it the inode of one that it replaced."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message(), message(), message()])
        path = tmp_path / "mail" / "dovecot-uidlist"
        header, *lines = path.read_text().splitlines(keepends=True)
        (tmp_path / "mail" / "new" / "5.theirs").write_bytes(TEXT)
        (tmp_path / "mail" / "new" / "6.theirs").write_bytes(TEXT)
        for name in os.listdir(tmp_path / "mail" / "new"):
            if lines[0].rstrip().endswith(name):
                (tmp_path / "mail" / "new" / name).unlink()
        with open(path, "r+", encoding="ascii") as file:  # compacted, and then longer than it was
            file.write(header.replace("N1", "N4") + lines[1] + lines[2] + "4 :5.theirs\n5 :6.theirs\n")
            file.truncate()
        done = await store.append(account, key, [message()])
        assert done.uids == [6] and uids(store, account, key) == [2, 3, 4, 5, 6]
        text = path.read_text()
        assert " N4" in text and [line.partition(" ")[0] for line in text.splitlines()[1:]] == ["2", "3", "4", "5", "6"]

    run(tmp_path, work)


def test_a_damaged_list_takes_no_uid_back(tmp_path: Path) -> None:
    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()])
        path = tmp_path / "mail" / "dovecot-uidlist"
        with open(path, "a", encoding="ascii") as file:
            file.write("7 :5.theirs\n9 :cu")
        done = await store.append(account, key, [message()])
        assert done.uids[0] == 10 and listed(tmp_path)[0].split(" ")[2] == "N10"

    run(tmp_path, work)


def test_what_is_added_behind_our_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who did not mind the lock: nothing is written behind it, and the next look finds both."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()])
        assert store.together is not None
        path = tmp_path / "mail" / "dovecot-uidlist"
        box = store.together.box(account, key)
        with open(path, "a", encoding="ascii") as file:
            file.write("2 :5.theirs\n")
        await store.together.write(account, box, [(2, b"ours")])
        assert listed(tmp_path)[-1] == "2 :5.theirs"
        real = shared_mode._append
        monkeypatch.setattr(shared_mode, "_append", lambda *args: shared_mode.NONE)
        (tmp_path / "mail" / "new" / "6.none").write_bytes(TEXT)
        os.utime(tmp_path / "mail" / "new", (1, 1))
        await store.sync(account, key)  # its line is not written: by the next look
        monkeypatch.setattr(shared_mode, "_append", real)
        assert (await store.append(account, key, [message()])).uids == [4]
        assert [line.partition(" ")[0] for line in listed(tmp_path)[1:]] == ["1", "2", "3", "4"]

    run(tmp_path, work)


def test_a_session_that_ends_before_the_line(tmp_path: Path) -> None:
    """Its message is in the index: the next look gives it a line."""

    async def work(store: LocalStore, account: Account, key: bytes) -> None:
        await store.append(account, key, [message()])
        assert store.together is not None
        real = store.together.write

        async def never(*args: object) -> None:
            raise asyncio.CancelledError

        store.together.write = never  # type: ignore[method-assign,assignment]
        with pytest.raises(asyncio.CancelledError):
            await store.append(account, key, [message()])
        store.together.write = real  # type: ignore[method-assign]
        assert len(listed(tmp_path)) == 2 and uids(store, account, key) == [1, 2]
        await store.sync(account, key)
        assert [line.partition(" ")[0] for line in listed(tmp_path)[1:]] == ["1", "2"]

    run(tmp_path, work)
