"""R3, loss of power: `make test-power`, or `python -m tests.crash.power --images 1000 --seed 1 --content maildir`.

A server with a small journal and a keeper in a hurry (tests.crash.quick) takes the load of tests.crash.story under strace.
From the log the disk is rebuilt as it may have been at random moments (tests.crash.disk): what was synced, and any part of
the rest. Each image is opened and recovered as a server does at its start: every message whose acknowledgement had been
written to a socket is there once and whole, with the flags and without the removals that were acknowledged; one whose
MOVE, STORE, COPY or RENAME was under way is there too, and nowhere twice; what was queued is in the queue, and in the
mailbox; accounts that were made are there; and `fastmail check` finds nothing. Then it goes on: new messages and changes
get UIDs and MODSEQs above all that any session was shown.

Of some images the recovery is recorded as well, with a moment of work behind it (tests.crash.again), and the power is lost
again: everything above is so once more, with what was acknowledged meanwhile.
"""

import argparse
import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fastmail._core import mime, pages
from fastmail.app.assembly import Assembly
from fastmail.config.load import load as load_config
from fastmail.store.interface import Account, NewMessage
from fastmail.store.local.recovery import check_account as checking
from fastmail.telemetry import log
from tests.crash.disk import CALLS, Call, Disk, calls
from tests.crash.quick import hurry
from tests.crash.story import BYE, POP_USER, SHARER, Seen, Step, Story, tell, text
from tests.support.hosts import dead_port
from tests.support.server import Server

REPLY = re.compile(rb"([a-z]\d{6}) OK|2\.0\.0 (?:<[^>]*> )?(\w+) (?:delivered|queued)")
ROOT = Path(__file__).parents[2]
# the server, and commands that come with their tokens through a pipe
SHELL = '"$@" & while read -r token line; do $line && echo "$token OK"; done <"$COMMANDS" >>"$ANSWERS" 2>&1; wait'
PER_RECORDING = 100  # images
AGAIN, SECONDS = 8, 3  # of so many images one goes on and loses power again; images that are made of that
FLAGGED, DELETED = 4, 8


def strace(to: Path, *command: str, more: dict[str, str] | None = None, said: Path) -> "subprocess.Popen[bytes]":
    """Run a command; its system calls go to ``to``, what it says to ``said``."""
    tracer = ["strace", "-f", "-y", "-x", "-s", "10000000", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(to)]
    with open(said, "ab") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | (more or {})
        return subprocess.Popen([*tracer, *command], stdout=out, stderr=out, env=environment)


def record(server: Server, to: Path, count: int, rng: random.Random) -> Story:
    """Run the load under strace."""
    fifo, answers = to.with_suffix(".commands"), to.with_suffix(".answers")
    os.mkfifo(fifo)
    answers.touch()
    quick = [sys.executable, "-m", "tests.crash.quick"]
    serve = [*quick, "serve", "-c", str(server.config)]
    more = {"COMMANDS": str(fifo), "ANSWERS": str(answers)}
    server.process = strace(to, "sh", "-c", SHELL, "sh", *serve, more=more, said=server.log)
    with open(fifo, "w", encoding="ascii") as commands:
        deadline = time.monotonic() + 60
        while not server.listens():
            assert time.monotonic() < deadline and server.process.poll() is None, server.log.read_text()[-500:]
            time.sleep(0.1)

        def run(token: bytes, command: str) -> None:
            commands.write(f"{token.decode()} {' '.join(quick)} {command}\n")
            commands.flush()
            deadline = time.monotonic() + 60
            while token not in answers.read_bytes():
                assert time.monotonic() < deadline, f"{command}: {answers.read_text()}"
                time.sleep(0.05)

        story = tell(server, count, rng, run)
        time.sleep(1.5)  # what follows within a second is recorded too
    os.kill(int((server.directory / "data" / "run" / "pid").read_text()), signal.SIGTERM)
    server.process.wait(60)
    server.process = None
    return story


class Told:
    """The tokens that clients were told so far."""

    def __init__(self) -> None:
        self.tokens: set[bytes] = set()
        self._byes = 0

    def hear(self, call: Call) -> None:
        """Of what was written to a socket."""
        if call.name not in ("write", "writev", "sendto", "sendmsg"):
            return
        self.tokens.update(one or other for one, other in REPLY.findall(call.text))
        for _ in range(call.text.count(BYE)):
            self._byes += 1
            self.tokens.add(b"bye%d" % self._byes)


class Expected:
    """What must be so at a moment. ``least`` and ``most``: how often a message may be in the mailboxes; ``where``: the
    sets of mailboxes of which it has to be in one."""

    def __init__(self, story: Story, told: set[bytes]) -> None:
        self.least: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.where: dict[str, list[set[str]]] = {}
        self.queued: set[str] = set()
        self.flagged: set[str] = set()
        self.accounts: set[str] = set()
        self.seen = [one for one in story.seen if one.token in told]
        for steps in story.sessions:
            for step in steps:
                for name in step.names:
                    self._take(step, name, step.token in told)
                if step.token not in told:
                    break  # it may have been begun; nothing that follows was

    def _take(self, step: Step, name: str, told: bool) -> None:
        """One message's step; without an answer both what was and what is to be are right."""
        match step.kind:
            case "account":
                self.accounts |= {name} if told else set()
            case "sent" | "queued" | "copied":
                self.most[name] += 1
                self.least[name] += told
                if step.kind == "copied":
                    self.where[name] = [{"Archive", "Kept"}] if told else [{"Archive"}, {"Archive", "Kept"}]
                elif step.box:
                    self.where[name] = [{step.box}]
            case "gone":
                self.least[name] -= 1
                self.most[name] -= told
                self.flagged.discard(name)
            case "moved" | "renamed":
                self.where[name] = [{step.box}] if told else [{step.box}, {step.before}]
            case "flagged" if told:
                self.flagged.add(name)
        if step.kind in ("queued", "far") and told:
            self.queued.add(name)


@dataclass(slots=True)
class Found:
    """What an image holds: how often each message is there, in which mailboxes; those that are flagged, or not whole;
    what waits for another host, and for a mailbox here; what else is wrong."""

    count: Counter[str] = field(default_factory=Counter)
    places: dict[str, set[str]] = field(default_factory=dict)
    flagged: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)
    check: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)  # UIDs and MODSEQs that were given twice
    addresses: set[str] = field(default_factory=set)


async def look(place: Path, expected: Expected, instance: str) -> str:
    """What is wrong with an image; empty for nothing."""
    config = load_config(str(place / "fastmail.toml"))
    assembly = Assembly(config, instance=instance, recover=True)
    await assembly.start()
    found = Found()
    try:
        for row in assembly.directory.accounts():
            found.addresses.add(row.address)
            account = assembly.deliverer.account(row)
            await assembly.store.open(account)
            await _read(assembly, account, found, [one for one in expected.seen if one.account == row.address])
        for item, job in assembly.spool.jobs():
            content = await assembly.spool.content(item)
            name = _name(content)
            if name and job.destination != "local" and content.endswith(text(name).replace(b"\r\n", b"\n")):
                found.waiting.add(name)
            if job.destination == "local":
                found.local.add(name)
    finally:
        await assembly.close()
    return verdict(found, expected)


async def _read(assembly: Assembly, account: Account, found: Found, seen: list[Seen]) -> None:
    """One account's mailboxes; then it goes on."""
    store = assembly.store
    for _ in range(2):  # one that has lost its directory is gone when it was looked at
        for box in (await store.listing(account)).mailboxes:
            await store.sync(account, box.key)
    every = (await store.listing(account)).mailboxes
    for box in every:
        with store.snapshot(account) as snapshot:
            rows = {r[0]: r for page in snapshot.pages(box.key) for r in pages.records(page)}
            state = snapshot.mailbox(box.key)
        names = {}
        for uid in rows:
            content = await store.content(account, box.key, uid)
            name = names[uid] = _name(content)
            found.count[name] += 1
            found.places.setdefault(name, set()).add(box.name)
            if not name or not bytes(content or b"").endswith(text(name).replace(b"\r\n", b"\n")):
                found.torn.add(name)
            if rows[uid][1] & FLAGGED:
                found.flagged.add(name)
        assert state is not None
        shown = [one for one in seen if one.box == box.name and one.validity == state.uidvalidity]
        for one in shown:
            for uid, (name, modseq, flagged, deleted) in one.rows.items():
                if uid not in rows:
                    continue
                if names[uid] != name:
                    found.given.append(f"{box.name} UID {uid} was {name} and is {names[uid]}")
                flags = bool(rows[uid][1] & FLAGGED), bool(rows[uid][1] & DELETED)
                if rows[uid][2] == modseq and flags != (flagged, deleted):
                    found.given.append(f"{box.name} MODSEQ {modseq} of UID {uid}")
    found.check += [f"{one.mailbox}: {one.detail}" for one in await checking.check(store, account) if one.problems]
    for box in every:
        await _go_on(assembly, account, box.key, box.name, seen, found)


async def _go_on(assembly: Assembly, account: Account, key: bytes, box: str, seen: list[Seen], found: Found) -> None:
    """What comes to the mailbox now is numbered above all that was shown."""
    store = assembly.store
    if not any(one.box == box for one in seen):
        return
    placed = await store.append(account, key, [message("m999999")])
    shown = [one for one in seen if one.box == box and one.validity == placed.uidvalidity]
    top = max((uid for one in shown for uid in one.rows), default=0)
    changed = max((row[1] for one in shown for row in one.rows.values()), default=0)
    changed = max([changed, *(one.modseq for one in shown)])
    everywhere = max(one.modseq for one in seen)  # MODSEQs are the account's
    with store.snapshot(account) as snapshot:
        at = next(r[2] for page in snapshot.pages(key) for r in pages.records(page) if r[0] == placed.uids[0])
    if placed.uids[0] <= top:
        found.given.append(f"{box}: UID {placed.uids[0]} after {top} was shown")
    if at <= max(changed, everywhere):
        found.given.append(f"{box}: MODSEQ {at} after {changed} was shown, and {everywhere} elsewhere")


def message(name: str) -> NewMessage:
    """As a session makes it."""
    data = text(name).replace(b"\r\n", b"\n")
    return NewMessage([data], mime.scan(data), len(text(name)), int(time.time()))


def verdict(found: Found, expected: Expected) -> str:
    """Where what was found is not what it must be."""
    known = {name for name, most in expected.least.items() if most > 0} | expected.queued
    told: dict[str, Iterable[str]] = {
        "lost": (n for n, least in expected.least.items() if found.count[n] + (n in found.local) < least),
        "no account": expected.accounts - found.addresses,
        "not in the queue": expected.queued - found.waiting,
        "twice or back again": (name for name, count in found.count.items() if name and count > expected.most[name]),
        "elsewhere": (
            f"{name} in {found.places.get(name)}"
            for name, sets in expected.where.items()
            if expected.least[name] > 0 and found.places.get(name) not in sets
        ),
        "without its flag": (n for n in expected.flagged if found.count[n] and n not in found.flagged),
        "torn": found.torn & known,
        "check": found.check,
        "given twice": found.given,
    }
    lists = {what: sorted(names) for what, names in told.items()}
    return "; ".join(f"{what}: {', '.join(names[:5])}" for what, names in lists.items() if names)


def _name(content: bytes | memoryview | None) -> str:
    found = re.search(rb"^Subject: (m\d{6})\n", bytes(content or b""), re.M)
    return found.group(1).decode() if found is not None else ""  # what was never acknowledged may be torn


@dataclass(slots=True)
class Result:
    """What came of the images; ``again``: of those how many lost power twice."""

    images: int = 0
    again: int = 0
    calls: int = 0
    acknowledged: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        self.images += other.images
        self.again += other.again
        self.calls += other.calls
        self.acknowledged += other.acknowledged
        self.wrong += other.wrong


@dataclass(slots=True)
class Images:
    """Makes images of one recording, and looks at them. ``keep``: those with something wrong stay as ``wrong-...``."""

    place: Path
    root: Path  # what was recorded
    story: Story
    rng: random.Random
    keep: bool
    out: Result = field(default_factory=Result)

    def one(self, disk: Disk, told: set[bytes], where: str) -> Path:
        """Make an image and say where it is; ``where``: the moment, in words."""
        image = self.place / "image"
        disk.image(image, self.rng, strict=bool(self.out.images % 2))
        toml = image / "fastmail.toml"
        toml.write_text(toml.read_text().replace(str(self.root), str(image)))
        self.out.images += 1
        return image

    def judge(self, image: Path, story: Story, told: set[bytes], where: str) -> None:
        if self.keep:
            shutil.rmtree(self.place / "before", ignore_errors=True)
            shutil.copytree(image, self.place / "before", symlinks=True)
        try:
            wrong = asyncio.run(look(image, Expected(story, told), f"{self.out.images:08x}"))
        except Exception as error:
            wrong = f"cannot be opened: {error!r}"
        if wrong:
            self.out.wrong.append(f"image {self.out.images} {where}: {wrong}")
            if self.keep:
                (self.place / "before").rename(self.place / f"wrong-{self.out.images}")

    def once(self, disk: Disk, told: set[bytes], where: str) -> None:
        self.judge(self.one(disk, told, where), self.story, told, where)

    def twice(self, disk: Disk, told: set[bytes], where: str) -> None:
        """One image that is recovered and goes on, and some of what the power leaves of that."""
        image = self.one(disk, told, where)
        again, trace = self.place / "again", self.place / "again.strace"
        shutil.rmtree(again, ignore_errors=True)
        image.rename(again)
        toml = again / "fastmail.toml"
        toml.write_text(toml.read_text().replace(str(image), str(again)))
        second = Disk(again)
        said = self.place / "again.log"
        said.write_bytes(b"")
        command = [sys.executable, "-m", "tests.crash.again", str(toml), f"{self.out.images:08x}"]
        done = strace(trace, *command, said=said).wait(120)
        if done:
            self.out.wrong.append(f"image {self.out.images} {where}: recovery failed: {said.read_text()[-300:]}")
            return
        more = Story([*self.story.sessions, []], self.story.seen)
        for token, name in re.findall(rb"([a-z]\d{6}) OK (m\d{6})", said.read_bytes()):
            more.sessions[-1].append(Step("sent", [name.decode()], token))
        every = list(calls(trace))
        moments = Counter(self.rng.randrange(len(every) + 1) for _ in range(SECONDS))
        heard = Told()
        for number in range(len(every) + 1):
            for _ in range(moments[number]):
                self.out.again += 1
                root, self.root = self.root, again
                image = self.one(second, told, where)
                self.root = root
                self.judge(image, more, told | heard.tokens, f"{where}, and again behind call {number}")
            if number < len(every):
                second.apply(every[number])
                heard.hear(every[number])


def run(
    place: Path, content: str, images: int, seed: int, count: int = 12, keep: bool = False, again: int = AGAIN
) -> Result:
    """Record a load and look at about so many images of the disk."""
    rng = random.Random(seed)
    extra = (
        f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{dead_port()} tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
        '[log]\nlevel = "error"\n'
    )
    server = Server(place / "live", extra, workers=2, content=content)
    config = server.config.read_text()  # with one index, or with two for users with even and odd numbers
    server.config.write_text(config.replace("\n[store]\n", f"\n[store]\nshards = {1 + seed % 2}\n"))
    for address in (SHARER, POP_USER):
        server.cli("account", "import", "-", stdin=f"{address}:{{PLAIN}}{server.password}\n")
    disk = Disk(server.directory)
    trace = place / "strace"
    story = record(server, trace, count, rng)
    every = Images(place, server.directory, story, rng, keep)
    total, first, told = 0, -1, Told()
    for number, call in enumerate(calls(trace)):
        total += 1
        told.hear(call)
        if told.tokens and first < 0:
            first = number
    moments = Counter(rng.randrange(first, total) for _ in range(images))
    told = Told()
    left = images
    with hurry():
        for number, call in enumerate(calls(trace)):
            for _ in range(moments[number]):
                left -= 1
                where = f"behind call {number}"
                if every.out.images >= images:
                    break
                if again and left % again == 0:
                    every.twice(disk, told.tokens, where)
                else:
                    every.once(disk, told.tokens, where)
            disk.apply(call)
            told.hear(call)
    every.out.calls, every.out.acknowledged = total, len(told.tokens)
    return every.out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--seed", type=int, default=1, help=f"of the first {PER_RECORDING} images; the next are one more"
    )
    parser.add_argument("--content", default="maildir", choices=["maildir", "segments"])
    parser.add_argument("--messages", type=int, default=12, help="of each session")
    parser.add_argument("--dir", default=None)
    parser.add_argument("--keep", action="store_true", help="leave the images with something wrong where they are")
    options = parser.parse_args()
    log.setup("text", "error")
    found, seed = Result(), options.seed
    while found.images < options.images:
        place = tempfile.mkdtemp(dir=options.dir)
        share = min(PER_RECORDING, options.images - found.images)
        one = run(Path(place), options.content, share, seed, options.messages, options.keep)
        for line in one.wrong[:20]:
            print(f"seed {seed}: {line}", flush=True)
        found.add(one)
        print(f"seed {seed}: {one.images} images, {len(one.wrong)} with something wrong", flush=True)
        seed += 1
        if options.keep and one.wrong:
            print(f"kept in {place}", flush=True)
        else:
            shutil.rmtree(place)
    print(
        f"{options.content}: {found.images} images ({found.again} of a second loss) of {found.calls} system calls, "
        f"{found.acknowledged} acknowledgements: {len(found.wrong)} with something wrong"
    )
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
