"""SASL exchanges as small machines (RFC 4422, PLAIN RFC 4616, LOGIN draft-murchison-sasl-login, SCRAM RFC 5802,
OAUTHBEARER RFC 7628, XOAUTH2 as Google describes it, EXTERNAL RFC 4422 A).

A protocol feeds decoded responses and gets a challenge to send, or Credentials to check. Anything wrong raises
SaslError, whose text may be sent; the exchange is over then. Nothing here knows base64 lines or reply codes.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import scramp

from fastmail.model.address import comparable
from fastmail.model.errors import ClientError

MAX_RESPONSE = 32768  # octets of one response; the longest are tokens
NOT_FOR_OTHERS = "acting for another user is not allowed"


class SaslError(ClientError):
    """The exchange can not go on."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims. ``acting``: the other account that it wants to act for (RFC 4422 2); empty for its
    own."""

    login: str
    password: bytes
    acting: str = ""


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
        asked, own = (comparable(one.decode("utf-8", "surrogateescape")) for one in (authzid, login))
        return Credentials(_text(login), password, _text(authzid) if authzid and asked != own else "")


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
    """The client has shown that it knows the password, as it was at this revision of the directory; -1 where it has
    shown something else."""

    login: str
    revision: int = -1


Keys = tuple[bytes, bytes, bytes, int]  # salt, stored key, server key, iterations


class Scram:
    """SCRAM (RFC 5802, RFC 7677), with the channel binding tls-server-end-point (RFC 5929) in the -PLUS forms.

    ``keys`` gives the keys of a login, made-up ones for a user that is not there, and ``revision`` is the directory's
    before they were looked up. A proof that is wrong comes out as Credentials without a password, which fail like any
    other. So does a client that could bind to the channel and believes that this server cannot, while ``plus`` says
    that a -PLUS form is offered: somebody on the way changed what it was offered (RFC 5802 6). ``may_try`` is asked
    before a proof is looked at.
    """

    def __init__(
        self,
        name: str,
        keys: Callable[[str], Keys],
        end_point: bytes,
        plus: bool = False,
        revision: int = -1,
        may_try: Callable[[str], bool] = lambda login: True,
    ) -> None:
        self._name = name
        self._keys = keys
        self._plus = plus
        self._revision = revision
        self._may_try = may_try
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
            return Verified(self._login, self._revision)
        if response is None:
            if self._begun:
                raise SaslError("a response was expected")
            return b""
        try:
            text = response.decode("utf-8")
            if not self._begun:
                self._begun = True
                flag, authzid, _ = text.split(",", 2)
                if flag == "y" and self._plus:
                    unbound = scramp.ScramMechanism(self._name.removesuffix("-PLUS")).make_server(self._find)
                    unbound.set_client_first(text)  # whose login it is
                    return Credentials(self._login, b"")
                self._server.set_client_first(text)
                if authzid and comparable(authzid.removeprefix("a=")) != comparable(self._login):
                    raise SaslError(NOT_FOR_OTHERS)
                return str(self._server.get_server_first()).encode()
        except (scramp.ScramException, ValueError, UnicodeError, IndexError, KeyError):
            raise SaslError("SCRAM response has not the form that RFC 5802 gives it") from None
        if not self._may_try(self._login):
            raise SaslError("too many logins fail, try again later")
        try:
            self._server.set_client_final(text)
        except (scramp.ScramException, ValueError, IndexError, KeyError):
            return Credentials(self._login, b"")
        self._final = True
        return str(self._server.get_server_final()).encode()


@dataclass(frozen=True, slots=True)
class Token:
    """The client has a token; ``login`` is whom it says it is, empty for whoever the token is for. One that is refused
    is told so by ``mechanism.refusal``, and the exchange goes on with that mechanism."""

    login: str
    token: str
    mechanism: "Bearer"


@dataclass(frozen=True, slots=True)
class Spent:
    """The client's answer to a refusal: the exchange has failed, and that was counted when the token was refused."""

    login: str


class Bearer:
    """OAUTHBEARER and XOAUTH2: one response; behind a refusal the client answers once more and has failed."""

    def __init__(self, name: str, refusal: bytes) -> None:
        self._name = name
        self._login = ""
        self._asked = False
        self.refusal = refusal

    def step(self, response: bytes | None) -> bytes | Token | Spent:
        if self._asked:
            return Spent(self._login)
        if response is None:
            return b""
        self._asked = True
        head, _, rest = response.partition(b"\x01")
        fields = dict(part.partition(b"=")[::2] for part in rest.split(b"\x01") if part)
        if self._name == "XOAUTH2":
            if not head.startswith(b"user="):
                raise SaslError("XOAUTH2 response has not the form user= ^A auth=Bearer token ^A ^A")
            login = head[5:]
        else:
            flag, _, authzid = head.partition(b",")
            if flag not in (b"n", b"y") or not authzid.endswith(b",") or not response.endswith(b"\x01\x01"):
                raise SaslError("OAUTHBEARER response has not the form that RFC 7628 gives it")
            login = authzid[:-1].removeprefix(b"a=").replace(b"=2C", b",").replace(b"=3D", b"=")
        kind, _, token = fields.get(b"auth", b"").partition(b" ")
        if kind.lower() != b"bearer" or not token.strip() or not token.isascii():
            raise SaslError("a Bearer token is expected")
        self._login = _text(login)
        return Token(self._login, token.strip().decode(), self)


class External:
    """One response: whom the client acts for, empty for whoever its certificate names."""

    def __init__(self, certified: Sequence[str]) -> None:
        self._certified = certified

    def step(self, response: bytes | None) -> bytes | Verified | Credentials:
        if response is None:
            return b""
        login = _text(response).lower() or self._certified[0]
        return Verified(login) if login in self._certified else Credentials(login, b"")


class Channel(Protocol):
    """What a login may lean on: ``end_point`` as in Scram, empty without TLS; ``certified``: addresses in the
    certificate that the client has shown; ``host``: where it comes from."""

    host: str

    @property
    def end_point(self) -> bytes: ...
    @property
    def certified(self) -> Sequence[str]: ...


Claim = Credentials | Verified | Token | Spent
Mechanism = Plain | Login | Scram | Bearer | External
PASSWORDS: dict[str, type[Plain] | type[Login]] = {"PLAIN": Plain, "LOGIN": Login}


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError("user name is not UTF-8") from None
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text) or len(text) > 320:
        raise SaslError("user name has a control character or is too long")
    return text


def login_name(raw: bytes) -> str:
    """A user name of LOGIN (IMAP) or USER (POP3); SaslError for one that no exchange would take either: octets that
    are no UTF-8 are never replaced, because the result could be another user's name."""
    return _text(raw)


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
