"""S9: what a filter announces is refused on its size: nobody waits for it, and nothing is reserved for it."""

import asyncio
import struct
import time
from pathlib import Path

import pytest

from fastmail.smtp.milter import Milter
from tests.support.sessions import Bench

PATIENCE = 30.0  # s that a filter may take; a packet that is refused takes none of it


@pytest.mark.parametrize("length", [0, 1 << 31, (1 << 32) - 1])
def test_s9_a_packet_without_a_sensible_length(tmp_path: Path, length: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        writer.write(struct.pack(">I", length) + b"O")
        await writer.drain()
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        milter = Milter(f"127.0.0.1:{port}", timeout=PATIENCE)
        client = Bench(str(tmp_path), outbound={"milters": [milter]}).open("smtp")
        begun = time.monotonic()
        got = await client.send(b"EHLO me.test\r\nMAIL FROM:<a@b.test>\r\n")
        assert b"451 4.7.1" in got or b"421" in got
        assert time.monotonic() - begun < PATIENCE / 2
        client.connection.connection_lost(None)
        server.close()

    asyncio.run(main())
