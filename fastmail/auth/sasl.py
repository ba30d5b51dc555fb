"""SASL exchanges as small machines (RFC 4422, PLAIN RFC 4616, LOGIN draft-murchison-sasl-login).

A protocol feeds decoded responses and gets a challenge to send, or Credentials to check. Anything wrong raises
SaslError, whose text may be sent; the exchange is over then. Nothing here knows base64 lines or reply codes.
"""

import base64
import binascii
from dataclasses import dataclass

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


MECHANISMS = {"PLAIN": Plain, "LOGIN": Login}


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
