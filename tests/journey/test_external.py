"""SASL EXTERNAL (RFC 4422 A): a client certificate is the login, over real TLS on IMAP, POP3 and submission."""

import datetime
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.server import Server

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates for addresses."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        made = self._begin(self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.file = path / f"{name}.pem"
        self.file.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)

    def context(self, *addresses: str) -> ssl.SSLContext:
        """A client's, with a certificate for these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.RFC822Name(address) for address in addresses])
        made = self._begin(x509.Name([]), key).add_extension(names, False).sign(self.key, hashes.SHA256())
        file = self.path / "client.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        context = ssl._create_unverified_context()
        context.load_cert_chain(file)
        return context


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
    assert pop._shortcmd("AUTH EXTERNAL =").startswith(b"+OK")
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
