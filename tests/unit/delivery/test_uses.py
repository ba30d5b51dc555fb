"""Which mailbox is for what (RFC 6154), and that junk goes there."""

import asyncio
from pathlib import Path

from fastmail.delivery import uses
from fastmail.delivery.envelope import Envelope
from fastmail.store.interface import Mailbox
from tests.support.sessions import USER, Bench


def box(name: str, special: int = 0) -> Mailbox:
    return Mailbox(name.encode(), name, 1, special=special)


def test_the_attribute_counts_before_the_name() -> None:
    assert uses.mailbox([box("INBOX"), box("Junk"), box("Rubbish", 8)], uses.JUNK) == box("Rubbish", 8)
    assert uses.mailbox([box("INBOX"), box("Junk"), box("Trash", 4)], uses.JUNK) == box("Junk")
    assert uses.mailbox([box("INBOX"), box("junk"), box("Trash", 8 | 4)], uses.TRASH) == box("Trash", 12)
    assert uses.mailbox([box("INBOX")], uses.JUNK) is None


def test_junk_goes_there_or_into_the_inbox(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client = bench.open("imap")
        await client.send(b"a LOGIN user@example.test secret\r\n")
        account = bench.deliverer.account(bench.directory.accounts[USER])
        envelope = Envelope("a@b.test", [(USER, bench.deliverer.resolve(USER))])

        async def where() -> str:
            (outcome,) = await bench.deliverer.deliver(envelope, b"Subject: x\n\ny\n", "Junk")
            assert outcome.ok
            with bench.store.snapshot(account) as snapshot:
                (found,) = [one.name for one in snapshot.boxes(account.id) if one.exists]
            said = await client.send(b"b SELECT " + found.encode() + b"\r\nb STORE 1 +FLAGS (\\Deleted)\r\nb CLOSE\r\n")
            assert said.count(b"b OK") == 3, said
            return found

        assert await where() == "Junk"
        said = await client.send(b"c DELETE Junk\r\nc CREATE Rubbish (USE (\\Junk))\r\nc CREATE Junk\r\n")
        assert said.count(b"c OK") == 3, said
        assert await where() == "Rubbish"
        await client.send(b"d DELETE Rubbish\r\nd DELETE Junk\r\n")
        assert await where() == "INBOX"

    asyncio.run(main())
