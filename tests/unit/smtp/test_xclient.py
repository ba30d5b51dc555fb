"""XCLIENT: who may speak for others, and what is believed."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.net import networks
from tests.support.sessions import USER, Bench

NEAR: dict[str, Any] = {"xclient": [networks.parse("127.0.0.0/8")]}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_a_client_is_taken_for_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path), outbound=NEAR)
        client = bench.open("smtp")
        assert b"250 XCLIENT NAME ADDR PORT" in await client.send(b"EHLO proxy.test\r\n")
        got = await client.send(b"XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.7 PROTO=ESMTP HELO=far.test\r\n")
        assert got == b"220 mx.example.test ESMTP fastmail\r\n"
        assert (await client.send(b"MAIL FROM:<a@b.test>\r\n")).startswith(b"503 5.5.1 say EHLO first")
        await client.send(b"EHLO far.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        assert (await client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")).startswith(b"250")
        (kept,) = [bytes(m.content) for box in bench.store.boxes.values() for m in box.messages]  # type: ignore[attr-defined]
        assert b"Received: from far.test ([192.0.2.7])" in kept

    run(scenario)


def test_a_login_is_taken_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Bench(str(tmp_path), outbound=NEAR).open("submission")
        await client.send(b"EHLO proxy.test\r\n")
        assert (await client.send(b"XCLIENT LOGIN=nobody@example.test\r\n")).startswith(b"501 5.5.4 LOGIN names no")
        assert (await client.send(b"XCLIENT ADDR=IPV6:2001:db8::1 LOGIN=user@example.test\r\n")).startswith(b"220")
        await client.send(b"EHLO far.test\r\n")
        assert (await client.send(b"MAIL FROM:<user@example.test>\r\n")).startswith(b"250")
        assert (await client.send(b"XCLIENT ADDR=192.0.2.1\r\n")).startswith(b"503 5.5.1")
        await client.send(b"RSET\r\nXCLIENT LOGIN=[UNAVAILABLE]\r\nEHLO far.test\r\n")
        assert (await client.send(b"MAIL FROM:<user@example.test>\r\n")).startswith(b"530 5.7.0")

    run(scenario)


def test_whoever_comes_from_afar_has_no_password_in_the_clear(tmp_path: Path) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path), outbound={**NEAR, "plaintext": "loopback"})
        client = bench.open("submission")
        assert b"AUTH PLAIN" in await client.send(b"EHLO proxy.test\r\n")
        await client.send(b"XCLIENT ADDR=192.0.2.7\r\n")
        assert b"AUTH" not in await client.send(b"EHLO far.test\r\n")

    run(scenario)


def test_s35_strangers_may_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Bench(str(tmp_path), outbound=NEAR).open("submission", host="192.0.2.1")
        assert b"XCLIENT" not in await client.send(b"EHLO me\r\n")
        assert (await client.send(f"XCLIENT LOGIN={USER}\r\n".encode())).startswith(b"550 5.7.1")
        assert b"XCLIENT" not in await client.send(b"HELP\r\n")
        assert (await client.send(b"MAIL FROM:<user@example.test>\r\n")).startswith(b"530")

    run(scenario)


@pytest.mark.parametrize(
    "arguments",
    [b"", b"ADDR", b"COLOUR=red", b"ADDR=300.1.1.1", b"ADDR=mail.test", b"HELO=a+0Db", b"HELO=+zz", b"ADDR=+"],
)
def test_what_is_refused(tmp_path: Path, arguments: bytes) -> None:
    async def scenario() -> None:
        client = Bench(str(tmp_path), outbound=NEAR).open("smtp")
        await client.send(b"EHLO me\r\n")
        assert (await client.send(b"XCLIENT " + arguments + b"\r\n")).startswith(b"501 5.5.4")
        assert (await client.send(b"NOOP\r\n")).startswith(b"250")

    run(scenario)
