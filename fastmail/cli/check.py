"""``fastmail check``: everything that is kept, compared with everything else; and mended where that is safe.
``fastmail upgrade``: layouts of what is kept, and what this version makes of them."""

import asyncio
import os
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.progress import Progress

from fastmail.app.assembly import Assembly, beside
from fastmail.cli.common import FAILED, ConfigOption, JsonOption, command, errors, output, read_config, show
from fastmail.directory.local import LAYOUT as DIRECTORY
from fastmail.durable.env import layout_of
from fastmail.model.errors import MailError
from fastmail.net.bans import LAYOUT as BANS
from fastmail.queue.spool import LAYOUT as QUEUE
from fastmail.store.local import convert, repair
from fastmail.store.local.layout import LAYOUT as INDEX


@dataclass(slots=True)
class Problem:
    """One thing that is wrong. ``mended``: what was done about it, or can be."""

    where: str
    problem: str
    mended: str


@command
def check(
    repair_too: Annotated[bool, typer.Option("--repair", help="Mend what can be mended from what is sound.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Compare the index with the Maildirs, verify every segment, look at accounts and aliases. Changes nothing, unless
    told to. Exit code 1 while something is wrong. May run beside the server."""
    found = asyncio.run(_check(config, repair_too))
    show([asdict(one) for one in found], json)
    if not json and not found:
        output.print("all is well")
    if any(not one.mended.startswith("rebuilt") for one in found):
        raise typer.Exit(FAILED)


async def _check(config: str, mend: bool) -> list[Problem]:
    out: list[Problem] = []
    async with beside(read_config(config)) as assembly:
        out += _aliases(assembly)
        with Progress(console=errors, transient=True) as progress:
            for record in progress.track(assembly.directory.accounts(), description="accounts"):
                place = assembly.deliverer.account(record)
                try:
                    bad = [one for one in await repair.check(assembly.store, place) if one.problems]
                except (MailError, OSError, ValueError) as error:
                    out.append(Problem(record.address, str(error), "fastmail index rebuild"))
                    continue
                if not bad:
                    continue
                after = bad
                if mend:
                    after = [one for one in await repair.rebuild(assembly.store, place) if one.problems]
                for one in bad:
                    left = [again for again in after if again.mailbox == one.mailbox]
                    done = "rebuilt from the files" if mend and not left else "run with --repair"
                    if mend and left:
                        done = f"still: {left[0].detail}"
                    out.append(Problem(f"{one.account} {one.mailbox}", one.detail, done))
            for shard in assembly.store.shards():
                task = progress.add_task("segments", total=None)

                def told(done: int, total: int, task: object = task) -> None:
                    progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

                for hit in await assembly.store.help(convert.check, assembly.store, shard, told):
                    say = "restore it from a backup; `export --skip-bad` leaves it out"
                    out.append(Problem(hit.where, hit.problem, say))
    return out


def _aliases(assembly: Assembly) -> list[Problem]:
    """Aliases that lead nowhere."""
    out = []
    for address, targets in assembly.directory.aliases():
        lost = [target for target in targets if not assembly.directory.resolve(target)]
        if lost:
            out.append(Problem(f"alias {address}", f"nobody gets mail for {', '.join(lost)}", "fastmail alias remove"))
    return out


@command
def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Bring what is kept to this version's layouts. A server does so by itself when it starts; an older fastmail does
    not open it afterwards, so back up first. Exit code 1 where a newer fastmail has been at work."""
    settings = read_config(config)
    base = settings.server.data_dir
    known = {"directory": DIRECTORY, "queue/index": QUEUE, "bans": BANS}
    known |= {f"index-{n}": INDEX for n in range(settings.store.shards)}
    rows = []
    newer = False
    for name, wanted in known.items():
        path = os.path.join(base, name)
        if not os.path.isdir(path):
            continue
        try:
            now = layout_of(path)
        except MailError as error:
            rows.append({"what": name, "layout": "?", "here": wanted, "then": f"cannot be read: {error}"})
            newer = True
            continue
        then = "nothing to do" if now == wanted else f"layout {wanted} at the next start"
        if now > wanted:
            then, newer = "made by a newer fastmail: it is not opened", True
        rows.append({"what": name, "layout": now, "here": wanted, "then": then})
    if not dry_run and not newer:

        async def go() -> None:
            async with beside(settings):
                pass

        asyncio.run(go())
        for row in rows:
            if row["layout"] != row["here"]:
                row["then"] = "done"
    show(rows, json)
    if newer:
        raise typer.Exit(FAILED)
