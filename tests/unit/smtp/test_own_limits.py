"""What an account and its domain may send: the size of a message, and messages and recipients in an hour."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.records import Domain
from fastmail.net import networks
from fastmail.queue import rates, routes, stopped
from fastmail.queue.bounds import Bounds, sent_by
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.smtp import own_limits
from fastmail.smtp.dialogue import Dialogue
from tests.support.relaying import Outward
from tests.support.sessions import USER, Bench, Client
from tests.unit.delivery.test_submission import Notes

LOGIN = base64.b64encode(f"\0{USER}\0secret".encode())
OTHER = "other@example.test"
HERE, FAR = (OTHER,), ("x@far.test",)
BODY = b"From: " + USER.encode() + b"\r\nSubject: x\r\n\r\nhello\r\n"


def run(path: Path, scenario: Callable[[Bench, Spool], Awaitable[None]]) -> None:
    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        out = Outward(spool, routes.parse([], []), Schedule(), Notes())  # type: ignore[arg-type]
        try:
            await scenario(Bench(str(path), outbound={"outbound": out.submission}), spool)
        finally:
            await spool.close()

    asyncio.run(main())


def run_bounded(path: Path, scenario: Callable[[Bench, Spool, Bounds], Awaitable[None]]) -> None:
    """With networks that need no login, and limits that the scenario sets."""

    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        out = Outward(spool, routes.parse([], []), Schedule(), Notes())  # type: ignore[arg-type]
        try:
            shared = {"outbound": out.submission, "networks": NEAR}
            await scenario(Bench(str(path), outbound=shared), spool, out.bounds)
        finally:
            await spool.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def one_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test does not begin in one hour and end in the next."""
    monkeypatch.setattr(rates, "HOUR", 1 << 40)


async def enter(bench: Bench) -> Client:
    client = bench.open("submission")
    await client.send(b"EHLO me.test\r\nAUTH PLAIN " + LOGIN + b"\r\n")
    return client


async def send(client: Client, *to: str, body: bytes = BODY) -> list[bytes]:
    """The replies to MAIL, to each RCPT and to the message, until one is no success."""
    commands = [f"MAIL FROM:<{USER}>\r\n".encode(), *(f"RCPT TO:<{one}>\r\n".encode() for one in to), b"DATA\r\n"]
    said = []
    for line in [*commands, body + b".\r\n"]:
        said.append((await client.send(line)).strip())
        if said[-1][:1] not in b"23":
            await client.send(b"RSET\r\n")
            break
    return said


def limit(bench: Bench, domain: Domain | None = None, **own: int) -> None:
    bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], **own)
    if domain is not None:
        bench.directory.domains["example.test"] = domain


@pytest.mark.parametrize("to", [HERE, FAR], ids=["here", "elsewhere"])
def test_recipients_of_an_account(tmp_path: Path, to: tuple[str]) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, recipients_per_hour=3)
        client = await enter(bench)
        assert (await send(client, *to))[-1].startswith(b"250")
        three = (await send(client, *to, "a@far.test", "b@far.test"))[-1]
        assert three.startswith(b"450 4.7.1 at most 3 recipients an hour are allowed, try again after ")
        assert (await send(client, *to, "a@far.test"))[-1].startswith(b"250"), "what was refused is not counted"
        assert (await send(client, *to))[0].startswith(b"450 4.7.1 at most 3 recipients"), "MAIL says it already"
        limit(bench, recipients_per_hour=4)
        assert (await send(client, *to))[-1].startswith(b"250")

    run(tmp_path, scenario)


def test_messages_of_a_domain_are_those_of_all_its_accounts(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, Domain("example.test", messages_per_hour=2), messages_per_hour=9)
        client = await enter(bench)
        assert (await send(client, *FAR))[-1].startswith(b"250")
        other = bench.open("submission")
        login = base64.b64encode(f"\0{OTHER}\0secret".encode())
        await other.send(b"EHLO me.test\r\nAUTH PLAIN " + login + b"\r\n")
        await other.send(f"MAIL FROM:<{OTHER}>\r\nRCPT TO:<{USER}>\r\nDATA\r\n".encode())
        assert b"250" in await other.send(BODY.replace(USER.encode(), OTHER.encode()) + b".\r\n")
        said = (await send(client, *FAR))[0]
        assert said.startswith(b"450 4.7.1 at most 2 messages an hour are allowed for the domain example.test, ")

    run(tmp_path, scenario)


def test_the_size_of_a_message(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, Domain("example.test", message_size=4000), message_size=3000)
        client = bench.open("submission")
        assert b"SIZE 52428800" in await client.send(b"EHLO me.test\r\n")
        await client.send(b"AUTH PLAIN " + LOGIN + b"\r\n")
        assert b"SIZE 3000" in await client.send(b"EHLO me.test\r\n")
        said = await client.send(f"MAIL FROM:<{USER}> SIZE=3001\r\n".encode())
        assert said.startswith(b"552 5.3.4 message is too big: 3000 octets is the most")
        assert (await send(client, *FAR, body=BODY + b"x" * 70 + b"\r\n"))[-1].startswith(b"250")
        assert (await send(client, *FAR, body=BODY + (b"x" * 70 + b"\r\n") * 50))[-1].startswith(b"552 5.3.4")

    run(tmp_path, scenario)


def test_the_size_of_a_message_to_an_account(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, message_size=3000)
        client = bench.open("smtp")
        await client.send(b"EHLO far.test\r\n")
        await client.send(b"MAIL FROM:<a@far.test> SIZE=3001\r\n")
        assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"552 5.3.4")
        assert (await client.send(f"RCPT TO:<{OTHER}>\r\n".encode())).startswith(b"250")
        await client.send(f"RSET\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<{USER}>\r\nDATA\r\n".encode())
        assert (await client.send(BODY + (b"x" * 70 + b"\r\n") * 50 + b".\r\n")).startswith(b"552 5.3.4")
        client = bench.open("lmtp")
        await client.send(f"LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<{USER}>\r\nRCPT TO:<{OTHER}>\r\nDATA\r\n".encode())
        said = (await client.send(BODY + (b"x" * 70 + b"\r\n") * 50 + b".\r\n")).split(b"\r\n")
        assert said[0].startswith(b"552 5.3.4") and said[1].startswith(b"250")

    run(tmp_path, scenario)


def test_the_account_and_its_domain_are_read_once_a_message(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool) -> None:
        limit(bench, Domain("example.test", messages_per_hour=9), recipients_per_hour=9)
        client = await enter(bench)
        asked: list[str] = []
        read = own_limits.of

        def of(session: Dialogue) -> object:
            asked.append("limits")
            return read(session)

        own_limits.of = of  # type: ignore[assignment]
        try:
            assert (await send(client, *FAR))[-1].startswith(b"250")
        finally:
            own_limits.of = read
        assert asked == ["limits"], "at MAIL"

    run(tmp_path, scenario)


NEAR = [networks.parse("192.0.2.0/24"), networks.parse("192.0.2.7")]
PLAIN = BODY.replace(USER.encode(), b"app@far.test")


async def relayed(bench: Bench, host: str, *to: str) -> bytes:
    """The last reply to a message of a host that needs no login."""
    client = bench.open("smtp", host)
    await client.send(b"EHLO app.test\r\n")
    for line in [b"MAIL FROM:<app@far.test>\r\n", *(b"RCPT TO:<%b>\r\n" % one.encode() for one in to), b"DATA\r\n"]:
        said = await client.send(line)
        if said[:1] not in b"23":
            return said
    return await client.send(PLAIN + b".\r\n")


@pytest.mark.parametrize("to", [HERE, FAR], ids=["here", "elsewhere"])
def test_recipients_of_a_network(tmp_path: Path, to: tuple[str]) -> None:
    """All clients of an entry together; one of a smaller entry counts for that."""

    async def scenario(bench: Bench, spool: Spool, bounds: Bounds) -> None:
        bounds.network_recipients = 3
        assert (await relayed(bench, "192.0.2.1", *to)).startswith(b"250")
        three = await relayed(bench, "192.0.2.2", *to, "a@far.test", "b@far.test")
        assert three.startswith(b"450 4.7.1 at most 3 recipients an hour are allowed for the network 192.0.2.0/24, ")
        assert (await relayed(bench, "192.0.2.2", *to, "a@far.test")).startswith(b"250")
        assert (await relayed(bench, "192.0.2.3", *to)).startswith(b"450 4.7.1 at most 3 recipients"), "MAIL says it"
        assert (await relayed(bench, "192.0.2.7", *to)).startswith(b"250")
        client = await enter(bench)
        assert (await send(client, *to))[-1].startswith(b"250"), "a login has its own limits"
        assert sent_by(spool, NEAR[0], rates.RECIPIENTS) == 3 and sent_by(spool, NEAR[0], rates.MESSAGES) == 0

    run_bounded(tmp_path, scenario)


def test_messages_of_a_network(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool, bounds: Bounds) -> None:
        bounds.network_messages = 1
        assert (await relayed(bench, "192.0.2.1", "a@far.test", "b@far.test")).startswith(b"250")
        said = await relayed(bench, "192.0.2.1", "a@far.test")
        assert said.startswith(b"450 4.7.1 at most 1 message an hour are allowed for the network 192.0.2.0/24")

    run_bounded(tmp_path, scenario)


def test_a_network_that_was_stopped(tmp_path: Path) -> None:
    async def scenario(bench: Bench, spool: Spool, bounds: Bounds) -> None:
        await stopped.stop(spool, NEAR[0], "8 of 8 recipients\r\n250 ok", 1.0)
        said = await relayed(bench, "192.0.2.1", *FAR)
        assert said == b"450 4.7.1 mail from this network was stopped, please ask the administrator\r\n"
        assert (await relayed(bench, "192.0.2.7", *FAR)).startswith(b"250")
        assert (await send(await enter(bench), *FAR))[-1].startswith(b"250")
        await stopped.resume(spool, NEAR[0])
        assert (await relayed(bench, "192.0.2.1", *FAR)).startswith(b"250")

    run_bounded(tmp_path, scenario)
