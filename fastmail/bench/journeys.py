"""What is measured, one row each: rate, latency where it matters, and server CPU for each operation.

The server is a process with its children, or, for another server, only its addresses: then rates without CPU. Each row
is the median of the rounds, with the lowest and the highest rate.
"""

import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import uvloop

from fastmail.bench import load, machine

USERS = 100
# s from the last of many sessions that goes idle until their memory is read: by then servers have given back what the
# sessions needed only to begin
SETTLED = 12.0  # s after which a server has given back what it does not need at rest
FRESH = 2000  # users for idle sessions: a thousand plain, a thousand with TLS
FRESH_PATTERN = "f%d@bench.example"
REST = 3.0  # s after which the server has moved and indexed what came


@dataclass(slots=True)
class Target:
    """A server under load. ``ports`` by protocol; ``pattern``: its users, with a %d; ``big``: the user for IMAP;
    ``directory``: where it lies, when it is ours. ``fresh``: how many more users it has, ``f%d@bench.example``, whom it
    has not served yet; each is used once."""

    host: str
    ports: dict[str, int]
    pattern: str
    password: str
    big: str
    pid: int = 0
    users: int = USERS
    directory: str = ""
    fresh: int = 0

    @property
    def everybody(self) -> list[str]:
        return [self.pattern % n for n in range(self.users)]

    def idlers(self, sessions: int) -> list[str]:
        """Users for so many sessions: one each whom the server has not served yet; where there are not so many, the
        usual ones in turn."""
        if sessions > self.fresh:
            return [self.pattern % (n % self.users) for n in range(sessions)]
        self.fresh -= sessions
        return [FRESH_PATTERN % n for n in range(self.fresh, self.fresh + sessions)]


@dataclass(slots=True)
class Row:
    """One journey. Rates are operations a second; times are milliseconds."""

    journey: str
    rate: float
    lowest: float
    highest: float
    cpu_ms: float | None
    p50_ms: float | None = None
    p99_ms: float | None = None


def everything(one: "Bench", scale: float, say: Callable[[str], None]) -> dict[str, float]:
    """All journeys, ``scale`` of the usual work; KiB of memory that an idle session takes, by kind."""
    say("a first message for every user ...")
    one.warm()
    idle = {"plain": one.idle(int(1000 * scale), int(200 * scale))}  # first: a heap that has served much has room
    if "imaps" in one.target.ports:
        idle["TLS"] = one.idle(int(1000 * scale), 0, True)
    for sessions, count in ((1, 500), (10, 3000), (30, 4000), (64, 6000)):
        one.deliver("lmtp", sessions, int(count * scale), 4096)
    for sessions in (10, 64):
        one.deliver("lmtp", sessions, int(1500 * scale), 51200)
    one.deliver("lmtp", 10, int(500 * scale), 4096, recipients=10)
    if "smtp" in one.target.ports:
        for sessions, count, size in ((10, 3000, 4096), (64, 6000, 4096), (64, 1500, 51200)):
            one.deliver("smtp", sessions, int(count * scale), size)
    messages = int(10_000 * scale)
    say(f"filling a mailbox with {messages} messages ...")
    one.fill(messages)
    one.imap(messages, scale)
    one.logins(int(1000 * scale), 1)
    one.logins(int(2000 * scale), 10)
    if "pop3" in one.target.ports:
        one.pop3(int(1000 * scale))
    return idle


@dataclass(slots=True)
class Bench:
    """Runs journeys against a target, ``rounds`` times each. ``tell`` is called with each row as it is known."""

    target: Target
    rounds: int
    tell: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)

    def measure(self, name: str, count: int, work: Callable[[], object], rounds: int = 0) -> None:
        """``work`` does ``count`` of it, and may return how long each took, in s."""
        rates, spent, latencies = [], [], []
        for _ in range(rounds or self.rounds):
            cpu, start = machine.cpu(self.target.pid) if self.target.pid else 0.0, time.perf_counter()
            took = work()
            latencies += took if isinstance(took, list) else []
            rates.append(count / (time.perf_counter() - start))
            if self.target.pid:
                spent.append((machine.cpu(self.target.pid) - cpu) / count * 1000)
        latencies.sort()
        row = Row(
            name,
            statistics.median(rates),
            min(rates),
            max(rates),
            statistics.median(spent) if spent else None,
            latencies[len(latencies) // 2] * 1000 if latencies else None,
            latencies[int(len(latencies) * 0.99)] * 1000 if latencies else None,
        )
        self.rows.append(row)
        self.tell(row)

    # ---------------------------------------------------------------- delivery

    def deliver(self, protocol: str, sessions: int, count: int, size: int, recipients: int = 1) -> None:
        """Messages of that size to random users, each session one after the other."""
        target = self.target
        text = load.message(size).replace(b"\r\n.", b"\r\n..") + b".\r\n"
        hello = (b"LHLO" if protocol == "lmtp" else b"EHLO") + b" bench.example\r\n"

        def work() -> list[float]:
            job = load.Work(hello, count, text, target.everybody, recipients)
            uvloop.run(load.deliver(target.host, target.ports[protocol], job, sessions))
            return job.latencies

        more = f", {recipients} recipients" if recipients > 1 else ""
        plural = "session" if sessions == 1 else "sessions"
        self.measure(f"deliver {size // 1024} KB by {protocol}, {sessions} {plural}{more}", count, work)

    def warm(self) -> None:
        """A first message for everybody: what a new account costs is not measured."""
        target = self.target
        text = load.message(2048) + b".\r\n"
        job = load.Work(b"LHLO bench.example\r\n", 4 * target.users, text, target.everybody)
        uvloop.run(load.deliver(target.host, target.ports["lmtp"], job, 4))
        for address in target.everybody:
            job = load.Work(b"LHLO bench.example\r\n", 1, text, [address])
            uvloop.run(load.deliver(target.host, target.ports["lmtp"], job, 1))

    def fill(self, count: int) -> None:
        """Messages for the big user, of 2 to 20 KB."""
        target = self.target
        for step in range(4):
            size = 2000 + step * 6000
            job = load.Work(b"LHLO bench.example\r\n", count // 4, load.message(size) + b".\r\n", [target.big])
            uvloop.run(load.deliver(target.host, target.ports["lmtp"], job, 32))

    # ---------------------------------------------------------------- IMAP, POP3

    def imap(self, count: int, scale: float) -> None:
        """Commands on one mailbox of ``count`` messages."""
        target = self.target
        client = load.Client(target.host, target.ports["imap"])
        client.imap(b"LOGIN %b %b" % (target.big.encode(), target.password.encode()))
        client.imap(b"SELECT INBOX")
        time.sleep(REST)  # what came is moved and indexed: commands are measured on a mailbox at rest
        rng = random.Random(1)

        def commands(name: str, each: list[bytes], back: list[bytes] | None = None) -> None:
            """``back`` undoes them, in every second round: what changes nothing would be no work."""
            turns = cycle([each, back or each])

            def work() -> None:
                for one in next(turns):
                    client.imap(one)

            self.measure(name, len(each), work)

        few, many = max(2, int(10 * scale)), max(20, int(1000 * scale))
        some = [rng.randrange(1, count) for _ in range(many)]
        fields = b"FETCH 1:* (BODY.PEEK[HEADER.FIELDS (FROM SUBJECT DATE)])"
        for name, one in (
            ("ENVELOPE", b"FETCH 1:* (ENVELOPE)"),
            ("BODYSTRUCTURE", b"FETCH 1:* (BODYSTRUCTURE)"),
            ("header fields", fields),
        ):
            self.measure(f"FETCH 1:* ({name}), asked first", 1, partial(client.imap, one), 1)
        commands(f"SELECT of {count} messages", [b"SELECT INBOX"] * 10 * few)
        commands("FETCH 1:* (UID FLAGS)", [b"FETCH 1:* (UID FLAGS)"] * few)
        commands("FETCH 1:* (ENVELOPE)", [b"FETCH 1:* (ENVELOPE)"] * few)
        commands("FETCH 1:* (BODYSTRUCTURE)", [b"FETCH 1:* (BODYSTRUCTURE)"] * few)
        commands("FETCH 1:* header fields", [fields] * few)
        commands("FETCH n (BODY.PEEK[])", [b"FETCH %d (BODY.PEEK[])" % n for n in some])
        all_at_once = min(count, 2 * many)
        fetch = b"FETCH 1:%d (BODY.PEEK[])" % all_at_once
        self.measure("FETCH 1:n (BODY.PEEK[]), each message", all_at_once, partial(client.imap, fetch))
        flags = [b"FLAGS (\\Flagged k%d)" % (n % 20) for n in some]
        commands(
            "STORE n +FLAGS",
            [b"STORE %d +%b" % one for one in zip(some, flags, strict=True)],
            [b"STORE %d -%b" % one for one in zip(some, flags, strict=True)],
        )
        flips = cycle([[b"STORE %d %cFLAGS.SILENT (\\Flagged)" % (n, sign) for n in some] for sign in b"-+"])
        self.measure("STORE n -FLAGS, pipelined", len(some), lambda: client.imap_pipelined(next(flips)))
        commands("SEARCH UNSEEN", [b"SEARCH UNSEEN"] * 10 * few)
        commands("SEARCH SINCE", [b"SEARCH SINCE 1-Jan-2001"] * 10 * few)
        commands("SEARCH SUBJECT", [b"SEARCH SUBJECT fox"] * few)
        commands("STATUS", [b"STATUS INBOX (MESSAGES UNSEEN)"] * many)
        commands("NOOP", [b"NOOP"] * many)
        self._moves(client, max(20, many // 2))
        client.close()

    def _moves(self, client: load.Client, count: int) -> None:
        """Messages come into a mailbox, are copied, moved and removed."""
        text = load.message(4096)
        first, second = b"bench-one", b"bench-two"
        for name in (first, second):
            client.imap(b"CREATE " + name)

        def append() -> None:
            for _ in range(count):
                client.append(first, text)

        self.measure("APPEND", count, append)
        self.measure("COPY, each message", 2 * count, partial(client.imap, b"COPY 1:%d %b" % (2 * count, second)))
        client.imap(b"SELECT " + first)
        self.measure("MOVE, each message", count, partial(client.imap, b"MOVE 1:%d %b" % (count, second)))
        client.imap(b"SELECT " + second)
        client.imap(b"STORE 1:%d +FLAGS.SILENT (\\Deleted)" % (2 * count))
        self.measure("EXPUNGE, each message", 2 * count, partial(client.imap, b"EXPUNGE"), 1)
        for name in (first, second):
            client.imap(b"DELETE " + name)

    def mix(self, sessions: int, count: int) -> None:
        """What readers do, on the big user's mailbox."""
        target = self.target
        commands = [
            b"a FETCH 1:50 (UID FLAGS)\r\n",
            b"a NOOP\r\n",
            b"a FETCH 100:120 (ENVELOPE)\r\n",
            b"a STATUS INBOX (MESSAGES UNSEEN)\r\n",
            b"a SEARCH UNSEEN\r\n",
            b"a FETCH 7 (BODY.PEEK[])\r\n",
        ]

        def work() -> None:
            job = load.Mix((target.big.encode(), target.password.encode()), commands, count)
            uvloop.run(load.read(target.host, target.ports["imap"], job, sessions))

        self.measure(f"IMAP commands of a mix, {sessions} sessions", count, work)

    def logins(self, count: int, sessions: int) -> None:
        """Connection, LOGIN, SELECT, LOGOUT."""
        target = self.target

        def work(numbers: range) -> None:
            for n in numbers:
                client = load.Client(target.host, target.ports["imap"])
                user = (target.pattern % (n % target.users)).encode()
                client.imap(b"LOGIN %b %b" % (user, target.password.encode()))
                client.imap(b"SELECT INBOX")
                client.imap(b"LOGOUT")
                client.close()

        def all_of_them() -> None:
            with ThreadPoolExecutor(sessions) as pool:
                list(pool.map(work, [range(n, count, sessions) for n in range(sessions)]))

        plural = "session" if sessions == 1 else "sessions"
        self.measure(f"login, SELECT, LOGOUT, {sessions} {plural}", count, all_of_them)

    def pop3(self, count: int) -> None:
        """The big user's mailbox, as a program empties it: some messages are read, a tenth of them removed."""
        target = self.target

        def work() -> None:
            client = load.Client(target.host, target.ports["pop3"])
            client.pop3(b"USER " + target.big.encode())
            client.pop3(b"PASS " + target.password.encode())
            client.pop3(b"UIDL", True)
            for n in range(1, count + 1):
                client.pop3(b"RETR %d" % n, True)
            for n in range(1, count // 10 + 1):
                client.pop3(b"DELE %d" % n)
            client.pop3(b"QUIT")
            client.close()

        self.measure("POP3 session, each RETR", count, work)

    def idle(self, sessions: int, watched: int, tls: bool = False) -> float:
        """Open IDLE sessions: KiB of memory each, with what the server keeps for a user whom it had not served before
        (see ``Target.idlers``). ``watched``: deliveries whose time to EXISTS at them is measured."""
        target = self.target
        users = target.idlers(sessions)
        context = load.unverified() if tls else None
        before = machine.pss_at_rest(target.pid, SETTLED) if target.pid else 0
        clients = []
        for n in range(sessions):
            client = load.Client(target.host, target.ports["imaps" if tls else "imap"], context)
            client.imap(b"LOGIN %b %b" % (users[n].encode(), target.password.encode()))
            client.imap(b"SELECT INBOX")
            client.sock.sendall(b"i IDLE\r\n")
            client.line()
            clients.append(client)
        each = (machine.pss_at_rest(target.pid, SETTLED) - before) / sessions / 1024 if target.pid else 0.0
        text = load.message(2048) + b".\r\n"
        delays = []
        for n in range(watched):
            job = load.Work(b"LHLO bench.example\r\n", 1, text, [users[n % sessions]])
            start = time.perf_counter()
            uvloop.run(load.deliver(target.host, target.ports["lmtp"], job, 1))
            started = start + (time.perf_counter() - start) - job.latencies[0]
            while b"EXISTS" not in clients[n % sessions].line():
                pass
            delays.append(time.perf_counter() - started)
        for client in clients:
            client.close()
        if not delays:
            return each
        delays.sort()
        p50, p99 = delays[len(delays) // 2] * 1000, delays[int(len(delays) * 0.99)] * 1000
        row = Row("delivery to EXISTS at an idling client", 0.0, 0.0, 0.0, None, p50, p99)
        self.rows.append(row)
        self.tell(row)
        return each
