"""``fastmail check`` and ``upgrade``: what is wrong is found and mended where it can be; layouts of other versions."""

import imaplib
import json
import random
from pathlib import Path
from typing import Any

import lmdb
import pytest

from fastmail.durable.env import Environment
from fastmail.store.local.index import layout
from fastmail.store.local.index.layout import LAYOUT
from tests.support.server import Server


def rows(server: Server, *args: str, code: int = 0) -> list[dict[str, Any]]:
    done = server.cli(*args, "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def fill(server: Server, count: int = 8) -> None:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        for number in range(count):
            imap.append("INBOX", None, None, f"Subject: {number}\r\n\r\nbody\r\n".encode())


def test_a_record_whose_file_is_gone(tmp_path: Path) -> None:
    server = Server(tmp_path / "own")
    server.start()
    try:
        fill(server)
        assert rows(server, "check") == []
        server.stop()
        next(server.maildir().glob("[cn]*/*")).unlink()
        found = rows(server, "check", code=1)
        assert found[0]["where"] == f"{server.user} INBOX" and "records without a file" in found[0]["problem"]
        assert "--repair" in found[0]["mended"]
        assert rows(server, "check", "--repair")[0]["mended"] == "rebuilt from the files"
        assert rows(server, "check") == []
        server.start()
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            assert imap.select()[1] == [b"7"]
    finally:
        if server.process is not None:
            server.stop()


def test_a_row_that_names_its_record_wrongly(tmp_path: Path) -> None:
    """Its length, or its place, flipped without harm to the page it is on: seen, and set right."""
    server = Server(tmp_path / "own", content="segments")
    server.start()
    fill(server, 12)
    server.stop()
    env = lmdb.open(str(server.directory / "data" / "index-0"), max_dbs=len(layout.TABLES), map_size=1 << 30)
    table = env.open_db(b"msg", create=False)
    with env.begin(write=True) as txn:
        at = [(bytes(key), bytes(value)) for key, value in txn.cursor(db=table) if value[2:3] == b"s"]
        for (key, value), place in zip(at[:3], (2 + 11 + 4, 2 + 11, 2 + 1), strict=True):
            wrong = bytearray(value)
            wrong[place] ^= 64
            txn.put(key, bytes(wrong), db=table)
    env.close()
    found = rows(server, "check", code=1)
    assert len(found) == 3 and all("missing or damaged" in one["problem"] for one in found)
    mended = rows(server, "check", "--repair")
    assert [one["mended"] for one in mended] == ["rebuilt: its record is named again"] * 3
    assert rows(server, "check") == []
    server.start()
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        imap.login(server.user, server.password)
        assert imap.select()[1] == [b"12"]
        texts = [row[1] for row in imap.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(row, tuple)]
        assert len({*texts}) == 12
    server.stop()


def test_flips_in_segments_harm_only_their_messages(tmp_path: Path) -> None:
    server = Server(tmp_path / "own", content="segments")
    server.start()
    fill(server, 40)
    server.stop()
    choice = random.Random(3)
    segment = next((server.directory / "data").glob("segments-0/*.seg"))
    data = bytearray(segment.read_bytes())
    for _ in range(5):
        data[choice.randrange(100, len(data) - 200)] ^= 1 << choice.randrange(8)
    segment.write_bytes(data)
    found = rows(server, "check", code=1)
    lost = [row for row in found if " UID " in row["where"]]
    assert 1 <= len(lost) <= 5 and all("damaged" in row["problem"] for row in lost)
    server.start()
    try:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            imap.select()
            assert imap.uid("FETCH", "1:*", "(BODY.PEEK[])")[0] == "NO"  # some cannot be read; the others came
            whole = [row for row in imap.response("FETCH")[1] or [] if isinstance(row, tuple)]
            assert len(whole) == 40 - len(lost)
            imap.append("INBOX", None, None, b"Subject: more\r\n\r\n\r\n")
    finally:
        server.stop()


def test_aliases_that_lead_nowhere(tmp_path: Path) -> None:
    server = Server(tmp_path / "own")
    server.cli("account", "add", "gone@example.test", "--password-stdin", stdin="x\n")
    server.cli("alias", "add", "team@example.test", "gone@example.test")
    server.cli("account", "remove", "gone@example.test")
    assert rows(server, "check", code=1)[0]["where"] == "alias team@example.test"


@pytest.mark.parametrize("change", [-1, 1])
def test_layouts_of_other_versions(tmp_path: Path, change: int) -> None:
    server = Server(tmp_path / "own")
    server.start()
    fill(server, 2)
    server.stop()
    assert {row["then"] for row in rows(server, "upgrade", "--dry-run")} == {"nothing to do"}
    env = Environment(str(server.directory / "data" / "index-0"), ["page"], 99, 1 << 30)
    with env.write() as txn:
        txn.put(b"layout", b"%d" % (LAYOUT + change), db=env.db["meta"])
    env.close()
    code = 1 if change > 0 else 0
    row = next(row for row in rows(server, "upgrade", "--dry-run", code=code) if row["what"] == "index-0")
    assert row["layout"] == LAYOUT + change
    if change < 0:
        assert row["then"] == f"layout {LAYOUT} at the next start"
        assert "done" in {row["then"] for row in rows(server, "upgrade")}
        assert rows(server, "check") == []
    else:
        assert "newer" in row["then"]
        done = server.cli("check", check=False)
        assert done.returncode == 78 and "newer fastmail" in done.stderr


def test_a_damaged_checkpoint_is_told_and_the_index_goes_on(tmp_path: Path) -> None:
    server = Server(tmp_path / "own")
    server.start()
    fill(server, 3)
    server.stop()
    assert rows(server, "check") == []
    file = server.directory / "data" / "index-0" / "journal" / "checkpoint"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    (found,) = rows(server, "check")
    assert found["where"].endswith("/index-0") and "checkpoint is damaged" in found["problem"]
    assert found["mended"].startswith("rebuilt")
    assert rows(server, "check") == []
    server.start()
    try:
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
            imap.login(server.user, server.password)
            assert imap.select()[1] == [b"3"]
    finally:
        server.stop()
