"""Names, control files, the hub, the stage that puts files in place."""

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable import files, stage
from fastmail.model.errors import CorruptData
from fastmail.model.flags import ANSWERED, FLAGGED, SEEN
from fastmail.model.keys import EVERYTHING
from fastmail.store.hub import Hub
from fastmail.store.interface import NewMessage
from fastmail.store.local.dovecot import control_files
from fastmail.store.local.index import layout
from fastmail.store.local.index.layout import base_of
from fastmail.store.local.maildir import looking
from fastmail.store.local.maildir.folders import control_directory, folder
from fastmail.store.local.maildir.follow import MaildirFollower
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import FileName, NameMaker, arrival_order, path_of, sizes_in
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store
from tests.support.waiting import until


def test_names() -> None:
    maker = NameMaker("0123abcd")
    one, two = maker.make(10, 12), maker.make(10, 12)
    assert one != two and maker.under_way(one) and sizes_in(one) == (10, 12)
    assert not NameMaker("ffffffff").under_way(one) and not maker.under_way(b"1700000000.1.other")
    assert arrival_order(b"5.M2P1.x") < arrival_order(b"5.M10P1.x") < arrival_order(b"6.x") < arrival_order(b"weird")
    assert sizes_in(b"1.x,S=5x,W=6") == (-1, 6)
    parsed = FileName.parse(b"1.x,S=5:2,FSPb,more")
    assert (parsed.base, parsed.with_flags(parsed.flags, parsed.keywords)) == ("1.x,S=5", b"1.x,S=5:2,FPSb,more")
    assert base_of(b"1.x:2,S") == b"1.x" and FileName.parse(b"1.x:1,zz").flags == 0
    home = Home("/m", control="/c")
    assert folder(home, "INBOX") == "/m/." and folder(home, "A/Ü") == "/m/./.A.&ANw-"
    assert control_directory(home, "INBOX") == "/c/./.INBOX" and control_directory(home, "A/B") == "/c/./.A.B"
    home = Home("/m", control="/c", layout="fs", utf8=True)
    assert folder(home, "INBOX") == "/m/." and folder(home, "A/Ü.x") == "/m/./A/Ü.x"
    assert control_directory(home, "INBOX") == "/c/./INBOX"


def test_rows() -> None:
    box = layout.MailboxRow(b"k" * 12, "Ünder/x", 7, 8, 1, 1, 0, 3, 99, 1 << 40, 4, 5, 6)
    assert layout.unpack_row(box.key, layout.pack_row(box)) == box
    with pytest.raises(CorruptData):
        layout.unpack_row(box.key, b"\x02" + layout.pack_row(box)[1:])
    value = layout.pack_message(b"cname", b"summary")
    assert (layout.marked_of(value), layout.summary_of(value)) == (b"cname", b"summary")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"3 V5 N9 G00\n1 :a\n4 W7 Px:y :b:2,S\n", (5, 9, {b"a": 1, b"b": 4})),
        (b"1 5 3\n1 a\n7 b\n", (5, 8, {b"a": 1, b"b": 7})),
        (b"3 V5 N9\n4 :a\n1 :b\n", None),
        (b"3 N9\n", None),
        (b"4 V5 N9\n", None),
        (b"3 V0 N1\n", None),
        (b"3 V5 N9\nx :a\n", None),
        (b"", None),
    ],
)
def test_uidlists(text: bytes, wanted: object) -> None:
    found = control_files.parse_uidlist(text)
    assert (found and (found.uidvalidity, found.uidnext, found.uids)) == wanted


def test_keyword_files(tmp_path: Path) -> None:
    (tmp_path / "dovecot-keywords").write_bytes(b"0 $A\n3 B\n3 C\n99 D\nx\n4 bad(one\n")
    assert control_files.read_keywords(str(tmp_path)) == [b"$A", b"unknown-1", b"unknown-2", b"B"]
    assert control_files.read_keywords(str(tmp_path / "none")) == []


def test_hub_tells_other_workers(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hubs = [Hub(str(tmp_path), n) for n in range(2)]
        heard: list[str] = []
        for n, hub in enumerate(hubs):
            hub.start(loop, 2)
            hub.watch(b"m" * 12, lambda n=n: heard.append(f"{n}"))
        hubs[0].publish([b"m" * 12, b"x" * 12])
        assert heard == ["0"]
        await asyncio.sleep(0.05)
        assert heard == ["0", "1"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rude:
            rude.sendto(b"short", str(tmp_path / "doorbell.0"))
        await asyncio.sleep(0.05)
        for hub in hubs:
            hub.close()

    asyncio.run(main())


def test_watchers_of_an_account_hear_from_other_workers(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hubs = [Hub(str(tmp_path), n) for n in range(2)]
        heard: list[int] = []
        for hub in hubs:
            hub.start(loop, 2)
        account, other = (1).to_bytes(8, "big"), (2).to_bytes(8, "big")

        def ring() -> None:
            heard.append(1)

        hubs[1].watch(account + EVERYTHING, ring)
        hubs[0].publish([other + b"\0\0\0\1"])
        await asyncio.sleep(0.05)
        assert not heard
        hubs[0].publish([account + b"\0\0\0\1", account + bytes(4), other + bytes(4)])
        await asyncio.sleep(0.05)
        assert len(heard) == 1, "once for a commit"
        hubs[1].unwatch(account + EVERYTHING, ring)
        hubs[0].publish([account + b"\0\0\0\1"])
        await asyncio.sleep(0.05)
        assert len(heard) == 1
        for hub in hubs:
            hub.close()

    asyncio.run(main())


def test_stage_puts_files_in_place_and_tells_each_failure(tmp_path: Path) -> None:
    for name in ("tmp", "new"):
        (tmp_path / name).mkdir()
    root = os.fsencode(tmp_path)

    def job(
        name: bytes, directory: bytes = b"/new", mtime: int = -1
    ) -> tuple[bytes, bytes, bytes, list[bytes], int, int, bool]:
        return (
            root + b"/tmp/" + name,
            root + directory + b"/" + name,
            root + directory,
            [b"a" * 5000, b"", b"b"],
            mtime,
            -1,
            name == b"7",
        )

    (tmp_path / "tmp" / "there").write_bytes(b"")
    jobs = [job(b"%d" % n, mtime=1000 if n == 3 else -1) for n in range(20)]
    jobs += [job(b"x"), job(b"y", b"/missing"), job(b"there")]
    jobs += [
        (root + b"/new/" + old, root + b"/new/linked", root + b"/new", None, -1, -1, True)
        for old in (b"none", b"there")
    ]
    assert stage.write_files(jobs) == [*[0] * 21, errno.ENOENT, errno.EEXIST, errno.ENOENT, errno.ENOENT]  # type: ignore[arg-type]
    assert stage.write_files([(root + b"/new/0", root + b"/new/linked", root + b"/new", None, -1, -1, True)]) == [0]
    assert stage.write_files([]) == []
    assert (tmp_path / "new" / "linked").samefile(tmp_path / "new" / "0")
    assert (tmp_path / "new" / "7").read_bytes() == b"a" * 5000 + b"b"
    assert (tmp_path / "new" / "3").stat().st_mtime == 1000
    assert os.listdir(tmp_path / "tmp") == []
    with pytest.raises(ValueError, match="too many chunks"):
        stage.write_files([(*job(b"z")[:3], [b"x"] * 9, -1, -1, False)])


def test_read_file_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("a")
    path = os.fsencode(tmp_path)
    assert files.read_file(path + b"/a") == b"x" * 100_000
    assert files.read_file(path + b"/a", True) in (b"x" * 100_000, None)
    for bad in (b"/link", b"/none", b""):
        with pytest.raises(OSError):
            files.read_file(path + bad)


def test_a_message_is_found_while_its_new_name_is_not_committed_yet(tmp_path: Path) -> None:
    async def main() -> None:
        store = local_store(str(tmp_path / "data"))
        await store.start()
        account = housed(1, "me@example.test", str(tmp_path / "mail"))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        content = b"Subject: x\n\nbody\n"
        await store.append(account, key, [NewMessage((content,), mime.scan(content), len(content), 1)])
        with store.snapshot(account) as snapshot:
            uid, marked = next(iter(snapshot.files(key)))
        # as housekeeping of another worker does it, in the moment before its commit
        os.rename(path_of(account.home.root, marked), path_of(account.home.root, b"c" + marked[1:] + b":2,S"))
        await store.commits.submit(account, lambda txn, t: txn.put(layout.uid_key(key, uid), b"", db=t.todo))
        assert await store.content(account, key, uid) == content
        await store.close()

    asyncio.run(main())


class Neighbour:
    """Another program at work on a Maildir, and how often a store compared all of it with the index."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.path = path
        self.account = housed(1, "me@example.test", str(path / "mail"))
        self.looks = 0
        for sub in ("cur", "new", "tmp"):
            (path / "mail" / sub).mkdir(parents=True)
        for number in range(count):
            (path / "mail" / "cur" / f"{number}.M1P1.x:2,S").write_text("Subject: x\n\nbody\n")
        real = looking.look

        def look(*args: Any) -> looking.Plan:
            self.looks += 1
            return real(*args)

        monkeypatch.setattr(looking, "look", look)
        monkeypatch.setattr("fastmail.store.local.maildir.follow.LARGE", 10)

    def deliver(self, name: str) -> None:
        (self.path / "mail" / "tmp" / name).write_text(f"Subject: {name}\n\nbody\n")
        os.rename(self.path / "mail" / "tmp" / name, self.path / "mail" / "new" / name)

    async def open(self) -> tuple[LocalStore, bytes]:
        store = local_store(str(self.path / "data"), instance="0a0b0c0d")
        await store.start()
        await store.open(self.account)
        key = store.find(self.account, "INBOX")
        assert key is not None
        return store, key

    async def count(self, store: LocalStore, key: bytes) -> int:
        await asyncio.sleep(0.08)  # until the directories' times can be relied on
        await store.sync(self.account, key)
        with store.snapshot(self.account) as snapshot:
            box = snapshot.mailbox(key)
            assert box is not None
            assert len({base_of(marked[1:]) for _, marked in snapshot.files(key)}) == box.exists
            return box.exists


def test_a_delivery_costs_a_look_at_new_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        other = Neighbour(tmp_path, monkeypatch, 30)
        store, key = await other.open()
        assert await other.count(store, key) == 30 and other.looks == 1
        for number in range(3):
            other.deliver(f"{100 + number}.M1P1.x")
            assert await other.count(store, key) == 31 + number and other.looks == 1
        # moved to cur/ by its reader, removed, flagged: all of it is compared
        for change in (
            lambda: os.rename(tmp_path / "mail/new/100.M1P1.x", tmp_path / "mail/cur/100.M1P1.x:2,S"),
            lambda: os.unlink(tmp_path / "mail/new/101.M1P1.x"),
            lambda: os.rename(tmp_path / "mail/cur/3.M1P1.x:2,S", tmp_path / "mail/cur/3.M1P1.x:2,FS"),
        ):
            looks = other.looks
            change()
            await other.count(store, key)
            assert other.looks == looks + 1
        assert await other.count(store, key) == 32
        await store.close()
        # the next start knows, until something changed meanwhile
        other.looks = 0
        store, key = await other.open()
        assert await other.count(store, key) == 32 and other.looks == 0
        other.deliver("200.M1P1.x")
        assert await other.count(store, key) == 33 and other.looks == 0
        await store.close()
        os.unlink(tmp_path / "mail/cur/5.M1P1.x:2,S")
        store, key = await other.open()
        assert await other.count(store, key) == 32 and other.looks == 1
        await store.close()

    asyncio.run(main())


def test_two_processes_take_a_delivery_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores over one index, as two workers have them."""

    async def main() -> None:
        other = Neighbour(tmp_path, monkeypatch, 20)
        one, key = await other.open()
        assert await other.count(one, key) == 20
        first = one.follower
        # what another worker remembers of the mailbox
        own = one.commits, one.account_paths, one.paths, one.maker
        second = MaildirFollower(*own, one.hub.publish, control_files.read_control, one.home_of)
        await second.sync(other.account, key)
        for number in range(10):
            other.deliver(f"{300 + number}.M1P1.x")
            await asyncio.sleep(0.08)
            await asyncio.gather(first.sync(other.account, key), second.sync(other.account, key))
            assert await other.count(one, key) == 21 + number
        await one.close()

    asyncio.run(main())


def test_own_names_are_no_news_while_a_session_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        other = Neighbour(tmp_path, monkeypatch, 20)
        store, key = await other.open()
        await other.count(store, key)
        store.watch(other.account, key, lambda: None)

        def flagged() -> list[str]:
            return [name for name in os.listdir(tmp_path / "mail/cur") if name.endswith(":2,FS")]

        def answered() -> int:
            with store.snapshot(other.account) as snapshot:
                records = [record for page in snapshot.pages(key) for record in pages.records(page)]
            return [record[1] for record in records].count(ANSWERED | SEEN)

        looks = other.looks
        await store.store(other.account, key, UidSet.of([1, 2, 3]), 1, FLAGGED, [])
        await store.expunge(other.account, key, UidSet.of([4]), 0)
        await until(lambda: len(flagged()) == 3 and len(os.listdir(tmp_path / "mail/cur")) == 19)
        assert other.looks == looks
        assert await other.count(store, key) == 19 and other.looks == looks
        # while it works on names, another program flags a message: that is seen
        os.rename(tmp_path / "mail/cur/10.M1P1.x:2,S", tmp_path / "mail/cur/10.M1P1.x:2,RS")
        await store.store(other.account, key, UidSet.of([1, 2, 3]), -1, FLAGGED, [])
        await until(answered)
        assert answered() == 1 and other.looks > looks
        await store.close()

    asyncio.run(main())


def test_access_lists_of_other_servers(tmp_path: Path) -> None:
    (tmp_path / "courierimapacl").write_bytes(
        b"owner aceilrstwx\nuser=a@b.test lr\n-user=c lrs\nanyone l\nadministrators lr\n"
    )
    acl, left = control_files.read_acl(str(tmp_path), "me@b.test")
    assert acl == {"me@b.test": "lrswikxtea", "a@b.test": "lr", "-c@b.test": "lrs", "anyone": "l"}
    assert left == ["administrators lr"]
    written = control_files.acl_file(acl, "me@b.test")
    (tmp_path / "dovecot-acl").write_bytes(
        b"# ours\n" + written + b"user=x@y.test lr :named\ngroup=g l\nuser=z q\n\xff\n"
    )
    again, left = control_files.read_acl(str(tmp_path), "me@b.test")
    assert again == acl | {"x@y.test": "lr"} and len(left) == 3
    assert control_files.read_acl(str(tmp_path / "none"), "me@b.test") == ({}, [])


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (b"1000S,50C\n12 1\n", (1000, 50)),
        (b"50C,1000S\n", (1000, 50)),
        (b"0S\n5 5\n", (0, 0)),
        (b"", (0, 0)),
        (b"\0\0\0", (0, 0)),
        (b"x\n1000S\n", (0, 0)),
        (b"-5S\n", (0, 0)),
    ],
)
def test_limits_of_a_maildir(tmp_path: Path, data: bytes, limits: tuple[int, int]) -> None:
    (tmp_path / "maildirsize").write_bytes(data)
    assert control_files.read_limits(str(tmp_path)) == limits


def test_a_watcher_that_fails_keeps_no_other_from_hearing() -> None:
    hub, heard = Hub(), []

    def wrong() -> None:
        raise RuntimeError("a bug")

    keys = [bytes(11) + bytes([n]) for n in range(3)]
    for key in keys:
        hub.watch(key, wrong)
        hub.watch(key, lambda key=key: heard.append(key))  # type: ignore[misc]
    hub.publish(keys)
    assert sorted(heard) == keys
