"""RETR and TOP over the local store: commands that come together, while other sessions and programs change INBOX."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fastmail.model.errors import CorruptData
from fastmail.pop3.reading import BLOCK
from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.store import LocalStore
from tests.support.homes import local_store
from tests.support.sessions import USER, Bench, Client

COUNT = 4


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n.dot\r\nend\r\n" % number


def with_session(tmp_path: Path, kind: str, work: Callable[[Bench, Client], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` with a session that has logged in, of an account with COUNT messages."""

    async def main() -> None:
        (tmp_path / "data").mkdir()
        store = local_store(str(tmp_path / "data"), kind=kind)
        bench = Bench(str(tmp_path), store)
        await store.start()
        try:
            for number in range(1, COUNT + 1):
                await appended(bench, content(number))
            client = bench.open("pop3")
            answer = await client.send(b"USER %b\r\nPASS secret\r\n" % USER.encode())
            assert answer.endswith(b"+OK %d messages\r\n" % COUNT), answer
            await work(bench, client)
            client.connection.connection_lost(None)
        finally:
            await store.close()

    asyncio.run(main())


async def imap(bench: Bench, commands: bytes) -> None:
    client = bench.open("imap")
    answer = await client.send(b"a LOGIN %b secret\r\na SELECT INBOX\r\n" % USER.encode() + commands)
    assert b"a NO" not in answer and b"a BAD" not in answer, answer
    client.connection.connection_lost(None)


async def appended(bench: Bench, message: bytes) -> None:
    await imap(bench, b"a APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))


def sent(number: int) -> bytes:
    return b"+OK %d octets\r\n" % len(content(number)) + content(number).replace(b"\n.", b"\n..") + b".\r\n"


async def retr(client: Client, *numbers: int) -> bytes:
    return await client.send(b"".join(b"RETR %d\r\n" % number for number in numbers))


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_what_others_remove_stays_readable(tmp_path: Path, kind: str) -> None:
    async def work(bench: Bench, client: Client) -> None:
        assert await retr(client, 1, 2, 3) == sent(1) + sent(2) + sent(3)
        await imap(bench, b"a STORE 2 FLAGS (\\Deleted)\r\na STORE 3 FLAGS (\\Seen)\r\na EXPUNGE\r\n")
        assert await retr(client, 1, 2, 3, 4) == b"".join(map(sent, range(1, COUNT + 1)))
        assert await client.send(b"TOP 2 0\r\nTOP 3 0\r\n") == b"".join(
            b"+OK %d octets\r\nSubject: %d\r\n\r\n.\r\n" % (len(content(n)), n) for n in (2, 3)
        )

    with_session(tmp_path, kind, work)


def test_other_programs_rename_and_remove_files(tmp_path: Path) -> None:
    async def work(bench: Bench, client: Client) -> None:
        assert await retr(client, 3, 4) == sent(3) + sent(4)
        home = bench.homes.home(bench.deliverer.account(bench.directory.accounts[USER]))
        for file in [*Path(home.root, "new").iterdir(), *Path(home.root, "cur").iterdir()]:
            found = file.read_bytes()
            if b"Subject: 4" in found:
                file.unlink()
            elif b"Subject: 3" in found:
                file.rename(Path(home.root, "cur", file.name.partition(":")[0] + ":2,FS"))
        answer = await retr(client, 1, 3, 4, 2)
        assert answer == sent(1) + sent(3) + b"-ERR message was removed by another program\r\n" + sent(2)

    with_session(tmp_path, "maildir", work)


@pytest.mark.parametrize("kind", ["maildir", "segments"])
def test_nothing_waits_with_an_open_snapshot(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is not in memory, one that is long, one to be converted, and more than a peer takes at once."""
    long = b"Subject: long\r\n\r\n" + b"line\r\n" * (BLOCK // 4)
    other = "Subject: ü\r\n\r\ntext\r\n".encode()

    async def work(bench: Bench, client: Client) -> None:
        for message in (long, other):
            await appended(bench, message)
        session = client.connection.session
        opened = 0
        here, away = LocalSnapshot.content, LocalStore.content

        def at_hand(snapshot: LocalSnapshot, key: bytes, uid: int) -> Any:
            nonlocal opened
            opened += 1
            return here(snapshot, key, uid) if opened != 2 else None

        async def waiting(store: LocalStore, *what: Any) -> bytes | None:
            assert session._opened is None and session._snapshot is None
            await asyncio.sleep(0.01)
            return await away(store, *what)

        monkeypatch.setattr(LocalSnapshot, "content", at_hand)
        monkeypatch.setattr(LocalStore, "content", waiting)
        client = bench.open("pop3")
        await client.send(b"USER %b\r\nPASS secret\r\n" % USER.encode())
        session = client.connection.session
        answer = await retr(client, 1, 2, COUNT + 1, COUNT + 2, 3)
        assert answer.startswith(sent(1) + sent(2)) and answer.endswith(sent(3))
        assert long + b".\r\n" in answer and opened == 5
        assert session._opened is None and session._snapshot is None

    with_session(tmp_path, kind, work)


def test_an_index_that_cannot_be_read_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*what: Any) -> bytes:
        raise CorruptData("damaged")

    async def work(bench: Bench, client: Client) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(LocalSnapshot, "content", broken)
            assert await retr(client, 1) == b"-ERR [SYS/TEMP] message can not be read now\r\n"
        assert client.connection.session._opened is None
        assert await retr(client, 1) == sent(1)

    with_session(tmp_path, "segments", work)
