"""A server whose accounts are in a database that is asked with Dovecot's own queries, over the wire."""

import imaplib
import smtplib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

QUERIES = """
sql = "sqlite:BASE/users.sqlite"
sql_password_query = "SELECT user, password FROM users WHERE user = '%u'"
sql_user_query = "SELECT '/BASE/homes/' || '%n' AS home FROM users WHERE user = '%{user}'"
sql_every = 0.3
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, sqlite3.Connection]]:
    base = sqlite3.connect(tmp_path / "users.sqlite", isolation_level=None)
    base.execute("CREATE TABLE users (user TEXT, password TEXT)")
    base.execute("INSERT INTO users VALUES ('user@example.test', '{PLAIN}one'), ('new@example.test', '{PLAIN}two')")
    server = Server(tmp_path / "server")
    text = server.config.read_text()
    text = text.replace('maildir = "mail/{domain}/{user}"', f'maildir = "{{home}}/Maildir"\nhomes = "{tmp_path}/homes"')
    section = QUERIES.replace("/BASE", str(tmp_path)).replace("BASE", str(tmp_path))
    server.config.write_text(text + f"\n[directory]\n{section}")
    (tmp_path / "homes").mkdir()
    server.start()
    yield server, base
    server.stop()
    base.close()


def login(server: Server, user: str, password: str) -> bool:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        try:
            return imap.login(user, password)[0] == "OK"
        except imaplib.IMAP4.error:
            return False


def test_the_database_is_asked(server: tuple[Server, sqlite3.Connection], tmp_path: Path) -> None:
    running, base = server
    with smtplib.SMTP("127.0.0.1", running.ports["smtp"]) as smtp:
        smtp.ehlo()
        assert smtp.mail("a@example.org")[0] == 250
        assert smtp.rcpt("new+tag@example.test")[0] == 250  # nobody logged in yet
        assert smtp.rcpt("nobody@example.test")[0] == 550
        assert smtp.data(b"Subject: x\r\n\r\nx\r\n")[0] == 250
    assert len(list((tmp_path / "homes" / "new" / "Maildir" / "new").iterdir())) == 1
    assert login(running, "new@example.test", "two") and not login(running, "new@example.test", "one")
    assert not login(running, "' OR '1'='1", "two")
    base.execute("ALTER TABLE users RENAME TO gone")
    with smtplib.LMTP("127.0.0.1", running.ports["lmtp"]) as lmtp:
        lmtp.ehlo()
        lmtp.mail("a@example.org")
        assert lmtp.rcpt("late@example.test")[0] == 451  # nobody can say
        assert lmtp.rcpt("new@example.test")[0] == 250
    assert login(running, "new@example.test", "two")
    imap = imaplib.IMAP4("127.0.0.1", running.ports["imap"])
    with imap, pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
        imap.login("late@example.test", "x")
