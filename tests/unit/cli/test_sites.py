"""``fastmail migrate plan --from SITE`` and ``fastmail migrate accounts``: what is said, what is done, and twice."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from tests.support import sites
from tests.unit.cli.place import Place


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    """A PostfixAdmin."""
    path = tmp_path / "site"
    with sqlite3.connect(path) as base:
        for one in sites.POSTFIXADMIN.statements("sqlite"):
            base.execute(one)
    return f"sqlite:{path}"


def words(dsn: str, *more: str) -> tuple[str, ...]:
    return ("migrate", "accounts", "--from", "postfixadmin", "--dsn", dsn, *more)


def counts(rows: list[dict[str, object]]) -> Counter[tuple[str, str]]:
    out: Counter[tuple[str, str]] = Counter()
    for row in rows:
        out[str(row["state"]), str(row["kind"])] += int(str(row["count"]))
    return out


def test_a_plan_of_a_site(place: Place, dsn: str) -> None:
    done = place.call("migrate", "plan", "--from", "postfixadmin", "--dsn", dsn, "--json", config=False)
    assert done.exit_code == 1, done.output  # rows are in the way
    rows = json.loads(done.stdout)
    found = {(row["what"], row["theirs"]): row["state"] for row in rows}
    assert found["domains", "4"] == found["accounts", "4"] == found["aliases", "5"] == "same"
    assert found["account", "odd@two.test"] == found["alias", "ring@one.test"] == "in the way"
    assert found["alias", "team@one.test"] == "clients notice"
    assert found["mail that is fetched elsewhere", "2"] == "not here"
    assert found["addresses of domains that are only relayed", "1: x@backup.test"] == "not here"
    assert "$2y$" not in done.stdout


def test_it_is_tried_done_and_done_again(place: Place, dsn: str) -> None:
    said = place.rows(*words(dsn), code=1)
    assert len(place.rows("account", "list")) == 1  # only said
    assert "nothing was changed" in place.run(*words(dsn), code=1)
    done = place.rows(*words(dsn, "--apply"), code=1)
    assert said == done
    taken = counts(done)
    assert taken["new", "domain"] == 4 and taken["new", "account"] == 4 and taken["new", "alias"] == 5
    assert taken["skipped", "account"] == 3 and taken["skipped", "alias"] == 4 and taken["in part", "alias"] == 1
    accounts = {row["address"]: row for row in place.rows("account", "list")}
    assert accounts["anna@one.test"]["scheme"] == "BLF-CRYPT" and accounts["carl@two.test"]["state"] == "off"
    shown = json.loads(place.run("account", "show", "anna@one.test", "--json"))
    assert shown["answer_text"] == "I'm away\nuntil June" and shown["role"] == "domain"
    before = len(place.rows("audit"))
    again = counts(place.rows(*words(dsn, "--apply"), code=1))
    assert again["same", "account"] == 4 and again["same", "alias"] == 5
    assert not {state for state, _ in again} & {"new", "changed", "differs"}
    assert len(place.rows("audit")) == before


def test_differences_and_each_row(place: Place, dsn: str) -> None:
    each = place.rows(*words(dsn, "--each"), code=1)
    assert "info@one.test" in [row["name"] for row in each if row["state"] == "new"]
    place.run(*words(dsn, "--apply"), code=1)
    place.run("account", "set", "dora@two.test", "name=Mine")
    (row,) = [row for row in place.rows(*words(dsn), code=1) if row["state"] == "differs"]
    assert row["name"] == "dora@two.test" and row["text"] == "name: Mine -> Dora"
    assert counts(place.rows(*words(dsn, "--apply", "--overwrite"), code=1))["changed", "account"] == 1
    assert json.loads(place.run("account", "show", "dora@two.test", "--json"))["name"] == "Dora"


def test_the_database_is_named_on_standard_input(place: Place, dsn: str) -> None:
    done = place.run("migrate", "accounts", "--from", "postfixadmin", "--dsn", "-", stdin=dsn + "\n", code=1)
    assert "odd@two.test" in done and dsn not in done


@pytest.mark.parametrize(
    ("more", "code", "say"),
    [
        (("--from", "sendmail", "--dsn", "sqlite:x"), 2, "--from is one of postfixadmin"),
        (("--from", "postfixadmin"), 2, "--dsn is needed"),
        (("--from", "postfixadmin", "--dsn", "oracle://x/y"), 1, "--dsn is postgresql"),
        (("--from", "mailcow", "--dsn", "mssql://x/y"), 2, "hmailserver only"),
        (("--from", "mailcow", "--dsn", "sqlite:/nowhere/x"), 1, "/nowhere/x: there is no such file"),
    ],
)
def test_what_cannot_be_done_is_said(place: Place, more: tuple[str, ...], code: int, say: str) -> None:
    assert say in place.run("migrate", "accounts", *more, code=code)


def test_a_plan_of_a_site_writes_no_files(place: Place, dsn: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = place.call("migrate", "plan", "--from", "ispmail", "--dsn", dsn, "--out", str(out), config=False)
    assert done.exit_code == 2 and "fastmail migrate accounts" in done.output and not out.exists()
