"""A user teaches a real server by moving mail; what was taught is there after a restart, and counts in the verdict."""

import imaplib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

SPAM = b"From: a@b.test\nSubject: cheap pills\nMessage-ID: <%d@b.test>\n\nBuy cheap pills online without prescription\n"
HAM = b"From: joe@c.test\nSubject: dinner\nMessage-ID: <%d@c.test>\n\nDinner is ready so come home soon please\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server", "\n[learning]\nenabled = true\nmessages = 3\n")
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_moves_teach(server: Server, tmp_path: Path) -> None:
    imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
    imap.login(server.user, server.password)
    for number in range(3):
        for mailbox, text in (("INBOX", SPAM), ("Junk", HAM)):
            content = (text % number).replace(b"\n", b"\r\n")
            assert imap.append(mailbox, "", "", content)[0] == "OK"
    for mailbox, target in (("INBOX", "Junk"), ("Junk", "INBOX")):
        imap.select(mailbox)
        assert imap.uid("MOVE", "1:3", target)[0] == "OK"
    imap.logout()
    server.stop()  # what was noted is learned by then
    (row,) = json.loads(server.cli("learn", "status", "--json").stdout)
    assert (row["who"], row["spam"], row["ham"], row["enough"]) == (server.user, 3, 3, True)
    server.start()
    for text, name in ((SPAM, "learned.spam"), (HAM, "learned.ham")):
        file = tmp_path / "message"
        file.write_bytes(text % 99)
        (found,) = json.loads(server.cli("verdict", str(file), "--to", server.user, "--json").stdout)
        assert name in [one["name"] for one in found["reasons"]], found
