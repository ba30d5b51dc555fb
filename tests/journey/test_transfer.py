"""Mail of other places into an account and out again, by the commands, with the library's readers as judges."""

import imaplib
import json
import mailbox
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

USER = Server.user


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    mine = Server(tmp_path / "own")
    mine.start()
    yield mine
    mine.stop()


def session(server: Server, user: str = USER) -> imaplib.IMAP4:
    imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
    imap.login(user, server.password)
    return imap


def held(server: Server, name: str, user: str = USER) -> dict[str, tuple[set[str], str]]:
    """{subject: (flags, date)} of a mailbox."""
    with session(server, user) as imap:
        assert imap.select(f'"{name}"', readonly=True)[0] == "OK"
        out = {}
        for item in imap.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] or []:
            if isinstance(item, tuple):
                flags = re.search(rb"FLAGS \(([^)]*)\)", item[0])
                date = re.search(rb'INTERNALDATE "([^"]*)"', item[0])
                assert flags and date
                found = set(flags.group(1).decode().split()) - {r"\Recent"}
                out[item[1].decode().strip().removeprefix("Subject: ")] = found, date.group(1).decode().strip()
        return out


def rows(server: Server, *args: str, stdin: str = "", check: bool = True) -> list[dict[str, Any]]:
    return json.loads(server.cli(*args, "--json", stdin=stdin, check=check).stdout)


def test_maildir_in_and_out(server: Server, tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "there")
    for number in range(5):
        message = mailbox.MaildirMessage(f"Subject: m{number}\n\nbody\n")
        message.set_subdir("cur")
        message.set_flags("SF" if number % 2 else "")
        message.set_date(1_700_000_000 + number)
        box.add(message)
    box.add_folder("Work.Old & new").add("Subject: deep\n\n")
    made = rows(server, "import", "maildir", str(tmp_path / "there"), USER)
    assert {(row["mailbox"], row["new"]) for row in made} == {("INBOX", 5), ("Work/Old & new", 1)}
    found = held(server, "INBOX")
    assert found["m1"] == ({r"\Seen", r"\Flagged"}, "14-Nov-2023 22:13:21 +0000") and found["m2"][0] == set()
    assert "deep" in held(server, "Work/Old &- new")
    # again: only the difference, and flags that changed there
    box = mailbox.Maildir(tmp_path / "there")
    key = next(key for key, one in box.items() if one["Subject"] == "m2")
    message = box[key]
    message.set_flags("R")
    box[key] = message
    box.add("Subject: later\n\n")
    made = {row["mailbox"]: row for row in rows(server, "import", "maildir", str(tmp_path / "there"), USER)}
    assert (made["INBOX"]["new"], made["INBOX"]["known"], made["INBOX"]["flags_changed"]) == (1, 5, 1)
    assert held(server, "INBOX")["m2"][0] == {r"\Answered"} and len(held(server, "INBOX")) == 6
    # out: what the library reads is what there was
    made = rows(server, "export", "maildir", USER, str(tmp_path / "out"))
    assert sum(row["messages"] for row in made) == 7
    again = rows(server, "export", "maildir", USER, str(tmp_path / "out"))
    assert sum(row["messages"] for row in again) == 0 and sum(row["there"] for row in again) == 7
    out = mailbox.Maildir(tmp_path / "out", create=False)
    assert {m["Subject"]: m.get_flags() for m in out}["m1"] == "FS" and len(out) == 6
    assert {m["Subject"]: m.get_date() for m in out}["m1"] == 1_700_000_001
    assert [m["Subject"] for m in out.get_folder("Work.Old &- new")] == ["deep"]


def test_mbox_in_and_out(server: Server, tmp_path: Path) -> None:
    box = mailbox.mbox(tmp_path / "there")
    for number in range(4):
        message = mailbox.mboxMessage(f"Subject: b{number}\n\nFrom here\n>From there\nend\n")
        message.set_from("me@x.test", True)
        message.set_flags("RO" if number % 2 else "FO")
        box.add(message)
    box.flush()
    box.close()
    assert rows(server, "import", "mbox", str(tmp_path / "there"), USER, "--into", "Old/box")[0]["new"] == 4
    assert rows(server, "import", "mbox", str(tmp_path / "there"), USER, "--into", "Old/box")[0]["new"] == 0
    found = held(server, "Old/box")
    assert found["b1"][0] == {r"\Seen"} and found["b2"][0] == {r"\Flagged"}
    made = rows(server, "export", "mbox", USER, str(tmp_path / "out"))
    assert {row["mailbox"]: row["messages"] for row in made}["Old/box"] == 4
    out = mailbox.mbox(tmp_path / "out" / "Old" / "box.mbox", create=False)
    assert [m["Subject"] for m in out] == ["b0", "b1", "b2", "b3"] and out[1].get_flags() == "RO"
    assert re.sub(rb"(?m)^>(>*From )", rb"\1", out.get_bytes(1)).endswith(b"From here\nFrom there\nend\n")
    assert server.cli("export", "mbox", USER, str(tmp_path / "out"), check=False).returncode == 1


def test_imap_in(server: Server, tmp_path: Path) -> None:
    far = Server(tmp_path / "far")
    far.start()
    try:
        with session(far) as imap:
            for name in ("Work/2026", "B&APw-cher"):
                imap.create(f'"{name}"')
                for number in range(5):
                    flags = r"(\Seen $Forwarded)" if number % 2 else None
                    date = f'"0{number + 1}-Feb-2026 10:00:00 +0000"'
                    content = f"Subject: {name} {number}\r\n\r\nbody\r\n"
                    assert imap.append(f'"{name}"', flags, date, content.encode())[0] == "OK"
            imap.subscribe('"Work/2026"')
        args = [
            "import",
            "imap",
            "127.0.0.1",
            USER,
            "--port",
            str(far.ports["imap"]),
            "--tls",
            "starttls",
            "--insecure",
        ]
        made = {row["mailbox"]: row for row in rows(server, *args, "--password-stdin", stdin=far.password + "\n")}
        assert made["Work/2026"]["new"] == 5 and made["Bücher"]["new"] == 5 and not made["INBOX"]["problems"]
        found = held(server, "Work/2026")
        assert found["Work/2026 1"] == ({r"\Seen", "$Forwarded"}, "2-Feb-2026 10:00:00 +0000")
        with session(server) as imap:
            assert b"Work/2026" in b" ".join(imap.lsub()[1]) and b"APw-cher" not in b" ".join(imap.lsub()[1])
            imap.select('"Work/2026"')
            imap.store("1", "+FLAGS", r"(\Answered)")  # done here: it stays
        with session(far) as imap:
            imap.select('"Work/2026"')
            imap.store("1", "+FLAGS", r"(\Flagged)")
            imap.append('"Work/2026"', None, None, b"Subject: late\r\n\r\n\r\n")
        made = {row["mailbox"]: row for row in rows(server, *args, "--password-stdin", stdin=far.password + "\n")}
        one = made["Work/2026"]
        assert (one["new"], one["known"], one["flags_changed"]) == (1, 5, 1)
        assert held(server, "Work/2026")["Work/2026 0"][0] == {r"\Answered", r"\Flagged"}
        # many at once, one of them with a wrong password
        server.cli("account", "add", "two@example.test", "--password-stdin", stdin=server.password + "\n")
        table = tmp_path / "accounts.csv"
        table.write_text(
            f"host,user,password,account,port\n127.0.0.1,{USER},{far.password},two@example.test,{far.ports['imap']}\n"
            f"127.0.0.1,{USER},wrong,{USER},{far.ports['imap']}\n"
        )
        args = ["import", "imap", "--csv", str(table), "--tls", "none"]
        found = rows(server, *args, check=False)
        assert [row["account"] for row in found if row["problems"]] == [USER]
        assert len(held(server, "Work/2026", "two@example.test")) == 6
    finally:
        far.stop()


def test_what_cannot_be_read_is_named(server: Server, tmp_path: Path) -> None:
    with session(server) as imap:
        for number in range(3):
            imap.append("INBOX", None, None, f"Subject: {number}\r\n\r\nx\r\n".encode())
    victim = next(path for path in server.maildir().glob("[cn]*/*") if "Subject: 1" in path.read_text())
    victim.unlink()
    victim.mkdir()
    done = server.cli("export", "maildir", USER, str(tmp_path / "out"), check=False)
    assert done.returncode == 1 and "--skip-bad" in done.stderr
    made = rows(server, "export", "maildir", USER, str(tmp_path / "out2"), "--skip-bad", check=False)
    inbox = next(row for row in made if row["mailbox"] == "INBOX")
    assert inbox["messages"] == 2 and len(inbox["bad"]) == 1


@pytest.mark.parametrize(
    "args,said",
    [
        (["import", "maildir", "/nowhere", USER], "is no Maildir"),
        (["import", "mbox", "/nowhere", USER], "is not there"),
        (["import", "mbox", os.devnull, "nobody@example.test"], "there is no account"),
        (["import", "imap", "127.0.0.1", USER, "--port", "1", "--tls", "none", "--password-stdin"], "port 1"),
        (["import", "imap"], "--csv FILE"),
    ],
)
def test_what_is_wrong_is_said(server: Server, args: list[str], said: str) -> None:
    done = server.cli(*args, stdin="x\n", check=False)
    expected = (67,) if "no account" in said else (1, 2)  # README, "Commands"
    assert done.returncode in expected and said in done.stderr
