"""The server's TLS context (RFC 8314): TLS 1.2 and up, certificate reread without a restart.

``reload`` tries the new files in a context of their own first; when they are bad the old certificate stays in use
and ConfigError says what is wrong.
"""

import ssl

from fastmail.model.errors import ConfigError

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class ServerTls:
    """One context for all listeners of a worker."""

    def __init__(self, certificate: str, key: str, minimum: str = "1.2") -> None:
        self._files = (certificate, key)
        self._minimum = VERSIONS[minimum]
        self.context = self._make()

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = self._minimum
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
        try:
            context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use certificate {self._files[0]} with key {self._files[1]}: {error}") from None
        return context

    def reload(self) -> None:
        """Use the files' new content for new connections."""
        self._make()
        self.context.load_cert_chain(*self._files)
