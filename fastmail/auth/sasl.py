"""SASL exchanges as small machines (RFC 4422, PLAIN RFC 4616, LOGIN draft-murchison-sasl-login, SCRAM RFC 5802).

A protocol feeds decoded responses and gets a challenge to send, or Credentials to check. Anything wrong raises
SaslError, whose text may be sent; the exchange is over then. Nothing here knows base64 lines or reply codes.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

import scramp

from fastmail.model.errors import ClientError

MAX_RESPONSE = 8192


class SaslError(ClientError):
    """The exchange can not go on."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims; ``authzid`` was checked to be empty or the login itself."""

    login: str
    password: bytes


class Plain:
    """One response: authzid NUL authcid NUL password."""

    def step(self, response: bytes | None) -> bytes | Credentials:
        if response is None:
            return b""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise SaslError("PLAIN response has not the form authzid NUL authcid NUL password")
        authzid, login, password = parts
        if not login:
            raise SaslError("user name is empty")
        if authzid and authzid.lower() != login.lower():
            raise SaslError("acting for another user is not allowed")
        return Credentials(_text(login), password)


class Login:
    """Two prompts; an initial response is the user name."""

    def __init__(self) -> None:
        self._login: str | None = None
        self._asked = False

    def step(self, response: bytes | None) -> bytes | Credentials:
        if response is None and not self._asked:
            self._asked = True
            return b"Username:"
        if response is None:
            raise SaslError("a response was expected")
        if self._login is None:
            self._asked = True
            if not response:
                raise SaslError("user name is empty")
            self._login = _text(response)
            return b"Password:"
        return Credentials(self._login, response)


@dataclass(frozen=True, slots=True)
class Verified:
    """The client has shown that it knows the password."""

    login: str


Keys = tuple[bytes, bytes, bytes, int]  # salt, stored key, server key, iterations


class Scram:
    """SCRAM (RFC 5802, RFC 7677), with the channel binding tls-server-end-point (RFC 5929) in the -PLUS forms.

    ``keys`` gives the keys of a login, made-up ones for a user that is not there. A proof that is wrong comes out as
    Credentials without a password, which fail like any other.
    """

    def __init__(self, name: str, keys: Callable[[str], Keys], end_point: bytes) -> None:
        self._keys = keys
        self._login = ""
        self._final = False
        binding = ("tls-server-end-point", end_point) if name.endswith("-PLUS") else None
        self._server = scramp.ScramMechanism(name).make_server(self._find, channel_binding=binding)
        self._begun = False

    def _find(self, login: str) -> Keys:
        self._login = _text(login.encode())
        return self._keys(self._login)

    def step(self, response: bytes | None) -> bytes | Credentials | Verified:
        if self._final:
            if response:
                raise SaslError("an empty response was expected")
            return Verified(self._login)
        if response is None:
            if self._begun:
                raise SaslError("a response was expected")
            return b""
        try:
            text = response.decode("utf-8")
            if not self._begun:
                self._begun = True
                _, authzid, _ = text.split(",", 2)
                self._server.set_client_first(text)
                if authzid and authzid.removeprefix("a=").lower() != self._login.lower():
                    raise SaslError("acting for another user is not allowed")
                return str(self._server.get_server_first()).encode()
        except (scramp.ScramException, ValueError, UnicodeError, IndexError, KeyError):
            raise SaslError("SCRAM response has not the form that RFC 5802 gives it") from None
        try:
            self._server.set_client_final(text)
        except (scramp.ScramException, ValueError, IndexError, KeyError):
            return Credentials(self._login, b"")
        self._final = True
        return str(self._server.get_server_final()).encode()


Mechanism = Plain | Login | Scram
PASSWORDS: dict[str, type[Plain] | type[Login]] = {"PLAIN": Plain, "LOGIN": Login}
NAMES = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS")


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("user name is not UTF-8") from None
    if any(ord(c) < 32 or ord(c) == 127 for c in text) or len(text) > 320:
        raise SaslError("user name has a control character or is too long")
    return text


def decode(line: bytes) -> bytes:
    """One base64 line; ``=`` stands for an empty response (RFC 4954 4). SaslError otherwise."""
    if line == b"=":
        return b""
    if len(line) > MAX_RESPONSE:
        raise SaslError("response is too long")
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("response is not base64") from None
