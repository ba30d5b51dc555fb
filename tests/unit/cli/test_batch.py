"""``fastmail batch``: what has come is one transaction, however many reads it takes, and new names. ``fastmail apply``:
groups and lists."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from fastmail.cli import batch
from tests.unit.cli.place import USER, Place

REQUESTS = b"".join(b'{"do": "account.set", "name": "user%d@d.test"}\n' % n for n in range(50))


@pytest.fixture
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that gives 100 octets at a time."""
    read = os.read
    monkeypatch.setattr(batch.os, "read", lambda source, most: read(source, min(most, 100)))


@pytest.mark.usefixtures("short_reads")
def test_what_has_come_is_taken_together() -> None:
    source, sink = os.pipe()
    os.write(sink, REQUESTS)
    chunks = batch._chunks(source)
    assert next(chunks) == REQUESTS, "though the writer has not ended"
    os.write(sink, b"last\n")
    os.close(sink)
    assert list(chunks) == [b"last\n"]
    os.close(source)


@pytest.mark.usefixtures("short_reads")
def test_no_more_than_a_chunk_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHUNK", 1000)
    source, sink = os.pipe()
    os.write(sink, REQUESTS)
    os.close(sink)
    found = list(batch._chunks(source))
    assert b"".join(found) == REQUESTS and max(map(len, found)) == 1000
    os.close(source)


class Batch(Protocol):
    def __call__(self, *requests: Mapping[str, object], code: int = 0) -> list[dict[str, object]]: ...


@pytest.fixture
def asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Requests that come together, and their answers."""

    def ask(*requests: Mapping[str, object], code: int = 0) -> list[dict[str, object]]:
        monkeypatch.setattr(batch, "_arrived", lambda: iter([[json.dumps(one).encode() for one in requests]]))
        said = place.run("batch", code=code)
        return [json.loads(line) for line in said.splitlines() if line.startswith("{")]

    return ask


def rename(what: str, name: str, to: str, **more: object) -> dict[str, object]:
    return {"do": f"{what}.rename", "name": name, "fields": {"to": to, **more}}


def test_new_names(place: Place, asked: Batch) -> None:
    made = {"do": "account.add", "name": "a@example.test", "fields": {"hash": "{PLAIN}x"}}
    first, done, again, whole = asked(
        made,
        rename("account", "A@example.test", "b@example.test"),
        rename("account", "b@example.test", "c@example.test"),
        rename("domain", "example.test", "example.net"),
        code=1,
    )
    assert first["ok"] and done == {"ok": True, "name": "b@example.test"}
    assert not again["ok"] and not whole["ok"] and "moment ago" in str(again["error"])
    assert place.rows("alias", "list", "--match", "a@example.test")[0]["targets"] == ["b@example.test"]
    (done,) = asked(rename("account", "b@example.test", "c@example.test", keep=False))
    (done,) = asked(rename("domain", "example.test", "example.net"))
    assert done == {"ok": True, "name": "example.net"}
    assert {row["address"] for row in place.rows("account", "list")} == {"me@example.net", "c@example.net"}


@pytest.mark.parametrize("more", [{}, {"to": ""}, {"to": 5}, {"to": "b@example.test", "what": 1}, {"to": "x"}])
def test_a_new_name_that_is_none(place: Place, asked: Batch, more: dict[str, object]) -> None:
    (said,) = asked({"do": "account.rename", "name": USER, "fields": more}, code=1)
    assert not said["ok"] and place.rows("account", "list")[0]["address"] == USER


def test_names_of_accounts_that_another_program_keeps(place: Place, asked: Batch) -> None:
    (place.base / "passwd").write_text("")
    text = place.config.read_text()
    place.config.write_text(f'{text}\n[directory]\npasswd_file = "{place.base / "passwd"}"\n')
    (said,) = asked(rename("account", USER, "b@example.test"), code=1)
    assert "another program" in str(said["error"])


def test_groups_and_lists_that_are_wanted(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "wanted.toml"
    file.write_text(
        f"""
        [lists."team@example.test"]
        owners = ["new@example.test"]
        members = ["x@far.test", {{address = "y@far.test", name = "Y", state = "suspended"}}]
        [groups."sales@example.test"]
        members = ["{USER}", "new@example.test"]
        [accounts."new@example.test"]
        hash = "{{PLAIN}}x"
        """
    )
    said = {row["do"]: row["change"] for row in place.rows("apply", str(file), "--dry-run")}
    assert said["group.add sales@example.test"] == f"members: +{USER}, +new@example.test"
    assert said["list.add team@example.test"].endswith("members: +x@far.test, +y@far.test")
    assert place.rows("group", "list") == place.rows("list", "list") == []
    place.run("apply", str(file), "--yes")
    assert place.rows("apply", str(file), "--yes") == []
    team = {row["address"]: (row["name"], row["state"]) for row in place.rows("list", "members", "team@example.test")}
    assert team == {"x@far.test": ("", "active"), "y@far.test": ("Y", "suspended")}
    file.write_text(
        f"""
        lists."team@example.test".members = ["y@far.test", "z@far.test"]
        groups."sales@example.test".members = ["{USER}"]
        """
    )
    changed = {row["do"]: row["change"] for row in place.rows("apply", str(file), "--yes")}
    assert changed == {
        "group.set sales@example.test": "members: -new@example.test",
        "list.set team@example.test": "members: +z@far.test, -x@far.test",
    }
    rows = place.rows("list", "members", "team@example.test")
    assert [(row["address"], row["state"]) for row in rows] == [("y@far.test", "suspended"), ("z@far.test", "active")]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ('lists."l@example.test" = {members = ["x@far.test"]}', "needs an owner"),
        ('lists."l@example.test" = {owners = ["me@example.test"], members = ["l@example.test"]}', "is a mailing list"),
        ('lists."l@example.test" = {owners = ["me@example.test"], members = 5}', "a list of addresses"),
        ('lists."l@example.test" = {owners = ["me@example.test"], members = [{name = "x"}]}', "needs an address"),
        ('groups."g@example.test" = {members = ["no@example.test"]}', "no account"),
        ('groups."g@example.test" = {join = ["me@example.test"]}', "can be wanted"),
        ('groups."g@other.test" = {members = ["me@example.test"]}', "not a domain"),
    ],
)
def test_a_state_that_cannot_be_changes_nothing(place: Place, tmp_path: Path, wanted: str, why: str) -> None:
    file = tmp_path / "wanted.toml"
    file.write_text(wanted)
    said = place.call("apply", str(file), "--yes")
    assert said.exit_code != 0 and why in said.output
    assert place.rows("group", "list") == place.rows("list", "list") == []


def test_in_the_name_of_an_administrator(place: Place, asked: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its role says what may be done, and the audit log who did it."""
    place.run("account", "set", USER, "role=domain", f"administers={USER.rpartition('@')[2]}")
    requests = [
        {"do": "alias.add", "name": f"info@{USER.rpartition('@')[2]}", "fields": {"targets": [USER]}},
        {"do": "domain.add", "name": "new.test"},
    ]
    monkeypatch.setattr(batch, "_arrived", lambda: iter([[json.dumps(one).encode() for one in requests]]))
    said = [json.loads(line) for line in place.run("batch", "--as", USER, code=1).splitlines() if line.startswith("{")]
    assert [one["ok"] for one in said] == [True, False] and "does not administer new.test" in said[1]["error"]
    assert f"{USER}" in place.run("audit", "--last", "1", "--json") and "alias add" in place.run("audit", "--last", "1")


def test_a_dry_run_answers_and_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [{"do": "domain.add", "name": "new.test"}, {"do": "domain.show", "name": "new.test"}, {"do": "x"}]
    monkeypatch.setattr(batch, "_arrived", lambda: iter([[json.dumps(one).encode() for one in requests]]))
    said = place.run("batch", "--dry-run", code=1)
    assert [json.loads(line)["ok"] for line in said.splitlines() if line.startswith("{")] == [True, True, False]
    assert "there is no domain new.test" in place.call("domain", "show", "new.test").output


def test_a_table(place: Place) -> None:
    table = (
        "name,hash,quota_storage,forward,name_for_nobody\n"
        'one@example.test,{PLAIN}x,1G,"a@far.test, b@far.test",\n'
        "two@example.test,{PLAIN}x,,,\n"
        "three@example.test,,,,\n"
    )
    answers = [
        json.loads(line)
        for line in place.run("batch", "--csv", "account.add", stdin=table, code=1).splitlines()
        if line.startswith("{")
    ]
    assert [(one["id"], one["ok"]) for one in answers] == [(2, True), (3, True), (4, False)]
    shown = json.loads(place.run("account", "show", "one@example.test", "--json"))
    assert (shown["quota_storage"], shown["forward"]) == (1 << 30, ["a@far.test", "b@far.test"])
    for bad in ("address,hash\nx,y\n", "name,hash\na@b,c,d\n", 'name\n"a\n'):
        assert place.call("batch", "--csv", "account.add", stdin=bad).exit_code


def test_a_catch_all_keeps_what_else_is_set(place: Place, asked: Batch) -> None:
    domain = USER.rpartition("@")[2]
    requests = [
        {"do": "domain.set", "name": domain, "fields": {"catch_all": to}} for to in (USER, [USER, "x@far.test"])
    ]
    asked(requests[0])
    place.run("alias", "set", f"@{domain}", "internal=yes", "note=mine")
    asked(requests[1])
    shown = json.loads(place.run("alias", "show", f"@{domain}", "--json"))
    assert (shown["targets"], shown["internal"], shown["note"]) == ([USER, "x@far.test"], True, "mine")
    place.run("domain", "set", domain, f"catch_all={USER}")
    assert json.loads(place.run("alias", "show", f"@{domain}", "--json"))["internal"] is True
    both = {"do": "domain.set", "name": domain, "fields": {"catch_all": "", "description": "x"}}
    assert "of its own" in str(asked(both, code=1)[0]["error"])
    asked({"do": "domain.set", "name": domain, "fields": {"catch_all": ""}})
    assert place.call("alias", "show", f"@{domain}").exit_code


def test_a_catch_all_that_is_wanted(place: Place, tmp_path: Path) -> None:
    """In the table of its domain, as `domain set` has it, also of one that is new; doing it twice changes nothing."""
    file = tmp_path / "wanted.toml"
    file.write_text(
        f"""
        [domains."example.test"]
        description = "x"
        catch_all = "new@new.test"
        [domains."new.test"]
        catch_all = ["{USER}", "x@far.test"]
        [accounts."new@new.test"]
        hash = "{{PLAIN}}x"
        """
    )
    said = {row["do"]: row["change"] for row in place.rows("apply", str(file), "--yes")}
    assert said["alias.add @example.test"].endswith("targets: none -> new@new.test")
    assert said["domain.set example.test"] == "description: none -> x"
    assert place.rows("apply", str(file), "--yes") == []
    shown = json.loads(place.run("domain", "show", "new.test", "--json"))
    assert shown["catch_all"] == [USER, "x@far.test"]
    file.write_text(f'domains."new.test".catch_all = "{USER}"\ndomains."example.test".catch_all = []\n')
    said = {row["do"]: row["change"] for row in place.rows("apply", str(file), "--yes")}
    assert said == {
        "alias.set @new.test": f"targets: {USER},x@far.test -> {USER}",
        "alias.remove @example.test": "targets: new@new.test -> none",
    }
    assert place.rows("apply", str(file), "--yes") == []
    file.write_text('domains."new.test".catch_all = "no@example.test"\n')
    assert "nobody here gets mail" in place.run("apply", str(file), "--yes", code=67)


def test_requests_that_go_another_way(asked: Batch) -> None:
    shown, removed, added = asked(
        {"do": "domain.show", "name": "example.test"},
        {"do": "account.remove", "name": USER},
        {"do": "domain.add", "name": "new.test", "fields": {"catch_all": USER}},
        code=1,
    )
    assert shown["catch_all"] == []
    assert "`fastmail account remove" in str(removed["error"]) and "a request of its own" in str(added["error"])
