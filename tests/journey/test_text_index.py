"""The text index of a running server: filled behind a delivery, and without the text of a message that was expunged."""

import contextlib
import imaplib
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.server import Server


def kept(server: Server) -> bytes:
    """All octets of the text index."""
    out = b""
    for path in Path(server.directory).rglob("*.sqlite*"):
        with contextlib.suppress(FileNotFoundError):
            out += path.read_bytes()
    return out


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.2)


def test_the_text_index_follows_the_mailbox(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
        imap.login(Server.user, Server.password)
        imap.append("INBOX", "", "", b"Subject: one\r\n\r\nelephant\r\n")  # type: ignore[arg-type]
        imap.select("INBOX")
        assert imap.search(None, "TEXT", "elephant")[1] == [b"1"]
        until(lambda: b"elephant" in kept(server))
        imap.append("INBOX", "", "", b"Subject: two\r\n\r\ngiraffe\r\n")  # type: ignore[arg-type]
        until(lambda: b"giraffe" in kept(server))
        imap.store("1", "+FLAGS", "\\Deleted")
        imap.expunge()
        until(lambda: b"elephant" not in kept(server))
        assert imap.search(None, "TEXT", "giraffe")[1] == [b"1"]
        imap.logout()
    finally:
        server.stop()
