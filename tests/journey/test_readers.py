"""Programs that read whole accounts, which find there exactly what was put in."""

import contextlib
import email
import email.message
import imaplib
import mailbox
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.model.mailbox_name import encode_utf7
from tests.support import dovecot
from tests.support.server import Server

FOLDERS = ["INBOX", "Work/2026/Q4", "Entwürfe & Pläne", "empty"]
FLAGS = [r"()", r"(\Seen)", r"(\Seen \Answered)", r"(\Flagged $Forwarded)", r"(\Draft \Seen todo)"]
Found = dict[bytes, frozenset[str]]  # body: flags


def message(folder: str, number: int) -> bytes:
    body = f"{folder} {number}\r\n" + ("line with 8-bit \u00e9\r\n" * number)
    head = (
        f"From: a@x.test\r\nSubject: =?utf-8?q?n=C3=BA_{number}?=\r\nMessage-ID: <{number}.{abs(hash(folder))}@x>\r\n"
    )
    return (head + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body).encode()


class Account:
    """What was put into it: {folder: {content: flags}}."""

    def __init__(self, server: Server, address: str) -> None:
        self.server, self.address = server, address
        server.cli("account", "add", address, "--password-stdin", stdin=server.password + "\n")
        self.held: dict[str, Found] = {}
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(address, server.password)
            for folder in FOLDERS:
                imap.create(f'"{utf7(folder)}"')
                imap.subscribe(f'"{utf7(folder)}"')
                self.held[folder] = {}
                for number in range(12 if folder != "empty" else 0):
                    content, flags = message(folder, number), FLAGS[number % len(FLAGS)]
                    assert imap.append(f'"{utf7(folder)}"', flags, '"01-Feb-2026 10:00:00 +0000"', content)[0] == "OK"
                    self.held[folder][content] = frozenset(flags.strip("()").split())


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    server = Server(tmp_path_factory.mktemp("readers"))
    server.start()
    yield Account(server, "whole@example.test")
    server.stop()


def test_imapclient(account: Account) -> None:
    imapclient = pytest.importorskip("imapclient", reason="imapclient is not installed: pip install imapclient")
    with imapclient.IMAPClient("127.0.0.1", account.server.ports["imap"], ssl=False) as client:
        client.login(account.address, account.server.password)
        listed = {name for _, _, name in client.list_folders()}
        assert set(FOLDERS) <= listed
        assert client.namespace().personal[0][0] == ""
        for folder, held in account.held.items():
            found = client.select_folder(folder)
            assert found[b"EXISTS"] == len(held)
            uids = client.search("ALL")
            rows = client.fetch(
                uids, ["FLAGS", "BODY.PEEK[]", "ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "RFC822.SIZE"]
            )
            got = {}
            for row in rows.values():
                assert row[b"RFC822.SIZE"] == len(row[b"BODY[]"])
                assert row[b"ENVELOPE"].subject.startswith(b"=?utf-8?q?n")
                assert not row[b"BODYSTRUCTURE"].is_multipart
                got[row[b"BODY[]"]] = frozenset(flag.decode() for flag in row[b"FLAGS"]) - {r"\Recent"}
            assert got == held
        client.select_folder("Work/2026/Q4")
        some = client.search(["SUBJECT", "nú 3"], "UTF-8")
        assert len(some) == 1
        client.add_flags(some, [b"\\Deleted"])
        assert b"\\Deleted" in client.get_flags(some)[some[0]]
        client.remove_flags(some, [b"\\Deleted"])
        client.idle()
        client.idle_check(timeout=0.1)
        client.idle_done()
        assert client.thread()
        assert client.get_quota_root("INBOX")
        client.copy(some, "empty")
        client.select_folder("empty")
        client.delete_messages(client.search())
        client.expunge()
        assert client.folder_status("empty", ["MESSAGES"])[b"MESSAGES"] == 0


@pytest.mark.peer("offlineimap")
def test_offlineimap(account: Account, tmp_path: Path) -> None:
    config = tmp_path / "rc"
    config.write_text(
        f"[general]\naccounts = a\nmetadata = {tmp_path}/meta\nui = basic\n[Account a]\nlocalrepository = l\n"
        f"remoterepository = r\n[Repository l]\ntype = Maildir\nlocalfolders = {tmp_path}/mail\nsep = /\n"
        f"utf8foldernames = yes\n[Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nssl = no\nstarttls = no\n"
        f"auth_mechanisms = PLAIN, LOGIN\n"
        f"remoteport = {account.server.ports['imap']}\nremoteuser = {account.address}\n"
        f"remotepass = {account.server.password}\nreadonly = yes\nsep = /\n"
    )
    done = subprocess.run(["offlineimap", "-o", "-c", config], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    for folder, held in account.held.items():
        places = [tmp_path / "mail" / name for name in (folder, utf7(folder))]
        box = mailbox.Maildir(next(place for place in places if place.exists()), create=False)
        assert {essence(one) for one in box} == {essence(email.message_from_bytes(content)) for content in held}


def essence(one: email.message.Message) -> tuple[str, bytes]:
    """What is left of a message when offlineimap has written it its own way: it codes 8-bit bodies anew."""
    body = one.get_payload(decode=True)
    assert isinstance(body, bytes)
    return one["Message-ID"], body.replace(b"\r\n", b"\n")


@pytest.mark.peer("neomutt")
def test_neomutt(account: Account, tmp_path: Path) -> None:
    """By TLS, which is GnuTLS there: everything is copied, one message read, one flagged, one removed."""
    own = Account(account.server, "mutt@example.test")
    port = account.server.ports["imaps"]
    keys = (
        "<tag-pattern>~A<enter><tag-prefix><copy-message>=copied<enter><untag-pattern>~A<enter>"
        "<first-entry><display-message><exit><set-flag>!<next-entry><delete-message><sync-mailbox><quit>"
    )
    config = tmp_path / "rc"
    config.write_text(
        f'set folder="imaps://127.0.0.1:{port}/"\nset spoolfile="imaps://127.0.0.1:{port}/INBOX"\n'
        f'set imap_user="{own.address}"\nset imap_pass="{account.server.password}"\n'
        f'set certificate_file="{account.server.directory}/cert.pem"\nset ssl_verify_host=no\n'
        "set quit=yes\nset delete=yes\nset confirmappend=no\nset confirmcreate=no\nset move=no\nset sleep_time=0\n"
        f'set wait_key=no\nset resolve=no\nset sort=mailbox-order\nset record=""\npush "{keys}"\n'
    )
    terminal, ours = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "HOME": str(tmp_path), "LINES": "24", "COLUMNS": "80"}
    process = subprocess.Popen(["neomutt", "-n", "-F", config], stdin=ours, stdout=ours, stderr=ours, env=environment)
    os.close(ours)
    screen = b""
    try:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                with contextlib.suppress(OSError):  # it closed its end
                    screen += os.read(terminal, 65536)
        assert process.poll() == 0, screen[-2000:]
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    with imaplib.IMAP4("127.0.0.1", account.server.ports["imap"]) as imap:
        imap.login(own.address, account.server.password)
        assert imap.select("copied")[1] == [b"12"]
        got = [row[1] for row in imap.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(row, tuple)]
        assert sorted(got) == sorted(own.held["INBOX"])
        assert imap.select("INBOX")[1] == [b"11"]
        first, *_ = imap.fetch("1", "(FLAGS)")[1]
        assert isinstance(first, bytes) and b"\\Flagged" in first and b"\\Seen" in first
        left = {row[1] for row in imap.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(row, tuple)}
        assert left == own.held["INBOX"].keys() - {message("INBOX", 1)}


def utf7(name: str) -> str:
    return encode_utf7(name).decode()


@pytest.mark.peer("dovecot", "doveadm")
@pytest.mark.root
def test_dovecot_copies_the_whole_account(
    account: Account, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    dovecot.needed()
    base = tmp_path_factory.mktemp("doveadm")
    extra = (
        f"imapc_host = 127.0.0.1\nimapc_port = {account.server.ports['imap']}\nimapc_user = {account.address}\n"
        f"imapc_password = {account.server.password}\nimapc_features = rfc822.size fetch-headers\n"
        "mail_prefetch_count = 20\n"
    )
    theirs = dovecot.Dovecot(base / "dovecot", base / "mail", extra)
    (base / "mail" / "copy@example.test").mkdir()
    theirs.start()
    request.addfinalizer(theirs.stop)
    theirs.doveadm("backup", "-R", "-u", "copy@example.test", "imapc:")
    with imaplib.IMAP4("127.0.0.1", account.server.ports["imap"]) as imap:
        imap.login(account.address, account.server.password)
        for folder, held in account.held.items():
            imap.select(f'"{utf7(folder)}"', readonly=True)
            uids = imap.uid("SEARCH", "ALL")[1][0].decode().split()
            validity = imap.response("UIDVALIDITY")[1][0].decode()
            shown = theirs.doveadm(
                "-f", "tab", "fetch", "-u", "copy@example.test", "uid flags date.received", "mailbox", folder
            )
            rows = [line.split("\t") for line in shown.splitlines()[1:]]
            assert [row[0] for row in rows] == uids
            flags = sorted(sorted(set(row[1].split()) - {r"\Recent"}) for row in rows)
            assert flags == sorted(sorted(one) for one in held.values())
            assert all(row[2].startswith("2026-02-01") for row in rows)
            status = theirs.doveadm(
                "-f", "tab", "mailbox", "status", "-u", "copy@example.test", "uidvalidity messages", folder
            )
            assert set(status.splitlines()[1].split("\t")[1:]) == {validity, str(len(held))}
            texts = [
                theirs.doveadm("fetch", "-u", "copy@example.test", "text", "mailbox", folder, "uid", uid)
                for uid in uids
            ]
            got = {text.removeprefix("text:\n").removesuffix("\n\n").replace("\n", "\r\n").encode() for text in texts}
            assert {one.strip() for one in got} == {one.strip() for one in held}
