"""Data directories that earlier versions made (tests/data/layouts): every message, UID, flag and queue entry is the same
after an upgrade, and `check` changes nothing before it."""

import hashlib
import imaplib
import importlib.util
import json
import re
import shutil
import signal
import socket
import tarfile
import time
from pathlib import Path

import lmdb
import pytest

from tests.support import commands
from tests.support.ports import free_ports
from tests.support.server import PROTOCOLS

DATA = Path(__file__).parents[1] / "data" / "layouts"
ARCHIVES = sorted(DATA.glob("*.tar.xz"))
spec = importlib.util.spec_from_file_location("make_layouts", DATA / "make.py")
assert spec is not None and spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def rows(place: Path) -> bytes:
    """All rows of an environment but those of its journal."""
    out = []
    with lmdb.open(str(place), readonly=True, lock=False, max_dbs=30) as env:
        with env.begin() as txn:
            names = list(txn.cursor().iternext(values=False))
        for name in names:
            table = env.open_db(name, create=False)
            with env.begin() as txn:
                every = txn.cursor(db=table).iternext()
                out += [(name, key, value) for key, value in every if not key.startswith(b"journal")]
    return repr(out).encode()


class Home:
    """One of them, unpacked."""

    def __init__(self, archive: Path, place: Path) -> None:
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="data")
        self.path = place / "s"
        self.expected = json.loads((self.path / "expected.json").read_text())
        self.config = self.path / "fastmail.toml"
        self.ports = dict(zip(PROTOCOLS, free_ports(len(PROTOCOLS)), strict=True))
        text = self.config.read_text()
        for name, number in self.ports.items():
            text = re.sub(rf"(?m)^{name} = .*", f'{name} = ["127.0.0.1:{number}"]', text)
        # However old the queue's messages are: none is given up, and no sender is told of a delay.
        text = re.sub(r"(?m)^\[relay\]$", '[relay]\nlifetime = "36500d"\ndelay_warning = "36500d"', text)
        self.config.write_text(text)

    def run(self, *words: str, code: int = 0) -> str:
        done = commands.run(*words, "-c", str(self.config), timeout=100)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def digest(self) -> dict[str, str]:
        """Of every file but the lock files, in which readers sign; of what has a journal, of its rows: whoever opens it
        takes a checkpoint."""
        out = {}
        for path in (self.path / "data").rglob("*"):
            if not path.is_file() or path.name == "lock.mdb" or path.parent.name == "journal":
                continue
            journaled = (path.parent / "journal" / "checkpoint").exists()
            content = rows(path.parent) if path.name == "data.mdb" and journaled else path.read_bytes()
            out[str(path)] = hashlib.sha256(content).hexdigest()
        return out

    def serve_and_look(self) -> dict[str, object]:
        with open(self.path / "log", "ab") as log:
            process = commands.start("serve", "-c", str(self.config), output=log)
        try:
            end = time.monotonic() + 90
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.ports["imap"]), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < end and process.poll() is None, (self.path / "log").read_text()
                    time.sleep(0.1)
            client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=60)
            client.login(make.USER, make.PASSWORD)
            found: dict[str, object] = make.seen(client)
            client.logout()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)
        said = (self.path / "log").read_text()
        assert "Traceback" not in said and "worker.died" not in said, said
        return found

    def queue(self) -> list[list[str]]:
        jobs = json.loads(self.run("queue", "list", "--json"))
        return sorted([j["id"], j["sender"], str(j.get("destination")), str(j.get("recipients"))] for j in jobs)


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    return Home(request.param, tmp_path)


def test_there_is_one_of_each_layout() -> None:
    assert {path.name.partition(".")[0] for path in ARCHIVES} >= {"index-0", "index-1", "index-2", "queue-1"}


def test_check_changes_nothing_and_upgrade_keeps_all(home: Home) -> None:
    before = home.digest()
    assert "run `fastmail upgrade`" in home.run("check", code=1)
    assert "at the next start" in home.run("upgrade", "--dry-run")
    assert home.digest() == before
    assert "done" in home.run("upgrade")
    assert "at the next start" not in home.run("upgrade", "--dry-run")
    if "queue" in home.expected:
        assert home.queue() == home.expected["queue"]
    assert home.run("check") == "all is well\n"
    found = home.serve_and_look()
    wanted = {name: value for name, value in home.expected.items() if name != "queue"}
    assert found == wanted
    assert home.run("check") == "all is well\n"
    left = home.digest()
    home.run("check")
    assert home.digest() == left


def test_a_server_upgrades_when_it_starts(home: Home) -> None:
    found = home.serve_and_look()
    assert found == {name: value for name, value in home.expected.items() if name != "queue"}
    assert home.run("check") == "all is well\n"


def test_check_repair_keeps_uids_too(home: Home) -> None:
    home.run("check", "--repair")
    assert home.serve_and_look() == {name: value for name, value in home.expected.items() if name != "queue"}


def test_stamped_by_a_version_that_did_not_know(tmp_path: Path) -> None:
    """Such a one wrote the new number over rows of the first layout; they are known by their tables."""
    home = Home(DATA / "index-0.tar.xz", tmp_path)
    env = lmdb.open(str(home.path / "data" / "index-0"), max_dbs=30, map_size=1 << 30)
    for name in ("page", "msg", "new", "name", "subs", "pop", "note", "kw", "gone", "todo", "trash", "held", "meta"):
        env.open_db(name.encode())
    with env.begin(write=True) as txn:
        txn.put(b"layout", b"2", db=env.open_db(b"meta", txn=txn))
    env.close()
    before = home.digest()
    assert "run `fastmail upgrade`" in home.run("check", code=1)
    assert home.digest() == before
    assert home.serve_and_look() == {name: value for name, value in home.expected.items() if name != "queue"}
    shutil.rmtree(home.path)
