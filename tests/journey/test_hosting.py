"""What hosters do with accounts while a server runs: limits of sending, master users, groups, new names."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.directory.local import LocalDirectory
from tests.journey.test_revoked import Line, add, deliver, imap, submission
from tests.support.server import Server

LONG = 30.0  # s that something takes at most on a machine that is busy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = "\n[limits]\nauth_failure_delay = 0.05\nconnections_per_ip = 500\n"
    running = Server(tmp_path_factory.mktemp("hosting"), limits)
    text = running.config.read_text()
    assert text.count("[auth]\n") == 1
    running.config.write_text(text.replace("[auth]\n", '[auth]\nmaster_users = true\nmaster_user_separator = "*"\n'))
    running.start()
    yield running
    running.stop()


def send(line: Line, sender: str, to: str) -> bytes:
    """The last reply."""
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
        said = line.say(command.encode() + b"\r\n", b"\r\n")
        if said[:1] not in b"23":
            return said
    return line.say(f"From: {sender}\r\nSubject: x\r\n\r\nhello\r\n.\r\n".encode(), b"\r\n")


def acting(server: Server, protocol: str, whom: str, master: str) -> tuple[Line, bytes]:
    """A session, and the reply to its login by PLAIN for somebody else."""
    line = Line(server, protocol)
    token = base64.b64encode(f"{whom}\0{master}\0{server.password}".encode())
    if protocol == "imap":
        return line, line.say(b"a AUTHENTICATE PLAIN " + token + b"\r\n", b"\r\n")
    return line, line.say(b"AUTH PLAIN " + token + b"\r\n", b"\r\n")


def test_limits_of_an_hour_are_those_of_all_workers(server: Server) -> None:
    sender = "sender@example.test"
    add(server, sender)
    server.cli("account", "set", sender, "recipients_per_hour=4")
    sessions = [submission(server, sender) for _ in range(6)]
    said = [send(one, sender, server.user) for one in sessions]
    assert [one[:3] for one in said].count(b"250") == 4, "each goes to a worker of its own choice"
    refused = next(one for one in said if one[:3] != b"250")
    assert refused.startswith(b"450 4.7.1 at most 4 recipients an hour are allowed, try again after ")
    server.stop()
    server.start()
    assert send(submission(server, sender), sender, server.user).startswith(b"450 4.7.1 "), "a restart changes nothing"
    assert b"event=smtp.rate" in server.log.read_bytes() and sender.encode() in server.log.read_bytes()
    server.cli("account", "set", sender, "recipients_per_hour=none")
    assert send(submission(server, sender), sender, server.user).startswith(b"250 ")


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_a_master_user_opens_a_mailbox_and_is_written_down(server: Server, protocol: str) -> None:
    master, user, far = (f"{name}.{protocol}@example.test" for name in ("master", "user", "chief"))
    for one in (master, user, far):
        add(server, one)
    deliver(server, user)
    denied = b"a NO [AUTHORIZATIONFAILED] " if protocol == "imap" else b"-ERR [AUTH] this login may not"
    assert acting(server, protocol, user, master)[1].startswith(denied), "it has no role"
    server.cli("account", "set", master, "role=domain", "administers=example.test")
    server.cli("account", "set", far, "role=helpdesk")
    assert acting(server, protocol, far, master)[1].startswith(denied), "nor does anybody open an administrator's"
    line, said = acting(server, protocol, user, master)
    assert said.startswith(b"a OK" if protocol == "imap" else b"+OK 1 messages")
    if protocol == "imap":
        assert b"* 1 EXISTS" in line.say(b"s SELECT INBOX\r\n", b"s OK")
    rows = server.cli("audit", user).stdout
    assert "login as" in rows and master in rows and f"by {protocol} from 127.0.0.1" in rows
    server.cli("account", "set", master, "role=")
    got = line.rest(LONG)
    assert got is not None and b"may not act for this account any more" in got
    submit = Line(server, "submission")
    submit.say(b"EHLO me.test\r\n", b"250 ")
    token = base64.b64encode(f"{user}\0{master}\0{server.password}".encode())
    assert submit.say(b"AUTH PLAIN " + token + b"\r\n", b"\r\n").startswith(b"501 5.5.2 acting for another user")


@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_a_master_user_may_say_whom_in_the_name(server: Server, protocol: str) -> None:
    """As Dovecot's master users do, by LOGIN and USER."""
    master, user = (f"{name}.star.{protocol}@example.test" for name in ("master", "user"))
    for one in (master, user):
        add(server, one)
    deliver(server, user)
    server.cli("account", "set", master, "role=server")

    def login(password: str) -> tuple[Line, bytes]:
        line, name = Line(server, protocol), f"{user}*{master}"
        if protocol == "imap":
            return line, line.say(f'a LOGIN "{name}" "{password}"\r\n'.encode(), b"\r\n")
        line.say(f"USER {name}\r\n".encode(), b"+OK")
        return line, line.say(f"PASS {password}\r\n".encode(), b"\r\n")

    assert b"login failed" in login("wrong")[1]
    line, said = login(server.password)
    assert said.startswith(b"a OK" if protocol == "imap" else b"+OK 1 messages")
    rows = server.cli("audit", user).stdout
    assert "login as" in rows and master in rows and f"by {protocol} from 127.0.0.1" in rows
    server.cli("account", "set", master, "role=")
    got = line.rest(LONG)
    assert got is not None and b"may not act for this account any more" in got


def test_who_is_in_a_group_has_its_rights(server: Server) -> None:
    owner, member = "orders@example.test", "member@example.test"
    for one in (owner, member):
        add(server, one)
    deliver(server, owner)
    server.cli("group", "add", "sales@example.test", "--description", "those who sell")
    imap(server, owner).say(b"g SETACL INBOX $sales lrs\r\n", b"g OK")
    place = f'"Other Users/{owner}/INBOX"'.encode()
    guest = imap(server, member)
    guest.say(b"e EXAMINE " + place + b"\r\n", b"e NO")
    server.cli("group", "set", "sales@example.test", f"join={member}")
    assert b"* 1 EXISTS" in guest.say(b"f SELECT " + place + b"\r\n", b"f OK")
    assert f"Other Users/{owner}/INBOX".encode() in guest.say(b'l LIST "" *\r\n', b"l OK")
    guest.say(b"i IDLE\r\n", b"+ idling")
    assert member in server.cli("group", "show", "sales@example.test", "--json").stdout
    server.cli("group", "set", "sales@example.test", f"leave={member}")
    got = guest.rest(LONG)
    assert got is not None and b"* BYE the right to read the selected mailbox was taken back" in got
    server.cli("group", "remove", "sales@example.test")
    assert "sales" not in server.cli("group", "list").stdout


def test_an_account_gets_a_new_name(server: Server) -> None:
    old, new, friend = "maiden@example.test", "married@example.test", "friend@example.test"
    add(server, old)
    add(server, friend)
    deliver(server, old)
    app = server.cli("app-password", "add", old, "phone", "--json").stdout
    password = app.split('"password": "')[1].split('"')[0]
    mine, theirs = imap(server, old), imap(server, friend)
    mine.say(f"g SETACL INBOX {friend} lrs\r\n".encode(), b"g OK")
    theirs.say(f"g SETACL INBOX {old} lr\r\n".encode(), b"g OK")
    theirs.say(f'u SUBSCRIBE "Other Users/{old}/INBOX"\r\n'.encode(), b"u OK")
    server.cli("alias", "add", "bride@example.test", old)
    said = server.cli("account", "rename", old, new).stdout
    assert f"renamed {old} to {new}" in said
    got = mine.rest(LONG)
    assert got is not None and b"another name now" in got
    line = Line(server, "imap")
    line.say(f'a LOGIN {old} "{server.password}"\r\n'.encode(), b"a NO")
    assert b"* 1 EXISTS" in imap(server, new).say(b"t STATUS INBOX (MESSAGES)\r\ns SELECT INBOX\r\n", b"s OK")
    line.say(f'a LOGIN {new} "{password}"\r\n'.encode(), b"a OK")
    acl = line.say(b"g GETACL INBOX\r\n", b"g OK")
    assert friend.encode() in acl and old.encode() not in acl
    listed = theirs.say(b'l LSUB "" *\r\n', b"l OK")
    assert f"Other Users/{new}/INBOX".encode() in listed and old.encode() not in listed
    listed = theirs.say(b'l LIST "" *\r\n', b"l OK")
    assert listed.count(f"Other Users/{new}/INBOX".encode()) == 1 and b"maiden" not in listed, listed
    assert b"* 1 EXISTS" in theirs.say(f's SELECT "Other Users/{new}/INBOX"\r\n'.encode(), b"s OK")
    assert b"EXISTS" in line.say(f's SELECT "Other Users/{friend}/INBOX"\r\n'.encode(), b"s OK")
    for address in (old, "bride@example.test"):
        deliver(server, address)
    assert b"* 3 EXISTS" in imap(server, new).say(b"s SELECT INBOX\r\n", b"s OK")
    assert not server.maildir(new).exists() and server.maildir(old).is_dir(), "the mail stays where it is"
    server.cli("alias", "remove", old)
    add(server, old)
    assert b"* 0 EXISTS" in imap(server, old).say(b"s SELECT INBOX\r\n", b"s OK")
    line = imap(server, old)
    line.say(f's SELECT "Other Users/{friend}/INBOX"\r\n'.encode(), b"s NO")


def test_a_domain_gets_a_new_name(server: Server) -> None:
    server.cli("domain", "add", "former.test")
    for user in ("a@former.test", "b@former.test"):
        add(server, user)
    deliver(server, "a@former.test")
    server.cli("group", "add", "team@former.test", "b@former.test")
    open_one = imap(server, "a@former.test")
    open_one.say(b"g SETACL INBOX $team lr\r\n", b"g OK")
    server.cli("domain", "rename", "former.test", "later.test")
    got = open_one.rest(LONG)
    assert got is not None and b"another name now" in got
    deliver(server, "a@former.test")
    deliver(server, "a@later.test")
    assert b"* 3 EXISTS" in imap(server, "a@later.test").say(b"s SELECT INBOX\r\n", b"s OK")
    guest = imap(server, "b@former.test")
    listed = guest.say(b'l LIST "" *\r\n', b"l OK")
    assert listed.count(b"Other Users/a@later.test/INBOX") == 1 and b"former" not in listed, listed
    assert b"* 3 EXISTS" in guest.say(b's SELECT "Other Users/a@later.test/INBOX"\r\n', b"s OK")
    shown = server.cli("account", "list", "--domain", "later.test", "--json").stdout
    assert "a@later.test" in shown and "former" not in shown
    assert server.cli("check", check=False).returncode == 0


def test_a_rename_that_was_cut_short_is_finished_at_the_next_start(server: Server) -> None:
    old, new, friend = "cut@example.test", "whole@example.test", "witness@example.test"
    add(server, old)
    add(server, friend)
    imap(server, old).say(f"g SETACL INBOX {friend} lr\r\n".encode(), b"g OK")
    imap(server, friend).say(f"g SETACL INBOX anyone lr\r\nh SETACL INBOX -{old} lr\r\n".encode(), b"h OK")
    server.stop()
    with contextlib.closing(LocalDirectory(str(server.directory / "data"))) as directory:
        directory.rename_account(old, new)  # and the command died here
    server.start()
    done = server.cli("account", "rename", friend, "seen@example.test")
    assert "renamed" in done.stdout, "whatever was left is done first, by whoever comes first"
    acl = imap(server, "seen@example.test").say(b"g GETACL INBOX\r\n", b"g OK")
    assert f"-{new}".encode() in acl and old.encode() not in acl
    assert b"seen@example.test" in imap(server, new).say(b"g GETACL INBOX\r\n", b"g OK")


def test_renames_work_without_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    done = server.cli("account", "rename", server.user, "other@example.test", "--drop-old")
    assert "renamed" in done.stdout
    assert "other@example.test" in server.cli("account", "list").stdout
    aliases = server.cli("alias", "list", "--json").stdout
    assert server.user not in aliases and '"other@example.test"' in aliases, "the postmaster's leads there now"
    assert server.cli("check", check=False).returncode == 0
