"""The server's TLS context (RFC 8314): TLS 1.2 and later. Certificates, authorities of clients and lists of revoked
client certificates are read again without a restart. net.sni chooses among several certificates.

A client that asks for another protocol is talking to the wrong server, perhaps because an attacker redirected it.
Python's TLS cannot refuse it in the handshake, so its protocol is accepted and the connection is closed before anything
is read.

There are no session tickets. Their key would be as old as the process, and whoever got it could decrypt everything sent
since (RFC 8446 C.4); all workers would need the same key; and a resumed session would continue with a client
certificate that was revoked meanwhile.

``reload`` makes a new context from the new files, which new connections use. If a file is bad, the old context stays in
use and ConfigError says what is wrong. Of several certificates a bad one keeps its own old context, and the others are
renewed; but where clients show certificates, all stay old, because an old context knows nothing of what was revoked
since. A certificate of another name whose files have the same content as before keeps its context, so a reload costs
what has changed and not what there is. Where this process may not read the key itself (see app.keyholder), ``source``
gives it the content of the files.

A worker reloads on a thread, and Python runs one thread at a time: whatever computes here without letting others run
stands in the way of the event loop. So nothing here does that for more than some milliseconds.
"""

import asyncio
import hashlib
import os
import re
import secrets
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fastmail.model.errors import ConfigError, in_words
from fastmail.net.sni import Context, Pair, chooser, names_of, served
from fastmail.telemetry import log

# What a client may ask for by ALPN (RFC 7301): this server's protocols, then others that are accepted only to close.
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
_CRL = re.compile(rb"-----BEGIN X509 CRL-----[^-]*-----END X509 CRL-----")
FIRST_OF_MORE = 4  # files before those of the other certificates, see ServerTls.files
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerTls:
    """One context for all listeners of a worker; it leads to those of other certificates.

    ``client_ca``: authorities whose certificates clients may present; ``client_crl``: the lists of certificates that
    these authorities revoked; ``more``: certificates for clients that ask for their names."""

    def __init__(
        self,
        certificate: str,
        key: str,
        minimum: str = "1.2",
        client_ca: str = "",
        client_crl: str = "",
        more: Sequence[Pair] = (),
    ) -> None:
        self._pairs = (Pair(certificate, key), *more)
        self._others: list[Context] = []  # of ``more``, in its order
        self._making = threading.Lock()
        self._client_ca = client_ca
        self._client_crl = client_crl
        self._minimum = VERSIONS[minimum]
        # gives the content of ``files``
        self.source: Callable[[], list[bytes]] | None = None
        self.scratch = ""  # directory for short-lived files: an encrypted key, revocation lists
        self.context = self._make()

    @property
    def files(self) -> list[str]:
        """What is read; "" where there is none."""
        first, *more = self._pairs
        own = [first.certificate, first.key, self._client_ca, self._client_crl]
        return own + [path for one in more for path in (one.certificate, one.key)]

    @property
    def end_point(self) -> bytes:
        """The digest of the default certificate."""
        return self.context.end_point

    @staticmethod
    def end_point_of(channel: ssl.SSLObject) -> bytes:
        """Return the digest of the certificate that the peer of this channel has seen. Another name has another one,
        and so has a later connection after a reload."""
        context: object = channel.context
        return context.end_point if isinstance(context, Context) else b""

    def _make(self) -> Context:
        """Return the default context from the files as they are now. ConfigError, OSError."""
        texts = self.source() if self.source is not None else []
        trust = texts[2:4] if texts else self._read_trust()
        first, *more = self._pairs
        context = self._one(first, texts[:2], trust)
        others: list[Context] = []
        for number, pair in enumerate(more):
            old = self._others[number] if self._others else None
            at = FIRST_OF_MORE + 2 * number
            try:
                others.append(self._other(old, pair, texts[at : at + 2], trust))
            except ConfigError as error:
                if self.asks or old is None:
                    raise
                log.event("tls.reload", "error", error=error, then="the old certificate of this name stays in use")
                others.append(old)
        if others:
            context.sni_callback = chooser(context, others)
        self._others = others
        return context

    def _read_trust(self) -> list[bytes]:
        """Return the content of the files about clients, read once for all names; empty where one cannot be read, which
        ``_one`` then says."""
        with suppress(OSError):
            return [_read(path) if path else b"" for path in (self._client_ca, self._client_crl)]
        return []

    def _other(self, old: Context | None, pair: Pair, texts: list[bytes], trust: list[bytes]) -> Context:
        """Return the context of another name: ``old``, if the content of all its files is what that was made of."""
        before = _mark(pair, texts, trust)
        if old is not None and before and before == old.made_of:
            return old
        made = self._one(pair, texts, trust)
        # OpenSSL read the files by itself: if they were written meanwhile, nobody knows which content it has
        made.made_of = before if texts or _mark(pair, texts, trust) == before else b""
        return made

    def _one(self, pair: Pair, texts: list[bytes], trust: list[bytes]) -> Context:
        """Return a context with one certificate. ``texts`` and ``trust``: content of its files, and of those about
        clients; empty where they are read here. ConfigError."""
        context = Context(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols([*OWN, *FOREIGN])
        try:
            certificate = x509.load_pem_x509_certificate(texts[0] if texts else _read(pair.certificate))
            self._load(context, pair, texts, certificate)
            context.end_point = _digest(certificate)
            context.names = served(pair.names or names_of(certificate))
            context.given = bool(pair.names)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm, ssl.SSLError) as error:
            why = in_words(error)
            raise ConfigError(f"cannot use certificate {pair.certificate} with key {pair.key}: {why}") from None
        if not context.names and pair is not self._pairs[0]:
            raise ConfigError(f"certificate {pair.certificate} has no DNS name in it, and no names are given")
        if self._client_ca:
            try:
                self._trust(context, trust[0] if trust else _read(self._client_ca))
            except (OSError, ValueError, ssl.SSLError) as error:
                raise ConfigError(f"cannot use client authorities {self._client_ca}: {in_words(error)}") from None
        if self._client_ca and self._client_crl:
            try:
                self._revoke(context, trust[1] if trust else _read(self._client_crl))
            except (OSError, ValueError, ssl.SSLError) as error:
                why = in_words(error)
                raise ConfigError(f"cannot use revoked client certificates {self._client_crl}: {why}") from None
        return context

    def _trust(self, context: ssl.SSLContext, pem: bytes) -> None:
        """Ask clients for certificates of these authorities."""
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_OPTIONAL

    def _revoke(self, context: ssl.SSLContext, pem: bytes) -> None:
        """Accept a client certificate only with a revocation list of its authority, and of that authority's authority,
        that does not name it. Only lists are read from the file: certificates in it would become trusted."""
        lists = revocations(pem)
        if not lists:
            raise ValueError("it contains no revocation list (X509 CRL, in PEM)")
        text = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists)
        with self._for_openssl(text) as path:
            context.load_verify_locations(path)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN

    @property
    def asks(self) -> bool:
        """True if clients are asked for a certificate."""
        return bool(self._client_ca)

    def _load(self, context: ssl.SSLContext, pair: Pair, texts: list[bytes], certificate: x509.Certificate) -> None:
        if not texts:
            context.load_cert_chain(pair.certificate, pair.key)
            return
        # The key is written to that file encrypted, with a password that is used only once.
        password = secrets.token_bytes(32).hex().encode()
        # Whether the primes of an RSA key are primes takes 130 ms (2048 bits), in which no other thread runs. What
        # matters is whether the key signs what the certificate proves, and that takes one.
        key = serialization.load_pem_private_key(
            _PARAMETERS.sub(b"", texts[1]), None, unsafe_skip_rsa_key_validation=True
        )
        if isinstance(key, rsa.RSAPrivateKey):
            _prove(key, certificate)
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        with self._for_openssl(texts[0] + b"\n" + sealed) as path:
            context.load_cert_chain(path, password=password)

    @contextmanager
    def _for_openssl(self, text: bytes) -> Iterator[str]:
        """Write a file that exists only for a moment: OpenSSL reads some things from files only."""
        descriptor, path = tempfile.mkstemp(prefix="tls", dir=self.scratch or None)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
            yield path
        finally:
            os.unlink(path)

    def reload(self) -> None:
        """Use the files' new content for new connections. It reads and computes: not for an event loop. ConfigError,
        OSError."""
        with self._making:  # who comes later has read later
            retired = self._others
            self.context = self._make()
            while retired:  # one by one: hundreds that are freed at once would let no other thread run meanwhile
                retired.pop()


def reload_beside(loop: asyncio.AbstractEventLoop, tls: ServerTls | None) -> None:
    """``reload_or_keep`` on a helper thread, for signals."""
    loop.run_in_executor(None, reload_or_keep, tls)


def reload_or_keep(tls: ServerTls | None) -> None:
    """Reload, and log what came of it: where the new content is no good, what was read before stays in use."""
    if tls is None:
        return
    try:
        tls.reload()
        log.event("tls.reloaded")
    except (ConfigError, OSError) as error:
        log.event("tls.reload", "error", error=error, then="the old certificate stays in use")


def revocations(pem: bytes) -> list[x509.CertificateRevocationList]:
    """Return the lists in a PEM file; ValueError when one cannot be read."""
    return [x509.load_pem_x509_crl(found.group()) for found in _CRL.finditer(pem)]


def _mark(pair: Pair, texts: list[bytes], trust: list[bytes]) -> bytes:
    """Return a digest of all that a context is made of; empty where a file cannot be read."""
    if not trust:
        return b""
    try:
        whole = hashlib.sha256()
        for text in (*(texts or map(_read, (pair.certificate, pair.key))), *trust):
            whole.update(len(text).to_bytes(8) + text)
        return whole.digest()
    except OSError:
        return b""


def _prove(key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
    """Raise ValueError if signatures of this key are not those of the certificate."""
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        return  # OpenSSL says that the two do not belong together
    how, kind, text = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size), hashes.SHA256(), b"mine?"
    try:
        public.verify(key.sign(text, how, kind), text, how, kind)
    except InvalidSignature:
        raise ValueError("the key is damaged, or is not the certificate's") from None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _digest(certificate: x509.Certificate) -> bytes:
    """Return the digest of the certificate that identifies this server's end of the channel (RFC 5929 4.1)."""
    used = certificate.signature_hash_algorithm
    name = used.name if used is not None and used.name not in ("md5", "sha1") else "sha256"
    return hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()
