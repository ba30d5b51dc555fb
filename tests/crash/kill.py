"""kill -9 at random moments under load: `make test-crash`, or `python -m tests.crash.kill --rounds 20 --seed 1`.

Several LMTP and SMTP sessions deliver, IMAP sessions APPEND, STORE, COPY to another mailbox, MOVE and EXPUNGE, POP3
deletes. A ledger keeps what was acknowledged: sent, moved, deleted. After each kill the server is started again, and
every mailbox is read through IMAP: each acknowledged message is there once, deleted ones are gone, flags that were
acknowledged are set, UIDs only grow, and `index check` and `content check` find nothing. The seed decides the load and the
moments; what the kernel does with them it does not.
"""

import argparse
import contextlib
import imaplib
import os
import poplib
import random
import re
import signal
import smtplib
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.server import Server

ACCOUNTS = 7  # the last one is read by POP3


class Ledger:
    """What clients were told, by message name. ``maybe``: begun and not answered."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent: set[str] = set()
        self.maybe: set[str] = set()
        self.gone: set[str] = set()
        self.flagged: set[str] = set()
        self.touched: set[str] = set()  # may be flagged or gone: its command was not answered
        self.count = 0

    def name(self) -> str:
        with self.lock:
            self.count += 1
            name = f"m{self.count:06d}"
            self.maybe.add(name)
            return name

    def was_sent(self, name: str) -> None:
        with self.lock:
            self.maybe.discard(name)
            self.sent.add(name)


def deliver(server: Server, ledger: Ledger, rng: random.Random, stop: threading.Event, lmtp: bool) -> None:
    """One delivering session after the other."""
    while not stop.is_set():
        with contextlib.suppress(OSError, smtplib.SMTPException):
            kind = smtplib.LMTP if lmtp else smtplib.SMTP
            with kind("127.0.0.1", server.ports["lmtp" if lmtp else "smtp"], timeout=5) as client:
                while not stop.is_set():
                    name = ledger.name()
                    body = "x" * rng.choice([10, 3000, 60000])
                    to = f"u{rng.randrange(ACCOUNTS)}@example.test"
                    client.sendmail("a@b.example", [to], f"Subject: {name}\r\n\r\n{body}\r\n")
                    ledger.was_sent(name)


def login(server: Server, user: int) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=5)
    client.login(f"u{user}@example.test", server.password)
    return client


def listed(client: imaplib.IMAP4, mailbox: str) -> list[tuple[int, str, bytes]]:
    """(uid, name, flags) of a mailbox."""
    assert client.select(mailbox)[0] == "OK"
    out = []
    for item in client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
        if isinstance(item, tuple):
            uid = int(re.search(rb"UID (\d+)", item[0]).group(1))  # type: ignore[union-attr]
            flags = re.search(rb"FLAGS \(([^)]*)\)", item[0]).group(1)  # type: ignore[union-attr]
            out.append((uid, item[1].decode().split("Subject: ")[1].split()[0], flags))
    return out


def change(server: Server, ledger: Ledger, rng: random.Random, stop: threading.Event, user: int) -> None:
    """An IMAP client that does all sorts of things to its own account."""
    while not stop.is_set():
        with contextlib.suppress(OSError, imaplib.IMAP4.error, imaplib.IMAP4.abort, AssertionError):
            client = login(server, user)
            client.create("Kept")
            while not stop.is_set():
                mailbox = rng.choice(["INBOX", "Kept"])
                known = listed(client, mailbox)
                action = rng.randrange(5)
                if action == 0 or not known:
                    name = ledger.name()
                    text = f"Subject: {name}\r\n\r\n{'y' * rng.choice([5, 5000])}\r\n".encode()
                    if client.append(mailbox, None, None, text)[0] == "OK":
                        ledger.was_sent(name)
                    continue
                some = rng.sample(known, min(len(known), rng.randint(1, 5)))
                uids, names = ",".join(str(m[0]) for m in some), {m[1] for m in some}
                with ledger.lock:
                    ledger.touched |= names
                if action == 1:
                    done = client.uid("STORE", uids, "+FLAGS", "(\\Flagged)")[0] == "OK"
                    with ledger.lock:
                        if done:
                            ledger.flagged |= names
                            ledger.touched -= names
                elif action == 2:
                    done = client.uid("MOVE", uids, "Kept" if mailbox == "INBOX" else "INBOX")[0] == "OK"
                    with ledger.lock:
                        if done:
                            ledger.touched -= names
                elif action == 3:
                    client.uid("STORE", uids, "+FLAGS", "(\\Deleted)")
                    done = client.uid("EXPUNGE", uids)[0] == "OK"
                    with ledger.lock:
                        if done:
                            ledger.gone |= names
                            ledger.touched -= names
                else:
                    client.noop()
                    with ledger.lock:
                        ledger.touched -= names


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
            with ledger.lock:
                ledger.touched |= names
            for number in some:
                client.dele(number)
            done = client.quit().startswith(b"+OK")
            with ledger.lock:
                if done:
                    ledger.gone |= names
                    ledger.touched -= names
            stop.wait(rng.uniform(0.0, 0.1))


def verify(server: Server, ledger: Ledger, tops: dict[tuple[int, str], int]) -> int:
    """AssertionError for anything that was acknowledged and is not so; returns the number of messages."""
    found: dict[str, bytes] = {}
    for user in range(ACCOUNTS):
        client = login(server, user)
        for mailbox in ("INBOX", "Kept"):
            if client.select(mailbox)[0] != "OK":
                continue
            for uid, name, flags in listed(client, mailbox):
                assert name not in found, f"{name} is there twice"
                found[name] = flags
                tops[user, mailbox] = max(tops.get((user, mailbox), 0), uid)
            _, data = client.status(mailbox, "(UIDNEXT MESSAGES)")
            uidnext = int(re.search(rb"UIDNEXT (\d+)", data[0]).group(1))  # type: ignore[union-attr]
            assert uidnext > tops.get((user, mailbox), 0), "UIDNEXT fell back"
        client.logout()
    lost = ledger.sent - ledger.gone - ledger.touched - set(found)
    assert not lost, f"acknowledged and lost: {sorted(lost)[:10]}"
    risen = ledger.gone & set(found)
    assert not risen, f"expunged and back: {sorted(risen)[:10]}"
    strange = set(found) - ledger.sent - ledger.maybe
    assert not strange, f"never sent: {sorted(strange)[:10]}"
    bare = {n for n in ledger.flagged & set(found) - ledger.touched if b"\\Flagged" not in found[n]}
    assert not bare, f"flags lost: {sorted(bare)[:10]}"
    ledger.sent |= set(found)
    ledger.maybe.clear()
    ledger.gone |= ledger.touched - set(found)
    ledger.touched.clear()
    return len(found)


def run(rounds: int, seed: int, content: str) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fastmail-crash-") as place:
        server = Server(Path(place) / "s", content=content)
        users = "".join(f"u{n}@example.test:{{PLAIN}}{server.password}\n" for n in range(ACCOUNTS))
        server.cli("account", "import", "-", stdin=users)
        ledger, tops = Ledger(), {}
        server.start()
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
            time.sleep(rng.uniform(0.2, 2.0))
            if rng.random() < 0.3:
                with contextlib.suppress(ProcessLookupError, IndexError):
                    os.kill(rng.choice(server.workers()), signal.SIGKILL)  # one worker first
                time.sleep(rng.uniform(0.0, 0.5))
            server.kill()
            stop.set()
            for thread in threads:
                thread.join()
            started = time.monotonic()
            server.start()
            took = time.monotonic() - started
            messages = verify(server, ledger, tops)
            print(f"{content} round {turn + 1}: {messages} messages, {len(ledger.sent)} acknowledged, "
                  f"up again in {took:.1f} s", flush=True)  # fmt: skip
        for check in (("index", "check"), ("content", "check")):
            done = server.cli(*check, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--content", choices=["maildir", "segments", "both"], default="both")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    for content in ("maildir", "segments") if options.content == "both" else (options.content,):
        run(options.rounds, options.seed, content)
    print("nothing lost, nothing doubled")


if __name__ == "__main__":
    sys.exit(main())
