"""``fastmail dmarc``: who sends mail as our domains, as others report it; what we report to others; complaints."""

import asyncio
import calendar
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from fastmail.app.assembly import beside
from fastmail.cli.common import (
    FAILED,
    USAGE,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    command,
    fail,
    many,
    output,
    read_config,
    show,
)
from fastmail.config.settings import Config
from fastmail.feedback import carrier
from fastmail.feedback.complaint import Complaint
from fastmail.feedback.days import COMPLAINTS, TOLD, Days, day_of, shown_day
from fastmail.feedback.model import BadReport, Report, Row
from fastmail.feedback.sending import Sent
from fastmail.feedback.taking import Complained, Told
from fastmail.model.address import domain_name
from fastmail.model.domain import ascii_name
from fastmail.model.errors import in_words
from fastmail.model.units import parse_time
from fastmail.telemetry import log

app = typer.Typer(no_args_is_help=True, help="Reports of DMARC: those of others about our domains, and ours to them.")
LARGEST_FILE = 64 << 20  # octets
FOR_A_MONTH = "30d"
T = TypeVar("T")
SinceOption = Annotated[str, typer.Option("--since", metavar="TIME", help="How far back, such as 7d, or 2026-11-01.")]


@contextmanager
def _days(config: Config) -> Iterator[Days]:
    days = Days(config.server.data_dir)
    try:
        yield days
    finally:
        days.close()


def _first_day(since: str) -> int:
    """The first day that is shown."""
    now = time.time()
    try:
        return max(0, day_of(calendar.timegm(time.strptime(since, "%Y-%m-%d"))))
    except (ValueError, OverflowError):
        pass
    try:
        return max(0, day_of(now - parse_time(since)))
    except ValueError:
        fail(f"--since {since}: a time such as 7d, or a day such as 2026-11-01, is expected", USAGE)
        raise  # not reached: fail ends the command


@app.command("reports")
@command
def reports(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of ours.")],
    since: SinceOption = FOR_A_MONTH,
    by: Annotated[bool, typer.Option("--by-reporter", help="A row for each of those who reported.")] = False,
    match: MatchOption = "",
    limit: LimitOption = 0,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Who sends mail as a domain, as others report it: the hosts, how much, and whether DMARC passed.

    `aligned` says which of DKIM and SPF vouched for the domain; rows with none of them are forgeries, forwarders, or
    hosts of yours that you have forgotten. Most mail first.
    """
    name = ascii_name(domain_name(domain))
    sums: dict[tuple[str, ...], int] = {}
    left_out = 0
    with _days(read_config(config)) as days:
        for _, head, rows in days.of(TOLD, name, _first_day(since), day_of(time.time()) + 1):
            left_out += head.left_out
            for packed, messages in rows:
                one = _decoded(packed, Told)
                if one is not None:
                    aligned = "+".join(kind for kind in ("dkim", "spf") if getattr(one, kind) == "pass") or "no"
                    key = (one.source, one.header_from, aligned, one.disposition or "-", one.reporter if by else "")
                    sums[key] = sums.get(key, 0) + messages
    names = ("source", "from", "aligned", "disposition", *(("reporter",) if by else ()))
    found = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    show(
        ({"messages": messages, **dict(zip(names, key, strict=False))} for key, messages in found),
        json,
        f"nobody has reported about {name}",
        match,
        limit,
        csv,
    )
    if left_out and not (json or csv):
        output.print(f"{many(left_out, 'message')} more, of hosts beyond the limit for a day", markup=False)


def _decoded(packed: bytes, kind: type[T]) -> T | None:
    """None for a row that is damaged."""
    try:
        return msgspec.msgpack.decode(packed, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@app.command("complaints")
@command
def complaints(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A domain of ours; empty for all.")] = "",
    since: SinceOption = FOR_A_MONTH,
    match: MatchOption = "",
    limit: LimitOption = 0,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """What users of other servers complained about (feedback loops, ARF): by sender, type and reporter."""
    wanted = ascii_name(domain_name(domain)) if domain else ""
    sums: dict[tuple[str, ...], int] = {}
    with _days(read_config(config)) as days:
        for day, name in days.keys(COMPLAINTS, _first_day(since)):
            if wanted and name != wanted:
                continue
            for packed, messages in days.rows(COMPLAINTS, day, name)[1]:
                one = _decoded(packed, Complained)
                if one is not None:
                    key = (name, one.sender or "-", one.kind, one.reporter, one.source or "-", one.recipient_domain)
                    sums[key] = sums.get(key, 0) + messages
    names = ("domain", "sender", "type", "reporter", "source", "recipient_domain")
    found = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    rows = ({"messages": messages, **dict(zip(names, key, strict=True))} for key, messages in found)
    show(rows, json, "nobody has complained", match, limit, csv)


@app.command("read")
@command
def read(
    file: Annotated[str, typer.Argument(metavar="FILE", help="XML, gzip, zip, or a message that carries some.")],
    json: JsonOption = False,
) -> None:
    """What is in a report that came as a file. Nothing is kept of it."""
    try:
        if os.path.getsize(file) > LARGEST_FILE:
            fail(f"{file} is too large")
        with open(file, "rb") as opened:
            found = carrier.from_file(opened.read())
    except OSError as error:
        fail(f"{file}: {in_words(error, file)}")
        raise  # not reached: fail ends the command
    except BadReport as error:
        fail(f"{file}: {error}")
        raise  # not reached, as above
    if not found:
        fail(f"{file}: {found.faults[0] if found.faults else 'there is no report in it'}", FAILED)
    if json:
        show([*map(_report_row, found.reports), *map(_complaint_row, found.complaints)], True)
        return
    for report in found.reports:
        period = f"{_moment(report.begin)} to {_moment(report.end)}"
        output.print(f"{report.policy.domain}, {period}, from {report.org} ({report.ident})", markup=False)
        output.print(f"policy: {_words(report)}", markup=False)
        show((_record_row(row, messages) for row, messages in report.records), False)
        if report.left_out:
            output.print(f"{many(report.left_out, 'record')} cannot be read", markup=False)
    for complaint in found.complaints:
        show([_complaint_row(complaint)], False)


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _words(report: Report) -> str:
    policy = report.policy
    pairs = [(name, getattr(policy, name)) for name in ("p", "sp", "np", "adkim", "aspf", "testing")]
    return " ".join(f"{name}={value}" for name, value in pairs if value)


def _record_row(row: Row, messages: int) -> dict[str, Any]:
    return {
        "messages": messages,
        "source": row.source,
        "from": row.header_from,
        "disposition": row.disposition or "-",
        "dkim": row.dkim,
        "spf": row.spf,
        "reasons": [kind for kind, _ in row.reasons],
        "signatures": [f"{domain} {selector} {result}" for domain, selector, result in row.signatures],
        "mail_from": f"{row.spf_domain} {row.spf_result}".strip(),
    }


def _report_row(report: Report) -> dict[str, Any]:
    """For scripts."""
    policy = report.policy
    return {
        "org": report.org,
        "email": report.email,
        "report_id": report.ident,
        "begin": report.begin,
        "end": report.end,
        "domain": policy.domain,
        "policy": {name: getattr(policy, name) for name in ("p", "sp", "np", "adkim", "aspf", "fo", "testing")},
        "error": report.error,
        "records": [_record_row(row, messages) for row, messages in report.records],
        "left_out": report.left_out,
    }


def _complaint_row(one: Complaint) -> dict[str, Any]:
    return {
        "type": one.kind,
        "domain": one.domain,
        "sender": one.sender,
        "recipients": list(one.recipients),
        "source": one.source,
        "arrived": _moment(one.arrived) if one.arrived else "-",
        "incidents": one.incidents,
        "message_id": one.ident,
    }


@app.command("send")
@command
def send(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, and say what would be sent.")] = False,
    today: Annotated[
        bool, typer.Option("--today", help="That of today too, up to now; the rest of the day makes another one.")
    ] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Send reports of the days that are over, to the domains that ask for them. A server that runs does so by itself,
    with [policy] send_reports, in the first hours of the next day; what was counted in the last minute it has not
    written down yet."""
    settings = read_config(config)
    log.setup(settings.log.format, "warning")

    async def work() -> list[Sent]:
        async with beside(settings) as assembly:
            return await assembly.reporting.sender().send(time.time(), today, dry_run)

    rows = [_sent_row(one) for one in asyncio.run(work())]
    show(rows, json, "there is nothing to report")
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(FAILED)


def _sent_row(one: Sent) -> dict[str, Any]:
    return {
        "domain": one.domain,
        "day": shown_day(one.day),
        "state": one.state,
        "messages": one.messages,
        "records": one.records,
        "octets": one.octets,
        "to": list(one.to),
        "why": one.why or "; ".join(f"{uri}: {why}" for uri, why in one.refused),
    }
