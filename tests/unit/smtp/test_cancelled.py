"""A session is cancelled while its message is being kept: at each wait nothing is lost, and nothing stays behind."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail.delivery.history import History
from fastmail.durable.staging import Budget
from fastmail.net.connection import Connection
from fastmail.queue import routes
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.store.interface import NewMessage
from tests.support.cancelled import at_step
from tests.support.homes import local_store
from tests.support.relaying import Outward
from tests.support.sessions import USER, Bench, Client

STEPS = 60
LARGE = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 4000
SMALL = b"Subject: small\r\nFrom: user@example.test\r\n\r\nbody\r\n"


class World:
    """A bench over a local store and a queue; the ``at``th wait of a command is cancelled, once ``armed``."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.store = local_store(str(path / "data"), kind=kind)
        self.spool = Spool(str(path / "data"), 1 << 26, holds=self.store.holds)
        self.at = 0
        self.ended = True

    async def start(self) -> None:
        await self.store.start()
        os.makedirs(self.path / "staging")
        self.budget = Budget(1 << 20)
        self.history = History(str(self.path / "data"), 30.0, 1 << 24)
        schedule = Schedule([1.0], 3600.0, 3600.0)
        outbound = Outward(self.spool, routes.parse([], []), schedule, self.history).submission
        shared = {"outbound": outbound, "staging": str(self.path / "staging"), "budget": self.budget}
        self.bench = Bench(str(self.path), self.store, outbound=shared)
        outbound._deliverer = self.bench.deliverer
        self.account = self.bench.deliverer.account(self.bench.directory.accounts[USER])
        await self.store.open(self.account)

    async def close(self) -> None:
        await self.spool.close()
        await self.history.close()
        await self.store.close()

    async def calm(self) -> None:
        """Until all that was handed to the store is done: what comes behind it is."""
        text = b"Subject: behind\n\n\n"
        message = NewMessage((text,), mime.scan(text), mime.served_size(text), 1)
        await self.store.append(self.account, self.store.find(self.account, "Sent") or b"", [message])

    def inbox(self) -> list[int]:
        with self.store.snapshot(self.account) as snapshot:
            key = self.store.find(self.account, "INBOX") or b""
            return [record[0] for page in snapshot.pages(key) for record in pages.records(page)]

    def arm(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next command of the client is cancelled at its wait."""
        run = Connection._run

        async def cut(connection: Connection, work: Any) -> None:
            self.ended = False
            await run(connection, marked(work))

        async def marked(work: Any) -> None:
            await at_step(work, self.at)
            self.ended = True

        monkeypatch.setattr(Connection, "_run", cut)
        monkeypatch.setattr(Connection, "run_brief", Connection.run_now)  # only a task can be cancelled

    async def after(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> bool:
        """Let the connection go; was the command cancelled?"""
        monkeypatch.undo()
        await client.settle()
        assert self.ended or client.transport.closed, "nobody hears from a session whose command was cancelled"
        client.connection.connection_lost(None)
        for _ in range(200):
            if not os.listdir(self.path / "staging"):
                break
            await asyncio.sleep(0.005)
        assert os.listdir(self.path / "staging") == [] and self.budget.used == 0
        assert not self.budget._announced and not self.budget._used
        return not self.ended


def run(path: Path, kind: str, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(path, kind)
        await world.start()
        try:
            await scenario(world)
        finally:
            await world.close()

    asyncio.run(main())


kinds = pytest.mark.parametrize("kind", ["maildir", "segments"])


@kinds
@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
def test_a_delivery(tmp_path: Path, kind: str, protocol: str, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        for world.at in range(1, STEPS):
            before = len(world.inbox())
            client = world.bench.open(protocol)
            hello = b"LHLO" if protocol == "lmtp" else b"EHLO"
            await client.send(
                hello + b" far.test\r\nMAIL FROM:<them@far.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n"
            )
            await client.send(text)
            world.arm(client, monkeypatch)
            answer = await client.send(b".\r\n")
            cancelled = await world.after(client, monkeypatch)
            assert not cancelled or b"250" not in answer
            await world.calm()
            assert len(world.inbox()) - before in ((0, 1) if cancelled else (1,))
            if not cancelled:
                break
        assert not cancelled and world.at > 1

    run(tmp_path, kind, scenario)


@kinds
@pytest.mark.parametrize("text", [SMALL, LARGE], ids=["small", "large"])
def test_an_append(tmp_path: Path, kind: str, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        for world.at in range(1, STEPS):
            before = len(world.inbox())
            client = world.bench.open("imap")
            await client.send(b"a LOGIN user@example.test secret\r\n")
            await client.send(b"b APPEND INBOX (\\Seen) {%d}\r\n" % len(text))
            await client.send(text)
            world.arm(client, monkeypatch)
            answer = await client.send(b"\r\n")
            cancelled = await world.after(client, monkeypatch)
            assert not cancelled or b"b OK" not in answer
            await world.calm()
            assert len(world.inbox()) - before in ((0, 1) if cancelled else (1,))
            if not cancelled:
                break
        assert not cancelled and world.at > 1

    run(tmp_path, kind, scenario)


@kinds
@pytest.mark.parametrize("to", ["you@far.test", USER], ids=["elsewhere", "here too"])
def test_a_submission(tmp_path: Path, kind: str, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the queue whole, with its content, or not at all."""

    async def scenario(world: World) -> None:
        spool = world.spool
        for world.at in range(1, STEPS):
            before = spool.depth()[0]
            client = world.bench.open("submission")
            login = b"EHLO me.test\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n"
            await client.send(login + b"MAIL FROM:<user@example.test>\r\nRCPT TO:<me@far.test>\r\n")
            await client.send(b"RCPT TO:<%b>\r\nDATA\r\n" % to.encode())
            await client.send(SMALL)
            world.arm(client, monkeypatch)
            answer = await client.send(b".\r\n")
            cancelled = await world.after(client, monkeypatch)
            assert not cancelled or b"250" not in answer
            await spool.facts.set_state(b"behind", b"")
            for _ in range(200):
                if not spool._under_way:
                    break
                await asyncio.sleep(0.005)
            assert spool._under_way == 0
            assert spool.depth()[0] - before in ((0, 1) if cancelled else (1,))
            assert spool.sweep() == 0
            for item, _ in spool.jobs():
                assert b"Subject: small" in await spool.content(item)
            if not cancelled:
                break
        assert not cancelled and world.at > 1

    run(tmp_path, kind, scenario)


def test_a_time_out_says_nothing_while_a_message_is_decided_on(tmp_path: Path) -> None:
    """ "Try again" would be a lie: the message is kept, and the client would send it once more."""

    async def scenario(world: World) -> None:
        deliver, reached, go_on = world.store.deliver, asyncio.Event(), asyncio.Event()

        async def slow(items: Any) -> Any:
            reached.set()
            await go_on.wait()
            return await deliver(items)

        world.store.deliver = slow  # type: ignore[method-assign]
        client = world.bench.open("lmtp")
        await client.send(b"LHLO far.test\r\nMAIL FROM:<them@far.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        task = asyncio.create_task(client.send(SMALL + b".\r\n"))
        await reached.wait()
        client.connection.deadline = 0.0
        client.connection.session.timed_out()
        assert client.connection.deadline > 0 and not client.connection.closing
        go_on.set()
        assert (await task).startswith(b"250 ") and len(world.inbox()) == 1
        client.connection.session.timed_out()
        assert client.transport.data.splitlines()[-1].startswith(b"421 4.4.2")

    run(tmp_path, "maildir", scenario)


def test_the_time_for_a_command_begins_with_each_command_that_comes(tmp_path: Path) -> None:
    """Also after content, which has a time of its own; and no sooner than a line is whole, or octets could be sent one
    by one for ever."""

    async def scenario(world: World) -> None:
        client = world.bench.open("lmtp")
        await client.send(b"LHLO far.test\r\n")

        async def moves(data: bytes) -> bool:
            client.connection.deadline = 5.0
            await client.send(data)
            return client.connection.deadline > 5.0

        assert await moves(b"NOOP\r\n") and await moves(b"NOOP\r\nNOOP\r\nNO")
        assert not await moves(b"O") and await moves(b"P\r\n")
        start = b"MAIL FROM:<them@far.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n"
        assert await moves(start)
        client.connection.session.transaction.begun = -1e6  # it has come for so long that its time is over
        assert not await moves(SMALL)
        assert await moves(b".\r\nNOOP\r\n")

    run(tmp_path, "maildir", scenario)
