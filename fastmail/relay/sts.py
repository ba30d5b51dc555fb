"""MTA-STS (RFC 8461): a domain's policy that its mail hosts have certificates, and which hosts they are.

The policy is fetched when the domain's TXT record shows a new id, kept on disk for as long as it says, and used
meanwhile even when neither DNS nor the web server answers: an attacker who blocks both gains nothing. It is fetched
again every day before it expires (RFC 8461 10.2), and when the domain's hosts do not keep to it.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Callable

import msgspec

from fastmail.dns.resolver import LookupFailed, NoSuchDomain, Resolver
from fastmail.queue.spool import Spool
from fastmail.relay import https, places
from fastmail.relay.dane import matches
from fastmail.telemetry import log

PATH = "/.well-known/mta-sts.txt"
LARGEST = 65536
AGAIN = 300.0  # s until a failed fetch is tried again
DAY = 86400.0
UNUSED = 30 * DAY  # a policy that nobody needed for so long is not fetched again, and expires in its time
MOST_AGE = 31557600
MOST_HOSTS = 200  # patterns of a policy: each host of the domain is compared with all of them
_ID = re.compile(r"v=STSv1\s*;.*?\bid=([A-Za-z0-9]{1,32})\s*(?:;|\Z)")


class Policy(msgspec.Struct, array_like=True):
    """``mode``: enforce, testing or none; ``mx``: names and ``*.`` patterns; ``until``: when it expires, ``fetched``
    and ``used``: the last time that it was (by the day), all in s since 1970; ``text``: as the web server had it. A
    policy of an older server has no ``fetched``: it is fetched again at the next look."""

    version: int
    id: str
    mode: str
    mx: list[str]
    until: int
    fetched: int = 0
    used: int = 0
    text: str = ""

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
    if not age.isascii() or not age.isdigit() or len(age) > 10:
        raise BadPolicy("no max_age")
    mx = list(dict.fromkeys(one.lower() for one in fields.get("mx", []) if one))
    if len(mx) > MOST_HOSTS:
        raise BadPolicy("too many mx")
    if not mx and mode != "none":
        raise BadPolicy("no mx")
    return Policy(1, ident, mode, mx, int(now) + min(int(age), MOST_AGE), int(now), int(now), text)


class Policies:
    """Policies of domains, kept in the queue's environment. ``get``: fetches the text of a domain's policy, for tests.
    ``report``: hears of failures: (domain, policy, what, host, why), as RFC 8460 4.3 names them."""

    def __init__(self, spool: Spool, resolver: Resolver, get: Callable[[str], str] | None = None) -> None:
        self.report: Callable[[str, str, str, str, str], None] = lambda domain, policy, what, host, why: None
        self._spool = spool
        self._resolver = resolver
        self._get = get
        self._failed: dict[str, float] = {}

    async def find(self, domain: str) -> Policy | None:
        """The policy that holds now; None when there is none."""
        now = time.time()
        known = self._known(domain, now)
        try:
            texts = await self._resolver.texts("_mta-sts." + domain)
        except LookupFailed:
            texts = []
        ids = [match.group(1) for text in texts if (match := _ID.match(text)) is not None]
        if len(ids) == 1 and (known is None or known.id != ids[0]):
            known = await self._fetch(domain, ids[0], now) or known
        elif known is not None and now - known.used > DAY:
            known.used = int(now)
            await self._spool.set_policy(domain, msgspec.msgpack.encode(known))
        if known is not None and known.mode != "none":
            self.report(domain, "sts", "", "", known.text)
        return known

    async def renew(self, domain: str) -> bool:
        """Fetch a policy again that hosts did not keep to; True when it is another one now (RFC 8461 5.1)."""
        now = time.time()
        known = self._known(domain, now)
        if known is None or now - known.fetched < AGAIN:
            return False
        fresh = await self._fetch(domain, known.id, now)
        return fresh is not None and (fresh.mode, fresh.mx) != (known.mode, known.mx)

    async def refresh(self) -> int:
        """Fetch policies again before they expire, so that an attacker has no day without one to wait for (RFC 8461
        10.2); how many. Once a day, as long as somebody writes to the domain. Expired ones are removed."""
        now = time.time()
        done = 0
        rows = await asyncio.get_running_loop().run_in_executor(None, self._spool.policies)
        for domain, raw in rows:
            known = _read(raw)
            if known is None or known.until < now:
                await self._spool.drop_policy(domain, raw)
            elif now - known.fetched >= min(DAY, (known.until - known.fetched) / 2) and now - known.used < UNUSED:
                done += await self._fetch(domain, known.id, now) is not None
        return done

    def _known(self, domain: str, now: float) -> Policy | None:
        raw = self._spool.policy(domain)
        known = _read(raw) if raw is not None else None
        return known if known is not None and known.until >= now else None

    async def _fetch(self, domain: str, ident: str, now: float) -> Policy | None:
        """Fetch and keep a policy; None when it is not to be had, or was not a moment ago."""
        if self._failed.get(domain, 0.0) > now:
            return None
        try:
            text = await self._text(domain)
            fresh = parse(text, ident, now)
        except (*https.ERRORS, LookupFailed, NoSuchDomain) as error:
            what = "sts-policy-fetch-error"
            if isinstance(error, ssl.SSLCertVerificationError):
                what = "sts-webpki-invalid"
            elif isinstance(error, BadPolicy):
                what = "sts-policy-invalid"
            log.event("sts.failed", "warning", domain=domain, error=error)
            self.report(domain, "sts", what, "", " ".join(str(error).split()))
            if len(self._failed) > 10_000:
                self._failed.clear()
            self._failed[domain] = now + AGAIN
            return None
        await self._spool.set_policy(domain, msgspec.msgpack.encode(fresh))
        return fresh

    async def _text(self, domain: str) -> str:
        """The policy's text from the domain's web server, whose certificate must be good; no redirects (RFC 8461 3.3),
        and never from this machine."""
        if self._get is not None:
            return await https.off_loop(self._get, domain)
        host = "mta-sts." + domain
        addresses = [one for one in await self._resolver.addresses(host) if not places.barred(one)]
        if not addresses:
            raise OSError(f"{host} has no address that a stranger's web server may have")
        wanted = https.Request("GET", host, addresses[-1], PATH, limit=LARGEST)
        return policy_text(await https.off_loop(https.request, wanted))


def policy_text(answer: https.Answer) -> str:
    """The text of a policy; BadPolicy when the answer has none. OSError when it says that there is none."""
    if answer.status != 200:
        raise OSError(f"HTTP status {answer.status}")
    if answer.kind != "text/plain" or len(answer.body) > LARGEST:
        raise BadPolicy("not a text, or too long")
    return answer.body.decode("utf-8", "replace")


def _read(raw: bytes) -> Policy | None:
    try:
        return msgspec.msgpack.decode(raw, type=Policy)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
