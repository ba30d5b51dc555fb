"""Damaged files: the server mends what it can by itself, says what it cannot, and a few rounds of `make test-damage`."""

import imaplib
import re
import smtplib
import threading
import time
from pathlib import Path

import pytest

from fastmail.directory.local import LocalDirectory
from fastmail.directory.rows import address_key
from fastmail.durable import salvage
from fastmail.store.local.index import layout
from tests.crash import damage
from tests.support.server import Server


def show(server: Server) -> list[tuple[int, str]]:
    """(UID, subject) of INBOX."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
        imap.login(server.user, server.password)
        imap.select("INBOX", readonly=True)
        found = imap.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
        return [
            (int(re.search(rb"UID (\d+)", row[0]).group(1)), row[1].decode().strip().removeprefix("Subject: "))  # type: ignore[union-attr]
            for row in found
            if isinstance(row, tuple)
        ]


def wipe_root(path: Path, table: str) -> None:
    """Zeros over the page in which a table begins."""
    walk = salvage.Walk(str(path))
    root = salvage.TREE.unpack(dict(walk.tables())[table])[-1]
    walk.close()
    data = bytearray((path / "data.mdb").read_bytes())
    data[root * 4096 : root * 4096 + 4096] = bytes(4096)
    (path / "data.mdb").write_bytes(data)


def wait_for(server: Server, event: str) -> str:
    deadline = time.monotonic() + 30
    while event not in server.log.read_text():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)
    return server.log.read_text()


@pytest.mark.parametrize("content", ["maildir", "segments"])
@pytest.mark.parametrize("table", ["msg", "page", "name"])
def test_a_damaged_index_is_made_anew_while_the_server_runs(tmp_path: Path, content: str, table: str) -> None:
    server = Server(tmp_path / "s", content=content)
    server.start()
    try:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            for number in range(50):
                imap.append("INBOX", "\\Seen", None, b"Subject: %d\r\n\r\nbody\r\n" % number)
            imap.select()
            imap.uid("STORE", "1:9", "+FLAGS", "\\Deleted")
            imap.expunge()
        before = show(server)
        server.stop()
        wipe_root(tmp_path / "s" / "data" / "index-0", table)
        server.start()
        try:
            show(server)
        except (OSError, imaplib.IMAP4.error):
            pass  # the session of a worker that ended
        said = wait_for(server, "index.salvaged")
        assert said.count("worker.died") <= 4 and "Traceback" not in said
        deadline = time.monotonic() + 30
        after: list[tuple[int, str]] = []
        while sorted(subject for _, subject in after) != sorted(subject for _, subject in before):
            assert time.monotonic() < deadline, (after, server.log.read_text())
            try:
                after = show(server)
            except (OSError, imaplib.IMAP4.error):
                time.sleep(0.1)
        if table != "page" or content == "maildir":
            assert after == before, "with the UIDs that they had"
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            assert imap.append("INBOX", None, None, b"Subject: appended\r\n\r\nx\r\n")[0] == "OK"
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as client:
            client.sendmail("a@b.test", [server.user], "Subject: delivered\r\n\r\nx\r\n")
        said_to_be_there = [subject for _, subject in show(server)]
        assert sorted(said_to_be_there) == sorted([*(subject for _, subject in before), "appended", "delivered"])
        server.stop()
        done = server.cli("check", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list((tmp_path / "s" / "data").glob("index-0.damaged-*"))
    finally:
        server.stop()


def test_what_is_sound_looks_sound_while_it_is_written_to(tmp_path: Path) -> None:
    server = Server(tmp_path / "s")
    server.start()
    stop = threading.Event()

    def load() -> None:
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as client:
            while not stop.is_set():
                client.sendmail("a@b.test", [server.user], "Subject: x\r\n\r\nx\r\n")

    threads = [threading.Thread(target=load) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        index = str(tmp_path / "s" / "data" / "index-0")
        rows = 0
        deadline = time.monotonic() + 30
        while rows < 300:
            assert time.monotonic() < deadline
            found = salvage.sound(index, layout.TABLES, 1 << 30)
            assert not found.damage
            rows = found.rows
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.stop()


def test_accounts_that_are_gone_are_not_refused_for_good(tmp_path: Path) -> None:
    """An empty directory would make every sender hear that nobody lives here."""
    server = Server(tmp_path / "s")
    (tmp_path / "s" / "data" / "directory" / "data.mdb").write_bytes(b"")
    with pytest.raises(AssertionError) as refused:
        server.start()
        assert server.process is not None
        assert server.process.wait(30) == 1
        raise AssertionError(server.log.read_text())
    assert "no account can be read" in str(refused.value) and "Traceback" not in str(refused.value)
    done = server.cli("check", "--repair", check=False)
    assert done.returncode == 78 and "no account can be read" in done.stderr


def test_a_damaged_account_harms_no_other(tmp_path: Path) -> None:
    """Its mail and its logins wait; a message for others too goes to them; an import makes it good."""
    server = Server(tmp_path / "s")
    server.start()
    try:
        server.cli("account", "add", "b@example.test", "--password-stdin", stdin="secret\n")
        server.cli("account", "quota", server.user, "--messages", "1000")
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as client:
            client.sendmail("a@b.example", [server.user], "Subject: before\r\n\r\nx\r\n")
        directory = LocalDirectory(str(tmp_path / "s" / "data"))
        key = address_key(server.user)
        with directory._tables.write() as txn:
            row = bytearray(txn.get("accounts", key) or b"")
            row[row.index(b"\xcd\x03\xe8") + 2] ^= 0x40  # the limit
            txn.put("accounts", key, bytes(row))
        directory.add_domain("other.test")  # a change, after which nobody believes what was remembered
        for port in ("lmtp", "smtp"):
            kind = smtplib.LMTP if port == "lmtp" else smtplib.SMTP
            with kind("127.0.0.1", server.ports[port], timeout=20) as client:
                refused = client.sendmail("a@b.example", [server.user, "b@example.test"], "Subject: x\r\n\r\nx\r\n")
                assert {address: code for address, (code, _) in refused.items()} == {server.user: 451}
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20) as imap:
            with pytest.raises(imaplib.IMAP4.error, match="UNAVAILABLE"):
                imap.login(server.user, server.password)
            imap.login("b@example.test", "secret")
            assert imap.select("INBOX")[1] == [b"2"]
        done = server.cli("check", check=False)
        assert done.returncode == 1 and "import --replace" in re.sub(r"\s+", " ", done.stdout)
        done = server.cli("check", "--repair", check=False)
        assert done.returncode == 1 and "import --replace" in re.sub(r"\s+", " ", done.stdout)
        out = tmp_path / "out"
        assert server.cli("export", "maildir", server.user, str(out), check=False).returncode == 75
        server.cli("export", "maildir", server.user, str(out), "--skip-bad")
        assert ["Subject: before" in path.read_text() for path in out.glob("*/*") if path.is_file()] == [True]
        server.cli("account", "import", "--replace", "-", stdin=f"{server.user}:{server.password}\n")
        assert show(server) == [(1, "before")]
        directory.close()
    finally:
        server.stop()


def test_check_does_not_open_what_is_damaged(tmp_path: Path) -> None:
    server = Server(tmp_path / "s")
    server.start()
    server.stop()
    wipe_root(tmp_path / "s" / "data" / "directory", "accounts")
    done = server.cli("check", "--json", check=False)
    assert done.returncode == 1 and "run with --repair" in done.stdout and "nothing else was checked" in done.stderr
    done = server.cli("check", "--repair", "--json", check=False)
    assert "directory" in done.stdout and "kept beside it" in done.stdout


@pytest.mark.harness
@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_random_damage(content: str, capsys: pytest.CaptureFixture[str]) -> None:
    tally = damage.run(4, 7, content)
    assert tally.rounds == 4 and not tally.wrong, capsys.readouterr().out
