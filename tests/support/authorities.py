"""Authorities of client certificates, and the lists of what they have revoked."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


class Authority:
    """Signs certificates for addresses. ``file``: its own certificate; ``above``: who has signed that, if not itself."""

    def __init__(self, path: Path, name: str, above: "Authority | None" = None) -> None:
        self.path, self.name = path, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.above = above
        signer = above or self
        made = signer._begin(self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = made.sign(signer.key, hashes.SHA256())
        self.file = path / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(PEM))
        self.given = 0  # the number of the certificate that it has given out last

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + DAY)

    def context(self, *addresses: str) -> ssl.SSLContext:
        """A client's, with a certificate for these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.RFC822Name(address) for address in addresses])
        made = self._begin(x509.Name([]), key).add_extension(names, False).sign(self.key, hashes.SHA256())
        self.given = made.serial_number
        file = self.path / "client.pem"
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        between = self.certificate.public_bytes(PEM) if self.above is not None else b""
        file.write_bytes(made.public_bytes(PEM) + between + private)
        context = ssl._create_unverified_context()
        context.load_cert_chain(file)
        return context

    def revoked(self, *numbers: int, until: datetime.timedelta = DAY) -> bytes:
        """A list with these certificates, good for ``until`` from now."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - DAY)
        builder = builder.next_update(now + until)
        for number in numbers:
            one = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now - DAY / 2).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)
