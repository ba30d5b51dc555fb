"""Names that nobody should have in what commands read: requests of a batch, files of a wanted state, tables, lists of
accounts and members, databases of other sites, and Maildirs. What each door makes of an address is the same."""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fastmail.cli import batch
from fastmail.directory import fields
from fastmail.directory.errors import DirectoryError
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Alias, Group
from fastmail.directory.requests import ACTIONS, perform
from fastmail.directory.wanted import PLURALS, steps
from fastmail.model.errors import BadAddress, ClientError
from tests.support import sites
from tests.support.bad_names import DOMAINS, LOCAL_PARTS, NAMES, SHAPES, taken, trouble
from tests.unit.cli.place import USER, Place
from tests.unit.cli.test_bad_names import is_sound

Ask = Callable[[str], str]  # a name: the one that is kept
HASH = "{PLAIN}secret"
LONG = "a" * 64
MADE = ("example.test", "faß.example", "βόλοσ.example", "نامه\u200cای.example")  # domains that are there
# What may be an account, an alias, a group and a list, as it is kept.
EVERYWHERE = {
    "ME2@EXAMPLE.TEST": "me2@example.test",
    "ẞtraße@example.test": "ßtraße@example.test",
    "ΣΊΣΥΦΟΣ@example.test": "σίσυφος@example.test",
    "a@faß.example": "a@faß.example",
    "a@xn--fa-hia.example": "a@faß.example",
    "a@ΒΌΛΟΣ.example": "a@βόλοσ.example",
    "a@نامه\u200cای.example": "a@نامه\u200cای.example",
    "-x@example.test": "-x@example.test",
}
# What may be an alias or a group, which name no directory.
WITHOUT_HOME = {
    "a/b@example.test": "a/b@example.test",
    '"a/b"@example.test': "a/b@example.test",
    '"a b"@example.test': '"a b"@example.test',
    '"a\\"b"@example.test': '"a\\"b"@example.test',
    '""@example.test': '""@example.test',
    '".."@example.test': '".."@example.test',
    "%s%n{0}@example.test": "%s%n{0}@example.test",
    "😀@example.test": "😀@example.test",
}
OWN: dict[str, dict[str, str]] = {
    "account": {LONG + "@example.test": LONG + "@example.test", "$team@example.test": "$team@example.test"},
    "alias": {LONG + "@example.test": LONG + "@example.test", "$team@example.test": "$team@example.test"}
    | WITHOUT_HOME
    | {"@example.test": "@example.test"},
    "group": {LONG + "@example.test": LONG + "@example.test", "$team@example.test": "team@example.test"} | WITHOUT_HOME,
    "list": {"$team@example.test": "$team@example.test"},  # the names of its parts are longer
}
NEEDED: dict[str, dict[str, Any]] = {
    "account": {"hash": HASH},
    "alias": {"targets": ["x@away.example"]},
    "group": {},
    "list": {"owners": ["x@away.example"]},
}


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LocalDirectory]:
    made = LocalDirectory(str(tmp_path))
    for one in MADE:
        made.add_domain(one)
    made.add_accounts([(USER, HASH)])
    yield made
    made.close()


def hashed(password: str) -> tuple[str, str]:
    return "{PLAIN}" + password.encode().decode(), ""


class NotDone(Exception):
    """Takes back what was done."""


def kept(directory: LocalDirectory, kind: str, request: dict[str, Any]) -> str:
    """The name that a row gets by a request; nothing where it is refused. The directory is as before."""
    found = ""
    try:
        with directory.batch():
            before = names(directory, kind)
            perform(directory, request, hashed)
            (found,) = names(directory, kind) - before
            raise NotDone
    except NotDone:
        return found
    except ClientError as error:
        assert str(error).isprintable() or not isinstance(error, BadAddress), error
        return ""


def names(directory: LocalDirectory, kind: str) -> set[str]:
    rows: Sequence[Any] = list(getattr(directory, f"each_{'list' if kind == 'list' else kind}")())
    return {one.name if isinstance(one, Group) else one.address for one in rows}


@pytest.mark.parametrize("kind", OWN)
def test_the_names_that_may_be(directory: LocalDirectory, kind: str) -> None:
    """By a request, and by a new name for a row that is there, and by a file of a wanted state."""
    right = EVERYWHERE | OWN[kind]
    given = NEEDED[kind]
    if kind != "group":
        perform(directory, {"do": f"{kind}.add", "name": "old@example.test", "fields": dict(given)}, hashed)
    plural = next(one for one, single in PLURALS.items() if single == kind)
    for name in {*NAMES, *right} - {"ME@EXAMPLE.TEST"}:
        wanted = right.get(name, "")
        assert kept(directory, kind, {"do": f"{kind}.add", "name": name, "fields": dict(given)}) == wanted, name
        if kind != "group" and not name.startswith("@"):
            fields = {"to": name, "keep": False}
            moved = kept(directory, kind, {"do": f"{kind}.rename", "name": "old@example.test", "fields": fields})
            assert moved == wanted, name
        try:
            (step,) = steps(directory, {plural: {name: dict(given)}})
        except ClientError:
            assert not wanted or name == "ME@EXAMPLE.TEST", name
        else:
            assert kept(directory, kind, step.request) == wanted, name


DOMAIN_NAMES = {
    "Ex.TEST.": "ex.test",
    "Straße.example": "straße.example",
    "XN--Strae-oqa.example": "xn--strae-oqa.example",  # as it was written
    "ΒΌΛΟς.example": "βόλος.example",
    "ｆｕｌｌ。example": "full.example",
    "xn--ls8h.example": "xn--ls8h.example",  # of older rules: never shown otherwise
    "_dmarc.example": "_dmarc.example",
    "b" * 63 + ".test": "b" * 63 + ".test",
}


def test_the_domains_that_may_be(directory: LocalDirectory) -> None:
    for name, wanted in DOMAIN_NAMES.items():
        perform(directory, {"do": "domain.add", "name": name, "fields": {}}, hashed)
        found = directory.domain(name)
        assert found is not None and found.name == wanted
        with pytest.raises(DirectoryError):
            perform(directory, {"do": "domain.add", "name": wanted, "fields": {}}, hashed)
        perform(directory, {"do": "domain.remove", "name": wanted, "fields": {}}, hashed)
    there = {one.name for one in directory.each_domain()}
    for name in (
        SHAPES + DOMAINS + ("-a.test", "a-.test", "a b.test", "a,b.test", "::1", "127.0.0.1/8", "a\u202eb.test")
    ):
        for said in (name, name.rpartition("@")[2]):
            if directory.domain(said) is None and said != "full.test":
                with pytest.raises(ClientError):
                    perform(directory, {"do": "domain.add", "name": said, "fields": {}}, hashed)
    assert {one.name for one in directory.each_domain()} == there


OTHER_VALUES: tuple[Any, ...] = (None, True, -1, 1 << 70, 1.5, [], {}, ["\ud800"], [["a"]], {"a": 1}, "9" * 5000)
MORE_FIELDS = ("password", "hash", "to", "keep", "id", "members", "catch_all", "join", "leave")
ROWS = {
    "domain": "example.test",
    "account": USER,
    "alias": "alias@example.test",
    "group": "group@example.test",
    "list": "team@example.test",
    "member": "team@example.test",
    "app-password": USER,
}


@pytest.mark.parametrize("action", ACTIONS)
def test_requests(directory: LocalDirectory, action: str) -> None:
    """As a name and as the value of each field: done, or refused in words that JSON can have."""
    directory.put_alias(Alias("alias@example.test", ("x@away.example",)))
    directory.put_group("group@example.test", [USER])
    perform(directory, {"do": "list.add", "name": "team@example.test", "fields": {"owners": USER}}, hashed)
    kind = action.partition(".")[0]
    values = (*SHAPES, *OTHER_VALUES)
    asked = [{"do": action, "name": value, "fields": {}} for value in (*NAMES, *OTHER_VALUES)]
    for number, field in enumerate((*fields.KINDS[kind], *MORE_FIELDS), list(ACTIONS).index(action)):
        name = "new@example.test" if action in ("account.add", "list.add", "alias.add", "group.add") else ROWS[kind]
        given = NEEDED.get(kind, {}) if action.endswith(".add") else {}
        asked += [{"do": action, "name": name, "fields": {**given, field: value}} for value in taken(values, number)]
    for one in asked:
        try:
            with directory.batch():
                answer = batch._answer(directory, json.dumps(one).encode(), None)
                assert set(answer) > {"ok"} or answer["ok"]
                json.dumps(answer)
                raise NotDone
        except NotDone:
            pass
    assert directory.faults() == []


@pytest.mark.parametrize("line", [b"\xff\xfe", b'{"do": "domain.add", "name": "\xff"}', b"[1]", b"{", b"[" * 100_000])
def test_a_request_that_is_no_json(directory: LocalDirectory, line: bytes) -> None:
    assert batch._answer(directory, line, None)["ok"] is False


@pytest.mark.parametrize(
    "name", [one for one in (*SHAPES, *LOCAL_PARTS, *DOMAINS) if one.isascii() and one.lower() != USER]
)
def test_lines_of_accounts_and_members(place: Place, tmp_path: Path, name: str) -> None:
    """One bad line stops an import, and says which it is."""
    file = tmp_path / "lines"
    file.write_text(f"good@example.test:{HASH}\n{name}:{HASH}\n")
    done = place.call("account", "import", str(file), "--add-domains")
    assert not trouble(done.output.replace("forged: yes", "")) and done.exit_code in (0, 1), done.output
    assert done.exit_code == 0 or f"{file}:" in done.output
    place.run("list", "add", "team@example.test", f"owners={USER}")
    file.write_text(f"address,name\ngood@away.test,x\n{json.dumps(name)},x\n")
    done = place.call("list", "import", "team@example.test", str(file))
    assert not trouble(done.output) and done.exit_code in (0, 1), done.output
    is_sound(place)


@pytest.mark.parametrize("site", sites.ALL)
def test_databases_of_other_sites(place: Place, tmp_path: Path, site: str) -> None:
    """Each column with a text has each bad name in a row of its own: such a row stops no other."""
    base = sqlite3.connect(tmp_path / "site")
    made: sites.Site = sites.ALL[site]
    for table, columns in made.tables.items():
        base.execute(f"CREATE TABLE {table} ({columns.replace('WHEN', 'DATETIME')})")
    for table, row in made.rows:
        put(base, table, row)
    number, column_number = 1000, 0
    for table, row in dict(reversed(made.rows)).items():
        key = re.search(r"(\w+) [\w()]+ PRIMARY KEY", made.tables[table])
        for column, value in row.items():
            column_number += 1
            for name in taken((*SHAPES, '"a b"@one.test', "a\x85@one.test", "A@ONE.TEST"), column_number):
                number += 1
                own = {key[1]: number if isinstance(row[key[1]], int) else f"n{number}{row[key[1]]}"} if key else {}
                if isinstance(value, str) and not any("\ud800" <= one <= "\udfff" for one in name):
                    put(base, table, row | own | {column: name})
    base.commit()
    base.close()
    for more in ((), ("--apply",), ("--apply", "--overwrite", "--each")):
        done = place.call("migrate", "accounts", "--from", site, "--dsn", f"sqlite:{tmp_path / 'site'}", *more)
        assert done.exit_code in (0, 1) and not trouble(done.output), trouble(done.output)
    done = place.call("migrate", "plan", "--from", site, "--dsn", f"sqlite:{tmp_path / 'site'}", config=False)
    assert done.exit_code in (0, 1) and not trouble(done.output), trouble(done.output)
    is_sound(place)


def put(base: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    base.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def test_a_column_that_is_no_text(place: Place, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "site") as base:
        for one in sites.ISPMAIL.statements("sqlite"):
            base.execute(one)
        base.execute("INSERT INTO virtual_domains VALUES (7, CAST(x'ff' AS TEXT))")
    done = place.call("migrate", "accounts", "--from", "ispmail", "--dsn", f"sqlite:{tmp_path / 'site'}")
    assert done.exit_code in (1, 75) and not trouble(done.output)


@pytest.mark.parametrize("kind", ["maildir", "courier"])
def test_maildirs(place: Place, tmp_path: Path, kind: str) -> None:
    """Directories with such names are no accounts, or not those of a line that looks like ours."""
    top = tmp_path / "mail"
    for name in (*SHAPES, ".hidden", "a b", "ME", "é"):
        for where in (f"example.test/{name}", f"{name}/me"):
            if name and "/" not in name and "\0" not in name and name != ".." and len(name) < 250:
                os.makedirs(top / where / "cur", exist_ok=True)
                os.makedirs(top / where / "new", exist_ok=True)
    out = tmp_path / "plan"
    done = place.call("migrate", "plan", "--from", kind, "--mail", str(top), "--out", str(out), config=False)
    assert done.exit_code in (0, 1) and not trouble(done.output), done.output
    for line in (out / "accounts").read_text().splitlines():
        assert "forged" not in line
