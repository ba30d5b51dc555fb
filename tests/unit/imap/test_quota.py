"""Limits of accounts (RFC 9208) where they bite: APPEND, COPY, CREATE, RCPT and delivery."""

import asyncio
from pathlib import Path

from msgspec.structs import replace

from fastmail.model.quota import Quota
from tests.support.sessions import USER, Bench

LOGIN = b"a LOGIN user@example.test secret\r\n"
MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


def limited(path: Path, quota: Quota) -> Bench:
    bench = Bench(str(path))
    bench.directory.accounts[USER] = replace(bench.directory.accounts[USER], quota=quota)
    return bench


def append(tag: bytes, box: bytes = b"INBOX") -> bytes:
    return tag + b" APPEND " + box + b" {%d+}\r\n" % len(MESSAGE) + MESSAGE + b"\r\n"


def test_limits_of_messages_and_mailboxes(tmp_path: Path) -> None:
    async def main() -> None:
        client = limited(tmp_path, Quota(0, 2, 7)).open("imap")
        await client.send(LOGIN)
        assert b"b OK" in await client.send(append(b"b"))
        assert b"c OK" in await client.send(append(b"c", b"Trash"))
        assert b"d NO [OVERQUOTA]" in await client.send(append(b"d"))
        await client.send(b"e SELECT INBOX\r\n")
        assert b"f NO [OVERQUOTA]" in await client.send(b"f COPY 1 Trash\r\n")
        assert b"g OK" in await client.send(b"g MOVE 1 Trash\r\n")
        assert b"h OK" in await client.send(b"h CREATE Seventh\r\n")
        assert b"i NO [OVERQUOTA]" in await client.send(b"i CREATE Eighth\r\n")
        got = await client.send(b"j GETQUOTAROOT INBOX\r\n")
        assert b"* QUOTAROOT INBOX user@example.test\r\n" in got
        assert b"* QUOTA user@example.test (MESSAGE 2 2 MAILBOX 7 7)\r\n" in got

    asyncio.run(main())


def test_a_literal_that_does_not_fit_is_refused_on_its_size(tmp_path: Path) -> None:
    async def main() -> None:
        client = limited(tmp_path, Quota(1024)).open("imap")
        await client.send(LOGIN)
        assert (await client.send(b"b APPEND INBOX {2000}\r\n")).startswith(b"b NO [OVERQUOTA]")
        assert b"c OK" in await client.send(b"c NOOP\r\n")

    asyncio.run(main())


def test_mail_for_a_full_account_is_refused_at_rcpt(tmp_path: Path) -> None:
    async def main() -> None:
        bench = limited(tmp_path, Quota(400))
        client = bench.open("smtp")
        await client.send(b"EHLO a.test\r\nMAIL FROM:<> SIZE=5000\r\n")
        assert (await client.send(b"RCPT TO:<user@example.test>\r\n")).startswith(b"552 5.2.2")
        assert (await client.send(b"RCPT TO:<other@example.test>\r\n")).startswith(b"250")
        lmtp = bench.open("lmtp")
        await lmtp.send(b"LHLO a.test\r\nMAIL FROM:<>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        got = await lmtp.send(b"Subject: big\r\n\r\n" + b"x" * 60 + b"\r\n" * 200 + b".\r\n")
        assert got.startswith(b"552 5.2.2")

    asyncio.run(main())


def test_an_administrator_sets_quotas(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        bench.imap.admins = frozenset([USER])
        client = bench.open("imap")
        assert b"QUOTASET" in await client.send(LOGIN)
        got = await client.send(b"b SETQUOTA other@example.test (STORAGE 512)\r\n")
        assert got == b"* QUOTA other@example.test (STORAGE 0 512)\r\nb OK SETQUOTA completed\r\n"
        assert bench.directory.accounts["other@example.test"].quota == Quota(512 * 1024, -1, -1)
        other = bench.open("imap")
        await other.send(b"a LOGIN other@example.test secret\r\n")
        assert b"STORAGE 0 512" in await other.send(b"b GETQUOTAROOT INBOX\r\n")
        assert b"NO [NOPERM]" in await other.send(b"c SETQUOTA other@example.test ()\r\n")

    asyncio.run(main())


def test_annotations_count_in_quotas(tmp_path: Path) -> None:
    async def main() -> None:
        client = limited(tmp_path, Quota(40_000)).open("imap")
        await client.send(LOGIN)

        async def annotate(tag: bytes, name: bytes, octets: int, box: bytes = b"INBOX") -> bytes:
            value = b"{%d+}\r\n" % octets + b"x" * octets if octets else b"NIL"
            return await client.send(tag + b" SETMETADATA " + box + b" (/private/" + name + b" " + value + b")\r\n")

        assert b"b OK" in await annotate(b"b", b"one", 30_000)
        assert b"* QUOTA user@example.test (STORAGE 30 40)\r\n" in await client.send(
            b"c GETQUOTA user@example.test\r\n"
        )
        assert b"d NO [OVERQUOTA]" in await annotate(b"d", b"two", 12_000)
        assert b"e NO [OVERQUOTA]" in await annotate(b"e", b"two", 12_000, b"Trash")
        assert b"f NO [OVERQUOTA]" in await annotate(b"f", b"two", 12_000, b'""')
        assert b"g OK" in await annotate(b"g", b"one", 20_000), "less is always taken"
        assert b"h OK" in await annotate(b"h", b"two", 12_000)
        big = b"Subject: x\r\n\r\n" + b"y" * 20_000
        assert b"i NO [OVERQUOTA]" in await client.send(b"i APPEND INBOX {%d+}\r\n" % len(big) + big + b"\r\n")
        assert b"j OK" in await annotate(b"j", b"one", 0)
        assert b"k OK" in await client.send(b"k APPEND INBOX {%d+}\r\n" % len(big) + big + b"\r\n")

    asyncio.run(main())


def test_annotations_have_limits_without_a_quota(tmp_path: Path) -> None:
    async def main() -> None:
        client = Bench(str(tmp_path)).open("imap")
        await client.send(LOGIN)

        async def annotate(n: int, octets: int) -> bytes:
            value = b"x" * octets
            text = b"b SETMETADATA INBOX (/private/n%d {%d+}\r\n" % (n, octets) + value + b")\r\n"
            return await client.send(text)

        for n in range(65):
            got = await annotate(n, 60_000)
            assert b"b OK" in got
        for n in range(65, 80):
            got = await annotate(n, 60_000)
        assert b"b NO [LIMIT] " in got, "4 MiB"
        assert b"b OK" in await annotate(1, 60_000), "no more than before"
        for n in range(80, 1080):
            got = await annotate(n, 1)
        assert b"b NO [METADATA TOOMANY] " in got
        assert b"b OK" in await annotate(1, 50_000), "with too many, those that are there can be changed"
        got = await client.send(b"c SETMETADATA INBOX (/private/n1 {65537+}\r\n" + b"x" * 65537 + b")\r\n")
        assert b"c " in got
        assert b"d OK" in await client.send(b"d NOOP\r\n")

    asyncio.run(main())


def test_s29_what_the_index_keeps_of_a_message_counts_in_quotas(tmp_path: Path) -> None:
    """2,000 parts of 6 octets: small as a message, and long in the index."""
    bomb = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 1500

    async def main() -> None:
        bench = limited(tmp_path, Quota(400_000))
        client = bench.open("imap")
        await client.send(LOGIN)
        for tag in (b"b", b"c"):
            got = await client.send(tag + b" APPEND INBOX {%d+}\r\n" % len(bomb) + bomb + b"\r\n")
            assert tag + b" OK" in got
        got = await client.send(b"d GETQUOTA user@example.test\r\n")
        assert b"STORAGE 277 391" in got, "the messages alone are 21"
        assert b"e NO [OVERQUOTA]" in await client.send(b"e APPEND INBOX {%d+}\r\n" % len(bomb) + bomb + b"\r\n")
        await client.send(b"f SELECT INBOX\r\n")
        assert b"g NO [OVERQUOTA]" in await client.send(b"g COPY 1 Trash\r\n")
        lmtp = bench.open("lmtp")
        await lmtp.send(b"LHLO a.test\r\nMAIL FROM:<>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n")
        assert b"552 5.2.2" in await lmtp.send(bomb + b".\r\n")

    asyncio.run(main())


def test_the_messages_of_one_append_count_together(tmp_path: Path) -> None:
    async def main() -> None:
        client = limited(tmp_path, Quota(2500)).open("imap")
        await client.send(LOGIN)
        body = b"Subject: x\r\n\r\n" + b"y" * 986
        assert (await client.send(b"b APPEND INBOX {1000}\r\n")).startswith(b"+ ")
        assert (await client.send(body + b" {1000}\r\n")).startswith(b"+ ")
        assert (await client.send(body + b" {1000}\r\n")).startswith(b"b NO [OVERQUOTA]"), "on its size"
        assert b"MESSAGES 0" in await client.send(b"c STATUS INBOX (MESSAGES)\r\n")
        got = await client.send(
            b"d APPEND INBOX CATENATE (TEXT {1000+}\r\n" + body + b" TEXT {1000+}\r\n" + body + b")\r\n"
        )
        assert b"d OK" in got

    asyncio.run(main())


def test_pieces_of_one_message_are_one_message(tmp_path: Path) -> None:
    async def main() -> None:
        client = limited(tmp_path, Quota(0, 1)).open("imap")
        await client.send(LOGIN)
        text = b"Subject: x\r\n\r\n"
        got = await client.send(
            b"b APPEND INBOX CATENATE (TEXT {14+}\r\n" + text + b" TEXT {14+}\r\n" + text + b")\r\n"
        )
        assert b"b OK" in got

    asyncio.run(main())
