"""Commands that wait once go on without a task; those that wait again, and those that fail, end as all others do."""

import asyncio
from typing import Any

from fastmail.model.limits import Limits
from fastmail.net.connection import Connection
from tests.support.sessions import FakeListener, FakeTransport


class Quiet:
    """A session that takes no input."""

    def __init__(self) -> None:
        self.failures = 0

    def connected(self) -> None:
        pass

    def failed(self) -> None:
        self.failures += 1


def connection() -> tuple[Connection, FakeTransport, Quiet]:
    session, transport = Quiet(), FakeTransport()
    made = Connection(FakeListener(lambda _: session, Limits()))  # type: ignore[arg-type]
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, transport, session


async def until_idle(conn: Connection) -> None:
    for _ in range(1000):
        if not conn.busy:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it is still busy")


async def tasks_of(conn: Connection, waits: list[Any]) -> set[object]:
    """Run a command that waits for these in turn; return the tasks in which it went on, None for none."""
    seen: set[object] = set()

    async def work() -> None:
        for one in waits:
            await one
            seen.add(asyncio.current_task())
        conn.write(b"done")

    conn.run_brief(work())
    await until_idle(conn)
    return seen


def test_one_wait_needs_no_task() -> None:
    async def main() -> None:
        conn, transport, _ = connection()
        waiter = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(waiter.set_result, None)
        assert await tasks_of(conn, [waiter]) == {None}
        assert transport.data == b"done"

    asyncio.run(main())


def test_what_waits_again_goes_on_in_a_task() -> None:
    async def main() -> None:
        conn, transport, _ = connection()
        loop = asyncio.get_running_loop()
        waiters = [loop.create_future(), loop.create_future(), loop.create_future()]
        for waiter in waiters:
            loop.call_soon(waiter.set_result, None)
        found = await tasks_of(conn, [waiters[0], asyncio.sleep(0), asyncio.sleep(0.001)])
        assert None in found and len(found) == 2
        assert transport.data == b"done"
        assert None not in await tasks_of(conn, [asyncio.sleep(0)])  # nobody says when that is over

    asyncio.run(main())


def test_an_error_reaches_the_command() -> None:
    async def main() -> None:
        conn, transport, session = connection()
        loop = asyncio.get_running_loop()

        async def work(waiter: "asyncio.Future[None]") -> None:
            try:
                await waiter
            except OSError:
                conn.write(b"caught")

        async def bug(waiter: "asyncio.Future[None]") -> None:
            await waiter

        first, second = loop.create_future(), loop.create_future()
        conn.run_brief(work(first))
        first.set_exception(OSError())
        await until_idle(conn)
        assert (transport.data, session.failures) == (b"caught", 0)
        conn.run_brief(bug(second))
        second.set_exception(ValueError())
        await until_idle(conn)
        assert (transport.closed, session.failures) == (False, 1)

    asyncio.run(main())


def test_a_peer_that_is_gone_and_a_cancelled_wait_close_the_connection() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def work(waiter: "asyncio.Future[None]") -> None:
            await waiter

        for error in (ConnectionResetError(), None):
            conn, transport, _ = connection()
            waiter = loop.create_future()
            conn.run_brief(work(waiter))
            if error is not None:
                waiter.set_exception(error)
            else:
                waiter.cancel()
            await until_idle(conn)
            assert transport.closed

    asyncio.run(main())


def test_a_peer_that_does_not_read_is_waited_for() -> None:
    async def main() -> None:
        conn, _, _ = connection()
        waiter = asyncio.get_running_loop().create_future()

        async def work() -> None:
            await waiter

        conn.run_brief(work())
        conn.pause_writing()
        waiter.set_result(None)
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert conn.busy
        conn.resume_writing()
        await until_idle(conn)

    asyncio.run(main())
