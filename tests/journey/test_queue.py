"""Two servers, a queue between them: commands, crashes, and Postfix, Exim and OpenSMTPD as the other side where they are
installed."""

import email
import imaplib
import json
import os
import smtplib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.bench.load import unverified
from tests.journey.test_clients import letter
from tests.support import mtas, needs
from tests.support.hosts import dead_port
from tests.support.ports import free_ports
from tests.support.server import Server


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("far"), workers=1)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def near(tmp_path: Path, far: Server) -> Iterator[Server]:
    """Its own domain is near.test; example.test is the far one's."""
    place = tmp_path / "near"
    extra = f'\n[relay]\nroutes = ["example.test smtp:127.0.0.1:{far.ports["smtp"]}", "dead.test smtp:127.0.0.1:{dead_port()}"]\n'
    server = Server(place, extra)
    server.cli("domain", "add", "near.test")
    server.cli("account", "add", "me@near.test", "--password-stdin", stdin=server.password + "\n")
    server.cli("account", "remove", server.user)
    server.cli("alias", "remove", "postmaster@example.test")
    server.cli("domain", "remove", "example.test")
    server.start()
    yield server
    server.stop()


def send(server: Server, *to: str, subject: str = "hello") -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
        smtp.starttls(context=unverified())
        smtp.login("me@near.test", server.password)
        message = letter(to[0], subject)
        message.replace_header("From", "me@near.test")
        smtp.send_message(message, "me@near.test", list(to))


def subjects(server: Server, address: str = "") -> list[str]:
    root = server.maildir(address)
    found = [p for sub in ("new", "cur") for p in (root / sub).glob("*")]
    return sorted(next(line[9:] for line in p.read_text().splitlines() if line.startswith("Subject: ")) for p in found)


def until(done: object, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def queued(server: Server) -> list[dict[str, object]]:
    return json.loads(server.cli("queue", "list", "--json").stdout)  # type: ignore[no-any-return]


@pytest.mark.tour
def test_from_one_server_to_another(near: Server, far: Server) -> None:
    send(near, far.user, "me@near.test", subject="both")
    until(lambda: "both" in subjects(far) and subjects(near, "me@near.test") == ["both"])
    assert queued(near) == []


def test_the_life_of_a_message_can_be_read(near: Server, far: Server) -> None:
    send(near, far.user, "nobody@example.test", "me@near.test", subject="traced")
    until(lambda: "Undelivered Mail" in subjects(near, "me@near.test") and "traced" in subjects(near, "me@near.test"))
    near.traced(far.user, "sent")
    far.traced(far.user, "accepted")
    until(lambda: len(json.loads(near.cli("trace", far.user, "--json").stdout)) >= 6)  # written once a second
    events = json.loads(near.cli("trace", far.user, "--json").stdout)
    whats = [event["what"] for event in events]
    assert whats[0] == "accepted" and sorted(whats[1:]) == ["failed", "reported", "sent", "sent", "stored"]
    first = events[0]["fields"]
    assert first["login"] == "me@near.test" and first["protocol"] == "ESMTPSA" and len(first["recipients"]) == 3
    assert first["tls"].startswith("TLSv1.")
    sent = next(event["fields"] for event in events if event["fields"].get("recipient") == far.user)
    assert sent["tls"].startswith("TLS") and sent["reply"].startswith("250 2.0.0")
    by_id = json.loads(near.cli("trace", first["message_id"], "--json").stdout)
    assert by_id == events and json.loads(near.cli("trace", events[0]["id"], "--json").stdout) == events
    assert "accepted" in near.cli("trace", "me@near.test").stdout
    (stored,) = [
        e for e in json.loads(far.cli("trace", far.user, "--most", "1", "--json").stdout) if e["what"] == "accepted"
    ]
    assert stored["fields"]["stored"][0].startswith(f"{far.user} as UID ")
    assert stored["fields"]["stored"][0].endswith(" in INBOX")
    assert near.cli("trace", "nobody@nowhere.test", check=False).returncode == 1


def test_the_queue_is_shown_and_steered_while_the_server_runs(near: Server, far: Server) -> None:
    send(near, "a@dead.test", subject="one")
    send(near, "b@dead.test", subject="two")
    until(lambda: any(row["last"] for row in queued(near)))
    rows = queued(near)
    assert {row["destination"] for row in rows} == {rows[0]["destination"]} and len(rows) == 2
    shown = near.cli("queue", "show", str(rows[0]["id"]), "--content").stdout
    assert "Subject: one" in shown
    assert "held 1" in near.cli("queue", "hold", "--recipient", "b@*").stdout
    assert [row["held"] for row in queued(near)] == [False, True]
    assert "a@dead.test" in near.cli("queue", "list", "--recipient", "a@*").stdout
    (total,) = json.loads(near.cli("queue", "summary", "--json").stdout)
    assert (total["messages"], total["recipients"]) == (2, 2)
    assert near.cli("queue", "drop", check=False).returncode == 2
    assert near.cli("queue", "drop", "NOSUCH", check=False).returncode != 0
    near.cli("queue", "move", f"smtp:127.0.0.1:{far.ports['smtp']}", "--sender", "me@near.test", "--recipient", "b@*")
    until(lambda: subjects(near, "me@near.test") == ["Undelivered Mail"])  # the far server has no such user
    assert "bounced 1" in near.cli("queue", "bounce", str(rows[0]["id"])).stdout
    until(lambda: subjects(near, "me@near.test") == ["Undelivered Mail"] * 2)
    assert queued(near) == []


def test_orders_over_everything(near: Server) -> None:
    send(near, "one@dead.test", subject="one")
    send(near, "two@dead.test", subject="two")
    # a destination that was down for another test is tried again after a minute
    until(lambda: len([row for row in queued(near) if row["last"]]) == 2, 150.0)
    assert near.cli("queue", "retry", check=False).returncode == 2, "everything has to be said"
    for where in ("", "stmp:10.0.0.1:25"):
        refused = near.cli("queue", "move", where, "--all", check=False)
        assert refused.returncode == 2 and "is expected" in refused.stderr
    rows = json.loads(near.cli("queue", "hold", "--all", "--json").stdout)
    assert len(rows) == 2 and all(row["held"] and row["destination"].startswith("smtp:127.0.0.1:") for row in rows)
    moved = json.loads(near.cli("queue", "move", "smtp:127.0.0.1", "--match", "one@", "--json").stdout)
    assert [(row["destination"], row["action"]) for row in moved] == [("smtp:127.0.0.1:25", "moved")]
    nothing = near.cli("queue", "drop", "--match", "three@", "--json", check=False)
    assert nothing.returncode == 1 and json.loads(nothing.stdout) == []
    assert len(json.loads(near.cli("queue", "drop", "--all", "--json").stdout)) == 2
    assert queued(near) == [] and subjects(near, "me@near.test") == []


@pytest.mark.tour
def test_a_kill_loses_nothing_that_was_queued(near: Server, far: Server) -> None:
    """R5: the server is killed while it takes mail and sends it; nothing acknowledged is lost."""
    told = []
    before = set(subjects(far))
    for round_ in range(4):
        for n in range(15):
            subject = f"kill {round_}.{n}"
            send(near, far.user, subject=subject)
            told.append(subject)
        near.kill()
        near.start()
    until(lambda: set(told) <= set(subjects(far)) and queued(near) == [], 40.0)
    arrived = [one for one in subjects(far) if one not in before]
    assert set(arrived) == set(told)
    # an attempt whose answer was not written down yet may be repeated: one for each kill and connection at most
    assert len(arrived) - len(told) <= 4 * 20


@pytest.mark.parametrize("content", ["maildir", "segments"])
def test_queue_and_mailbox_share_one_copy(tmp_path: Path, content: str) -> None:
    dead = f'\n[relay]\nroutes = ["dead.test smtp:127.0.0.1:{dead_port()}"]\n'
    server = Server(tmp_path / "one", dead, content=content)
    server.start()
    body = "needle" + "x" * 500 + "\n"

    def copies() -> int:
        found = {}
        for path in (tmp_path / "one" / "data").rglob("*"):
            if path.is_file() and path.suffix != ".mdb" and not {"trace", "journal"} & set(path.parts):
                found[path.stat().st_ino] = path.read_bytes().count(b"needle")
        return sum(found.values())

    try:
        with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
            smtp.starttls(context=unverified())
            smtp.login(server.user, server.password)
            smtp.sendmail(
                server.user, [server.user, "a@dead.test"], f"From: {server.user}\r\nSubject: both\r\n\r\n{body}"
            )
        until(lambda: len(queued(server)) == 1)  # the mailbox has it
        assert copies() == 1
        server.kill()
        server.start()
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            imap.select()
            (_, mine), _ = imap.fetch("1", "(BODY[])")[1]
            assert mine.startswith(b"Return-Path: ") and b"needle" in mine
            imap.store("1", "+FLAGS", r"(\Deleted)")
            imap.expunge()
        (row,) = queued(server)
        shown = server.cli("queue", "show", str(row["id"]), "--content").stdout
        assert shown.startswith("Received: ") and mine.decode().replace("\r\n", "\n").endswith(shown)
        assert server.cli("queue", "drop", str(row["id"])).returncode == 0
    finally:
        server.stop()


@pytest.mark.peer
@pytest.mark.root
@pytest.mark.parametrize("mta", [mtas.postfix, mtas.exim, mtas.opensmtpd])
def test_by_way_of_another_mta(tmp_path: Path, near: Server, far: Server, mta: mtas.Mta) -> None:
    """Both directions: it takes mail from us, and hands it to us, all that we hand over, once, as it was."""
    with mta(tmp_path / "mta", far.ports["smtp"]) as port:
        text = near.config.read_text()
        near.config.write_text(text.replace(f"smtp:127.0.0.1:{far.ports['smtp']}", f"smtp:127.0.0.1:{port}"))
        near.stop()
        near.start()
        before = subjects(far)
        for n in range(5):
            send(near, far.user, subject=f"{mta.__name__} {n}")
        wanted = [f"{mta.__name__} {n}" for n in range(5)]
        until(lambda: set(wanted) <= set(subjects(far)), 40.0)
        assert [one for one in subjects(far) if one not in before] == wanted
        assert queued(near) == []
        with smtplib.SMTP("127.0.0.1", near.ports["submission"], timeout=20) as smtp:  # 8 bits, dots, a long line
            smtp.starttls(context=unverified())
            smtp.login("me@near.test", near.password)
            body = ".\r\n..two\r\nna\u00efve \u20ac\r\n" + "x" * 900 + "\r\n"
            head = f"From: me@near.test\r\nTo: {far.user}\r\nSubject: odd {mta.__name__}\r\nMIME-Version: 1.0\r\n"
            kind = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            options = ["BODY=8BITMIME"]
            smtp.sendmail("me@near.test", [far.user], (head + kind + body).encode(), options)
        until(lambda: f"odd {mta.__name__}" in subjects(far), 40.0)
        (path,) = [p for p in far.maildir().glob("[nc]*/*") if f"Subject: odd {mta.__name__}\n" in p.read_text()]
        message = email.message_from_bytes(path.read_bytes())
        assert message.get_payload(decode=True) == body.replace("\r\n", "\n").encode()
        assert len(message.get_all("Received") or []) == 3


def test_a_program_takes_mail(tmp_path: Path, near: Server) -> None:
    """From a whole server, on its own event loop, with its own rights."""
    for one in (tmp_path, *tmp_path.parents):
        if str(one).startswith("/tmp/"):
            one.chmod(one.stat().st_mode | 0o011)
    box = tmp_path / "box"
    box.mkdir()
    box.chmod(0o777)
    script = box / "take"
    script.write_text(f"#!/bin/sh\nid -u > {box}/who\ncat > {box}/mail.$1\n")
    script.chmod(0o755)
    near.stop()
    text = near.config.read_text()
    near.config.write_text(text.replace("routes = [", f'routes = ["lists.test pipe:{script} {{user}}", '))
    near.start()
    send(near, "one@lists.test", "two@lists.test", subject="to a program")
    until(lambda: (box / "mail.one").exists() and (box / "mail.two").exists() and queued(near) == [])
    assert "Subject: to a program\n" in (box / "mail.two").read_text()
    assert int((box / "who").read_text()) == (65534 if os.geteuid() == 0 else os.geteuid())


@pytest.mark.peer("smtp-source", "smtp-sink")
def test_postfix_tools_as_source_and_sink(tmp_path: Path, near: Server, far: Server) -> None:
    """smtp-source sends many at once, over many sessions; what is for elsewhere reaches smtp-sink, all of it."""
    source, sink = (str(needs.program(name)) for name in ("smtp-source", "smtp-sink"))
    (port,) = free_ports(1)
    dumps = tmp_path / "dumps"
    dumps.mkdir(mode=0o777)
    dumps.chmod(0o777)
    for one in (tmp_path, *tmp_path.parents):
        if str(one).startswith("/tmp/"):
            one.chmod(one.stat().st_mode | 0o011)
    near.stop()
    text = near.config.read_text()
    near.config.write_text(
        text.replace("\nroutes = [", f'\nnetworks = ["127.0.0.0/8"]\nroutes = ["sink.test smtp:127.0.0.1:{port}", ')
    )
    near.start()
    command = [sink, "-d", str(dumps / "m."), f"127.0.0.1:{port}", "100"]
    if os.geteuid() == 0:
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for to in ("me@near.test", "you@sink.test"):
            done = subprocess.run(
                [
                    source,
                    "-l",
                    "4000",
                    "-m",
                    "200",
                    "-s",
                    "10",
                    "-f",
                    "a@b.test",
                    "-t",
                    to,
                    f"127.0.0.1:{near.ports['smtp']}",
                ],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0 and not done.stderr, done.stderr
        assert len(list(near.maildir("me@near.test").glob("[nc]*/*"))) == 200
        until(lambda: queued(near) == [], 30.0)
        until(lambda: len(list(dumps.iterdir())) == 200, 10.0)
    finally:
        process.terminate()
        process.wait(10)
