"""MTA-STS (RFC 8461): a domain's policy that its mail hosts have valid certificates, and which hosts these are.

A policy is fetched when the domain's TXT record shows a new id, and stored for as long as the policy says. It is used
even when neither the DNS nor the web server answers, so an attacker who blocks both gains nothing. It is fetched again
every day before it expires (RFC 8461 10.2), and when the domain's hosts do not follow it.

A domain is asked only once at a time, and less and less often after failures. So a web server that never finishes its
answer delays only the mail for its own domain.
"""

import asyncio
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

import msgspec

from fastmail.dns.resolver import LookupFailed, NoSuchDomain, Resolver
from fastmail.net import web
from fastmail.queue.spool import Spool
from fastmail.relay.dane import matches
from fastmail.telemetry import log

PATH = "/.well-known/mta-sts.txt"
LARGEST = 65536
AGAIN = 300.0  # s until a failed fetch is tried again (RFC 8461 3.3), twice as long each time, at most RARELY
RARELY = 3600.0  # s between two fetches from a web server that fails, at most
FAILED = 10_000  # domains whose failures are remembered
AT_ONCE = 8  # policies that ``refresh`` fetches at the same time
LONGEST = 1200.0  # s that ``refresh`` may take; those that expire first are fetched first
DAY = 86400.0
UNUSED = 30 * DAY  # a policy that nobody needed for so long is not fetched again; it expires as usual
MOST_AGE = 31557600
MOST_HOSTS = 200  # patterns of a policy; bounded because each host of the domain is compared with all of them
_ID = re.compile(r"v=STSv1\s*;.*?\bid=([A-Za-z0-9]{1,32})\s*(?:;|\Z)")


class Policy(msgspec.Struct, array_like=True):
    """A policy as it is stored.

    ``mode``: enforce, testing or none; ``mx``: names and ``*.`` patterns; ``until``: when it expires; ``fetched``,
    ``used``: when it was last fetched and (to the day) used, all in s since 1970; ``text``: as the web server sent it.
    A policy stored by an older server has no ``fetched``, so it is fetched again soon."""

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
    """The text is not a policy; str() says why."""


def idents(texts: Iterable[str]) -> list[str]:
    """Return the policy ids in TXT records (RFC 8461 3.1). A domain has a policy if there is exactly one."""
    return [match.group(1) for text in texts if (match := _ID.match(text)) is not None]


def parse(text: str, ident: str, now: float) -> Policy:
    """Parse the text of a policy (RFC 8461 3.2). Raises BadPolicy."""
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
    """The policies of domains, stored in the queue's environment.

    ``get``: returns the text of a domain's policy, for tests. ``inside``: web servers may have private addresses.
    ``report``: called for each failure with (domain, policy, what, host, why), in the terms of RFC 8460 4.3."""

    def __init__(
        self, spool: Spool, resolver: Resolver, get: Callable[[str], str] | None = None, inside: bool = False
    ) -> None:
        self.report: Callable[[str, str, str, str, str], None] = lambda domain, policy, what, host, why: None
        self._spool = spool
        self._resolver = resolver
        self._get = get
        self._inside = inside
        # by domain: (when it may be asked again, the wait before that)
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Policy | None]] = {}

    async def close(self) -> None:
        """Cancel fetches that are under way."""
        under_way = list(self._asking.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def find(self, domain: str) -> Policy | None:
        """Return the policy that is valid now; None when there is none."""
        now = time.time()
        known = self._known(domain, now)
        try:
            texts = await self._resolver.texts("_mta-sts." + domain)
        except LookupFailed:
            texts = []
        ids = idents(texts)
        if len(ids) == 1 and (known is None or known.id != ids[0]):
            known = await self._fetch(domain, ids[0], now) or known
        elif known is not None and now - known.used > DAY:
            known.used = int(now)
            await self._spool.facts.set_policy(domain, msgspec.msgpack.encode(known))
        if known is not None and known.mode != "none":
            self.report(domain, "sts", "", "", known.text)
        return known

    async def renew(self, domain: str) -> bool:
        """Fetch a policy again that hosts did not follow; returns True when it is now a different one (RFC 8461
        5.1)."""
        now = time.time()
        known = self._known(domain, now)
        if known is None or now - known.fetched < AGAIN:
            return False
        fresh = await self._fetch(domain, known.id, now)
        return fresh is not None and (fresh.mode, fresh.mx) != (known.mode, known.mx)

    async def refresh(self) -> int:
        """Fetch policies again before they expire, and remove expired ones; returns how many were fetched.

        So there is no day without a policy that an attacker could wait for (RFC 8461 10.2). Each policy is fetched once
        a day, as long as somebody sends mail to the domain."""
        now = time.time()
        rows = await asyncio.get_running_loop().run_in_executor(None, self._spool.facts.policies)
        due: list[tuple[float, str, Policy]] = []
        for domain, raw in rows:
            known = _read(raw)
            if known is None or known.until < now:
                await self._spool.facts.drop_policy(domain, raw)
            elif now - known.fetched >= min(DAY, (known.until - known.fetched) / 2) and now - known.used < UNUSED:
                due.append((known.until, domain, known))
        due.sort(key=lambda one: one[:2])
        waiting = iter(due)

        async def some() -> int:
            done = 0
            for _, domain, known in waiting:
                done += await self._fetch(domain, known.id, now, known.used) is not None
            return done

        workers = [asyncio.ensure_future(some()) for _ in range(min(AT_ONCE, len(due)))]
        try:
            async with asyncio.timeout(LONGEST):
                return sum(await asyncio.gather(*workers))
        except TimeoutError:
            log.event("sts.slow", "warning", due=len(due), left=sum(1 for _ in waiting))
            return 0
        finally:
            for one in workers:
                one.cancel()

    def _known(self, domain: str, now: float) -> Policy | None:
        raw = self._spool.facts.policy(domain)
        known = _read(raw) if raw is not None else None
        return known if known is not None and known.until >= now else None

    async def _fetch(self, domain: str, ident: str, now: float, used: int = 0) -> Policy | None:
        """Fetch and store a policy; None when it cannot be fetched, or the last failure was a short time ago.

        ``used``: when somebody last needed it, 0 for now. Whoever asks for a domain that is being asked gets the same
        answer."""
        task = self._asking.get(domain)
        if task is None:
            if self._failed.get(domain, (0.0, 0.0))[0] > now:
                return None
            task = asyncio.get_running_loop().create_task(self._attempt(domain, ident, now, used))
            self._asking[domain] = task
            task.add_done_callback(lambda _: self._asking.pop(domain, None))
        return await asyncio.shield(task)

    async def _attempt(self, domain: str, ident: str, now: float, used: int) -> Policy | None:
        try:
            text = await self._text(domain)
            fresh = parse(text, ident, now)
        except (OSError, BadPolicy, LookupFailed, NoSuchDomain) as error:
            what = "sts-policy-fetch-error"
            if isinstance(error, ssl.SSLCertVerificationError):
                what = "sts-webpki-invalid"
            elif isinstance(error, BadPolicy):
                what = "sts-policy-invalid"
            log.event("sts.failed", "warning", domain=domain, error=error)
            self.report(domain, "sts", what, "", " ".join(str(error).split()))
            self._put_off(domain)
            return None
        self._failed.pop(domain, None)
        fresh.used = used or fresh.used
        await self._spool.facts.set_policy(domain, msgspec.msgpack.encode(fresh))
        return fresh

    def _put_off(self, domain: str) -> None:
        """Remember a failure; when there are too many, the oldest is forgotten."""
        last = self._failed.pop(domain, (0.0, 0.0))[1]
        wait = min(RARELY, 2 * last) if last else AGAIN
        self._failed[domain] = time.time() + wait, wait
        if len(self._failed) > FAILED:
            self._failed.popitem(last=False)

    async def _text(self, domain: str) -> str:
        """Return the policy's text from the domain's web server, whose certificate must be valid. No redirect is
        followed (RFC 8461 3.3), and no private address is asked."""
        if self._get is not None:
            return self._get(domain)
        wanted = web.Request(f"https://mta-sts.{domain}{PATH}", limit=LARGEST, inside=self._inside)
        return policy_text(await web.ask(wanted, self._resolver.addresses))


def policy_text(answer: web.Answer) -> str:
    """Return the text of a policy from a web server's answer. BadPolicy when it is not one; OSError when the answer
    says that there is none."""
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
