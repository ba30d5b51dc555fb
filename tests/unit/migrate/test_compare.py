"""fastmail.migrate.compare: POP3 is asked behind TLS as IMAP is, never without it when it was asked for; dates are compared."""

import contextlib
import poplib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fastmail.migrate.compare import _moment, _uidls
from fastmail.migrate.incoming import Remote


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    place = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        [*command, "-keyout", place / "key", "-out", place / "crt"], check=True, capture_output=True, timeout=30
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "crt", place / "key")
    return context


@contextlib.contextmanager
def server(context: ssl.SSLContext, implicit: bool, offers: bool, seen: list[str]) -> Iterator[int]:
    """One POP3 session; ``seen``: commands, with "tls" in front of those that came behind it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer: socket.socket = listener.accept()[0]
            peer.settimeout(10)
            if implicit:
                peer = context.wrap_socket(peer, server_side=True)
            file = peer.makefile("rwb")

            def say(text: bytes) -> None:
                file.write(text + b"\r\n")
                file.flush()

            say(b"+OK hello")
            while line := file.readline():
                word = line.split()[0].decode().upper()
                seen.append(("tls " if isinstance(peer, ssl.SSLSocket) else "") + word)
                if word == "STLS" and offers:
                    say(b"+OK begin")
                    file.close()
                    peer = context.wrap_socket(peer, server_side=True)
                    file = peer.makefile("rwb")
                elif word == "CAPA":
                    say(b"+OK\r\nUIDL" + (b"\r\nSTLS" if offers else b"") + b"\r\n.")
                elif word in ("UIDL", "LIST"):
                    say(b"+OK\r\n1 " + (b"one" if word == "UIDL" else b"5") + b"\r\n.")
                else:
                    say(b"+OK" if word != "STLS" else b"-ERR no")
                if word == "QUIT":
                    break
            file.close()
            peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("tls", "wanted"),
    [
        ("none", ["USER", "PASS"]),
        ("starttls", ["CAPA", "STLS", "tls USER", "tls PASS"]),
        ("implicit", ["tls USER", "tls PASS"]),
    ],
)
def test_uidls_by_tls(certificate: ssl.SSLContext, tls: str, wanted: list[str]) -> None:
    seen: list[str] = []
    with server(certificate, tls == "implicit", True, seen) as port:
        rows = _uidls(Remote("127.0.0.1", "user", "word", 1, tls, verify=False), port)
    assert rows == [(b"1 one", b"1 5")]
    assert [one for one in seen if one.split()[-1] in ("CAPA", "STLS", "USER", "PASS")] == wanted


def test_no_password_without_the_tls_that_was_asked_for(certificate: ssl.SSLContext) -> None:
    seen: list[str] = []
    with server(certificate, False, False, seen) as port, pytest.raises(poplib.error_proto):
        _uidls(Remote("127.0.0.1", "user", "word", 1, "starttls", verify=False), port)
    assert "USER" not in seen and "PASS" not in seen


def test_a_certificate_that_is_not_trusted(certificate: ssl.SSLContext) -> None:
    seen: list[str] = []
    with server(certificate, True, True, seen) as port, pytest.raises(OSError, match="certificate"):
        _uidls(Remote("127.0.0.1", "user", "word", 1, "implicit"), port)
    assert "tls PASS" not in seen


@pytest.mark.parametrize(
    ("there", "here", "shown"),
    [
        (b"01-Dec-2026 00:11:50 +0000", b" 1-Dec-2026 00:11:50 +0000", "2026-12-01 00:11:50 UTC"),
        (b"1-Dec-2026 01:11:50 +0100", b"30-Nov-2026 19:11:50 -0500", "2026-12-01 00:11:50 UTC"),
        (b"no date", b"no date", "no date"),
    ],
)
def test_a_date_is_the_same_however_a_server_writes_it(there: bytes, here: bytes, shown: str) -> None:
    assert _moment(there) == _moment(here) == shown
