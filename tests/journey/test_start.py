"""Servers that cannot start, ports that are taken, and what is printed once a server listens."""

import contextlib
import imaplib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.commands import CLI
from tests.support.server import Server


def greeting(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.settimeout(5)
        return sock.recv(200)
    return b"?"


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=2)
    shutil.rmtree(tmp_path / "s" / "data" / "bans", ignore_errors=True)
    (tmp_path / "s" / "data" / "bans").write_text("a file where a directory must be")
    with open(server.log, "wb") as log:
        process = subprocess.Popen([*CLI, "serve", "-c", str(server.config)], stdout=log, stderr=log)
    heard: dict[str, bytes] = {}
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end:
        for name in ("smtp", "lmtp", "imap", "pop3", "imaps"):
            said = greeting(server.ports[name])
            heard[name] = said if said != b"?" else heard.get(name, said)
        time.sleep(0.2)
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    assert process.wait(30) == 1
    assert heard["smtp"].startswith(b"421 4.3.2 mx.example.test ") and heard["lmtp"].startswith(b"421 ")
    assert (
        heard["imap"].startswith(b"* BYE ") and heard["pop3"].startswith(b"-ERR [SYS/TEMP]") and heard["imaps"] == b""
    )
    said = server.log.read_text()
    assert said.count("event=worker.failed") == 1 and said.count("Traceback") <= 1, said
    assert "event=gave.up" in said and "bans" in said
    assert len(re.findall("event=worker.died", said)) < 30


@pytest.mark.tour
def test_a_worker_that_comes_up_later_serves(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    bans = tmp_path / "s" / "data" / "bans"
    shutil.rmtree(bans, ignore_errors=True)
    bans.write_text("x")
    with open(server.log, "wb") as log:
        process = server.process = subprocess.Popen([*CLI, "serve", "-c", str(server.config)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while not greeting(server.ports["imap"]).startswith(b"* BYE"):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.unlink(bans)
        while not greeting(server.ports["imap"]).startswith(b"* OK"):
            assert time.monotonic() < end + 30 and process.poll() is None, server.log.read_text()
            time.sleep(0.05)
        imaplib.IMAP4("127.0.0.1", server.ports["imap"]).login(server.user, server.password)
    finally:
        server.stop()
    assert process.returncode == 0


def test_ports_that_are_taken(tmp_path: Path) -> None:
    server = Server(tmp_path / "s", workers=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.ports["imap"]))
        taken.listen()
        done = server.cli("serve", check=False)
        assert done.returncode == 78 and "Address already in use: another program has it" in done.stderr
        with open(server.log, "wb") as log:
            command = [*CLI, "serve", "-c", str(server.config), "--free-ports", "--welcome"]
            process = server.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + 40
            while "IMAP, STARTTLS" not in (said := server.log.read_text()):
                assert time.monotonic() < end and process.poll() is None, said
                time.sleep(0.05)
            found = re.search(r"IMAP, STARTTLS +127\.0\.0\.1:(\d+)", said)
            assert found is not None and int(found[1]) > server.ports["imap"]
            assert f"port {server.ports['imap']} is taken: imap is at 127.0.0.1:{found[1]}" in said
            assert said.index("event=worker.ready") < said.index("IMAP, STARTTLS")
            imaplib.IMAP4("127.0.0.1", int(found[1])).login(server.user, server.password)
            # a second one on the same data is refused, and takes no other ports
            again = server.cli("serve", "--free-ports", "--welcome", check=False)
            assert again.returncode == 78 and "another server runs" in again.stderr and "IMAP" not in again.stdout
        finally:
            server.stop()
