"""``fastmail verdict`` asks scanners and the classifier too."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.cli.place import MESSAGE, USER, Place

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
