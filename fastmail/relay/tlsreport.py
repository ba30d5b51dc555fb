"""TLS reports (RFC 8460): how sessions with other domains' hosts went, told to those who asked for it, once a day.

Sessions are counted in memory and written down once a minute, so a crash loses a minute of counting and no more. After
the end of a day (UTC) every domain that names ``mailto`` addresses or ``https`` places in its ``_smtp._tls`` record
gets a report there. What no place took is tried again every hour for a day. A report tells nothing that is secret, so
it goes to a web server with a bad certificate too (it may be what the report is about), but never to a place inside our
own network.
"""

import asyncio
import gzip
import http.client
import ipaddress
import json
import random
import re
import socket
import ssl
import time
from base64 import encodebytes
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from fastmail.delivery.outbound import Outbound
from fastmail.dns.resolver import LookupFailed, NoSuchDomain, Resolver
from fastmail.model.errors import MailError
from fastmail.queue.model import Item, Outgoing, Rcpt
from fastmail.queue.routes import LAX, marked
from fastmail.smtp.client import Target
from fastmail.telemetry import log

_RUA = re.compile(r"\bmailto:([^\s,;!]+@[^\s,;!]+)", re.IGNORECASE)
_PLACE = re.compile(r"https://[^\s,;!]+", re.IGNORECASE)
_RECORD = re.compile(r"v=TLSRPTv1\s*;.*?\brua=([^;]+)", re.IGNORECASE)
KINDS = (
    ("fits no TLSA record", "tlsa-invalid"),
    ("chain leads to no TLSA", "tlsa-invalid"),
    ("expired", "certificate-expired"),
    ("out of date", "certificate-expired"),
    ("hostname mismatch", "certificate-host-mismatch"),
    ("another name", "certificate-host-mismatch"),
    ("certificate verify failed", "certificate-not-trusted"),
    ("STARTTLS", "starttls-not-supported"),
    ("", "validation-failure"),
)
SECONDS = 30.0
AGAIN = 3600.0
PLACES = 10  # of a domain, of each kind
Key = tuple[str, str, str, str, str, str]  # day, domain, policy, kind of failure, host, address


@dataclass(slots=True)
class Reporter:
    """One beside the runner. ``counts`` is what is not written down yet; ``inside``: may places be in our own
    network, for tests? ``waiting``: when a day's report for a domain is tried again."""

    outbound: Outbound
    resolver: Resolver
    hostname: str
    counts: Counter[Key]
    inside: bool = False
    waiting: dict[tuple[str, str], float] = field(default_factory=dict)

    def note(self, domain: str, target: Target, tls: bool, error: str = "") -> None:
        """One session that was begun: with TLS, without where none was asked for (not counted), or a failure."""
        if target.policy and (tls or error):
            kind = next(kind for words, kind in KINDS if words in error) if error else ""
            day = time.strftime("%Y-%m-%d", time.gmtime())
            self.counts[(day, domain, target.policy, kind, target.name, target.address)] += 1

    async def write(self) -> None:
        """Write the counts down."""
        counts, self.counts = self.counts, Counter()
        if counts:
            rows = {"\0".join(key): count for key, count in counts.items()}
            await self.outbound.spool.add_counts(rows)

    async def send(self, now: float | None = None) -> int:
        """Send the reports of days that are over; how many."""
        now = now or time.time()
        today = time.strftime("%Y-%m-%d", time.gmtime(now))
        last = time.strftime("%Y-%m-%d", time.gmtime(now - 2 * 86400))
        found: dict[tuple[str, str], list[tuple[list[str], int]]] = {}
        old: list[str] = []
        for text, count in (await asyncio.get_running_loop().run_in_executor(None, self.outbound.spool.counts)).items():
            key = text.split("\0")
            if key[0] < today and len(key) == 6:
                found.setdefault((key[0], key[1]), []).append((key, count))
        sent = 0
        for (day, domain), rows in found.items():
            if self.waiting.get((day, domain), 0.0) > now:
                continue
            try:
                sent += await self._send(day, domain, rows)
            except (LookupFailed, NoSuchDomain, MailError, OSError, ValueError, http.client.HTTPException) as error:
                log.event("tlsreport.failed", "warning", domain=domain, error=error)
                if day > last:
                    self.waiting[(day, domain)] = now + AGAIN
                    continue
            self.waiting.pop((day, domain), None)
            old += ["\0".join(key) for key, _ in rows]
        if old:
            await self.outbound.spool.drop_counts(old)
        return sent

    async def _send(self, day: str, domain: str, rows: list[tuple[list[str], int]]) -> int:
        texts = await self.resolver.texts("_smtp._tls." + domain)
        records = [match.group(1) for text in texts if (match := _RECORD.match(text)) is not None]
        addresses = _RUA.findall(records[0])[:PLACES] if len(records) == 1 else []
        places = _PLACE.findall(records[0])[:PLACES] if len(records) == 1 else []
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
            except (LookupFailed, NoSuchDomain, OSError, ValueError, http.client.HTTPException) as error:
                log.event("tlsreport.refused", "warning", domain=domain, place=place, error=error)
                trouble = error
        if addresses:
            await self._mail(day, domain, addresses, ident, packed)
        elif trouble is not None and not sent:
            raise trouble
        return 1

    async def _post(self, place: str, packed: bytes) -> int:
        """RFC 8460 5.4; the status, one of success."""
        host, port = urlsplit(place).hostname or "", urlsplit(place).port or 443
        addresses = await self.resolver.addresses(host)
        fitting = [one for one in addresses if self.inside or ipaddress.ip_address(one).is_global]
        if not fitting:
            raise ValueError(f"{place}: its host has no public address")
        return await asyncio.get_running_loop().run_in_executor(None, post, place, fitting[0], port, packed)

    async def _mail(self, day: str, domain: str, addresses: list[str], ident: str, packed: bytes) -> None:
        spool = self.outbound.spool
        item = Item(1, spool.new_id(), "", int(time.time()), 0)
        text = self._message(domain, addresses, ident, packed)
        item.size = len(text) + text.count(b"\n")
        groups: dict[str, list[Rcpt]] = {}
        for address in addresses:
            where = marked(self.outbound.destination(address), LAX)
            groups.setdefault(where, []).append(Rcpt(address, notify="NEVER"))
        await spool.enqueue(Outgoing(item, groups, [text]))
        log.event("tlsreport.sent", domain=domain, day=day, id=item.number)

    def _report(self, day: str, domain: str, rows: list[tuple[list[str], int]], ident: str) -> dict[str, Any]:
        """RFC 8460 4.4."""
        policies = []
        for policy in sorted({key[2] for key, _ in rows}):
            mine = [(key, count) for key, count in rows if key[2] == policy]
            failures = [
                {
                    "result-type": key[3],
                    "receiving-mx-hostname": key[4],
                    "receiving-ip": key[5],
                    "failed-session-count": count,
                }
                for key, count in mine
                if key[3]
            ]
            entry: dict[str, Any] = {
                "policy": {"policy-type": policy, "policy-domain": domain},
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
        """RFC 8460 5.3."""
        mark = f"{random.getrandbits(96):024x}"
        lines = [
            f"From: TLS reports <postmaster@{self.hostname}>",
            f"To: {', '.join(addresses)}",
            f"Subject: Report Domain: {domain} Submitter: {self.hostname} Report-ID: <{ident}>",
            f"Date: {formatdate(time.time()).replace('-0000', '+0000')}",
            f"Message-ID: <{mark}@{self.hostname}>",
            f"TLS-Report-Domain: {domain}",
            f"TLS-Report-Submitter: {self.hostname}",
            "TLS-Required: No",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type="tlsrpt"; boundary="{mark}"',
            "",
            f"--{mark}",
            "Content-Type: text/plain; charset=us-ascii",
            "",
            f"How TLS sessions of {self.hostname} with the mail hosts of {domain} went.",
            "",
            f"--{mark}",
            "Content-Type: application/tlsrpt+gzip",
            "Content-Transfer-Encoding: base64",
            f'Content-Disposition: attachment; filename="{self.hostname}!{domain}!{ident[:10]}.json.gz"',
            "",
        ]
        return "\n".join(lines).encode() + b"\n" + encodebytes(packed) + f"\n--{mark}--\n".encode()


def post(place: str, address: str, port: int, packed: bytes) -> int:
    """Post a report to a place at this address; its status. OSError or HTTPException when it is not taken."""
    parts = urlsplit(place)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(parts.netloc, timeout=SECONDS)
    plain = socket.create_connection((address, port), SECONDS)
    try:
        connection.sock = context.wrap_socket(plain, server_hostname=parts.hostname)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, packed, {"Content-Type": "application/tlsrpt+gzip"})
        status = connection.getresponse().status
    finally:
        connection.close()
        plain.close()
    if status // 100 != 2:
        raise OSError(f"{place} answers with status {status}")
    return status
