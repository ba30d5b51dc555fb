"""A shadow of the server only reads: whatever a client asks of it, the Maildirs stay as they are."""

import imaplib
import poplib
from contextlib import suppress
from pathlib import Path

import pytest

from fastmail.config.load import load
from fastmail.migrate import shadow
from tests.journey.test_dovecot import tree
from tests.support.server import Server


@pytest.mark.parametrize("known", [True, False], ids=["ours", "somebody's"])
def test_a_shadow_writes_nothing(tmp_path: Path, known: bool) -> None:
    server = Server(tmp_path / "own")
    server.start()
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        imap.create("Work")
        for name in ("INBOX", "Work"):
            for number in range(3):
                imap.append(name, r"(\Seen)" if number else None, None, f"Subject: {number}\r\n\r\nx\r\n".encode())
    server.stop()
    (root,) = {path.parent for path in (tmp_path / "own").rglob("cur") if not path.parent.name.startswith(".")}
    (root / "new" / "1700000000.M1P1.new").write_text("Subject: new\n\n")  # a session that writes would move it to cur/
    if not known:
        (root / ".Other").mkdir()  # no tmp/ and new/ in it
        (root / ".Other" / "cur").mkdir()
    before = tree(root), sorted(str(path) for path in root.rglob("*"))
    with shadow.running(load(str(server.config)), [(server.user, server.password)], {}) as ports:
        with imaplib.IMAP4("127.0.0.1", ports["imap"]) as imap:
            imap.login(server.user, server.password)
            assert imap.select("INBOX", readonly=True)[1] == [b"4"]
            imap._simple_command("SELECT", "INBOX")  # type: ignore[attr-defined]
            assert imap.fetch("1:*", "(FLAGS BODY[])")[0] == "OK"  # would set \\Seen
            for command in (
                lambda: imap.store("1", "+FLAGS", r"(\Deleted)"),
                lambda: imap.expunge(),
                lambda: imap.copy("1", "Work"),
                lambda: imap.append("INBOX", None, None, b"Subject: x\r\n\r\n"),
                lambda: imap.create("More"),
                lambda: imap.rename("Work", "Elsewhere"),
                lambda: imap.delete("Work"),
                lambda: imap.subscribe("Work"),
            ):
                with suppress(imaplib.IMAP4.error):
                    command()
            imap.close()
        client = poplib.POP3("127.0.0.1", ports["pop3"])
        client.user(server.user)
        client.pass_(server.password)
        with suppress(poplib.error_proto):
            client.dele(1)
        with suppress(poplib.error_proto):
            client.quit()
    assert (tree(root), sorted(str(path) for path in root.rglob("*"))) == before
