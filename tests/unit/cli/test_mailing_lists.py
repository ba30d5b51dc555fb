"""`fastmail list`: mailing lists, their members one by one and by the file."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.place import USER, Place

CREW = "crew@example.test"


@pytest.fixture
def crew(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.run("list", "add", CREW, f"owners={USER}", "name=The crew", "mode=public")
    return place


def members(place: Place, *words: str) -> list[str]:
    return [row["address"] for row in place.rows("list", "members", CREW, *words)]


def test_lists(crew: Place) -> None:
    crew.run("list", "set", CREW, "mode=announcers", "announcers=x@far.test", "tag=[c]")
    shown = json.loads(crew.run("list", "show", CREW, "--json"))
    assert (shown["list"], shown["members"], shown["mode"], shown["announcers"]) == (
        CREW,
        0,
        "announcers",
        ["x@far.test"],
    )
    crew.run("list", "disable", CREW)
    (row,) = crew.rows("list", "list", "example.test")
    assert (row["list"], row["state"], row["owners"]) == (CREW, "off", [USER])
    crew.run("list", "enable", CREW)
    assert crew.rows("list", "list", "other.test") == [] and crew.rows("list", "list")[0]["state"] == "on"
    assert '"lists": 1' in crew.run("domain", "show", "example.test", "--json")
    assert "needs an owner" in crew.run("list", "add", "two@example.test", "mode=public", code=1)
    assert "no list" in crew.run("list", "show", "two@example.test", code=67)
    assert "mode" in crew.run("list", "set", CREW, "mode=loud", code=2)
    assert "0 members" in crew.run("list", "remove", CREW) and crew.rows("list", "list") == []


def test_members_one_by_one(crew: Place) -> None:
    assert "2 members, 2 new" in crew.run("list", "member", "add", CREW, "b@far.test", "a@far.test")
    crew.run("list", "member", "add", CREW, "c@far.test", "--name", "Cäsar")
    assert members(crew) == ["a@far.test", "b@far.test", "c@far.test"] and members(crew, "--match", "cäs") == [
        "c@far.test"
    ]
    assert members(crew, "--after", "a@far.test", "--limit", "1") == ["b@far.test"]
    crew.run("list", "member", "suspend", CREW, "A@far.test", "b@far.test")
    states = [row["state"] for row in crew.rows("list", "members", CREW)]
    assert states == ["suspended", "suspended", "active"]
    crew.run("list", "member", "resume", CREW, "a@far.test")
    assert "no member" in crew.run("list", "member", "remove", CREW, "a@far.test", "nobody@far.test", code=67)
    assert len(members(crew)) == 3, "all or none"
    crew.run("list", "member", "remove", CREW, "a@far.test", "b@far.test")
    assert crew.run("list", "members", CREW, "--csv").splitlines()[1].startswith("c@far.test,Cäsar,active,0,-,")
    assert "is a mailing list" in crew.run("list", "member", "add", CREW, CREW, code=1)
    crew.run("list", "member", "add", CREW, "no address", code=2)


def test_a_file_of_addresses(crew: Place, tmp_path: Path) -> None:
    file = tmp_path / "members.txt"
    file.write_text('# ours\nb@far.test\n\n"An, A." <a@far.test>\nnot one\nb@far.test\n', "utf-8")
    assert "3 members, 3 new, 1 bad line" in crew.run("list", "import", CREW, str(file), code=1)
    assert members(crew) == []
    said = crew.run("list", "import", CREW, str(file), "--skip-bad", "--dry-run")
    assert "would add: 3 members" in said and members(crew) == []
    assert "3 members, 2 new" in crew.run("list", "import", CREW, str(file), "--skip-bad")
    assert [(row["address"], row["name"]) for row in crew.rows("list", "members", CREW)] == [
        ("a@far.test", "An, A."),
        ("b@far.test", ""),
    ]
    assert "2 members" in crew.run("audit", CREW)


def test_a_file_with_names_of_columns(crew: Place, tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text(
        'Name,Address,state,joined,more\n"Ä, B",a@far.test,,2024-05-06,x\nC,c@far.test,Suspended,,\n', "utf-8-sig"
    )
    crew.run("list", "import", CREW, str(file))
    (a, c) = crew.rows("list", "members", CREW)
    assert (a["name"], a["state"], a["joined"]) == ("Ä, B", "active", "2024-05-06T00:00:00Z")
    assert (c["name"], c["state"]) == ("C", "suspended")
    file.write_text(crew.run("list", "members", CREW, "--csv"))
    assert "2 members, 0 new" in crew.run("list", "import", CREW, str(file), "--replace")
    assert crew.rows("list", "members", CREW) == [a, c], "what is shown can be read again"
    file.write_text("address,state\nx@far.test,asleep\n")
    assert "none of active" in crew.run("list", "import", CREW, str(file), code=1)
    assert "cannot read" in crew.run("list", "import", CREW, str(tmp_path / "nothing"), code=1)


def test_wanted_states(crew: Place, tmp_path: Path) -> None:
    file = tmp_path / "wanted.toml"
    file.write_text(f'[lists."{CREW}"]\ntag = "[d]"\n[lists."new@example.test"]\nowners = ["{USER}"]\n')
    changes = {row["do"]: row["change"] for row in crew.rows("apply", str(file), "--yes")}
    assert changes[f"list.set {CREW}"] == "tag: none -> [d]" and "list.add new@example.test" in changes
    assert crew.rows("apply", str(file), "--yes") == []
