"""The server's TLS context (RFC 8314): TLS 1.2 and up, certificate reread without a restart.

A client that asks for another protocol is talking to the wrong server, perhaps because somebody led it here: Python's
TLS cannot refuse it in the handshake, so the protocol is chosen, and the connection ends before anything is read.

``reload`` tries the new files in a context of their own first; when they are bad the old certificate stays in use
and ConfigError says what is wrong.
"""

import hashlib
import ssl

from cryptography import x509
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
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerTls:
    """One context for all listeners of a worker. ``client_ca``: authorities whose certificates clients may show."""

    def __init__(self, certificate: str, key: str, minimum: str = "1.2", client_ca: str = "") -> None:
        self._files = (certificate, key)
        self._client_ca = client_ca
        self._minimum = VERSIONS[minimum]
        self.context = self._make()
        self.end_point = self._digest()

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols([*OWN, *FOREIGN])
        try:
            context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use certificate {self._files[0]} with key {self._files[1]}: {error}") from None
        if self._client_ca:
            try:
                context.load_verify_locations(self._client_ca)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"cannot use client authorities {self._client_ca}: {error}") from None
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    @property
    def asks(self) -> bool:
        """Are clients asked for a certificate?"""
        return bool(self._client_ca)

    def _digest(self) -> bytes:
        """What tells this server's end of the channel (RFC 5929 4.1): a digest of its certificate."""
        with open(self._files[0], "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        used = certificate.signature_hash_algorithm
        name = used.name if used is not None and used.name not in ("md5", "sha1") else "sha256"
        return hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()

    def reload(self) -> None:
        """Use the files' new content for new connections."""
        self._make()
        self.context.load_cert_chain(*self._files)
        self.end_point = self._digest()
