"""COMPRESS=DEFLATE (RFC 4978) from the session to the octets on the wire."""

import asyncio
import tracemalloc
import zlib
from pathlib import Path

import pytest

from tests.support.sessions import Bench, Client

LOGIN = b"a1 LOGIN user@example.test secret\r\n"


async def compressed(bench: Bench) -> Client:
    client = bench.open("imap")
    await client.send(LOGIN)
    assert b"COMPRESS=DEFLATE" in client.transport.data
    assert await client.send(b"a2 COMPRESS DEFLATE\r\n") == b"a2 OK DEFLATE active\r\n"
    return client


@pytest.mark.parametrize("step", [0, 1])
def test_commands_and_replies_are_packed(tmp_path: Path, step: int) -> None:
    async def main() -> None:
        client = await compressed(Bench(str(tmp_path)))
        pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        for turn in range(3):
            sent = pack.compress(b"b1 NOOP\r\nb2 CAPABILITY\r\n") + pack.flush(zlib.Z_SYNC_FLUSH)
            got = unpack.decompress(await client.send(sent, step))
            assert got.startswith(b"b1 OK NOOP") and got.endswith(b"b2 OK CAPABILITY completed\r\n")
            assert b"COMPRESS" not in got
            if turn:
                client.connection.rest()  # what an idle connection does; the stream must go on
        sent = pack.compress(b"b3 COMPRESS DEFLATE\r\n") + pack.flush(zlib.Z_SYNC_FLUSH)
        assert b"b3 NO [COMPRESSIONACTIVE]" in unpack.decompress(await client.send(sent))

    asyncio.run(main())


@pytest.mark.slow
def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    async def main() -> None:
        client = await compressed(Bench(str(tmp_path)))
        bomb = zlib.compressobj(9, wbits=-15)
        packed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(256)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        tracemalloc.start()
        await client.send(packed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 << 20

    asyncio.run(main())


def test_a_damaged_stream_ends_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        client = await compressed(Bench(str(tmp_path)))
        await client.send(b"\xff\xff\xff\xffNOOP\r\n")
        assert client.transport.closed

    asyncio.run(main())


def test_what_comes_behind_the_command_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        client = bench_client = Bench(str(tmp_path)).open("imap")
        await bench_client.send(LOGIN)
        got = await client.send(b"a2 COMPRESS DEFLATE\r\na3 NOOP\r\n")
        assert got == b"a2 OK DEFLATE active\r\n"

    asyncio.run(main())
