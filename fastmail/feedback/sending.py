"""Sends aggregate reports (RFC 9990): what was seen of a domain's mail on a day, to those whom its record names.

A domain and a day are claimed, reported and let go of, in this order; so two processes send no report twice, and one
that dies in between has it sent again, under the same Report-ID and file name, after CLAIM seconds. Each address of
``rua`` gets a message of its own through ``post``, the queue's ordinary way in. Its reverse-path is null: nothing comes
back, and no report is made about a report. What cannot be queued, or asked of the DNS, is tried TRIES times, an hour
apart, and then forgotten: reports are no mail.

AT_ONCE reports are on their way side by side, because each may wait for the DNS of a stranger. feedback.targets says
which addresses may get a report.
"""

import asyncio
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from fastmail.dns.interface import Names
from fastmail.feedback import writing
from fastmail.feedback.days import SEEN, Days, Head, day_of, shown_day
from fastmail.feedback.model import DAY, Policy, Report, Row
from fastmail.feedback.targets import RUA, Agreements, Later
from fastmail.model.errors import MailError
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

CLAIM = 900.0  # s
AGAIN = 3600.0  # s until the next try
TRIES = 3
AFTER = 600  # s behind the end of a day until its reports are sent: all workers have written down their counts
SPREAD = 4 * 3600  # s over which they are sent, each domain at its own time (RFC 9990 has no wish; midnight is crowded)
IN_ROUND = 100  # reports of one round of housekeeping
AT_ONCE = 5  # reports on their way; each may have LARGEST octets in memory
LARGEST = 10 << 20  # octets of a report, packed, whatever a domain would take
OLD = 3  # days after which nobody sends what was seen
_row = msgspec.msgpack.Decoder(Row).decode
_policy = msgspec.msgpack.Decoder(Policy).decode
Post = Callable[[str, bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one report. ``to``: addresses that get it; ``refused``: pairs of a URI and why it gets none;
    ``state``: "sent", "unwanted" (nobody may get it), "failed" or "due" (of a dry run)."""

    domain: str
    day: int
    state: str
    to: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    messages: int = 0
    records: int = 0
    octets: int = 0
    why: str = ""


class Sender:
    """One beside the queue's runner, or in a command. ``submitter``: the domain that reports; ``sender``: whom its mail
    is from; ``post``: queue a message (LF) for an address, MailError where that cannot be."""

    def __init__(self, days: Days, names: Names, submitter: str, sender: str, post: Post) -> None:
        self._days = days
        self._agreements = Agreements(names)
        self._submitter = submitter
        self._sender = sender
        self._post = post

    async def send_due(self) -> int:
        """One round of housekeeping: send what is due by now; how many."""
        now = time.time()
        await asyncio.to_thread(self._days.forget, day_of(now) - OLD)
        return sum(one.state == "sent" for one in await self.send(now, spread=True, most=IN_ROUND))

    async def send(
        self, now: float, today: bool = False, dry: bool = False, spread: bool = False, most: int = 0
    ) -> list[Sent]:
        """Send the reports of days that are over. ``today``: that of today too, up to now; ``dry``: send nothing, and
        say what would be; ``spread``: each domain at its time; ``most``: so many at most, 0 for all."""
        last = day_of(now) if today else day_of(now) - 1
        keys = await asyncio.to_thread(self._days.keys, SEEN, 0, last)
        due = iter([(day, domain) for day, domain in keys if not spread or now >= _due(day, domain)])
        out: list[Sent] = []
        under_way = 0

        async def some() -> None:
            nonlocal under_way
            while not most or len(out) + under_way < most:
                key = next(due, None)
                if key is None:
                    return
                under_way += 1
                try:
                    one = await self._one(*key, now, dry)
                finally:
                    under_way -= 1
                if one is not None:
                    out.append(one)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
        return sorted(out, key=lambda one: (one.day, one.domain))

    async def _one(self, day: int, domain: str, now: float, dry: bool) -> Sent | None:
        """One domain's day. None where somebody else has it, or it waits for another try."""
        if dry:
            head, rows = await asyncio.to_thread(self._days.rows, SEEN, day, domain)
            return (await self._report(day, domain, head, rows, now, True))[0] if rows else None
        claimed = await asyncio.to_thread(self._days.claim, day, domain, now, CLAIM)
        if claimed is None:
            return None
        head, rows = claimed
        try:
            sent, end = await self._report(day, domain, head, rows, now, False)
        except (Later, MailError, OSError) as error:
            tries = await asyncio.to_thread(self._days.failed, day, domain, now + AGAIN)
            log.event("feedback.failed", "warning", domain=domain, day=shown_day(day), error=str(error), tries=tries)
            if tries >= TRIES:
                await asyncio.to_thread(self._days.reported, day, domain, rows)
            return Sent(domain, day, "failed", why=str(error))
        await asyncio.to_thread(self._days.reported, day, domain, rows, end)
        return sent

    async def _report(
        self, day: int, domain: str, head: Head, rows: Sequence[tuple[bytes, int]], now: float, dry: bool
    ) -> tuple[Sent, int]:
        """(what became of it, where the report of a day that is not over ends; else 0). Later, MailError."""
        try:
            policy = _policy(head.about)
            records = [(_row(row), messages) for row, messages in rows]
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Sent(domain, day, "unwanted", why="what was counted is damaged"), 0
        targets, refused = await self._agreements.targets(policy.domain, policy.rua, RUA)
        begin, over = head.begin or day * DAY, (day + 1) * DAY - 1
        end = min(over, int(now))
        goes_on = end if end < over else 0
        messages = sum(number for _, number in records)
        if not targets:
            log.event("feedback.unwanted", domain=domain, day=shown_day(day), why=refused[0][1] if refused else "")
            return Sent(domain, day, "unwanted", (), refused, messages, len(records)), goes_on
        report = Report(
            self._submitter,
            self._sender,
            writing.ident(domain, self._submitter, begin, end),
            begin,
            end,
            policy,
            tuple(records),
            f"{head.left_out} messages more are not in this report" if head.left_out else "",
            writing.GENERATOR,
        )
        largest, reached = 0, list[str]()
        trouble: MailError | None = None
        for target in targets:
            most = min(target.most or LARGEST, LARGEST)
            try:
                shorter, data = await asyncio.to_thread(writing.packed, report, most)
                if not dry:
                    mail = writing.mail(shorter, data, self._sender, self._submitter, [target.address], now)
                    await self._post(target.address, mail)
            except MailError as error:  # the others get theirs; one that did is not asked to take it again
                refused += ((target.address, str(error)),)
                trouble = error
                continue
            largest = max(largest, len(data))
            reached.append(target.address)
        if trouble is not None and not reached:
            raise trouble
        addresses = tuple(reached)
        if not dry:
            count("feedback.sent")
            log.event("feedback.sent", domain=domain, day=shown_day(day), to=", ".join(addresses), messages=messages)
        return Sent(domain, day, "due" if dry else "sent", addresses, refused, messages, len(records), largest), goes_on


def _due(day: int, domain: str) -> float:
    """When the report of a domain's day is sent; s since 1970."""
    return (day + 1) * DAY + AFTER + zlib.crc32(domain.encode()) % SPREAD
