"""fastmail.store.local.maildir.interrupted: a MOVE that a loss of power interrupted leaves its message in one mailbox."""

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastmail._core import mime
from fastmail._core.uidset import UidSet
from fastmail.durable import beneath, stops
from fastmail.durable.stops import Stop
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.maildir import interrupted
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.store import LocalStore
from tests.support.homes import home_of, housed, local_store
from tests.support.waiting import until

TEXT = b"Subject: hello\n\n" + b"".join(b"line %05d\n" % n for n in range(2000))
EARLIER = NameMaker("deadbeef")  # of the server that was interrupted
WRITTEN = 1_600_000_000


def message(text: bytes = TEXT) -> NewMessage:
    return NewMessage((text,), mime.scan(text), mime.served_size(text), WRITTEN)


def link_of(source: Path, target: Path) -> Path:
    """What is on the disk of a COPY or MOVE whose record is not: a link in the other mailbox."""
    size, served = len(TEXT), mime.served_size(TEXT)
    link = target / "cur" / (os.fsdecode(EARLIER.make(size, served, True)) + ":2,")
    os.link(source, link)
    return link


def crash() -> list[Stop]:
    """The last stop was a moment ago."""
    return [Stop(int(time.time()), int(time.time()))]


def remember(store: LocalStore, *all_of_them: Stop) -> None:
    env = store.commits.shards[0].env
    with env.write() as txn:
        for stop in all_of_them:
            stops.note(txn, env.db["meta"], stop)


async def begun(place: Path, texts: list[bytes], instance: str = "00000000") -> tuple[LocalStore, Account, list[Path]]:
    """A store with these messages in INBOX, an empty mailbox Kept, and the files of the messages."""
    store = local_store(str(place / "data"), instance=instance)
    await store.start()
    account = housed(1, "user@example.test", str(place / "mail"))
    await store.open(account)
    await store.create(account, "Kept")
    key = store.find(account, "INBOX") or b""
    await store.append(account, key, [message(text) for text in texts])
    return store, account, sorted(path for sub in ("cur", "new") for path in (place / "mail" / sub).iterdir())


async def exists(store: LocalStore, account: Account, name: str) -> int:
    """How many messages a mailbox has after a look at its directories."""
    key = store.find(account, name) or b""
    await store.follower.sync(account, key, force=True)
    with store.snapshot(account) as snapshot:
        box = snapshot.mailbox(key)
    assert box is not None
    return box.exists


def written_again(source: Path, link: Path) -> None:
    """Recovery wrote the source from the journal, to another file."""
    fresh = source.with_name("fresh")
    fresh.write_bytes(source.read_bytes())
    os.utime(fresh, (WRITTEN + 5, WRITTEN + 5))
    fresh.rename(source)


def torn(source: Path, link: Path) -> None:
    """The same, and the disk never got one of the link's pages."""
    written_again(source, link)
    link.write_bytes(TEXT[:4096] + bytes(4096) + TEXT[8192:])


def cut(source: Path, link: Path) -> None:
    """The same, and the link ends within a page."""
    written_again(source, link)
    link.write_bytes(TEXT[:9000])


def same(source: Path, link: Path) -> None:
    """Nothing was torn: the link is of the source's file."""


@pytest.mark.parametrize("what", [same, written_again, torn, cut], ids=lambda what: what.__name__)
def test_link_of_an_interrupted_move_becomes_no_message(tmp_path: Path, what: Callable[[Path, Path], None]) -> None:
    async def work() -> None:
        store, account, (source,) = await begun(tmp_path, [TEXT])
        link = link_of(source, tmp_path / "mail" / ".Kept")
        what(source, link)
        remember(store, *crash())
        assert await exists(store, account, "Kept") == 0
        assert not link.exists()
        assert await exists(store, account, "INBOX") == 1
        assert source.read_bytes() == TEXT
        await store.close()

    asyncio.run(work())


def gone(source: Path, link: Path) -> None:
    """Another program removed the message."""
    source.unlink()


def another(source: Path, link: Path) -> None:
    """The only other message has other content."""
    source.unlink()
    source.write_bytes(TEXT[:-1] + b"!")


def longer(source: Path, link: Path) -> None:
    """The other message ends where the link goes on."""
    source.unlink()
    source.write_bytes(TEXT[:4096])


@pytest.mark.parametrize("what", [gone, another, longer], ids=lambda what: what.__name__)
def test_link_with_the_only_copy_becomes_a_message(tmp_path: Path, what: Callable[[Path, Path], None]) -> None:
    async def work() -> None:
        store, account, (source,) = await begun(tmp_path, [TEXT])
        link = link_of(source, tmp_path / "mail" / ".Kept")
        what(source, link)
        remember(store, *crash())
        assert await exists(store, account, "Kept") == 1
        assert link.read_bytes() == TEXT
        await store.close()

    asyncio.run(work())


def test_two_links_with_the_only_copy_become_one_message(tmp_path: Path) -> None:
    """The first proves that the second is one too many, but not the other way round."""

    async def work() -> None:
        store, account, (source,) = await begun(tmp_path, [TEXT])
        links = [link_of(source, tmp_path / "mail" / ".Kept") for _ in range(2)]
        source.unlink()
        remember(store, *crash())
        assert await exists(store, account, "Kept") == 1
        assert [link.exists() for link in links].count(True) == 1
        await store.close()

    asyncio.run(work())


def test_account_is_listed_once_for_all_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> tuple[Home, list[tuple[bytes, bytes]]]:
        store, account, sources = await begun(tmp_path, [TEXT] * 20)
        links = [link_of(source, tmp_path / "mail" / ".Kept") for source in sources]
        await store.close()
        return home_of(account), [(b"c", os.fsencode(link.name)) for link in links]

    home, items = asyncio.run(work())
    real, scanned = beneath.scan, []

    def scan(path: str) -> object:
        scanned.append(path)
        return real(path)

    monkeypatch.setattr(beneath, "scan", scan)
    assert interrupted.remove(home, str(tmp_path / "mail" / ".Kept"), items, crash()) == []
    assert sorted(scanned) == sorted(set(scanned))


def test_file_with_the_same_number_on_another_disk_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> tuple[Home, Path]:
        store, account, (source,) = await begun(tmp_path, [TEXT])
        link = link_of(source, tmp_path / "mail" / ".Kept")
        another(source, link)
        await store.close()
        return home_of(account), link

    home, link = asyncio.run(work())
    number, real = link.stat().st_ino, beneath.scan

    @contextlib.contextmanager
    def scan(path: str) -> Iterator[object]:
        with real(path) as entries:
            messages = path.endswith(("/cur", "/new"))
            yield [SimpleNamespace(name=one.name, inode=lambda: number) for one in entries] if messages else entries

    monkeypatch.setattr(beneath, "scan", scan)
    item = (b"c", os.fsencode(link.name))
    assert interrupted.remove(home, str(tmp_path / "mail" / ".Kept"), [item], crash()) == [item]
    assert link.exists()


def test_only_files_that_may_be_the_same_are_kept_in_memory(tmp_path: Path) -> None:
    """An account may have a million messages, and one interrupted COPY."""

    async def work() -> tuple[Home, Path]:
        store, account, sources = await begun(tmp_path, [TEXT, *(TEXT + b"x" * n for n in range(1, 50))])
        link = link_of(next(one for one in sources if one.stat().st_size == len(TEXT)), tmp_path / "mail" / ".Kept")
        await store.close()
        return home_of(account), link

    home, link = asyncio.run(work())
    others = interrupted._Others([home], [os.fsencode(link)])
    kept = set().union(*others._by_inode.values(), *(one.files for one in others._alike.values()))
    assert len(kept) == 2 and {os.path.basename(path) for path in kept} > {os.fsencode(link.name)}
    assert others.have(os.fsencode(link))


def old(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """What is made now has names as if it had been made so long ago."""
    real = time.time_ns
    monkeypatch.setattr("fastmail.store.local.maildir.names.time.time_ns", lambda: real() - seconds * 10**9)


@pytest.mark.parametrize("how", [shutil.copy2, os.link], ids=["cp", "cp -l"])
@pytest.mark.parametrize("stop", ["earlier", "later"])
def test_folder_from_a_backup_is_wanted(
    tmp_path: Path, how: Callable[[Any, Any], object], stop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages were copied by COPY once and removed since, their sources are still there; the last crash was before
    that, or long after it."""

    async def work() -> None:
        store, account, _ = await begun(tmp_path, [TEXT] * 3, "deadbeef")
        kept, backup = tmp_path / "mail" / ".Kept" / "cur", tmp_path / "backup"
        source, target = store.find(account, "INBOX") or b"", store.find(account, "Kept") or b""
        with monkeypatch.context() as patch:
            if stop == "later":
                old(patch, 2 * interrupted.SLACK)
            await store.copy(account, source, UidSet.of([1, 2, 3]), target)
        shutil.copytree(kept, backup, copy_function=how)
        await store.expunge(account, target, None, 0)
        await until(lambda: not list(kept.iterdir()))
        await store.close()
        store = local_store(str(tmp_path / "data"))
        await store.start()
        now = int(time.time())
        remember(store, Stop(now, now) if stop == "later" else Stop(now - 7200, now - 7000))
        for path in backup.iterdir():
            assert NameMaker.is_copy(os.fsencode(path.name))
            how(path, kept / path.name)
        assert await exists(store, account, "Kept") == 3
        assert len(list(kept.iterdir())) == 3
        await store.close()

    asyncio.run(work())


def test_file_that_is_being_copied_here_is_left_alone(tmp_path: Path) -> None:
    """It is empty for a moment. One that was empty before the power was lost stays empty."""

    async def work() -> tuple[Home, list[Path]]:
        store, account, _ = await begun(tmp_path, [])
        await store.close()
        inbox = tmp_path / "mail" / "cur"
        paths = [inbox / (os.fsdecode(EARLIER.make(100, 100)) + ":2,") for _ in range(2)]
        for path in paths:
            path.touch()
        return home_of(account), paths

    home, paths = asyncio.run(work())
    items = [(b"c", os.fsencode(path.name)) for path in paths]
    now = int(time.time())
    directory = str(tmp_path / "mail")
    assert interrupted.remove(home, directory, items, [Stop(now - 3600, now - 60)]) == items
    assert interrupted.remove(home, directory, items, [Stop(now - 3600, now + 60)]) == []


def equal_sized(place: Path, count: int, what: Callable[[Path, Path], None]) -> tuple[Home, list[tuple[bytes, bytes]]]:
    """An account with so many different messages of one size, and a link to each that has become a file of its own."""

    async def work() -> tuple[Home, list[Path]]:
        texts = [TEXT[:-5] + b"%05d" % n for n in range(count)]
        store, account, sources = await begun(place, texts)
        links = [link_of(source, place / "mail" / ".Kept") for source in sources]
        for source, link in zip(sources, links, strict=True):
            what(source, link)
        await store.close()
        return home_of(account), links

    home, links = asyncio.run(work())
    return home, [(b"c", os.fsencode(link.name)) for link in links]


def torn_alike(source: Path, link: Path) -> None:
    """What tells the messages apart is what the power took, in all but a few."""
    written_again(source, link)
    link.write_bytes(source.read_bytes()[:8192] + bytes(len(TEXT) - 8192))


def torn_at_the_end(source: Path, link: Path) -> None:
    """It begins as all others do, and is none of them."""
    torn_alike(source, link)
    link.write_bytes(link.read_bytes()[:8192] + os.fsencode(link.name))


@pytest.mark.parametrize(
    "what,left", [(written_again, 0), (torn_alike, 0), (torn_at_the_end, 1)], ids=["whole", "torn", "unlike"]
)
def test_many_files_of_one_size_are_looked_at_once_each(
    tmp_path: Path, what: Callable[[Path, Path], None], left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    real = beneath.open_file

    def counted(*words: Any) -> int:
        nonlocal opened
        opened += 1
        return real(*words)

    costs = []
    for count in (40, 80):
        (tmp_path / str(count)).mkdir()
        home, items = equal_sized(tmp_path / str(count), count, what)
        opened = 0
        with monkeypatch.context() as patch:
            patch.setattr(beneath, "open_file", counted)
            kept = interrupted.remove(home, str(tmp_path / str(count) / "mail" / ".Kept"), items, crash())
        assert len(kept) == left * count
        costs.append(opened)
    assert costs[1] <= 2 * costs[0] + 10, "twice as many files cost twice as much"
