"""S19: who hears that mail was delivered (RFC 3461 5.2.3): users and trusted networks, within their limits; strangers,
whose addresses may be forged, only where a setting says so; and nobody by LMTP, where the host in front reports."""

import asyncio
import email
from pathlib import Path

import pytest

from fastmail.delivery.envelope import NotAll, Outcome
from tests.integration.test_relay import USER, World, report, world
from tests.support.sessions import Client

FAR = "192.0.2.9"
VICTIM = "victim@far.test"
ASKED = ["SUCCESS", "success", "SUCCESS,FAILURE", "delay,success", "SUCCESS,DELAY,FAILURE"]
DATA = b"Subject: hi\r\n\r\nbody\r\n.\r\n"


async def send(client: Client, notify: str, *to: str, hello: bytes = b"EHLO", sender: str = VICTIM) -> bytes:
    offered = await client.send(hello + b" far.test\r\n")
    got = await client.send(f"MAIL FROM:<{sender}> RET=HDRS ENVID=x\r\n".encode())
    assert got.startswith(b"250"), got
    for one in to or (USER,):
        got = await client.send(f"RCPT TO:<{one}> NOTIFY={notify} ORCPT=rfc822;{one}\r\n".encode())
        assert got.startswith(b"250"), got
    await client.send(b"DATA\r\n")
    assert (await client.send(DATA)).startswith(b"250")
    return offered


def told(w: World) -> list[dict[str, str]]:
    return [report(email.message_from_bytes(one.content)) for one in w.sink.taken]


@pytest.mark.parametrize("notify", ASKED)
def test_s19_a_stranger_makes_no_success_report(tmp_path: Path, notify: str) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.run()
            for host in (FAR, "2001:db8::9"):
                offered = await send(w.bench.open("smtp", host), notify, USER, "other@example.test")
                assert b"250-DSN\r\n" in offered
            await w.drained()
            assert w.sink.taken == [] and len(await w.inbox()) == 2

    asyncio.run(main())


@pytest.mark.parametrize("notify", ASKED)
def test_s19_not_when_the_queue_delivers_it_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notify: str
) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.run()

            async def some(*_: object) -> list[Outcome]:
                raise NotAll([Outcome(250, "2.0.0", "ok"), Outcome(451, "4.3.0", "not now")], True)

            monkeypatch.setattr(w.bench.deliverer, "deliver_to_all", some)
            await send(w.bench.open("smtp", FAR), notify, USER, "other@example.test")
            await w.drained()
            assert w.sink.taken == [] and len(await w.inbox()) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("notify", "kept"),
    [("SUCCESS", "NEVER"), ("SUCCESS,FAILURE", "FAILURE"), ("DELAY,SUCCESS", "DELAY"), ("NEVER", "NEVER"),
     ("FAILURE", "FAILURE"), ("SUCCESS,DELAY,FAILURE", "DELAY,FAILURE"), ("", "")],
)  # fmt: skip
def test_what_else_a_stranger_asks_stays(tmp_path: Path, notify: str, kept: str) -> None:
    """Who asks for success alone asks for no failure; who asks for nothing hears of failures and delays."""

    async def main() -> None:
        async with world(tmp_path) as w:
            client = w.bench.open("smtp", FAR)
            await client.send(b"EHLO far.test\r\nMAIL FROM:<victim@far.test>\r\n")
            await client.send(f"RCPT TO:<{USER}>{notify and ' NOTIFY=' + notify}\r\n".encode())
            session = client.connection.session
            assert [one.notify for one in session.transaction.envelope.asked] == [kept]  # type: ignore[union-attr]

    asyncio.run(main())


def test_a_setting_tells_strangers_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            client = w.bench.open("smtp", FAR)
            client.connection.session.service.tells_strangers = True  # type: ignore[union-attr]
            w.run()
            await send(client, "SUCCESS")
            await w.drained()
            assert [one["Action"] for one in told(w)] == ["delivered"]

    asyncio.run(main())


def test_users_and_trusted_networks_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            w.run()
            await send(w.bench.open("smtp", "127.0.0.1"), "SUCCESS")
            await w.drained()
            assert [one["Action"] for one in told(w)] == ["delivered"]
            await w.send("other@example.test", rcpt=" NOTIFY=SUCCESS")
            await w.drained()
            assert report((await w.inbox())[-1])["Action"] == "delivered"

    asyncio.run(main())


@pytest.mark.parametrize("host", [FAR, "127.0.0.1", "local"])
def test_by_lmtp_the_host_in_front_reports(tmp_path: Path, host: str) -> None:
    """It is not offered to make them, so that host does; one that asks all the same is not refused."""

    async def main() -> None:
        async with world(tmp_path) as w:
            w.run()
            client = w.bench.open("lmtp", host)
            client.connection.session.service.tells_strangers = True  # type: ignore[union-attr]
            offered = await send(client, "SUCCESS,FAILURE", hello=b"LHLO")
            assert b"DSN" not in offered
            await w.drained()
            assert w.sink.taken == [] and len(await w.inbox()) == 1

    asyncio.run(main())


def test_success_reports_count_in_the_limits_of_their_login(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path, extensions=["PIPELINING"]) as w:
            w.outward.bounds.login = 6
            w.run()
            for _ in range(10):  # delivered here: the reports alone count
                await w.send("other@example.test", rcpt=" NOTIFY=SUCCESS")
                await w.drained()
            assert len(await w.inbox()) == 6
            assert (await w.send("you@far.test")).startswith(b"450 4.7.1"), "nothing is left for mail elsewhere"
            w.outward.bounds.login = 9
            for _ in range(2):  # each one is a recipient, and its report too
                await w.send("you@far.test", rcpt=" NOTIFY=SUCCESS")
                await w.drained()
            assert len(w.sink.taken) == 2 and len(await w.inbox()) == 7

    asyncio.run(main())


def test_a_full_queue_takes_no_success_report(tmp_path: Path) -> None:
    """Nor is mail that was delivered refused for that; what failed is reported even so."""

    async def main() -> None:
        async with world(tmp_path, answers={"RCPT": lambda s, line: "550 no" if "bad" in line else "250 ok"}) as w:
            await w.send("bad@far.test")
            await w.send("good@far.test", rcpt=" NOTIFY=SUCCESS")
            w.outward.bounds.messages = 1
            await w.send("other@example.test", rcpt=" NOTIFY=SUCCESS")
            assert w.spool.depth()[0] == 2
            w.run()
            await w.drained()
            assert [report(one)["Action"] for one in await w.inbox()] == ["failed"]

    asyncio.run(main())
