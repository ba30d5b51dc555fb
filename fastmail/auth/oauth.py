"""Bearer tokens (RFC 6750): whose login one stands for, by the signature of a JWT (RFC 7519, keys as RFC 7517) or by
asking the server that gave it out (introspection, RFC 7662).

Promise: only asymmetric signatures count; expiry, issuer and audience are checked where they are configured. A token
that cannot be checked, because its server is away, is a TemporaryError and never a refusal. The network is only
touched on a helper thread, and answers are kept for a while.
"""

import asyncio
import base64
import http.client
import json
import os
import ssl
import time
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt

from fastmail.model import secret
from fastmail.model.errors import ConfigError, TemporaryError
from fastmail.telemetry import log

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
SECONDS = 10.0  # that a server may take
LARGEST = 1 << 20
KEYS_FOR = 600.0  # s that keys are kept
AGAIN = 10.0  # s until keys are asked for again because of an unknown key id
KNOWN_FOR = 60.0  # s that an introspected token is remembered
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Where tokens come from. ``jwks``: a file or an https URL; ``introspection``: an http or https URL, asked with
    ``client`` and ``secret``; ``claim``: what holds the address; ``scope``: what a token must allow;
    ``configuration``: told to clients whose token is refused."""

    issuer: str = ""
    audience: str = ""
    jwks: str = ""
    introspection: str = ""
    client: str = ""
    secret: str = ""
    claim: str = "email"
    scope: str = ""
    configuration: str = ""


class Refused(Exception):
    """The token is not good; str() says why, for the log."""


class Tokens:
    """Checks tokens for one worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: dict[str, Any] = {}
        self._fetched = -KEYS_FOR
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()

    @property
    def offered(self) -> bool:
        return bool(self._settings.jwks or self._settings.introspection)

    def refusal(self, scheme: str) -> bytes:
        """What a client is told when its token is refused (RFC 7628 3.2.2)."""
        told = {"status": "invalid_token"} if scheme == "OAUTHBEARER" else {"status": "401", "schemes": "bearer"}
        if self._settings.scope:
            told["scope"] = self._settings.scope
        if self._settings.configuration:
            told["openid-configuration"] = self._settings.configuration
        return json.dumps(told, separators=(",", ":")).encode()

    async def login(self, token: str) -> str | None:
        """The address that a good token stands for; TemporaryError when nobody can say."""
        now = time.monotonic()
        known = self._known.get(token)
        if known is not None and known[1] > now:
            return known[0]
        try:
            claims = await asyncio.get_running_loop().run_in_executor(None, self._claims, token)
        except Refused as error:
            log.event("oauth.refused", "info", why=error)
            return None
        except (OSError, ValueError, http.client.HTTPException) as error:
            log.event("oauth.unreachable", "warning", error=repr(error))
            raise TemporaryError("tokens cannot be checked now") from error
        login = claims.get(self._settings.claim)
        if not isinstance(login, str) or not login:
            log.event("oauth.refused", "info", why=f"no claim {self._settings.claim}")
            return None
        until = min(KNOWN_FOR, float(claims.get("exp", time.time() + KNOWN_FOR)) - time.time())
        self._known[token] = login, now + until
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return login

    # ---------------------------------------------------------------- on a helper thread

    def _claims(self, token: str) -> dict[str, Any]:
        settings = self._settings
        claims = self._introspect(token) if settings.introspection else self._verify(token)
        if settings.introspection:
            if settings.issuer and claims.get("iss", settings.issuer) != settings.issuer:
                raise Refused("another issuer")
            audience = claims.get("aud", settings.audience)
            if settings.audience and settings.audience not in ([audience] if isinstance(audience, str) else audience):
                raise Refused("another audience")
        granted = claims.get("scope", "")
        allowed = set(granted.split() if isinstance(granted, str) else granted)
        if not set(settings.scope.split()) <= allowed:
            raise Refused("scope is missing")
        return claims

    def _verify(self, token: str) -> dict[str, Any]:
        settings = self._settings
        try:
            key = self._key(jwt.get_unverified_header(token))
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                leeway=10,
                options={"require": ["exp"], "verify_aud": bool(settings.audience)},
            )
        except jwt.PyJWTError as error:
            raise Refused(str(error)) from None

    def _key(self, header: dict[str, Any]) -> Any:
        """The key that the token names; of a set with one key that one."""
        wanted = str(header.get("kid", ""))
        age = time.monotonic() - self._fetched
        if age > KEYS_FOR or (wanted not in self._keys and age > AGAIN):
            self._keys = self._fetch_keys()
            self._fetched = time.monotonic()
        if wanted in self._keys:
            return self._keys[wanted]
        if not wanted and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        raise Refused("signed with an unknown key")

    def _fetch_keys(self) -> dict[str, Any]:
        where = self._settings.jwks
        if where.startswith("https:"):
            text = _ask(where, "GET")
        else:
            with open(where, "rb") as file:
                text = file.read()
        keys: dict[str, Any] = {}
        for one in json.loads(text)["keys"]:
            try:
                keys[str(one.get("kid", ""))] = jwt.PyJWK.from_dict(one)
            except jwt.PyJWTError:
                continue  # a kind of key that we do not know
        return keys

    def _introspect(self, token: str) -> dict[str, Any]:
        settings = self._settings
        body = urllib.parse.urlencode({"token": token, "token_type_hint": "access_token"})
        login = ""
        if settings.client:
            quoted = ":".join(urllib.parse.quote(part, safe="") for part in (settings.client, settings.secret))
            login = "Basic " + base64.b64encode(quoted.encode()).decode()
        claims = json.loads(_ask(settings.introspection, "POST", body, login))
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise Refused("its server says that it is not active")
        if float(claims.get("exp", time.time() + 1)) < time.time():
            raise Refused("it has expired")
        return claims


def _ask(url: str, method: str, body: str = "", login: str = "") -> bytes:
    """The answer of a web server, whose certificate must be good; no redirects."""
    parts = urllib.parse.urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    headers = {"Accept": "application/json"}
    if body:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if login:
        headers["Authorization"] = login
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body.encode() or None, headers)
        reply = connection.getresponse()
        text = reply.read(LARGEST + 1)
        if reply.status != 200 or len(text) > LARGEST:
            raise OSError(f"{parts.netloc} answered {reply.status}")
        return text
    finally:
        connection.close()


def load(settings: Any, base: str) -> Settings:
    """From the [oauth] section; ConfigError for what cannot work."""
    jwks, introspection, password = settings.jwks, settings.introspection, ""
    if jwks and introspection:
        raise ConfigError("jwks and introspection: give one of them")
    if jwks and not jwks.startswith("https:"):
        if "://" in jwks:
            raise ConfigError("jwks must be a file or an https URL")
        jwks = os.path.join(base, jwks)
    if introspection and not introspection.startswith(("https://", "http://")):
        raise ConfigError("introspection must be a URL")
    if introspection.startswith("http://"):
        host = urllib.parse.urlsplit(introspection).hostname
        if host not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigError("introspection without TLS is for this machine only: use https")
    if settings.client_secret_file:
        try:
            password = secret.read(os.path.join(base, settings.client_secret_file)).strip()
        except OSError as error:
            raise ConfigError(f"client_secret_file: {error.strerror}") from None
    return Settings(
        settings.issuer,
        settings.audience,
        jwks,
        introspection,
        settings.client,
        password,
        settings.claim,
        settings.scope,
        settings.openid_configuration,
    )
