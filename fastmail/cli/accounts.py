"""``fastmail account``: who logs in and gets mail. Commands work while the server runs, and count at once."""

import itertools
import os
import sys
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from fastmail.app.derived import maildir_template
from fastmail.cli.common import (
    USAGE,
    AfterOption,
    ConfigOption,
    CsvOption,
    DomainOption,
    DropOldOption,
    GenerateOption,
    JsonOption,
    LimitOption,
    MatchOption,
    NewAddressArgument,
    PasswordStdin,
    account_of,
    chosen_password,
    command,
    directory,
    fail,
    hashed,
    many,
    moment,
    output,
    pairs,
    progress_bar,
    read_config,
    show,
    show_one,
    write_content,
)
from fastmail.cli.renaming import follow_renames, may_rename, warn_of_settings
from fastmail.config.settings import Config
from fastmail.directory import fields
from fastmail.directory.access import conditions
from fastmail.directory.errors import DirectoryError, NoSuchUser, WrongUsage
from fastmail.directory.interface import AccountRecord
from fastmail.model.address import account_address
from fastmail.model.errors import BadAddress
from fastmail.model.quota import Quota

Entry = tuple[str, str, str, str]  # address, password, nets, nologin (directory.access)

app = typer.Typer(no_args_is_help=True, help="Accounts: who can log in and get mail.")
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="Such as you@example.org.")]
BATCH = 500
REMOVALS, REMOVAL_PAUSE = 6, 0.3  # tries to delete a Maildir, and s between them


@app.command("add")
@command
def account_add(
    address: AddressArgument,
    password_stdin: PasswordStdin = False,
    generate: GenerateOption = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Make an account; its usual folders come with its first login or message."""
    account = account_address(address)
    place = directory(config)
    if place.account(account.key) is not None:
        fail(f"account {account} is already there; `fastmail account passwd` changes its password")
    if not place.is_local(account.domain):  # said before anybody is asked for a password
        fail(f"{account}: {account.domain} is not a domain of this server; `fastmail domain add {account.domain}`")
    password = chosen_password(password_stdin, generate)
    place.add_accounts([(account.key, *hashed(password))])
    output.print(f"added {account}")
    if generate:
        output.print(f"Password: {password}", markup=False)


@app.command("passwd")
@command
def account_passwd(
    address: AddressArgument,
    password_stdin: PasswordStdin = False,
    generate: GenerateOption = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Give an account a new password; sessions that are open end, and the new one counts from the next login on."""
    place = directory(config)
    account = account_of(place, address)
    password = chosen_password(password_stdin, generate)
    place.set_password(account.address, *hashed(password))
    output.print(f"changed the password of {account.address}")
    if generate:
        output.print(f"Password: {password}", markup=False)


@app.command("quota")
@command
def account_quota(
    address: AddressArgument,
    storage: Annotated[str, typer.Option(help='Such as "5 GiB"; "none" for no limit, "default" for [limits].')] = "",
    messages: Annotated[str, typer.Option(help="A number, none or default.")] = "",
    mailboxes: Annotated[str, typer.Option(help="A number, none or default.")] = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Show or set the limits of an account; they count at once."""
    place = directory(config)
    record = account_of(place, address)
    given = (storage, messages, mailboxes)
    if any(given):
        sizes = [_limit(text, old) for text, old in zip(given, record.quota, strict=True)]
        place.set_quota(record.address, Quota(*sizes))
        record = place.account(record.address) or record
    names = ("storage", "messages", "mailboxes")
    values = {name: {0: "default", -1: "none"}.get(one, one) for name, one in zip(names, record.quota, strict=True)}
    show([{"address": record.address, **values}], json)


def _limit(text: str, old: int) -> int:
    """A limit as it is kept: 0 default, -1 none."""
    try:
        return fields.limit(text) if text else old
    except ValueError:
        raise WrongUsage(f'{text!r} is not a limit: a number or "5 GiB", none or default is expected') from None


@app.command("disable")
@command
def account_disable(address: AddressArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Switch an account off: its sessions end, nobody logs in, and mail for it is refused, until `account enable`."""
    place = directory(config)
    place.enable(account_of(place, address).address, False)
    output.print(f"switched off {account_of(place, address).address}")


@app.command("enable")
@command
def account_enable(address: AddressArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Switch an account on again."""
    place = directory(config)
    place.enable(account_of(place, address).address, True)
    output.print(f"switched on {account_of(place, address).address}")


@app.command("remove")
@command
def account_remove(
    address: AddressArgument,
    config: ConfigOption = "fastmail.toml",
    delete_mail: Annotated[bool, typer.Option("--delete-mail", help="Delete its Maildir too.")] = False,
) -> None:
    """Remove an account, and end its sessions; its Maildir stays unless --delete-mail."""
    import asyncio
    import shutil

    account = account_address(address)
    settings = read_config(config)
    place = directory(config)
    record = place.remove_account(account.key)
    place.close()

    asyncio.run(_forget(settings, record))
    local, _, domain = (record.placed or record.address).rpartition("@")
    root = maildir_template(settings).format(domain=domain, user=local)
    for _ in range(REMOVALS if delete_mail else 0):  # a session that is about to end may still have put a file there
        shutil.rmtree(root, ignore_errors=True)
        if not os.path.exists(root):
            break
        time.sleep(REMOVAL_PAUSE)
    if delete_mail and record.placed:
        directory(config).free_home(record.placed)
    kept = "" if delete_mail or not os.path.isdir(root) else f"; its mail stays in {root}"
    output.print(f"removed {account}{kept}", markup=False)


async def _forget(settings: Config, record: AccountRecord) -> None:
    from fastmail.app.assembly import beside  # the whole server, which no other command here needs: a third of a second

    async with beside(settings) as assembly:
        await assembly.store.forget(assembly.deliverer.account(record))
        assembly.filler.index.forget(record.id)


@app.command("rename")
@command
def account_rename(
    old: AddressArgument,
    new: NewAddressArgument,
    drop_old: DropOldOption = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Give an account a new address; its sessions end, and it logs in by the new one. Its mail stays where it is. What
    names it (aliases, forwards, lists of rights, subscriptions, groups) follows; app passwords stay. The old address
    becomes an alias."""
    settings = read_config(config)
    place = may_rename(settings, config, account_address(old).key)
    record = place.rename_account(account_address(old).key, account_address(new).key, not drop_old)
    place.close()
    follow_renames(settings)
    output.print(f"renamed {account_address(old)} to {record.address}", markup=False)
    warn_of_settings(config, account_address(old).key)


@app.command("scripts")
@command
def account_scripts(
    address: AddressArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Print the text of this one.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the one that is named.")] = False,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """The Sieve scripts of an account that were brought in from another server; filters are not run yet."""
    if remove and not name:
        fail("--remove needs the NAME of a script; without it, this command lists them", USAGE)
    place = directory(config)
    record = account_of(place, address)
    found = place.scripts(record.id)
    if remove:
        place.remove_script(record.address, name)
        output.print(f"removed {name} of {record.address}", markup=False)
    elif name:
        script = next((one for one in found if one.name == name), None)
        if script is None:
            raise NoSuchUser(f"{record.address} has no script {name}; `fastmail account scripts {address}` shows them")
        write_content(script.text.encode())
    else:
        rows = [
            {"name": one.name, "active": one.active, "stage": one.stage or "own", "characters": len(one.text)}
            for one in found
        ]
        show(rows, json, empty=f"{record.address} has none")


@app.command("show")
@command
def account_show(address: AddressArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """All that is set for an account, and when it was last used."""
    place = directory(config)
    record = account_of(place, address)
    when = {name: moment(at) for name, at in sorted(place.used(record.id).items())}
    row = {
        "address": record.address,
        "number": record.id,
        "state": _state(record),
        "placed": record.placed or record.address,
        "created": moment(record.created),
        "scheme": _scheme(record),
        **fields.shown(record),
        "from_source": place.said_of(record),
        "app_passwords": len(place.app_passwords(record.id)),
        "last_logins": when if json else [f"{name} {at}" for name, at in when.items()],
    }
    show_one(row, json)


@app.command("set")
@command
def account_set(
    address: AddressArgument,
    settings: Annotated[
        list[str], typer.Argument(metavar="FIELD=VALUE...", help="`fastmail account show` has all fields.")
    ],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change settings of an account in one step; they count at once. `suspended=REASON` keeps it from logging in and
    from sending: support sees the reason, its user only that. The fields `answer_...` are kept for later: no automatic
    answer is sent yet."""
    place = directory(config)
    values = fields.read("account", pairs(settings))
    record = place.change_account(account_address(address).key, lambda old: fields.changed(old, values))
    output.print(f"changed {record.address}", markup=False)


@app.command("list")
@command
def account_list(
    domain: DomainOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """All accounts, or those of a domain, by domain and name."""
    rows = (
        {"address": a.address, "scheme": _scheme(a), "enabled": a.enabled, "state": _state(a)}
        for a in directory(config).each_account(domain, after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)


def _scheme(record: AccountRecord) -> str:
    return record.password.partition("}")[0].lstrip("{")


def _state(record: AccountRecord) -> str:
    """What it may not do, in one word each."""
    if not record.enabled:
        return "off"
    words = [
        "suspended" if record.suspended else "",
        "" if record.logs_in and not record.nologin else "no-login",
        "" if record.receives else "receives-nothing",
        "" if record.sends else "stopped" if record.stopped else "sends-nothing",
    ]
    return ",".join(filter(None, words)) or "on"


@app.command("import")
@command
def account_import(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Lines `address:password` or `address:{SCHEME}hash`; "
            "behind a tab Dovecot's nologin, reason=, allow_nets=.",
        ),
    ],
    config: ConfigOption = "fastmail.toml",
    replace: Annotated[bool, typer.Option("--replace", help="Change the password of those that exist.")] = False,
    add_domains: Annotated[bool, typer.Option("--add-domains", help="Add domains that are not there.")] = False,
) -> None:
    """Make many accounts at once. A hash is kept as it is; a password is hashed, on all cores."""
    entries = list(_read_entries(file))
    place = directory(config)
    place.actor = f"{place.actor} (import)"
    if add_domains:
        for name in sorted({address.rpartition("@")[2] for address, *_ in entries}):
            if not place.is_local(name):
                place.add_domain(name)
    from concurrent.futures import ThreadPoolExecutor

    done = new = 0
    threads = os.cpu_count() or 1
    with progress_bar() as progress, ThreadPoolExecutor(threads) as pool:
        task = progress.add_task("accounts", total=len(entries))
        for batch in _batches(entries):
            hashed = list(pool.map(_hashed, batch))
            new += place.add_accounts(hashed, replace)
            done += len(hashed)
            progress.update(task, completed=done)
    output.print(f"{many(done, 'account')}, {new} new")


def _read_entries(file: str) -> Iterable[Entry]:
    from fastmail.auth import schemes
    from fastmail.model import hash_costs

    try:
        with sys.stdin if file == "-" else open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                text = line.rstrip("\r\n")
                if not text or text.startswith("#"):
                    continue
                address, colon, password = text.partition(":")
                password, _, extra = password.partition("\t")
                if not colon or not password:
                    raise DirectoryError(f"{file}:{number}: address:password is expected")
                if password.startswith("{") and not schemes.known(password):
                    scheme = password.partition("}")[0] + "}"
                    why = hash_costs.refusal(password) or f"{scheme} is not a scheme that can be checked here"
                    raise DirectoryError(f"{file}:{number}: {address}: {why}: give the account a new password")
                try:
                    fields = dict(word.partition("=")[::2] for word in extra.split())
                    yield account_address(address).key, password, *conditions(fields)
                except BadAddress as error:
                    raise DirectoryError(f"{file}:{number}: {error}") from None
    except OSError as error:
        raise DirectoryError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DirectoryError(f"{file}: is not UTF-8 text") from None


def _hashed(entry: Entry) -> tuple[str, ...]:
    from fastmail.auth import schemes

    address, password, *restricted = entry
    if password.startswith("{PLAIN}"):
        return address, password, schemes.scram(password.removeprefix("{PLAIN}")), *restricted
    if password.startswith("{"):
        return address, password, "", *restricted
    return address, *hashed(password), *restricted


def _batches(entries: list[Entry]) -> Iterable[list[Entry]]:
    rest = iter(entries)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch
