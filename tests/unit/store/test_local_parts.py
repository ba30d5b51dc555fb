"""Names, control files, the hub, the stage that puts files in place."""

import asyncio
import errno
import os
import socket
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail.durable import files
from fastmail.durable.stage import FileStage
from fastmail.model.errors import CorruptData
from fastmail.store.hub import Hub
from fastmail.store.interface import Account, Mailbox, NewMessage
from fastmail.store.local import foreign, layout
from fastmail.store.local.names import FileName, NameMaker, arrival_order, base_of, folder, path_of, sizes_in
from fastmail.store.local.store import LocalStore


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
    assert folder("/m", "INBOX") == "/m" and folder("/m", "A/Ü") == "/m/.A.&ANw-"


def test_rows() -> None:
    box = Mailbox(b"k" * 12, "Ünder/x", 7, 8, 1, 1, 0, 3, 99, 1 << 40, 4, 5, 6)
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
    found = foreign.parse_uidlist(text)
    assert (found and (found.uidvalidity, found.uidnext, found.uids)) == wanted


def test_keyword_files(tmp_path: Path) -> None:
    (tmp_path / "dovecot-keywords").write_bytes(b"0 $A\n3 B\n3 C\n99 D\nx\n4 bad(one\n")
    assert foreign.read_keywords(str(tmp_path)) == [b"$A", b"unknown-1", b"unknown-2", b"B"]
    assert foreign.read_keywords(str(tmp_path / "none")) == []


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


def test_stage_puts_files_in_place_and_tells_each_failure(tmp_path: Path) -> None:
    for name in ("tmp", "new"):
        (tmp_path / name).mkdir()
    root = os.fsencode(tmp_path)
    stage = FileStage()

    def job(
        name: bytes, directory: bytes = b"/new", mtime: int = -1
    ) -> tuple[bytes, bytes, bytes, list[bytes], int, int]:
        return (
            root + b"/tmp/" + name,
            root + directory + b"/" + name,
            root + directory,
            [b"a" * 5000, b"", b"b"],
            mtime,
            -1,
        )

    for n in range(20):
        stage.submit(n, [job(b"%d" % n, mtime=1000 if n == 3 else -1)])
    stage.submit("two", [job(b"x"), job(b"y", b"/missing")])
    (tmp_path / "tmp" / "there").write_bytes(b"")
    stage.submit("exists", [job(b"there")])
    stage.submit("link", [(root + b"/new/0", root + b"/new/linked", root + b"/new", None, -1, -1)])
    done: dict[object, list[int]] = {}
    while len(done) < 23:
        done.update(stage.wait())
    assert [done[n] for n in range(20)] == [[0]] * 20
    assert done["two"] == [0, errno.ENOENT] and done["exists"] == [errno.EEXIST]
    assert done["link"] in ([0], [errno.ENOENT])
    assert (tmp_path / "new" / "7").read_bytes() == b"a" * 5000 + b"b"
    assert (tmp_path / "new" / "3").stat().st_mtime == 1000
    assert not (tmp_path / "tmp" / "y").exists()
    stage.settled(23)
    stage.submit("last", [job(b"last")])
    stage.close()
    assert stage.wait() == [("last", [0])]


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
        store = LocalStore(str(tmp_path / "data"))
        await store.start()
        account = Account(1, "me@example.test", str(tmp_path / "mail"))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        content = b"Subject: x\n\nbody\n"
        await store.append(account, key, [NewMessage((content,), mime.scan(content), len(content), 1)])
        with store.snapshot(account) as snapshot:
            uid, marked = next(iter(snapshot.files(key)))
        # as housekeeping of another worker does it, in the moment before its commit
        os.rename(path_of(account.root, marked), path_of(account.root, b"c" + marked[1:] + b":2,S"))
        await store.submit(account, lambda txn, t: txn.put(layout.uid_key(key, uid), b"", db=t.todo))
        assert await store.content(account, key, uid) == content
        await store.close()

    asyncio.run(main())
