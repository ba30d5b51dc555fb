"""``fastmail app-password``: passwords for single programs of an account (directory.apps)."""

import time
from typing import Annotated

import typer

from fastmail.cli.common import (
    ConfigOption,
    CsvOption,
    JsonOption,
    account_of,
    command,
    directory,
    moment,
    output,
    pairs,
    show,
    show_one,
)
from fastmail.directory import apps, fields
from fastmail.directory.errors import WrongUsage
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import AppPassword

app = typer.Typer(no_args_is_help=True, help="Passwords for single programs, each of which can be withdrawn alone.")
FieldsArgument = Annotated[
    list[str], typer.Argument(metavar="FIELD=VALUE...", help=f"Fields: {', '.join(fields.APP_PASSWORD)}.")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `app-password list` shows it.")]
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="Of the account.")]


@app.command("add")
@command
def app_add(
    address: AddressArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help='For people: "phone".')],
    protocols: Annotated[
        str, typer.Option(help=f"Where it counts: of {', '.join(apps.PROTOCOLS)}; all if left out.")
    ] = "",
    nets: Annotated[str, typer.Option(help="From where it counts: networks with commas between.")] = "",
    expires: Annotated[str, typer.Option(help="A date such as 2027-01-31, or 2027-01-31T12:00 (UTC).")] = "never",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Make an app password, and show it, this once."""
    place = directory(config)
    record = account_of(place, address)
    text = apps.make()
    try:
        new = AppPassword(
            apps.digest(text.encode()),
            fields.line(name),
            int(time.time()),
            fields.protocols(protocols),
            fields.networks(nets),
            fields.moment(expires),
        )
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if new.expires and new.expires <= new.created:
        raise WrongUsage(f"--expires {expires} is over: nobody could use the password")
    place.add_app_password(record.address, new)
    if json:
        show_one({"id": apps.ident(new), "password": text}, True)
    else:
        output.print(f"{text}\n{apps.ident(new)} for {record.address}; it is not shown again", markup=False)


@app.command("list")
@command
def app_list(
    address: AddressArgument,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """The app passwords of an account, and when each was last used."""
    place = directory(config)
    record = account_of(place, address)
    show([_row(place, record.id, one) for one in place.app_passwords(record.id)], json, csv=csv)


@app.command("show")
@command
def app_show(
    address: AddressArgument,
    ident: IdArgument,
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """One app password of an account: where it counts, and when it was used last. The password itself is not kept."""
    place = directory(config)
    record = account_of(place, address)
    show_one(_row(place, record.id, apps.named(place, record, ident)), json)


def _state(one: AppPassword) -> str:
    if not one.enabled:
        return "off"
    return "expired" if 0 < one.expires <= time.time() else "on"


def _row(place: LocalDirectory, number: int, one: AppPassword) -> dict[str, str]:
    last = max(place.used(number, one.digest).items(), key=lambda item: item[1], default=("", 0))
    return {
        "id": apps.ident(one),
        "name": one.name,
        "state": _state(one),
        "protocols": ",".join(one.protocols) or "all",
        "nets": one.nets or "all",
        "created": moment(one.created),
        "expires": moment(one.expires),
        "last_used": f"{moment(last[1])} {last[0]}".strip(),
    }


@app.command("set")
@command
def app_set(
    address: AddressArgument,
    ident: IdArgument,
    settings: FieldsArgument,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change the name, protocols, nets or expires of an app password: `expires=2027-01-31`. The password stays.
    Sessions that it does not allow any more end; with another `expires`, all that began with it end and may log in
    again."""
    output.print(f"set {_change(config, address, ident, pairs(settings))}", markup=False)


@app.command("enable")
@command
def app_enable(address: AddressArgument, ident: IdArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Let an app password count again."""
    output.print(f"switched on {_change(config, address, ident, {'enabled': 'yes'})}", markup=False)


@app.command("disable")
@command
def app_disable(address: AddressArgument, ident: IdArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Let an app password count nowhere until `app-password enable`; sessions that began with it end."""
    output.print(f"switched off {_change(config, address, ident, {'enabled': 'no'})}", markup=False)


def _change(config: str, address: str, ident: str, given: dict[str, str]) -> str:
    """Change fields of an app password; what it is called, and whose it is, for people."""
    place = directory(config)
    record = account_of(place, address)
    found = apps.named(place, record, ident)
    place.change_app_password(record.address, fields.changed(found, fields.read("app-password", given)))
    return f"{found.name} of {record.address}"


@app.command("remove")
@command
def app_remove(
    address: AddressArgument,
    ident: IdArgument,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Withdraw an app password; sessions that began with it end."""
    place = directory(config)
    record = account_of(place, address)
    found = apps.named(place, record, ident)
    place.remove_app_password(record.address, found)
    output.print(f"removed {found.name} of {record.address}", markup=False)
