"""``fastmail content``: how messages are kept. Usage of segments, check, compaction, conversion."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import Progress

from fastmail.app.assembly import Assembly, beside
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    CsvOption,
    JsonOption,
    LimitOption,
    MatchOption,
    account_of,
    command,
    fail,
    progress_bar,
    read_config,
    show,
)
from fastmail.config.settings import Config
from fastmail.directory.interface import AccountRecord
from fastmail.store.local.segments import compaction, convert, usage, verify

app = typer.Typer(no_args_is_help=True, help="Message content: segments and Maildirs.")
AccountArgument = Annotated[str, typer.Argument(metavar="[ACCOUNT]", help="One account; all when left out.")]
Work = Callable[[Assembly, Progress], Awaitable[Any]]


def _run(settings: Config, work: Work, kind: str = "") -> Any:
    """Run with a store open, beside a running server."""

    async def go() -> Any:
        settings.store.content = kind or settings.store.content
        async with beside(settings) as assembly:
            with progress_bar() as progress:
                return await work(assembly, progress)

    return asyncio.run(go())


@app.command("list")
@command
def list_(
    match: MatchOption = "",
    limit: LimitOption = 0,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Every segment with its size and how much of it nothing refers to any more, in octets."""

    async def work(assembly: Assembly, progress: Progress) -> list[usage.Usage]:
        out = []
        for shard in assembly.store.commits.shards:
            out += compaction.usage_of(shard)
        return out

    show([asdict(one) for one in _run(read_config(config), work)], json, match=match, limit=limit, csv=csv)


@app.command("check")
@command
def check(config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Read every segment and verify its checksums. Exit code 1 when something is damaged or missing."""

    async def work(assembly: Assembly, progress: Progress) -> list[verify.Finding]:
        found: list[verify.Finding] = []
        for shard in assembly.store.commits.shards:
            task = progress.add_task("check", total=None)
            found += await assembly.store.commits.help(
                verify.check,
                assembly.store,
                shard,
                lambda done, total, task=task: progress.update(task, completed=done, total=total),
            )
        return found

    found = _run(read_config(config), work)
    show([asdict(one) for one in found], json, empty="all is well")
    if found:
        raise typer.Exit(FAILED)


@app.command("compact")
@command
def compact(
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    waste: Annotated[int, typer.Option(help="Compact segments of which at least so many percent are waste.")] = 30,
) -> None:
    """Move what is alive out of segments with much waste, and remove them. Safe while the server runs."""

    async def work(assembly: Assembly, progress: Progress) -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for shard in assembly.store.commits.shards:
            await compaction.survey(shard)
            every = compaction.usage_of(shard)
            wanted = [u for u in every if u.state == "sealed" and u.dead * 100 >= u.octets * waste]
            for one in progress.track(wanted, description="compact"):
                won = await compaction.compact(shard, int(one.segment, 16))
                text = "damaged, kept" if won < 0 else "done" if won else "busy"
                out.append({"segment": one.segment, "result": text, "won": max(0, won)})
        return out

    show(_run(read_config(config), work, "segments"), json)


@app.command("convert")
@command
def convert_(
    to: Annotated[str, typer.Option("--to", help='"segments" or "maildir".')],
    account: AccountArgument = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Move messages from Maildirs to segments or back, while the server runs. Can be broken off and run again."""
    if to not in ("segments", "maildir"):
        fail('--to is "segments" or "maildir"', 2)

    async def work(assembly: Assembly, progress: Progress) -> list[convert.Converted]:
        records = _records(assembly, account)
        accounts = progress.add_task("accounts", total=len(records))
        messages = progress.add_task("messages", total=None)
        out = []
        for record in records:
            place = assembly.deliverer.account(record)
            out.append(await convert.convert(assembly.store, place, to, lambda n: progress.advance(messages, n)))
            progress.advance(accounts)
        return out

    done = _run(read_config(config), work, to)
    show([asdict(one) for one in done], json)
    if any(one.left for one in done):
        raise typer.Exit(FAILED)


def _records(assembly: Assembly, account: str) -> list[AccountRecord]:
    if not account:
        return list(assembly.directory.accounts())
    return [account_of(assembly.directory, account)]
