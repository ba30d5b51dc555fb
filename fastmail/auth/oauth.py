"""Bearer tokens (RFC 6750): whose login one stands for, by the signature of a JWT (RFC 7519, keys as RFC 7517) or by
asking the server that gave it out (introspection, RFC 7662).

Promise: only asymmetric signatures count. Expiry, and issuer and audience where they are configured, are checked in
both kinds, and a token or an answer that does not state them is refused. An address that its issuer has not verified
is nobody's login. A token that cannot be checked, because its server is away, is a TemporaryError and never a refusal.
Servers are asked by net.web, a few times at once, and answers are kept for a while; keys are fetched at most once in
AGAIN seconds, whatever tokens come. Signatures are checked on threads of this module.
"""

import asyncio
import base64
import json
import math
import time
import urllib.parse
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jwt

from fastmail.auth.provider import HERE, Settings
from fastmail.model.errors import TemporaryError
from fastmail.net import web
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
SECONDS = 10.0  # that a server may take for a whole answer
LARGEST = 1 << 20  # octets of keys or of an answer about a token; both have a few kB
KEYS_FOR = 600.0  # s that keys are kept
AGAIN = 10.0  # s between two fetches of keys, when a key is not known or the last fetch failed
KNOWN_FOR = 60.0  # s that a token that was good is remembered
MOST = 10_000
ASKING = 16  # tokens that a server is asked about at once
WAITING = 64  # logins by token that may wait, asking ones among them
LEEWAY = 10.0  # s that clocks may differ
BROKEN = (jwt.PyJWTError, ValueError, TypeError, RecursionError)  # what a token can make of its reader


class Refused(Exception):
    """The token is not good; str() says why, for the log."""


class Tokens:
    """Checks tokens for one worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(2, "tokens")
        self._keys: dict[str, Any] = {}
        self._fetched = -math.inf  # when keys were had, and when they were asked for (monotonic)
        self._tried = -math.inf
        self._fetching = asyncio.Lock()
        self._asking = asyncio.Semaphore(ASKING)
        self._waiting = 0
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def offered(self) -> bool:
        return bool(self._settings.jwks or self._settings.introspection)

    def refusal(self, scheme: str) -> bytes:
        """Return what a client is told when its token is refused (RFC 7628 3.2.2)."""
        told = {"status": "invalid_token"} if scheme == "OAUTHBEARER" else {"status": "401", "schemes": "bearer"}
        if self._settings.scope:
            told["scope"] = self._settings.scope
        if self._settings.configuration:
            told["openid-configuration"] = self._settings.configuration
        return json.dumps(told, separators=(",", ":")).encode()

    async def login(self, token: str) -> str | None:
        """The address that a good token stands for, None for one that is refused; TemporaryError when nobody can
        say."""
        now = time.monotonic()
        known = self._known.get(token)
        if known is not None and known[1] > now:
            return known[0]
        if self._waiting >= WAITING:
            count("auth.shed")
            raise TemporaryError("too many tokens wait")
        self._waiting += 1
        try:
            claims = await (self._introspect(token) if self._settings.introspection else self._verify(token))
            login, expires = self._check(claims)
        except Refused as error:
            count("oauth.refused")
            log.event("oauth.refused", "info", why=error)
            return None
        except (OSError, ValueError, RecursionError) as error:  # no answer, or one that says nothing
            count("oauth.unreachable")
            log.event("oauth.unreachable", "warning", error=repr(error))
            raise TemporaryError("tokens cannot be checked now") from error
        finally:
            self._waiting -= 1
        self._known[token] = login, now + min(KNOWN_FOR, expires - time.time())
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return login

    def _check(self, claims: dict[str, Any]) -> tuple[str, float]:
        """Return (login, when the token expires) from the token itself or from its server. Raises Refused."""
        settings = self._settings
        if settings.issuer and claims.get("iss") != settings.issuer:
            raise Refused("another issuer, or none is named")
        if settings.audience and settings.audience not in _names(claims.get("aud")):
            raise Refused("another audience, or none is named")
        now = time.time()
        expires = _number(claims, "exp", now + KNOWN_FOR)
        if expires + LEEWAY < now:
            raise Refused("it has expired")
        if _number(claims, "nbf", now) > now + LEEWAY:
            raise Refused("it is not good yet")
        if not set(settings.scope.split()) <= set(_names(claims.get("scope"), between=" ")):
            raise Refused("scope is missing")
        login = claims.get(settings.claim)
        if not isinstance(login, str) or not login:
            raise Refused(f"no claim {settings.claim}")
        if not _is_verified(claims) and (settings.claim == "email" or login == claims.get("email")):
            raise Refused("its issuer has not verified the address")
        return login, expires

    # ---------------------------------------------------------------- signed tokens

    async def _verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a signed token. Raises Refused if its signature or time is wrong."""
        try:
            header = jwt.get_unverified_header(token)
        except BROKEN as error:
            raise Refused(f"no signed token: {error}") from None
        key = await self._key(header)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, token, key)

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        try:
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                leeway=LEEWAY,
                options={"require": ["exp"], "verify_aud": bool(settings.audience)},
            )
        except BROKEN as error:
            raise Refused(str(error)) from None

    async def _key(self, header: dict[str, Any]) -> Any:
        """Return the key that the token names; if the set has only one key, that one."""
        wanted = str(header.get("kid", ""))
        if self._lacks(wanted):
            async with self._fetching:
                if self._lacks(wanted) and time.monotonic() - self._tried > AGAIN:
                    self._tried = time.monotonic()
                    self._keys = await self._fetch_keys()
                    self._fetched = time.monotonic()
        if time.monotonic() - self._fetched > KEYS_FOR or (self._lacks(wanted) and self._fetched < self._tried):
            raise OSError("its keys could not be had a moment ago")
        if wanted in self._keys:
            return self._keys[wanted]
        if not wanted and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        raise Refused("signed with an unknown key")

    def _lacks(self, wanted: str) -> bool:
        """True if the keys are old, or if this key is not among them."""
        known = wanted in self._keys or (not wanted and len(self._keys) == 1)
        return not known or time.monotonic() - self._fetched > KEYS_FOR

    async def _fetch_keys(self) -> dict[str, Any]:
        where = self._settings.jwks
        if where.startswith("https:"):
            text = await self._ask(web.Request(where))
        else:
            text = await asyncio.get_running_loop().run_in_executor(self._threads, _read, where)
        found = json.loads(text)
        keys: dict[str, Any] = {}
        for one in found["keys"] if isinstance(found, dict) and isinstance(found.get("keys"), list) else ():
            try:
                keys[str(one.get("kid", ""))] = jwt.PyJWK.from_dict(one)
            except (jwt.PyJWTError, AttributeError, TypeError, ValueError):
                continue  # a kind of key that we do not know
        if not keys:
            raise ValueError(f"{where} has no keys")
        return keys

    # ---------------------------------------------------------------- introspection

    async def _introspect(self, token: str) -> dict[str, Any]:
        """Return what the token's server says about it (RFC 7662 2.2)."""
        settings = self._settings
        body = urllib.parse.urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if settings.client:
            quoted = ":".join(urllib.parse.quote(part, safe="") for part in (settings.client, settings.secret))
            headers["Authorization"] = "Basic " + base64.b64encode(quoted.encode()).decode()
        async with self._asking:
            text = await self._ask(web.Request(settings.introspection, "POST", body, headers, plain=True))
        claims = json.loads(text)
        if not isinstance(claims, dict) or claims.get("active") is not True:
            raise Refused("its server says that it is not active")
        return claims

    async def _ask(self, wanted: web.Request) -> bytes:
        """The answer of a server of tokens. OSError."""
        inside = self._settings.inside or urllib.parse.urlsplit(wanted.url).hostname in HERE
        headers = {"Accept": "application/json", **wanted.headers}
        wanted = replace(wanted, headers=headers, limit=LARGEST, inside=inside)
        answer = await web.ask(wanted, seconds=SECONDS)
        if answer.status != 200 or len(answer.body) > LARGEST:
            raise web.WebError(f"{wanted.url} answered with status {answer.status}, or too much")
        return answer.body


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(LARGEST)


def _names(value: Any, between: str = "") -> list[str]:
    """A claim that is a name (or several, with something between them), or a list of names."""
    if isinstance(value, str):
        return value.split(between) if between else [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _number(claims: dict[str, Any], name: str, otherwise: float) -> float:
    """A time (RFC 7519 2, NumericDate), also as text, which some servers send; Refused for what is none."""
    value = claims.get(name, otherwise)
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if math.isnan(found):
        raise Refused(f"{name} is no time")
    return found


def _is_verified(claims: dict[str, Any]) -> bool:
    """True if the address is verified (OpenID Connect Core 5.1, email_verified), which some servers send as text. A
    server that does not send it verifies every address."""
    said = claims.get("email_verified", True)
    return said is True or (isinstance(said, str) and said.lower() == "true")
