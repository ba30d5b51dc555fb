"""Keys and signatures of a real server: published in a zone, seen there by the server, and verified where the mail goes."""

import re
import smtplib
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dkim as dkimpy
import pytest

from fastmail.bench.load import unverified
from tests.journey.test_trust import Nsd
from tests.support.server import PATIENCE, Server
from tests.support.signing import verify

LETTER = "From: user@example.test\r\nTo: you@far.test\r\nSubject: hello\r\n\r\n.dots\r\nbody  \r\n"


class FarHost(socketserver.ThreadingTCPServer):
    """The mail host of far.test, as simple as one may be; ``taken``: what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FarSession)
        self.taken: list[bytes] = []
        self.port: int = self.server_address[1]  # type: ignore[assignment]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class FarSession(socketserver.StreamRequestHandler):
    server: FarHost

    def handle(self) -> None:
        self.wfile.write(b"220 mail.far.test\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                self.wfile.write(b"250-mail.far.test\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                content = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    content += line.removeprefix(b".")
                self.server.taken.append(content)
                self.wfile.write(b"250 taken\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")


def until(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.fixture
def far() -> Iterator[FarHost]:
    host = FarHost()
    yield host
    host.shutdown()
    host.server_close()


def records(zone: str) -> dict[str, str]:
    """The texts of what ``fastmail dkim zone`` printed, by name."""
    found = re.findall(r"(?m)^(\S+)\. IN TXT ((?:\((?s:.*?)\))|\"[^\n]*\")", zone)
    return {name: "".join(re.findall(r'"([^"]*)"', text)) for name, text in found}


def test_from_the_key_to_a_host_that_verifies(tmp_path: Path, far: FarHost) -> None:
    server = Server(tmp_path / "server", workers=1)
    server.cli("dkim", "add", "example.test", "--kind", "rsa", "--kind", "ed25519")
    zone = server.cli("dkim", "zone", "example.test").stdout
    known = records(zone)
    assert len(known) == 2
    (tmp_path / "dns").mkdir()
    dns = Nsd(
        tmp_path / "dns",
        {"example.test": zone.rstrip("\n"), "far.test": "@ IN MX 1 mail.far.test.\nmail IN A 127.0.0.1"},
    )
    try:
        text = server.config.read_text()
        server.config.write_text(
            f'{text}\n[relay]\ndns_servers = ["127.0.0.1:{dns.port}"]\ndnssec = false\nport = {far.port}\n'
            "loopback_hosts = true\nmta_sts = false\n"
        )
        assert "same" in server.cli("dkim", "list", "--check").stdout
        server.start()
        until(lambda: server.log.read_text().count("state=active") == 2)
        with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as smtp:
            smtp.starttls(context=unverified())
            smtp.login(server.user, server.password)
            smtp.sendmail(server.user, ["you@far.test", server.user], LETTER)
        (content,) = until(lambda: far.taken)
        found = verify(content, {(name, "TXT"): [record] for name, record in known.items()})
        assert [(one.result, one.algorithm, one.domain) for one in found] == [
            ("pass", "rsa-sha256", "example.test"),
            ("pass", "ed25519-sha256", "example.test"),
        ]
        asked = lambda name, timeout=5: known[name.decode().rstrip(".")].encode()  # noqa: E731
        assert dkimpy.DKIM(content).verify(idx=0, dnsfunc=asked), "by RSA, as everybody"
        (copy,) = until(lambda: list(server.maildir().glob("new/*")))
        assert b"DKIM-Signature: v=1; a=rsa-sha256" in copy.read_bytes()
        states = [row.split()[3] for row in server.cli("dkim", "list").stdout.splitlines()[1:]]
        assert states == ["active", "active"]
    finally:
        server.stop()
        dns.stop()
