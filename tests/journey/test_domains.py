"""Domains, states, app passwords and forwards as an administrator sets them, at a server that runs."""

import base64
import contextlib
import imaplib
import json
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journey.test_revoked import Line
from tests.support.server import Server

USER, PASSWORD = Server.user, Server.password


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("domains"), "\n[relay]\nenabled = true\nloopback_hosts = true\n")
    one.start()
    yield one
    one.stop()


def add(server: Server, address: str) -> str:
    server.cli("account", "add", address, "--password-stdin", stdin=PASSWORD + "\n")
    return address


def lmtp(server: Server, to: str) -> str:
    """The reply to RCPT, or the last one."""
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as client:
        client.ehlo()
        client.mail("a@far.test")
        code, text = client.rcpt(to)
        if code == 250:
            code, text = client.data(b"From: a@far.test\r\nSubject: x\r\n\r\nx\r\n")
        return f"{code} {text.decode()}"


def login(server: Server, protocol: str, user: str, password: str = PASSWORD) -> bytes:
    """What the server says to a login."""
    one = Line(server, protocol)
    try:
        if protocol == "imap":
            return one.say(f'a LOGIN {user} "{password}"\r\n'.encode(), b"a ").splitlines()[-1]
        if protocol == "pop3":
            one.say(f"USER {user}\r\n".encode(), b"+OK")
            return one.say(f"PASS {password}\r\n".encode(), b"\r\n")
        with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as client:
            import ssl

            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.starttls(context=context)
            client.ehlo()
            token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
            code, text = client.docmd("AUTH", f"PLAIN {token}")
            return b"%d %b" % (code, text)
    finally:
        one.sock.close()


GOOD = {"imap": b"a OK", "pop3": b"+OK", "submission": b"235"}


def test_a_suspended_account_in_each_protocol(server: Server) -> None:
    user = add(server, "late@example.test")
    one = Line(server, "imap")
    one.say(f'a LOGIN {user} "{PASSWORD}"\r\n'.encode(), b"a OK")
    server.cli("account", "set", user, "suspended=has not paid in 2026")
    got = one.rest(1.5)
    assert got is not None and got.startswith(b"* BYE ") and b"suspended" in got
    for protocol, good in GOOD.items():
        said = login(server, protocol, user)
        assert b"suspended" in said and b"paid" not in said and not said.startswith(good), said
    assert lmtp(server, user).startswith("250"), "its mail waits for it"
    shown = json.loads(server.cli("account", "show", user, "--json").stdout)
    assert shown["suspended"] == "has not paid in 2026" and shown["state"] == "suspended"
    server.cli("account", "set", user, "suspended=", "receives=no")
    for protocol, good in GOOD.items():
        assert login(server, protocol, user).startswith(good)
    assert lmtp(server, user).startswith("550 5.2.1")
    assert "has not paid" in server.cli("audit", user).stdout


def test_who_may_not_send_reads(server: Server) -> None:
    user = add(server, "quiet@example.test")
    server.cli("account", "set", user, "sends=no")
    assert login(server, "imap", user).startswith(b"a OK")
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as client:
        import ssl

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.login(user, PASSWORD)
        assert client.mail(user) == (550, b"5.7.1 sending is switched off for this account")
        server.cli("account", "set", user, "sends=yes")
        assert client.mail(user)[0] == 250, "in the same session"


def test_another_name_of_a_domain_by_both_labels(server: Server) -> None:
    server.cli("domain", "add", "faß.test", "--alias-of", "example.test")
    assert login(server, "imap", "user@xn--fa-hia.test").startswith(b"a OK")
    before = len(list((server.maildir() / "new").iterdir()))
    assert lmtp(server, "User+x@xn--fa-hia.test").startswith("250")
    one = Line(server, "lmtp")
    one.say(b"LHLO me.test\r\n", b"250 ")
    one.say(b"MAIL FROM:<a@far.test> SMTPUTF8\r\n", b"250 ")
    one.say("RCPT TO:<USER@FAẞ.test>\r\n".encode(), b"250 ")
    one.say(b"DATA\r\n", b"354 ")
    one.say(b"From: a@far.test\r\n\r\nx\r\n.\r\n", b"250 ")
    one.sock.close()
    assert len(list((server.maildir() / "new").iterdir())) == before + 2
    server.cli("domain", "disable", "xn--fa-hia.test", "--for-now")
    assert lmtp(server, "user@xn--fa-hia.test").startswith("450 4.2.1")
    assert lmtp(server, USER).startswith("250")
    server.cli("domain", "remove", "faß.test")


def test_an_app_password_that_is_withdrawn_while_a_session_runs(server: Server) -> None:
    user = add(server, "phone@example.test")
    made = json.loads(server.cli("app-password", "add", user, "phone", "--protocols", "imap", "--json").stdout)
    text = made["password"]
    assert login(server, "imap", user, text).startswith(b"a OK")
    assert not login(server, "pop3", user, text).startswith(b"+OK")
    sessions = []
    for _ in range(3):
        one = Line(server, "imap")
        one.say(f'a LOGIN {user} "{text}"\r\n'.encode(), b"a OK")
        sessions.append(one)
    other = Line(server, "imap")
    other.say(f'a LOGIN {user} "{PASSWORD}"\r\n'.encode(), b"a OK")
    for what, said in (("disable", b"switched off"), ("remove", b"withdrawn")):
        begun = time.monotonic()
        server.cli("app-password", what, user, made["id"])
        end = time.monotonic() + 1.0
        for one in sessions:
            got = one.rest(end - time.monotonic() + 0.05)
            assert got is not None and said in got, time.monotonic() - begun
        assert not login(server, "imap", user, text).startswith(b"a OK")
        if what == "disable":
            server.cli("app-password", "enable", user, made["id"])
            sessions = []
            for _ in range(3):
                one = Line(server, "imap")
                one.say(f'a LOGIN {user} "{text}"\r\n'.encode(), b"a OK")
                sessions.append(one)
    assert other.rest(0.2) is None, "what began with the main password goes on"
    assert not login(server, "imap", user, text).startswith(b"a OK")
    server.cli("domain", "set", "example.test", "app_passwords_only=yes")
    with contextlib.suppress(imaplib.IMAP4.error):
        assert b"app password" in login(server, "imap", user)
    server.cli("domain", "set", "example.test", "app_passwords_only=no")
    assert login(server, "imap", user).startswith(b"a OK")


def test_a_batch_answers_each_request(server: Server) -> None:
    requests = [
        {"do": "account.set", "name": USER, "fields": {"name": "The User"}, "id": 7},
        {"do": "alias.add", "name": "info@example.test", "fields": {"targets": [USER, "x@far.test"], "note": "n"}},
        {"do": "alias.add", "name": "bad@example.test", "fields": {"targets": ["nobody@example.test"]}},
        {"do": "alias.show", "name": "info@example.test"},
        {"do": "nothing"},
    ]
    lines = "\n".join(map(json.dumps, requests)) + "\nno json\n"
    done = server.cli("batch", stdin=lines, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["ok"] for one in answers] == [True, True, False, True, False, False] and done.returncode == 1
    assert answers[0] == {"id": 7, "ok": True} and "nobody here" in answers[2]["error"]
    assert answers[3]["fields"]["targets"] == [USER, "x@far.test"]
    server.cli("alias", "remove", "info@example.test")


def test_a_wanted_state_is_applied_once(server: Server, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.toml"
    wanted.write_text(
        '[domains."new.test"]\ndescription = "New"\nquota_storage = "1 GiB"\n'
        '[accounts."one@new.test"]\npassword = "secret"\nforward = ["all@new.test"]\n'
        '[aliases."all@new.test"]\ntargets = ["two@new.test", "x@far.test"]\n'
        '[accounts."two@new.test"]\npassword = "secret"\n'
    )
    shown = server.cli("apply", str(wanted), "--dry-run").stdout
    assert shown.count(".add") == 4 and "quota_storage: default -> 1073741824" in shown and "secret" not in shown
    assert server.cli("account", "list", "--domain", "new.test").stdout == "none\n"
    server.cli("apply", str(wanted), "--yes")
    assert server.cli("apply", str(wanted), "--yes").stdout == "nothing to do\n"
    listed = server.cli("account", "list", "--domain", "new.test", "--csv").stdout.splitlines()
    assert [line.partition(",")[0] for line in listed] == ["address", "one@new.test", "two@new.test"]
    page = json.loads(server.cli("account", "list", "--after", "one@new.test", "--limit", "1", "--json").stdout)
    assert [row["address"] for row in page] == ["two@new.test"]
    wanted.write_text('[accounts."one@new.test"]\nforward = ["nobody@new.test"]\n')
    assert server.cli("apply", str(wanted), "--yes", check=False).returncode != 0
