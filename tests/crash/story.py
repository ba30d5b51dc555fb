"""What clients do to a server whose system calls are recorded, and what they are told: the load of tests.crash.power.

Sessions deliver by LMTP and SMTP, to a mailbox, to the queue and to both; APPEND, STORE, COPY, MOVE (also to another
account's mailbox) and EXPUNGE messages that came a moment ago; make mailboxes, fill them, rename them at once and delete some; delete by POP3; and two watch:
they look at the mailboxes all the time and remember every UID, MODSEQ and flag that they saw. Accounts are made meanwhile
and get mail. Each step has a token that its answer holds, so that the recording tells when it was answered.
"""

import random
import re
import smtplib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fastmail.bench import load
from tests.support.server import Server

SIZES = (10, 900, 5000, 20000, 10, 140_000, 900, 270_000)  # from 128 KiB on content comes by way of a file
POP_USER = "pop@example.test"
SHARER = "shared@example.test"  # who shares the mailbox Given
GIVEN = f'"Other Users/{SHARER}/Given"'.encode()
BYE = b"+OK bye"  # how QUIT is answered; it has no token of its own
PAUSE = 0.12  # s at most, between two steps of a session
ROW = re.compile(rb"UID (\d+)")
MODSEQ = re.compile(rb"MODSEQ \((\d+)\)")
FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
SUBJECT = re.compile(rb"Subject: (m\d{6})")


@dataclass(slots=True)
class Step:
    """Something that was asked for and answered with ``token``. ``sent`` to the mailbox, ``queued`` for it and another
    host, ``far`` for the other host only, ``flagged``, ``touched`` (another flag), ``copied``, ``moved``, ``gone``,
    ``account`` (made; its address is the name), ``renamed`` (the mailbox that they lie in, to ``box``)."""

    kind: str
    names: list[str]
    token: bytes = b""
    box: str = ""
    before: str = ""


@dataclass(slots=True)
class Seen:
    """What a session was shown of a mailbox, before ``token``: by UID the message's name, MODSEQ, and whether it was
    flagged and deleted."""

    token: bytes
    account: str
    box: str
    validity: int = 0
    uidnext: int = 0
    modseq: int = 0
    rows: dict[int, tuple[str, int, bool, bool]] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """What all sessions did; each session's steps in order. ``seen``: what was shown, in order."""

    sessions: list[list[Step]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def session(self) -> list[Step]:
        self.sessions.append([])
        return self.sessions[-1]


def text(name: str) -> bytes:
    """The message of that name: its size and its content follow from it."""
    size = SIZES[int(name[1:]) % len(SIZES)]
    return b"Subject: %b\r\n\r\n%b\r\n%b end\r\n" % (name.encode(), b"x" * size, name.encode())


def hand_over(server: Server, steps: list[Step], names: list[str], kind: str, to: str, rng: random.Random) -> None:
    """Mail by LMTP or SMTP; for another host and a mailbox here (``queued``), or for another host only (``far``)."""
    protocol = "lmtp" if kind == "lmtp" else "smtp"
    with (smtplib.LMTP if kind == "lmtp" else smtplib.SMTP)("127.0.0.1", server.ports[protocol], timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        for name in names:
            client.mail("a@b.example")
            if kind != "far":
                client.rcpt(to)
            if kind in ("queued", "far"):
                client.rcpt("you@far.test")
            code, said = client.data(text(name))
            assert code == 250, said
            steps.append(Step(kind if kind in ("queued", "far") else "sent", [name], said.split()[-2]))
            time.sleep(rng.uniform(0, PAUSE))


class Asking:
    """An IMAP session that changes things; every command is a step."""

    def __init__(self, server: Server, steps: list[Step], letter: str, user: str) -> None:
        self.client = load.Client("127.0.0.1", server.ports["imap"])
        self.client.imap(b'LOGIN %b "%b"' % (user.encode(), server.password.encode()))
        self._steps = steps
        self._letter = letter
        self._count = 0

    def ask(self, kind: str, about: list[str], command: bytes, box: str = "", before: str = "") -> None:
        """One that is not answered is no step: nothing follows it."""
        self._count += 1
        tag = f"{self._letter}{self._count:06d}".encode()
        self._steps.append(Step(kind, list(about), tag, box, before))
        self.client.imap(command, tag)

    def append(self, name: str, box: str) -> None:
        body = text(name)
        self.ask("sent", [name], b"APPEND %b {%d+}\r\n%b" % (box.encode(), len(body), body), box)


def share(server: Server) -> None:
    """Somebody lets the user put messages into a mailbox."""
    owner = load.Client("127.0.0.1", server.ports["imap"])
    owner.imap(b'LOGIN %b "%b"' % (SHARER.encode(), server.password.encode()))
    owner.imap(b"CREATE Given")
    owner.imap(b"SETACL Given %b lrswite" % server.user.encode())
    owner.close()


def change(server: Server, steps: list[Step], names: list[str], rng: random.Random) -> None:
    """An IMAP session on two of the account's mailboxes, and on one of somebody else."""
    share(server)
    one = Asking(server, steps, "t", server.user)
    one.client.imap(b"CREATE Kept")
    one.client.imap(b"SELECT Archive")
    here: list[str] = []
    copied: set[str] = set()
    for name in names:
        one.append(name, "Archive")
        here.append(name)
        time.sleep(rng.uniform(0, PAUSE))
        if len(here) < 3:
            continue
        number = rng.choice([len(here) - 1, rng.randrange(len(here))])  # often the newest
        if here[number] in copied:
            continue
        match rng.randrange(6):
            case 0:
                one.ask("flagged", [here[number]], b"STORE %d +FLAGS (\\Flagged)" % (number + 1))
            case 1:
                one.ask("moved", [here.pop(number)], b"MOVE %d Kept" % (number + 1), "Kept", "Archive")
            case 2:
                one.ask("touched", [here[number]], b"STORE %d +FLAGS (\\Deleted)" % (number + 1))
                one.ask("gone", [here.pop(number)], b"EXPUNGE")
            case 3:
                one.ask("copied", [here[number]], b"COPY %d Kept" % (number + 1))
                copied.add(here[number])
            case 4:
                one.ask("moved", [here.pop(number)], b"MOVE %d %b" % (number + 1, GIVEN), "Given", "Archive")
    one.client.close()


def boxes(server: Server, steps: list[Step], names: list[str], rng: random.Random) -> None:
    """An IMAP session that makes mailboxes, fills them, renames them at once, and deletes some."""
    one = Asking(server, steps, "b", server.user)
    for number in range(0, len(names), 3):
        some, box = names[number : number + 3], f"Box{number}"
        one.ask("made", [], b"CREATE %b" % box.encode(), box)
        for name in some:
            one.append(name, box)
        if rng.random() < 0.7:
            fresh = f"Moved{number}"
            one.ask("renamed", some, b"RENAME %b %b" % (box.encode(), fresh.encode()), fresh, box)
            box = fresh
        if rng.random() < 0.4:
            one.ask("gone", some, b"DELETE %b" % box.encode(), box)
        time.sleep(rng.uniform(0, PAUSE))
    one.client.close()


def collect(server: Server, steps: list[Step], names: list[str], rng: random.Random) -> None:
    """Mail for an account that POP3 reads, and deletes some of."""
    there: list[str] = []
    for quits, number in enumerate(range(0, len(names), 2), 1):
        some = names[number : number + 2]
        hand_over(server, steps, some, "lmtp", POP_USER, rng)
        there += some
        client = load.Client("127.0.0.1", server.ports["pop3"])
        client.pop3(b"USER %b" % POP_USER.encode())
        client.pop3(b"PASS %b" % server.password.encode())
        gone = rng.sample(range(len(there)), min(len(there), rng.randrange(3)))
        for at in gone:
            client.pop3(b"DELE %d" % (at + 1))
        steps.append(Step("gone", [there[at] for at in gone], b"bye%d" % quits))
        client.pop3(b"QUIT")
        client.close()
        there = [name for at, name in enumerate(there) if at not in gone]


def watch(server: Server, story: Story, letter: str, stop: threading.Event) -> None:
    """Look at mailboxes all the time."""
    client = load.Client("127.0.0.1", server.ports["imap"])
    client.imap(b'LOGIN %b "%b"' % (server.user.encode(), server.password.encode()))
    client.imap(b"ENABLE CONDSTORE")
    count = 0
    while not stop.is_set():
        for box in ("INBOX", "Archive", "Kept"):
            count += 1
            found = Seen(f"{letter}{count:06d}".encode(), server.user, box)
            said = _said(client, b"x", b"SELECT " + box.encode())
            if b"x OK" not in said[-1]:
                continue  # it is not made yet
            for line in said:
                for name in ("validity", "uidnext", "modseq"):
                    word = {"validity": b"UIDVALIDITY", "uidnext": b"UIDNEXT", "modseq": b"HIGHESTMODSEQ"}[name]
                    at = re.search(word + rb" (\d+)", line)
                    if at is not None:
                        setattr(found, name, int(at.group(1)))
            command = b"UID FETCH 1:* (FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
            for line in _said(client, found.token, command):
                subject = SUBJECT.search(line)
                if subject is None:
                    continue
                uid, modseq, flags = ROW.search(line), MODSEQ.search(line), FLAGS.search(line)
                assert uid and modseq and flags, line
                words = flags.group(1)
                row = subject.group(1).decode(), int(modseq.group(1)), b"\\Flagged" in words, b"\\Deleted" in words
                found.rows[int(uid.group(1))] = row
            story.seen.append(found)
            stop.wait(0.02)
    client.close()


def _said(client: load.Client, tag: bytes, command: bytes) -> list[bytes]:
    """The lines of an answer, literals within them."""
    client.sock.sendall(tag + b" " + command + b"\r\n")
    out: list[bytes] = []
    line = b""
    while True:
        line += client.line()
        if line.endswith(b"}\r\n") and b"{" in line:
            line += client.file.read(int(line[line.rindex(b"{") + 1 : -3]))
            continue
        out.append(line)
        if line.startswith(tag + b" "):
            return out
        line = b""


def accounts(
    server: Server, steps: list[Step], names: list[str], rng: random.Random, run: Callable[[bytes, str], None]
) -> None:
    """Accounts that are made while the server runs, and get mail at once. ``run``: a command, answered by a token."""
    for number in range(0, len(names), 4):
        address, token = f"late{number}@example.test", b"a%06d" % number
        file = Path(server.directory).parent / f"late{number}"
        file.write_text(f"{address}:{{PLAIN}}{server.password}\n")
        run(token, f"account import {file} -c {server.config}")
        steps.append(Step("account", [address], token))
        hand_over(server, steps, names[number : number + 4], "lmtp", address, rng)


def tell(server: Server, count: int, rng: random.Random, run: Callable[[bytes, str], None]) -> Story:
    """All of it, each session on a thread; ``count`` messages each."""
    story = Story()
    names = iter(f"m{n:06d}" for n in range(10**6))
    failed: list[BaseException] = []
    stop = threading.Event()

    def start(what: Callable[..., None], *args: object, steps: bool = True, most: int = count) -> threading.Thread:
        given = (story.session(), [next(names) for _ in range(most)]) if steps else ()

        def work() -> None:
            try:
                what(server, *given, *args)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def own() -> random.Random:
        return random.Random(rng.random())

    watchers = [start(watch, story, letter, stop, steps=False) for letter in "vw"]
    threads = [start(hand_over, kind, server.user, own()) for kind in ("lmtp", "lmtp", "smtp", "queued", "far")]
    threads += [start(change, own(), most=2 * count), start(boxes, own()), start(collect, own(), most=count)]
    threads += [start(accounts, own(), run, most=8)]
    for thread in threads:
        thread.join()
    stop.set()
    for thread in watchers:
        thread.join()
    if failed:
        raise failed[0]
    return story
