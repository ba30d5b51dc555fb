"""What every directory does with accounts that are made, grouped and renamed: the suite of test_directory, continued."""

import pytest
from msgspec.structs import replace

from fastmail.directory import fields, requests
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.following import Following
from fastmail.directory.records import Domain, Group
from tests.contract.test_directory import place

__all__ = ["place"]


def test_a_new_account_has_its_fields_at_once_or_is_not_there(place: Following) -> None:
    place.change_domain("d.test", lambda old: replace(old, most_storage=100))
    before = place.accounts(), list(place.audit()), place.counts("d.test")
    request = {"do": "account.add", "name": "n@d.test", "fields": {"hash": "{PLAIN}x", "quota_storage": 200}}
    with pytest.raises(DirectoryError, match="100 octets at most"):
        requests.perform(place, request, lambda text: ("", ""))
    with pytest.raises(DirectoryError, match="lead to itself"):
        requests.perform(
            place, {**request, "fields": {"hash": "{PLAIN}x", "forward": "n@d.test"}}, lambda text: ("", "")
        )
    assert (place.accounts(), list(place.audit()), place.counts("d.test")) == before
    request["fields"] = {"hash": "{PLAIN}x", "quota_storage": 50, "name": "N", "role": "helpdesk"}
    requests.perform(place, request, lambda text: ("", ""))
    n = place.account("n@d.test")
    assert n is not None and (n.id, n.quota.octets, n.name, n.role, n.password) == (3, 50, "N", "helpdesk", "{PLAIN}x")
    (row,) = [one for one in place.audit() if one.name == "n@d.test"]
    assert row.what == "account add" and "quota: 0,0,0 -> 50,0,0" in row.text and "{PLAIN}" not in row.text


def test_limits_of_sending_go_out_and_come_back(place: Following) -> None:
    given = {"message_size": "2 MiB", "recipients_per_hour": "50", "messages_per_hour": 10}
    a = place.change_account("a@d.test", lambda old: fields.changed(old, fields.read("account", given)))
    assert (a.message_size, a.recipients_per_hour, a.messages_per_hour) == (2 << 20, 50, 10)
    d: Domain = place.change_domain("d.test", lambda old: fields.changed(old, fields.read("domain", given)))
    assert (d.message_size, d.recipients_per_hour, d.messages_per_hour) == (2 << 20, 50, 10)


# ---------------------------------------------------------------- groups


def team(place: Following) -> Group:
    found = place.group("team@d.test")
    assert found is not None
    return found


def test_groups_have_accounts(place: Following) -> None:
    place.put_group("Team@D.test", ["a@d.test", "A@D.TEST"], "all of us")
    assert place.members(team(place)) == ["a@d.test"] and team(place).description == "all of us"
    assert place.groups_of(1) == {"team@d.test"} and place.groups_of(2) == frozenset()
    before = place.revision
    place.change_group("team@d.test", join=["b@d.test"])
    assert place.groups_of(2) == {"team@d.test"} and place.revision == before, "nobody lost anything"
    place.change_group("team@d.test", leave=["a@d.test"], description="some")
    assert place.members(team(place)) == ["b@d.test"] and place.groups_of(1) == frozenset()
    assert place.revision > before, "open sessions look at their rights again"
    place.change_group("team@d.test", ["a@d.test"])
    assert (place.members(team(place)), team(place).description) == (["a@d.test"], "some")
    assert [one.name for one in place.each_group("d.test")] == ["team@d.test"]
    with pytest.raises(DirectoryError, match="still has"):
        place.remove_account("a@d.test")
        place.remove_account("b@d.test")
        place.remove_domain("d.test")
    place.remove_group("team@d.test")
    assert place.group("team@d.test") is None and list(place.each_group()) == []


def test_a_group_that_cannot_be(place: Following) -> None:
    place.add_domain(Domain("o.test", alias_of="d.test"))
    before = list(place.audit())
    for name, members, why in (
        ("x@far.test", (), "not a domain"),
        ("x@o.test", (), "another name"),
        ("x@d.test", ("nobody@d.test",), "no account"),
    ):
        with pytest.raises(DirectoryError, match=why):
            place.put_group(name, members)
    place.put_group("team@d.test")
    with pytest.raises(DirectoryError, match="already there"):
        place.put_group("TEAM@d.test")
    assert place.group("team@o.test") == team(place), "by another name of its domain, too"
    for change in (place.change_group, place.remove_group):
        with pytest.raises(NoSuchUser, match="no group"):
            change("y@d.test")
    assert len(list(place.audit())) == len(before) + 1


def test_who_is_removed_is_in_no_group(place: Following) -> None:
    for name in ("one@d.test", "two@d.test"):
        place.put_group(name, ["a@d.test", "b@d.test"])
    place.remove_account("a@d.test")
    assert place.groups_of(1) == frozenset() and place.groups_of(2) == {"one@d.test", "two@d.test"}
    place.add_accounts([("a@d.test", "{PLAIN}x")])
    assert [place.members(one) for one in place.each_group()] == [["b@d.test"], ["b@d.test"]]


def test_groups_by_requests(place: Following) -> None:
    def do(what: str, **given: object) -> dict[str, object]:
        return requests.perform(
            place, {"do": f"group.{what}", "name": "$team@d.test", "fields": given}, lambda text: ("", "")
        )

    do("add", members="a@d.test,b@d.test", description="x")
    do("set", leave=["a@d.test"])
    assert do("show") == {"name": "team@d.test", "fields": {"members": ["b@d.test"], "description": "x"}}
    with pytest.raises(DirectoryError, match="groups have no colour"):
        do("set", colour="red")
    do("remove")
    with pytest.raises(NoSuchUser):
        do("show")
