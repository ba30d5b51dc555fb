"""Whole journeys over real sockets with clients that nobody here wrote."""

import email
import imaplib
import json
import poplib
import smtplib
import subprocess
import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from fastmail.bench.load import unverified
from tests.support.server import Server


def account(server: Server, name: str) -> str:
    address = f"{name}@example.test"
    if server.cli("account", "add", address, "--password-stdin", stdin=server.password + "\n", check=False).returncode:
        raise AssertionError("account could not be added")
    return address


def letter(to: str, subject: str, body: str = "hello\n.\n..two dots\n") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "sender@elsewhere.example"
    message["To"] = to
    message["Subject"] = subject
    message.set_content(body)
    return message


def imap_login(server: Server, address: str) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
    client.login(address, server.password)
    return client


@pytest.mark.tour
def test_smtp_in_imap_and_pop3_out(server: Server) -> None:
    address = account(server, "round")
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        smtp.starttls(context=unverified())
        smtp.send_message(letter(address, "Grüße"))
    with imap_login(server, address) as imap:
        kind, data = imap.select("INBOX")
        assert (kind, data) == ("OK", [b"1"])
        _, found = imap.search(None, "SUBJECT", '"=?"')
        _, parts = imap.fetch("1", "(RFC822 FLAGS)")
        text = parts[0][1]
        _, found = imap.uid("SEARCH", "CHARSET", "UTF-8", "FROM", "sender")
        assert found == [b"1"]
    message = email.message_from_bytes(text, policy=email.policy.default)
    assert message["Subject"] == "Grüße"
    assert message["Delivered-To"] == address and message["Return-Path"] == "<sender@elsewhere.example>"
    assert message.get_content().replace("\r\n", "\n") == "hello\n.\n..two dots\n"
    assert "with ESMTPS" in message["Received"]
    pop = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=20)
    pop.stls(context=unverified())
    pop.user(address)
    pop.pass_(server.password)
    assert pop.stat() == (1, len(text))
    assert b"\r\n".join(pop.retr(1)[1]) + b"\r\n" == text
    pop.dele(1)
    pop.quit()
    pop = poplib.POP3_SSL("127.0.0.1", server.ports["pop3s"], context=unverified(), timeout=20)
    pop.user(address)
    pop.pass_(server.password)
    assert pop.stat() == (0, 0)
    pop.quit()


@pytest.mark.tour
def test_submission_over_tls(server: Server) -> None:
    address = account(server, "author")
    with smtplib.SMTP_SSL("127.0.0.1", server.ports["submissions"], context=unverified(), timeout=20) as smtp:
        smtp.login(address, server.password)
        with pytest.raises(smtplib.SMTPSenderRefused):
            smtp.sendmail("someone@else.example", [address], b"Subject: no\r\n\r\n")
        smtp.sendmail(address, [address], b"Subject: yes\r\n\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail(address, ["nobody@example.test"], b"Subject: no\r\n\r\n")


def test_many_recipients_aliases_and_details(server: Server) -> None:
    one, two = account(server, "one"), account(server, "two")
    server.cli("alias", "add", "both@example.test", one, two)
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        refused = smtp.sendmail(
            "", ["both@example.test", "one+x@example.test", "nobody@example.test"], b"Subject: a\r\n\r\n"
        )
        assert list(refused) == ["nobody@example.test"]
    for address in (one, two):
        with imap_login(server, address) as imap:
            assert imap.select()[1] == [b"1"]


@pytest.mark.tour
def test_lmtp_answers_each_recipient(server: Server) -> None:
    address = account(server, "lmtp")
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as lmtp:
        assert lmtp.sendmail("a@b.example", [address], b"Subject: l\r\n\r\n") == {}


def test_a_large_message_goes_through_whole(server: Server) -> None:
    address = account(server, "large")
    body = b"Subject: big\r\n\r\n" + b"".join(b"%07d " % n * 8 + b"\r\n" for n in range(200_000))
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=60) as smtp:
        smtp.sendmail("a@b.example", [address], body)
    with imap_login(server, address) as imap:
        imap.select()
        text = imap.fetch("1", "(BODY.PEEK[])")[1][0][1]
        assert text.endswith(body)
        part = imap.fetch("1", f"(BODY.PEEK[]<{len(text) - 10}.100>)")[1][0][1]
        assert part == text[-10:]
        imap.append("Archive", r"(\Seen)", imaplib.Time2Internaldate(1_000_000_000), text)
        imap.select("Archive")
        fetched = imap.fetch("1", "(INTERNALDATE BODY.PEEK[])")[1][0]
        assert fetched[1] == text and b"09-Sep-2001 01:46:40 +0000" in fetched[0].replace(b'" 9', b'"09')


@pytest.mark.tour
def test_idle_hears_of_a_delivery_in_another_worker(server: Server) -> None:
    address = account(server, "idle")
    clients = [imap_login(server, address) for _ in range(6)]
    for client in clients:
        client.select()
        client.send(b"x IDLE\r\n")
        assert client.readline().startswith(b"+ ")
    started = time.monotonic()
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as smtp:
        smtp.sendmail("a@b.example", [address], b"Subject: x\r\n\r\n")
    for client in clients:
        assert client.readline() == b"* 1 EXISTS\r\n"
        client.readline()
        client.send(b"DONE\r\n")
        assert client.readline().startswith(b"x OK")
        client.shutdown()
    assert time.monotonic() - started < 5


@pytest.mark.tour
def test_sessions_in_both_workers_see_each_other(server: Server) -> None:
    address = account(server, "pair")
    clients = [imap_login(server, address) for _ in range(6)]
    for n in range(5):
        clients[0].append("INBOX", None, None, b"Subject: %d\r\n\r\n" % n)
    for client in clients:
        client.select()
    clients[0].store("2,4", "+FLAGS", r"(\Deleted $Tag)")
    clients[0].expunge()
    clients[1].store("1", "+FLAGS", r"\Flagged")
    for client in clients:
        client.noop()
        client.response("FETCH")
        assert client.fetch("1:*", "(UID FLAGS)")[1][-3].startswith(b"1 (UID 1 FLAGS (\\Flagged")
        assert client.uid("SEARCH", "ALL")[1] == [b"1 3 5"]
        client.logout()


@pytest.mark.tour
def test_plaintext_login_needs_tls_from_elsewhere(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    server.config.write_text(
        server.config.read_text().replace('plaintext_without_tls = "loopback"', "plaintext_without_tls = false")
    )
    server.start()
    try:
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
        assert "LOGINDISABLED" in client.capabilities
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            client.login(server.user, server.password)
        client.starttls(unverified())
        client.login(server.user, server.password)
        client.logout()
        pop = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=20)
        with pytest.raises(poplib.error_proto, match="STLS"):
            pop.user(server.user)
        pop.close()
    finally:
        server.stop()


@pytest.mark.tour
def test_a_new_password_counts_at_once(server: Server) -> None:
    address = account(server, "passwd")
    imap_login(server, address).logout()
    server.cli("account", "passwd", address, "--password-stdin", stdin="another\n")
    with pytest.raises(imaplib.IMAP4.error):
        imap_login(server, address)
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
    client.login(address, "another")
    client.logout()
    server.cli("account", "remove", address)
    with pytest.raises(imaplib.IMAP4.error):
        imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20).login(address, "another")


@pytest.mark.peer("curl")
@pytest.mark.parametrize("protocol", ["imap", "imaps", "pop3", "pop3s", "smtp"])
def test_curl(server: Server, protocol: str, tmp_path: Path) -> None:
    address = account(server, f"curl-{protocol}")
    mail = tmp_path / "mail"
    mail.write_bytes(b"Subject: by curl\r\n\r\n.dot\r\n")
    host = f"127.0.0.1:{server.ports['smtp']}"
    subprocess.run(
        [
            "curl",
            "-sS",
            "--ssl-reqd",
            "-k",
            f"smtp://{host}",
            "--mail-from",
            "a@b.example",
            "--mail-rcpt",
            address,
            "-T",
            mail,
        ],
        check=True,
        timeout=30,
    )
    if protocol == "smtp":
        return
    url = f"{protocol}://127.0.0.1:{server.ports[protocol]}" + ("/INBOX;UID=1" if "imap" in protocol else "/1")
    done = subprocess.run(
        ["curl", "-sS", "-k", "--user", f"{address}:{server.password}", url],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert b"Subject: by curl" in done.stdout and b"\n.dot" in done.stdout


@pytest.mark.peer("swaks")
def test_swaks(server: Server) -> None:
    address = account(server, "swaks")
    where = f"127.0.0.1:{server.ports['submission']}"
    subprocess.run(
        [
            "swaks",
            "--server",
            where,
            "--auth",
            "LOGIN",
            "--auth-user",
            address,
            "--auth-password",
            server.password,
            "--from",
            address,
            "--to",
            address,
            "--silent",
            "2",
        ],
        check=True,
        timeout=30,
    )
    with imap_login(server, address) as imap:
        assert imap.select()[1] == [b"1"]


@pytest.mark.peer("mbsync")
def test_mbsync_reads_a_whole_account(server: Server, tmp_path: Path) -> None:
    address = account(server, "mbsync")
    with imap_login(server, address) as imap:
        imap.create("Work/2026")
        for box in ("INBOX", "Work/2026"):
            for n in range(20):
                imap.append(box, r"(\Flagged)" if n % 2 else None, None, b"Subject: %d\r\n\r\nbody\r\n" % n)
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f'IMAPStore far\nHost 127.0.0.1\nPort {server.ports["imap"]}\nUser {address}\nPass "{server.password}"\n'
        f"SSLType None\nAuthMechs LOGIN\n\nMaildirStore near\nSubFolders Verbatim\nPath {tmp_path}/m/\n"
        f"Inbox {tmp_path}/m/INBOX\n\nChannel c\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nSync Pull\nSyncState *\n"
    )
    (tmp_path / "m").mkdir()
    done = subprocess.run(["mbsync", "-c", config, "c"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    files = list((tmp_path / "m" / "INBOX").glob("*/*S=*")) + list((tmp_path / "m" / "INBOX").glob("[cn]*/*"))
    assert len(set(files)) == 20
    assert len(list((tmp_path / "m" / "Work" / "2026").glob("[cn]*/*"))) == 20


@pytest.mark.tour
def test_postmaster_needs_no_domain_and_lmtp_a_socket_file(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=2)
    path = tmp_path / "lmtp.sock"
    text = server.config.read_text().replace("lmtp = [", f'lmtp = ["unix:{path}", ')
    server.config.write_text(text)
    server.start()
    try:
        with smtplib.LMTP(str(path), timeout=10) as lmtp:
            assert lmtp.sendmail("a@b.example", [server.user], b"Subject: l\r\n\r\n") == {}
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=10) as smtp:
            smtp.ehlo()
            smtp.mail("")
            assert smtp.docmd("RCPT", "TO:<Postmaster>")[0] == 250
        with imap_login(server, server.user) as imap:
            assert imap.select()[1] == [b"1"]
    finally:
        server.stop()


def test_thousands_of_accounts_at_once(server: Server, tmp_path: Path) -> None:
    lines = "".join(
        f"many{n}@many.test:{{SSHA256}}c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0\n" for n in range(3000)
    )
    file = tmp_path / "accounts"
    file.write_text(lines + "plain@many.test:pass word\n")
    assert "add many.test" in server.cli("account", "import", str(file), check=False).stderr
    assert "3001 new" in server.cli("account", "import", "--add-domains", str(file)).stdout.replace(
        "of them ", ""
    ).replace(", 3001", ", 3001")
    listed = json.loads(server.cli("account", "list", "--json").stdout)
    assert sum(a["address"].endswith("@many.test") for a in listed) == 3001
    imap_login(server, "plain@many.test").logout()
    file.write_text("x@many.test:{NOPE}x\n")
    assert (
        f"{file}:1: x@many.test: {{NOPE}} is not a scheme"
        in server.cli("account", "import", str(file), check=False).stderr
    )
