"""``fastmail check``: everything that is kept, compared with everything else; and mended where that is safe.
``fastmail upgrade``: layouts of what is kept, and what this version makes of them."""

import asyncio
import dataclasses
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fastmail.app import environments, heal
from fastmail.app.assembly import Assembly, beside
from fastmail.app.derived import running
from fastmail.backup import others
from fastmail.cli import upgrading
from fastmail.cli.common import FAILED, ConfigOption, JsonOption, command, fail, progress_bar, read_config, show
from fastmail.config.settings import Config
from fastmail.directory.lookup import NOT_FOUND
from fastmail.directory.records import REVOKED
from fastmail.durable import checkpoint
from fastmail.durable.layouts import layout_of
from fastmail.model.errors import ConfigError, DamagedAccount, MailError, in_words
from fastmail.policy import keyfiles
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.queue.repair import faults as queue_faults
from fastmail.queue.repair import repair as repair_queue
from fastmail.store.interface import Account
from fastmail.store.local.index.first_layout import TABLES as FIRST_TABLES
from fastmail.store.local.index.shard import Shard
from fastmail.store.local.recovery import check_account as checking
from fastmail.store.local.recovery import rebuild_account
from fastmail.store.local.recovery.after_salvage import find_again
from fastmail.store.local.segments import verify

if TYPE_CHECKING:
    from rich.progress import Progress

CURRENT = "nothing to do"
CANNOT = "cannot be"
NEWER = f"{CANNOT} opened: it was made by a newer fastmail"


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
    told to. Exit code 1 while something is wrong. May run beside the server.

    `fastmail check deliverability DOMAIN` is `fastmail deliverability DOMAIN`: will others accept what it sends?
    """
    found = asyncio.run(_check(config, repair_too, json))
    show([asdict(one) for one in found], json, empty="all is well")
    if any(not one.mended.startswith("rebuilt") for one in found):
        raise typer.Exit(FAILED)


async def _check(config: str, mend: bool, json: bool) -> list[Problem]:
    settings = read_config(config)
    old = _old_layouts(settings)
    if old and not mend:  # to open them would change them
        return old
    out = _journals(settings)
    out += _files(settings, mend, json)
    if mend:
        await heal.finish(settings, lambda text: out.append(Problem("index", text, "rebuilt from what is there")))
    async with beside(settings) as assembly:
        out += _aliases(assembly, mend)
        out += _keys(assembly)
        out += _queue(assembly, mend)
        out += await _held(assembly, mend)
        with progress_bar() as progress:
            every: list[Account] = []
            anew: list[Account] = []
            for record in progress.track(assembly.directory.accounts(), description="accounts"):
                account = assembly.deliverer.account(record)
                every.append(account)
                problems = await _account(assembly, account, mend)
                if problems and mend:
                    anew.append(account)
                out += problems
            for shard in assembly.store.commits.shards:
                mine = [one for one in every if assembly.store.commits.shard(one.id) is shard]
                rebuilt = any(one in mine for one in anew)
                out += await _segments(assembly, shard, mine, mend, rebuilt, progress)
    return out


def _old_layouts(settings: Config) -> list[Problem]:
    """What an earlier version wrote. ConfigError if a newer one did."""
    old = [row for row in layouts(settings) if row["then"] != CURRENT]
    newer = next((row for row in old if row["then"] == NEWER), None)
    if newer is not None:
        raise ConfigError(
            f"{newer['what']} was written by a newer fastmail (layout {newer['layout']}, this one reads "
            f"{newer['here']}): "
            "install that version"
        )
    return [
        Problem(
            str(row["what"]),
            f"layout {row['layout']}: {row['then']}",
            "run with --repair" if str(row["then"]).startswith(CANNOT) else "run `fastmail upgrade`",
        )
        for row in old
    ]


async def _account(assembly: Assembly, account: Account, mend: bool) -> list[Problem]:
    """What is wrong with the mailboxes of an account; with ``mend`` they are rebuilt from their files."""
    try:
        bad = [one for one in await checking.check(assembly.store, account) if one.problems]
    except (MailError, OSError, ValueError) as error:
        bad = [checking.Report(account.address, "", 0, 1, in_words(error))]
    if not bad:
        return []
    after = bad
    if mend:
        try:
            after = [one for one in await rebuild_account.rebuild(assembly.store, account) if one.problems]
        except (MailError, OSError, ValueError) as error:
            after = [dataclasses.replace(one, detail=in_words(error)) for one in bad]
    out = []
    for one in bad:
        left = [again for again in after if again.mailbox == one.mailbox]
        done = "rebuilt from the files" if mend and not left else "run with --repair"
        if mend and left:
            done = f"still: {left[0].detail}"
        out.append(Problem(f"{one.account} {one.mailbox}", one.detail, done))
    return out


async def _segments(
    assembly: Assembly, shard: Shard, accounts: list[Account], mend: bool, rebuilt: bool, progress: "Progress"
) -> list[Problem]:
    """What is wrong with the segments of a shard. With ``mend``, records that nothing names any more are given to their
    mailboxes again, where an account was ``rebuilt`` or a record is missing."""
    task = progress.add_task("segments", total=None)
    out = []

    def told(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    hits = await assembly.store.commits.help(verify.check, assembly.store, shard, told)
    if mend and (hits or rebuilt):
        given = await find_again(assembly.store, shard, accounts)
        if given:
            say = "rebuilt: given to their mailboxes"
            out.append(Problem("segments", f"{given} messages that nothing named", say))
        before = hits
        hits = await assembly.store.commits.help(verify.check, assembly.store, shard, told)
        found = [hit for hit in before if hit not in hits]
        out += [Problem(hit.where, hit.problem, "rebuilt: its record is named again") for hit in found]
    for hit in hits:
        say = "restore it from a backup; `export --skip-bad` leaves it out"
        out.append(Problem(hit.where, hit.problem, say if mend else f"run with --repair, or {say}"))
    return out


async def _held(assembly: Assembly, mend: bool) -> list[Problem]:
    """Files that were kept for the queue and that nothing names any more; such files that are not there."""
    holds = assembly.store.holds
    out = []
    for number in range(len(assembly.store.commits.shards)):
        left, lost = await assembly.store.commits.help(holds.leftovers, number)
        if left:
            say = "rebuilt: removed" if mend else "run with --repair"
            out.append(Problem(f"held-{number}", f"{len(left)} files that no message in the queue names", say))
        say = "`fastmail queue list` shows whose it is; the message cannot be sent"
        out += [Problem(f"held-{number}", f"{name} is not there", say) for name in lost]
    if mend:
        await holds.tidy()
    return out


def _queue(assembly: Assembly, mend: bool) -> list[Problem]:
    """Messages that wait and cannot be read, and their order."""
    if not os.path.isdir(os.path.join(assembly.config.server.data_dir, "queue", "index")):
        return []
    found = queue_faults(assembly.spool.env)
    done = "stop the server and run with --repair: what cannot be read is dropped"
    if found and mend and not running(assembly.config):
        repair_queue(assembly.spool.env)
        done = "rebuilt without what cannot be read"
    return [Problem(f"queue {ident}".strip(), problem, done) for ident, problem in found]


def _files(settings: Config, mend: bool, json: bool) -> list[Problem]:
    """The environments themselves, before anything opens them."""
    found = heal.damaged(settings)
    if not found:
        return []
    if mend and running(settings):
        done = "stop the server first, and run this again"
    elif mend:
        heal.restore(settings)
        done = "rebuilt; the old one is kept beside it"
    else:
        done = "stop the server and run with --repair"
    out = [Problem(place.path, "; ".join(sound.damage[:3]), done) for place, sound in found]
    if not mend or "stop" in done:
        show([asdict(one) for one in out], json)
        fail("damaged files are not opened; nothing else was checked")
    return out


def _leads(assembly: Assembly, target: str) -> bool:
    """To an account, sound or damaged, or to another host. One that only takes no mail now was switched off by
    somebody, and is no fault."""
    if not assembly.directory.is_local(target.rpartition("@")[2]):
        return True
    try:
        there = assembly.directory.destinations(target)
        return bool(there) or there.refusal != NOT_FOUND
    except DamagedAccount:
        return True


def _aliases(assembly: Assembly, mend: bool) -> list[Problem]:
    """Damaged rows of the directory; aliases that lead nowhere."""
    say = "`fastmail account remove` and `add`, or restore it from a backup"
    faults = assembly.directory.faults()
    if faults and mend:
        assembly.directory.mend()
    left = assembly.directory.faults()
    out = [Problem(*one, say if one in left and mend else "rebuilt" if mend else "run with --repair") for one in faults]
    for alias in assembly.directory.each_alias():
        lost = [target for target in alias.targets if not _leads(assembly, target)]
        if lost:
            what = f"nobody gets mail for {', '.join(lost)}"
            out.append(Problem(f"alias {alias.address}", what, "fastmail alias set, or remove"))
    return out


def _keys(assembly: Assembly) -> list[Problem]:
    """Keys that mail is signed with and that cannot be read."""
    out = []
    for domain in assembly.directory.each_domain():
        for key in domain.dkim:
            if key.state == REVOKED:
                continue
            try:
                keyfiles.load(assembly.config.server.data_dir, key.file)
            except KeyTrouble as error:
                say = f"restore it from a backup, or `fastmail dkim rotate {domain.name} --now`"
                out.append(Problem(f"domain {domain.name}", f"its key {key.selector}: {error}", say))
    return out


def _journals(settings: Config) -> list[Problem]:
    """Journals that the next start could not replay. To open such an index takes it as it is, with a new checkpoint."""
    say = "rebuilt: what is in the index counts, with a new checkpoint"
    places = [files.path for files in heal.damageable(settings) if files.index or files.queue]
    return [Problem(path, fault, say) for path in places for fault in checkpoint.faults(path)]


def layouts(settings: Config) -> list[dict[str, object]]:
    """What is kept, in which layout it is, and what this version does with that. Only reads."""
    rows: list[dict[str, object]] = []
    for kind in environments.kinds(settings):
        if not environments.is_there(settings, kind):
            continue
        name, wanted, tables = kind.name, kind.layout, kind.tables
        try:
            now, there = layout_of(os.path.join(settings.server.data_dir, name))
        except MailError as error:
            rows.append({"what": name, "layout": "?", "here": wanted, "then": f"{CANNOT} read: {error}"})
            continue
        then = CURRENT
        if now > wanted:
            then = NEWER
        elif there >= set(FIRST_TABLES):  # it had the number of its successor
            now, then = 0, f"layout {wanted} at the next start"
        elif now < wanted or not (there >= {*tables, "meta"} and kind.is_converted(there)):
            then = f"layout {wanted} at the next start"
        rows.append({"what": name, "layout": now, "here": wanted, "then": then})
    return rows


@command
def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Bring what is kept to this version's layouts. A server does so by itself when it starts; an older fastmail does
    not open it afterwards, so back up first. Exit code 1 where a newer fastmail has been at work.

    How many rows are done, of how many, and the time that is left stand on standard error: as a bar on a terminal,
    otherwise as lines, with --json as lines of JSON. It may be ended at any moment: what is done stays done, and the
    next run goes on with the rest."""
    settings = read_config(config)
    rows = layouts(settings)
    newer = any(str(row["then"]).startswith(CANNOT) for row in rows)
    if not dry_run and not newer:
        there = {kind.name for kind in environments.kinds(settings) if environments.is_there(settings, kind)}

        async def go() -> None:
            async with beside(settings) as assembly:  # which opens what it needs when it needs it
                if environments.QUEUE in there:
                    assert assembly.spool.env
                for name in sorted(there & {kind.name for kind in others.saved_kinds(assembly)}):
                    with others.opened(assembly, name):
                        pass

        with upgrading.shown(settings.server.data_dir, json):
            asyncio.run(go())
        for row in rows:
            if row["then"] != CURRENT:
                row["then"] = "done"
    show(rows, json)
    if newer:
        raise typer.Exit(FAILED)
