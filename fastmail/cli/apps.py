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
    show,
    show_one,
)
from fastmail.directory import apps, fields
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.records import AppPassword

app = typer.Typer(no_args_is_help=True, help="Passwords for single programs, each of which can be withdrawn alone.")
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
    expires: Annotated[str, typer.Option(help="A date or time.")] = "never",
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
            _protocols(protocols),
            fields.networks(nets),
            fields.moment(expires),
        )
    except ValueError as error:
        raise DirectoryError(str(error)) from None
    place.add_app_password(record.address, new)
    if json:
        show_one({"id": apps.ident(new), "password": text}, True)
    else:
        output.print(f"{text}\n{apps.ident(new)} for {record.address}; it is not shown again", markup=False)


def _protocols(text: str) -> tuple[str, ...]:
    found = fields.listed(text)
    if any(one not in apps.PROTOCOLS for one in found):
        raise ValueError(f"protocols are of {', '.join(apps.PROTOCOLS)}")
    return tuple(dict.fromkeys(found))


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
    rows = []
    for one in place.app_passwords(record.id):
        last = max(place.used(record.id, one.digest).items(), key=lambda item: item[1], default=("", 0))
        rows.append(
            {
                "id": apps.ident(one),
                "name": one.name,
                "protocols": ",".join(one.protocols) or "all",
                "nets": one.nets or "all",
                "created": moment(one.created),
                "expires": moment(one.expires),
                "last_used": f"{moment(last[1])} {last[0]}".strip(),
            }
        )
    show(rows, json, csv=csv)


@app.command("remove")
@command
def app_remove(
    address: AddressArgument,
    ident: Annotated[str, typer.Argument(metavar="ID", help="As `app-password list` shows it.")],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Withdraw an app password; sessions that began with it end."""
    place = directory(config)
    record = account_of(place, address)
    found = next((one for one in place.app_passwords(record.id) if apps.ident(one) == ident.lower()), None)
    if found is None:
        raise NoSuchUser(f"{record.address} has no app password {ident}; `fastmail app-password list` shows them")
    place.remove_app_password(record.address, found)
    output.print(f"removed {found.name} of {record.address}", markup=False)
