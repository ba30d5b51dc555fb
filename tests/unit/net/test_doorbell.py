"""Doorbells: datagrams arrive whole, of the server's own user only, and ringing never fails."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fastmail.net import doorbell
from fastmail.net.doorbell import Doorbell


async def until(heard: list[bytes], wanted: list[bytes]) -> None:
    for _ in range(200):
        if heard == wanted:
            return
        await asyncio.sleep(0.01)
    assert heard == wanted


def test_what_is_sent_is_heard(tmp_path: Path) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        listener, other = Doorbell(), Doorbell()
        path = str(tmp_path / "bell")
        other.ring(path, b"too early")
        listener.listen(path, asyncio.get_running_loop(), heard.append, 100)
        assert os.stat(path).st_mode & 0o777 == 0o600
        for n in range(doorbell.AT_ONCE + 5):
            other.ring(path, b"%d" % n)
            await asyncio.sleep(0)
        await until(heard, [b"%d" % n for n in range(doorbell.AT_ONCE + 5)])
        listener.close()
        other.ring(path, b"too late")
        other.close()

    asyncio.run(main())


def test_another_user_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who sent it: neither root nor the server's own user."""

    async def main() -> None:
        heard: list[bytes] = []
        listener = Doorbell()
        path = str(tmp_path / "bell")
        listener.listen(path, asyncio.get_running_loop(), heard.append, 100)
        real = doorbell.PEER.unpack_from
        strange = os.geteuid() + 1

        class Peer:
            size = doorbell.PEER.size

            @staticmethod
            def unpack_from(data: bytes) -> tuple[int, int, int]:
                process, _, group = real(data)
                return process, strange, group

        monkeypatch.setattr(doorbell, "PEER", Peer)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as rude:
            rude.sendto(b"let me in", path)
            await asyncio.sleep(0.05)
            monkeypatch.undo()
            rude.sendto(b"ours", path)
            await until(heard, [b"ours"])
        listener.close()

    asyncio.run(main())
