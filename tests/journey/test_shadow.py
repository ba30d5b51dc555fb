"""`migrate shadow` only reads: whatever its clients ask for, not a name, an octet or a time under the Maildirs changes."""

import contextlib
import imaplib
import os
import poplib
from pathlib import Path

from fastmail.config.load import load
from fastmail.migrate import shadow
from tests.support.server import Server


def everything(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """(mode, ns of the last change, content) of every name below a directory."""
    out = {}
    for place, directories, files in os.walk(root):
        for name in [*directories, *files, "."]:
            path = Path(place, name)
            status = path.lstat()
            out[str(path)] = status.st_mode, status.st_mtime_ns, path.read_bytes() if path.is_file() else b""
    return out


def test_nothing_under_a_shadow_changes(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    root = server.maildir()
    for box in ("", ".Work"):
        for part in ("cur", "new", "tmp"):
            (root / box / part).mkdir(parents=True)
    for n in range(3):
        (root / "new" / f"100{n}.a{n}.b").write_text(f"Subject: new {n}\n\nbody\n")
        (root / "cur" / f"200{n}.a{n}.b:2,S").write_text(f"Subject: seen {n}\n\nbody\n")
        (root / ".Work" / "cur" / f"300{n}.a{n}.b:2,").write_text(f"Subject: work {n}\n\nbody\n")
    before = everything(root)
    with shadow.running(load(str(server.config)), [(server.user, server.password)], {}) as ports:
        with imaplib.IMAP4("127.0.0.1", ports["imap"], timeout=30) as imap:
            imap.login(server.user, server.password)
            assert imap.select("INBOX", readonly=True)[1] == [b"6"]
            commands = [
                lambda: imap.fetch("1:*", "(BODY[])"),
                lambda: imap.store("1", "+FLAGS", r"(\Deleted \Seen)"),
                lambda: imap.expunge(),
                lambda: imap.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n"),
                lambda: imap.copy("1", "Work"),
                lambda: imap._simple_command("MOVE", "1", "Work"),
                lambda: imap.create("Fresh"),
                lambda: imap.rename("Work", "Play"),
                lambda: imap.delete("Work"),
                lambda: imap.subscribe("Work"),
                lambda: imap.close(),
            ]
            for command in commands:
                with contextlib.suppress(imaplib.IMAP4.error):
                    command()
        with contextlib.suppress(poplib.error_proto):
            pop = poplib.POP3("127.0.0.1", ports["pop3"], timeout=30)
            pop.user(server.user)
            pop.pass_(server.password)
            assert pop.stat()[0] == 6
            pop.retr(1)
            pop.dele(1)
            pop.quit()
    assert everything(root) == before
