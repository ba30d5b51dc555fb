"""Several recipients of this server in one transaction: all or nobody, or the queue goes on with it (RFC 5321 4.1.1.4).

Whatever is tried again, nobody has a message twice, and who cannot have it is told of to its sender.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastmail.model.quota import Quota
from fastmail.store.interface import Appended, Delivery
from tests.integration.test_relay import run, world
from tests.support.homes import local_store
from tests.support.sessions import USER, Bench, Client

OTHER = "other@example.test"
TEXT = b"Subject: for all\r\n\r\nbody\r\n.\r\n"


class Broken:
    """Deliveries to the account fail; ``late``: only behind those to other accounts, as with several shards."""

    def __init__(self, bench: Bench, address: str, late: bool = False) -> None:
        self.address, self.late, self.on, self.tries = address, late, True, 0
        self._deliver = bench.store.deliver
        bench.store.deliver = self.deliver  # type: ignore[method-assign]

    async def deliver(self, items: Sequence[Delivery]) -> list[Appended]:
        if self.on and any(item.account.address == self.address for item in items):
            self.tries += 1
            if self.late:
                await self._deliver([item for item in items if item.account.address != self.address])
            raise OSError(5, "the disk of this mailbox")
        return await self._deliver(items)


def had(bench: Bench) -> dict[str, int]:
    """Copies of the message by account."""
    names = {record.id: address for address, record in bench.directory.accounts.items()}
    out = dict.fromkeys(names.values(), 0)
    for key, box in bench.store.boxes.items():  # type: ignore[attr-defined]
        out[names[int.from_bytes(key[:8], "big")]] += sum(b"Subject: for all" in m.content for m in box.messages)
    return out


async def begun(client: Client, *to: str, hello: bytes = b"EHLO far.test\r\n") -> None:
    lines = b"".join(b"RCPT TO:<%b>\r\n" % one.encode() for one in to)
    got = await client.send(hello + b"MAIL FROM:<them@far.test>\r\n" + lines + b"DATA\r\n")
    assert got.endswith(b"354 end with CRLF . CRLF\r\n"), got


async def sent(bench: Bench, *to: str) -> bytes:
    client = bench.open("smtp")
    await begun(client, *to)
    return await client.send(TEXT)


@pytest.mark.parametrize("to", [(USER, OTHER), (OTHER, USER), ("team@example.test",)])
def test_one_mailbox_is_full(tmp_path: Path, to: tuple[str, ...]) -> None:
    """The others have the message, once; its sender hears of the full one."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.bench.directory.set_quota(OTHER, Quota(20, 0, 0))
            w.run()
            assert (await sent(w.bench, *to)).startswith(b"250 2.0.0")
            await w.drained()
            assert had(w.bench) == {USER: 1, OTHER: 0}
            (told,) = w.sink.taken
            assert told.rcpts == ["RCPT TO:<them@far.test> NOTIFY=NEVER"] and b"Status: 5.2.2" in told.content

    run(scenario)


@pytest.mark.parametrize("late", [False, True])
def test_one_mailbox_is_broken_for_a_while(tmp_path: Path, late: bool) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            broken = Broken(w.bench, OTHER, late)
            w.run()
            assert (await sent(w.bench, USER, OTHER)).startswith(b"250 2.0.0")
            await w.until(lambda: broken.tries > 4)
            assert had(w.bench) == {USER: 1, OTHER: 0} and w.spool.depth()[0] == 1
            broken.on = False
            await w.drained()
            assert had(w.bench) == {USER: 1, OTHER: 1} and w.sink.taken == []

    run(scenario)


def test_nothing_is_left_of_a_message_that_all_have(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            assert (await sent(w.bench, USER, OTHER)).endswith(b" delivered\r\n")
            assert had(w.bench) == {USER: 1, OTHER: 1}
            assert w.bench.store.holds.holders() == set() and w.spool.depth() == (0, 0)

    run(scenario)


@pytest.mark.parametrize("full", [True, False])
def test_without_a_queue_nobody_has_it(tmp_path: Path, full: bool) -> None:
    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        if full:
            bench.directory.set_quota(OTHER, Quota(20, 0, 0))
        else:
            Broken(bench, OTHER)
        for _ in range(3):
            assert (await sent(bench, USER, OTHER)).startswith(b"552 5.2.2" if full else b"451 4.3.0")
        assert had(bench) == {USER: 0, OTHER: 0}
        assert (await sent(bench, USER)).startswith(b"250")

    run(scenario)


def test_a_queue_that_cannot_take_it_either(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            Broken(w.bench, OTHER)

            async def refuse(*args: object) -> None:
                raise OSError(28, "no space")

            w.spool.enqueue = refuse  # type: ignore[assignment, method-assign]
            assert (await sent(w.bench, USER, OTHER)).startswith(b"451 4.3.0")
            assert had(w.bench) == {USER: 0, OTHER: 0}

    run(scenario)


@pytest.mark.parametrize("steps", range(12))
def test_a_client_that_goes_away(tmp_path: Path, steps: int) -> None:
    """At any point behind the final dot: nobody has it, or everybody who can have it gets it, once."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            broken = Broken(w.bench, OTHER, late=True)
            client = w.bench.open("smtp")
            await begun(client, USER, OTHER)
            client.listener.buffer[: len(TEXT)] = TEXT
            client.connection.buffer_updated(len(TEXT))
            for _ in range(steps):
                await asyncio.sleep(0)
            client.connection.connection_lost(None)
            await client.settle()
            broken.on = False
            w.run()
            await w.drained()
            assert sorted(had(w.bench).values()) in ([0, 0], [0, 1], [1, 1])
            if steps == 0:
                assert had(w.bench)[OTHER] == 0
            if had(w.bench)[OTHER] == 0:  # the client has no reply: it will come again, with all of them
                assert not client.transport.data.endswith(b"queued\r\n")

    run(scenario)


def test_by_lmtp_an_address_of_several_accounts_is_one_recipient(tmp_path: Path) -> None:
    """Who comes again with it would leave a copy with those who can have it; other recipients go on."""

    async def scenario() -> None:
        bench = Bench(str(tmp_path))
        broken = Broken(bench, OTHER)
        for _ in range(3):
            client = bench.open("lmtp")
            await begun(client, "team@example.test", hello=b"LHLO far.test\r\n")
            assert (await client.send(TEXT)).startswith(b"451 4.3.0 <team@example.test>")
        assert had(bench) == {USER: 0, OTHER: 0}
        client = bench.open("lmtp")
        await begun(client, OTHER, USER, OTHER, hello=b"LHLO far.test\r\n")
        assert [line[:3] for line in (await client.send(TEXT)).splitlines()] == [b"451", b"250", b"451"]
        assert had(bench) == {USER: 1, OTHER: 0}
        broken.on = False
        client = bench.open("lmtp")
        await begun(client, "team@example.test", hello=b"LHLO far.test\r\n")
        assert (await client.send(TEXT)).startswith(b"250")

    run(scenario)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_maildir_that_is_no_directory(tmp_path: Path, shards: int) -> None:
    """Files of the others do not stay behind either."""

    async def scenario() -> None:
        store = local_store(str(tmp_path / "index"), shards)
        await store.start()
        try:
            bench = Bench(str(tmp_path), store)
            assert (await sent(bench, USER, OTHER)).startswith(b"250")
            new = tmp_path / "mail/example.test/other/new"
            for path in new.iterdir():
                path.unlink()
            new.rmdir()
            new.write_bytes(b"")
            for _ in range(3):
                assert (await sent(bench, USER, OTHER)).startswith(b"451 4.3.0")
            user = bench.deliverer.account(bench.directory.accounts[USER])
            with store.snapshot(user) as snapshot:
                assert [box.exists for box in snapshot.boxes(user.id) if box.name == "INBOX"] == [1]
            for _ in range(200):  # what was kept for a moment is taken back, and its file soon
                if len(list((tmp_path / "mail/example.test/user/new").iterdir())) == 1:
                    break
                await asyncio.sleep(0.05)
            assert len(list((tmp_path / "mail/example.test/user/new").iterdir())) == 1
        finally:
            await store.close()

    run(scenario)


@pytest.mark.parametrize("trusted", [False, True], ids=["from a user", "from a trusted host"])
def test_text_without_a_header_goes_out_as_text(tmp_path: Path, trusted: bool) -> None:
    """RFC 7103 7.2: the empty line is put in for the next host too."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            text = b"Paper jam in tray 2\r\nsecond line\r\n"
            if trusted:
                client = w.bench.open("smtp")
                await begun(client, "you@far.test")
                assert (await client.send(text + b".\r\n")).startswith(b"250")
            else:
                assert (await w.send("you@far.test", body=text)).startswith(b"250")
            await w.drained()
            (taken,) = w.sink.taken
            header, _, body = taken.content.partition(b"\r\n\r\n")
            assert body == text and header.startswith(b"Received: ") and b"Paper" not in header
            assert (b"\r\nMessage-ID: " in header) != trusted

    run(scenario)


def test_bcc_behind_a_long_header_does_not_go_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            to = b"To: " + b",\r\n ".join(b"user%d@far.example.test" % n for n in range(12_000)) + b"\r\n"
            body = (
                to
                + b"Bcc: secret@far.test\r\nDate: x\r\nMessage-ID: <1@b.test>\r\nFrom: user@example.test\r\n\r\nbody\r\n"
            )
            assert (await w.send("you@far.test", body=body)).startswith(b"250")
            await w.drained()
            (taken,) = w.sink.taken
            assert b"secret" not in taken.content and b"bcc" not in taken.content.lower()
            assert [taken.content.count(b"\r\n" + name) for name in (b"Date:", b"Message-ID:", b"From:")] == [1, 1, 1]

    run(scenario)
