"""What takes apart or decodes a large message runs on another thread than the event loop's."""

import asyncio
import base64
import threading
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime
from fastmail.imap import search_run
from fastmail.message import sections
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import Bench

LOGIN = b"a LOGIN user@example.test secret\r\n"
DATA = bytes(range(256)) * 1200
LARGE = (
    b"Subject: large\r\nX-Much: " + b"word " * 20_000 + b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(DATA).replace(b"\n", b"\r\n")
    + b"--b\r\n\r\ntext\r\n--b--\r\n"
)  # fmt: skip
SMALL = b"Subject: small\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
PARTS = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 1500


def watched(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[bool]:
    """Notes of each call whether it is on the loop's thread."""
    calls: list[bool] = []
    work = getattr(module, name)

    def noted(*args: Any, **named: Any) -> Any:
        calls.append(threading.current_thread() is threading.main_thread())
        return work(*args, **named)

    monkeypatch.setattr(module, name, noted)
    return calls


async def filled(path: Path, *messages: bytes, bench: Bench | None = None) -> Any:
    client = (bench or Bench(str(path))).open("imap")
    await client.send(LOGIN)
    for message in messages:
        assert b"b OK" in await client.send(b"b APPEND INBOX {%d+}\r\n" % len(message) + message + b"\r\n")
    await client.send(b"c SELECT INBOX\r\n")
    return client


@pytest.mark.parametrize(
    "item",
    [b"BINARY.PEEK[1]", b"BINARY.SIZE[1]", b"BODY.PEEK[1]", b"BODY.PEEK[1]<100.50>", b"BINARY.PEEK[1]<5.9>", b"BODY.PEEK[2.MIME]"],
)  # fmt: skip
def test_a_section_of_a_large_message_is_made_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: bytes
) -> None:
    async def main() -> None:
        client = await filled(tmp_path, LARGE, SMALL)
        calls = watched(monkeypatch, sections, "extract")
        got = await client.send(b"d FETCH 1 " + item + b"\r\n")
        assert b"d OK" in got
        if item == b"BINARY.PEEK[1]":
            assert DATA in got
        elif item == b"BINARY.SIZE[1]":
            assert b"BINARY.SIZE[1] %d)" % len(DATA) in got
        elif item == b"BINARY.PEEK[1]<5.9>":
            assert DATA[5:14] in got
        assert calls == [False]
        await client.send(b"e FETCH 2 " + item.replace(b"2.MIME", b"1.MIME") + b"\r\n")
        assert calls == [False, True], "a small one costs no thread"

    asyncio.run(main())


def test_body_of_a_long_structure_is_made_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        client = await filled(tmp_path, PARTS, SMALL)
        calls = watched(monkeypatch, sections, "body_of_structure")
        assert b"d OK" in await client.send(b"d FETCH 1:2 BODY\r\n")
        assert calls == [False, True]

    asyncio.run(main())


def test_a_large_message_without_a_summary_is_scanned_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client = await filled(tmp_path, LARGE, bench=bench)
        assert isinstance(bench.store, MemoryStore)
        (box,) = [one for one in bench.store.boxes.values() if one.messages]
        box.messages[0].summary = b""
        calls = watched(monkeypatch, mime, "scan")
        assert b'"large"' in await client.send(b"d FETCH 1 ENVELOPE\r\n")
        assert calls == [False]

    asyncio.run(main())


def test_the_header_of_a_large_message_is_read_off_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        client = await filled(tmp_path, LARGE)
        found, has = watched(monkeypatch, search_run, "_header_of"), watched(monkeypatch, search_run, "_field_has")
        assert b"* SEARCH 1\r\n" in await client.send(b'd SEARCH HEADER X-Much "word word"\r\n')
        assert found == [False]
        assert has == [False]

    asyncio.run(main())
