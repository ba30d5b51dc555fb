"""Forwards and aliases to other hosts, from a session through the queue to the other host, and what comes back."""

import asyncio
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import Alias
from fastmail.directory.srs import Srs
from tests.integration.test_relay import World, world
from tests.support.sessions import USER, Client

OTHER = "other@example.test"
STRANGER = "stranger@elsewhere.test"
BODY = b"From: stranger@elsewhere.test\r\nTo: you\r\nSubject: hi\r\n\r\n.dot\r\nbody \xc3\xa4\r\n"


def directory() -> MemoryDirectory:
    place = MemoryDirectory()
    place.add_domain("example.test")
    place.add_accounts([(USER, "{PLAIN}secret"), (OTHER, "{PLAIN}secret")])
    place.add_alias("out@example.test", ["you@far.test"])
    place.add_alias("both@example.test", [USER, "you@far.test", "me@far.test"])
    return place


def use(one: World, place: MemoryDirectory) -> None:
    """Let the world's server have this directory."""
    one.bench.deliverer.directory = place
    one.bench.deliverer.srs = Srs(place)
    one.outward.submission._deliverer = one.bench.deliverer


async def say(client: Client, *lines: str) -> bytes:
    got = b""
    for line in lines:
        got = await client.send(line.encode() + b"\r\n")
    return got


async def receive(one: World, to: str, sender: str = STRANGER, body: bytes = BODY, kind: str = "smtp") -> bytes:
    client = one.bench.open(kind)
    got = await say(client, "LHLO far" if kind == "lmtp" else "EHLO far", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>")
    if not got.startswith(b"250"):
        return got
    await say(client, "DATA")
    return await client.send(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")


def sent(one: World) -> list[tuple[str, list[str], bytes]]:
    """(sender, recipients, content) of what the other host has."""
    path = lambda line: re.search(r"<(.*?)>", line)[1]  # type: ignore[index]  # noqa: E731
    return [(path(m.mail), [path(r) for r in m.rcpts], m.content) for m in one.sink.taken]


async def inbox(one: World, address: str = USER) -> list[bytes]:
    record = one.bench.deliverer.directory.account(address)
    assert record is not None
    account = one.bench.deliverer.account(record)
    await one.bench.store.open(account)
    box = one.bench.store.boxes[one.bench.store.find(account, "INBOX")]  # type: ignore[attr-defined]
    return [bytes(m.content) for m in box.messages]


def scenario(tmp_path: Path, work, **sink):  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with world(tmp_path, **sink) as one:
            place = directory()
            use(one, place)
            one.run()
            await work(one, place)

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["smtp", "lmtp"])
def test_an_alias_to_another_host(tmp_path: Path, kind: str) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, "out+x@example.test", kind=kind)).startswith(b"250")
        await one.drained()
        ((sender, recipients, content),) = sent(one)
        assert recipients == ["you@far.test"] and sender.startswith("SRS0=") and sender.endswith("@example.test")
        head, _, rest = content.partition(b"From: ")
        assert head.startswith(b"Delivered-To: out@example.test\r\nReceived: ") and b"From: " + rest == BODY
        assert place.aliases()[1].address == "out@example.test" and await inbox(one) == []

    scenario(tmp_path, work)


def test_some_here_and_some_elsewhere(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, "both@example.test")).startswith(b"250")
        await one.drained()
        assert sorted(r for _, to, _ in sent(one) for r in to) == ["me@far.test", "you@far.test"]
        (kept,) = await inbox(one)
        assert kept.startswith(f"Return-Path: <{STRANGER}>".encode()), "the mailbox sees the sender that there was"

    scenario(tmp_path, work)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_forward_with_a_copy_and_without(tmp_path: Path, keeps: bool) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_account(USER, lambda old: replace(old, forward=("you@far.test",), keeps=keeps))
        for sender in (STRANGER, OTHER, ""):
            assert (await receive(one, USER, sender)).startswith(b"250")
        await one.drained()
        senders = [sender for sender, *_ in sent(one)]
        assert len(senders) == 3 and {OTHER, ""} < set(senders), "ours and none are left alone"
        assert len(await inbox(one)) == (3 if keeps else 0)

    scenario(tmp_path, work)


def test_a_bounce_finds_the_way_back_and_nothing_else_does(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        assert (await receive(one, "out@example.test", "a.user@far.test")).startswith(b"250")
        await one.drained()
        back = sent(one)[0][0]
        one.sink.taken.clear()
        for address, sender, wanted in (
            (back, STRANGER, b"550 5.7.1"),
            (back.replace("=", "=b", 1), "", b"550 5.1.1"),
            (back.upper(), "", b"250"),
        ):
            assert (await receive(one, address, sender)).startswith(wanted), address
        await one.drained()
        ((sender, recipients, _),) = sent(one)
        assert (sender, [one.lower() for one in recipients]) == ("", ["a.user@far.test"])

    scenario(tmp_path, work)


def test_what_comes_back_to_a_forwarder_is_refused(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        looped = b"Delivered-To: OUT@example.test\r\n" + BODY
        assert (await receive(one, "out@example.test", body=looped)).startswith(b"554 5.4.6")
        assert (await receive(one, "both@example.test", body=looped)).startswith(b"250"), "another address"
        await one.drained()

    scenario(tmp_path, work)


def test_a_refusal_is_told_to_the_owner_and_never_to_the_sender(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_account(USER, lambda old: replace(old, forward=("no@far.test",), keeps=False))
        place.put_alias(Alias("list@example.test", ("no@far.test",)))
        place.change_domain("example.test", lambda old: replace(old, postmaster=(OTHER,)))
        for _ in range(2):
            assert (await receive(one, USER)).startswith(b"250")
        assert (await receive(one, "list@example.test")).startswith(b"250")
        await one.drained()
        assert sent(one) == [], "nothing went to the sender"
        for owner in (USER, OTHER):
            (report,) = await inbox(one, owner)  # once a day
            assert b"multipart/report" in report and b"no@far.test" in report

    scenario(tmp_path, work, answers={"RCPT": "550 5.1.1 nobody"})


def test_inside_only(tmp_path: Path) -> None:
    async def work(one: World, place: MemoryDirectory) -> None:
        place.change_alias("out@example.test", lambda old: replace(old, internal=True))
        assert (await receive(one, "out@example.test")).startswith(b"550 5.7.1")
        assert (await receive(one, "out@example.test", OTHER)).startswith(b"550 5.7.1"), "anybody can say who he is"
        client = await one.user()
        assert (await say(client, f"MAIL FROM:<{USER}>", "RCPT TO:<out@example.test>")).startswith(b"250")

    scenario(tmp_path, work)
