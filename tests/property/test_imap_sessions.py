"""Several sessions on one mailbox under random commands: each client's picture, built only from what it was told, is right.

A client here does what RFC 3501 7.4.1 asks of it: it applies EXISTS, EXPUNGE and FETCH in order and trusts nothing else.
One of them enabled QRESYNC (RFC 7162): it is told VANISHED instead, and now and then leaves and comes back with what it
knew.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail._core import mime, pages
from fastmail.store.interface import NewMessage
from fastmail.store.memory.store import MemoryStore
from tests.support.examples import seeds
from tests.support.homes import local_store
from tests.support.sessions import Bench, Client

LINE = re.compile(rb"\* (\d+|VANISHED) (EXISTS|EXPUNGE|RECENT|FETCH|\(EARLIER\) [\d:,]+|[\d:,]+)(?: \(([^\r]*))?\r\n")


def uid_set(text: bytes) -> set[int]:
    out: set[int] = set()
    for part in text.split(b","):
        low, _, high = part.partition(b":")
        out |= set(range(int(low), int(high or low) + 1))
    return out


class Picture:
    """What one client believes: a list of [uid or 0, flags or None] by sequence number."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.tag = b"c%d" % number
        self.messages: list[list[object]] = []
        self.resyncs = False
        self.validity = 0
        self.modseq = 0

    async def run(self, command: bytes, forbid_expunge: bool = False) -> bytes:
        answer = await self.client.send(self.tag + b" " + command + b"\r\n")
        assert re.search(rb"(?:^|\r\n)" + self.tag + rb" (OK|NO \[EXPUNGEISSUED\])", answer), (command, answer)
        self.modseq = max([self.modseq, *map(int, re.findall(rb"MODSEQ \(?(\d+)", answer))])
        for match in LINE.finditer(answer):
            if match.group(1) == b"VANISHED":
                assert self.resyncs and not forbid_expunge
                gone = uid_set(match.group(2).rpartition(b" ")[2])
                self.messages = [m for m in self.messages if m[0] not in gone]
                continue
            number, kind, items = int(match.group(1)), match.group(2), match.group(3) or b""
            assert not (self.resyncs and kind == b"EXPUNGE")
            if kind == b"EXISTS":
                assert number >= len(self.messages), "EXISTS may not shrink"
                self.messages += [[0, None] for _ in range(number - len(self.messages))]
            elif kind == b"EXPUNGE":
                assert not forbid_expunge, f"EXPUNGE told in answer to {command!r}"
                del self.messages[number - 1]
            elif kind == b"FETCH":
                assert 1 <= number <= len(self.messages)
                uid = re.search(rb"UID (\d+)", items)
                flags = re.search(rb"FLAGS \(([^)]*)\)", items)
                if uid:
                    known = self.messages[number - 1][0]
                    assert known in (0, int(uid.group(1))), "a sequence number changed its message"
                    self.messages[number - 1][0] = int(uid.group(1))
                if flags:
                    self.messages[number - 1][1] = set(flags.group(1).split()) - {b"\\Recent"}
        if self.resyncs and any(m[0] == 0 for m in self.messages) and not command.startswith(b"SELECT"):
            await self.run(b"FETCH 1:* (UID FLAGS)", True)
        return answer

    async def select(self) -> None:
        answer = await self.run(b"SELECT INBOX")
        self.validity = int(re.search(rb"UIDVALIDITY (\d+)", answer).group(1))  # type: ignore[union-attr]
        if self.resyncs:
            await self.run(b"FETCH 1:* (UID FLAGS)")

    async def leave_and_come_back(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        """Quick resynchronization: nothing but the differences is told, and then all is known."""
        await self.run(b"NOOP")
        known, modseq = self.messages, self.modseq
        await self.run(b"UNSELECT")
        await meanwhile()
        self.messages = []
        answer = await self.client.send(self.tag + b" SELECT INBOX (QRESYNC (%d %d))\r\n" % (self.validity, modseq))
        gone: set[int] = set()
        for match in re.finditer(rb"\* VANISHED \(EARLIER\) ([\d:,]+)", answer):
            gone |= uid_set(match.group(1))
        flags = {m[0]: m[1] for m in known if m[0] not in gone}
        for match in re.finditer(rb"FETCH \(UID (\d+) FLAGS \(([^)]*)\)", answer):
            flags[int(match.group(1))] = set(match.group(2).split()) - {b"\\Recent"}
        exists = int(re.search(rb"\* (\d+) EXISTS", answer).group(1))  # type: ignore[union-attr]
        assert len(flags) == exists, (flags, answer)
        self.messages = [[uid, flags[uid]] for uid in sorted(flags)]  # type: ignore[type-var]
        self.modseq = int(re.search(rb"HIGHESTMODSEQ (\d+)", answer).group(1))  # type: ignore[union-attr]


def some(rng: random.Random, count: int) -> bytes:
    a, b = rng.randint(1, count), rng.randint(1, count)
    return b"%d:%d" % (a, b) if rng.random() < 0.5 else b"%d" % a


@pytest.mark.parametrize("kind", ["memory", "maildir", "segments"])
@pytest.mark.parametrize("seed", seeds(10))
def test_every_client_ends_with_the_same_mailbox(seed: int, kind: str, tmp_path: Path) -> None:
    rng = random.Random(seed)

    async def main() -> None:
        store = MemoryStore() if kind == "memory" else local_store(str(tmp_path / "data"), kind=kind)
        await store.start()
        try:
            await work(Bench(str(tmp_path), store))
        finally:
            await store.close()

    async def work(bench: Bench) -> None:
        account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
        await bench.store.open(account)
        key = bench.store.find(account, "INBOX")
        assert key is not None
        text = b"Subject: x\n\nbody\n"

        async def deliver() -> None:
            await bench.store.append(account, key, [NewMessage((text,), mime.scan(text), 20, 0)])

        for _ in range(8):
            await deliver()
        sessions = [Picture(bench.open("imap"), n) for n in range(4)]
        for one in sessions:
            await one.run(b"LOGIN user@example.test secret")
            if one is sessions[3]:
                await one.run(b"ENABLE QRESYNC")
                one.resyncs = True
            await one.select()
        for step in range(150):
            one = rng.choice(sessions)
            count = len(one.messages)
            action = rng.randrange(10)
            if action == 0 or not count:
                await deliver()
                await one.run(b"NOOP")
            elif action == 1:
                sign, silent = rng.choice([b"+", b"-", b""]), rng.choice([b"", b".SILENT"])
                flag = rng.choice([b"\\Seen", b"\\Deleted", b"\\Flagged", b"$A", b"$B"])
                where = some(rng, count)
                await one.run(b"STORE " + where + b" " + sign + b"FLAGS" + silent + b" (" + flag + b")", True)
                if silent:
                    await one.run(b"FETCH " + where + b" FLAGS", True)
            elif action == 2:
                await one.run(b"FETCH " + some(rng, count) + b" (UID FLAGS)", True)
            elif action == 3:
                await one.run(b"UID FETCH 1:* (FLAGS)")
                if one.resyncs:

                    async def meanwhile() -> None:
                        await sessions[0].run(rng.choice([b"EXPUNGE", b"STORE 1 +FLAGS ($C)", b"COPY 1 INBOX"]), False)
                        await deliver()

                    if sessions[0].messages:
                        await one.leave_and_come_back(meanwhile)
            elif action == 4:
                await one.run(rng.choice([b"EXPUNGE", b"UID EXPUNGE 1:*"]))
            elif action == 5:
                await one.run(b"SEARCH UNSEEN", True)
            elif action == 6:
                await one.run(b"COPY " + some(rng, count) + b" INBOX")
            elif action == 7 and rng.random() < 0.3:
                await one.run(b"MOVE " + some(rng, count) + b" Archive")
            elif action == 8:
                await one.run(b"FETCH " + some(rng, count) + b" (BODY[TEXT] FLAGS)", True)
            else:
                await one.run(b"NOOP")
            if step % 30 == 29:
                await compare(bench, account, key, sessions)
        await compare(bench, account, key, sessions)

    async def compare(bench: Bench, account: object, key: bytes, sessions: list[Picture]) -> None:
        with bench.store.snapshot(account) as snapshot:  # type: ignore[arg-type]
            words = snapshot.keywords(key)
            names = {1: b"\\Seen", 2: b"\\Answered", 4: b"\\Flagged", 8: b"\\Deleted", 16: b"\\Draft"}
            truth = [
                (
                    record[0],
                    {name for bit, name in names.items() if record[1] & bit}
                    | {word for i, word in enumerate(words) if record[3] >> i & 1},
                )
                for page in snapshot.pages(key)
                for record in pages.records(page)
            ]
        for one in sessions:
            await one.run(b"NOOP")
            assert len(one.messages) == len(truth)
            for (uid, flags), (known_uid, known_flags) in zip(truth, one.messages, strict=True):
                assert known_uid in (0, uid)
                assert known_flags is None or known_flags == flags, (uid, flags, known_flags)
            if truth:
                await one.run(b"FETCH 1:* (UID FLAGS)")
            assert [m[0] for m in one.messages] == [uid for uid, _ in truth]

    asyncio.run(main())
