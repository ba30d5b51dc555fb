"""Over to us and back to Dovecot, on the same Maildirs: no client may notice (IMAP, POP3)."""

import hashlib
import imaplib
import json
import poplib
import random
import re
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import courier, dovecot
from tests.support.server import Server

USER = Server.user
FOLDERS = ["Work", "Work/2026/Q4", "Entw&APw-rfe", "M&APw-ll &- mehr", "Sent"]
WORDS = ["$Forwarded", "todo", "NonJunk", "$Label1"]


def look(port: int, password: str) -> dict[str, Any]:
    """Everything that an IMAP client can see."""
    with imaplib.IMAP4("127.0.0.1", port) as imap:
        imap.login(USER, password)
        return seen(imap)


def seen(imap: imaplib.IMAP4) -> dict[str, Any]:
    """The same in a session that is logged in."""
    names = sorted(re.sub(rb'^\([^)]*\) "." "?(.*?)"?$', rb"\1", line) for line in imap.list()[1])
    subscribed = sorted(re.sub(rb'^\([^)]*\) "." "?(.*?)"?$', rb"\1", line) for line in imap.lsub()[1] if line)
    found: dict[str, Any] = {"subscribed": subscribed, "folders": {}}
    for name in names:
        if b"Noselect" in name:
            continue
        status, _ = imap.select(b'"' + name + b'"', readonly=True)
        if status != "OK":
            continue
        head = [imap.response(code)[1][0] for code in ("UIDVALIDITY", "UIDNEXT")]
        rows = []
        for item in imap.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")[1]:
            if isinstance(item, tuple):
                rows.append((item[0], item[1]))
            elif item is not None and rows and item != b")":
                rows[-1] = (rows[-1][0] + item, rows[-1][1])
        found["folders"][name] = head, [message(text, body) for text, body in rows]
    return found


def message(text: bytes, body: bytes) -> tuple[Any, ...]:
    uid = re.search(rb"UID (\d+)", text)
    flags = re.search(rb"FLAGS \(([^)]*)\)", text)
    date = re.search(rb'INTERNALDATE "([^"]*)"', text)
    size = re.search(rb"RFC822.SIZE (\d+)", text)
    assert uid and flags and date and size
    words = frozenset(flags.group(1).split()) - {rb"\Recent"}
    day = date.group(1).lstrip(b" 0")  # before the tenth, Dovecot fills with a zero and this server with a space
    return uid.group(1), words, day, size.group(1), hashlib.sha256(body).hexdigest()


def pop3(port: int, password: str) -> list[tuple[bytes, bytes]]:
    """UIDLs and sizes in order."""
    client = poplib.POP3("127.0.0.1", port)
    client.user(USER)
    client.pass_(password)
    rows = list(zip(client.uidl()[1], client.list()[1], strict=True))
    client.quit()
    return rows


def work(port: int, password: str, seed: int) -> None:
    """What a user does: folders, messages with flags and keywords, removals, subscriptions."""
    with imaplib.IMAP4("127.0.0.1", port) as imap:
        imap.login(USER, password)
        # dots: only where the layout has room for them
        use(imap, FOLDERS, ["v1.2/a.b"], seed)


def use(imap: imaplib.IMAP4, folders: list[str], perhaps: list[str], seed: int) -> None:
    """The same in a session that is logged in; ``perhaps``: folders that may be refused. The last folder gets
    copies."""
    choice = random.Random(seed)
    for name in [*folders, *perhaps]:
        imap.create(f'"{name}"')
    for name in choice.sample(folders, 3):
        imap.subscribe(f'"{name}"')
    imap.unsubscribe(f'"{choice.choice(folders)}"')
    for name in ["INBOX", *folders]:
        for number in range(12):
            flags = " ".join(
                choice.sample([r"\Seen", r"\Answered", r"\Flagged", r"\Draft", *WORDS], choice.randrange(4))
            )
            body = f"Subject: {seed} {number}\r\n\r\n" + "text\r\n" * choice.randrange(50)
            date = f'"{choice.randrange(10, 28)}-Feb-2026 10:{choice.randrange(10, 60)}:00 +0000"'
            status, why = imap.append(f'"{name}"', f"({flags})" if flags else None, date, body.encode())
            assert status == "OK", why
        imap.select(f'"{name}"')
        count = int(imap.response("EXISTS")[1][0] or 12)
        for number in choice.sample(range(1, count + 1), 4):
            imap.store(str(number), choice.choice(["+FLAGS", "-FLAGS", "FLAGS"]), f"({choice.choice(WORDS)})")
        for number in choice.sample(range(1, count + 1), 2):
            imap.store(str(number), "+FLAGS", r"(\Deleted)")
        imap.expunge()
        imap.copy("1:2", f'"{folders[-1]}"')
        imap.close()


@pytest.fixture
def pair(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[tuple[dovecot.Dovecot, Server]]:
    """Both over the same Maildirs; neither runs yet. Parameter: (options of Dovecot's mail_location, what is ours in
    [store])."""
    dovecot.needed()
    base = tmp_path_factory.mktemp("both")
    location, settings = getattr(request, "param", ("", ""))
    save = "protocol pop3 {\n  pop3_save_uidl = yes\n}\n"
    theirs = dovecot.Dovecot(base / "dovecot", base / "mail", save, location.format(base=base))
    theirs.password = Server.password
    ours = Server(base / "ours")
    text = ours.config.read_text()
    store = f'maildir = "{base}/mail/{{user}}@{{domain}}"\n{settings.replace("BASE", str(base))}'
    text = re.sub(r"(?m)^maildir = .*$", store, text)
    ours.config.write_text(text)
    yield theirs, ours
    theirs.stop()
    if ours.process is not None:
        ours.stop()


LAYOUTS = {
    "maildir++": ("", ""),
    "fs": (":LAYOUT=fs", 'layout = "fs"'),
    "utf-8": (":UTF-8", "utf8_names = true"),
    "fs, control": (
        ":LAYOUT=fs:UTF-8:CONTROL={base}/mail/control/%u",
        'layout = "fs"\nutf8_names = true\ncontrol = "BASE/mail/control/{user}@{domain}"',
    ),
}


@pytest.mark.parametrize("pair", LAYOUTS.values(), ids=LAYOUTS, indirect=True)
@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_there_and_back_again(pair: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = pair
    theirs.start()
    work(theirs.ports["imap"], ours.password, 1)
    before, listed = look(theirs.ports["imap"], ours.password), pop3(theirs.ports["pop3"], ours.password)
    assert len(before["folders"]) >= 6 and len(listed) == 10
    assert (b"v1.2/a.b" in before["folders"]) == ("fs" in theirs.config.read_text().partition("LAYOUT=")[2][:2])
    theirs.stop()
    # over to us: with the mailboxes read before the first client comes
    rows = json.loads(ours.cli("migrate", "switch", "--json").stdout)
    assert rows[0]["messages"] > 50
    ours.start()
    assert look(ours.ports["imap"], ours.password) == before
    assert pop3(ours.ports["pop3"], ours.password) == listed
    for seed in (2, 3):
        work(ours.ports["imap"], ours.password, seed)
    after, listed = look(ours.ports["imap"], ours.password), pop3(ours.ports["pop3"], ours.password)
    assert after != before
    ours.stop()
    # and back
    rows = json.loads(ours.cli("migrate", "back", USER, "--json").stdout)
    assert {row["mailbox"] for row in rows} >= {"INBOX", "Work/2026/Q4"}
    theirs.start()
    assert look(theirs.ports["imap"], ours.password) == after
    assert pop3(theirs.ports["pop3"], ours.password) == listed
    assert "rror" not in (theirs.directory / "log").read_text()
    work(theirs.ports["imap"], ours.password, 4)
    last = look(theirs.ports["imap"], ours.password)
    theirs.stop()
    # once more to us: what Dovecot did meanwhile is an ordinary change
    ours.start()
    for _ in range(2):
        now = look(ours.ports["imap"], ours.password)
    assert strip(now) == strip(last)


def validity(port: int, password: str, name: str) -> int:
    with imaplib.IMAP4("127.0.0.1", port) as imap:
        imap.login(USER, password)
        assert imap.create(name)[0] == "OK"
        return int(re.search(rb"UIDVALIDITY (\d+)", imap.status(name, "(UIDVALIDITY)")[1][0])[1])  # type: ignore[index]


@pytest.mark.parametrize("pair", [LAYOUTS["maildir++"], LAYOUTS["fs, control"]], ids=["own", "control"], indirect=True)
@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_a_name_that_comes_again_has_a_higher_uidvalidity(pair: tuple[dovecot.Dovecot, Server]) -> None:
    """Over there, here, and back there, even where the other has been ahead of the clock."""
    theirs, ours = pair
    theirs.start()
    seen = [validity(theirs.ports["imap"], ours.password, "Again")]
    theirs.stop()
    (place,) = theirs.mail.rglob("dovecot-uidvalidity")
    (marker,) = place.parent.glob("dovecot-uidvalidity.*")
    ahead = int(time.time()) + 5000
    place.write_text(f"{ahead:08x}")
    marker.rename(place.with_name(f"dovecot-uidvalidity.{ahead:08x}"))
    ours.cli("migrate", "switch")
    ours.start()
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        imap.delete("Again")
    seen.append(validity(ours.ports["imap"], ours.password, "Again"))
    seen.append(validity(ours.ports["imap"], ours.password, "More"))
    assert seen[1] > ahead
    ours.stop()
    ours.cli("migrate", "back", USER)
    theirs.start()
    seen.append(validity(theirs.ports["imap"], ours.password, "Later"))
    assert seen == sorted({*seen}) and len(list(place.parent.glob("dovecot-uidvalidity.*"))) == 1
    assert "rror" not in (theirs.directory / "log").read_text()


MANY = [f"word{n}" for n in range(45)]


@pytest.mark.parametrize(
    "pair",
    [("", ""), (":INDEX={base}/mail/index/%u", 'indexes = "BASE/mail/index/{user}@{domain}"')],
    ids=["with the mail", "apart"],
    indirect=True,
)
@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_more_keywords_than_letters(pair: tuple[dovecot.Dovecot, Server]) -> None:
    """Those that only Dovecot's index has come over, and go back into a new one."""
    theirs, ours = pair
    theirs.start()
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, theirs.password)
        imap.create("Few")
        for number in range(40):
            words = " ".join(MANY[number : number + 5])
            imap.append("INBOX", f"({words})", None, f"Subject: {number}\r\n\r\nx\r\n".encode())
            imap.append("Few", r"(one \Seen)", None, b"Subject: y\r\n\r\nx\r\n")
        imap.select("INBOX")
        imap.store("1:10", "+FLAGS", "(word40 word3)")
        imap.store("4", "-FLAGS", "(word40)")
        imap.store("35", "FLAGS", r"(word42 \Flagged)")
        imap.store("7", "+FLAGS", r"(\Deleted)")
        imap.expunge()
    before = look(theirs.ports["imap"], ours.password)
    theirs.stop()
    ours.cli("migrate", "switch")
    ours.start()
    assert look(ours.ports["imap"], ours.password) == before
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        imap.append("INBOX", r"(word43 brandnew \Answered)", None, b"Subject: ours\r\n\r\nx\r\n")
        imap.select("INBOX")
        imap.store("20:22", "+FLAGS", "(word44 word41 word1)")
        imap.store("30:39", "-FLAGS", "(word33 word34 word35)")
    after = look(ours.ports["imap"], ours.password)
    ours.stop()
    rows = json.loads(ours.cli("migrate", "back", USER, "--json").stdout)
    assert {row["mailbox"]: row["indexed_keywords"] for row in rows if row["messages"]} == {"INBOX": 20, "Few": 0}
    theirs.start()
    assert look(theirs.ports["imap"], ours.password) == after
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        imap.select("INBOX")
        imap.store("1:5", "+FLAGS", "(word38)")
    assert look(theirs.ports["imap"], ours.password) != after
    assert "rror" not in (theirs.directory / "log").read_text()


ACL = """
mail_plugins = acl
protocol imap {
  mail_plugins = acl imap_acl
}
plugin {
  acl = vfile
  acl_anyone = allow
}
"""


def lists(port: int, password: str, folders: list[str]) -> dict[str, dict[str, str]]:
    """The access control lists of folders: rights by identifier, without the owner's."""
    found = {}
    with imaplib.IMAP4("127.0.0.1", port) as imap:
        imap.login(USER, password)
        for name in folders:
            (line,) = imap.getacl(f'"{name}"')[1]
            words = [one.strip('"').replace("user=", "") for one in line.decode().split()][1:]
            pairs = dict(zip(words[::2], words[1::2], strict=True))
            found[name] = {k: "".join(sorted(set(v) - set("cd"))) for k, v in pairs.items() if k not in ("owner", USER)}
    return found


@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_rights_and_limits_are_taken_over(pair: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = pair
    theirs.config.write_text(theirs.config.read_text() + ACL)
    folders = ["INBOX", "Team", "Team/Plans"]
    theirs.start()
    with imaplib.IMAP4("127.0.0.1", theirs.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        for name in folders[1:]:
            imap.create(f'"{name}"')
        assert imap.setacl("Team", "user=copy@example.test", "lrswit")[0] == "OK"
        assert imap.setacl("Team/Plans", "anyone", "lr")[0] == "OK"
        assert imap.setacl("Team/Plans", "user=copy@example.test", "lrwsa")[0] == "OK"
    before = lists(theirs.ports["imap"], ours.password, folders)
    assert before["Team"] == {"copy@example.test": "ilrstw"} and before["Team/Plans"]["anyone"] == "lr"
    theirs.stop()
    root = theirs.mail / USER
    with open(root / ".Team" / "dovecot-acl", "a") as file:
        file.write("group=staff lr\n")
    (root / "maildirsize").write_bytes(b"5000000S,900C\n1234 5\n")
    ours.cli("account", "add", "copy@example.test", "--password-stdin", stdin=ours.password + "\n")
    told = ours.cli("migrate", "switch", USER).stdout
    assert "left out: user@example.test, Team: access for group=staff lr" in told
    ours.start()
    assert lists(ours.ports["imap"], ours.password, folders) == before
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login("copy@example.test", ours.password)
        assert any(b"Other Users/user@example.test/Team" in line for line in imap.list()[1])
        imap.logout()
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        assert imap.getquotaroot("INBOX")[1][1][0].endswith(b"(STORAGE 0 4883 MESSAGE 0 900)")
        assert imap.setacl("Team", "copy@example.test", "lr")[0] == "OK"
        assert imap.deleteacl("Team/Plans", "anyone")[0] == "OK"
        assert imap.setacl("INBOX", "copy@example.test", "l")[0] == "OK"
    after = lists(ours.ports["imap"], ours.password, folders)
    refused = ours.cli("migrate", "switch", USER, check=False)
    assert refused.returncode == 1 and "stop it first" in refused.stderr
    ours.stop()
    ours.cli("migrate", "switch", USER)  # twice: what was changed meanwhile stays
    ours.start()
    assert lists(ours.ports["imap"], ours.password, folders) == after
    ours.stop()
    ours.cli("migrate", "back", USER)
    assert not (root / "maildirsize").exists()
    theirs.start()
    assert lists(theirs.ports["imap"], ours.password, folders) == after


@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_two_servers_are_compared(pair: tuple[dovecot.Dovecot, Server], tmp_path: Path) -> None:
    theirs, ours = pair
    theirs.start()
    work(theirs.ports["imap"], ours.password, 5)
    ours.cli("migrate", "switch")
    ours.start()
    table = tmp_path / "accounts.csv"
    table.write_text(f"user,password\n{USER},{ours.password}\n")
    places = [f"127.0.0.1:{theirs.ports['imap']}", f"127.0.0.1:{ours.ports['imap']}"]
    ports = f"{theirs.ports['pop3']},{ours.ports['pop3']}"
    args = ["migrate", "compare", *places, "--csv", str(table), "--tls", "none", "--pop3", ports, "--json"]
    same = ours.cli(*args, config=False, check=False)
    found = json.loads(same.stdout)
    assert same.returncode == 0 and found[0]["messages"] > 50 and not found[0]["differences"], found
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        for name in FOLDERS:
            imap.subscribe(f'"{name}"')

    other = ours.cli(*args, config=False, check=False)
    differences = json.loads(other.stdout)[0]["differences"]
    assert other.returncode == 1 and any("subscribed only here" in text for text in differences)


def tree(path: Path) -> dict[str, tuple[int, bytes]]:
    """Message files with their times and contents, and the files that say what they are."""
    kept = [one for one in path.rglob("*") if one.is_file() and "dovecot.index" not in one.name]
    return {str(one): (one.stat().st_mtime_ns, one.read_bytes()) for one in kept if "dovecot.list" not in one.name}


def mail(path: Path) -> dict[str, tuple[int, bytes]]:
    """The same without what a running Dovecot writes when it is looked at."""
    return {name: row for name, row in tree(path).items() if not name.endswith("dovecot-uidlist")}


@pytest.mark.parametrize("pair", [("", ""), (":LAYOUT=fs", 'layout = "fs"')], ids=["maildir++", "fs"], indirect=True)
@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_a_shadow_beside_it(pair: tuple[dovecot.Dovecot, Server], tmp_path: Path) -> None:
    theirs, ours = pair
    theirs.start()
    work(theirs.ports["imap"], ours.password, 9)
    look(theirs.ports["imap"], ours.password)
    before = mail(theirs.mail)
    table = tmp_path / "accounts.csv"
    table.write_text(f"user,password\n{USER},{ours.password}\n")
    args = ["migrate", "shadow", f"127.0.0.1:{theirs.ports['imap']}", "--csv", str(table), "--tls", "none", "--json"]
    args += ["--pop3", str(theirs.ports["pop3"])]
    done = ours.cli(*args, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found[0]["messages"] > 50 and not found[0]["differences"], found
    assert mail(theirs.mail) == before
    # what is configured otherwise is told
    ours.config.write_text(ours.config.read_text().replace("[store]", '[store]\nprefix = "INBOX/"'))
    done = ours.cli(*args, check=False)
    assert done.returncode == 1 and "names:" in json.loads(done.stdout)[0]["differences"][0]
    assert mail(theirs.mail) == before


@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_a_server_that_only_reads(pair: tuple[dovecot.Dovecot, Server]) -> None:
    theirs, ours = pair
    theirs.start()
    work(theirs.ports["imap"], ours.password, 4)
    shown = look(theirs.ports["imap"], ours.password)
    theirs.stop()
    before = tree(theirs.mail)
    ours.config.write_text(ours.config.read_text().replace("[store]", "[store]\nread_only = true"))
    ours.start()
    assert look(ours.ports["imap"], ours.password) == shown
    with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
        imap.login(USER, ours.password)
        with pytest.raises(imaplib.IMAP4.readonly):
            imap.select("INBOX")
        imap.select("INBOX", readonly=True)
        assert imap.fetch("1", "(BODY[])")[0] == "OK"
        for status, why in (
            imap.append("INBOX", None, None, b"Subject: x\r\n\r\nx\r\n"),
            imap.store("1", "+FLAGS", r"(\Deleted)"),
            imap.copy("1", "Sent"),
            imap.create("More"),
            imap.delete("Work"),
            imap.rename("Work", "More"),
            imap.subscribe("Work"),
        ):
            assert status == "NO", why
    with smtplib.LMTP("127.0.0.1", ours.ports["lmtp"]) as lmtp:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            lmtp.sendmail("a@example.org", [USER], "Subject: x\r\n\r\nx\r\n")
        assert 400 <= refused.value.smtp_code < 500
    client = poplib.POP3("127.0.0.1", ours.ports["pop3"])
    client.user(USER)
    client.pass_(ours.password)
    assert client.dele(1).startswith(b"+OK")
    with pytest.raises(poplib.error_proto):
        client.quit()
    ours.stop()
    assert tree(theirs.mail) == before


def strip(found: dict[str, Any]) -> dict[bytes, Any]:
    """Without UIDs: both servers have given some since they parted."""
    return {
        name: sorted((sorted(flags), date, size, body) for _, flags, date, size, body in rows)
        for name, (_, rows) in found["folders"].items()
    }


@pytest.mark.peer("dovecot")
@pytest.mark.root
def test_a_plan_for_this_dovecot(pair: tuple[dovecot.Dovecot, Server], tmp_path: Path) -> None:
    theirs, ours = pair
    conf = subprocess.run(
        ["doveconf", "-n", "-c", str(theirs.config)], capture_output=True, text=True, check=True
    ).stdout
    done = ours.cli("migrate", "plan", "--conf", "-", "--out", str(tmp_path / "new"), stdin=conf, config=False)
    made = (tmp_path / "new" / "fastmail.toml").read_text()
    assert f'maildir = "{theirs.mail}/{{user}}@{{domain}}"' in made and 'separator = "/"' in made
    assert f'imap = ["127.0.0.1:{theirs.ports["imap"]}"]' in made
    assert "clients notice" in done.stdout
    ours.cli("check-config", "-c", str(tmp_path / "new" / "fastmail.toml"), config=False)


@pytest.mark.peer
def test_files_that_courier_wrote(tmp_path: Path) -> None:
    theirs = courier.Courier(tmp_path / "mail" / "user")
    folders = ["INBOX.Work", "INBOX.Work.2026.Q4", "INBOX.Entw&APw-rfe", "INBOX.Sent"]
    with theirs.imap() as imap:
        use(imap, folders, [], 3)
        before = seen(imap)
    listed = theirs.pop3()
    assert len(before["folders"]) == 5 and len(listed) == 10
    assert sum(len(rows) for _, rows in before["folders"].values()) > 50
    with theirs.imap() as imap:  # POP3 has its own numbers, and moves what is new
        before = seen(imap)
    ours = Server(tmp_path / "ours")
    text = re.sub(r"(?m)^maildir = .*$", f'maildir = "{tmp_path}/mail/{{user}}"', ours.config.read_text())
    # this Courier, 5 and later, has folders in UTF-8
    ours.config.write_text(text.replace("[store]", '[store]\nutf8_names = true\nprefix = "INBOX."\nseparator = "."'))
    ours.start()
    try:
        after = look(ours.ports["imap"], ours.password)
        # Courier's LSUB shows levels above, too; its file is what was asked for
        assert after["subscribed"] == sorted((theirs.mail / "courierimapsubscribed").read_bytes().split())
        assert after["folders"].keys() == before["folders"].keys()
        for name, (head, rows) in before["folders"].items():
            shown, messages = after["folders"][name]
            assert shown[0] == head[0] and messages == rows, name
        assert pop3(ours.ports["pop3"], ours.password) == listed
    finally:
        ours.stop()


def test_courier_is_taken_over(tmp_path: Path) -> None:
    """Files in the forms that Courier writes (see dovecot/control_files.py): UIDs, keywords, subscriptions, POP3 names, prefix."""
    ours = Server(tmp_path / "ours")
    text = re.sub(r"(?m)^maildir = .*$", f'maildir = "{tmp_path}/mail/{{user}}"', ours.config.read_text())
    ours.config.write_text(text.replace("[store]", '[store]\nprefix = "INBOX."\nseparator = "."'))
    root = tmp_path / "mail" / "user"
    for place in (root, root / ".Work"):
        for sub in ("cur", "new", "tmp"):
            (place / sub).mkdir(parents=True)
        names = []
        for number in range(1, 4):
            base = f"170000000{number}.M1P1V0I{number}_0.host,S=22"
            (place / "cur" / f"{base}:2,S").write_text(f"Subject: {number}\n\nbody\n")
            names.append(base)
        (place / "courierimapuiddb").write_text(
            "1 1234567 50\n" + "".join(f"{40 + n} {base}\n" for n, base in enumerate(names))
        )
        (place / "courierimapkeywords").mkdir()
        (place / "courierimapkeywords" / ":list").write_text(f"todo\n$Label1\n\n{names[1]}:1\n")
        (place / "courierimapkeywords" / names[2]).write_text("todo\nlater\n")
    (root / "courierimapsubscribed").write_text("INBOX\nINBOX.Work\n")
    first, second, third = names
    (root / "courierpop3dsizelist").write_text(f"/2 9 77\n{third} 25 8:77\n{first} 25 0:0\n{second} 25 7:77\n")
    ours.start()
    try:
        with imaplib.IMAP4("127.0.0.1", ours.ports["imap"]) as imap:
            imap.login(USER, ours.password)
            assert rb'(("INBOX." "."))' in imap.namespace()[1][0]
            assert sorted(line.rpartition(b" ")[2] for line in imap.lsub()[1]) == [b"INBOX", b"INBOX.Work"]
            assert {line.rpartition(b" ")[2] for line in imap.list()[1]} == {b"INBOX", b"INBOX.Work"}
            for name in ("INBOX", "INBOX.Work"):
                imap.select(name)
                assert imap.response("UIDVALIDITY")[1] == [b"1234567"] and imap.response("UIDNEXT")[1] == [b"50"]
                rows = imap.fetch("1:*", "(UID FLAGS)")[1]
                assert rb"UID 40 FLAGS (\Seen)" in rows[0] and rb"UID 41 FLAGS (\Seen $Label1)" in rows[1]
                assert rb"UID 42 FLAGS (\Seen todo later)" in rows[2]
            assert imap.select("Work")[0] == "NO" and imap.create("Other")[0] == "NO"
            assert imap.create("INBOX.Other")[0] == "OK" and imap.select("inbox.Other")[0] == "OK"
            assert (root / ".Other" / "cur").is_dir()
            assert imap.subscribe("INBOX.Other")[0] == "OK"
            assert b"INBOX.Other" in b" ".join(imap.list('"INBOX."', "%")[1])
        client = poplib.POP3("127.0.0.1", ours.ports["pop3"])
        client.user(USER)
        client.pass_(ours.password)
        assert client.uidl()[1] == [b"1 UID8-77", b"2 " + first.encode(), b"3 UID7-77"]
        assert client.retr(1)[1][0] == b"Subject: 3"
        client.quit()
    finally:
        ours.stop()
