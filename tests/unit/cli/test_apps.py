"""``fastmail app-password``, and the same by batch and apply."""

import json
from pathlib import Path

from tests.unit.cli.place import USER, Place
from tests.unit.cli.test_batch import Batch, asked

__all__ = ["asked"]  # a fixture


def made(place: Place) -> str:
    return str(json.loads(place.run("app-password", "add", USER, "phone", "--json"))["id"])


def state(place: Place, ident: str) -> str:
    (row,) = place.rows("app-password", "list", USER)
    assert row["id"] == ident
    assert f"state      {row['state']}" in place.run("app-password", "show", USER, ident)
    return str(row["state"])


def test_it_is_switched_off_and_on(place: Place) -> None:
    ident = made(place)
    assert state(place, ident) == "on"
    assert "switched off phone" in place.run("app-password", "disable", USER, ident)
    assert state(place, ident) == "off"
    assert "switched on phone" in place.run("app-password", "enable", USER, ident)
    assert state(place, ident) == "on"
    place.run("app-password", "set", USER, ident, "enabled=no", "name=tablet")
    assert state(place, ident) == "off"
    said = place.run("app-password", "disable", USER, "nothere", code=67)
    assert f"`fastmail app-password list {USER}` shows them" in said
    assert "enabled: no -> yes" in place.run("audit", USER)


def test_one_that_is_too_old_says_so(place: Place) -> None:
    ident = made(place)
    place.run("app-password", "set", USER, ident, "expires=2020-01-31")
    assert state(place, ident) == "expired"
    place.run("app-password", "set", USER, ident, "expires=2999-01-31")
    assert state(place, ident) == "on"


def test_by_batch(place: Place, asked: Batch) -> None:
    ident = made(place)
    done, shown = asked(
        {"do": "app-password.set", "name": USER, "fields": {"id": ident, "enabled": False}},
        {"do": "app-password.show", "name": USER},
    )
    assert done["ok"] and shown["app_passwords"][0]["enabled"] is False and state(place, ident) == "off"  # type: ignore[index]


def test_by_a_wanted_state(place: Place, tmp_path: Path) -> None:
    ident = made(place)
    file = tmp_path / "wanted.toml"
    file.write_text(f'[app_passwords."{USER}/{ident}"]\nenabled = false\nname = "old phone"\n')
    (row,) = place.rows("apply", str(file), "--yes")
    assert "enabled: yes -> no" in row["change"] and state(place, ident) == "off"
    assert place.rows("apply", str(file), "--yes") == []
    for name, code in ((f"{USER}/nothere", 67), (USER, 2), (f"nobody@example.test/{ident}", 67)):
        file.write_text(f'[app_passwords."{name}"]\nenabled = true\n')
        place.run("apply", str(file), "--yes", code=code)
    assert state(place, ident) == "off"


def test_the_last_changes_of_one(place: Place) -> None:
    """``--last`` counts those that are asked for, by name and by text."""
    for number in range(3):
        place.run("account", "set", USER, f"name=N{number}")
        place.run("domain", "set", "example.test", f"description=D{number}")
    assert [row["change"] for row in place.rows("audit", USER, "--last", "2")] == ["name: N0 -> N1", "name: N1 -> N2"]
    rows = place.rows("audit", "--match", "domain set", "--last", "2")
    assert [row["change"] for row in rows] == ["description: D0 -> D1", "description: D1 -> D2"]
    assert len(place.rows("audit", "--match", "domain set", "--last", "0")) == 3
    assert len(place.rows("audit", "Example.TEST", "--last", "1")) == 1
