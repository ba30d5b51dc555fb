"""Dovecot and this server over the same Maildirs at the same time (``[store] shared = "dovecot"``): random work through
both, and the same view from both at every checkpoint."""

import imaplib
import os
import random
import re
import smtplib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journey.test_dovecot import USER, look, pop3
from tests.support import dovecot
from tests.support.server import Server

pytestmark = [pytest.mark.peer("dovecot"), pytest.mark.root]
FOLDERS = ["INBOX", "Work", "Archive/2026"]
WORDS = ["$Forwarded", "todo", "NonJunk", "urgent", "later"]
ROUNDS = int(os.environ.get("SHARED_ROUNDS", "3"))
STEPS = 25


@pytest.fixture(params=["", ":LAYOUT=fs:CONTROL={base}/mail/control/%u"], ids=["maildir++", "fs, control"])
def both(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[dovecot.Dovecot, Server]]:
    """Both run."""
    dovecot.needed()
    base = tmp_path_factory.mktemp("shared")
    theirs = dovecot.Dovecot(base / "dovecot", base / "mail", location=request.param.format(base=base))
    theirs.password = Server.password
    ours = Server(base / "ours", workers=2)
    store = f'shared = "dovecot"\nmaildir = "{base}/mail/{{user}}@{{domain}}"'
    if request.param:
        store += f'\nlayout = "fs"\ncontrol = "{base}/mail/control/{{user}}@{{domain}}"'
    text = re.sub(r"(?m)^maildir = .*$", store, ours.config.read_text())
    text = re.sub(r"(?m)^\[server\]$", f'[server]\nuser = "{dovecot.USER}"', text)
    ours.config.write_text(text)
    dovecot.own(ours.directory)
    theirs.start()
    ours.start()
    yield theirs, ours
    ours.stop()
    theirs.stop()


class Client(threading.Thread):
    """Random work through one server; what went wrong is in ``problems``."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__()
        self.port, self.choice = port, random.Random(seed)
        self.problems: list[str] = []

    def run(self) -> None:
        try:
            with imaplib.IMAP4("127.0.0.1", self.port) as imap:
                imap.login(USER, Server.password)
                for step in range(STEPS):
                    self.step(imap, step)
        except Exception as error:
            self.problems.append(repr(error))

    def step(self, imap: imaplib.IMAP4, step: int) -> None:
        choice = self.choice
        folder = choice.choice(FOLDERS)
        match choice.randrange(8):
            case 0 | 1 | 2:
                name = f"{self.port}-{choice.randrange(10**9)}"
                words = " ".join(choice.sample([r"\Seen", r"\Flagged", *WORDS], choice.randrange(3)))
                text = f"Subject: {name}\r\n\r\n{'x' * choice.randrange(500)}\r\n".encode()
                status, why = imap.append(folder, f"({words})" if words else None, None, text)
                if status != "OK":
                    self.problems.append(str(why))
            case 3 | 4 | 5:
                self.change(imap, folder)
            case 6:
                imap.select(folder)
                found = imap.uid("SEARCH", "ALL")[1][0].split()
                if found:
                    imap.uid("COPY", choice.choice(found).decode(), choice.choice(FOLDERS))
            case 7:
                imap.select(folder)
                found = imap.uid("SEARCH", "ALL")[1][0].split()
                if len(found) > 3:
                    imap.uid("STORE", choice.choice(found).decode(), "+FLAGS.SILENT", r"(\Deleted)")
                    imap.expunge()

    def change(self, imap: imaplib.IMAP4, folder: str) -> None:
        imap.select(folder)
        found = imap.uid("SEARCH", "ALL")[1][0].split()
        if found:
            how = self.choice.choice(["+FLAGS", "-FLAGS"])
            what = self.choice.choice([r"\Seen", r"\Answered", r"\Flagged", *WORDS])
            imap.uid("STORE", self.choice.choice(found).decode(), how, f"({what})")


def differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """What Dovecot and we show differently."""
    out = [] if one["subscribed"] == two["subscribed"] else [f"subscribed: {one['subscribed']} | {two['subscribed']}"]
    for name in sorted({*one["folders"], *two["folders"]}):
        a, b = one["folders"].get(name, ([], [])), two["folders"].get(name, ([], []))
        if a[0] != b[0]:
            out.append(f"{name!r}: {a[0]} | {b[0]}")
        theirs, ours = {row[0]: row for row in a[1]}, {row[0]: row for row in b[1]}
        for uid in sorted({*theirs, *ours}, key=int):
            if theirs.get(uid) != ours.get(uid):
                out.append(f"{name!r} {uid!r}: {theirs.get(uid)} | {ours.get(uid)}")
    return out


def settled(theirs: dovecot.Dovecot, ours: Server) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both show, when nobody changes anything."""
    for _ in range(40):
        two = look(theirs.ports["imap"], ours.password), look(ours.ports["imap"], ours.password)
        if two[0] == two[1]:
            break
        time.sleep(0.25)
    return two


def troubles(theirs: dovecot.Dovecot) -> list[str]:
    """What Dovecot complains of, but for what it says of its own copies, which may get a name once more."""
    lines = re.findall(r"(?i).*(?:error|panic|warning).*", (theirs.directory / "log").read_text())
    return [line for line in lines if "Duplicate file entry" not in line]


def make_folders(theirs: dovecot.Dovecot) -> None:
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, theirs.password)
        for name in FOLDERS[1:]:
            imap.create(name)
            imap.subscribe(name)


def test_both_at_once(both: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = both
    make_folders(theirs)
    seed = int(os.environ.get("SHARED_SEED", "1"))
    for number in range(ROUNDS):
        clients = [
            Client(port, seed * 1000 + number * 10 + n)
            for n, port in enumerate([theirs.ports["imap"], ours.ports["imap"]] * 2)
        ]
        for client in clients:
            client.start()
        with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
            for n in range(5):
                lmtp.sendmail("a@example.org", [USER], f"Subject: lmtp {number} {n}\r\n\r\ntext\r\n")
                time.sleep(0.05)
        for client in clients:
            client.join(120)
        assert [client.problems for client in clients] == [[]] * 4
        one, two = settled(theirs, ours)
        assert differences(one, two) == [], f"round {number}, seed {seed}"
        assert set(one["folders"]) >= {name.encode() for name in FOLDERS}
    assert sum(len(rows) for _, rows in one["folders"].values()) > ROUNDS * 20
    assert pop3(theirs.ports["pop3"], ours.password) == pop3(ours.ports["pop3"], ours.password)
    assert troubles(theirs) == []
    # folders made, renamed and removed by one are there, renamed and gone for the other, with their UIDs
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        assert imap.create("New/er")[0] == "OK"
        assert imap.append("New/er", "(todo)", None, b"Subject: n\r\n\r\nx\r\n")[0] == "OK"
        assert imap.rename("Work", "Job")[0] == "OK"
        assert imap.delete("Archive/2026")[0] == "OK"
        imap.subscribe("Job")
    time.sleep(2.1)
    one, two = settled(theirs, ours)
    assert differences(one, two) == [] and b"Job" in one["folders"] and b"Archive/2026" not in one["folders"]
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        assert imap.delete("New/er")[0] == "OK" and imap.create("New/er")[0] == "OK"  # with another UIDVALIDITY
        assert imap.append("New/er", "(later)", None, b"Subject: m\r\n\r\nx\r\n")[0] == "OK"
        assert imap.rename("Job", "Work")[0] == "OK"
    time.sleep(2.1)
    one, two = settled(theirs, ours)
    assert differences(one, two) == [] and b"Work" in one["folders"]
    assert troubles(theirs) == []


def test_more_keywords_than_letters(both: tuple[dovecot.Dovecot, Server]) -> None:
    """Those that Dovecot has no letters for are there when we see the mailbox first."""
    theirs, ours = both
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, theirs.password)
        for number in range(30):
            words = f"word{number} word{number + 1} word{number + 2}"
            imap.append("INBOX", f"({words})", None, f"Subject: {number}\r\n\r\nx\r\n".encode())
    one, two = settled(theirs, ours)
    assert differences(one, two) == [] and b"word31" in one["folders"][b"INBOX"][1][-1][1]
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:  # ours go on behind them
        imap.login(USER, ours.password)
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "(ours)")
        assert imap.fetch("1,30", "(FLAGS)")[1] == [
            b"1 (FLAGS (word0 word1 word2 ours))",
            b"30 (FLAGS (word29 word30 word31))",
        ]


def test_a_lock_that_nobody_holds_any_more(both: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = both
    with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
        lmtp.sendmail("a@example.org", [USER], "Subject: 1\r\n\r\ntext\r\n")
    (path,) = [path for path in theirs.mail.rglob("dovecot-uidlist") if path.parent.name in (USER, "INBOX")]
    place = path.with_name("dovecot-uidlist.lock")
    place.write_text(f"999999:{os.uname().nodename}")
    started = time.monotonic()
    with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
        lmtp.sendmail("a@example.org", [USER], "Subject: 2\r\n\r\ntext\r\n")
    assert time.monotonic() - started < 20 and not place.exists()
    path.write_bytes(path.read_bytes() + b"7 cut")  # a line that was not finished
    with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
        lmtp.sendmail("a@example.org", [USER], "Subject: 3\r\n\r\ntext\r\n")
    one, two = settled(theirs, ours)
    assert differences(one, two) == [] and len(one["folders"][b"INBOX"][1]) == 3


def test_a_list_that_lost_lines(both: tuple[dovecot.Dovecot, Server], tmp_path: Path) -> None:
    """As after a crash between index and list: the other server gives the message another UID."""
    theirs, ours = both
    with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
        for n in range(4):
            lmtp.sendmail("a@example.org", [USER], f"Subject: {n}\r\n\r\ntext\r\n")
    (path,) = [path for path in theirs.mail.rglob("dovecot-uidlist") if path.parent.name in (USER, "INBOX")]
    lines = path.read_bytes().splitlines(keepends=True)
    path.with_name("fresh").write_bytes(b"".join(lines[:-2]) + b"9 :" + lines[-2].partition(b" :")[2])
    os.replace(path.with_name("fresh"), path)
    dovecot.own(path.parent)
    one, two = settled(theirs, ours)
    assert differences(one, two) == [] and [row[0] for row in one["folders"][b"INBOX"][1]] == [b"1", b"2", b"9", b"10"]


def test_killed_while_both_work(both: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = both
    make_folders(theirs)
    for number in range(3):
        clients = [Client(port, 70 + number * 10 + n) for n, port in enumerate(list(theirs.ports.values())[:1] * 2)]
        clients += [Client(ours.ports["imap"], 170 + number * 10 + n) for n in range(2)]
        for client in clients:
            client.start()
        time.sleep(0.4 + number * 0.2)
        ours.kill()
        ours.start()
        for client in clients:
            client.join(120)
        assert [client.problems for client in clients[:2]] == [[]] * 2
        one, two = settled(theirs, ours)
        assert differences(one, two) == [], f"round {number}"
        texts = [digest for _, rows in one["folders"].values() for *_, digest in rows]
        assert texts
    assert troubles(theirs) == []
