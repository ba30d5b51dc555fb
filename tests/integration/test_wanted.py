"""What each recipient asks for about mail from others holds where the queue delivers it, too."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from fastmail.dns.memory import MemoryResolver
from fastmail.net import networks
from fastmail.policy.receive import Receiver, Settings
from tests.integration.test_forwards import say
from tests.integration.test_relay import World, world
from tests.integration.test_relay_local import OTHER, Broken
from tests.support.sessions import USER, Bench, Client
from tests.support.signing import MESSAGE, key, published
from tests.unit.policy.test_receive import ZONE

AUTHOR = b"ann@else.test"
CONTENT = MESSAGE.replace(b"joe@example.org", AUTHOR).replace(b"\n", b"\r\n") + b".\r\n"


def judging(one: World) -> Bench:
    """A bench of that world that judges; the user has mail of AUTHOR in Junk."""
    mail = {
        "outbound": one.outward.submission,
        "networks": [networks.parse("127.0.0.0/8")],
        "policy": Receiver(MemoryResolver({**ZONE, **published(key())}), Settings("mx.example.test")),
    }
    one.bench = Bench(str(one.path), one.bench.store, outbound=mail)
    one.bench.deliverer.history = one.history
    accounts = one.bench.directory.accounts
    accounts[USER] = replace(accounts[USER], block=(AUTHOR.decode(),))
    return one.bench


async def begun(bench: Bench) -> Client:
    client = bench.open("smtp", "192.0.2.1")
    await say(client, "EHLO mail.example.org", "MAIL FROM:<joe@example.org>")
    return client


async def count(bench: Bench, address: str, name: str) -> int:
    account = bench.deliverer.account(bench.directory.accounts[address])
    await bench.store.open(account)
    found = bench.store.find(account, name)
    return len(bench.store.boxes[found].messages) if found is not None else 0  # type: ignore[attr-defined]


def test_the_queue_delivers_to_the_mailbox_that_each_account_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            bench = judging(one)
            broken = Broken(bench, OTHER)
            one.run()
            client = await begun(bench)
            await say(client, f"RCPT TO:<{USER}>", f"RCPT TO:<{OTHER}>", "DATA")
            assert (await client.send(CONTENT)).endswith(b" queued\r\n")
            broken.on = False
            await one.drained()
            assert [await count(bench, USER, name) for name in ("INBOX", "Junk")] == [0, 1]
            assert [await count(bench, OTHER, name) for name in ("INBOX", "Junk")] == [1, 0]

    asyncio.run(main())


def test_mail_that_leaves_is_sent_by_itself_where_others_ask_for_something_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as one:
            bench = judging(one)
            accounts = bench.directory.accounts
            accounts[OTHER] = replace(accounts[OTHER], forward=("you@far.test",))
            client = await begun(bench)
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"250")
            assert (await client.send(f"RCPT TO:<{OTHER}>\r\n".encode())).startswith(b"452 4.5.3 send to this")
            await say(client, "RSET", "MAIL FROM:<joe@example.org>")
            assert (await client.send(f"RCPT TO:<{OTHER}>\r\n".encode())).startswith(b"250")
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"452 4.5.3 send to this")
            accounts[USER] = replace(accounts[USER], block=())
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"250")

    asyncio.run(main())
