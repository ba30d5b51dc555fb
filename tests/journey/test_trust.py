"""Mail from others through a real server: what it writes into Authentication-Results, and what it does when it enforces.

NSD serves the zones. The client introduces itself by XCLIENT, because mail of this machine is not checked."""

import email
import email.message
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.app.child import free_ports
from tests.support.server import Server
from tests.support.signing import MESSAGE, key, signed

ZONE = """$ORIGIN {name}.
$TTL 60
@ IN SOA ns.{name}. root.{name}. 1 3600 600 86400 60
@ IN NS ns.{name}.
ns IN A 127.0.0.1
{more}
"""


def text(record: str) -> str:
    """A TXT record in strings of 255 octets."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))


class Nsd:
    def __init__(self, base: Path, zones: dict[str, str]) -> None:
        program = shutil.which("nsd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("nsd is not installed: apt-get install nsd")
        (self.port,) = free_ports(1)
        lines = ""
        for name, more in zones.items():
            (base / name).write_text(ZONE.format(name=name, more=more))
            lines += f"zone:\n name: {name}\n zonefile: {base / name}\n"
        (base / "nsd.conf").write_text(
            f'server:\n ip-address: 127.0.0.1\n port: {self.port}\n username: ""\n chroot: ""\n zonesdir: "{base}"\n'
            f' database: ""\n pidfile: "{base}/nsd.pid"\n xfrdfile: "{base}/xfrd"\n zonelistfile: "{base}/zones"\n'
            f" server-count: 1\nremote-control:\n control-enable: no\n{lines}"
        )
        with open(base / "out", "wb") as out:
            self.process = subprocess.Popen([program, "-d", "-c", str(base / "nsd.conf")], stdout=out, stderr=out)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (base / "out").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "dns").mkdir()
    dns = Nsd(
        tmp_path / "dns",
        {
            "example.org": f'@ IN TXT "v=spf1 ip4:192.0.2.1 -all"\n_dmarc IN TXT "v=DMARC1; p=reject"\n'
            f"one._domainkey IN TXT {text(key().record())}\nmail IN A 192.0.2.1\n",
            "2.0.192.in-addr.arpa": "1 IN PTR mail.example.org.",
            "100.51.198.in-addr.arpa": "",
            "far.test": "",
            "org": "",
        },
    )
    extra = (
        f'\n[relay]\ndns_servers = ["127.0.0.1:{dns.port}"]\ndnssec = false\n[policy]\nlookup_time = 5\n'
        f"[limits]\nauth_failure_delay = 0.05\n"
    )
    made = Server(tmp_path / "server", extra, workers=1)
    made.config.write_text(made.config.read_text().replace("[listen]", '[listen]\nxclient = ["127.0.0.0/8"]', 1))
    try:
        yield made
    finally:
        made.stop()
        dns.stop()


def send(
    server: Server,
    content: bytes,
    ip: str = "192.0.2.1",
    helo: str = "mail.example.org",
    sender: str = "joe@example.org",
    to: str = "user@example.test",
) -> str:
    """The reply to a message from there."""
    sock = server.connect("smtp")
    with sock, sock.makefile("rwb") as stream:

        def say(line: bytes, wanted: bytes = b"2") -> bytes:
            if line:
                stream.write(line + b"\r\n")
                stream.flush()
            reply = b""
            while not re.match(rb"\d{3} ", reply):
                reply = stream.readline()
            assert reply.startswith(wanted) or not wanted, (line, reply)
            return reply

        say(b"")
        say(b"EHLO proxy.test")
        say(f"XCLIENT ADDR={ip}".encode())
        say(b"EHLO " + helo.encode())
        say(f"MAIL FROM:<{sender}>".encode())
        say(f"RCPT TO:<{to}>".encode())
        say(b"DATA", b"354")
        return say(content.replace(b"\n", b"\r\n").replace(b"\r\n.", b"\r\n..") + b".", b"").decode()


def delivered(server: Server, mailbox: str = "") -> list[email.message.Message]:
    places = [server.maildir() / mailbox / part for part in ("new", "cur")]
    return [
        email.message_from_bytes(path.read_bytes()) for place in places if place.exists() for path in place.iterdir()
    ]


def test_signed_mail_that_comes_in_passes(server: Server) -> None:
    server.start()
    forged = b"Authentication-Results: (x) MX.example.test; dmarc=pass header.from=bank.test\nX-Spam-Flag: NO\n"
    assert send(server, forged + signed()).startswith("250")
    (message,) = delivered(server)
    (field,) = message.get_all("Authentication-Results")
    said = " ".join(field.split())
    assert said.startswith("mx.example.test; iprev=pass (mail.example.org)")
    for part in (
        "spf=pass smtp.mailfrom=example.org",
        "dkim=pass (2048-bit key) header.d=example.org header.i=@example.org header.s=one header.a=rsa-sha256",
        "dmarc=pass header.from=example.org policy.dmarc=reject",
    ):
        assert part in said
    assert "X-Spam-Flag" not in message and "bank.test" not in str(message)
    server.traced("user@example.test", "spf=pass dkim=pass dmarc=pass: accept")


def test_forged_mail_is_marked_and_with_enforcement_refused(server: Server) -> None:
    server.start()
    assert send(server, MESSAGE, "198.51.100.9", "far.test").startswith("250")
    (message,) = delivered(server)
    said = " ".join(message["Authentication-Results"].split())
    assert "spf=fail" in said and "dkim=none" in said and "dmarc=fail" in said
    server.stop()
    server.config.write_text(server.config.read_text().replace("[policy]", "[policy]\nenforce = true"))
    server.start()
    assert send(server, MESSAGE, "198.51.100.9", "far.test").startswith("550 5.7.1 DMARC of example.org")
    assert send(server, b"From: evil@bank.test\n" + signed()).startswith("550 5.7.1 From must name one author")
    assert len(delivered(server)) == 1
    changed = signed().replace(b"hungry", b"angry")
    assert send(server, changed, "192.0.2.1").startswith("250")  # SPF vouches for it
    assert len(delivered(server)) == 2
    server.traced("user@example.test", "refused: 550")


def test_the_command_says_what_would_happen(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_bytes(signed())
    args = ("verdict", str(file), "--from", "joe@example.org", "--ip", "192.0.2.1", "--helo", "mail.example.org")
    said = server.cli(*args, "--explain").stdout
    assert said.startswith("accept, score -0.9\n") and "dmarc.pass" in said and "spf=pass" in said
    (row,) = json.loads(server.cli(*args, "--json").stdout)
    assert (row["action"], row["spf"], row["dmarc"]) == ("accept", "pass", "pass")
    assert [one["result"] for one in row["dkim"]] == ["pass"]
    file.write_bytes(MESSAGE)
    args = (
        "verdict",
        str(file),
        "--from",
        "joe@example.org",
        "--ip",
        "198.51.100.9",
        "--helo",
        "far.test",
        "--explain",
    )
    said = server.cli(*args).stdout
    assert said.startswith("refuse, score 6 (not done: [policy] enforce is false)\nreply: 550 5.7.1 DMARC")
    assert server.cli("verdict", str(file), "--ip", "nowhere", check=False).returncode == 2
    assert server.cli("verdict", str(tmp_path / "none"), check=False).returncode == 1
