"""POP3 sessions over a store in memory: what each command answers, and what QUIT removes (RFC 1939 5, 6, 7)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastmail.store.interface import Account
from fastmail.store.memory.store import MemoryStore
from tests.support.sessions import USER, Bench, Client

MESSAGES = [
    b"Subject: one\n\nfirst\n",
    b"Subject: two\n\n.dot\n..dots\nend\n",
    b"Subject: three\n\n" + b"line\n" * 50,
]


async def filled(tmp_path: Path, count: int = len(MESSAGES)) -> Bench:
    bench = Bench(str(tmp_path))
    client = bench.open("lmtp")
    await client.send(b"LHLO client\r\n")
    for content in MESSAGES[:count]:
        wire = content.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        await client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<%b>\r\nDATA\r\n" % USER.encode())
        assert (await client.send(wire + b".\r\n")).startswith(b"250 ")
    return bench


async def logged_in(bench: Bench, count: int = len(MESSAGES)) -> Client:
    client = bench.open("pop3")
    answer = await client.send(b"USER %b\r\nPASS secret\r\n" % USER.encode())
    assert answer.endswith(b"+OK %d messages\r\n" % count), answer
    return client


def with_session(tmp_path: Path, work: Callable[[Bench, Client], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = await filled(tmp_path)
        await work(bench, await logged_in(bench))

    asyncio.run(main())


def multi(answer: bytes) -> list[bytes]:
    """The lines of a multi-line answer, with the stuffed dots taken out again (RFC 1939 3)."""
    lines = answer.split(b"\r\n")
    assert lines[0].startswith(b"+OK") and lines[-2:] == [b".", b""], answer
    return [line.removeprefix(b".") if line.startswith(b".") else line for line in lines[1:-2]]


def test_sizes_agree_between_stat_list_and_retr(tmp_path: Path) -> None:
    async def work(bench: Bench, client: Client) -> None:
        sizes = [int(line.split()[1]) for line in multi(await client.send(b"LIST\r\n"))]
        assert await client.send(b"STAT\r\n") == b"+OK %d %d\r\n" % (len(sizes), sum(sizes))
        for number, size in enumerate(sizes, 1):
            assert await client.send(b"LIST %d\r\n" % number) == b"+OK %d %d\r\n" % (number, size)
            content = b"\r\n".join(multi(await client.send(b"RETR %d\r\n" % number))) + b"\r\n"
            assert len(content) == size
            assert content.endswith(MESSAGES[number - 1].replace(b"\n", b"\r\n"))

    with_session(tmp_path, work)


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 1000])
def test_top_gives_the_header_and_so_many_lines(tmp_path: Path, lines: int) -> None:
    async def work(bench: Bench, client: Client) -> None:
        whole = multi(await client.send(b"RETR 2\r\n"))
        body = whole.index(b"") + 1
        assert multi(await client.send(b"TOP 2 %d\r\n" % lines)) == whole[: body + lines]

    with_session(tmp_path, work)


def test_uidl_stays_the_same_from_session_to_session(tmp_path: Path) -> None:
    async def work(bench: Bench, client: Client) -> None:
        first = multi(await client.send(b"UIDL\r\n"))
        assert len({line.split()[1] for line in first}) == len(MESSAGES)
        for line in first:
            number, name = line.split()
            assert await client.send(b"UIDL " + number + b"\r\n") == b"+OK %b %b\r\n" % (number, name)
        other = await logged_in(bench)
        assert multi(await other.send(b"UIDL\r\n")) == first

    with_session(tmp_path, work)


def test_dele_marks_rset_takes_back_and_quit_removes(tmp_path: Path) -> None:
    async def work(bench: Bench, client: Client) -> None:
        kept = (await client.send(b"UIDL 2\r\n")).split()[2]
        assert await client.send(b"DELE 2\r\n") == b"+OK marked\r\n"
        for command in (b"DELE 2", b"RETR 2", b"LIST 2", b"UIDL 2", b"TOP 2 0"):
            assert await client.send(command + b"\r\n") == b"-ERR message is deleted\r\n"
        assert await client.send(b"RSET\r\n") == b"+OK nothing is marked\r\n"
        assert len(multi(await client.send(b"LIST\r\n"))) == 3
        await client.send(b"DELE 1\r\nDELE 3\r\n")
        assert [line.split()[0] for line in multi(await client.send(b"UIDL\r\n"))] == [b"2"]
        assert await client.send(b"QUIT\r\n") == b"+OK bye\r\n"
        assert client.transport.closed
        after = await logged_in(bench, 1)
        assert (await after.send(b"UIDL 1\r\n")).split()[2] == kept

    with_session(tmp_path, work)


def test_a_connection_that_is_lost_removes_nothing(tmp_path: Path) -> None:
    async def work(bench: Bench, client: Client) -> None:
        await client.send(b"DELE 1\r\nDELE 2\r\nDELE 3\r\n")
        client.connection.connection_lost(None)
        await logged_in(bench, 3)

    with_session(tmp_path, work)


def test_quit_that_can_not_remove_says_so(tmp_path: Path) -> None:
    class Broken(MemoryStore):
        async def expunge(self, *args: object, **more: object) -> object:  # type: ignore[override]
            raise OSError("the disk is gone")

    async def main() -> None:
        bench = await filled(tmp_path)
        bench.store.__class__ = Broken  # type: ignore[assignment]
        client = await logged_in(bench)
        await client.send(b"DELE 1\r\n")
        assert await client.send(b"QUIT\r\n") == b"-ERR [SYS/TEMP] some messages were not removed\r\n"
        bench.store.__class__ = MemoryStore
        await logged_in(bench, 3)

    asyncio.run(main())


@pytest.mark.parametrize(
    "command",
    [b"LIST 0", b"LIST 4", b"LIST -1", b"LIST x", b"LIST 99999999999999999999", b"RETR", b"RETR 1 2", b"DELE", b"TOP 1",
     b"LIST 4294967297", b"LIST 18446744073709551617", b"DELE 4294967297", b"RETR 00", b"TOP 18446744073709551617 0",
    b"TOP 1 -1", b"TOP 1 x", b"TOP", b"UIDL 0", b"XTND", b"", b"\xff\xfe", b"RETR \xc2\xb2", b"LAST"],
)  # fmt: skip
def test_bad_arguments_get_err_and_the_session_goes_on(tmp_path: Path, command: bytes) -> None:
    async def work(bench: Bench, client: Client) -> None:
        answer = await client.send(command + b"\r\n")
        assert answer.startswith(b"-ERR ") and answer.count(b"\r\n") == 1, answer
        assert (await client.send(b"STAT\r\n")).startswith(b"+OK 3 ")

    with_session(tmp_path, work)


@pytest.mark.parametrize("step", [0, 1, 7])
def test_pipelined_commands_are_answered_in_order(tmp_path: Path, step: int) -> None:
    async def work(bench: Bench, client: Client) -> None:
        answer = await client.send(b"NOOP\r\nRETR 1\r\nDELE 1\r\nRETR 1\r\nSTAT\r\n", step)
        assert answer.startswith(b"+OK\r\n+OK ")
        assert b"\r\n.\r\n+OK marked\r\n-ERR message is deleted\r\n+OK 2 " in answer

    with_session(tmp_path, work)


def test_too_many_errors_end_the_session(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), errors=3)
        client = bench.open("pop3")
        await client.send(b"X\r\nX\r\n")
        assert not client.transport.closed
        await client.send(b"X\r\nNOOP\r\n")
        assert client.transport.closed

    asyncio.run(main())


def test_wrong_names_and_wrong_passwords_sound_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        said = set()
        for name, password in ((USER, "wrong"), ("nobody@example.test", "secret"), ("\u00e9", "x")):
            client = bench.open("pop3")
            said.add(await client.send(f"USER {name}\r\nPASS {password}\r\n".encode()))
        assert len(said) == 1

    asyncio.run(main())


def test_what_another_session_expunged_can_be_read(tmp_path: Path) -> None:
    """The list of messages stays as it was at login, and so do they, for a while."""

    async def main() -> None:
        bench = await filled(tmp_path)
        client = await logged_in(bench)
        imap = bench.open("imap")
        await imap.send(b"a LOGIN user@example.test secret\r\nb SELECT INBOX\r\n")
        before = await client.send(b"RETR 2\r\nTOP 2 0\r\n")
        await imap.send(b"c STORE 1:* +FLAGS (\\Deleted)\r\nd EXPUNGE\r\n")
        assert await client.send(b"RETR 2\r\nTOP 2 0\r\n") == before and before.startswith(b"+OK")
        client.connection.connection_lost(None)
        key = bench.store.find(Account(1, ""), "INBOX")
        assert key is not None and not bench.store.views.elsewhere(key, 1)
        imap.connection.connection_lost(None)
        assert not bench.store.views.elsewhere(key, 0)

    asyncio.run(main())


def test_auth_with_too_many_words(tmp_path: Path) -> None:
    """It is not taken for a mechanism that is not known, and no exchange begins."""

    async def main() -> None:
        client = Bench(str(tmp_path)).open("pop3")
        got = await client.send(b"AUTH PLAIN = =\r\nNOOP\r\nAUTH NONE\r\n")
        assert got.splitlines() == [
            b"-ERR AUTH mechanism [initial response] is expected",
            b"-ERR log in first",
            b"-ERR mechanism is not known; known are PLAIN, LOGIN",
        ]

    asyncio.run(main())
