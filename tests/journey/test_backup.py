"""Backups beside a running server, and everything that can be brought back from them."""

import imaplib
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Server

USER, OTHER = Server.user, "other@example.test"


@pytest.fixture(params=["maildir", "segments"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    mine = Server(tmp_path / "own", content=request.param)
    mine.cli("account", "add", OTHER, "--password-stdin", stdin=mine.password + "\n")
    mine.cli("alias", "add", "team@example.test", USER, OTHER)
    mine.start()
    yield mine
    if mine.process is not None:
        mine.stop()


def fill(server: Server, user: str, count: int = 6) -> None:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(user, server.password)
        for name in ("INBOX", "Work/2026", "B&APw-cher"):
            imap.create(f'"{name}"')
            for number in range(count):
                flags = [None, r"(\Seen todo)", r"(\Flagged $Forwarded)"][number % 3]
                content = f"Subject: {user} {name} {number}\r\n\r\nbody {number}\r\n"
                assert imap.append(f'"{name}"', flags, '"11-Feb-2026 10:00:00 +0000"', content.encode())[0] == "OK"
            imap.select(f'"{name}"')
            imap.store("2", "+FLAGS", r"(\Deleted)")
            imap.store(str(count), "+FLAGS", r"(\Deleted)")  # UIDNEXT must not go back
            imap.expunge()
        imap.subscribe('"Work/2026"')
        imap.xatom("SETMETADATA", "INBOX", '(/private/comment "noted")')


def look(server: Server, user: str) -> dict[str, Any]:
    """All that a client sees."""
    out: dict[str, Any] = {}
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(user, server.password)
        out["lsub"] = sorted(imap.lsub()[1])
        out["list"] = sorted(imap.list()[1])
        for line in imap.list()[1]:
            name = re.sub(rb'^\([^)]*\) "." "?(.*?)"?$', rb"\1", line).decode()
            imap.select(f'"{name}"', readonly=True)
            head = [imap.response(code)[1][0] for code in ("UIDVALIDITY", "UIDNEXT")]
            rows = imap.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
            out[name] = (
                head,
                [(re.sub(rb" ?\\Recent ?", b"", row[0]), row[1]) for row in rows or [] if isinstance(row, tuple)],
            )
        imap.xatom("GETMETADATA", "INBOX", "/private/comment")
        out["note"] = imap.response("METADATA")[1]
    return out


def rows(server: Server, *args: str, check: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.cli(*args, "--json", check=check).stdout)
    return found


@pytest.mark.tour
def test_everything_comes_back_as_it_was(server: Server, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    fill(server, USER)
    first = {row["account"]: row for row in rows(server, "backup", vault)}
    assert first[USER]["messages"] == first[USER]["new"] == 12 and first[OTHER]["messages"] == 0
    fill(server, OTHER, 4)
    second = {row["account"]: row for row in rows(server, "backup", vault)}
    assert second[USER]["new"] == 0 and second[USER]["messages"] == 12 and second[OTHER]["new"] == 6
    assert not any(row["problems"] for row in second.values())
    assert rows(server, "backup", vault, "--verify") == []
    before = {user: look(server, user) for user in (USER, OTHER)}
    assert before[USER]["note"] != [None]
    server.stop()
    # another machine: nothing but the backup and a configuration
    fresh = Server(tmp_path / "fresh", content="maildir")
    fresh.cli("account", "remove", USER)
    made = rows(fresh, "restore", vault)
    assert sum(row["messages"] for row in made) == 18 and not any(row["problems"] for row in made)
    fresh.start()
    try:
        assert {user: look(fresh, user) for user in (USER, OTHER)} == before
        assert "team@example.test" in fresh.cli("alias", "list").stdout
        done = fresh.cli("restore", vault, "--account", USER, check=False)
        assert done.returncode == 1 and "has mail" in done.stderr
    finally:
        fresh.stop()


def test_a_mailbox_or_a_message_comes_back(server: Server, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    fill(server, USER)
    rows(server, "backup", vault)
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(USER, server.password)
        imap.delete('"Work/2026"')
    made = rows(server, "restore", vault, "--account", USER, "--mailbox", "Work/2026")
    assert (made[0]["mailbox"], made[0]["messages"]) == ("Restored/Work/2026", 4)
    made = rows(
        server, "restore", vault, "--account", USER, "--mailbox", "INBOX", "--message", "3", "--into", "Work/again"
    )
    assert made[0]["messages"] == 1
    found = look(server, USER)
    assert len(found["Restored/Work/2026"][1]) == 4 and b"$Forwarded" in found["Work/again"][1][0][0]
    assert b"INBOX 2" in found["Work/again"][1][0][1]
    for args, said in (
        (["--account", USER, "--mailbox", "None"], "no mailbox None"),
        (["--account", USER, "--mailbox", "INBOX", "--message", "999"], "no message 999"),
        (["--account", "no@example.test", "--mailbox", "INBOX"], "there is no account"),
        (["--run", "1999"], "has no backup 1999"),
        (["--mailbox", "INBOX"], "needs --account"),
    ):
        done = server.cli("restore", vault, *args, check=False)
        expected = (67,) if "no account" in said else (1, 2)  # README, "Commands"
        assert done.returncode in expected and said in done.stderr


def test_a_backup_while_mail_comes_and_goes(server: Server, tmp_path: Path) -> None:
    vault = str(tmp_path / "vault")
    acknowledged: list[bytes] = []
    stop = threading.Event()

    def deliver() -> None:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(USER, server.password)
            imap.select()
            number = 0
            while not stop.is_set() and number < 2000:
                content = b"Subject: %d\r\n\r\nbody\r\n" % number
                imap.append("INBOX", None, None, content)
                acknowledged.append(content)
                number += 1
                if number % 7 == 0:
                    imap.store("1", "+FLAGS", r"(\Seen)")

    worker = threading.Thread(target=deliver)
    worker.start()
    while len(acknowledged) < 30:
        assert worker.is_alive()
    seen = 0
    for _ in range(3):
        before = len(acknowledged)
        made = {row["account"]: row for row in rows(server, "backup", vault)}
        assert made[USER]["messages"] >= before and not made[USER]["problems"]
        seen = made[USER]["messages"]
    stop.set()
    worker.join()
    assert rows(server, "backup", vault, "--verify") == [] and seen >= 30
    assert len(rows(server, "backup", vault, "--list")) == 3


def test_damage_is_found_and_old_backups_go(server: Server, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    fill(server, USER)
    rows(server, "backup", str(vault))
    objects = [path for path in (vault / "objects").rglob("*") if path.is_file()]
    assert len(objects) == 12
    objects[0].write_bytes(b"damaged")
    os.unlink(objects[1])
    found = rows(server, "backup", str(vault), "--verify", check=False)
    assert len(found) == 2 and "damaged" in str(found) and "cannot be read" in str(found)
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(USER, server.password)
        for name in ("INBOX", "Work/2026"):
            imap.select(f'"{name}"')
            imap.store("1:*", "+FLAGS", r"(\Deleted)")
            imap.expunge()
    rows(server, "backup", str(vault), "--keep", "1")
    assert len(rows(server, "backup", str(vault), "--list")) == 1
    left = [path for path in (vault / "objects").rglob("*") if path.is_file()]
    assert 2 <= len(left) <= 4
