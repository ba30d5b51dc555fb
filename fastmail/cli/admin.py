"""``fastmail admin``: who administers, and the second factors of those accounts (directory.factors, auth.totp)."""

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from fastmail.cli.common import (
    AfterOption,
    ConfigOption,
    CsvOption,
    DomainOption,
    JsonOption,
    LimitOption,
    MatchOption,
    account_of,
    command,
    directory,
    moment,
    output,
    pairs,
    show,
    show_one,
)
from fastmail.config.load import load
from fastmail.directory import fields
from fastmail.directory.errors import DirectoryError, NoSuchUser, WrongUsage
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Account, Passkey, Totp
from fastmail.model.address import account_address
from fastmail.model.errors import DamagedAccount

FIELDS = ("role", "administers")
app = typer.Typer(
    no_args_is_help=True,
    help="Accounts that administer (`fastmail admin set ADDRESS role=server`), and their second factors.",
)
totp = typer.Typer(no_args_is_help=True, help="One-time codes of an authenticator program (TOTP).")
passkey = typer.Typer(no_args_is_help=True, help="Passkeys: keys of devices, made in a browser.")
app.add_typer(totp, name="totp")
app.add_typer(passkey, name="passkey")
AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="Of an account with a role.")]


@app.command("list")
@command
def admin_list(
    domain: DomainOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """Accounts with a role, what they administer, and which second factors they have."""
    place = directory(config)
    show(_rows(place, domain, after), json, match=match, limit=limit, csv=csv)


def _rows(place: LocalDirectory, domain: str, after: str) -> Iterator[dict[str, Any]]:
    for one in place.each_account(domain, after):
        if one.role:
            yield _row(place, one)


def _row(place: LocalDirectory, one: Account) -> dict[str, Any]:
    return {
        "address": one.address,
        "role": one.role,
        "administers": list(one.administers),
        "totp": _state(place, one.id),
        "passkeys": len(place.passkeys(one.id)),
    }


def _state(place: LocalDirectory, number: int) -> str:
    try:
        found = place.totp(number)
    except DamagedAccount:
        return "damaged"
    return "off" if found is None else "on" if found.confirmed else "not confirmed"


@app.command("show")
@command
def admin_show(address: AddressArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """What an account may administer, and its second factors."""
    place = directory(config)
    show_one(_row(place, account_of(place, address)), json)


@app.command("set")
@command
def admin_set(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Of an account.")],
    settings: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...", help=f"{', '.join(FIELDS)}.")],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Let an account administer: `role=server`, `role=domain administers=example.org`, `role=helpdesk`; `role=` ends
    it. It counts at once."""
    given = pairs(settings)
    other = next((name for name in given if name not in FIELDS), None)
    if other is not None:
        raise WrongUsage(f"{other}: {' and '.join(FIELDS)} are set here, other fields by `fastmail account set`")
    values = fields.read("account", given)
    record = directory(config).change_account(account_address(address).key, lambda old: fields.changed(old, values))
    output.print(f"changed {record.address}", markup=False)


# ---------------------------------------------------------------- one-time codes


@totp.command("enable")
@command
def totp_enable(address: AddressArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Make a secret for an authenticator program, and show it, this once. It counts from `admin totp confirm` on: then
    the account's password opens no IMAP, POP3 or SMTP session any more, only app passwords do."""
    from fastmail.auth import totp as codes  # with its library, which no other command needs

    issuer = load(config).server.hostname
    place = directory(config)
    record = account_of(place, address)
    new = codes.make(int(time.time()))

    def change(old: Totp | None) -> Totp:
        if old is not None and old.confirmed:
            raise DirectoryError(
                f"{record.address} has one-time codes; `fastmail admin totp disable {record.address}` comes first"
            )
        return new

    place.change_totp(record.address, "enable", change)
    link = codes.uri(new, record.address, issuer)
    if json:
        show_one({"address": record.address, "secret": codes.shown(new), "uri": link}, True)
        return
    output.print(
        f"{link}\nsecret: {codes.shown(new)}\n"
        f"It is not shown again. Now `fastmail admin totp confirm {record.address} CODE` with a code of the program.",
        markup=False,
    )


@totp.command("confirm")
@command
def totp_confirm(
    address: AddressArgument,
    code: Annotated[str, typer.Argument(metavar="CODE", help="Six digits, as the program shows them now.")],
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Let logins ask for a code from now on; open sessions end. Shows recovery codes for a lost device, this once: each
    counts once in place of a code."""
    from fastmail.auth import totp as codes

    place = directory(config)
    record = account_of(place, address)
    recovery = codes.recovery_codes()
    now = int(time.time())
    place.change_totp(record.address, "confirm", lambda old: codes.confirm(old, code, now, recovery))
    if json:
        show_one({"address": record.address, "recovery_codes": recovery}, True)
        return
    lines = "\n".join(recovery)
    output.print(f"{lines}\nRecovery codes of {record.address}; they are not shown again.", markup=False)


@totp.command("disable")
@command
def totp_disable(address: AddressArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """Remove the secret and the recovery codes: the password is enough again, unless there are passkeys."""
    place = directory(config)
    record = account_of(place, address)
    place.change_totp(record.address, "disable", lambda old: None)
    if json:
        show_one({"address": record.address, "totp": "off"}, True)
    else:
        output.print(f"{record.address} has no one-time codes any more", markup=False)


# ---------------------------------------------------------------- passkeys


def ident(found: Passkey) -> str:
    """What commands call a passkey: the first 40 bits of its id's hash."""
    return base64.b32encode(hashlib.sha256(found.id).digest()[:5]).decode().lower()


@passkey.command("list")
@command
def passkey_list(
    address: AddressArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False, csv: CsvOption = False
) -> None:
    """The passkeys of an account, and when each was last used."""
    place = directory(config)
    record = account_of(place, address)
    rows = (
        {
            "id": ident(one),
            "name": one.name,
            "made": moment(one.made),
            "used": moment(one.used),
            "sign_count": one.sign_count,
        }
        for one in place.passkeys(record.id)
    )
    show(rows, json, csv=csv)


@passkey.command("remove")
@command
def passkey_remove(
    address: AddressArgument,
    key: Annotated[str, typer.Argument(metavar="ID", help="As `admin passkey list` shows it.")],
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
) -> None:
    """Let a passkey, of a device that was lost, count no more."""
    place = directory(config)
    record = account_of(place, address)
    found = next((one for one in place.passkeys(record.id) if ident(one) == key.lower()), None)
    if found is None:
        raise NoSuchUser(
            f"{record.address} has no passkey {key}; `fastmail admin passkey list {record.address}` shows them"
        )
    place.remove_passkey(record.address, found.id)
    if json:
        show_one({"address": record.address, "id": ident(found), "name": found.name}, True)
    else:
        output.print(f"removed {found.name} of {record.address}", markup=False)
