"""Sessions of a login that has ended: between commands at once, and within the patience that a command has."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.app import revoke
from fastmail.app.revoke import end_those_over, watch
from fastmail.net import connection
from fastmail.net.listener import Registry
from tests.support.sessions import USER, Bench, Client
from tests.support.waiting import until


async def logged_in(bench: Bench) -> Client:
    client = bench.open("imap")
    assert b"a OK" in await client.send(f"a LOGIN {USER} secret\r\n".encode())
    return client


def switch_off(bench: Bench) -> None:
    bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], enabled=False)
    bench.directory.revision += 1  # as every directory counts it


def test_s47_a_command_that_ends_in_time_is_answered_first(tmp_path: Path) -> None:
    async def main() -> None:
        bench, registry = Bench(str(tmp_path)), Registry()
        client = await logged_in(bench)
        registry.connections.add(client.connection)
        start = len(client.transport.data)

        async def command() -> None:
            await asyncio.sleep(0.05)
            client.connection.write(b"b OK done\r\n")

        client.connection.run(command())
        switch_off(bench)
        await end_those_over(registry)
        assert not client.transport.closed
        client.connection.buffer_updated(0)
        await client.settle()
        said = client.transport.data[start:]
        assert said.startswith(b"b OK done\r\n* BYE [CONTACTADMIN] ") and client.transport.closed

    asyncio.run(main())


def test_s47_a_command_that_goes_on_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a FETCH to somebody who reads slowly: nothing more comes, and no BYE in the middle of a literal."""
    monkeypatch.setattr(connection, "PATIENCE", 0.05)

    async def main() -> None:
        bench, registry = Bench(str(tmp_path)), Registry()
        client = await logged_in(bench)
        registry.connections.add(client.connection)
        start = len(client.transport.data)
        client.connection.run(asyncio.sleep(5))
        switch_off(bench)
        await end_those_over(registry)
        await asyncio.sleep(0.15)
        assert client.transport.closed and client.transport.data[start:] == b""

    asyncio.run(main())


def test_s47_what_came_behind_is_not_done(tmp_path: Path) -> None:
    """Commands that were sent ahead wait behind one that runs: they are not done for a login that has ended."""

    async def main() -> None:
        bench, registry = Bench(str(tmp_path)), Registry()
        client = await logged_in(bench)
        registry.connections.add(client.connection)
        client.connection.run(asyncio.sleep(0.05))
        line = b"c CREATE Late\r\n"
        client.listener.buffer[: len(line)] = line
        client.connection.buffer_updated(len(line))
        switch_off(bench)
        await end_those_over(registry)
        await client.settle()
        account = bench.deliverer.account(bench.directory.accounts[USER])
        assert client.transport.closed and bench.store.find(account, "Late") is None

    asyncio.run(main())


def test_s47_the_watch_looks_when_the_revision_grows_and_goes_on_when_it_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(revoke, "EVERY", 0.001)

    class Directory:
        numbers: Any = [1, 1, OSError("away"), 2, 2, 2]

        @property
        def revision(self) -> int:
            found = self.numbers.pop(0) if self.numbers else 2
            if isinstance(found, Exception):
                raise found
            return int(found)

    class Noting(Registry):
        @property
        def connections(self) -> Any:
            looks.append(time.monotonic())
            return set()

        @connections.setter
        def connections(self, value: Any) -> None:
            pass

    async def main() -> None:
        directory = Directory()
        task = asyncio.ensure_future(watch(directory, Noting()))
        await until(lambda: not directory.numbers)
        task.cancel()

    asyncio.run(main())
    assert len(looks) == 2


def test_s47_one_that_cannot_be_judged_is_asked_again_and_holds_up_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        bench, registry = Bench(str(tmp_path)), Registry()
        clients = [await logged_in(bench) for _ in range(3)]
        registry.connections.update(client.connection for client in clients)

        class Odd:
            def ended(self) -> str:
                raise OSError("no file is left")

        session, clients[1].connection.session = clients[1].connection.session, Odd()
        switch_off(bench)
        assert not await end_those_over(registry)
        assert [client.transport.closed for client in clients] == [True, False, True]
        clients[1].connection.session = session
        assert await end_those_over(registry) and clients[1].transport.closed

    asyncio.run(main())


def test_s47_the_watch_looks_when_a_login_ends_by_itself() -> None:
    looked = asyncio.Event()

    class Directory:
        revision = 7

    class Noting(Registry):
        looks = 0

        @property
        def connections(self) -> Any:
            self.looks += 1
            if self.looks == 2:
                looked.set()
            return set()

        @connections.setter
        def connections(self, value: Any) -> None:
            pass

    async def main() -> None:
        told = iter([False, True])
        task = asyncio.ensure_future(watch(Directory(), Noting(), lambda: next(told, False)))
        await asyncio.wait_for(looked.wait(), 30)
        task.cancel()

    asyncio.run(main())
