"""Takes in the reports that others send to ``[policy] reports_address``: read, and summed by day and domain.

An aggregate report says who sends as one of our domains; a complaint says who of ours sent what somebody did not want.
Sums are kept, never a report itself. Promise: a report counts once, however often it comes (RFC 9990 3.5.4). One about
a domain that is not ours does not count, nor does one whose message fails DMARC, because reports may be forged (RFC
9990 8.2). Reports are read on a helper thread, AT_ONCE in a process; where WAITING messages wait for that, the next is
not read. A message that was not read, for whatever reason, is delivered as any other.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from fastmail.feedback import carrier
from fastmail.feedback.carrier import Carried, Octets
from fastmail.feedback.complaint import Complaint
from fastmail.feedback.days import COMPLAINTS, KEPT, TOLD, Days, Key, More, day_of, pack
from fastmail.feedback.model import Report
from fastmail.model.address import comparable
from fastmail.model.domain import comparable as comparable_name
from fastmail.model.errors import MailError
from fastmail.policy.received import Received
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

AT_ONCE = 1
WAITING = 20
ORG = 100  # characters


class Told(msgspec.Struct, array_like=True, frozen=True):
    """A row of the table ``told``. ``reporter``: who said so; the rest as in Row. New fields go to the end."""

    reporter: str
    source: str
    header_from: str
    disposition: str
    dkim: str
    spf: str
    envelope_from: str = ""


class Complained(msgspec.Struct, array_like=True, frozen=True):
    """A row of the table ``complaints``: as in Complaint, of its recipients the domain of the first."""

    reporter: str
    kind: str
    sender: str
    source: str
    recipient_domain: str = ""


@dataclass(slots=True)
class Taker:
    """One in each process that takes mail. ``address``: where reports come in; ``ours``: is a domain of this server?
    ``keep``: messages that were read are delivered all the same. ``same``: is an address another spelling of it, with a
    detail, or under another name of its domain? ``reaches``: does its mail come to whom the address leads to, by an
    alias, a forward or a catch-all?"""

    days: Days
    address: str
    ours: Callable[[str], bool]
    keep: bool = True
    same: Callable[[str], bool] = lambda _: False
    reaches: Callable[[str], bool] = lambda _: False
    _turn: asyncio.Semaphore | None = field(default=None, init=False)
    _waiting: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.address = comparable(self.address)

    def is_for(self, recipient: str) -> bool:
        """Is it the address for reports?"""
        return comparable(recipient) == self.address or self.same(recipient)

    def reads(self, recipient: str) -> bool:
        """Are reports that come to a recipient read? Whichever way mail for it takes, it is asked once, when the
        message is taken in: from then on there is nothing that shows whom it is from."""
        return self.is_for(recipient) or self.reaches(recipient)

    async def take(self, content: Octets, received: Received | None, login: str = "") -> bool:
        """Count what a message (LF) carries; durable when it returns True. ``received``: what its checks said, None for
        a message that needs none; ``login``: who sent it, where somebody logged in."""
        reporter = comparable_name(login.rpartition("@")[2]) if login else author_of(received)
        if reporter is None:
            count("feedback.refused")
            log.event("feedback.refused", "warning", why="DMARC does not vouch for the message with the report")
            return False
        if self._waiting >= WAITING:
            count("feedback.busy")
            return False
        self._turn = self._turn or asyncio.Semaphore(AT_ONCE)
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.get_running_loop().run_in_executor(None, self.take_now, content, reporter)
        except (MailError, OSError) as error:
            log.event("feedback.failed", "warning", error=error)
            return False
        finally:
            self._waiting -= 1

    def take_now(self, content: Octets, reporter: str) -> bool:
        """The same on the caller's thread."""
        found = carrier.read(content)
        for fault in found.faults:
            log.event("feedback.unread", "warning", reporter=reporter, why=fault)
        return any([*self._reports(found, reporter), *self._complaints(found, reporter, content)])

    def _reports(self, found: Carried, reporter: str) -> list[bool]:
        return [self._report(one, reporter or one.org) for one in found.reports]

    def _report(self, report: Report, reporter: str) -> bool:
        now, domain = time.time(), report.policy.domain
        day = day_of(report.begin)
        if not self._is_ours(domain):
            log.event("feedback.foreign", "warning", reporter=reporter, domain=domain)
            return False
        if not day_of(now) - KEPT < day <= day_of(now) + 1:
            log.event("feedback.unread", "warning", reporter=reporter, domain=domain, why="it is of another time")
            return False
        name = "\0".join((reporter, domain, report.ident)).encode("utf-8", "replace")
        new = self.days.add_once(name, TOLD, {(day, domain): summed(report, reporter)}, now)
        count("feedback.reports" if new else "feedback.again")
        log.event("feedback.report", reporter=reporter, domain=domain, records=len(report.records), new=new)
        return True

    def _complaints(self, found: Carried, reporter: str, content: Octets) -> list[bool]:
        return [self._complaint(one, reporter, content) for one in found.complaints]

    def _complaint(self, one: Complaint, reporter: str, content: Octets) -> bool:
        domain = one.domain
        if not self._is_ours(domain):
            log.event("feedback.foreign", "warning", reporter=reporter, domain=domain or "-", kind=one.kind)
            return False
        first = one.recipients[0].rpartition("@")[2].lower() if one.recipients else ""
        row = Complained(reporter or one.agent, one.kind, one.sender, one.source, first)
        key: Key = (day_of(time.time()), domain)
        name = f"{reporter}\0{one.kind}\0{one.ident}\0{one.arrived}\0{one.sender}\0{','.join(one.recipients)}"
        more = {key: More({pack(row): one.incidents})}
        new = self.days.add_once(name.encode("utf-8", "replace"), COMPLAINTS, more, time.time())
        count("feedback.complaints" if new else "feedback.again")
        log.event("feedback.complaint", reporter=reporter, domain=domain, kind=one.kind, sender=one.sender, new=new)
        return True

    def _is_ours(self, domain: str) -> bool:
        """A domain of this server, or below one."""
        labels = domain.split(".")
        return bool(domain) and any(self.ours(".".join(labels[at:])) for at in range(len(labels)))


def author_of(received: Received | None) -> str | None:
    """Whom a message is from, as DMARC vouches for it; empty where nothing was checked, None where it is not proved."""
    if received is None:
        return ""
    found = received.checks.dmarc
    if found is None:
        return None if received.checks.nobody else ""
    if found.result == "pass":
        return found.domain
    passed = {one.domain for one in received.checks.dkim or () if one.result == "pass"}
    sender = received.checks.sender
    if sender is not None and sender.vouches:
        passed.add(sender.domain)
    # a domain without a record says nothing of who may send for it: the same name must be vouched for
    return found.domain if found.result == "none" and found.domain in map(comparable_name, passed) else None


def summed(report: Report, reporter: str) -> More:
    """What of a report is kept."""
    rows: dict[bytes, int] = {}
    for row, messages in report.records:
        told = Told(reporter[:ORG], row.source, row.header_from, row.disposition, row.dkim, row.spf, row.envelope_from)
        key = pack(told)
        rows[key] = rows.get(key, 0) + messages
    return More(rows, about=pack(report.policy))
