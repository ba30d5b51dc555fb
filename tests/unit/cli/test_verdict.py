"""``fastmail verdict`` asks scanners and the classifier too."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmail.policy.greylist import Greylist
from tests.unit.cli.place import MESSAGE, USER, Place
from tests.unit.cli.test_deliverability import Names

NO_DNS = "\n[policy]\nspf = false\ndkim = false\ndmarc = false\narc = false\nreverse_dns = false\n"


@contextmanager
def clamd(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A scanner of one connection, beside the command's own event loop: its address, and what it heard."""
    heard: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as file:
            assert file.read(10) == b"zINSTREAM\0"
            while size := int.from_bytes(file.read(4), "big"):
                heard.append(file.read(size))
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}", heard
    finally:
        thread.join()
        listening.close()


def test_an_infected_message(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(MESSAGE.format(1).replace("\n", "\r\n").encode())
    with clamd(b"stream: Eicar FOUND\0") as (address, heard):
        before = place.config.read_text()
        place.config.write_text(before + NO_DNS + f'\n[[scanner]]\nkind = "clamav"\naddress = "{address}"\n')
        said = place.run("verdict", str(file), "--to", USER, "--explain")
    assert said.startswith("refuse, score 0\nreply: 554 5.7.1 the message is infected: Eicar\n"), said
    assert "clamav.virus" in said and "X-Virus-Status: Infected" in said
    assert b"".join(heard).decode() == MESSAGE.format(1)
    (row,) = place.rows("verdict", str(file))
    assert row["findings"] == [{"who": "clamav", "said": "away"}], "nobody listens there now"


def test_the_classifier_is_asked_as_the_account_taught(place: Place, tmp_path: Path) -> None:
    place.config.write_text(place.config.read_text() + NO_DNS + "\n[learning]\nenabled = true\nmessages = 3\n")
    for kind, text in (
        ("spam", "cheap pills online buy now without prescription"),
        ("ham", "dinner is ready joe come home soon"),
    ):
        files = []
        for n in range(4):
            files.append(str(tmp_path / f"{kind}{n}"))
            Path(files[-1]).write_text(MESSAGE.format(f"{kind}{n}") + text + "\n")
        place.run("learn", kind, *files, "--account", USER)
    words = ("verdict", str(tmp_path / "spam0"))
    (row,) = place.rows(*words, "--to", USER)
    assert [one["who"] for one in row["findings"]] == ["learned"] and row["score"] > 0
    (row,) = place.rows(*words)
    assert row["findings"] == []


def test_the_settings_of_the_recipient(place: Place, tmp_path: Path) -> None:
    """Each with the level that says it; a list of the account decides."""
    file = tmp_path / "message"
    file.write_text(MESSAGE.format(1))
    place.config.write_text(place.config.read_text() + NO_DNS + 'junk_score = 4.0\nblock = ["@example.org"]\n')
    words = ("verdict", str(file), "--from", "you@example.org", "--ip", "192.0.2.1", "--to", USER)
    (row,) = place.rows(*words)
    (wanted,) = row["recipients"]
    assert (row["action"], wanted["address"], wanted["action"]) == ("refuse", USER, "refuse")
    assert row["reasons"][-1] == {"name": "blocked", "score": 0.0, "why": "@example.org, by the server"}
    assert wanted["said_by"] == dict.fromkeys(("junk_score", "refuse_score", "greylist", "enforce"), "the server")
    place.run("domain", "set", "example.test", "enforce=yes", "refuse_score=9")
    place.run("account", "set", USER, "junk_score=-1", "block=you@example.org", "blocked=junk")
    said = place.run(*words)
    assert said.startswith("junk, score 0\n"), said
    line = "junk; junk_score -1 (the account), refuse_score 9 (the domain), greylist 0 (the server), enforce yes (the domain)"
    assert f"{USER}: {line}\n" in said
    assert place.rows(*words[:-1], "nobody@example.test")[0]["recipients"] == []


def test_who_would_be_put_off(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greylisting says what would happen now, and nobody is known because of it."""
    names = Names({("example.org", "TXT"): ["v=spf1 -all"]})
    monkeypatch.setattr("fastmail.cli.verdict.resolver_of", lambda config: names)
    file = tmp_path / "message"
    file.write_text(MESSAGE.format(1))
    settings = "enforce = true\ngreylist_score = 1.0\ngreylist_delay = 120\n"
    place.config.write_text(place.config.read_text() + NO_DNS.replace("spf = false\n", "") + settings)
    words = ("verdict", str(file), "--from", "joe@example.org")
    for _ in range(2):
        (row,) = place.rows(*words, "--ip", "192.0.2.1")
        assert (row["action"], row["reply"]) == ("later", "450 4.7.1 not known here yet: try again in 120 seconds")
    said = place.run(*words, "--ip", "192.0.2.1")
    assert said.startswith("later, score 2\nreply: 450 4.7.1 not known here yet: try again in 120 seconds\n"), said
    assert place.rows(*words)[0]["action"] == "accept", "nothing is said of a client that is not named"
    known = Greylist(str(place.base / "data"), 0.0)
    assert known.wait("192.0.2.0/24", "joe@example.org") == 0
    known.close()
    assert place.rows(*words, "--ip", "192.0.2.1")[0]["action"] == "accept"
    assert place.rows(*words, "--ip", "198.51.100.1")[0]["action"] == "later"
