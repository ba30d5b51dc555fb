"""One-click unsubscribing (RFC 8058) at a server that runs: a member elsewhere leaves by the link in its mail; what
scanners, forgers and slow or greedy clients get; certificates that are renewed, and a web process that dies."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.app.quickstart import write_certificate
from tests.journey.test_forwards import inbox, until
from tests.journey.test_lists import FarHost
from tests.support.ports import free_ports
from tests.support.server import Server

CREW, YOU, ME = "crew@example.test", "you@far.test", "me@far.test"
CLICK = "List-Unsubscribe=One-Click"


@pytest.fixture
def far() -> Iterator[FarHost]:
    host = FarHost()
    host.start()
    assert host.ready.wait(20)
    yield host
    host.close()


class Site:
    """A server with a list and a web server."""

    def __init__(self, place: Path, far: FarHost, more: str = "") -> None:
        self.far = far
        (self.port,) = free_ports(1)
        self.url = f"https://localhost:{self.port}"
        extra = f'\n[relay]\nroutes = ["far.test smtp:127.0.0.1:{far.sink.port}"]\n'
        extra += f'[web]\nlisten = ["127.0.0.1:{self.port}"]\nurl = "{self.url}"\n{more}'
        self.server = Server(place, extra)
        self.server.cli("dkim", "add", "example.test", "--now")
        self.server.cli("list", "add", CREW, "mode=public", "rewrite_from=never", f"owners={Server.user}")
        self.server.cli("list", "member", "add", CREW, Server.user, YOU, ME)

    def start(self) -> None:
        self.server.start()
        self.ready(1)

    def ready(self, times: int) -> None:
        until(lambda: self.server.log.read_bytes().count(b"event=web.ready") >= times)

    def post(self, subject: str) -> dict[str, bytes]:
        """What each member elsewhere gets of a new message."""
        before, wanted = len(self.far.sink.taken), len([one for one in self.members() if one.endswith("far.test")])
        text = f"From: <some.one@else.test>\r\nTo: <{CREW}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\nhi\r\n"
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], timeout=40) as client:
            client.sendmail("some.one@else.test", [CREW], text)
        until(lambda: len(self.far.sink.taken) >= before + wanted)
        until(lambda: any(f"Subject: {subject}".encode() in one for one in inbox(self.server)))
        return {to: one.content for one in self.far.sink.taken[before:] for to in re.findall(r"<(.*?)>", one.rcpts[0])}

    def members(self) -> list[str]:
        return re.findall(r"[\w.]+@[\w.]+", self.server.cli("list", "members", CREW, "--csv").stdout)

    def curl(self, *words: str, trusted: bool = True) -> tuple[int, str]:
        """(status, body)."""
        command = ["curl", "-sS", "-m", "30", "-w", "\n%{http_code}", *words]
        if trusted:
            command += ["--cacert", str(self.server.directory / "cert.pem")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text

    def web(self) -> int:
        """The web process."""
        found = re.findall(rb"event=web.ready pid=(\d+)", self.server.log.read_bytes())
        return int(found[-1])


@pytest.fixture
def site(tmp_path: Path, far: FarHost) -> Iterator[Site]:
    one = Site(tmp_path / "s", far)
    one.start()
    yield one
    one.server.stop()


def link(content: bytes) -> str:
    (found,) = re.findall(rb"(?m)^List-Unsubscribe: <(https:[^>]*)>,\r\n <mailto:", content)
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in content
    head = content[: content.index(b"\r\n\r\n")]
    (signature,) = re.findall(rb"(?s)DKIM-Signature: .*?\r\n(?!\s)", head)
    assert b"list-unsubscribe-post" in signature and b"d=example.test;" in signature
    return str(found.decode())


@pytest.mark.tour
@pytest.mark.peer("curl")
def test_a_member_leaves_with_one_click(site: Site) -> None:
    got = site.post("one")
    links = {to: link(content) for to, content in got.items()}
    assert set(links) == {YOU, ME} and links[YOU] != links[ME]
    here = link(inbox(site.server)[0].replace(b"\n", b"\r\n"))
    assert here not in links.values(), "a member here has a link too"

    # whoever follows links changes nothing
    for _ in range(3):
        status, page = site.curl(links[YOU])
        assert status == 200 and "y***@far.test" in page and "<button" in page
    assert site.curl("-I", links[YOU])[0] == 200 and set(site.members()) == {Server.user, YOU, ME}
    # nor does who guesses
    assert site.curl("-d", CLICK, links[YOU][:-4] + "AAAA")[0] == 404
    assert site.curl("-d", "List-Unsubscribe=No", links[YOU])[0] == 400
    assert site.curl("-X", "PUT", "-d", CLICK, links[YOU])[0] == 405
    assert set(site.members()) == {Server.user, YOU, ME}

    status, page = site.curl("-d", CLICK, links[YOU])
    assert status == 200 and "You are unsubscribed" in page
    assert set(site.members()) == {Server.user, ME}, "it is done when the answer comes"
    assert site.curl("-d", CLICK, links[YOU]) == (200, page)
    assert set(site.post("two")) == {ME}
    assert site.curl("-F", CLICK, links[ME])[0] == 200 and site.members() == [Server.user]
    assert site.curl("-d", CLICK, here)[0] == 200 and site.members() == []
    audit = site.server.cli("audit", "--json").stdout
    assert audit.count("list member remove") == 3 and '"web"' in audit
    assert site.curl("-d", CLICK, links[YOU].replace("localhost", "127.0.0.1"))[0] == 200


def request(site: Site, octets: bytes, pieces: int = 0, wait: float = 0.0) -> bytes:
    """What a client of our own gets."""
    context = ssl.create_default_context(cafile=str(site.server.directory / "cert.pem"))
    with (
        socket.create_connection(("127.0.0.1", site.port), 40) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.settimeout(40)
        try:
            for at in range(0, len(octets), pieces or len(octets)):
                sock.sendall(octets[at : at + (pieces or len(octets))])
                time.sleep(wait)
            got = b""
            while piece := sock.recv(65536):
                got += piece
        except OSError:
            pass
        return got


def test_clients_that_are_greedy_slow_or_something_else(site: Site) -> None:
    huge = b"POST /u/x HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000
    assert request(site, huge).startswith(b"HTTP/1.1 413 ")
    assert request(site, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 20_000).startswith(b"HTTP/1.1 431 ")
    begun = time.monotonic()
    assert request(site, b"GET / HTTP/1.1\r\nX: " + b"y" * 12, 1, 0.1).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < 35
    assert request(site, b"EHLO x\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert request(site, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    # another protocol in the handshake is closed, and so is TLS that never begins
    context = ssl.create_default_context(cafile=str(site.server.directory / "cert.pem"))
    context.set_alpn_protocols(["imap"])
    with (
        socket.create_connection(("127.0.0.1", site.port), 40) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.settimeout(40)
        assert sock.recv(1) == b""
    with socket.create_connection(("127.0.0.1", site.port), 40) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        raw.settimeout(40)
        assert b"HTTP" not in raw.recv(1000)


def peer_certificate(site: Site) -> str:
    pem = ssl.get_server_certificate(("127.0.0.1", site.port))
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.mark.peer("curl")
def test_a_renewed_certificate_and_a_process_that_dies(site: Site, tmp_path: Path) -> None:
    before = peer_certificate(site)
    (tmp_path / "new").mkdir()
    write_certificate(str(tmp_path / "new"), "mx.example.test")
    for name in ("cert.pem", "key.pem"):
        shutil.copy(tmp_path / "new" / name, site.server.directory / name)
    assert site.server.process is not None
    site.server.process.send_signal(signal.SIGHUP)
    until(lambda: peer_certificate(site) != before)
    after = peer_certificate(site)
    os.kill(site.web(), signal.SIGKILL)
    site.ready(2)
    assert peer_certificate(site) == after and site.curl(site.url + "/")[0] == 404
    assert b"event=worker.died" not in site.server.log.read_bytes()
    pid = site.web()
    site.server.stop()
    assert not os.path.exists(f"/proc/{pid}") and b"event=stopped" in site.server.log.read_bytes()


@pytest.mark.peer("curl")
def test_without_tls_behind_a_reverse_proxy(tmp_path: Path, far: FarHost) -> None:
    site = Site(tmp_path / "s", far, "plain = true\nconnections = 3\nconnections_per_ip = 1\n")
    site.start()
    try:
        url = link(site.post("one")[YOU]).replace("https://", "http://")
        assert site.curl(url)[0] == 200 and site.curl("-d", CLICK, url)[0] == 200
        assert YOU not in site.members()
        with contextlib.ExitStack() as stack:  # more than may be connected at once are told so
            held = [stack.enter_context(socket.create_connection(("127.0.0.1", site.port), 40)) for _ in range(4)]
            held[3].settimeout(40)
            assert held[3].recv(1000).startswith(b"HTTP/1.1 503 ")
        until(lambda: site.curl(url)[0] == 200)
        assert "web=127.0.0.1" in site.server.cli("check-config").stdout
    finally:
        site.server.stop()


def test_no_process_where_nothing_is_configured(tmp_path: Path) -> None:
    server = Server(tmp_path / "s")
    server.start()
    try:
        assert b"event=web." not in server.log.read_bytes() and len(server.children()) == 3, (
            "two workers and the keeper"
        )
    finally:
        server.stop()
