"""What is kept, damaged at random: `make test-damage`, or `python -m tests.crash.damage --rounds 1000 --seed 1`.

A server with mail, accounts and a queue is stopped; then in each round one file of a copy of its data gets flipped bits,
is cut off, emptied or removed: index, accounts, queue, full text, segments, Maildir; or a farm of links and pipes is
planted in a Maildir, to another account's and to a file beside the data. The server is started and used
by every account; `check --repair` and `export --skip-bad` are run; the server is used again. A round fails when

- a worker dies more than a few times, the server does not come up, or a command does not end or shows a traceback;
- after the repair a message is missing, twice or changed whose own content was not touched (where accounts cannot be
  read any more, the server has to say so instead of refusing their mail for good);
- a planted link shows or changes what it leads to, or anything waits for a pipe;
- mail that came after the damage and was acknowledged is not there, once and whole, before the repair or after it.

UIDs that differ after the repair are counted: they are an index that had to be made anew.
"""

import argparse
import contextlib
import hashlib
import imaplib
import json
import os
import random
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server import Server

ACCOUNTS = 3
MESSAGES = 24
BOXES = ("INBOX", "Work", "Old.Mail")
KINDS = {
    "index": ["index-*/data.mdb"],
    "accounts": ["directory/data.mdb"],
    "queue": ["queue/index/data.mdb", "queue/segments/*"],
    "other": ["trace/data.mdb", "bans/data.mdb", "fulltext/**/*"],
    "content": ["mail/**/cur/*", "mail/**/new/*", "segments-*/*.seg"],
}
FARM = "farm"  # what is planted in a Maildir; see plant
CONTROL = ("subscriptions", "dovecot-uidlist", "dovecot-keywords", "courierimapuiddb", "maildirsize", "dovecot-acl")
SECRET = b"From: Somebody <else@b.example>\nSubject: nobody's\n\nnot to be seen\n"
WAYS = ("flip", "flip", "flip", "flips", "page", "cut", "empty", "remove")
DEATHS = 4  # of a worker, in one round
Shown = dict[tuple[str, str], dict[int, str]]  # (account, mailbox): UID, digest of the message


class Wrong(AssertionError):
    """What a round found."""


@dataclass
class Tally:
    """All rounds."""

    rounds: int = 0
    wrong: list[str] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)


def text(number: int, size: int) -> bytes:
    words = random.Random(number)
    lines = ["".join(words.choices("abcdefgh ", k=70)) for _ in range(max(1, size // 72))]
    head = f"From: Somebody <a{number}@b.example>\r\nSubject: m{number:05d}\r\nMessage-ID: <{number}@x>\r\n"
    return (head + "\r\n" + "\r\n".join(lines) + "\r\n").encode()


def names() -> list[str]:
    return [f"u{n}@example.test" for n in range(ACCOUNTS)]


def fill(server: Server, content: str) -> Shown:
    """Accounts, mailboxes, messages with flags, and some in the queue for a host that does not answer."""
    server.cli("account", "import", "-", stdin="".join(f"{n}:{{PLAIN}}{server.password}\n" for n in names()))
    server.start()
    number = 0
    for name in names():
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
            imap.login(name, server.password)
            for box in BOXES[1:]:
                imap.create(box)
            for at in range(MESSAGES):
                number += 1
                box = BOXES[min(at // 12, 2) if at % 5 else 0]
                flags = ("", "\\Seen", "(\\Flagged $Work)")[at % 3]
                imap.append(box, flags or None, None, text(number, (200, 3000, 30000)[at % 3]))
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as client:
            for _ in range(4):
                number += 1
                client.sendmail("a@b.example", [name], text(number, 500))
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as client:
        for at in range(6):
            client.sendmail("u0@example.test", [f"x{at}@far.test"], text(90000 + at, 2000))
    shown = read(server)
    server.stop()
    return shown


def read(server: Server, names_of: list[str] | None = None) -> Shown:
    """Every message of every account as IMAP shows it; what cannot be read is left out."""
    out: Shown = {}
    for name in names() if names_of is None else names_of:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as imap:
            imap.login(name, server.password)
            listed = imap.list()[1] or []
            boxes = [row.decode().rpartition(' "/" ')[2].strip('"') for row in listed if isinstance(row, bytes)]
            for box in boxes:
                if imap.select(f'"{box}"')[0] != "OK":
                    continue
                found = out[name, box] = {}
                imap.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODYSTRUCTURE)")
                imap.uid("SEARCH", "TEXT", "abc")
                rows = imap.uid("FETCH", "1:*", "(UID BODY.PEEK[])")
                for row in [*rows[1], *(imap.response("FETCH")[1] or [])]:
                    if isinstance(row, tuple):
                        uid = int(re.search(rb"UID (\d+)", row[0]).group(1))  # type: ignore[union-attr]
                        found[uid] = digest(row[1])
    return out


def digest(content: bytes) -> str:
    """Of a message without what delivery put in front; with its subject, to be told apart."""
    at = content.find(b"From: Somebody")
    return hashlib.sha256(content[max(at, 0) :]).hexdigest()[:16]


def harm(rng: random.Random, data: Path) -> tuple[str, str, Path, str]:
    """Damage one file: (kind, way, path, what)."""
    while True:
        kind = rng.choice([*KINDS, FARM])
        if kind == FARM and any(data.glob("mail/**/cur")):
            return plant(rng, data)
        if kind == FARM:
            continue
        paths = sorted(p for pattern in KINDS[kind] for p in data.glob(pattern) if p.is_file() and p.stat().st_size)
        if paths:
            break
    path = rng.choice(paths)
    way = rng.choice(WAYS)
    size = path.stat().st_size
    raw = bytearray(path.read_bytes())
    what = ""
    if way in ("flip", "flips"):
        places = [rng.randrange(size) for _ in range(1 if way == "flip" else 16)]
        if path.name == "data.mdb" and rng.random() < 0.7:  # where something is, not in what is free
            used = [at for at in range(0, size, 64) if any(raw[at : at + 64])]
            places = [rng.choice(used) + rng.randrange(64) for _ in places]
        for at in places:
            raw[min(at, size - 1)] ^= 1 << rng.randrange(8)
        what = f"at {places}"
    elif way == "page":
        at = rng.randrange(-(-size // 4096)) * 4096
        raw[at : at + 4096] = rng.randbytes(len(raw[at : at + 4096])) if rng.random() < 0.5 else bytes(4096)
        what = f"at {at}"
    elif way == "cut":
        at = rng.randrange(-(-size // 4096)) * 4096
        del raw[at:]
        what = f"at {at}"
    elif way == "empty":
        raw.clear()
    if way == "remove":
        path.unlink()
    else:
        path.write_bytes(raw)
    return kind, way, path, what


def plant(rng: random.Random, data: Path) -> tuple[str, str, Path, str]:
    """Links and pipes in one Maildir: (kind, way, path, what). INBOX keeps its directories, so that mail can come."""
    secret = data.parent / "secret"
    shutil.rmtree(secret, ignore_errors=True)
    for sub in ("cur", "new", "tmp"):
        (secret / sub).mkdir(parents=True)
        (secret / sub / "1700000001.M1P1.secret").write_bytes(SECRET)
    (secret / "file").write_bytes(SECRET)
    root, other = rng.sample(sorted(path.parent for path in data.glob("mail/*/*/cur")), 2)
    folder = root / f".{rng.choice(BOXES[1:])}"
    target = rng.choice([secret, other])
    way = rng.choice(["messages", "control", "folder", "parts"])
    if way == "messages":
        for sub in ("cur", "new"):
            for one in list((root / sub).iterdir())[:3]:
                one.unlink()
                rng.choice([lambda one=one: one.symlink_to(secret / "file"), lambda one=one: os.mkfifo(one)])()
            (root / sub / f"1700000003.M{rng.randrange(10**6)}P1.planted").symlink_to(secret / "file")
    elif way == "control":
        for name in CONTROL:
            (root / name).unlink(missing_ok=True)
            rng.choice(
                [lambda name=name: (root / name).symlink_to(secret / "file"), lambda name=name: os.mkfifo(root / name)]
            )()
    elif way == "folder" and folder.exists():
        folder.rename(data.parent / f"moved{rng.randrange(10**9)}")
        folder.symlink_to(target)
    elif folder.exists():
        for sub in rng.sample(["cur", "new", "tmp"], rng.randint(1, 3)):
            (folder / sub).rename(folder / f"{sub}.before")
            (folder / sub).symlink_to(target / sub)
    return FARM, way, folder, f"to {target.name}"


def unharmed(server: Server, kind: str) -> None:
    """What a farm leads to is as it was."""
    secret = server.directory / "secret"
    if kind == FARM:
        found = {str(one.relative_to(secret)): one.read_bytes() for one in secret.rglob("*") if not one.is_dir()}
        wanted = {f"{sub}/1700000001.M1P1.secret": SECRET for sub in ("cur", "new", "tmp")} | {"file": SECRET}
        if found != wanted:
            raise Wrong(f"a link was followed: {sorted(found)}")


def begin(server: Server) -> str:
    """Start; what it said when it would not."""
    try:
        server.start()
        return ""
    except AssertionError as error:
        return str(error)


def deaths(server: Server) -> int:
    return server.log.read_text().count("worker.died")


def logs_in(server: Server, name: str) -> bool:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=30) as imap:
        try:
            imap.login(name, server.password)
            return True
        except imaplib.IMAP4.error:
            return False


def text_of(mark: str, name: str) -> bytes:
    """The message that comes to an account after the damage."""
    return f"From: Somebody <{mark}@b.example>\r\nSubject: {mark}\r\n\r\n{mark} for {name}\r\n".encode()


def use(server: Server, mark: str, strict: bool, skip: set[str]) -> set[str]:
    """Mail comes for everybody, and everybody reads: whose mail was acknowledged."""
    told: set[str] = set()
    for name in names():
        if name in skip:
            continue
        try:
            with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as client:
                client.sendmail("a@b.example", [name], text_of(mark, name))
                told.add(name)
            read(server, [name])
        except (OSError, imaplib.IMAP4.error, smtplib.SMTPException) as error:
            if strict:
                raise Wrong(f"{name} after the repair: {error!r}") from error
    return told


def commands(server: Server, rng: random.Random, tally: Tally, kind: str) -> bool:
    """False when the accounts are lost."""
    done = server.cli("check", "--repair", check=False)
    if "no account can be read" in done.stderr:
        return False
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise Wrong(f"check --repair ended with {done.returncode}: {done.stderr[-2000:]}")
    tally.said[f"check --repair {done.returncode}"] += 1
    out = server.directory / "out"
    shutil.rmtree(out, ignore_errors=True)
    name = rng.choice(names())
    done = server.cli("export", "maildir", name, str(out), "--skip-bad", check=False)
    if "Traceback" in done.stderr or done.returncode not in (0, 1, 67, *([75] if kind == FARM else [])):
        raise Wrong(f"export {name} ended with {done.returncode}: {done.stderr[-2000:]}")
    return True


def round_(server: Server, base: Path, before: Shown, rng: random.Random, tally: Tally) -> str:
    data = server.directory / "data"
    shutil.rmtree(data)
    shutil.copytree(base, data, symlinks=True)
    server.log.write_bytes(b"")
    kind, way, path, what = harm(rng, data)
    said = f"{kind} {way} {path.relative_to(data)} {what}"
    if path.is_file():
        shutil.copy(path, server.directory / "harmed")
    told: dict[str, set[str]] = {}
    try:
        refused = begin(server)
        if not refused:
            told["early"] = use(server, "early", False, set())
            server.stop()
        elif "Traceback" in refused:
            raise Wrong(f"does not start: {refused[-2000:]}")
        if deaths(server) > DEATHS:
            raise Wrong(f"{deaths(server)} workers died: {server.log.read_text()[-3000:]}")
        server.log.write_bytes(b"")
        if not commands(server, rng, tally, kind):
            if kind != "accounts":
                raise Wrong("accounts are lost")
            tally.said["says that the accounts are lost"] += 1
            return said
        gone: set[str] = set()
        if kind == "accounts":
            known = {row["address"] for row in json.loads(server.cli("account", "list", "--json").stdout)}
            gone = {name for name in names() if name not in known}
        refused = begin(server)
        if refused:
            raise Wrong(f"does not start after the repair: {refused[-2000:]}")
        if kind == "accounts":
            gone |= {name for name in names() if name not in gone and not logs_in(server, name)}
            if way == "flip" and len(gone) > 1:
                raise Wrong(f"one flip, and nobody of {gone} can log in")
        told["late"] = use(server, "late", True, gone)
        try:
            after = read(server, [name for name in names() if name not in gone])
        except (OSError, imaplib.IMAP4.error) as error:
            raise Wrong(f"after the repair: {error!r}") from error
        server.stop()
        if deaths(server):
            raise Wrong(f"a worker died after the repair: {server.log.read_text()[-3000:]}")
        unharmed(server, kind)
        compare(before, after, kind, way, path, gone, tally)
        came(after, told, gone)
    except (Wrong, subprocess.TimeoutExpired) as error:
        raise Wrong(f"{said}: {error}") from error
    finally:
        with contextlib.suppress(Exception):
            server.stop()
    return said


def compare(before: Shown, after: Shown, kind: str, way: str, path: Path, gone: set[str], tally: Tally) -> None:
    for name in names():
        if name in gone:
            tally.said["an account is gone"] += 1
            continue
        was = Counter(d for (who, _), box in before.items() if who == name for d in box.values())
        now = Counter(d for (who, _), box in after.items() if who == name for d in box.values())
        lost = was - now
        twice = {d for d in was if now[d] > was[d]}
        allowed = 0
        theirs = {d for (who, _), box in before.items() if who != name for d in box.values()} | {digest(SECRET)}
        if (theirs - set(was)) & set(now):
            raise Wrong(f"{name} sees what is not theirs")
        if kind == FARM:
            allowed = 16 if way == "messages" else sum(was.values())  # a mailbox that was taken away
        if kind == "content":
            allowed = sum(was.values()) if path.suffix == ".seg" and way in ("cut", "empty", "remove", "page") else 16
        if sum(lost.values()) > allowed:
            raise Wrong(f"{name} lost {sum(lost.values())} messages")
        if twice:
            raise Wrong(f"{name} has {len(twice)} messages twice")
        moved = sum(before[at].get(uid) != d for at in before if at[0] == name for uid, d in after.get(at, {}).items()
                    if d in was)  # fmt: skip
        if moved:
            tally.said[f"{kind}: UIDs or mailboxes changed"] += 1


def came(after: Shown, told: dict[str, set[str]], gone: set[str]) -> None:
    """What was acknowledged after the damage is there, once."""
    for mark, whom in told.items():
        for name in whom - gone:
            wanted = digest(text_of(mark, name))
            count = sum(one == wanted for (who, _), box in after.items() if who == name for one in box.values())
            if count != 1:
                raise Wrong(f"{name}: the {mark} message was acknowledged and is there {count} times")


def run(rounds: int, seed: int, content: str, first: int = 0, keep: str = "") -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fastmail-damage-") as place:
        extra = '\n[relay]\nroutes = ["* smtp:127.0.0.1:9 tls=none"]\nnetworks = ["127.0.0.0/8"]\n'
        extra += "\n[limits]\nauth_failure_delay = 0.05\n"
        server = Server(Path(place) / "s", extra, workers=2, content=content)
        before = fill(server, content)
        base = Path(place) / "base"
        shutil.copytree(server.directory / "data", base, ignore=shutil.ignore_patterns("run"))
        for number in range(first, first + rounds):
            rng = random.Random(f"{seed} {content} {number}")
            tally.rounds += 1
            try:
                said = round_(server, base, before, rng, tally)
            except Wrong as error:
                tally.wrong.append(f"{number}: {error}")
                said = f"WRONG {error}"
                if keep:
                    shutil.copytree(
                        server.directory,
                        Path(keep) / f"{content}-{seed}-{number}",
                        dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("run"),
                    )
            print(f"{content} round {number}: {said}", flush=True)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--content", choices=["maildir", "segments"], default="maildir")
    parser.add_argument("--first", type=int, default=0, help="the round to begin with")
    parser.add_argument("--keep", default="", help="a directory for what failed")
    options = parser.parse_args()
    tally = run(options.rounds, options.seed, options.content, options.first, options.keep)
    print(f"{tally.rounds} rounds, {len(tally.wrong)} wrong; " + "; ".join(f"{k}: {v}" for k, v in tally.said.items()))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
