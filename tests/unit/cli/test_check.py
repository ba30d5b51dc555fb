"""``fastmail check`` finds what is wrong and mends what it can; ``fastmail upgrade`` says what is kept how."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastmail.cli import upgrading
from fastmail.durable import layouts
from fastmail.model.errors import StorageFailed
from fastmail.store.local.index import first_layout, shard
from tests.unit.cli.place import USER, Place

LAYOUTS = Path(__file__).parents[2] / "data" / "layouts"


def test_a_message_that_is_gone_is_found_and_mended(place: Place) -> None:
    place.deliver("one", "two")
    assert place.run("check") == "all is well\n"
    place.files()[0].unlink()
    (found,) = place.rows("check", code=1)
    assert found["where"] == f"{USER} INBOX" and found["mended"] == "run with --repair"
    (mended,) = place.rows("check", "--repair")
    assert mended["mended"] == "rebuilt from the files"
    assert place.run("check") == "all is well\n"


def test_an_alias_that_leads_nowhere(place: Place) -> None:
    place.run("account", "add", "gone@example.test", "--password-stdin", stdin="x\n")
    place.run("alias", "add", "team@example.test", "gone@example.test")
    place.run("account", "remove", "gone@example.test")
    (found,) = place.rows("check", code=1)
    assert found["where"] == "alias team@example.test" and "gone@example.test" in found["problem"]


@pytest.mark.parametrize("words", [("account", "set", USER, "receives=no"), ("domain", "disable", "example.test")])
def test_an_alias_of_somebody_who_takes_no_mail_now(place: Place, words: tuple[str, ...]) -> None:
    """Somebody wanted it so: the alias is right, and there is nothing to mend."""
    place.run("alias", "add", "team@example.test", USER)
    place.run(*words)
    assert place.run("check") == "all is well\n"


def test_layouts_are_those_of_this_version(place: Place) -> None:
    place.deliver("one")
    rows = place.rows("upgrade", "--dry-run")
    assert {"directory", "index-0"} <= {row["what"] for row in rows}
    assert all(row["layout"] == row["here"] and row["then"] == "nothing to do" for row in rows)
    assert place.rows("upgrade") == rows


@pytest.fixture
def old(tmp_path: Path) -> Place:
    """A server whose index and directory have their first layouts."""
    with tarfile.open(LAYOUTS / "index-0.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    place = object.__new__(Place)
    place.base, place.config = tmp_path / "s", tmp_path / "s" / "fastmail.toml"
    return place


def upgraded(place: Place) -> list[dict[str, Any]]:
    """What `upgrade` says on standard error."""
    done = place.call("upgrade", "--json")
    assert done.exit_code == 0, done.output
    assert all(row["then"] in ("done", "nothing to do") for row in json.loads(done.stdout))
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{") and '"rows"' in line]


def test_an_upgrade_says_how_far_it_has_come(old: Place) -> None:
    before = {row["what"]: row for row in old.rows("upgrade", "--dry-run")}
    assert before["index-0"]["then"] == f"layout {before['index-0']['here']} at the next start"
    assert {row["what"]: row for row in old.rows("upgrade", "--dry-run")} == before, "a dry run changes nothing"
    told = upgraded(old)
    for name in ("directory", "index-0"):
        mine = [(one["done"], one["rows"]) for one in told if one["what"] == name]
        assert mine[0][0] == 0 and mine[-1][0] == mine[-1][1] > 0
    assert old.run("check") == "all is well\n" and upgraded(old) == []


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_an_upgrade_that_is_cut_short_goes_on(old: Place, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """What was done stays done, also of an index that is half converted."""
    monkeypatch.setattr(layouts, "ROWS", 2)
    left = parts

    def killed(*args: Any) -> bool:
        nonlocal left
        if not left:
            raise StorageFailed("the disk was taken out")
        left -= 1
        return first_layout.convert(*args)

    with monkeypatch.context() as patched:
        patched.setattr(shard, "FORMER", tuple(replace(one, convert=killed) for one in shard.FORMER))
        assert "the disk was taken out" in old.call("upgrade").output
    rows = {row["what"]: row["then"] for row in old.rows("upgrade", "--dry-run")}
    assert rows["directory"] == "nothing to do" and "at the next start" in rows["index-0"]
    assert {one["what"] for one in upgraded(old)} == {"index-0"} and old.run("check") == "all is well\n"


def test_lines_of_an_upgrade_are_few_and_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(upgrading.errors, "print", lambda text, **how: said.append(text))
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    lines = upgrading.Lines("/data", False)
    for done in range(0, 1001, 10):
        clock[0] += 0.5
        lines.tell("/data/index-0", done, 1000)
    assert said[0] == "index-0: 0 of 1000 rows" and said[-1] == "index-0: 1000 of 1000 rows"
    assert said[1] == "index-0: 100 of 1000 rows, about 45 s left" and len(said) == 11
