"""``fastmail bench``: what this machine does, measured on a throw-away server, or on any server that is named."""

import json as json_module
import platform
import tempfile
from dataclasses import asdict
from typing import Annotated, Any

import typer

import fastmail
from fastmail.bench import machine, server
from fastmail.bench.journeys import Bench, Row, Target, everything
from fastmail.cli.common import command, errors, fail, output
from fastmail.model.errors import in_words

SMALL = 0.1


@command
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the work: about half a minute.")] = False,
    rounds: Annotated[int, typer.Option(help="Rounds of each measurement; the median counts.")] = 3,
    content: Annotated[str, typer.Option(help='How messages are kept: "maildir" or "segments".')] = "maildir",
    workers: Annotated[int, typer.Option(help="Worker processes of the server; 0 for one per core.")] = 0,
    directory: Annotated[str, typer.Option("--dir", help="Where to work: decides which disk is measured.")] = "",
    target: Annotated[
        str, typer.Option(help='Another server: "lmtp=HOST:PORT,imap=HOST:PORT[,smtp=...,pop3=...]".')
    ] = "",
    user: Annotated[str, typer.Option(help="Users of the other server, a pattern with %d for 0 to 99.")] = "u%d",
    big: Annotated[str, typer.Option(help="Its user for the IMAP part; gets the messages by LMTP.")] = "big",
    password: Annotated[str, typer.Option(help="Their password.")] = "secret",
    pid: Annotated[int, typer.Option(help="Its main process here, for CPU and memory; 0 for rates only.")] = 0,
    json: Annotated[str, typer.Option("--json", metavar="FILE", help='Write all figures there; "-" for output.')] = "",
) -> None:
    """Measure this machine: its disk, then delivery, IMAP, POP3 and idle sessions. Everything is as durable as in
    production, and nothing is left behind. The load runs on the same cores, so rates are lower than with clients
    elsewhere; CPU figures are the server's own."""
    if content not in ("maildir", "segments"):
        fail('--content is "maildir" or "segments"', 2)
    scale = SMALL if quick else 1.0
    rounds = 1 if quick else max(1, rounds)
    with tempfile.TemporaryDirectory(prefix="fastmail-bench-", dir=directory or None) as place:
        errors.print("measuring the disk ...")
        able = machine.measure(place, 0.3 if quick else 1.0)
    say = json != "-"
    if say:
        _machine(able, content)
    try:
        if target:
            result = _run(_named(target, user, big, password, pid), rounds, scale, say)
        else:
            with server.running(directory, content, workers) as own:
                result = _run(own, rounds, scale, say)
    except (AssertionError, OSError) as error:
        fail(f"the server under load failed: {in_words(error)}")
    if say:
        output.print()
        for line in _verdict(able, result["rows"], content):
            output.print(line)
    figures = {
        "fastmail": fastmail.__version__,
        "python": platform.python_version(),
        "content": target or content,
        "machine": asdict(able),
        "rounds": rounds,
        "idle_kib_each": result["idle"],
        "rows": [asdict(row) for row in result["rows"]],
    }
    if json == "-":
        print(json_module.dumps(figures, indent=2))
    elif json:
        with open(json, "w", encoding="utf-8") as file:
            json_module.dump(figures, file, indent=2)


def _named(text: str, user: str, big: str, password: str, pid: int) -> Target:
    ports: dict[str, int] = {}
    host = ""
    for item in text.split(","):
        protocol, _, address = item.partition("=")
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            fail(f"--target: {item!r} is not protocol=HOST:PORT", 2)
        ports[protocol] = int(port)
    if not {"lmtp", "imap"} <= set(ports):
        fail("--target needs lmtp and imap", 2)
    return Target(host, ports, user, password, big, pid)


def _run(target: Target, rounds: int, scale: float, say: bool) -> dict[str, Any]:
    one = Bench(target, rounds, _tell if say else lambda row: None)
    if say:
        output.print(
            f"\n[bold]{'':54}{'a second':>10}  {'lowest to highest':>19}  {'CPU each':>9}  {'p50':>7}  {'p99':>7}[/]"
        )
    idle = everything(one, scale, errors.print)
    if target.pid and say:
        for kind, each in idle.items():
            output.print(f"{f'memory of an idle session, {kind}':54}{each:>8.1f} KiB")
    return {"rows": one.rows, "idle": {kind: round(each, 1) for kind, each in idle.items()}}


def _tell(row: Row) -> None:
    rate = f"{row.rate:>10,.0f}  {row.lowest:>8,.0f} to {row.highest:>7,.0f}" if row.rate else " " * 31
    spent = f"{row.cpu_ms:>6.3f} ms" if row.cpu_ms is not None else " " * 9
    late = f"{row.p50_ms:>4.1f} ms  {row.p99_ms:>4.1f} ms" if row.p50_ms is not None else ""
    output.print(f"{row.journey:54}{rate}  {spent}  {late}", markup=False)


def _machine(able: machine.Machine, content: str) -> None:
    output.print(
        f"fastmail {fastmail.__version__}, Python {platform.python_version()}, {able.cores} cores, "
        f"Linux {able.kernel}, content in {content}"
    )
    output.print(
        f"disk: {able.appends:,.0f} synced appends a second; {able.files:,.0f} files made durable by one thread, "
        f"{able.files8:,.0f} by eight; CPU: {able.hashed:,.0f} MiB/s SHA-256 on one core"
    )


def _verdict(able: machine.Machine, rows: list[Row], content: str) -> list[str]:
    """What limits this machine."""
    best = max((row for row in rows if row.journey.startswith("deliver 4 KB")), key=lambda row: row.rate)
    single = next(row for row in rows if "1 session" in row.journey)
    out = [f"Most deliveries: {best.rate:,.0f} a second ({best.journey})."]
    if best.cpu_ms is not None:
        busy = best.rate * best.cpu_ms / 1000 / able.cores * 100
        if busy > 60:
            out.append(f"The CPU limits them: the server used {busy:.0f} % of all cores, and the load ran beside it.")
        else:
            what = "the file syncs of Maildirs" if content == "maildir" else "the syncs of segments and index"
            out.append(f"The disk limits them ({what}): the server used {busy:.0f} % of all cores.")
    sync = 1000 / able.appends
    out.append(
        f"One delivery alone takes {single.p50_ms or 0:.1f} ms; one sync of this disk {sync:.2f} ms. "
        + ("A faster disk would help most." if sync > 1 else "The disk is fast enough for that to be its order.")
    )
    return out
