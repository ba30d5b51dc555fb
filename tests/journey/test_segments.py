"""Content in segments: delivery, IMAP, crash, compaction, conversion, damage and a lost index, on a real server."""

import imaplib
import json
import shutil
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "s", content="segments")
    server.start()
    yield server
    server.stop()


def send(server: Server, subjects: list[str]) -> None:
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as client:
        for subject in subjects:
            client.sendmail("a@b.example", [server.user], f"Subject: {subject}\r\n\r\n{subject * 200}\r\n")


def login(server: Server, mailbox: str = "INBOX") -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
    client.login(server.user, server.password)
    client.select(mailbox)
    return client


def subjects(server: Server, mailbox: str = "INBOX") -> dict[int, str]:
    """{uid: subject}, of messages whose whole content is right."""
    client = login(server, mailbox)
    out = {}
    kind, data = client.uid("FETCH", "1:*", "(BODY.PEEK[])")
    if kind == "NO":
        data = client.untagged_responses.pop("FETCH")  # imaplib leaves them there
    for item in data:
        if isinstance(item, tuple):
            uid = int(item[0].split(b"UID ")[1].split()[0])
            head, _, body = item[1].partition(b"\r\n\r\n")
            subject = next(line for line in head.split(b"\r\n") if line.startswith(b"Subject: "))[9:]
            assert body == subject * 200 + b"\r\n"
            out[uid] = subject.decode()
    client.logout()
    return out


def usage(server: Server) -> list[dict[str, object]]:
    found = json.loads(server.cli("content", "list", "--json").stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.tour
def test_a_life_in_segments(server: Server) -> None:
    send(server, [f"m{n}" for n in range(30)])
    assert not server.maildir().exists()
    client = login(server)
    client.create("Kept")
    assert client.uid("COPY", "1:10", "Kept")[0] == "OK"
    assert client.uid("MOVE", "30", "Kept")[0] == "OK"
    client.uid("STORE", "1:20", "+FLAGS", r"(\Deleted \Seen)")
    client.expunge()
    client.append("Kept", r"(\Flagged)", None, b"Subject: own\r\n\r\n" + b"own" * 200 + b"\r\n")
    client.logout()
    inbox, kept = subjects(server), subjects(server, "Kept")
    assert list(inbox.values()) == [f"m{n}" for n in range(20, 29)]
    assert list(kept.values()) == [*(f"m{n}" for n in range(10)), "m29", "own"]

    server.kill()
    server.start()
    assert (subjects(server), subjects(server, "Kept")) == (inbox, kept)
    assert server.cli("content", "check").returncode == 0

    before = sum(int(str(one["octets"])) for one in usage(server))
    done = json.loads(server.cli("content", "compact", "--waste", "10", "--json").stdout)
    assert [one["result"] for one in done if one["won"]]
    assert sum(int(str(one["octets"])) for one in usage(server)) < before
    assert (subjects(server), subjects(server, "Kept")) == (inbox, kept)
    assert server.cli("content", "check").returncode == 0
    assert server.cli("index", "check").returncode == 0


def test_conversion_both_ways_keeps_everything(server: Server) -> None:
    send(server, [f"m{n}" for n in range(12)])
    client = login(server)
    client.uid("STORE", "3", "+FLAGS", r"(\Flagged $Work)")
    client.logout()
    inbox = subjects(server)
    server.cli("content", "convert", "--to", "maildir")
    assert len(list((server.maildir() / "cur").iterdir())) == 12
    assert subjects(server) == inbox
    server.cli("content", "convert", "--to", "segments")
    assert subjects(server) == inbox
    deadline = time.monotonic() + 10
    while list((server.maildir() / "cur").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list((server.maildir() / "cur").iterdir())
    client = login(server)
    _, data = client.uid("FETCH", "3", "(FLAGS)")
    assert b"$Work" in data[0] and b"\\Flagged" in data[0]
    client.logout()
    assert server.cli("index", "check").returncode == 0


def test_damage_harms_one_message_and_is_reported(server: Server) -> None:
    send(server, [f"m{n}" for n in range(5)])
    server.stop()
    [path] = [p for p in (server.directory / "data" / "segments-0").iterdir() if b"Subject: m2\n" in p.read_bytes()]
    data = path.read_bytes()
    at = data.index(b"m2m2m2m2") + 100
    path.write_bytes(data[:at] + b"#" + data[at + 1 :])
    server.start()
    assert sorted(subjects(server).values()) == ["m0", "m1", "m3", "m4"]
    client = login(server)
    assert client.uid("FETCH", "3", "(BODY.PEEK[])")[0] == "NO"
    assert client.uid("FETCH", "3", "(ENVELOPE)")[0] == "OK"
    client.logout()
    done = server.cli("content", "check", "--json", check=False)
    assert done.returncode == 1
    assert any("UID 3" in one["where"] for one in json.loads(done.stdout))


def test_a_lost_index_is_made_anew_from_segments(server: Server) -> None:
    send(server, [f"m{n}" for n in range(5)])
    client = login(server)
    client.create("Some/Folder")
    client.uid("MOVE", "2", "Some/Folder")
    client.append("Some/Folder", None, None, b"Subject: own\r\n\r\n" + b"own" * 200 + b"\r\n")
    client.logout()
    server.stop()
    shutil.rmtree(server.directory / "data" / "index-0")
    server.start()
    assert subjects(server) == {}
    send(server, ["after"])
    server.cli("index", "rebuild")
    server.cli("index", "rebuild")
    found = [*subjects(server).values(), *subjects(server, "Some/Folder").values()]
    assert sorted(found) == sorted([*(f"m{n}" for n in range(5)), "own", "after"])
    server.stop()
    server.start()
    server.cli("content", "compact", "--waste", "0")
    assert sorted([*subjects(server).values(), *subjects(server, "Some/Folder").values()]) == sorted(found)
