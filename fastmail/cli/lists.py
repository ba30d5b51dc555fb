"""``fastmail list``: mailing lists and their members."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from email.utils import parseaddr
from itertools import islice
from typing import Annotated

import typer

from fastmail.cli.common import (
    AfterOption,
    ConfigOption,
    CsvOption,
    DomainOption,
    DropOldOption,
    JsonOption,
    LimitOption,
    MatchOption,
    NewAddressArgument,
    command,
    directory,
    errors,
    many,
    moment,
    output,
    pairs,
    progress_bar,
    show,
    show_one,
    switch,
)
from fastmail.directory import checks, fields
from fastmail.directory.errors import DirectoryError, NoSuchUser, WrongUsage
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import ACTIVE, SUSPENDED, UNCONFIRMED, List, Member
from fastmail.model.address import account_address
from fastmail.model.errors import BadAddress

app = typer.Typer(no_args_is_help=True, help="Mailing lists: addresses whose mail goes to their members.")
member = typer.Typer(no_args_is_help=True, help="One member of a mailing list, or some.")
app.add_typer(member, name="member")
BATCH = 5000  # members of one transaction
SHOWN = 20  # bad lines that are named
STATES = (ACTIVE, SUSPENDED, UNCONFIRMED)
ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="The address of the list.")]
MembersArgument = Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="The addresses of members.")]
Entry = tuple[int, Member | str]  # the number of a line; a member, or why it is none


def _named(text: str) -> str:
    return account_address(text).key


def _list(place: LocalDirectory, text: str) -> List:
    found = place.mailing_list(_named(text))
    if found is None:
        raise NoSuchUser(f"there is no list {text}; `fastmail list list` shows them")
    return found


# ---------------------------------------------------------------- lists


@app.command("add")
@command
def list_add(
    address: ListArgument,
    settings: Annotated[
        list[str],
        typer.Argument(metavar="FIELD=VALUE...", help="owners=ADDRESS, and what `list set` changes."),
    ],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Make a mailing list: `fastmail list add team@example.org owners=me@example.org mode=members`."""
    new = fields.changed(List(_named(address)), fields.read("list", pairs(settings)))
    directory(config).put_list(new)
    output.print(f"added {new.address}", markup=False)


@app.command("set")
@command
def list_set(
    address: ListArgument,
    settings: Annotated[
        list[str],
        typer.Argument(metavar="FIELD=VALUE...", help=f"{', '.join(fields.MAILING_LIST)}."),
    ],
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Change a mailing list; its members stay.

    mode: public, members, announcers, domain, moderated. joins: open, closed. reply_to: author, list. rewrite_from:
    never, demanded, always."""
    _change(config, address, pairs(settings))
    output.print(f"changed {_named(address)}", markup=False)


def _change(config: str, address: str, given: dict[str, str]) -> None:
    values = fields.read("list", given)
    directory(config).change_list(_named(address), lambda old: fields.changed(old, values))


@app.command("rename")
@command
def list_rename(
    old: ListArgument,
    new: NewAddressArgument,
    drop_old: DropOldOption = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Give a mailing list a new address, with its members and settings. What leads to it follows, and mail that it sent
    under the old name can still be answered and come back; the old address becomes an alias of the new one."""
    place = directory(config)
    row = _list(place, old)
    found = place.rename_list(row.address, account_address(new).key, not drop_old)
    output.print(f"renamed {row.address} to {found.address}", markup=False)


@app.command("enable")
@command
def list_enable(address: ListArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take mail for a mailing list again."""
    switch(_change, config, address, True, _named(address))


@app.command("disable")
@command
def list_disable(address: ListArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Take no mail for a mailing list until `list enable`; its members stay."""
    switch(_change, config, address, False, _named(address))


@app.command("show")
@command
def list_show(address: ListArgument, config: ConfigOption = "fastmail.toml", json: JsonOption = False) -> None:
    """All that is set for a mailing list, and how many members it has."""
    place = directory(config)
    found = _list(place, address)
    counted = {"list": found.address, "members": place.count_members(found.address), "created": moment(found.created)}
    show_one(counted | fields.shown(found) | {"from_source": place.said_of(found)}, json)


@app.command("remove")
@command
def list_remove(address: ListArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Remove a mailing list with its members."""
    members = directory(config).remove_list(_named(address))
    output.print(f"removed {_named(address)} and its {many(members, 'member')}", markup=False)


@app.command("list")
@command
def list_list(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="Only lists of this domain.")] = "",
    of: DomainOption = "",
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """All mailing lists, or those of a domain, by domain and name."""
    rows = (
        {
            "list": one.address,
            "mode": one.mode,
            "joins": one.joins,
            "owners": list(one.owners),
            "state": "on" if one.enabled else "off",
        }
        for one in directory(config).each_list(of or domain, after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)


# ---------------------------------------------------------------- members


@app.command("members")
@command
def list_members(
    address: ListArgument,
    match: MatchOption = "",
    limit: LimitOption = 0,
    after: AfterOption = "",
    config: ConfigOption = "fastmail.toml",
    json: JsonOption = False,
    csv: CsvOption = False,
) -> None:
    """The members of a mailing list by address. `bounces`: days on which mail to one came back, `bounced`: the last."""
    place = directory(config)
    rows = (
        {
            "address": one.address,
            "name": one.name,
            "state": one.state,
            "bounces": one.bounces,
            "bounced": moment(one.bounced),
            "joined": moment(one.joined),
        }
        for one in place.each_member(_list(place, address).address, after)
    )
    show(rows, json, match=match, limit=limit, csv=csv)


@member.command("add")
@command
def member_add(
    address: ListArgument,
    members: MembersArgument,
    name: Annotated[str, typer.Option(help="The name of a member, for people.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Make those anew that are members already.")] = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Add members to a mailing list. They are not asked."""
    place = directory(config)
    row = _list(place, address)
    if name and len(members) > 1:
        raise WrongUsage("--name is for one member")
    said = fields.read("member", {"name": name})["name"]
    joining = [_member(place, row.address, one, said) for one in members]
    new = place.put_members(row.address, joining, replace)
    output.print(f"{many(len(members), 'member')}, {new} new")


def _member(place: LocalDirectory, of: str, text: str, name: str = "", state: str = ACTIVE, joined: int = 0) -> Member:
    """BadAddress, DirectoryError."""
    address = fields.address(text)
    checks.member(place, of, address)
    return Member(address, name, state, joined=joined)


@member.command("remove")
@command
def member_remove(address: ListArgument, members: MembersArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Remove members from a mailing list: all of these or none."""
    place = directory(config)
    row = _list(place, address)
    with place.batch():
        for one in members:
            place.remove_member(row.address, fields.address(one))
    output.print(f"removed {many(len(members), 'member')}")


@member.command("suspend")
@command
def member_suspend(address: ListArgument, members: MembersArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Send members no more mail until `list member resume`."""
    _set_state(config, address, members, SUSPENDED)
    output.print(f"suspended {many(len(members), 'member')}")


@member.command("resume")
@command
def member_resume(address: ListArgument, members: MembersArgument, config: ConfigOption = "fastmail.toml") -> None:
    """Send mail again to members that were suspended, or never confirmed."""
    _set_state(config, address, members, ACTIVE)
    output.print(f"resumed {many(len(members), 'member')}")


def _set_state(config: str, address: str, members: Sequence[str], state: str) -> None:
    place = directory(config)
    row = _list(place, address)

    def change(old: Member) -> Member:
        return Member(old.address, old.name, state, joined=old.joined)  # and nothing came back

    with place.batch():
        for one in members:
            place.change_member(row.address, fields.address(one), change)


# ---------------------------------------------------------------- many


@app.command("import")
@command
def list_import(
    address: ListArgument,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Addresses, one a line, or CSV with a line of names: address, name, state, joined."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out lines that have no address.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make those anew that are members already.")] = False,
    config: ConfigOption = "fastmail.toml",
) -> None:
    """Add many members to a mailing list. They are not asked. Nothing is added while a line is bad; those who are
    members already stay as they are."""
    place = directory(config)
    row = _list(place, address)
    place.actor = f"{place.actor} (import)"
    total, known, bad = _look(place, row, file)
    for number, why in bad[:SHOWN]:
        errors.print(f"{file}:{number}: {why}", markup=False)
    if len(bad) > SHOWN:
        errors.print(f"and {len(bad) - SHOWN} more lines")
    said = f"{many(total, 'member')}, {total - known} new, {many(len(bad), 'bad line')}"
    if bad and not skip_bad:
        raise DirectoryError(f"nothing was added: {said}; --skip-bad leaves them out")
    if dry_run:
        output.print(f"would add: {said}", markup=False)
        return

    done = new = 0
    with progress_bar() as progress:
        task = progress.add_task("members", total=total)
        entries = (one for _, one in _entries(place, row.address, file) if isinstance(one, Member))
        while batch := list(islice(entries, BATCH)):
            new += place.put_members(row.address, batch, replace)
            done += len(batch)
            progress.update(task, completed=done)
    output.print(f"{many(done, 'member')}, {new} new", markup=False)


def _look(place: LocalDirectory, row: List, file: str) -> tuple[int, int, list[tuple[int, str]]]:
    """(lines with a member, members that are there already, (number, why) of bad lines)."""
    if file == "-":
        raise WrongUsage("the file is read twice, so it cannot be standard input")
    total = known = 0
    bad = []
    for number, one in _entries(place, row.address, file):
        if isinstance(one, str):
            bad.append((number, one))
            continue
        total += 1
        known += place.member(row.address, one.address) is not None
    return total, known, bad


def _entries(place: LocalDirectory, of: str, file: str) -> Iterator[Entry]:
    """The lines of a file, as they are read."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
            names = [one.strip().lower() for one in next(csv.reader([first]), [])]
            opened.seek(0)
            if "address" in names:
                yield from _of_csv(place, of, csv.DictReader(opened, fieldnames=names))
            else:
                yield from _of_lines(place, of, opened)
    except OSError as error:
        raise DirectoryError(f"cannot read {file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DirectoryError(f"cannot read {file}: {error}") from None


def _of_csv(place: LocalDirectory, of: str, rows: "csv.DictReader[str]") -> Iterator[Entry]:
    next(rows, None)  # the names
    for row in rows:
        try:
            state = (row.get("state") or ACTIVE).strip().lower()
            if state not in STATES:
                raise DirectoryError(f"{state!r} is none of {', '.join(STATES)}")
            joined = fields.moment((row.get("joined") or "").strip().strip("-"))
            name = fields.line((row.get("name") or "").strip())
            yield rows.line_num, _member(place, of, (row.get("address") or "").strip(), name, state, joined)
        except (BadAddress, DirectoryError, ValueError) as error:
            yield rows.line_num, str(error)


def _of_lines(place: LocalDirectory, of: str, lines: Iterable[str]) -> Iterator[Entry]:
    """Addresses, with a name in front if one likes (``Anna <a@d.test>``); empty lines and comments count for
    nothing."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, address = parseaddr(text) if text.endswith(">") else ("", text)
        try:
            yield number, _member(place, of, address, fields.line(name))
        except (BadAddress, DirectoryError, ValueError) as error:
            yield number, str(error)
