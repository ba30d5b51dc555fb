"""``fastmail queue``: what still has to go out, and what to do about it; live, while the server runs."""

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from typing import Annotated, Any

import typer

from fastmail.app.assembly import Assembly, beside
from fastmail.cli.common import (
    ConfigOption,
    CsvOption,
    JsonOption,
    command,
    fail,
    for_terminal,
    moment,
    output,
    read_config,
    show,
    write_content,
)
from fastmail.message import dsn
from fastmail.model import domain as names
from fastmail.model.address import comparable
from fastmail.model.errors import ClientError
from fastmail.net import networks
from fastmail.net.networks import Network, address_in
from fastmail.queue import stopped
from fastmail.queue.bounds import sent_by
from fastmail.queue.model import Item, Job, id_of
from fastmail.queue.rates import MESSAGES, RECIPIENTS
from fastmail.queue.routes import parts
from fastmail.relay import moving

app = typer.Typer(no_args_is_help=True, help="The queue of mail for other servers.")
IdArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID...]", help="Messages, as `queue list` names them.")
]
SenderOption = Annotated[str, typer.Option("--sender", help='Of this sender, such as "*@example.org".')]
RcptOption = Annotated[str, typer.Option("--recipient", help="With a recipient like this.")]
DomainOption = Annotated[str, typer.Option("--domain", help="For this destination.")]
OlderOption = Annotated[float, typer.Option("--older", help="Older than so many hours.")]
ErrorOption = Annotated[str, typer.Option("--error", help="Whose last error has these words.")]
MatchOption = Annotated[
    str, typer.Option("--match", help="Whose id, sender, recipients, destination or last error is like this.")
]
LoginOption = Annotated[str, typer.Option("--login", help="Sent by this login, such as me@example.org.")]
PeerOption = Annotated[
    str, typer.Option("--peer", metavar="ADDRESS|NETWORK", help="Taken from this host, or from one of this network.")
]
TERMINAL = 80  # characters of a reply in a list on a terminal
AllOption = Annotated[bool, typer.Option("--all", help="Everything in the queue.")]


@dataclass(slots=True)
class Chosen:
    """Which jobs a command is about; all conditions together."""

    ids: list[str]
    sender: str = ""
    recipient: str = ""
    domain: str = ""
    older: float = 0.0
    error: str = ""
    match: str = ""
    login: str = ""
    peer: Network | None = None

    def any(self) -> bool:
        return any(asdict(self).values())

    def fits(self, item: Item, job: Job, now: float) -> bool:
        texts = [item.number, item.sender, *(rcpt.address for rcpt in job.recipients), job.destination, job.last]
        return (
            (not self.match or any(_like(text, self.match) for text in texts))
            and (not self.login or _same_address(item.login, self.login))
            and (self.peer is None or address_in(item.peer, self.peer))
            and (not self.sender or _same_address(item.sender, self.sender))
            and (not self.recipient or any(_same_address(rcpt.address, self.recipient) for rcpt in job.recipients))
            and (
                not self.domain
                or fnmatch(job.destination, self.domain)
                or fnmatch(parts(job.destination)[0], names.comparable(self.domain))
            )
            and (not self.older or now - item.arrived > self.older * 3600)
            and (not self.error or self.error.lower() in job.last.lower())
        )


def _peer(text: str) -> Network | None:
    try:
        return networks.parse(text) if text else None
    except ValueError as error:
        fail(str(error), 2)
        return None


def _same_address(address: str, pattern: str) -> bool:
    """True for the same address, however its domain is spelled, and for one that is like a pattern with * and ?."""
    return fnmatch(address.lower(), pattern.lower()) or comparable(address) == comparable(pattern)


def _like(name: str, pattern: str) -> bool:
    """True when a text has these words in it, or is like a pattern with * and ?, in any case."""
    name, pattern = name.lower(), pattern.lower()
    return pattern in name or fnmatch(name, pattern)


def _jobs(assembly: Assembly, chosen: Chosen) -> Iterator[tuple[Item, Job]]:
    now = time.time()
    if chosen.ids:
        try:
            idents = [id_of(one) for one in chosen.ids]
        except ValueError:
            fail("an id such as 1K3M5P7R9T2V4 is expected; `fastmail queue list` shows them", 2)
            return
    else:
        idents = []
    for ident in idents or [None]:  # type: ignore[list-item]
        for item, job in assembly.spool.jobs(ident):
            if chosen.fits(item, job, now):
                yield item, job


def _run(config: str, work: Any) -> Any:
    async def go() -> Any:
        async with beside(read_config(config)) as assembly:
            try:
                result = work(assembly)
                return await result if asyncio.iscoroutine(result) else result
            finally:
                assembly.bell.ring()

    return asyncio.run(go())


def _when(due: int) -> str:
    left = int(due - time.time())
    return "now" if left <= 0 else f"in {left // 3600}h{left % 3600 // 60:02}m" if left >= 3600 else f"in {left // 60}m"


def _age(arrived: int) -> str:
    hours, rest = divmod(int(time.time() - arrived), 3600)
    return f"{hours}h{rest // 60:02}m" if hours else f"{rest // 60}m"


def _begun(text: str) -> str:
    """A reply whole; on a terminal its beginning, so that a row stays on a line there."""
    return text[:TERMINAL] if sys.stdout.isatty() else text


@app.command("list")
@command
def list_(
    sender: SenderOption = "",
    recipient: RcptOption = "",
    domain: DomainOption = "",
    older: OlderOption = 0.0,
    error: ErrorOption = "",
    match: MatchOption = "",
    login: LoginOption = "",
    peer: PeerOption = "",
    most: Annotated[int, typer.Option("--limit", "--most", help="Show so many; 0 for all.")] = 100,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """What waits: a line for each message and destination."""
    chosen = Chosen([], sender, recipient, domain, older, error, match, login, _peer(peer))

    def work(assembly: Assembly) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for item, job in _jobs(assembly, chosen):
            if most and len(rows) >= most:
                break
            names = [rcpt.address for rcpt in job.recipients]
            if json or csv:
                rows.append(_row(item, job))
                continue
            rows.append(
                {
                    "id": item.number,
                    "age": _age(item.arrived),
                    "size": item.size,
                    "sender": item.sender or "<>",
                    "recipients": names[0] + (f" +{len(names) - 1}" if len(names) > 1 else ""),
                    "tries": job.attempts,
                    "next": "held" if job.paused else _when(job.due),
                    "last": _begun(job.last),
                }
            )
        return rows

    show(_run(config, work), json, csv=csv)


def _row(item: Item, job: Job) -> dict[str, Any]:
    return {
        "id": item.number,
        "job": job.number,
        "destination": job.destination,
        "sender": item.sender,
        "recipients": [rcpt.address for rcpt in job.recipients],
        "arrived": item.arrived,
        "size": item.size,
        "attempts": job.attempts,
        "due": job.due,
        "priority": job.priority,
        "held": job.paused,
        "last": job.last,
        "login": item.login,
        "peer": item.peer,
    }


@app.command("show")
@command
def show_(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `queue list` names it.")],
    content: Annotated[bool, typer.Option("--content", help="The message itself.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """All about one message."""

    async def work(assembly: Assembly) -> tuple[list[dict[str, Any]], bytes]:
        found = list(_jobs(assembly, Chosen([id])))
        if not found:
            fail(f"message {id} is not in the queue")
        return [_row(*one) for one in found], await assembly.spool.content(found[0][0]) if content else b""

    rows, text = _run(config, work)
    if content:
        write_content(text)
    elif json:
        show(rows, True)
    else:
        for row in rows:
            for name, value in row.items():
                shown = for_terminal(", ".join(value) if isinstance(value, list) else str(value))
                output.print(f"{name:12} {shown}", markup=False)
            output.print()


@app.command("summary")
@command
def summary(config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """How much waits for each destination, the largest first."""

    def work(assembly: Assembly) -> list[dict[str, Any]]:
        found: dict[str, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, ""])
        for item, job in assembly.spool.jobs():
            row = found[job.destination]
            row[0] += 1
            row[1] += len(job.recipients)
            row[2] += item.size
            row[3] = max(row[3], int(time.time() - item.arrived))
            row[4] = job.last or row[4]
        return [
            {
                "destination": name,
                "messages": a,
                "recipients": b,
                "octets": c,
                "oldest_s": d,
                "last": e if json else _begun(e),
            }
            for name, (a, b, c, d, e) in sorted(found.items(), key=lambda one: -one[1][0])
        ]

    show(_run(config, work), json)


def _chosen(
    all_: bool,
    ids: list[str] | None,
    sender: str,
    recipient: str,
    domain: str,
    older: float,
    error: str,
    match: str,
    login: str,
    peer: str,
) -> Chosen:
    """What the options choose; nothing is no choice, and everything has to be said."""
    chosen = Chosen(ids or [], sender, recipient, domain, older, error, match, login, _peer(peer))
    if not chosen.any() and not all_:
        options = "--sender, --recipient, --domain, --older, --error, --match, --login, --peer or --all"
        fail(f"say which messages: IDs, {options}", 2)
    if chosen.any() and all_:
        fail("--all is everything: leave it out to choose by IDs or options", 2)
    return chosen


Done = list[dict[str, Any]]


def _steer(name: str, help: str, word: str, work: Callable[[Assembly, Chosen], Any]) -> None:
    """A command over the messages that its options choose. ``work`` gives a row for each job that it changed."""

    @command
    def run(
        ids: IdArgument = None,
        sender: SenderOption = "",
        recipient: RcptOption = "",
        domain: DomainOption = "",
        older: OlderOption = 0.0,
        error: ErrorOption = "",
        match: MatchOption = "",
        login: LoginOption = "",
        peer: PeerOption = "",
        all_: AllOption = False,
        config: ConfigOption = "fastmail.toml",
        json: JsonOption = False,
    ) -> None:
        chosen = _chosen(all_, ids, sender, recipient, domain, older, error, match, login, peer)
        _report(word, _run(config, lambda assembly: work(assembly, chosen)), json)

    app.command(name, help=help)(run)


def _report(word: str, done: Done, json: bool) -> None:
    """How many jobs were changed, or which; exit code 1 when none was."""
    if json:
        show([{"action": word, **row} for row in done], True)
    else:
        output.print(f"{word} {len(done)}")
    if not done:
        raise typer.Exit(1)


def _change(assembly: Assembly, chosen: Chosen, change: Callable[[Job], Job | None], wanted: bool = False) -> Done:
    done = []
    for item, job in list(_jobs(assembly, chosen)):
        if assembly.spool.change_now(job.key, change, wanted):
            done.append(_row(item, job if (new := assembly.spool.job(job.key)) is None else new))
    return done


def _hold(job: Job) -> Job:
    job.paused = True
    return job


def _now(job: Job) -> Job:
    job.paused = False
    job.due = int(time.time())
    return job


async def _bounce(assembly: Assembly, chosen: Chosen) -> Done:
    done = []
    for item, job in list(_jobs(assembly, chosen)):
        words = f"given up by the administrator{'; the last reply was: ' + job.last if job.last else ''}"
        fates = [dsn.Fate(r.address, r.orcpt, "failed", "5.0.0", words) for r in job.recipients]
        report = assembly.reports.about(item, fates, await assembly.spool.content(item))
        made = [report] if report is not None else []
        await assembly.reports.sign(made)
        queued = await assembly.spool.change(job.key, lambda old: None, [one.outgoing for one in made])
        assembly.reports.queued(made, queued)
        done.append(_row(item, job))
    return done


_steer(
    "hold",
    "Keep messages until they are released. An attempt that has begun goes on.",
    "held",
    lambda a, c: _change(a, c, _hold),
)
_steer(
    "release",
    "Let go of messages that were held; they are tried at once.",
    "released",
    lambda a, c: _change(a, c, _now, True),
)
_steer(
    "retry",
    "Try messages again now, also where the destination was out of reach a moment ago.",
    "will try",
    lambda a, c: _change(a, c, _now, True),
)
_steer("drop", "Throw messages away; nobody is told.", "dropped", lambda a, c: _change(a, c, lambda job: None))
_steer("bounce", "Give messages up, and tell their senders.", "bounced", _bounce)


@app.command("move")
@command
def move(
    destination: Annotated[
        str, typer.Argument(metavar="DESTINATION", help='A domain, or "smtp:10.0.0.1" as in [relay] routes.')
    ],
    ids: IdArgument = None,
    sender: SenderOption = "",
    recipient: RcptOption = "",
    domain: DomainOption = "",
    older: OlderOption = 0.0,
    error: ErrorOption = "",
    match: MatchOption = "",
    login: LoginOption = "",
    peer: PeerOption = "",
    all_: AllOption = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Send messages to another destination, now. A destination that cannot be is refused, and nothing is moved."""
    chosen = _chosen(all_, ids, sender, recipient, domain, older, error, match, login, peer)

    async def work(assembly: Assembly) -> Done:
        addresses = [rcpt.address for _, job in _jobs(assembly, chosen) for rcpt in job.recipients]
        try:
            where = await moving.destination(destination, assembly.finder(), addresses, assembly.destinations.of)
        except ClientError as problem:
            fail(str(problem), 2)

        def change(job: Job) -> Job:
            job.destination = moving.moved(job.destination, where)
            return _now(job)

        return _change(assembly, chosen, change, True)

    _report("moved", _run(config, work), json)


@app.command("networks")
@command
def networks_(
    resume: Annotated[
        str, typer.Option("--resume", metavar="NETWORK", help="Let a network send again that was stopped.")
    ] = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """What the entries of [relay] networks sent in this hour, as far as it is limited, and which of them were stopped.

    A network is stopped when its mail looks as if a host of it was broken into: see suspend_after in [relay]. Its mail
    in the queue is held, and stays so when the network is resumed, until `fastmail queue release --peer NETWORK`.
    """
    asked = _peer(resume)

    async def work(assembly: Assembly) -> list[dict[str, Any]]:
        spool = assembly.spool
        if asked is not None and not await stopped.resume(spool, asked):
            fail(f"{asked} is not stopped; `fastmail queue networks` shows which are")
        rows = []
        for one in map(networks.parse, assembly.config.relay.networks):
            found = stopped.find(spool, one)
            rows.append(
                {
                    "network": str(one),
                    "messages": sent_by(spool, one, MESSAGES),
                    "recipients": sent_by(spool, one, RECIPIENTS),
                    "stopped": moment(0) if found is None else moment(found.since) if found.since else "unknown",
                    "why": found.why if found is not None else "",
                }
            )
        return rows

    show(_run(config, work), json)
