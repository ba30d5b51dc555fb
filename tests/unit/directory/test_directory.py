"""The built-in directory."""

from pathlib import Path

import pytest

from fastmail.directory.local import DirectoryError, LocalDirectory


@pytest.fixture
def place(tmp_path: Path) -> LocalDirectory:
    made = LocalDirectory(str(tmp_path))
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x"), ("b@d.test", "{PLAIN}y")])
    return made


def test_accounts_have_ids_of_their_own_for_ever(place: LocalDirectory) -> None:
    first = place.account("a@d.test")
    assert first is not None and place.account_by_id(first.id) == first
    place.remove_account("a@d.test")
    assert place.account("a@d.test") is None and place.account_by_id(first.id) is None
    place.add_accounts([("a@d.test", "{PLAIN}x")])
    again = place.account("a@d.test")
    assert again is not None and again.id != first.id


def test_all_or_none(place: LocalDirectory) -> None:
    with pytest.raises(DirectoryError, match="not a domain"):
        place.add_accounts([("new@d.test", "{PLAIN}x"), ("x@other.test", "{PLAIN}x")])
    assert place.account("new@d.test") is None
    with pytest.raises(DirectoryError, match="already there"):
        place.add_accounts([("a@d.test", "{PLAIN}x")])


def test_resolution(place: LocalDirectory) -> None:
    def who(address: str) -> list[str]:
        return [a.address for a in place.resolve(address)]

    place.add_alias("team@d.test", ["a@d.test", "b@d.test"])
    place.add_alias("all@d.test", ["team@d.test", "a+x@d.test"])
    assert who("A@D.test") == ["a@d.test"] and who("a+list@d.test") == ["a@d.test"]
    assert who("all@d.test") == ["a@d.test", "b@d.test"] and who("team+x@d.test") == ["a@d.test", "b@d.test"]
    assert who("none@d.test") == []
    place.add_alias("@d.test", ["b@d.test"])
    assert who("none@d.test") == ["b@d.test"] and who("x@e.test") == []
    a = place.account("a@d.test")
    assert a is not None
    assert place.may_send_as(a, "team@d.test") and place.may_send_as(a, "a+z@d.test")
    assert not place.may_send_as(a, "b@d.test") and not place.may_send_as(a, "free@d.test")


def test_refusals_say_what_to_do(place: LocalDirectory) -> None:
    for call, text in (
        (lambda: place.add_domain("d.test"), "already"),
        (lambda: place.remove_domain("d.test"), "still has 2 addresses"),
        (lambda: place.remove_domain("e.test"), "domain list"),
        (lambda: place.add_alias("a@d.test", ["b@d.test"]), "already an account"),
        (lambda: place.add_alias("x@d.test", ["out@world.test"]), "nobody here"),
        (lambda: place.add_alias("x@e.test", ["a@d.test"]), "domain add"),
        (lambda: place.remove_alias("x@d.test"), "alias list"),
        (lambda: place.set_password("x@d.test", "{PLAIN}x"), "account list"),
    ):
        with pytest.raises(DirectoryError, match=text):
            call()
