"""Files that another program writes where they are to stay, instead of renaming them out of tmp/: they are taken in
whole, wherever one looks, and what came by a rename does not wait for them."""

import asyncio
import fcntl
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.durable import beneath
from fastmail.store.interface import Account
from fastmail.store.local.maildir import follow, looking
from fastmail.store.local.store import LocalStore
from tests.support.homes import housed, local_store
from tests.support.waiting import until

HEAD, BODY = b"Subject: slow\n\n", b"line\n" * 1000
WHOLE = len((HEAD + BODY).replace(b"\n", b"\r\n"))


class Place:
    """A store with one mailbox, and what of it is in the index."""

    def __init__(self, path: Path, store: LocalStore, account: Account, key: bytes) -> None:
        self.mail = path / "mail"
        self.store = store
        self.account = account
        self.key = key

    def there(self) -> list[tuple[int, bytes]]:
        with self.store.snapshot(self.account) as snapshot:
            return [(uid, bytes(marked[1:])) for uid, marked in snapshot.files(self.key)]

    def octets(self) -> int:
        with self.store.snapshot(self.account) as snapshot:
            box = snapshot.mailbox(self.key)
            assert box is not None
            return box.octets

    async def look(self) -> list[bytes]:
        """The names that a SELECT or STATUS finds now."""
        await self.store.sync(self.account, self.key)
        return [name for _, name in self.there()]

    def deliver(self, name: str) -> None:
        """As delivery agents do: written in tmp/, then renamed."""
        (self.mail / "tmp" / name).write_bytes(b"Subject: quick\n\nx\n")
        os.rename(self.mail / "tmp" / name, self.mail / "new" / name)


def run(path: Path, work: Callable[[Place], Awaitable[None]], shared: bool = False) -> None:
    async def main() -> None:
        store = local_store(str(path / "data"), shared=shared)
        await store.start()
        account = housed(1, "user@example.test", str(path / "mail"))
        await store.open(account)
        key = store.find(account, "INBOX")
        assert key is not None
        await work(Place(path, store, account, key))
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["new/1.slow", "cur/1.slow:2,S"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_look_takes_a_file_when_it_is_closed(tmp_path: Path, name: str, shared: bool, known: bool) -> None:
    """``known``: the mailbox was looked at before."""

    async def work(place: Place) -> None:
        if known:
            place.deliver("0.first")
            assert await place.look() == [b"0.first"]
        before = [b"0.first"] if known else []
        with open(place.mail / name, "wb", buffering=0) as slow:
            assert await place.look() == before, "it is empty yet"
            slow.write(HEAD)
            assert await place.look() == before
            slow.write(BODY[:500])
            place.deliver("2.quick")
            assert await place.look() == [*before, b"2.quick"], "what was renamed does not wait"
            octets = place.octets()
            if shared:
                assert "1.slow" not in (place.mail / "dovecot-uidlist").read_text()
            slow.write(BODY[500:])
            assert await place.look() == [*before, b"2.quick"]
        assert await place.look() == [*before, b"2.quick", os.path.basename(name).encode()]
        assert place.octets() == octets + WHOLE
        uid = place.there()[-1][0]
        assert await place.store.content(place.account, place.key, uid) == HEAD + BODY

    run(tmp_path, work, shared)


def test_while_one_is_written_only_new_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    real = looking.look

    def counted(*args: object, **more: object) -> object:
        nonlocal looks
        looks += 1
        return real(*args, **more)  # type: ignore[arg-type]

    async def work(place: Place) -> None:
        for sub in ("new", "cur"):
            os.utime(place.mail / sub, (time.time() - 10, time.time() - 10))
        await place.look()
        before = looks
        with open(place.mail / "new" / "1.slow", "wb", buffering=0) as slow:
            slow.write(HEAD)
            for _ in range(5):
                assert await place.look() == []
        assert await place.look() == [b"1.slow"]
        assert looks == before

    monkeypatch.setattr(looking, "look", counted)
    run(tmp_path, work)


@pytest.mark.parametrize("name", ["new/1.slow", "cur/1.slow:2,S"])
def test_a_session_that_looks_hears_of_it_when_it_is_closed(tmp_path: Path, name: str) -> None:
    async def work(place: Place) -> None:
        await place.look()
        heard = asyncio.Event()
        place.store.watch(place.account, place.key, heard.set)
        with open(place.mail / name, "wb", buffering=0) as slow:
            slow.write(HEAD)
            place.deliver("2.quick")
            await until(place.there)
            assert [name for _, name in place.there()] == [b"2.quick"]
            slow.write(BODY)
        heard.clear()
        begun = time.monotonic()
        await until(lambda: len(place.there()) == 2)
        assert time.monotonic() - begun < follow.RETRY, "by the event, not by another look"
        await heard.wait()
        assert place.octets() == WHOLE + len(b"Subject: quick\r\n\r\nx\r\n")

    run(tmp_path, work)


def test_where_nobody_can_tell_it_waits_until_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of another user, and file systems without leases. No event comes then: it is looked at again."""
    monkeypatch.setattr(beneath, "is_written", lambda path: None)
    monkeypatch.setattr(looking, "SETTLED", 0.5)
    monkeypatch.setattr(follow, "RETRY", 0.55)

    async def work(place: Place) -> None:
        place.store.watch(place.account, place.key, lambda: None)
        (place.mail / "new" / "1.copied").write_bytes(HEAD)
        assert await place.look() == []
        await until(place.there)
        (place.mail / "new" / "2.copied").write_bytes(HEAD)
        os.utime(place.mail / "new" / "2.copied", (1e9, 1e9))  # as cp -p does at its end
        assert await place.look() == [b"1.copied", b"2.copied"]

    run(tmp_path, work)


def test_a_file_that_is_open_and_rests_for_long_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that never closes its file keeps no mail from its user."""

    async def work(place: Place) -> None:
        with open(place.mail / "new" / "1.open", "wb", buffering=0) as slow:
            slow.write(HEAD)
            assert await place.look() == []
            monkeypatch.setattr(looking, "WRITING", 0.0)
            assert await place.look() == [b"1.open"]

    run(tmp_path, work)


def test_whether_a_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert beneath.is_written(str(path)) is False
    for mode in ("ab", "r+b"):
        with open(path, mode):
            assert beneath.is_written(str(path)) is True
    with open(path, "rb"):
        assert beneath.is_written(str(path)) is False
    path.with_name("link").symlink_to("file")
    with pytest.raises(OSError):
        beneath.is_written(str(path.with_name("link")))

    def denied(*args: object) -> int:
        raise PermissionError(13, "the file belongs to somebody else")

    monkeypatch.setattr(fcntl, "fcntl", denied)
    before = os.listdir("/proc/self/fd")
    assert beneath.is_written(str(path)) is None
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_whoever_writes_while_it_is_asked_ends_nobody(tmp_path: Path) -> None:
    """The kernel signals the holder of a lease; by default that would end this process."""
    path = tmp_path / "file"
    path.write_bytes(b"x")

    async def main() -> None:
        over = asyncio.Event()

        def ask() -> int:
            return sum(beneath.is_written(str(path)) is True for _ in range(3000))

        def write() -> int:
            count = 0
            while not over.is_set():
                with open(path, "ab", buffering=0) as file:
                    file.write(b"x")
                count += 1
            return count

        writing = asyncio.create_task(asyncio.to_thread(write))
        await asyncio.to_thread(ask)
        over.set()
        assert await writing > 0

    asyncio.run(main())
