"""Accounts of a passwd-file, in a running server."""

import imaplib
import os
import time
from pathlib import Path

import pytest

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
        deadline = time.monotonic() + 20
        while "directory.unreadable" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert can(server, "anna@one.test", "second")
    finally:
        server.stop()


def test_who_may_not_log_in_cannot(tmp_path: Path) -> None:
    """Conditions of the file's extra fields, as Dovecot has them."""
    users = tmp_path / "users"
    users.write_text(
        "anna@one.test:{PLAIN}a::::::allow_nets=127.0.0.0/8\n"
        "bert@one.test:{PLAIN}b::::::allow_nets=192.0.2.0/24\n"
        "carl@one.test:{PLAIN}c::::::nologin reason=Moved-away\n"
        "dora@one.test:{PLAIN}d::::::proxy host=192.0.2.1\n"
    )
    server = Server(tmp_path / "own", f'\n[directory]\npasswd_file = "{users}"\n')
    server.start()
    try:
        until(server, "anna@one.test", "a", True)
        assert not any(can(server, f"{name}@one.test", name[0]) for name in ("bert", "carl", "dora"))
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            with pytest.raises(imaplib.IMAP4.error, match="Moved-away"):
                imap.login("carl@one.test", "c")
            with pytest.raises(imaplib.IMAP4.error, match="login failed"):
                imap.login("carl@one.test", "x")
        users.write_text("bert@one.test:{PLAIN}b\n")
        until(server, "bert@one.test", "b", True)
    finally:
        server.stop()
