"""A server with certificates for several names: what each protocol shows, and what a reload does (RFC 6066 3)."""

import contextlib
import http.client
import imaplib
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.support import certificates
from tests.support.ports import free_ports
from tests.support.server import Server

BEGIN = {
    "imap": (b"a STARTTLS\r\n", b"a OK"),
    "pop3": (b"STLS\r\n", b"+OK begin"),
    "smtp": (b"EHLO me\r\nSTARTTLS\r\n", b"220 2.0.0"),
    "submission": (b"EHLO me\r\nSTARTTLS\r\n", b"220 2.0.0"),
}
ALL = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s", "web")


class Named(Server):
    """With the certificates a (a.test, *.a.test) and b (b.test, by its configuration), and a web server."""

    def __init__(self, directory: Path) -> None:
        (web,) = free_ports(1)
        more = "".join(
            f"[[certificate]]\ncertificate = '{stem}.pem'\nkey = '{stem}.key'\nnames = {names}\n"
            for stem, names in (("a", []), ("b", ["b.test"]))
        )
        super().__init__(directory, f"\n[web]\nlisten = ['127.0.0.1:{web}']\n{more}", workers=1)
        self.ports["web"] = web
        self.made("a", "a.test", "*.a.test")
        self.made("b")

    def made(self, stem: str, *names: str) -> None:
        certificates.write(self.directory, stem, names)

    def serial(self, stem: str) -> int:
        path = self.directory / ("cert.pem" if stem == "default" else f"{stem}.pem")
        return x509.load_pem_x509_certificate(path.read_bytes()).serial_number

    def shown(self, protocol: str, name: str | None) -> int:
        """The serial number of the certificate that a client sees which asks for a name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.ports[protocol]), 20) as sock:
            if protocol in BEGIN:
                begin, mark = BEGIN[protocol]
                sock.recv(1000)
                sock.sendall(begin)
                heard = b""
                while mark not in heard:
                    heard += sock.recv(4000)
            with context.wrap_socket(sock, server_hostname=name) as tls:
                return x509.load_der_x509_certificate(tls.getpeercert(True) or b"").serial_number

    def reloaded(self, name: str, wanted: int) -> None:
        """Wait until each process that serves shows a new certificate. One signal, heard by all: after a second one
        somebody may still read while a test writes the next files."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        for protocol in ("imaps", "web"):
            while self.shown(protocol, name) != wanted:
                assert time.monotonic() < deadline, self.log.read_text()[-2000:]
                time.sleep(0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Named]:
    one = Named(tmp_path / "s")
    one.start()
    try:
        yield one
    finally:
        one.stop()
    assert "event=bug" not in one.log.read_text() and "Traceback" not in one.log.read_text()


def test_every_protocol_shows_the_certificate_of_the_name(server: Named) -> None:
    for protocol in ALL:
        for name, stem in (
            (None, "default"),
            ("mx.example.test", "default"),
            ("unknown.test", "default"),
            ("a.test", "a"),
            ("Mail.A.test", "a"),
            ("x.mail.a.test", "default"),
            ("b.test", "b"),
        ):
            assert server.shown(protocol, name) == server.serial(stem), (protocol, name)


def test_a_reload_takes_new_files_and_drops_nobody(server: Named) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context) as imap:
        imap.login(server.user, server.password)
        server.made("a", "a.test", "fresh.test")
        server.reloaded("fresh.test", server.serial("a"))
        before = server.serial("a")
        (server.directory / "a.key").write_bytes(b"nothing")
        server.made("b")
        server.reloaded("b.test", server.serial("b"))
        for protocol in ("imaps", "web"):
            assert server.shown(protocol, "a.test") == before, "the old one stays"
        assert imap.noop()[0] == "OK"
    said = [line for line in server.log.read_text().splitlines() if "event=tls.reload " in line]
    assert said and all(f"{server.directory}/a.pem" in line and "level=error" in line for line in said)
    done = server.cli("check-config", check=False)
    assert done.returncode == 78 and "a.pem" in done.stdout + done.stderr
    with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", server.ports["web"], context=context)) as web:
        web.request("GET", "/")
        assert web.getresponse().status in (200, 404)
