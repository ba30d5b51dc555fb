"""Several clients work on one mailbox at the same time, and everything that they are told is compared with a plain model.

See tests.support.mailbox_model for what the model knows, and why it need not know in which order the server took the
commands; tests.support.imap_members for what the clients do. Once in this process, over each store, with commands that
interleave wherever one waits; once over sockets, in two workers of a server, which really run at the same time.
"""

import asyncio
import re
from pathlib import Path

import pytest

from fastmail.store.memory.store import MemoryStore
from tests.support.examples import seeds
from tests.support.homes import local_store
from tests.support.imap_members import Send, group
from tests.support.server import Server
from tests.support.sessions import Bench

LOGIN = b"LOGIN user@example.test secret"


def of_bench(bench: Bench) -> Send:
    return bench.open("imap").send


@pytest.mark.parametrize("careful", [False, True], ids=["expunge", "uid-expunge"])
@pytest.mark.parametrize("kind", ["memory", "maildir", "segments"])
@pytest.mark.parametrize("seed", seeds(3))
def test_side_by_side(seed: int, kind: str, careful: bool, tmp_path: Path) -> None:
    async def main() -> None:
        store = MemoryStore() if kind == "memory" else local_store(str(tmp_path / "data"), kind=kind)
        await store.start()
        try:
            bench = Bench(str(tmp_path), store)

            async def connect() -> Send:
                send = of_bench(bench)
                await send(b"p " + LOGIN + b"\r\n")
                return send

            await group([of_bench(bench) for _ in range(5)], connect, seed, LOGIN, careful).live(3, 12)
        finally:
            await store.close()

    asyncio.run(main())


async def over_socket(server: Server) -> Send:
    """A connection to the server; each command is sent whole and answered up to its tagged reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["imap"])
    await reader.readline()

    async def send(data: bytes) -> bytes:
        writer.write(data)
        tag = data.partition(b" ")[0]
        answer = b""
        while not re.search(rb"(?:^|\r\n)" + tag + rb" (OK|NO|BAD)[^\r]*\r\n$", answer):
            more = await asyncio.wait_for(reader.read(65536), 30)
            assert more, f"the server closed: {answer!r}"
            answer += more
        return answer

    return send


def workers(server: Server) -> set[str]:
    """Those that a login went to."""
    return set(re.findall(r"event=login pid=(\d+)", server.log.read_text()))


@pytest.mark.journey
@pytest.mark.timeout(300)
@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_in_two_workers_at_the_same_time(content: str, tmp_path: Path) -> None:
    server = Server(tmp_path, workers=2, content=content)
    login = f'LOGIN {server.user} "{server.password}"'.encode()

    async def main() -> None:
        async def connect() -> Send:
            send = await over_socket(server)
            assert b"p OK" in await send(b"p " + login + b"\r\n")
            return send

        # connections are spread by the kernel: open some until both workers have one
        for _ in range(40):
            await connect()
            if len(workers(server)) == 2:
                break
        assert len(workers(server)) == 2
        sends = [await over_socket(server) for _ in range(8)]
        await group(sends, connect, 1, login, content == "segments").live(2, 15)

    server.start()
    try:
        asyncio.run(main())
    finally:
        server.stop()
