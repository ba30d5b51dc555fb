"""The server's TLS context (RFC 8314): TLS 1.2 and up, certificate reread without a restart.

A client that asks for another protocol is talking to the wrong server, perhaps because somebody led it here: Python's
TLS cannot refuse it in the handshake, so the protocol is chosen, and the connection ends before anything is read.

``reload`` tries the new files in a context of their own first; when they are bad the old certificate stays in use
and ConfigError says what is wrong. Where this process may not read the key itself (see app.keyholder), it gets the
content of the files from ``source``.
"""

import hashlib
import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fastmail.model.errors import ConfigError

# what a client may ask for by ALPN (RFC 7301): our protocols, then those of others, chosen only to end the connection
OWN = ("imap", "pop3", "smtp")
FOREIGN = (
    "http/1.1",
    "h2",
    "http/1.0",
    "ftp",
    "managesieve",
    "xmpp-client",
    "xmpp-server",
    "irc",
    "nntp",
    "mqtt",
    "dot",
)
_PARAMETERS = re.compile(rb"-----BEGIN EC PARAMETERS-----.*?-----END EC PARAMETERS-----\s*", re.DOTALL)
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerTls:
    """One context for all listeners of a worker. ``client_ca``: authorities whose certificates clients may show."""

    def __init__(self, certificate: str, key: str, minimum: str = "1.2", client_ca: str = "") -> None:
        self._files = (certificate, key)
        self._client_ca = client_ca
        self._minimum = VERSIONS[minimum]
        self.source: Callable[[], list[bytes]] | None = None  # certificate, key and client_ca, as octets
        self.scratch = ""  # a directory for a moment; only an encrypted key is put there
        self.context = self._make()
        with open(certificate, "rb") as file:
            self.end_point = _digest(file.read())

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols([*OWN, *FOREIGN])
        texts = self.source() if self.source is not None else []
        try:
            self._load(context, texts)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm, ssl.SSLError) as error:
            raise ConfigError(f"cannot use certificate {self._files[0]} with key {self._files[1]}: {error}") from None
        if self._client_ca:
            try:
                if texts:
                    context.load_verify_locations(cadata=texts[2].decode("ascii"))
                else:
                    context.load_verify_locations(self._client_ca)
            except (OSError, ValueError, ssl.SSLError) as error:
                raise ConfigError(f"cannot use client authorities {self._client_ca}: {error}") from None
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    @property
    def asks(self) -> bool:
        """Are clients asked for a certificate?"""
        return bool(self._client_ca)

    def _load(self, context: ssl.SSLContext, texts: list[bytes]) -> None:
        if not texts:
            context.load_cert_chain(*self._files)
            return
        # OpenSSL reads files only: it gets one with the key under a password that is used this once
        password = secrets.token_bytes(32).hex().encode()
        key = serialization.load_pem_private_key(_PARAMETERS.sub(b"", texts[1]), None)
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        descriptor, path = tempfile.mkstemp(prefix="tls", dir=self.scratch or None)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(texts[0] + b"\n" + sealed)
            context.load_cert_chain(path, password=password)
        finally:
            os.unlink(path)

    def reload(self) -> None:
        """Use the files' new content for new connections. ConfigError, OSError."""
        self._make()
        texts = self.source() if self.source is not None else []
        try:
            self._load(self.context, texts)
        except (ValueError, TypeError, UnsupportedAlgorithm, ssl.SSLError) as error:
            raise ConfigError(f"cannot use certificate {self._files[0]}: {error}") from None
        if texts:
            self.end_point = _digest(texts[0])
        else:
            with open(self._files[0], "rb") as file:
                self.end_point = _digest(file.read())


def _digest(pem: bytes) -> bytes:
    """What tells this server's end of the channel (RFC 5929 4.1): a digest of its certificate."""
    certificate = x509.load_pem_x509_certificate(pem)
    used = certificate.signature_hash_algorithm
    name = used.name if used is not None and used.name not in ("md5", "sha1") else "sha256"
    return hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()
