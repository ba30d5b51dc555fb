"""R3, loss of power: `make test-power`, or `python -m tests.crash.power --images 1000 --seed 1 --content maildir`.

A server takes mail by LMTP and SMTP, APPEND, STORE, COPY, MOVE, EXPUNGE and into its queue, for others and a mailbox here
or for others only (whose content lies in the queue's own segments), under strace. From the log the disk
is rebuilt as it may have been at random moments (tests.crash.disk): what was synced, and any part of the rest. Each image is
opened and recovered as a server does at its start: every message whose acknowledgement had been written to a socket is there
once and whole, with the flags and without the removals that were acknowledged; one whose MOVE, STORE or COPY was under way
is there too, and nowhere twice; what was queued is in the queue, and in the mailbox; and `fastmail check` finds nothing.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fastmail.app.assembly import Assembly
from fastmail.bench import load
from fastmail.config.load import load as load_config
from fastmail.store.local import repair
from tests.crash.disk import CALLS, Call, Disk, calls
from tests.support.hosts import dead_port
from tests.support.server import CLI, Server

REPLY = re.compile(rb"(t\d{6}) OK|2\.0\.0 (?:<[^>]*> )?(\w+) (?:delivered|queued)")
SIZES = (10, 900, 5000, 20000, 10, 140_000, 900, 270_000)  # from 128 KiB on content comes by way of a file


@dataclass(slots=True)
class Step:
    """Something that was asked for and answered with ``token``. ``sent`` to the mailbox, ``queued`` for it and another
    host, ``far`` for the other host only, ``flagged``, ``touched`` (another flag), ``copied``, ``moved``, ``gone``."""

    kind: str
    names: list[str]
    token: bytes = b""


@dataclass(slots=True)
class Story:
    """What all sessions did; each session's steps in order."""

    sessions: list[list[Step]] = field(default_factory=list)

    def session(self) -> list[Step]:
        self.sessions.append([])
        return self.sessions[-1]


def text(name: str) -> bytes:
    """The message of that name: its size and its content follow from it."""
    size = SIZES[int(name[1:]) % len(SIZES)]
    return b"Subject: %b\r\n\r\n%b\r\n%b end\r\n" % (name.encode(), b"x" * size, name.encode())


def hand_over(server: Server, steps: list[Step], names: list[str], kind: str) -> None:
    """Mail by LMTP or SMTP; for another host and a mailbox here (``queued``), or for another host only (``far``)."""
    protocol = "lmtp" if kind == "lmtp" else "smtp"
    with (smtplib.LMTP if kind == "lmtp" else smtplib.SMTP)("127.0.0.1", server.ports[protocol], timeout=60) as client:
        client.ehlo_or_helo_if_needed()
        for name in names:
            client.mail("a@b.example")
            if kind != "far":
                client.rcpt(server.user)
            if kind in ("queued", "far"):
                client.rcpt("you@far.test")
            code, said = client.data(text(name))
            assert code == 250, said
            steps.append(Step(kind if kind in ("queued", "far") else "sent", [name], said.split()[-2]))


def change(server: Server, steps: list[Step], names: list[str], rng: random.Random) -> None:
    """An IMAP session on the account's own mailboxes."""
    client = load.Client("127.0.0.1", server.ports["imap"])
    client.imap(b'LOGIN %b "%b"' % (server.user.encode(), server.password.encode()))
    client.imap(b"CREATE Kept")
    client.imap(b"SELECT Archive")
    count = 0

    def ask(kind: str, about: list[str], command: bytes) -> None:
        nonlocal count
        count += 1
        tag = b"t%06d" % count
        client.imap(command, tag)
        steps.append(Step(kind, about, tag))

    here: list[str] = []
    copied: set[str] = set()
    for name in names:
        body = text(name)
        ask("sent", [name], b"APPEND Archive {%d+}\r\n%b" % (len(body), body))
        here.append(name)
        if len(here) < 5:
            continue
        number = rng.randrange(len(here))
        what = rng.randrange(5)
        if here[number] in copied:
            continue
        if what == 0:
            ask("flagged", [here[number]], b"STORE %d +FLAGS (\\Flagged)" % (number + 1))
        elif what == 1:
            ask("moved", [here.pop(number)], b"MOVE %d Kept" % (number + 1))
        elif what == 2:
            ask("touched", [here[number]], b"STORE %d +FLAGS (\\Deleted)" % (number + 1))
            ask("gone", [here.pop(number)], b"EXPUNGE")
        elif what == 3:
            ask("copied", [here[number]], b"COPY %d Kept" % (number + 1))
            copied.add(here[number])
    client.close()


def record(server: Server, log: Path, count: int, rng: random.Random) -> Story:
    """Run the load under strace."""
    command = [
        "strace",
        "-f",
        "-y",
        "-x",
        "-s",
        "10000000",
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(log),
    ]
    with open(server.log, "ab") as said:
        server.process = subprocess.Popen([*command, *CLI, "serve", "-c", str(server.config)], stdout=said, stderr=said)
    deadline = time.monotonic() + 60
    while not server.listens():
        assert time.monotonic() < deadline and server.process.poll() is None, server.log.read_text()[-500:]
        time.sleep(0.1)
    story = Story()
    names = iter(f"m{n:06d}" for n in range(10**6))

    def some(n: int) -> list[str]:
        return [next(names) for _ in range(n)]

    threads = [
        threading.Thread(target=hand_over, args=(server, story.session(), some(count), kind))
        for kind in ("lmtp", "lmtp", "lmtp", "smtp", "queued", "far")
    ]
    threads.append(threading.Thread(target=change, args=(server, story.session(), some(count), rng)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(1.5)  # what follows within a second is recorded too
    os.kill(int((server.directory / "data" / "run" / "pid").read_text()), signal.SIGTERM)
    server.process.wait(60)
    server.process = None
    return story


def replies(call: Call) -> list[bytes]:
    """The tokens in what was written to a socket."""
    if call.name not in ("write", "writev", "sendto", "sendmsg"):
        return []
    return [one or other for one, other in REPLY.findall(call.text)]


class Expected:
    """What must be so at a moment. ``least`` and ``most``: how often a message may be in the mailboxes; ``where``: the
    mailboxes that it has to be in."""

    def __init__(self, story: Story, told: set[bytes]) -> None:
        self.least: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.where: dict[str, set[str]] = {}
        self.queued: set[str] = set()
        self.flagged: set[str] = set()
        for steps in story.sessions:
            for step in steps:
                for name in step.names:
                    self._take(step.kind, name, step.token in told)
                if step.token not in told:
                    break  # it may have been begun; nothing that follows was

    def _take(self, kind: str, name: str, told: bool) -> None:
        """One message's step; without an answer both what was and what is to be are right."""
        match kind:
            case "sent" | "queued" | "copied":
                self.most[name] += 1
                self.least[name] += told
                if kind == "copied" and told:
                    self.where[name] = {"Archive", "Kept"}
            case "gone":
                self.least[name] -= 1
                self.most[name] -= told
                self.flagged.discard(name)
            case "moved":
                if told:
                    self.where[name] = {"Kept"}
            case "flagged" if told:
                self.flagged.add(name)
        if kind in ("queued", "far") and told:
            self.queued.add(name)


async def look(place: Path, expected: Expected, instance: str) -> str:
    """What is wrong with an image; empty for nothing."""
    config = load_config(str(place / "fastmail.toml"))
    assembly = Assembly(config, instance=instance, recover=True)
    await assembly.start()
    try:
        found: Counter[str] = Counter()
        places: dict[str, set[str]] = {}
        flagged: set[str] = set()
        torn: list[str] = []
        account = assembly.deliverer.account(assembly.directory.accounts()[0])
        await assembly.store.open(account)
        for box in (await assembly.store.listing(account)).mailboxes:
            await assembly.store.sync(account, box.key)
            with assembly.store.snapshot(account) as snapshot:
                flags = {r[0]: r[1] for page in snapshot.pages(box.key) for r in repair.pages.records(page)}
            for uid in flags:
                content = await assembly.store.content(account, box.key, uid)
                name = _name(content)
                found[name] += 1
                places.setdefault(name, set()).add(box.name)
                if not name or not bytes(content or b"").endswith(text(name).replace(b"\r\n", b"\n")):
                    torn.append(name)
                if flags[uid] & 4:
                    flagged.add(name)
        waiting: set[str] = set()
        local: set[str] = set()  # not in the mailbox yet
        for item, job in assembly.spool.jobs():
            content = await assembly.spool.content(item)
            name = _name(content)
            if name and job.destination != "local" and content.endswith(text(name).replace(b"\r\n", b"\n")):
                waiting.add(name)
            if job.destination == "local":
                local.add(name)
        problems = [
            f"{one.mailbox}: {one.detail}" for one in await repair.check(assembly.store, account) if one.problems
        ]
    finally:
        await assembly.close()
    known = {name for name, most in expected.least.items() if most > 0} | expected.queued
    told = {
        "lost": sorted(name for name, least in expected.least.items() if found[name] + (name in local) < least),
        "not in the queue": sorted(expected.queued - waiting),
        "twice or back again": sorted(name for name, count in found.items() if name and count > expected.most[name]),
        "elsewhere": sorted(
            name for name, boxes in expected.where.items() if name in known and places.get(name) != boxes
        ),
        "without its flag": sorted(name for name in expected.flagged if found[name] and name not in flagged),
        "torn": sorted(set(torn) & known),
        "check": problems,
    }
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in told.items() if names)


def _name(content: bytes | memoryview | None) -> str:
    found = re.search(rb"^Subject: (m\d{6})\n", bytes(content or b""), re.M)
    return found.group(1).decode() if found is not None else ""  # what was never acknowledged may be torn


@dataclass(slots=True)
class Result:
    """What came of the images."""

    images: int = 0
    calls: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)


def run(place: Path, content: str, images: int, seed: int, count: int = 12, keep: bool = False) -> Result:
    """Record a load and look at so many images of the disk."""
    rng = random.Random(seed)
    extra = (
        f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{dead_port()} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
        '[log]\nlevel = "error"\n'
    )
    server = Server(place / "live", extra, workers=1, content=content)
    disk = Disk(server.directory)
    log = place / "strace"
    story = record(server, log, count, rng)
    out = Result(calls=sum(1 for _ in calls(log)))
    first = next(n for n, call in enumerate(calls(log)) if replies(call))
    moments = Counter(rng.randrange(first, out.calls) for _ in range(images))
    told: set[bytes] = set()
    for number, call in enumerate(calls(log)):
        for _ in range(moments[number]):
            image = place / "image"
            disk.image(image, rng, strict=bool(out.images % 2))
            toml = image / "fastmail.toml"
            toml.write_text(toml.read_text().replace(str(server.directory), str(image)))
            out.images += 1
            try:
                wrong = asyncio.run(look(image, Expected(story, told), f"{out.images:08x}"))
            except Exception as error:
                wrong = f"cannot be opened: {error!r}"
            if wrong:
                out.wrong.append(f"image {out.images} behind call {number}: {wrong}")
                if keep:
                    shutil.copytree(image, place / f"wrong-{out.images}", symlinks=True)
        disk.apply(call)
        told.update(replies(call))
    out.acknowledged = len(told)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    parser.add_argument("--messages", type=int, default=12, help="of each of the six sessions")
    parser.add_argument("--dir", default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        found = run(Path(place), options.content, options.images, options.seed, options.messages)
    for line in found.wrong[:20]:
        print(line)
    print(
        f"{options.content}: {found.images} images of {found.calls} system calls, {found.acknowledged} acknowledgements: "
        f"{len(found.wrong)} with something wrong"
    )
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
