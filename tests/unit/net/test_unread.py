"""A peer that does not read: no command is begun while output waits, whatever the protocol and the state of the session.

Each case sends far more commands than one batch of answers holds. What is written meanwhile is bounded; every command is
answered, in order, once the peer reads.
"""

import asyncio
import time
import zlib
from pathlib import Path

import pytest

from fastmail._core import mime
from fastmail.net import sending, unread
from fastmail.net.sending import SLOWEST
from fastmail.store.interface import Account, Listing, NewMessage
from tests.support.examples import FEW, some
from tests.support.sessions import Bench, Client
from tests.support.slow import Slow, feed, opened, through

BOUND = 1 << 13  # less than QUEUED: reached with fewer commands; half of it is still more than any answer of CASES
LONG = 20_000 if FEW else 40_000  # messages: an answer that names them all is longer than the bound and one piece
IMAP = b"a LOGIN user@example.test secret\r\n"
SELECT = IMAP + b"b SELECT INBOX\r\n"
POP3 = b"USER user@example.test\r\nPASS secret\r\n"
AUTH = b"EHLO x\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n"
MANY = b"".join(b"c%d CREATE %s%d\r\nc%d SUBSCRIBE %s%d\r\n" % (n, b"n" * 150, n, n, b"n" * 150, n) for n in range(20))
TRANSACTION = b"MAIL FROM:<a@b.example>\r\n" + b"RCPT TO:<user@example.test>\r\n" * 60
MAIL = TRANSACTION + b"BDAT 17 LAST\r\nSubject: x\r\n\r\ny\r\n"
CASES = {
    "smtp EHLO": ("smtp", b"", b"EHLO x\r\n", b"250 "),
    "smtp HELP": ("smtp", b"EHLO x\r\n", b"HELP\r\n", b"214 "),
    "smtp NOOP": ("smtp", b"EHLO x\r\n", b"NOOP\r\n", b"250 "),
    "lmtp LHLO": ("lmtp", b"", b"LHLO x\r\n", b"250 "),
    "submission EHLO": ("submission", b"", b"EHLO x\r\n", b"250 "),
    "submission EHLO after login": ("submission", AUTH, b"EHLO x\r\n", b"250 "),
    "pop3 CAPA": ("pop3", b"", b"CAPA\r\n", b"+OK"),
    "pop3 CAPA after login": ("pop3", POP3, b"CAPA\r\n", b"+OK"),
    "pop3 LIST": ("pop3", POP3, b"LIST\r\n", b"+OK"),
    "pop3 UIDL": ("pop3", POP3, b"UIDL\r\n", b"+OK"),
    "pop3 UIDL 1": ("pop3", POP3, b"UIDL 1\r\n", b"+OK"),
    "pop3 TOP": ("pop3", POP3, b"TOP 1 0\r\n", b"+OK"),
    "pop3 RETR": ("pop3", POP3, b"RETR 1\r\n", b"+OK"),
    "imap CAPABILITY": ("imap", b"", b"t CAPABILITY\r\n", b"t OK"),
    "imap CAPABILITY after login": ("imap", IMAP, b"t CAPABILITY\r\n", b"t OK"),
    "imap SEARCH ALL": ("imap", SELECT, b"t SEARCH ALL\r\n", b"t OK"),
    "imap SEARCH of headers": ("imap", SELECT, b"t SEARCH SUBJECT x\r\n", b"t OK"),
    "imap SEARCH of texts": ("imap", SELECT, b"t SEARCH BODY y\r\n", b"t OK"),
    "imap FETCH": ("imap", SELECT, b"t FETCH 1 (FLAGS UID)\r\n", b"t OK"),
    "imap FETCH of contents": ("imap", SELECT, b"t FETCH 1 BODY.PEEK[]\r\n", b"t OK"),
    "imap LIST": ("imap", IMAP + MANY, b't LIST "" *\r\n', b"t OK"),
    "imap LSUB": ("imap", IMAP + MANY, b't LSUB "" *\r\n', b"t OK"),
    "imap STATUS": ("imap", IMAP, b"t STATUS INBOX (MESSAGES UIDNEXT UNSEEN)\r\n", b"t OK"),
    "imap SORT": ("imap", SELECT, b"t SORT (DATE) UTF-8 ALL\r\n", b"t OK"),
    "imap THREAD": ("imap", SELECT, b"t THREAD REFERENCES UTF-8 ALL\r\n", b"t OK"),
    "imap MULTISEARCH": ("imap", IMAP, b"t ESEARCH IN (personal) ALL\r\n", b"t OK"),
    "imap STORE": ("imap", SELECT, b"t STORE 1:100 FLAGS (\\Seen)\r\n", b"t OK"),
    "imap ID": ("imap", b"", b"t ID NIL\r\n", b"t OK"),
}


async def fill(bench: Bench, count: int, text: bytes = b"Subject: x\n\ny\n") -> None:
    account = bench.deliverer.account(bench.directory.accounts["user@example.test"])
    await bench.store.open(account)
    key = bench.store.find(account, "INBOX")
    assert key is not None
    message = NewMessage((text,), mime.scan(text), len(text), 0)
    await bench.store.append(account, key, [message] * count)


async def stopped(client: Client, slow: Slow) -> int:
    """Until output waits for the peer; how much was written by then, and it stays so much."""
    for _ in range(3000):
        if client.connection.stalled:
            break
        await asyncio.sleep(0.005)
    assert client.connection.busy and client.connection.stalled
    total = slow.total
    await asyncio.sleep(0.05)
    assert slow.total == total
    return total


@pytest.fixture(autouse=True)
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "QUEUED", BOUND)


@pytest.mark.parametrize("case", list(CASES))
def test_no_command_is_begun_while_output_waits(case: str, tmp_path: Path) -> None:
    protocol, login, command, done = CASES[case]

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, 100)
        client, slow = await opened(bench, protocol, login, BOUND // 2)
        slow.keeps = True
        await client.send(command)
        once = max(1, slow.total)
        slow.read_on()
        slow.data, slow.total, slow.widest = b"", 0, 0
        count = min(20_000, 6 * BOUND // once + 10)
        await feed(client, command * count)
        written = await stopped(client, slow)
        assert written < 2 * BOUND + 2 * once and slow.widest < 2 * BOUND + once, (written, slow.widest)
        await feed(client, command * 100)
        assert slow.total == written, "what comes in changes nothing"
        await through(client, slow)
        lines = slow.data.split(b"\r\n")
        assert sum(line.startswith(done) for line in lines) == count + 100, "every command is answered"

    asyncio.run(main())


def test_a_command_that_waited_is_not_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them waits, so none is answered in the batch that it came in."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        listing = bench.store.listing

        async def late(account: Account) -> Listing:
            await asyncio.sleep(0)
            return await listing(account)

        client, slow = await opened(bench, "imap", IMAP, 1000)
        monkeypatch.setattr(bench.store, "listing", late)
        slow.keeps = True
        await feed(client, b't LIST "" *\r\n' * 1000)
        assert await stopped(client, slow) < 2000
        await through(client, slow)
        assert slow.data.count(b"t OK LIST") == 1000

    asyncio.run(main())


def test_a_recipient_each_has_a_reply_of_lmtp(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client, slow = await opened(bench, "lmtp", b"LHLO x\r\n", 1000)
        slow.keeps = True
        await feed(client, MAIL * 100)
        await asyncio.sleep(0.3)  # the command that was begun may end
        assert client.connection.stalled and slow.total < 20_000, slow.total
        for _ in range(20000):
            slow.read_on()
            await asyncio.sleep(0.0005)
            if not client.connection.busy and not client.connection._pending:
                break
        assert slow.data.count(b"250 2.1.5") == 6000 and slow.data.count(b"250 2.0.0") == 6000, slow.data[-500:]

    asyncio.run(main())


def test_a_compressed_session_waits_too(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, 100)
        client, slow = await opened(bench, "imap", SELECT, 4096)
        await client.send(b"z COMPRESS DEFLATE\r\n")
        slow.read_on()
        slow.keeps, slow.data, slow.total = True, b"", 0
        packer, count = zlib.compressobj(9, zlib.DEFLATED, -15), some(5_000)
        await feed(client, packer.compress(b"t FETCH 1:* FLAGS\r\n" * count) + packer.flush(zlib.Z_SYNC_FLUSH))
        assert await stopped(client, slow) < BOUND
        await through(client, slow)
        assert zlib.decompressobj(-15).decompress(slow.data).count(b"t OK FETCH") == count

    asyncio.run(main())


@pytest.mark.parametrize("how", [b"i IDLE\r\n", b"i NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))\r\n"])
def test_nothing_is_pushed_to_a_client_that_does_not_read(how: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, 400)
        client, slow = await opened(bench, "imap", SELECT, 1000)
        await feed(client, how)
        other = bench.open("imap")
        await other.send(SELECT)
        for n in range(60):
            await other.send(b"s STORE 1:* %bFLAGS.SILENT (\\Flagged)\r\n" % (b"+-"[n % 2 : n % 2 + 1]))
            await asyncio.sleep(0.002)
        assert client.connection.stalled and slow.total < 40_000, "one push, not sixty"
        for _ in range(100):
            slow.read_on()
            await asyncio.sleep(0.002)
        start = slow.total
        await fill(bench, 1)
        await asyncio.sleep(0.2)
        assert b"* 401 EXISTS" in slow.last and slow.total > start, "it is told again once it reads"

    asyncio.run(main())


def test_names_that_notify_tells_wait_for_the_client(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        client, slow = await opened(bench, "imap", IMAP, 1000)
        await feed(client, b"n NOTIFY SET (personal (MailboxName SubscriptionChange MessageNew MessageExpunge))\r\n")
        other = bench.open("imap")
        await other.send(IMAP)
        for n in range(40):
            await other.send(b"c CREATE %s%d\r\n" % (b"n" * 200, n))
            await asyncio.sleep(0.002)
        assert client.connection.stalled and slow.total < 5000

    asyncio.run(main())


@pytest.mark.parametrize(
    ("protocol", "login", "command"),
    [("pop3", POP3, b"UIDL\r\n"), ("pop3", POP3, b"LIST\r\n"), ("imap", SELECT, b"t UID SEARCH NOT SEEN\r\n"),
     ("imap", SELECT, b"t UID SORT (ARRIVAL) UTF-8 ALL\r\n")],
)  # fmt: skip
def test_one_long_answer_is_made_as_it_is_read(protocol: str, login: bytes, command: bytes, tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        count = LONG if protocol == "imap" else LONG * 3 // 5  # a line each, not only a number
        await fill(bench, count)
        client, slow = await opened(bench, protocol, login, 1000)
        slow.keeps = True
        await feed(client, command)
        assert await stopped(client, slow) < BOUND + 70_000
        await through(client, slow)
        assert slow.total > BOUND + 90_000 and str(count).encode() in slow.data
        if protocol == "imap":
            (line,) = (line for line in slow.data.split(b"\r\n") if line.startswith((b"* SORT", b"* SEARCH")))
            numbers = line.split(b" ")[2:]
            assert [int(number) for number in numbers] == list(range(1, count + 1))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("protocol", "login"), [("smtp", b"EHLO x\r\n"), ("pop3", POP3), ("imap", SELECT), ("imap", b"")]
)
def test_commands_do_not_renew_the_time_of_a_peer_that_takes_nothing(
    protocol: str, login: bytes, tmp_path: Path
) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path), command_timeout=100.0, idle_timeout=2000.0, login_timeout=40.0)
        client, slow = await opened(bench, protocol, login, 100)
        command = {"imap": b"t CAPABILITY\r\n", "pop3": b"CAPA\r\n"}.get(protocol, b"HELP\r\n")
        await feed(client, command * 10)
        await asyncio.sleep(0.01)
        connection, begun = client.connection, time.monotonic()
        assert connection.stalled
        until = connection.deadline
        assert until <= begun + (100 if login else 40), "no longer than a command may take, or a login"
        for _ in range(10):
            await feed(client, command)
            await asyncio.sleep(0.01)
        assert connection.deadline == until and not connection.is_reading()
        slow.reading -= 50  # it takes a little, and less than is fair
        slow.reading += 100 * SLOWEST
        assert not connection.is_reading()
        if login:
            connection._left = slow.reading
            slow.reading -= 100 * SLOWEST
            assert connection.is_reading() and connection.deadline > until, "it reads: it has as long again"
        slow.most = 1 << 30
        slow.read_on()
        await asyncio.sleep(0.05)
        assert not connection.busy
        if not login:
            assert connection.deadline == until, "the time for a login is not longer for one who reads slowly"
        elif protocol != "smtp":
            own = {"imap": 2000.0, "pop3": 600.0}[protocol]
            assert connection.deadline > begun + own / 2, "an idle client has its own time again"

    asyncio.run(main())


def test_what_came_before_its_end_is_answered(tmp_path: Path) -> None:
    """A client that sends its commands, says that there are no more, and then reads."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        await fill(bench, 100)
        client, slow = await opened(bench, "imap", SELECT, 1000)
        slow.keeps = True
        await feed(client, b"t FETCH 1:* FLAGS\r\n" * 500)
        assert client.connection.eof_received(), "the connection stays"
        for _ in range(20000):
            slow.read_on()
            await asyncio.sleep(0)
            if slow.closed:
                break
        assert slow.closed and slow.data.count(b"t OK FETCH") == 500

    asyncio.run(main())


def test_all_connections_of_a_worker_have_one_bound(tmp_path: Path) -> None:
    """Past it those go that hold the most, the longest first, and no one beside them."""

    async def main() -> None:
        bench = Bench(str(tmp_path))
        table = unread.Unread(10_000)
        connections = []
        for host, octets in [("198.51.100.1", 3000), ("192.0.2.1", 4000), ("192.0.2.1", 1000), ("192.0.2.1", 1500)]:
            client = bench.open("imap", host)
            client.connection.counted = host
            connections.append((client, octets))
            table.add(client.connection, octets)
        assert table.total == 9500 and not any(client.transport.closed for client, _ in connections)
        late = bench.open("imap", "203.0.113.1")
        late.connection.counted = "203.0.113.1"
        table.add(late.connection, 900)
        assert [client.transport.closed for client, _ in connections] == [False, True, False, False]
        assert not late.transport.closed and table.total == 6400
        for client, _ in connections:
            table.drop(client.connection)
            table.drop(client.connection)
        assert table.total == 900 and len(table) == 1

    asyncio.run(main())
