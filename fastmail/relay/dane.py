"""DANE for SMTP (RFC 7672, RFC 6698): checks a host's certificate against the TLSA records of its name.

The usages DANE-EE(3) and DANE-TA(2) count; a record with another usage is unusable. DANE-EE compares only the host's
own key: names and dates do not matter (RFC 7672 3.1.1). DANE-TA needs a chain, in what the host sent, from its
certificate to one that a record names, with valid signatures and dates, and with the host's or the domain's name in the
certificate.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from fastmail.model.domain import comparable

TA, EE = 2, 3
LONGEST = 10  # certificates of a chain that are read


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def usable(self) -> bool:
        return self.usage in (TA, EE) and self.selector in (0, 1) and self.matching in (0, 1, 2)

    @property
    def shown(self) -> str:
        """The record as a zone file has it (RFC 6698 2.2)."""
        return f"{self.usage} {self.selector} {self.matching} {self.data.hex()}"

    @property
    def key(self) -> tuple[int, int, bytes]:
        """What a certificate must have to match the record."""
        return self.selector, self.matching, self.data


def forms(certificate: bytes) -> set[tuple[int, int, bytes]]:
    """Return every key (``Tlsa.key``) that a certificate (DER) matches: the whole certificate or its public key, itself
    or as a digest (RFC 6698 2.1)."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    octets = certificate, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    out: set[tuple[int, int, bytes]] = set()
    for selector, text in enumerate(octets):
        out |= {(selector, 0, text), (selector, 1, hashlib.sha256(text).digest())}
        out.add((selector, 2, hashlib.sha512(text).digest()))
    return out


def usable(records: Iterable[Tlsa]) -> list[Tlsa]:
    return [record for record in records if record.usable]


def verify(chain: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str]) -> str:
    """Return why the chain (DER, the host's own certificate first) does not match the records; empty when it matches.

    Each certificate is parsed once, however many records there are, and only the beginning of a long chain is read."""
    if not chain:
        return "the host shows no certificate"
    try:
        if forms(chain[0]) & {record.key for record in records if record.usage == EE}:
            return ""
        anchors = {record.key for record in records if record.usage == TA}
        if anchors:
            return _by_anchor(chain, anchors, names)
    except (ValueError, TypeError) as error:
        return f"its certificate cannot be read: {error}"
    return "its certificate fits no TLSA record"


def _by_anchor(chain: Sequence[bytes], anchors: set[tuple[int, int, bytes]], names: Sequence[str]) -> str:
    certificates = [x509.load_der_x509_certificate(one) for one in chain[:LONGEST]]
    now = datetime.now(UTC)
    for position, certificate in enumerate(certificates):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return "a certificate of its chain is out of date"
        if position:
            try:
                certificates[position - 1].verify_directly_issued_by(certificate)
            except Exception:
                return "its chain of certificates is broken"
        if position and forms(chain[position]) & anchors:
            return "" if _named(certificates[0], names) else "its certificate is for another name"
    return "its chain leads to no TLSA record"


def _named(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return False
    assert isinstance(found, x509.SubjectAlternativeName)
    return any(matches(pattern, name) for pattern in found.get_values_for_type(x509.DNSName) for name in names)


def matches(pattern: str, name: str) -> bool:
    """Return True if a name matches a pattern: the same name, or ``*.`` for one label (RFC 6125 6.4.3); both with
    A-labels or with U-labels."""
    name = comparable(name)
    if pattern.startswith("*."):
        return name.partition(".")[2] == comparable(pattern[2:]) and bool(name.partition(".")[0])
    return comparable(pattern) == name
