"""Signatures on what leaves, from a session through the queue to another host, which verifies them with our verifier and
with dkimpy."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest

from fastmail.auth.send_as import LOG, OFF, Rules
from fastmail.delivery.lists.one_click import OneClick
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import PUBLIC, List, Member
from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.sign import SigningKey
from fastmail.policy.signer import Signer
from tests.integration.test_forwards import directory as forwarding
from tests.integration.test_forwards import receive, say, use
from tests.integration.test_relay import LOGIN, World, world
from tests.support.sessions import USER, Bench
from tests.support.signing import MESSAGE, key, keyed, published, signed, verify
from tests.unit.policy.test_arc import verify as verify_arc
from tests.unit.policy.test_receive import ZONE

LETTER = b"From: user@example.test\r\nTo: you@far.test\r\nBcc: secret@far.test\r\nSubject: hi\r\n\r\n.dot\r\nbody  \r\n"
EIGHT = (
    b"From: user@example.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nsch\xc3\xb6n\r\n"
)
Work = Callable[[World, SigningKey], Awaitable[None]]


def run(path: Path, work: Work, seals: str = "", service: dict[str, Any] | None = None, **sink: Any) -> None:
    """A world whose domain example.test has a key in use. ``service``: more of its SMTP services."""

    async def main() -> None:
        async with world(path, **sink) as one:
            place = MemoryDirectory()
            place.add_domain("example.test")
            made = keyed(place, path)
            one.outward.sign_with(Signer(place, str(path)), seals)
            mail = {"outbound": one.outward.submission, "networks": [networks.parse("127.0.0.0/8")], **(service or {})}
            one.bench = Bench(str(path), one.bench.store, outbound=mail)
            one.bench.deliverer.history = one.history
            use(one, forwarding())
            one.run()
            await work(one, made)

    asyncio.run(main())


def results(content: bytes, *keys: SigningKey) -> list[tuple[str, str]]:
    """(result, domain) of each signature, by a loop of its own."""
    with ThreadPoolExecutor(1) as aside:
        return [(found.result, found.domain) for found in aside.submit(verify, content, published(*keys)).result()]


PASSES, FAILS = [("pass", "example.test")], [("fail", "example.test")]


@pytest.mark.parametrize("extensions", [["PIPELINING", "8BITMIME"], ["CHUNKING", "8BITMIME"]])
def test_what_a_user_sends(tmp_path: Path, extensions: list[str]) -> None:
    async def work(one: World, made: SigningKey) -> None:
        assert (await one.send("you@far.test", body=LETTER)).startswith(b"250")
        await one.drained()
        (taken,) = one.sink.taken
        assert results(taken.content, made) == PASSES and taken.content.startswith(b"Received: ")
        records = {name.encode() + b".": found[0].encode() for (name, _), found in published(made).items()}
        assert dkimpy.verify(taken.content, dnsfunc=lambda name, timeout=5: records[name])
        assert b"Message-ID" in taken.content and b"secret" not in taken.content, "it was completed before"
        assert results(taken.content.replace(b"Subject: hi", b"Subject: ho"), made) == FAILS
        added = b"List-Unsubscribe: <https://evil.test>\r\n" + taken.content
        assert results(added, made) == FAILS, "oversigned"

    run(tmp_path, work, extensions=extensions)


def test_what_stays_here_has_the_same_signature(tmp_path: Path) -> None:
    async def work(one: World, made: SigningKey) -> None:
        for to in ([USER], [USER, "you@far.test"]):
            assert (await one.send(*to, body=LETTER)).startswith(b"250")
        await one.drained()
        contents = [message.as_bytes() for message in await one.inbox()]
        assert [results(content, made) for content in contents] == [PASSES, PASSES]
        assert [results(taken.content, made) for taken in one.sink.taken] == [PASSES]

    run(tmp_path, work)


@pytest.mark.parametrize("able", [True, False])
def test_a_host_of_seven_bits_gets_a_signature_that_fits(tmp_path: Path, able: bool) -> None:
    async def work(one: World, made: SigningKey) -> None:
        assert (await one.send("you@far.test", body=EIGHT, mail=" BODY=8BITMIME")).startswith(b"250")
        await one.drained()
        (taken,) = one.sink.taken
        assert taken.content.isascii() != able
        assert results(taken.content, made) == PASSES

    run(tmp_path, work, extensions=["PIPELINING", *(["8BITMIME"] if able else [])])


@pytest.mark.parametrize("able", [True, False])
def test_a_users_mail_that_is_forwarded(tmp_path: Path, able: bool) -> None:
    async def work(one: World, made: SigningKey) -> None:
        assert (await one.send("out@example.test", body=EIGHT, mail=" BODY=8BITMIME")).startswith(b"250")
        await one.drained()
        (taken,) = one.sink.taken
        assert taken.content.startswith(b"Delivered-To: out@example.test") and results(taken.content, made) == PASSES

    run(tmp_path, work, extensions=["PIPELINING", *(["8BITMIME"] if able else [])])


def test_strangers_are_not_signed_for(tmp_path: Path) -> None:
    """Not even those who say that they are one of us, and whose mail is forwarded; a network that may relay is."""

    async def work(one: World, made: SigningKey) -> None:
        for host, passes in (("192.0.2.9", []), ("127.0.0.1", PASSES)):
            one.sink.taken.clear()
            client = one.bench.open("smtp", host)
            await say(client, "EHLO x", "MAIL FROM:<user@example.test>", "RCPT TO:<out@example.test>", "DATA")
            assert (await client.send(LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n")).startswith(b"250")
            await one.drained()
            assert [results(taken.content, made) for taken in one.sink.taken] == [passes]
        one.sink.taken.clear()
        assert (await receive(one, "out@example.test")).startswith(b"250")
        await one.drained()
        assert results(one.sink.taken[0].content, made) == [], "the author is not of a domain of ours"

    run(tmp_path, work)


@pytest.mark.parametrize("header", [LOG, OFF])
@pytest.mark.parametrize("author", [b"other@example.test", b"user@example.test", b"x@far.test", b"nobody"])
def test_a_login_is_signed_for_as_itself_only(tmp_path: Path, header: str, author: bytes) -> None:
    """Where [auth] header_senders lets a message pass, its author may still not be the login's to vouch for."""

    async def work(one: World, made: SigningKey) -> None:
        body = LETTER.replace(b"user@example.test", author)
        assert (await one.send("you@far.test", body=body)).startswith(b"250")
        await one.drained()
        assert results(one.sink.taken[0].content, made) == (PASSES if author == b"user@example.test" else [])

    run(tmp_path, work, service={"senders": Rules(header)})


def test_a_message_without_an_author_is_signed_for_its_login(tmp_path: Path) -> None:
    async def work(one: World, made: SigningKey) -> None:
        await one.send("you@far.test", body=b"Subject: x\r\n\r\ny\r\n")
        await one.drained()
        assert results(one.sink.taken[0].content, made) == PASSES

    run(tmp_path, work)


def test_a_large_message(tmp_path: Path) -> None:
    async def work(one: World, made: SigningKey) -> None:
        assert (await one.send("you@far.test", USER, body=LETTER + (b"word " * 14 + b"\r\n") * 6_000)).startswith(
            b"250"
        )
        await one.drained()
        assert results(one.sink.taken[0].content, made) == PASSES
        assert results((await one.inbox())[0].as_bytes(), made) == PASSES

    run(tmp_path, work)


def test_reports_are_signed(tmp_path: Path) -> None:
    """From the host's name, by the domain above it: d= is aligned with it."""

    async def work(one: World, made: SigningKey) -> None:
        client = one.bench.open("submission")
        await client.send(LOGIN)
        await say(client, f"MAIL FROM:<{USER}>", "RCPT TO:<you@null.test>", "DATA")
        assert (await client.send(LETTER.replace(b"\r\n.", b"\r\n..") + b".\r\n")).startswith(b"250")
        await one.until(lambda: one.spool.depth() == (0, 0))
        (report,) = await one.inbox()
        assert report["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.test>"
        content = report.as_bytes()
        assert results(content, made) == PASSES and report["DKIM-Signature"]

    run(tmp_path, work)


def test_what_a_list_sends_is_sealed(tmp_path: Path) -> None:
    """What was seen of the author's signature counts, although the list changed the subject and each copy is another."""
    names = MemoryResolver({**ZONE, **published(key())})
    team, members = "crew@example.test", ["you@far.test", "me@far.test"]

    async def main() -> None:
        async with world(tmp_path) as one:
            place = forwarding()
            place.put_list(List(team, owners=(USER,), mode=PUBLIC, tag="[crew]"))
            place.put_members(team, [Member(to) for to in members])
            made = keyed(place, tmp_path)
            signer = Signer(place, str(tmp_path))
            one.outward.sign_with(signer, "example.test")
            one.outward.one_click = OneClick("https://lists.example.test", Links(place), signer)
            mail = {"outbound": one.outward.submission, "policy": Receiver(names, Settings("mx.example.test"))}
            one.bench = Bench(str(tmp_path), one.bench.store, outbound=mail)
            use(one, place)
            one.run()
            client = one.bench.open("smtp", "192.0.2.1")
            await say(client, "EHLO mail.example.org", "MAIL FROM:<joe@example.org>", f"RCPT TO:<{team}>", "DATA")
            assert (await client.send(signed(MESSAGE).replace(b"\n", b"\r\n") + b".\r\n")).startswith(b"250")
            await one.drained()
            loop, there = asyncio.get_running_loop(), MemoryResolver(published(made, key()))
            assert len(one.sink.taken) == len(members)
            for taken in one.sink.taken:
                assert b"List-Unsubscribe-Post" in taken.content and b"Subject: [crew]" in taken.content
                _, _, chain = await loop.run_in_executor(None, verify_arc, taken.content, there)
                assert (chain.result, chain.sealers, chain.sets) == ("pass", ("example.test",), 1), chain
                assert "dkim=pass" in chain.results[0]

    asyncio.run(main())


def test_what_is_forwarded_is_sealed(tmp_path: Path) -> None:
    names = MemoryResolver({**ZONE, **published(key())})
    policy = {"policy": Receiver(names, Settings("mx.example.test"))}

    async def work(one: World, made: SigningKey) -> None:
        client = one.bench.open("smtp", "192.0.2.1")
        await say(client, "EHLO mail.example.org", "MAIL FROM:<joe@example.org>", "RCPT TO:<out@example.test>", "DATA")
        assert (await client.send(signed(MESSAGE).replace(b"\n", b"\r\n") + b".\r\n")).startswith(b"250")
        await one.drained()
        (taken,) = one.sink.taken
        loop = asyncio.get_running_loop()
        _, _, chain = await loop.run_in_executor(
            None, verify_arc, taken.content, MemoryResolver(published(made, key()))
        )
        assert (chain.result, chain.sealers, chain.sets) == ("pass", ("example.test",), 1), chain
        assert "spf=pass" in chain.results[0] and "dkim=pass" in chain.results[0]
        one.sink.taken.clear()
        assert (await receive(one, "out@example.test")).startswith(b"250")
        await one.drained()
        assert b"ARC-Seal" not in one.sink.taken[0].content, "nobody checked it"

    run(tmp_path, work, "example.test", policy)
