"""An exchange with a scanner that ends the connection while we still send."""

import asyncio
import socket
import threading

import pytest

from fastmail.policy.scanners import wire
from fastmail.policy.scanners.nouns import Trouble


@pytest.mark.parametrize("said", [b"too large\0", b""])
def test_what_it_said_before_it_hung_up_counts(said: bytes) -> None:
    """Our next piece finds the connection closed before we have read the answer."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            there, _ = listener.accept()
            there.sendall(said)
            there.recv(1)
            there.close()  # with unread octets: the connection is reset
            over.set()

        thread = threading.Thread(target=serve)
        thread.start()

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(1000))
            assert over.wait(10)  # nothing is read meanwhile
            for _ in range(2):
                writer.write(bytes(1000))
                await writer.drain()

        async def ask() -> bytes:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            return await wire.exchange(address, send, lambda reader: wire.until(reader, b"\0"))

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # which closes at once
            if said:
                assert runner.run(ask()) == b"too large"
            else:
                with pytest.raises((OSError, Trouble)):
                    runner.run(ask())
        thread.join()
