"""The built-in directory."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.external import Content, apply
from fastmail.directory.interface import Line
from fastmail.directory.local import LocalDirectory
from fastmail.directory.rows import address_key
from fastmail.directory.tables import LmdbTables
from fastmail.model.errors import CorruptData
from fastmail.model.quota import Quota


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


def test_a_sender_by_an_alias_costs_one_row(place: LocalDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Submission asks for each message: an alias that names its account is known by its own row, without a search. A
    change counts at once all the same."""
    for name in ("one@d.test", "two@d.test", "three@d.test"):
        place.add_alias(name, ["B@D.test", "a@d.test"])
    account = place.account("a@d.test")
    assert account is not None and place.may_send_as(account, "one@d.test")
    asked: list[str] = []
    get = place._tables.get
    monkeypatch.setattr(place._tables, "get", lambda table, key: asked.append(table) or get(table, key))
    assert place.may_send_as(account, "two@d.test") and place.may_send_as(account, "Three@D.TEST")
    assert asked == ["aliases", "aliases"] and not place._memory.found
    place.change_alias("two@d.test", lambda one: replace(one, targets=("b@d.test",)))
    assert not place.may_send_as(account, "two@d.test") and place.may_send_as(account, "three@d.test")


def test_refusals_say_what_to_do(place: LocalDirectory) -> None:
    for call, text in (
        (lambda: place.add_domain("d.test"), "already"),
        (lambda: place.remove_domain("d.test"), "still has 2 addresses"),
        (lambda: place.remove_domain("e.test"), "domain list"),
        (lambda: place.add_alias("a@d.test", ["b@d.test"]), "already an account"),
        (lambda: place.add_alias("x@d.test", ["out@d.test"]), "nobody here"),
        (lambda: place.add_alias("x@e.test", ["a@d.test"]), "domain add"),
        (lambda: place.remove_alias("x@d.test"), "alias list"),
        (lambda: place.set_password("x@d.test", "{PLAIN}x"), "account list"),
    ):
        with pytest.raises(DirectoryError, match=text):
            call()


def test_a_row_that_is_not_what_was_written_is_never_believed(tmp_path: Path) -> None:
    """A flipped limit would send mail back for good; a flipped number lead to another one's mail."""
    directory = LocalDirectory(str(tmp_path))
    directory.add_domain("example.test")
    directory.add_accounts([("a@example.test", "{PLAIN}one"), ("b@example.test", "{PLAIN}two")])
    directory.set_quota("a@example.test", Quota(70_000, 1000, 10))
    tables, key = directory._tables, address_key("a@example.test")
    row = tables.get("accounts", key)
    assert isinstance(tables, LmdbTables) and row is not None
    for bit in range(len(row) * 8):
        harmed = bytearray(row)
        harmed[bit // 8] ^= 1 << bit % 8
        with tables.write() as txn:
            txn.put("accounts", key, bytes(harmed))
        with pytest.raises(CorruptData):
            directory.account("a@example.test")
        with pytest.raises(CorruptData):
            directory.set_password("a@example.test", "{PLAIN}three")
    with tables.write() as txn:
        txn.put("accounts", address_key("c@example.test"), row)  # a key that was hurt
    with pytest.raises(CorruptData):
        directory.account("c@example.test")
    assert [one.address for one in directory.accounts()] == ["b@example.test"]
    before = directory.account("b@example.test")
    directory.add_accounts([("a@example.test", "{PLAIN}new"), ("b@example.test", "{PLAIN}new")], replace=True)
    again = directory.account("a@example.test")
    assert again is not None and (again.id, again.password) == (1, "{PLAIN}new")
    assert before is not None and directory.account("b@example.test") == replace(before, password="{PLAIN}new")


SPELLINGS = [("faß.test", "xn--fa-hia.test"), ("xn--fa-hia.test", "faß.test")]


@pytest.mark.parametrize(("added", "other"), SPELLINGS)
def test_a_domain_is_the_same_with_a_labels_and_u_labels(tmp_path: Path, added: str, other: str) -> None:
    place = LocalDirectory(str(tmp_path))
    place.add_domain(added)
    for name in (added, other, other.upper().replace("SS", "ẞ")):
        assert place.is_local(name), name
    with pytest.raises(DirectoryError, match="already there"):
        place.add_domain(other)
    place.add_accounts([(f"a@{added}", "{PLAIN}x"), (f"b@{other}", "{PLAIN}y")])
    # one spelling is kept, because it is the name of Maildirs
    assert [record.address for record in place.accounts()] == [f"a@{added}", f"b@{added}"]
    with pytest.raises(DirectoryError, match="already there"):
        place.add_accounts([(f"a@{other}", "{PLAIN}z")])
    for name in (added, other):
        for local in "ab":
            record = place.account(f"{local}@{name}")
            assert record is not None and record.address == f"{local}@{added}"
            assert place.resolve(f"{local.upper()}+x@{name}") == [record]
            assert place.may_send_as(record, f"{local}+x@{name}")
    place.add_alias(f"all@{other}", [f"a@{other}", f"b@{added}"])
    assert [(one.address, one.targets) for one in place.aliases()] == [(f"all@{added}", (f"a@{added}", f"b@{added}"))]
    assert [a.address for a in place.resolve(f"all@{added}")] == [f"a@{added}", f"b@{added}"]
    place.add_alias(f"@{other}", [f"a@{added}"])
    assert [a.address for a in place.resolve(f"nobody@{other}")] == [f"a@{added}"]
    place.set_password(f"a@{other}", "{PLAIN}new")
    place.set_quota(f"a@{other}", Quota(5))
    found = place.account(f"a@{added}")
    assert found is not None and (found.password, found.quota) == ("{PLAIN}new", Quota(5))
    assert place.faults() == []
    with pytest.raises(DirectoryError, match="still has 4 addresses"):
        place.remove_domain(other)
    for alias in (f"all@{other}", f"@{other}"):
        place.remove_alias(alias)
    for local in "ab":
        assert place.remove_account(f"{local}@{other}").address == f"{local}@{added}"
    place.mend()
    place.remove_domain(other)
    assert place.domains() == [] and place.accounts() == []


@pytest.mark.parametrize(("added", "other"), SPELLINGS)
def test_a_source_with_another_spelling_means_the_same_accounts(tmp_path: Path, added: str, other: str) -> None:
    place = LocalDirectory(str(tmp_path))
    place.add_domain(added)
    place.add_accounts([(f"a@{added}", "{PLAIN}x")])
    before = place.account(f"a@{added}")
    content = Content({f"a@{other}": Line(f"a@{other}", "{PLAIN}new"), f"c@{other}": Line(f"c@{other}", "{PLAIN}c")})
    assert apply(place, content) == 2 and apply(place, content) == 0
    after = place.account(f"a@{added}")
    assert before is not None and after is not None
    assert (after.id, after.address, after.password, after.enabled) == (before.id, before.address, "{PLAIN}new", True)
    assert [a.address for a in place.accounts()] == [f"a@{added}", f"c@{added}"] and [
        one.name for one in place.domains()
    ] == [added]


def test_aliases_lead_to_accounts_and_not_to_themselves(place: LocalDirectory) -> None:
    for targets in (["x@d.test"], ["X@D.test"], ["a@d.test", "x@d.test"]):
        with pytest.raises(DirectoryError, match="lead to itself"):
            place.add_alias("x@d.test", targets)
    with pytest.raises(NoSuchUser, match="nobody here"):
        place.add_alias("x@d.test", ["nobody@d.test"])
    # what the catch-all takes now would be caught in a loop then
    place.add_alias("@d.test", ["a@d.test"])
    place.add_alias("x@d.test", ["y@d.test"])
    with pytest.raises(DirectoryError, match=r"itself, by way of x@d\.test"):
        place.add_alias("y@d.test", ["x@d.test"])
    with pytest.raises(DirectoryError, match="lead to itself"):
        place.add_alias("y+z@d.test", ["y+z@d.test"])
    for number in range(20):
        above = "b@d.test" if not number else f"n{number - 1}@d.test"
        try:
            place.add_alias(f"n{number}@d.test", [above])
        except DirectoryError:
            break
        assert [one.address for one in place.resolve(f"n{number}@d.test")] == ["b@d.test"]
    else:
        raise AssertionError("a chain without end")
