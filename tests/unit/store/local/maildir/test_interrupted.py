"""fastmail.store.local.maildir.interrupted: a MOVE that a loss of power interrupted leaves its message in one mailbox."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmail._core import mime
from fastmail.durable import beneath
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.maildir import interrupted
from fastmail.store.local.maildir.home import Home
from fastmail.store.local.maildir.names import NameMaker
from fastmail.store.local.store import LocalStore
from tests.support.homes import home_of, housed, local_store

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


async def begun(place: Path, texts: list[bytes]) -> tuple[LocalStore, Account, list[Path]]:
    """A store with these messages in INBOX, an empty mailbox Kept, and the files of the messages."""
    store = local_store(str(place / "data"))
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
    assert interrupted.remove(home, str(tmp_path / "mail" / ".Kept"), items) == []
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
    assert interrupted.remove(home, str(tmp_path / "mail" / ".Kept"), [item]) == [item]
    assert link.exists()


def test_only_files_that_may_be_the_same_are_kept_in_memory(tmp_path: Path) -> None:
    """An account may have a million messages, and one interrupted COPY."""

    async def work() -> tuple[Home, Path]:
        store, account, sources = await begun(tmp_path, [TEXT, *(TEXT + b"x" * n for n in range(1, 50))])
        link = link_of(next(one for one in sources if one.stat().st_size == len(TEXT)), tmp_path / "mail" / ".Kept")
        await store.close()
        return home_of(account), link

    home, link = asyncio.run(work())
    others = interrupted._Others(home, [os.fsencode(link)])
    kept = set().union(*others._by_inode.values(), *others._by_octets.values())
    assert len(kept) == 2 and {os.path.basename(path) for path in kept} > {os.fsencode(link.name)}
    assert others.have(os.fsencode(link))
