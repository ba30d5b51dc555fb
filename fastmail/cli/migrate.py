"""``fastmail migrate``: take over from Dovecot, Courier or a plain Maildir, and go back."""

import asyncio
import csv
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastmail.app.assembly import Assembly, beside
from fastmail.app.derived import running
from fastmail.cli import sites
from fastmail.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    all_input,
    command,
    errors,
    fail,
    for_terminal,
    output,
    progress_bar,
    read_config,
    show,
)
from fastmail.directory.interface import AccountRecord
from fastmail.migrate import compare, doveconf, found, shadow
from fastmail.migrate.incoming import Remote
from fastmail.migrate.plan import BLOCKS, Plan
from fastmail.model.errors import CannotDo, MailError, in_words
from fastmail.model.mailbox_name import INBOX
from fastmail.model.quota import Quota
from fastmail.store import sharing
from fastmail.store.interface import Account, Mailbox
from fastmail.store.local.dovecot import control_files, hand_back

app = typer.Typer(
    no_args_is_help=True,
    help="Take over Maildirs from Dovecot, Courier and others, in place, and give them back.\n\n"
    "In order: [bold]plan[/] (reads the old configuration), [bold]account import[/] or, from the database of a whole "
    "site, [bold]accounts[/], [bold]shadow[/] (compares, while "
    "the old server runs), stop the old server, "
    "[bold]switch[/] (reads every mailbox once), [bold]serve[/]. To go back: stop this server, [bold]back[/], "
    "start the old one ([bold]--to courier[/] for Courier). Both ways UIDs, flags, keywords, subscriptions and POP3 "
    "ids stay as they are.",
)
app.command("accounts")(sites.accounts)
Counter = Callable[[int], None]
TICK = 0.5  # s between two looks at how far a mailbox is
AccountArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="Some accounts; all if none.")
]


@app.command("plan")
@command
def plan(
    source: Annotated[
        str,
        typer.Option("--from", help=f"dovecot, courier or maildir; or a site with its database: {sites.NAMES}."),
    ] = "dovecot",
    conf: Annotated[
        str,
        typer.Option(
            help="What `doveconf -n` printed, - for standard input, or Dovecot's directory (/etc/dovecot); for Courier "
            "its directory. Without it, doveconf is asked."
        ),
    ] = "",
    mail: Annotated[str, typer.Option(help="For courier and maildir: the directory that the Maildirs are below.")] = "",
    domain: Annotated[str, typer.Option(help="Domain of users whose names have none.")] = "",
    out: Annotated[str, typer.Option(help="Directory for fastmail.toml and the accounts to import.")] = "",
    dsn: sites.DsnOption = "",
    scheme: sites.SchemeOption = "",
    json: JsonOption = False,
) -> None:
    """Read the old server's configuration, or its Maildirs: what maps, what does not, what clients would notice.

    Changes nothing. Exit code 1 when something is in the way.
    """
    if source == "dovecot":
        made = doveconf.plan(_doveconf(conf), domain)
    elif source in ("courier", "maildir"):
        made = found.plan(source, mail, conf, domain)
    elif source in sites.SITES:
        if out:
            fail("--out is for dovecot, courier and maildir: `fastmail migrate accounts` imports a site", 2)
        made = sites.plan(source, dsn, scheme, domain)
    else:
        fail(f"--from is dovecot, courier or maildir, or one of {sites.NAMES}", 2)
        return
    show([asdict(one) for one in made.findings], json)
    if out:
        _write(Path(out), made)
    elif made.config and not json:
        output.print("\n" + made.config, markup=False)
    if any(one.state == BLOCKS for one in made.findings):
        raise typer.Exit(FAILED)


def _doveconf(conf: str) -> str:
    if conf == "-":
        return all_input()
    if conf:
        return doveconf.load(conf)
    program = shutil.which("doveconf") or shutil.which("doveconf", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if program is None:
        fail("doveconf is not here: run `doveconf -n > FILE` on the old server, and give --conf FILE")
    done = subprocess.run([str(program), "-n"], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(f"doveconf: {done.stderr.strip()}", lines=True)
    return done.stdout


def _write(out: Path, made: Plan) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("fastmail.toml", made.config),
        ("accounts", "".join(line + "\n" for line in made.accounts)),
        ("domains", "".join(line + "\n" for line in made.domains)),
    ):
        path = out / name
        if path.exists():
            fail(f"{path} is there already: give another --out, or remove it")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    shown = for_terminal(str(out))
    errors.print(
        f"written: {shown}/fastmail.toml, accounts and domains. Next: fastmail check-config -c {shown}/fastmail.toml",
        markup=False,
    )


def _accounts(found: list[AccountRecord], wanted: list[str] | None) -> list[AccountRecord]:
    if not wanted:
        return found
    known = {record.address: record for record in found}
    missing = [name for name in wanted if name.lower() not in known]
    if missing:
        fail(f"there is no account {missing[0]}")
    return [known[name.lower()] for name in wanted]


def _bar() -> Progress:
    return progress_bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )


def _counter(progress: Progress) -> Callable[[int], None]:
    """A line below the bar of accounts that counts messages."""
    task = next((one for one in progress.task_ids if progress.tasks[one].description == "messages"), None)
    if task is None:
        task = progress.add_task("messages", total=None)
    return lambda count, task=task: progress.advance(task, count)  # type: ignore[misc]


async def _each(
    config: str, wanted: list[str] | None, work: Callable[[Assembly, AccountRecord, Counter], Awaitable[None]]
) -> list[str]:
    """Work on accounts, one after the other, with a bar; what went wrong, a line each. Not beside a server: it would go
    on changing what is handed over."""
    problems = []
    settings = read_config(config)
    if running(settings):
        fail("the server is running: stop it first, and run this again")
    async with beside(settings) as assembly:
        records = _accounts(assembly.directory.accounts(), wanted)
        with _bar() as progress:
            told = _counter(progress)
            for record in progress.track(records, description="accounts"):
                try:
                    await work(assembly, record, told)
                except (MailError, OSError) as error:
                    problems.append(f"{record.address}: {in_words(error)}")
    return problems


@app.command("switch")
@command
def switch(accounts: AccountArgument = None, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Read every mailbox once, so that the first users need not wait: UIDs, flags and all are taken over, and with them
    the access control lists and quotas of the old server.

    Stop the old server first. Safe to stop and to run again: what was read is not read again.
    """
    rows = []
    left: list[str] = []

    async def work(assembly: Assembly, record: AccountRecord, told: Counter) -> None:
        account = assembly.deliverer.account(record)
        for box in (await assembly.store.listing(account)).mailboxes:
            await _take_over(assembly, account, box, told)
            left.extend(await _take_rights(assembly, account, box))
        _take_quota(assembly, account, record)
        with assembly.store.snapshot(account) as snapshot:
            boxes = snapshot.boxes(account.id)
        rows.append({"account": record.address, "mailboxes": len(boxes), "messages": sum(box.exists for box in boxes)})

    problems = asyncio.run(_each(config, accounts, work))
    show(rows, json)
    for text in left:
        output.print(f"left out: {text}", markup=False)
    if problems:
        fail("\n".join(problems), lines=True)


async def _take_rights(assembly: Assembly, account: Account, box: Mailbox) -> list[str]:
    """The list of a mailbox, unless it has one already; entries that could not be kept."""
    store = assembly.store
    with store.snapshot(account) as snapshot:
        if snapshot.note(box.key, sharing.ACL) is not None:
            return []
    acl, left = control_files.read_acl(store.paths.directory(account, box.key), account.address)

    def find(name: str) -> Account | None:
        record = assembly.directory.account(name)
        return assembly.deliverer.account(record) if record is not None else None

    if acl:
        await sharing.set_list(store, find, account, box.key, acl)
    return [f"{account.address}, {box.name}: access for {text}" for text in left]


async def _take_over(assembly: Assembly, account: Account, box: Mailbox, told: Counter) -> None:
    """Read a mailbox; ``told`` hears of its messages as they come."""
    work = asyncio.ensure_future(assembly.store.sync(account, box.key))
    known, done = 0, False
    while not done:
        done = bool((await asyncio.wait([work], timeout=TICK))[0])
        with assembly.store.snapshot(account) as snapshot:
            row = snapshot.mailbox(box.key)
        now = row.exists if row is not None else known
        told(max(0, now - known))
        known = max(known, now)
    await work


def _take_quota(assembly: Assembly, account: Account, record: AccountRecord) -> None:
    """The limits of a Maildir, for an account that has none of its own."""
    place = assembly.store.account_paths.control(account, INBOX)
    octets, messages = control_files.read_limits(place)
    if record.quota == Quota() and (octets or messages):
        assembly.directory.set_quota(record.address, Quota(octets, messages))


@app.command("compare")
@command
def compare_(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The old server's IMAP, HOST:PORT.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="This server's, on the same Maildirs or a copy.")],
    accounts: Annotated[str, typer.Option("--csv", help="A CSV file with columns user and password.")],
    pop3: Annotated[str, typer.Option(help="POP3 ports of both, OLD,NEW: compares UIDLs and their order too.")] = "",
    tls: Annotated[str, typer.Option(help="implicit, starttls or none, for both.")] = "starttls",
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare what clients see on two servers, account by account: folders, UIDs, flags, dates, sizes, UIDLs.

    Both are only read. Exit code 1 when something differs.
    """
    ports = tuple(int(word) for word in pop3.split(",") if word.isdigit())
    if pop3 and len(ports) != 2:
        fail("--pop3 is two ports with a comma between", 2)
    people = _people(accounts)
    places = [_place(text) for text in (old, new)]
    rows = []
    with _bar() as progress:
        for user, password in progress.track(people, description="accounts"):
            both = [Remote(host, user, password, port, tls, not insecure) for host, port in places]
            pair = (ports[0], ports[1]) if ports else (0, 0)
            rows.append(compare.account(user, both[0], both[1], pair, _counter(progress)))
    _compared(rows, json)


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        fail(f"{text!r} is not HOST:PORT", 2)
    return host, int(port)


def _people(path: str) -> list[tuple[str, str]]:
    """(user, password) of a CSV file."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotDo(f"{path} cannot be read: {in_words(error, path)}") from None
    if rows and not {"user", "password"} <= rows[0].keys():
        raise CannotDo(f"{path}: the first line has to name the columns, user and password among them")
    for number, row in enumerate(rows, 2):
        if row["user"] is None or row["password"] is None:
            raise CannotDo(f"{path}:{number}: the line is too short")
    return [(row["user"], row["password"]) for row in rows]


def _compared(rows: list[compare.Compared], json: bool) -> None:
    if json:
        show([asdict(row) for row in rows], True)
    else:
        show([asdict(row) | {"differences": len(row.differences)} for row in rows], False)
        for row in rows:
            for text in row.differences:
                errors.print(f"{row.account}: {text}", markup=False)
    if any(row.differences for row in rows):
        raise typer.Exit(FAILED)


@app.command("shadow")
@command
def shadow_(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The IMAP of the server that runs, HOST:PORT.")],
    accounts: Annotated[str, typer.Option("--csv", help="A CSV file with columns user and password.")],
    config: ConfigOption = "fastmail.toml",
    pop3: Annotated[int, typer.Option(help="Its POP3 port: compares UIDLs and their order too.")] = 0,
    tls: Annotated[str, typer.Option(help="implicit, starttls or none, to the server that runs.")] = "starttls",
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any certificate of it.")] = False,
    imap: Annotated[str, typer.Option(help="Where this one listens for IMAP; default: a free port here.")] = "",
    pop: Annotated[str, typer.Option("--pop", help="Where it listens for POP3; default: a free port here.")] = "",
    stay: Annotated[bool, typer.Option("--stay", help="Go on serving until Ctrl-C, to look with a client.")] = False,
    json: JsonOption = False,
) -> None:
    """Serve the same Maildirs read-only on other ports, beside the server that runs, and compare account by account
    what clients see: folders, counts, UIDs, flags, dates, sizes, UIDLs.

    Nothing in the Maildirs is changed. What differs is looked at twice more, as mail moves meanwhile. Exit code 1 when
    something still differs.
    """
    people, (host, port) = _people(accounts), _place(old)
    settings = read_config(config)
    places = {name: text for name, text in (("imap", imap), ("pop3", pop)) if text}
    rows = []
    with shadow.running(settings, people, places) as ports:
        errors.print(f"serving read-only: IMAP on port {ports['imap']}, POP3 on port {ports['pop3']}")
        with _bar() as progress:
            for user, password in progress.track(people, description="accounts"):
                name = user if "@" in user else f"{user}@{settings.auth.default_domain}"
                theirs = Remote(host, user, password, port, tls, not insecure)
                ours = Remote("127.0.0.1", name, password, ports["imap"], "none")
                for tries in range(3):
                    pair = (pop3, ports["pop3"]) if pop3 else (0, 0)
                    row = compare.account(user, theirs, ours, pair, _counter(progress))
                    if not row.differences:
                        break
                    time.sleep(tries + 0.5)
                rows.append(row)
        if stay:
            errors.print("Ctrl-C ends it.")
            with suppress(KeyboardInterrupt):
                signal.pause()
    _compared(rows, json)


@app.command("back")
@command
def back(
    accounts: AccountArgument = None,
    to: Annotated[str, typer.Option("--to", help="dovecot or courier.")] = hand_back.DOVECOT,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Write what Dovecot or Courier needs to go on with the same UIDs: lists of UIDs, keywords, subscriptions.

    Stop this server first, so that nothing is delivered behind it. May be run again.
    """
    rows: list[hand_back.Handed] = []
    if to not in (hand_back.DOVECOT, hand_back.COURIER):
        fail("--to is dovecot or courier", 2)

    async def work(assembly: Assembly, record: AccountRecord, told: Counter) -> None:
        made = await hand_back.hand_back(assembly.store, assembly.deliverer.account(record), to)
        told(sum(one.messages for one in made))
        rows.extend(made)

    problems = asyncio.run(_each(config, accounts, work))
    show([asdict(row) for row in rows], json)
    if problems:
        fail("\n".join(problems), lines=True)
