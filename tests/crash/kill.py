"""kill -9 under load: `make test-crash`, or `python -m tests.crash.kill --rounds 20 --seed 1`.

Several LMTP and SMTP sessions deliver, IMAP sessions APPEND, STORE, COPY to another mailbox, MOVE and EXPUNGE, POP3
deletes. A ledger keeps of each message how often it may be there at least and at most: a command that was begun widens
the two, its answer closes them again. So a message under an unanswered MOVE or STORE is there once, one under a COPY once
or twice, one under an EXPUNGE once or not at all. After each kill the server is started again (where it does not go on by
itself), and every mailbox is read through IMAP: each message is there as often as it may be, whole (by its digest; sizes up
to 3 MB and around those at which content takes another way), in the mailbox where the last answered MOVE put it and with
the flags that were acknowledged; UIDs only grow, no UID that any session was shown is given to another message and no
MODSEQ stands for other flags, and `index check` and `content check` find nothing.

What is killed (tests.crash.steps): all processes; a worker; the keeper; the supervisor, and a new server starts while the
others end; the keeper, or all, at a step of a checkpoint; a start at a step of its recovery, several times. The journal is
small and the keeper in a hurry (tests.crash.quick). The seed decides the load and the moments; what the kernel does with
them it does not.
"""

import argparse
import contextlib
import hashlib
import imaplib
import poplib
import random
import re
import shutil
import smtplib
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import steps
from tests.support.server import Server

ACCOUNTS = 7  # the last one is read by POP3
MOST = 500  # messages in a mailbox up to which COPY makes more


SMALL = (10, 900, 3000, 60_000)
# in memory up to 128 KiB, then by way of a file; read from the network 256 KiB at a time
LARGE = (131_071, 131_072, 131_073, 262_143, 262_144, 262_145, 1 << 20, 3_000_000)


def text(name: str) -> bytes:
    """The message of that name, with CRLF: its size (with LF) and its content follow from the name."""
    n = zlib.crc32(name.encode())
    size = LARGE[n // 16 % len(LARGE)] if n % 16 == 0 else SMALL[n % len(SMALL)]
    head = f"Subject: {name}\n\n"
    line = f"{name} fills its lines with its own name {n}\n"
    whole = (head + line * (size // len(line) + 1))[: max(size, len(head) + 2) - 1] + "\n"
    return whole.replace("\n", "\r\n").encode()


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@dataclass(slots=True)
class Known:
    """One message. ``least``, ``most``: how often it may be there; ``place``: the mailbox of its only copy, if that is
    known; ``flagged``: every copy has the flag; ``seen``: it was found whole before."""

    least: int = 0
    most: int = 1
    place: str = ""
    flagged: bool = False
    seen: bool = False


@dataclass(slots=True)
class Ledger:
    """What clients began and what they were told, by message name."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    known: dict[str, Known] = field(default_factory=dict)
    told: int = 0  # messages that were acknowledged
    shown: dict[tuple[int, str, int], str] = field(default_factory=dict)  # user, mailbox, UID: name
    changes: dict[tuple[int, str, int, int], bytes] = field(default_factory=dict)  # the same and MODSEQ: flags
    twice: list[str] = field(default_factory=list)  # what was given twice

    def show(self, user: int, mailbox: str, uid: int, name: str, modseq: int, flags: bytes) -> None:
        """A session was shown this message."""
        with self.lock:
            if self.shown.setdefault((user, mailbox, uid), name) != name:
                self.twice.append(f"{mailbox} of u{user}: UID {uid} was {self.shown[user, mailbox, uid]}, is {name}")
            if self.changes.setdefault((user, mailbox, uid, modseq), flags) != flags:
                self.twice.append(f"{mailbox} of u{user}: UID {uid} has changed, and MODSEQ is {modseq} as before")

    def name(self) -> str:
        """A new message, which is about to be sent."""
        with self.lock:
            name = f"m{len(self.known) + 1:06d}"
            self.known[name] = Known()
            return name

    def was_sent(self, name: str) -> None:
        with self.lock:
            self.known[name].least += 1  # somebody may have removed it before its sender goes on
            self.told += 1

    def add(self, names: Iterable[str], least: int = 0, most: int = 0) -> None:
        """Each of these may be there more or less often."""
        with self.lock:
            for name in names:
                one = self.known[name]
                one.least += least
                one.most += most

    def forget_place(self, names: Iterable[str]) -> None:
        with self.lock:
            for name in names:
                self.known[name].place = ""

    def was_moved(self, names: Iterable[str], place: str) -> None:
        with self.lock:
            for name in names:
                if self.known[name].most == 1:
                    self.known[name].place = place

    def was_flagged(self, names: Iterable[str]) -> None:
        with self.lock:
            for name in names:
                if self.known[name].most == 1:
                    self.known[name].flagged = True


def deliver(server: Server, ledger: Ledger, rng: random.Random, stop: threading.Event, lmtp: bool) -> None:
    """One delivering session after the other."""
    while not stop.is_set():
        with contextlib.suppress(OSError, smtplib.SMTPException):
            kind = smtplib.LMTP if lmtp else smtplib.SMTP
            with kind("127.0.0.1", server.ports["lmtp" if lmtp else "smtp"], timeout=5) as client:
                while not stop.is_set():
                    name = ledger.name()
                    to = f"u{rng.randrange(ACCOUNTS)}@example.test"
                    client.sendmail("a@b.example", [to], text(name))
                    ledger.was_sent(name)


def login(server: Server, user: int, timeout: float = 5.0) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=timeout)
    client.login(f"u{user}@example.test", server.password)
    return client


def listed(client: imaplib.IMAP4, ledger: Ledger, user: int, mailbox: str) -> list[tuple[int, str, bytes]]:
    """(uid, name, flags) of a mailbox."""
    assert client.select(mailbox)[0] == "OK"
    out = []
    for item in client.uid("FETCH", "1:*", "(FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
        if isinstance(item, tuple):
            uid = int(re.search(rb"UID (\d+)", item[0]).group(1))  # type: ignore[union-attr]
            modseq = int(re.search(rb"MODSEQ \((\d+)\)", item[0]).group(1))  # type: ignore[union-attr]
            flags = re.search(rb"FLAGS \(([^)]*)\)", item[0]).group(1)  # type: ignore[union-attr]
            name = item[1].decode().split("Subject: ")[1].split()[0]
            words = b" ".join(sorted(set(flags.split()) - {b"\\Recent"}))
            ledger.show(user, mailbox, uid, name, modseq, words)
            out.append((uid, name, flags))
    return out


def change(server: Server, ledger: Ledger, rng: random.Random, stop: threading.Event, user: int) -> None:
    """An IMAP client that does all sorts of things to its own account."""
    while not stop.is_set():
        with contextlib.suppress(OSError, imaplib.IMAP4.error, imaplib.IMAP4.abort, AssertionError):
            client = login(server, user)
            client.create("Kept")
            while not stop.is_set():
                mailbox = rng.choice(["INBOX", "Kept"])
                known = listed(client, ledger, user, mailbox)
                action = rng.randrange(6)
                if action == 0 or not known:
                    name = ledger.name()
                    if client.append(mailbox, None, None, text(name))[0] == "OK":
                        ledger.was_sent(name)
                    continue
                some = rng.sample(known, min(len(known), rng.randint(1, 5)))
                uids, names = ",".join(str(m[0]) for m in some), [m[1] for m in some]
                other = "Kept" if mailbox == "INBOX" else "INBOX"
                if action == 1:
                    if client.uid("STORE", uids, "+FLAGS", "(\\Flagged)")[0] == "OK":
                        ledger.was_flagged(names)
                elif action == 2:
                    ledger.forget_place(names)
                    if client.uid("MOVE", uids, other)[0] == "OK":
                        ledger.was_moved(names, other)
                elif action == 3:
                    marked = client.uid("STORE", uids, "+FLAGS", "(\\Deleted)")[0] == "OK"
                    ledger.forget_place(names)
                    ledger.add(names, least=-1)
                    if marked and client.uid("EXPUNGE", uids)[0] == "OK":
                        ledger.add(names, most=-1)
                elif action == 4 and len(known) < MOST:
                    ledger.forget_place(names)
                    ledger.add(names, most=1)
                    if client.uid("COPY", uids, other)[0] == "OK":
                        ledger.add(names, least=1)
                else:
                    client.noop()


def collect(server: Server, ledger: Ledger, rng: random.Random, stop: threading.Event, user: int) -> None:
    """A POP3 client that deletes some of what it finds; nobody else changes its mailbox."""
    while not stop.is_set():
        with contextlib.suppress(OSError, poplib.error_proto, EOFError):
            client = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=5)
            client.user(f"u{user}@example.test")
            client.pass_(server.password)
            count = client.stat()[0]
            some = rng.sample(range(1, count + 1), min(count, rng.randint(0, 3)))
            names = {
                line.decode().split("Subject: ")[1]
                for number in some
                for line in client.top(number, 0)[1]
                if line.startswith(b"Subject: ")
            }
            for number in some:
                client.dele(number)
            ledger.forget_place(names)
            ledger.add(names, least=-1)
            if client.quit().startswith(b"+OK"):
                ledger.add(names, most=-1)
            stop.wait(rng.uniform(0.0, 0.1))


def whole(client: imaplib.IMAP4, ledger: Ledger, uids: dict[int, str]) -> None:
    """AssertionError unless each of these messages is what was sent; of the mailbox that is selected."""
    asked = list(uids)
    for start in range(0, len(asked), 20):
        some = ",".join(map(str, asked[start : start + 20]))
        got = 0
        for item in client.uid("FETCH", some, "(UID BODY.PEEK[])")[1]:
            if isinstance(item, tuple):
                name = uids[int(re.search(rb"UID (\d+)", item[0]).group(1))]  # type: ignore[union-attr]
                content = item[1][max(0, item[1].find(b"Subject: m")) :]
                assert digest(content) == digest(text(name)), f"{name} is not whole: {len(content)} octets"
                ledger.known[name].seen = True
                got += 1
        assert got == len(asked[start : start + 20]), "some cannot be read"


def settle(server: Server) -> None:
    """A server that went on may still be at what clients asked for that gave up: wait until nothing changes."""
    before: list[bytes] = []
    for _ in range(30):
        now = []
        for user in range(ACCOUNTS):
            client = login(server, user, 60)
            for mailbox in ("INBOX", "Kept"):
                now.append(client.status(mailbox, "(MESSAGES UIDNEXT HIGHESTMODSEQ)")[1][0] or b"")
            client.logout()
        if now == before:
            return
        before = now
        time.sleep(0.5)
    raise AssertionError("nobody asks for anything, and mailboxes change")


def verify(
    server: Server, ledger: Ledger, tops: dict[tuple[int, str], int], rng: random.Random, last: bool, anew: bool
) -> int:
    """AssertionError for anything that was acknowledged and is not so; returns the number of messages. The content of
    those that are new is read, and of some others; of all when it is the ``last`` time. Where the
    server was not started ``anew``, what a worker that died had begun may still come: its file is taken for mail by the
    next start."""
    found: Counter[str] = Counter()
    places: dict[str, set[str]] = {}
    bare: set[str] = set()
    for user in range(ACCOUNTS):
        client = login(server, user, 60)
        for mailbox in ("INBOX", "Kept"):
            if client.select(mailbox)[0] != "OK":
                continue
            rows = listed(client, ledger, user, mailbox)
            for uid, name, flags in rows:
                assert name in ledger.known, f"{name} was never sent"
                found[name] += 1
                places.setdefault(name, set()).add(mailbox)
                if b"\\Flagged" not in flags:
                    bare.add(name)
                tops[user, mailbox] = max(tops.get((user, mailbox), 0), uid)
            whole(client, ledger, {uid: name for uid, name, _ in rows
                                   if last or not ledger.known[name].seen or rng.random() < 0.02})  # fmt: skip
            _, data = client.status(mailbox, "(UIDNEXT MESSAGES)")
            uidnext = int(re.search(rb"UIDNEXT (\d+)", data[0]).group(1))  # type: ignore[union-attr]
            assert uidnext > tops.get((user, mailbox), 0), "UIDNEXT fell back"
        client.logout()
    lost = [f"{name} {one}" for name, one in ledger.known.items() if found[name] < one.least]
    assert not lost, f"acknowledged and lost: {sorted(lost)[:10]}"
    over = [name for name, one in ledger.known.items() if found[name] > one.most]
    assert not over, f"doubled, or expunged and back: {sorted(over)[:10]}"
    astray = [name for name, one in ledger.known.items() if one.place and places.get(name) != {one.place}]
    assert not astray, f"moved and not there: {sorted(astray)[:10]}"
    unflagged = [name for name, one in ledger.known.items() if one.flagged and name in bare]
    assert not unflagged, f"flags lost: {sorted(unflagged)[:10]}"
    assert not ledger.twice, f"given twice: {ledger.twice[:10]}"
    for name, one in ledger.known.items() if anew else ():
        one.least = one.most = found[name]
        one.place = "".join(places.get(name, ())) if found[name] == 1 else ""
    return found.total()


def run(rounds: int, seed: int, content: str, kinds: Sequence[str] = steps.KINDS) -> Counter[str]:
    """So many rounds; how often each kind of kill came."""
    rng = random.Random(seed)
    place = tempfile.mkdtemp(prefix="fastmail-crash-")
    server = Server(Path(place) / "s", content=content)
    server.program = "tests.crash.quick"
    users = "".join(f"u{n}@example.test:{{PLAIN}}{server.password}\n" for n in range(ACCOUNTS))
    server.cli("account", "import", "-", stdin=users)
    ledger: Ledger = Ledger()
    tops: dict[tuple[int, str], int] = {}
    server.start()
    try:
        done = load(server, ledger, tops, rng, rounds, content, kinds)
    except BaseException:
        print(f"kept in {place}", flush=True)
        server.kill()
        raise
    server.stop()
    shutil.rmtree(place, ignore_errors=True)  # a keeper whose supervisor was killed may still be there for a moment
    return done


def load(
    server: Server,
    ledger: Ledger,
    tops: dict[tuple[int, str], int],
    rng: random.Random,
    rounds: int,
    content: str,
    kinds: Sequence[str],
) -> Counter[str]:
    """So many rounds of load and kill, and a look at the whole at the end."""
    done: Counter[str] = Counter()
    for turn in range(rounds):
        stop = threading.Event()
        work: list[tuple[Callable[..., None], tuple[int]]] = [(deliver, (n < 4,)) for n in range(6)]
        work += [(change, (n,)) for n in range(ACCOUNTS - 1)] + [(collect, (ACCOUNTS - 1,))]
        threads = [
            threading.Thread(target=what, args=(server, ledger, random.Random(rng.random()), stop, *more))
            for what, more in work
        ]
        for thread in threads:
            thread.start()
        kind = kinds[turn % len(kinds)]
        try:
            time.sleep(rng.uniform(0.2, 2.0))
            what, took, anew = steps.kill(server, kind, rng, stop)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        done[kind] += 1
        print(f"{content} round {turn + 1}: {what}; ", end="", flush=True)
        settle(server)
        messages = verify(server, ledger, tops, rng, turn + 1 == rounds, anew)
        print(f"{messages} messages, {ledger.told} acknowledged, up again in {took:.1f} s", flush=True)
    for check in (("index", "check"), ("content", "check")):
        found = server.cli(*check, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--content", choices=["maildir", "segments", "both"], default="both")
    parser.add_argument("--kinds", nargs="*", default=list(steps.KINDS), choices=steps.KINDS)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    done: Counter[str] = Counter()
    for content in ("maildir", "segments") if options.content == "both" else (options.content,):
        done += run(options.rounds, options.seed, content, options.kinds)
    print(f"{done.total()} kills ({', '.join(f'{kind} {n}' for kind, n in sorted(done.items()))})")
    print("nothing lost, nothing doubled")


if __name__ == "__main__":
    sys.exit(main())
