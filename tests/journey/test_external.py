"""SASL EXTERNAL (RFC 4422 A): a client certificate is the login, over real TLS on IMAP, POP3 and submission."""

import imaplib
import poplib
import signal
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.authorities import Authority
from tests.support.server import Server


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "known")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, known: Authority) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("external"))
    text = server.config.read_text().replace("[auth]", '[auth]\nmechanisms = ["PLAIN", "LOGIN", "EXTERNAL"]')
    server.config.write_text(text.replace("[tls]", f'[tls]\nclient_ca = "{known.file}"'))
    server.start()
    yield server
    server.stop()


@pytest.mark.tour
def test_the_certificate_is_the_login(server: Server, known: Authority) -> None:
    context = known.context(server.user)
    with imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context) as imap:
        assert "AUTH=EXTERNAL" in imap.capabilities
        assert imap.authenticate("EXTERNAL", lambda _: b"")[0] == "OK"
        assert imap.select()[0] == "OK"
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"]) as imap:
        assert "AUTH=EXTERNAL" not in imap.capabilities
        imap.starttls(context)
        assert imap.authenticate("EXTERNAL", lambda _: server.user.encode())[0] == "OK"
    pop = poplib.POP3_SSL("127.0.0.1", server.ports["pop3s"], context=context)
    assert "EXTERNAL" in pop.capa()["SASL"]
    assert pop._shortcmd("AUTH EXTERNAL =").startswith(b"+OK")  # type: ignore[attr-defined]
    pop.quit()
    with smtplib.SMTP_SSL("127.0.0.1", server.ports["submissions"], context=context) as smtp:
        smtp.ehlo()
        assert smtp.docmd("AUTH", "EXTERNAL =")[0] == 235


def refuse(server: Server, context: ssl.SSLContext, claimed: bytes) -> None:
    imap = imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context)
    with imap, pytest.raises(imaplib.IMAP4.error):
        imap.authenticate("EXTERNAL", lambda _: claimed)


def test_s27_another_address_is_refused(server: Server, known: Authority) -> None:
    server.cli("account", "add", "other@example.test", "--password-stdin", stdin="other\n")
    context = known.context(server.user)
    for claimed in (b"other@example.test", b"nobody@example.test", b"\xff"):
        refuse(server, context, claimed)
    refuse(server, known.context("gone@example.test"), b"")


def test_s27_a_strangers_certificate_does_not_get_a_connection(server: Server, tmp_path: Path) -> None:
    context = Authority(tmp_path, "stranger").context(server.user)
    with pytest.raises((ssl.SSLError, imaplib.IMAP4.abort, ConnectionError)):
        imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context)


def test_without_a_certificate_nothing_changes(server: Server) -> None:
    context = ssl._create_unverified_context()
    with imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context) as imap:
        assert "AUTH=EXTERNAL" not in imap.capabilities
        assert imap.login(server.user, server.password)[0] == "OK"


def test_s27_sighup_changes_who_vouches_for_clients_in_every_worker(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    ca, crl = tmp_path / "clients.pem", tmp_path / "revoked.pem"
    ca.write_bytes(old.file.read_bytes())
    crl.write_bytes(old.revoked() + new.revoked())
    server = Server(tmp_path / "server", workers=2)
    text = server.config.read_text().replace("[auth]", '[auth]\nmechanisms = ["PLAIN", "LOGIN", "EXTERNAL"]')
    server.config.write_text(text.replace("[tls]", f'[tls]\nclient_ca = "{ca}"\nclient_crl = "{crl}"'))
    server.start()

    def taken(context: ssl.SSLContext) -> set[bool]:
        """Whether logins with the certificate succeed, in one worker or another."""
        found = set()
        for _ in range(12):
            try:
                with imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=context) as imap:
                    found.add(imap.authenticate("EXTERNAL", lambda _: b"")[0] == "OK")
            except (OSError, imaplib.IMAP4.error):
                found.add(False)
        return found

    def reload() -> None:
        assert server.process is not None
        count = server.log.read_text().count("event=tls.reloaded")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while server.log.read_text().count("event=tls.reloaded") < count + 2 and time.monotonic() < deadline:
            time.sleep(0.02)

    try:
        of_old, of_new = old.context(server.user), new.context(server.user)
        assert taken(of_old) == {True} and taken(of_new) == {False}
        ca.write_bytes(new.file.read_bytes())
        reload()
        assert taken(of_old) == {False} and taken(of_new) == {True}
        crl.write_bytes(old.revoked() + new.revoked(new.given))
        reload()
        assert taken(of_new) == {False} and taken(new.context(server.user)) == {True}
    finally:
        server.stop()
