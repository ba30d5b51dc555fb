"""What clients in the field do: huge sets and lines, and work in the background that can wait."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.sessions import Bench, Client

HINT = b'i ID ("name" "com.apple.mail" "event" "%b")\r\n'


async def login(bench: Bench) -> Client:
    client = bench.open("imap")
    assert b"OK" in await client.send(b"a LOGIN user@example.test secret\r\n")
    return client


@pytest.mark.parametrize("load", [0.1, 1000.0])
def test_work_in_the_background_waits_while_the_machine_is_busy(
    tmp_path: Path, load: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
        client = await login(Bench(str(tmp_path)))
        wanted = b"i NO [UNAVAILABLE]" if load > 1 else b"i OK"
        for event in (b"back-fill", b"spotlight-indexer"):
            assert wanted in await client.send(HINT % event)
        assert b"i OK" in await client.send(HINT % b"user-opened")
        assert b"i OK" in await client.send(b'i ID ("name" "other" "event" "back-fill")\r\n')
        assert b"n OK" in await client.send(b"n NOOP\r\n")

    asyncio.run(main())


def test_lines_of_the_configured_length(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), command_line=8 << 20)
        client = await login(bench)
        await client.send(b"s SELECT INBOX\r\n")
        numbers = b",".join(b"%d" % n for n in range(1, 1_180_000))
        assert 8_000_000 < len(numbers) < (8 << 20) - 100
        assert b"u OK" in await client.send(b"u UID FETCH " + numbers + b" FLAGS\r\n", 200_000)
        assert b"v BAD line is too long" in await client.send(b"v UID FETCH " + numbers * 2 + b" FLAGS\r\n", 200_000)
        assert b"n OK" in await client.send(b"n NOOP\r\n")

    asyncio.run(main())


def test_lines_before_a_login(tmp_path: Path) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path)).open("imap")
        assert b"a NO" in await client.send(b'a LOGIN x "' + b"y" * 65000 + b'"\r\n')
        assert b"b BAD line is too long" in await client.send(b'b LOGIN x "' + b"y" * 66000 + b'"\r\n')
        assert b"n OK" in await client.send(b"n NOOP\r\n")

    asyncio.run(main())


def test_huge_sets_are_not_expanded(tmp_path: Path) -> None:
    async def main() -> None:
        client = await login(Bench(str(tmp_path)))
        await client.send(b"s SELECT INBOX\r\n")
        for command in (
            b"UID FETCH 1:4294967295 FLAGS",
            b"UID COPY 1:4294967295 Drafts",
            b"UID SEARCH UID 4294967295:1",
        ):
            assert b"u OK" in await client.send(b"u " + command + b"\r\n")

    asyncio.run(main())
