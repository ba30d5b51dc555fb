"""Courier's Maildirs: taken over, used, and handed back to a running Courier, which shows what this server showed."""

import imaplib
import json
import re
from pathlib import Path

import pytest

from tests.journey.test_dovecot import USER, look, pop3, seen, use
from tests.support import courier
from tests.support.server import Server


@pytest.mark.peer
def test_courier_goes_on(tmp_path: Path) -> None:
    theirs = courier.Courier(tmp_path / "mail" / "user")
    folders = ["INBOX.Work", "INBOX.Work.2026.Q4", "INBOX.Entw&APw-rfe", "INBOX.Sent"]
    with theirs.imap() as imap:
        use(imap, folders, [], 3)
    first = theirs.pop3()
    ours = Server(tmp_path / "ours")
    text = re.sub(r"(?m)^maildir = .*$", f'maildir = "{tmp_path}/mail/{{user}}"', ours.config.read_text())
    ours.config.write_text(text.replace("[store]", '[store]\nutf8_names = true\nprefix = "INBOX."\nseparator = "."'))
    ours.cli("migrate", "switch")
    ours.start()
    refused = [ours.cli("migrate", name, check=False) for name in ("switch", "back")]
    assert all(done.returncode == 1 and "server is running" in done.stderr for done in refused)
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        imap.append("INBOX", r"(\Seen todo brandnew)", None, b"Subject: ours\r\n\r\nx\r\n")
        imap.append("INBOX", None, None, b"Subject: another\r\n\r\nx\r\n")
        imap.create("INBOX.Fresh")
        imap.append("INBOX.Fresh", r"(\Flagged)", None, b"Subject: fresh\r\n\r\nx\r\n")
        imap.subscribe("INBOX.Fresh")
        imap.select("INBOX")
        imap.store("2", "+FLAGS", r"(\Deleted)")
        imap.store("3", "+FLAGS", r"(\Answered brandnew)")
        imap.expunge()
        imap.select('"INBOX.Work"')
        imap.store("1:3", "FLAGS", r"(\Draft)")
    after = look(ours.ports["imap"], ours.password)
    listed = pop3(ours.ports["pop3"], ours.password)
    ours.stop()
    rows = json.loads(ours.cli("migrate", "back", USER, "--to", "courier", "--json").stdout)
    assert {row["mailbox"]: row["lost_uidls"] for row in rows}["INBOX"] == 0
    again = theirs.pop3()
    old = {uidl.split()[1] for uidl, _ in first}
    assert [row[0].split()[1] for row in again if row[0].split()[1] in old] == [
        row[0].split()[1] for row in listed if row[0].split()[1] in old
    ]
    assert len(again) == len(listed) and len({row[0] for row in again}) == len(again)
    assert sorted(row[1].split()[1] for row in again) == sorted(row[1].split()[1] for row in listed)
    with theirs.imap() as imap:
        found = seen(imap)
    assert found["folders"].keys() == after["folders"].keys()
    for name, (head, messages) in after["folders"].items():
        assert found["folders"][name][0][0] == head[0], name  # this Courier does not say UIDNEXT at SELECT
        assert found["folders"][name][1] == messages, name
    with theirs.imap() as imap:
        status = imap.status("INBOX", "(UIDNEXT)")[1][0]
        assert status.endswith(b"UIDNEXT %b)" % after["folders"][b"INBOX"][0][1]), status
    assert set(after["subscribed"]) <= set(found["subscribed"])
    assert b"INBOX.Fresh" in (theirs.mail / "courierimapsubscribed").read_bytes()
