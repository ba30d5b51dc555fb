"""TLS reports (RFC 8460): tell other domains, once a day, how sessions with their hosts went, if they asked for it.

Sessions are counted in memory and written once a minute, so a crash loses at most a minute of counts. After the end of
a day (UTC) every domain whose ``_smtp._tls`` record names ``mailto`` addresses or ``https`` places gets a report there.
If no place accepted it, it is tried again every hour for a day. A report contains nothing secret, so it is also sent to
a web server with an invalid certificate (which may be what the report is about), but never to a place inside our own
network.
"""

import asyncio
import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastmail.delivery import signing
from fastmail.dns.resolver import LookupFailed, NoSuchDomain, Resolver
from fastmail.message import letter
from fastmail.model.errors import MailError
from fastmail.model.esmtp import Rcpt
from fastmail.net import web
from fastmail.policy.signer import Signer
from fastmail.queue.model import Item, Outgoing
from fastmail.queue.routes import LAX, marked
from fastmail.queue.spool import Spool
from fastmail.smtp.client import Target
from fastmail.telemetry import log

KINDS = (  # words in an error (lower case), and the result type of RFC 8460 4.3
    ("fits no tlsa record", "tlsa-invalid"),
    ("chain leads to no tlsa", "tlsa-invalid"),
    ("expired", "certificate-expired"),
    ("out of date", "certificate-expired"),
    ("hostname mismatch", "certificate-host-mismatch"),
    ("ip address mismatch", "certificate-host-mismatch"),
    ("another name", "certificate-host-mismatch"),
    ("certificate verify failed", "certificate-not-trusted"),
    ("offers no starttls", "starttls-not-supported"),
    ("answers starttls with", "starttls-not-supported"),
    ("", "validation-failure"),
)
REASON = 60  # characters of an error that are reported
POLICY = b"tls\0"  # begins the name of a policy's text in the spool, before day, domain and policy
POLICIES = 10_000  # policies that are remembered between two writes
STRINGS = 100  # lines of a policy that are reported
AGAIN = 3600.0  # s until a report that no place accepted is tried again
AT_ONCE = 8  # domains that get their reports at the same time
PATIENCE = 120.0  # s for sending to all places of one domain
PLACES = 10  # addresses, and web places, of a domain at most
Key = tuple[str, ...]  # day, domain, policy, kind of failure, host, address, reason (missing in older rows)


@dataclass(slots=True)
class Reporter:
    """Counts sessions and sends the reports; one for the runner.

    ``destination``: gives the destination of a message of this server to an address; ``counts``: what is not written
    yet; ``inside``: places may be in our own network; ``waiting``: by day and domain, when a report is tried again."""

    spool: Spool
    destination: Callable[[str], str]
    resolver: Resolver
    hostname: str
    counts: Counter[Key]
    inside: bool = False
    waiting: dict[tuple[str, str], float] = field(default_factory=dict)
    policies: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    signer: Signer | None = None

    def note(self, domain: str, target: Target, tls: bool, error: str = "") -> None:
        """Count one session: with TLS, or failed. One without TLS that was not supposed to have it is not counted."""
        if not target.policy or not (tls or error):
            return
        words = error.replace(target.shown, "").replace(target.name, "").strip(" :")
        kind = next(kind for known, kind in KINDS if known in words.lower()) if error else ""
        reason = words[:REASON] if kind in ("validation-failure", "certificate-not-trusted") else ""
        self.counts[(_today(), domain, target.policy, kind, target.name, target.address, reason)] += 1

    def told(self, domain: str, policy: str, what: str, host: str, why: str) -> None:
        """Count a failure before any session: of the DNS, of fetching a policy, or of a host that the policy does not
        name. Without ``what``, ``why`` is the policy that is valid, line by line."""
        if what:
            self.counts[(_today(), domain, policy, what, host, "", why[:REASON])] += 1
        elif len(self.policies) < POLICIES:
            self.policies[(_today(), domain, policy)] = why.splitlines()[:STRINGS]

    async def write(self) -> None:
        """Write the counts to the spool, and the policies that they are about."""
        counts, self.counts = self.counts, Counter()
        policies, self.policies = self.policies, {}
        spool = self.spool
        if counts:
            await spool.facts.add_counts({"\0".join(key): count for key, count in counts.items()})
        for key, lines in policies.items():
            value = json.dumps(lines).encode()
            if spool.facts.state(_name(key)) != value:
                await spool.facts.set_state(_name(key), value)

    async def send(self, now: float | None = None) -> int:
        """Send the reports of days that are over; returns how many."""
        now = now or time.time()
        today = time.strftime("%Y-%m-%d", time.gmtime(now))
        last = time.strftime("%Y-%m-%d", time.gmtime(now - 2 * 86400))
        found: dict[tuple[str, str], list[tuple[list[str], int]]] = {}
        old: list[str] = []
        for text, count in (await asyncio.get_running_loop().run_in_executor(None, self.spool.facts.counts)).items():
            key = text.split("\0")
            if key[0] >= today:
                continue
            if len(key) in (6, 7):
                found.setdefault((key[0], key[1]), []).append((key, count))
            else:  # its key was cut, because its names were too long
                old.append(text)
        waiting = iter([(*about, rows) for about, rows in found.items() if self.waiting.get(about, 0.0) <= now])

        async def some() -> int:
            sent = 0
            for day, domain, rows in waiting:
                sent += await self._try(day, domain, rows, now, day > last)
            return sent

        if old:
            await self.spool.facts.drop_counts(old)
        return sum(await asyncio.gather(*(some() for _ in range(min(AT_ONCE, len(found))))))

    async def _try(self, day: str, domain: str, rows: list[tuple[list[str], int]], now: float, again: bool) -> int:
        """Send one domain's report of one day; returns how many were sent. Its counts are deleted afterwards, unless
        sending failed and is to be tried ``again``."""
        sent = 0
        try:
            async with asyncio.timeout(PATIENCE):
                sent = await self._send(day, domain, rows)
        except (LookupFailed, NoSuchDomain, MailError, OSError, ValueError) as error:
            log.event("tlsreport.failed", "warning", domain=domain, error=str(error) or "no answer in time")
            if again:
                self.waiting[(day, domain)] = now + AGAIN
                return 0
        self.waiting.pop((day, domain), None)
        for policy in {key[2] for key, _ in rows}:
            await self.spool.facts.drop_state(_name((day, domain, policy)))
        await self.spool.facts.drop_counts(["\0".join(key) for key, _ in rows])
        return sent

    async def _send(self, day: str, domain: str, rows: list[tuple[list[str], int]]) -> int:
        texts = await self.resolver.texts("_smtp._tls." + domain)
        addresses, places = wishes(texts)
        if not addresses and not places:
            return 0
        ident = f"{day}.{domain}.{random.getrandbits(64):016x}"
        body = json.dumps(self._report(day, domain, rows, ident)).encode()
        packed = gzip.compress(body, mtime=0)
        trouble: Exception | None = None
        sent = False
        for place in places:
            try:
                status = await self._post(place, packed)
                log.event("tlsreport.posted", domain=domain, day=day, place=place, status=status)
                sent = True
            except (LookupFailed, NoSuchDomain, OSError) as error:
                log.event("tlsreport.refused", "warning", domain=domain, place=place, error=error)
                trouble = error
        if addresses:
            await self._mail(day, domain, addresses, ident, packed)
        elif trouble is not None and not sent:
            raise trouble
        return 1

    async def _post(self, place: str, packed: bytes) -> int:
        """Send a report to a web server (RFC 8460 5.4); returns the status, which is a success. OSError when the report
        is not accepted."""
        kind = {"Content-Type": "application/tlsrpt+gzip"}
        wanted = web.Request(place, "POST", packed, kind, verify=False, inside=self.inside)
        status = (await web.ask(wanted, self.resolver.addresses)).status
        if status // 100 != 2:
            raise OSError(f"{place} answers with status {status}")
        return status

    async def _mail(self, day: str, domain: str, addresses: list[str], ident: str, packed: bytes) -> None:
        item = Item(self.spool.new_id(), "", int(time.time()), 0)
        text = self._message(domain, addresses, ident, packed)
        item.size = len(text) + text.count(b"\n")
        groups: dict[str, list[Rcpt]] = {}
        for address in addresses:
            where = marked(self.destination(address), LAX)
            groups.setdefault(where, []).append(Rcpt(address, notify="NEVER"))
        outgoing = Outgoing(item, groups, [text])
        await signing.put(self.signer, outgoing, self.hostname)  # RFC 8460 3 demands it
        await self.spool.enqueue(outgoing)
        log.event("tlsreport.sent", domain=domain, day=day, id=item.number)

    def _report(self, day: str, domain: str, rows: list[tuple[list[str], int]], ident: str) -> dict[str, Any]:
        """Return the report as RFC 8460 4.4 has it."""
        policies = []
        for policy in sorted({key[2] for key, _ in rows}):
            mine = [(key, count) for key, count in rows if key[2] == policy]
            failures = [
                _told(
                    {
                        "result-type": key[3],
                        "receiving-mx-hostname": key[4],
                        "receiving-ip": key[5],
                        "failed-session-count": count,
                        "failure-reason-code": "".join(key[6:]),
                    }
                )
                for key, count in mine
                if key[3]
            ]
            lines = json.loads(self.spool.facts.state(_name((day, domain, policy))) or b"[]")
            hosts = [line.partition(":")[2].strip() for line in lines if line[:3].lower() == "mx:"]
            about = {"policy-type": policy, "policy-string": lines, "policy-domain": domain, "mx-host": hosts}
            entry: dict[str, Any] = {
                "policy": _told(about),
                "summary": {
                    "total-successful-session-count": sum(count for key, count in mine if not key[3]),
                    "total-failure-session-count": sum(count for key, count in mine if key[3]),
                },
            }
            if failures:
                entry["failure-details"] = failures
            policies.append(entry)
        return {
            "organization-name": self.hostname,
            "date-range": {"start-datetime": day + "T00:00:00Z", "end-datetime": day + "T23:59:59Z"},
            "contact-info": f"postmaster@{self.hostname}",
            "report-id": ident,
            "policies": policies,
        }

    def _message(self, domain: str, addresses: list[str], ident: str, packed: bytes) -> bytes:
        """Return the report as a mail message (RFC 8460 5.3)."""
        report = letter.Letter(
            f"TLS reports <postmaster@{self.hostname}>",
            addresses,
            [f"Report Domain: {domain}", f"Submitter: {self.hostname}", f"Report-ID: <{ident}>"],
            f"How TLS sessions of {self.hostname} with the mail hosts of {domain} went.",
            'multipart/report; report-type="tlsrpt"',
            "application/tlsrpt+gzip",
            f"{self.hostname}!{domain}!{ident[:10]}.json.gz",
            packed,
            [f"TLS-Report-Domain: {domain}", f"TLS-Report-Submitter: {self.hostname}", "TLS-Required: No"],
        )
        return letter.make(report, f"{random.getrandbits(96):024x}@{self.hostname}", time.time())


def wishes(texts: list[str]) -> tuple[list[str], list[str]]:
    """Return (mail addresses, https places) where a domain wants reports, from its TXT records (RFC 8460 3); none
    unless there is exactly one record of that kind."""
    records = [fields for text in texts if (fields := [one.strip() for one in text.split(";")])[0] == "v=TLSRPTv1"]
    if len(records) != 1:
        return [], []
    values = [one[4:] for one in records[0] if one[:4].lower() == "rua="]
    addresses: list[str] = []
    places: list[str] = []
    for place in values[0].split(",") if values else []:
        place = place.strip().partition("!")[0]  # "!10m" after it is the largest size that it accepts
        if not place.isprintable() or " " in place:
            continue
        address = letter.mailto(place)
        if address:
            addresses.append(address)
        elif place[:8].lower() == "https://":
            places.append(place)
    return addresses[:PLACES], places[:PLACES]


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _name(key: tuple[str, str, str]) -> bytes:
    """Return the spool's name for what a policy said on a day."""
    return (POLICY + "\0".join(key).encode())[:400]


def _told(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields without those whose value is not known."""
    return {name: value for name, value in fields.items() if value not in ("", [])}
