"""MTA-STS (RFC 8461): a domain's policy that its mail hosts have certificates, and which hosts they are.

The policy is fetched when the domain's TXT record shows a new id, kept on disk for as long as it says, and used
meanwhile even when neither DNS nor the web server answers: an attacker who blocks both gains nothing.
"""

import asyncio
import http.client
import re
import ssl
import time
from collections.abc import Callable

import msgspec

from fastmail.dns.resolver import LookupFailed, Resolver
from fastmail.queue.spool import Spool
from fastmail.relay.dane import matches
from fastmail.telemetry import log

PATH = "/.well-known/mta-sts.txt"
LARGEST = 65536
SECONDS = 30.0
AGAIN = 300.0  # s until a failed fetch is tried again
MOST_AGE = 31557600
_ID = re.compile(r"v=STSv1\s*;.*?\bid=([A-Za-z0-9]{1,32})\s*(?:;|\Z)")


class Policy(msgspec.Struct, array_like=True):
    """``mode``: enforce, testing or none; ``mx``: names and ``*.`` patterns; ``until``: s since 1970."""

    version: int
    id: str
    mode: str
    mx: list[str]
    until: int

    def allows(self, host: str) -> bool:
        return any(matches(pattern, host) for pattern in self.mx)


class BadPolicy(ValueError):
    """The text is no policy; str() says why."""


def parse(text: str, ident: str, now: float) -> Policy:
    """RFC 8461 3.2."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise BadPolicy("a line without a colon")
        fields.setdefault(name.strip().lower(), []).append(value.strip())
    if fields.get("version") != ["STSv1"]:
        raise BadPolicy("no version STSv1")
    mode = fields.get("mode", [""])[0]
    if mode not in ("enforce", "testing", "none"):
        raise BadPolicy("no mode")
    age = fields.get("max_age", [""])[0]
    if not age.isdigit() or len(age) > 10:
        raise BadPolicy("no max_age")
    mx = [one.lower() for one in fields.get("mx", []) if one]
    if not mx and mode != "none":
        raise BadPolicy("no mx")
    return Policy(1, ident, mode, mx, int(now) + min(int(age), MOST_AGE))


def fetch(domain: str) -> str:
    """The policy's text from the domain's web server, whose certificate must be good; no redirects (RFC 8461 3.3)."""
    connection = http.client.HTTPSConnection("mta-sts." + domain, timeout=SECONDS, context=ssl.create_default_context())
    try:
        connection.request("GET", PATH)
        reply = connection.getresponse()
        if reply.status != 200:
            raise BadPolicy(f"HTTP status {reply.status}")
        kind = reply.headers.get_content_type()
        text = reply.read(LARGEST + 1)
        if kind != "text/plain" or len(text) > LARGEST:
            raise BadPolicy("not a text, or too long")
        return text.decode("utf-8", "replace")
    finally:
        connection.close()


class Policies:
    """Policies of domains, kept in the queue's environment."""

    def __init__(self, spool: Spool, resolver: Resolver, get: Callable[[str], str] = fetch) -> None:
        self._spool = spool
        self._resolver = resolver
        self._get = get
        self._failed: dict[str, float] = {}

    async def find(self, domain: str) -> Policy | None:
        """The policy that holds now; None when there is none."""
        now = time.time()
        raw = self._spool.policy(domain)
        known = msgspec.msgpack.decode(raw, type=Policy) if raw is not None else None
        if known is not None and known.until < now:
            known = None
        try:
            texts = await self._resolver.texts("_mta-sts." + domain)
        except LookupFailed:
            return known
        ids = [match.group(1) for text in texts if (match := _ID.match(text)) is not None]
        if len(ids) != 1 or (known is not None and known.id == ids[0]):
            return known
        if self._failed.get(domain, 0.0) > now:
            return known
        try:
            text = await asyncio.get_running_loop().run_in_executor(None, self._get, domain)
            fresh = parse(text, ids[0], now)
        except (OSError, ValueError, http.client.HTTPException) as error:
            log.event("sts.failed", "warning", domain=domain, error=error)
            self._failed[domain] = now + AGAIN
            if len(self._failed) > 10_000:
                self._failed.clear()
            return known
        await self._spool.set_policy(domain, msgspec.msgpack.encode(fresh))
        return fresh
