"""fastmail.migrate.found: a plan from Maildirs as they lie."""

import gzip
from pathlib import Path

import pytest

from fastmail.migrate import found
from fastmail.migrate.plan import BLOCKS, MISSING, NOTICED, SAME, Plan


def maildir(path: Path, folders: tuple[str, ...] = (), uids: str = "") -> Path:
    for place in (path, *(path / f".{name}" for name in folders)):
        for sub in ("cur", "new", "tmp"):
            (place / sub).mkdir(parents=True)
        (place / "cur" / "1.m:2,S").write_text("Subject: x\n\n")
        if uids:
            (place / uids).write_text("1 5 2\n1 1.m\n")
    return path


def states(plan: Plan, what: str) -> dict[str, str]:
    return {one.theirs: one.state for one in plan.findings if one.what == what}


def test_courier_as_it_lies(tmp_path: Path) -> None:
    mail = tmp_path / "mail"
    maildir(mail / "one.test" / "anna" / "Maildir", ("Work", "Entw\u00fcrfe"), "courierimapuiddb")
    bert = maildir(mail / "one.test" / "bert" / "Maildir", ("Inbox",), "courierimapuiddb")
    (bert / "courierpop3dsizelist").write_text("/3 1 1\n")
    conf = tmp_path / "courier"
    conf.mkdir()
    (conf / "authdaemonrc").write_text('authmodulelist="authuserdb authmysql"\n')
    (conf / "userdb").write_text(
        "anna@one.test\tuid=5|home=/x|systempw=STcrUptnxfG4I\nbert\timappw={PLAIN}x|systempw=bad\neve\tsystempw=!\n"
    )
    plan = found.plan("courier", str(mail), str(conf), "one.test")
    assert f'maildir = "{mail}/{{domain}}/{{user}}/Maildir"' in plan.config
    assert "utf8_names = true" in plan.config and 'prefix = "INBOX."' in plan.config
    assert states(plan, "mail") == {f"{mail}: 2 Maildirs, 4 mailboxes, 4 messages": SAME}
    assert states(plan, "UIDs") == {"courierimapuiddb: 4 mailboxes": SAME}
    assert states(plan, "POP3 UIDLs") == {"courierpop3dsizelist: 1 mailboxes": SAME}
    assert states(plan, "folder") == {f"{bert}/.Inbox": MISSING}
    assert plan.accounts[:2] == ["anna@one.test:{CRYPT}STcrUptnxfG4I", "bert@one.test:{PLAIN}x"]
    assert plan.accounts[2].startswith("# eve@one.test") and plan.domains == ["one.test"]
    assert states(plan, "accounts")["authmysql"] == NOTICED and states(plan, "accounts")["eve@one.test"] == BLOCKS


def test_maildirs_as_they_lie(tmp_path: Path) -> None:
    for name in ("anna@one.test", "bert@one.test"):
        maildir(tmp_path / name, ("&APw-x",))
    (tmp_path / "anna@one.test" / "cur" / "2.m").write_bytes(gzip.compress(b"x"))
    plan = found.plan("maildir", str(tmp_path), "", "")
    assert f'maildir = "{tmp_path}/{{user}}@{{domain}}"' in plan.config and "utf8" not in plan.config
    assert states(plan, "UIDs") == {"none in 4 of 4 mailboxes": NOTICED}
    assert states(plan, "messages") == {"gzip: 1 of those looked at": BLOCKS}
    assert states(plan, "folder names")["modified UTF-7"] == SAME


def test_nothing_there(tmp_path: Path) -> None:
    plan = found.plan("maildir", str(tmp_path), "", "")
    assert states(plan, "mail") == {"no Maildirs were found": BLOCKS}
    with pytest.raises(found.CannotDo):
        found.plan("maildir", str(tmp_path / "none"), "", "")


def test_maildirs_in_different_ways(tmp_path: Path) -> None:
    maildir(tmp_path / "one.test" / "anna")
    maildir(tmp_path / "bert" / "Maildir")
    assert list(states(found.plan("maildir", str(tmp_path), "", ""), "mail").values()) == [BLOCKS]
