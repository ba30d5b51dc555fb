"""Users teach by moving mail to and from Junk, by IMAP; nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.delivery import training
from fastmail.delivery.training import Trainer
from fastmail.policy.learning.counts import EVERYBODY, HAM, SPAM, Learned, Lesson, Totals
from fastmail.policy.learning.words import read
from fastmail.policy.scanners.teaching import Pupil
from fastmail.store.interface import Account
from tests.support.scanning import READ, far, scanner
from tests.support.sessions import USER, Bench, Client

TEXT = b"From: joe@example.org\nSubject: number %d\nMessage-ID: <%d@example.org>\n\nIs dinner number %d ready?\n"


class World:
    """A session on the INBOX with three messages, and a trainer."""

    def __init__(self, path: Path, shared: bool = False) -> None:
        self.bench = Bench(str(path))
        self.learned = Learned(str(path))
        self.account: Account = self.bench.deliverer.account(self.bench.directory.accounts[USER])
        self.trainer = Trainer(
            self.learned, self.bench.store, shared, lambda number: self.account if number == 1 else None
        )
        self.bench.imap.moved = self.trainer.moved
        self.client: Client

    async def do(self, *commands: bytes) -> None:
        for command in commands:
            said = await self.client.send(b"x " + command + b"\r\n")
            assert b"x OK" in said, said

    async def totals(self, owner: int = 1) -> Totals:
        """When all that was noted is learned."""
        while self.trainer._worker is not None:
            await asyncio.wait([self.trainer._worker])
        return self.learned.totals(owner)


def run(path: Path, work: Callable[[World], Awaitable[None]], shared: bool = False) -> None:
    async def main() -> None:
        world = World(path, shared)
        world.client = world.bench.open("imap")
        await world.client.send(b"a LOGIN user@example.test secret\r\n")
        for n in (1, 2, 3):
            text = (TEXT % (n, n, n)).replace(b"\n", b"\r\n")
            await world.client.send(b"b APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\n")
        await world.client.send(b"c SELECT INBOX\r\n")
        try:
            await work(world)
        finally:
            await world.trainer.close()

    asyncio.run(main())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "LATER", 0.0)
    monkeypatch.setattr(training, "PAUSE", 0.0)


def test_moves_to_junk_and_back(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.do(b"MOVE 1:2 Junk")
        totals = await world.totals()
        assert (totals.spam, totals.ham, totals.known) == (2, 0, 2) and await world.totals(EVERYBODY) == Totals()
        await world.do(b"SELECT Junk", b"MOVE 1 INBOX")  # a mistake
        totals = await world.totals()
        assert (totals.spam, totals.ham, totals.known) == (1, 0, 1)
        await world.do(b"MOVE 1 Archive")
        assert await world.totals() == Totals()

    run(tmp_path, work)


def test_what_the_server_put_there_is_ham_when_it_is_moved_away(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        text = (TEXT % (9, 9, 9)).replace(b"\n", b"\r\n")
        await world.client.send(b"b APPEND Junk {%d+}\r\n" % len(text) + text + b"\r\n")
        assert await world.totals() == Totals(), "who puts a message there, moves none"
        await world.do(b"SELECT Junk", b"UID MOVE 1 INBOX")
        totals = await world.totals()
        assert (totals.spam, totals.ham) == (0, 1)
        await world.do(b"SELECT INBOX", b"UID COPY 4 Junk")
        totals = await world.totals()
        assert totals.ham == 0, "that is taken back"

    run(tmp_path, work)


def test_copies_count_and_trash_says_nothing(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.do(b"COPY 1 Junk", b"COPY 2 Archive", b"MOVE 3 Trash")
        totals = await world.totals()
        assert (totals.spam, totals.ham) == (1, 0)
        await world.do(b"SELECT Junk", b"MOVE 1 Trash")
        assert (await world.totals()).spam == 1
        await world.do(b"SELECT Trash", b"MOVE 1 Junk")
        assert (await world.totals()).spam == 2

    run(tmp_path, work)


def test_the_mailbox_with_the_attribute_is_junk(tmp_path: Path) -> None:
    """RFC 6154: whatever it is called."""

    async def work(world: World) -> None:
        await world.do(
            b"DELETE Junk", b"CREATE Rubbish (USE (\\Junk))", b"CREATE Junk", b"COPY 1 Junk", b"COPY 2 Rubbish"
        )
        assert (await world.totals()).spam == 1

    run(tmp_path, work)


def test_everybody_may_be_taught_too(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        await world.do(b"MOVE 1 Junk")
        assert (await world.totals()).spam == (await world.totals(EVERYBODY)).spam == 1

    run(tmp_path, work, shared=True)


def test_others_mailboxes_teach_nobody(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        other = world.bench.open("imap")
        await other.send(b"a LOGIN other@example.test secret\r\na SETACL Junk user@example.test lrswipte\r\n")
        said = await world.client.send(b'x COPY 1 "Other Users/other@example.test/Junk"\r\n')
        assert b"COPYUID" in said, said
        assert await world.totals() == await world.totals(2) == Totals()

    run(tmp_path, work)


def test_what_is_gone_or_too_large_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        monkeypatch.setattr(training, "LARGEST", len(TEXT) - 20)
        await world.do(b"MOVE 1 Junk")
        assert await world.totals() == Totals()
        world.trainer.moved(world.account, b"none", b"nowhere", [1])
        world.trainer.moved(
            world.account,
            world.bench.store.find(world.account, "INBOX") or b"",
            world.bench.store.find(world.account, "Junk") or b"",
            [99],
        )
        assert await world.totals() == Totals()

    run(tmp_path, work)


def test_notes_are_bounded_and_worked_off_at_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(world: World) -> None:
        monkeypatch.setattr(training, "NOTED", 2)
        monkeypatch.setattr(training, "LATER", 3600.0)
        await world.do(b"COPY 1:3 Junk")
        await world.trainer.close()
        again = Learned(str(tmp_path))
        assert again.totals(1).spam == 2
        again.close()
        await world.do(b"COPY 1 Junk")  # too late
        assert world.trainer._worker is None

    run(tmp_path, work)


def test_scanners_learn_what_users_teach(tmp_path: Path) -> None:
    """By themselves too, without the server's own classifier; one that is away keeps nobody else from learning."""

    async def main(own: bool) -> list[bytes]:
        heard: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await READ["http"](reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with far(serve) as there:
            world = World(tmp_path / str(own))
            pupils = [Pupil(scanner("spamassassin", "127.0.0.1:1", learns="127.0.0.1:1")),
                      Pupil(scanner("rspamd", "127.0.0.1:1", learns=there.address))]  # fmt: skip
            world.trainer = Trainer(world.learned if own else None, world.bench.store, pupils=pupils)
            world.bench.imap.moved = world.trainer.moved
            world.client = world.bench.open("imap")
            await world.client.send(b"a LOGIN user@example.test secret\r\n")
            text = (TEXT % (1, 1, 1)).replace(b"\n", b"\r\n")
            await world.client.send(b"b APPEND INBOX {%d+}\r\n" % len(text) + text + b"\r\nc SELECT INBOX\r\n")
            await world.do(b"MOVE 1 Junk")
            await world.totals()
            await world.do(b"SELECT Junk", b"MOVE 1 Archive")
            await world.totals()  # what is moved on before it was read is not learned
            await world.do(b"SELECT Archive", b"MOVE 1 INBOX")
            totals = await world.totals()
            assert totals == Totals(), "the classifier took its lesson back, if there is one"
            await world.trainer.close()
        return heard

    for own in (True, False):
        heard = asyncio.run(main(own))
        assert [one.partition(b" HTTP")[0] for one in heard] == [b"POST /learnspam", b"POST /learnham"]
        assert all(one.endswith(TEXT % (1, 1, 1)) for one in heard)


def test_a_scanner_that_hangs_keeps_no_server_from_its_stop(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def work(world: World) -> None:
        async with far(hang) as there:
            pupil = Pupil(scanner("rspamd", "127.0.0.1:1", learns=there.address, seconds=3600.0))
            world.trainer = Trainer(world.learned, world.bench.store, pupils=[pupil])
            world.bench.imap.moved = world.trainer.moved
            await world.do(b"MOVE 1:2 Junk")
            await reached.wait()
            async with asyncio.timeout(60):
                await world.trainer.close()
        again = Learned(str(tmp_path))
        assert again.totals(1).spam == 2, "the classifier does not wait for scanners"
        again.close()

    run(tmp_path, work)


def test_removed_accounts_are_forgotten(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        one = read(TEXT % (1, 1, 1))
        world.learned.teach([Lesson(owner, one, kind) for owner, kind in ((EVERYBODY, SPAM), (1, HAM), (5, SPAM))])
        world.trainer.sweep()
        assert world.trainer._sweeper is not None
        await asyncio.wait([world.trainer._sweeper])
        assert world.learned.owners() == [EVERYBODY, 1]

    run(tmp_path, work)
