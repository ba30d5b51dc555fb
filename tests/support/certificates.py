"""Certificates that sign themselves, for tests that look at which one a server shows."""

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


def any_certificate() -> ssl.SSLContext:
    """The settings of a TLS client that takes any certificate. It does not read the machine's authorities, as
    ssl.create_default_context does: that takes ten times as long as a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def write(path: Path, stem: str, names: Sequence[str], end: int = 30, shown: str = "", kind: str = "ec") -> bytes:
    """Write ``stem.pem`` and ``stem.key``, valid until day ``end``; returns the certificate (DER). ``shown``: its
    common name, where that is not the stem; ``kind``: ec or rsa."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shown or stem)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - 9 * DAY).not_valid_after(now + end * DAY)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    made = builder.sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    (path / f"{stem}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (path / f"{stem}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return made.public_bytes(serialization.Encoding.DER)


def damage(path: Path) -> None:
    """Change all that an RSA key in a file signs with, and nothing that its certificate tells."""
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    was = key.private_numbers()
    made = rsa.RSAPrivateNumbers(was.p, was.q, was.d ^ 4, was.dmp1 ^ 4, was.dmq1 ^ 4, was.iqmp, was.public_numbers)
    path.write_bytes(
        made.private_key(unsafe_skip_rsa_key_validation=True).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
