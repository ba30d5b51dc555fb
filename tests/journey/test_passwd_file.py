"""Accounts of a passwd-file, in a running server."""

import imaplib
import os
import time
from pathlib import Path

from tests.support.server import Server


def can(server: Server, user: str, password: str) -> bool:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        try:
            return bool(imap.login(user, password)[0] == "OK")
        except imaplib.IMAP4.error:
            return False


def until(server: Server, user: str, password: str, wanted: bool) -> None:
    deadline = time.monotonic() + 8
    while can(server, user, password) != wanted:
        assert time.monotonic() < deadline, (user, wanted)
        time.sleep(0.2)


def test_what_the_file_says_holds_within_seconds(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("anna@one.test:{PLAIN}first\n")
    server = Server(tmp_path / "own", f'\n[directory]\npasswd_file = "{users}"\n')
    server.start()
    try:
        until(server, "anna@one.test", "first", True)
        fresh = tmp_path / "fresh"
        fresh.write_text("anna@one.test:{PLAIN}second\nbert@two.test:{PLAIN}b\n")
        os.rename(fresh, users)
        until(server, "anna@one.test", "second", True)
        assert not can(server, "anna@one.test", "first") and can(server, "bert@two.test", "b")
        users.write_text("anna@one.test:{PLAIN}second\n")
        until(server, "bert@two.test", "b", False)
        users.unlink()
        time.sleep(2.5)
        assert can(server, "anna@one.test", "second")
        assert "directory.unreadable" in server.log.read_text()
    finally:
        server.stop()
