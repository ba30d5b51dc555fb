"""Sieve scripts of accounts, in memory and on the disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.directory import scripts
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import Script
from tests.support.directories import MAKERS

A = "a@d.test"


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made = MAKERS[request.param](tmp_path)
    made.add_domain("d.test")
    made.add_accounts([(A, "{PLAIN}x"), ("b@d.test", "{PLAIN}x")])
    yield made
    made.close()


def test_they_are_kept_by_name(place: Mailing) -> None:
    one, two = Script("work", "keep;\n", True), Script("old é", "stop;\r\n", stage="prefilter")
    assert place.put_script("A@d.test", one) and place.put_script(A, two) and not place.put_script(A, one)
    assert place.scripts(1) == [two, one] and place.scripts(2) == []
    changed = Script("work", "discard;\n")
    assert place.put_script(A, changed) and place.scripts(1) == [two, changed]
    place.remove_script(A, "old é")
    assert place.scripts(1) == [changed]
    with pytest.raises(NoSuchUser, match="has no script"):
        place.remove_script(A, "old é")
    with pytest.raises(NoSuchUser):
        place.put_script("nobody@d.test", one)
    assert "keep;" not in "".join(row.text for row in place.audit())


def test_they_follow_the_account(place: Mailing) -> None:
    place.put_script(A, Script("work", "keep;"))
    place.rename_account(A, "c@d.test", keep=False)
    assert place.scripts(1) == [Script("work", "keep;")]
    place.remove_account("c@d.test")
    assert place.scripts(1) == []


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "a\0"])
def test_names_that_are_none(place: Mailing, name: str) -> None:
    with pytest.raises(DirectoryError, match="name of a script"):
        place.put_script(A, Script(name, "keep;"))


def test_bounds(place: Mailing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MOST", 2)
    with pytest.raises(DirectoryError, match="octets"):
        place.put_script(A, Script("big", "é" * (scripts.LONGEST // 2 + 1)))
    for name in ("one", "two", "one"):
        place.put_script(A, Script(name, "é" * (scripts.LONGEST // 2)))
    with pytest.raises(DirectoryError, match="has 2 scripts"):
        place.put_script(A, Script("three", ""))
