"""Counts what came in by port 25, for aggregate reports (RFC 9990 3.1): one row for messages that have all in common.

``evaluated`` makes a row of a message's checks: a pure function. A Tally is a worker's: it counts in memory and writes
down once a minute, on a helper thread, so a crash loses a minute of counting and no message waits for it. Only domains
that ask for reports are counted, MOST rows at a time; what is more is counted as left out. Messages that are put off
are not counted, because they come again.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from fastmail.feedback.days import SEEN, Days, Key, More, day_of, pack
from fastmail.feedback.model import RESULTS, Policy, Row
from fastmail.model.errors import MailError
from fastmail.policy import verdict
from fastmail.policy.dmarc import Dmarc, Record
from fastmail.policy.received import Received
from fastmail.policy.spf import Checked
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

PAUSE = 60.0  # s between two times of writing down
MOST = 5_000  # rows of a worker that wait for the disk
SIGNATURES = 5  # of a row: as many as policy.dkim looks at (RFC 9990 3.1.3 allows 100)
NAME = 255  # characters of a name that a signature brings
REMEMBERED = 1024  # policies and rows
WATCHED = "policies of domains are written down here, and not enforced"


@lru_cache(REMEMBERED)
def policy_of(domain: str, record: Record) -> Policy:
    """A record that was found at ``domain``, with the defaults of what it does not say (RFC 9990 3.1.1.5)."""
    subdomains = record.subdomains or record.policy
    return Policy(
        domain,
        record.policy,
        subdomains,
        record.missing or subdomains,
        "s" if record.strict_dkim else "r",
        "s" if record.strict_spf else "r",
        record.fo if record.ruf else "",  # which has a meaning with ruf only (RFC 9989 4.7)
        "y" if record.testing else "n",
        tuple(zip(record.rua, record.most or (0,) * len(record.rua), strict=True)),
        "treewalk",
    )


def evaluated(received: Received, ip: str, sender: str) -> tuple[Policy, Row] | None:
    """What an aggregate report says of one message: the policy, and the row that it counts in. None where nobody asks
    for a report, or where the message will come again. ``ip``: its client; ``sender``: its MAIL FROM."""
    found = received.checks.dmarc
    if found is None or found.record is None or not found.record.rua or received.action == verdict.LATER:
        return None
    if found.result not in ("pass", "fail", "temperror"):
        return None
    disposition, reasons = _disposition(received, found)
    signed = tuple([(one.domain, one.selector, one.result) for one in received.checks.dkim or ()])
    return _counted(ip, sender.rpartition("@")[2], disposition, reasons, found, received.checks.sender, signed)


@lru_cache(REMEMBERED)  # most messages of a sender count in one row
def _counted(
    ip: str,
    sender: str,
    disposition: str,
    reasons: tuple[tuple[str, str], ...],
    found: Dmarc,
    checked: Checked | None,
    signed: tuple[tuple[str, str, str], ...],
) -> tuple[Policy, Row]:
    """``signed``: domain, selector and result of each signature that was looked at."""
    assert found.record is not None
    methods = {method for method, _ in found.aligned}
    row = Row(
        ip,
        disposition,
        "pass" if "dkim" in methods else "fail",
        "pass" if "spf" in methods else "fail",
        found.domain,
        sender.lower(),
        reasons,
        _signatures(signed, found),
        checked.domain if checked is not None else "",
        _result(checked.result) if checked is not None else "",
    )
    return policy_of(found.found, found.record), row


def _result(result: str) -> str:
    return result if result in RESULTS else "none"


def _disposition(received: Received, found: Dmarc) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(what DMARC led to; why that is not what the domain wants) of a message (RFC 9990 3.1.1.9)."""
    if found.result == "pass":
        return ("none" if found.policy == "none" else "pass"), ()
    if found.result == "temperror":
        return "none", (("other", "a DNS error left the result open"),)
    decided = received.verdict
    sealed = next((one.why for one in decided.reasons if one.name == "arc.vouched"), "")
    reasons = [(decided.override, sealed)] if decided.override else []
    done = {verdict.JUNK: "quarantine", verdict.QUARANTINE: "quarantine", verdict.REFUSE: "reject"}.get(
        decided.action, "none"
    )
    if not received.enforce:
        done, reasons = "none", [("local_policy", WATCHED)]
        if found.published != found.policy:
            reasons.insert(0, ("policy_test_mode", ""))
    elif found.policy == "none" or decided.override == verdict.FORWARDER:
        done = "none"  # whatever else spoke against the message
    elif found.policy == "quarantine" and done == "reject":
        done = "quarantine"  # which other reasons made a refusal
    if done == found.published:
        return done, ()
    return done, tuple(reasons) or (("local_policy", ""),)


def _signatures(signed: Sequence[tuple[str, str, str]], found: Dmarc) -> tuple[tuple[str, str, str], ...]:
    """(domain, selector, result) of signatures, those that say most first (RFC 9990 3.1.3)."""
    aligned = {domain for method, domain in found.aligned if method == "dkim"}

    def rank(one: tuple[str, str, str]) -> int:
        domain, _, result = one
        if result != "pass":
            return 3
        return 0 if domain == found.domain else 1 if domain in aligned else 2

    best = sorted([one for one in signed if one[0]], key=rank)[:SIGNATURES]
    return tuple((domain[:NAME], selector[:NAME], _result(result)) for domain, selector, result in best)


@dataclass(slots=True)
class _Seen:
    """A domain's day, in memory. ``rows``: where each is counted."""

    policy: Policy
    rows: dict[Row, int] = field(default_factory=dict)
    left_out: int = 0


class Tally:
    """A worker's counts. ``note`` is called within the event loop."""

    def __init__(self, days: Days) -> None:
        self._days = days
        self._task: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._start()

    def _start(self) -> None:
        """Begin with nothing counted."""
        self._seen: dict[Key, _Seen] = {}
        self._rows = 0  # rows and domains' days, of which there are MOST
        self._counts: list[int] = []  # messages of each row
        self._alike: dict[int, tuple[_Seen, Policy, int]] = {}  # where messages of a number count (Received.alike)
        self._day = 0  # of which these are

    def note(self, received: Received, ip: str, sender: str) -> None:
        """One message whose checks are done, and whose fate is decided."""
        day = day_of(time.time())
        if day != self._day:
            self._day, self._alike = day, {}
        known = self._alike.get(received.alike)
        if known is not None:
            seen, policy, at = known
            seen.policy = policy
            self._counts[at] += 1
            return
        found = evaluated(received, ip, sender)
        if found is None:
            return
        policy, row = found
        at = self._place(day, policy, row)
        if at >= 0 and received.alike and len(self._alike) < MOST:
            self._alike[received.alike] = self._seen[day, policy.domain], policy, at

    def _place(self, day: int, policy: Policy, row: Row) -> int:
        """Count one message of a row. Returns where it is counted, -1 if it is left out."""
        key = day, policy.domain
        seen = self._seen.get(key)
        if seen is None:
            if self._rows >= MOST:
                count("feedback.left_out")
                return -1
            seen = self._seen[key] = _Seen(policy)
            self._rows += 1
        seen.policy = policy
        at = seen.rows.get(row, -1)
        if at >= 0:
            self._counts[at] += 1
        elif self._rows < MOST:
            at = seen.rows[row] = len(self._counts)
            self._counts.append(1)
            self._rows += 1
        else:
            seen.left_out += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write_soon())
        return at

    async def _write_soon(self) -> None:
        try:
            while self._seen:
                await asyncio.sleep(PAUSE)
                await self.write()
        finally:
            self._task = None

    async def write(self) -> None:
        """Write down what was counted. What the disk does not take is forgotten: reports are no mail."""
        seen, counts = self._seen, self._counts
        self._start()
        if not seen:
            return
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, seen, counts)
        try:
            await asyncio.shield(self._writing)
        except (MailError, OSError) as error:
            log.event("feedback.failed", "warning", error=error)

    def _write(self, seen: dict[Key, _Seen], counts: list[int]) -> None:
        more = {
            key: More({pack(row): counts[at] for row, at in one.rows.items()}, one.left_out, pack(one.policy))
            for key, one in seen.items()
        }
        self._days.add(SEEN, more)

    async def close(self) -> None:
        """Write what waits."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)  # its thread still writes
        await self.write()
