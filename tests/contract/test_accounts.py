"""What every directory does with accounts that are made, grouped and renamed: the suite of test_directory, continued."""

import pytest
from msgspec.structs import replace

from fastmail.directory import fields, requests, rows
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.interface import Line
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import ACTIVE, Account, Alias, AppPassword, DkimKey, Domain, Group, List, Member
from fastmail.model.errors import DamagedAccount
from tests.contract.test_directory import place, who

__all__ = ["place"]


def test_a_new_account_has_its_fields_at_once_or_is_not_there(place: Mailing) -> None:
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
    assert row.what == "account add" and "quota_storage: default -> 50" in row.text and "{PLAIN}" not in row.text


def test_limits_of_sending_go_out_and_come_back(place: Mailing) -> None:
    given = {"message_size": "2 MiB", "recipients_per_hour": "50", "messages_per_hour": 10}
    a = place.change_account("a@d.test", lambda old: fields.changed(old, fields.read("account", given)))
    assert (a.message_size, a.recipients_per_hour, a.messages_per_hour) == (2 << 20, 50, 10)
    d: Domain = place.change_domain("d.test", lambda old: fields.changed(old, fields.read("domain", given)))
    assert (d.message_size, d.recipients_per_hour, d.messages_per_hour) == (2 << 20, 50, 10)


# ---------------------------------------------------------------- groups


def team(place: Mailing) -> Group:
    found = place.group("team@d.test")
    assert found is not None
    return found


def test_groups_have_accounts(place: Mailing) -> None:
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


def test_a_group_that_cannot_be(place: Mailing) -> None:
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


def test_who_is_removed_is_in_no_group(place: Mailing) -> None:
    for name in ("one@d.test", "two@d.test"):
        place.put_group(name, ["a@d.test", "b@d.test"])
    place.remove_account("a@d.test")
    assert place.groups_of(1) == frozenset() and place.groups_of(2) == {"one@d.test", "two@d.test"}
    place.add_accounts([("a@d.test", "{PLAIN}x")])
    assert [place.members(one) for one in place.each_group()] == [["b@d.test"], ["b@d.test"]]


def test_groups_by_requests(place: Mailing) -> None:
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


# ---------------------------------------------------------------- new names


def named(place: Mailing, address: str) -> Account:
    found = place.account(address)
    assert found is not None
    return found


def test_an_account_keeps_everything_but_its_name(place: Mailing) -> None:
    place.put_group("team@d.test", ["a@d.test", "b@d.test"])
    app = AppPassword(b"d" * 32, "phone")
    place.add_app_password("a@d.test", app)
    place.note_used([(1, b"", "imap", 5)])
    place.put_alias(Alias("info@d.test", ("a@d.test", "A+x@d.test", "x@far.test")))
    place.change_account("b@d.test", lambda old: replace(old, forward=("a@d.test",), senders=("a@d.test", "@e.test")))
    place.change_domain("d.test", lambda old: replace(old, postmaster=("a@d.test",)))
    before, revision = named(place, "a@d.test"), place.revision
    done = place.rename_account("A@d.test", "new@d.test")
    now = named(place, "new@d.test")
    assert now == replace(before, address="new@d.test", placed="a@d.test") and done.address == "new@d.test"
    assert place.account("a@d.test") is None and place.account_by_id(1) == now and place.revision > revision
    assert place.app_passwords(1) == [app] and place.used(1) == {"imap": 5}
    assert place.members(team(place)) == ["new@d.test", "b@d.test"]
    info, b, d = place.alias("info@d.test"), named(place, "b@d.test"), place.domain("d.test")
    assert info is not None and info.targets == ("new@d.test", "new+x@d.test", "x@far.test")
    assert (b.forward, b.senders) == (("new@d.test",), ("new@d.test", "@e.test"))
    assert d is not None and d.postmaster == ("new@d.test",)
    assert who(place, "a@d.test") == who(place, "a+shop@d.test") == ["new@d.test"], "the old address is an alias"
    assert place.counts("d.test") == (2, 2) and place.may_send_as(now, "a@d.test")
    assert [one.text for one in place.audit(name="new@d.test")] == ["a@d.test -> new@d.test"]
    ((_, change),) = place.renames()
    assert (change.old, change.new) == ("a@d.test", "new@d.test")


def test_an_old_name_is_nobodys_until_all_has_followed_and_its_maildir_never(place: Mailing) -> None:
    place.rename_account("a@d.test", "new@d.test", keep=False)
    assert who(place, "a@d.test") == []
    for make in (
        lambda: place.add_accounts([("a@d.test", "{PLAIN}z")]),
        lambda: place.add_alias("a@d.test", ["b@d.test"]),
        lambda: place.rename_account("b@d.test", "a@d.test"),
        lambda: place.bring([Line("a@d.test", "{PLAIN}z")], []),
    ):
        with pytest.raises(DirectoryError, match="was the name of somebody else"):
            make()
    ((number, _),) = place.renames()
    place.followed(number)
    place.add_accounts([("a@d.test", "{PLAIN}z")])
    assert named(place, "a@d.test").placed == "a%3@d.test"
    place.rename_account("a@d.test", "third@d.test", keep=False)
    assert named(place, "third@d.test").placed == "a%3@d.test"
    place.rename_account("b@d.test", "second@d.test", keep=False)
    for number, _ in list(place.renames()):
        place.followed(number)
    place.rename_account("second@d.test", "b@d.test")
    assert named(place, "b@d.test").placed == "", "it is called by its own name again"
    for number, _ in list(place.renames()):
        place.followed(number)
    place.remove_account("new@d.test")
    place.remove_alias("second@d.test")
    place.add_accounts([("second@d.test", "{PLAIN}z")])
    assert named(place, "second@d.test").placed == ""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("x@d.test", "y@d.test", "no account x@d.test"),
        ("a@d.test", "a@d.test", "already an account"),
        ("a@d.test", "B@d.test", "already an account"),
        ("a@d.test", "info@d.test", "already an alias"),
        ("a@d.test", "a@far.test", "not a domain"),
        ("a@d.test", "a@o.test", "another name of d.test"),
        ("a@d.test", "a@full.test", "has its 1 accounts"),
        ("kept@d.test", "y@d.test", "its program keeps it"),
    ],
)
def test_a_name_that_cannot_be(place: Mailing, old: str, new: str, why: str) -> None:
    place.add_domain(Domain("o.test", alias_of="d.test"))
    place.add_domain(Domain("full.test", most_accounts=1))
    place.add_accounts([("x@full.test", "{PLAIN}x")])
    place.add_alias("info@d.test", ["a@d.test", "b@d.test"])
    place.bring([Line("kept@d.test", "{PLAIN}x", home="/home/kept")], [])
    before = place.accounts(), place.aliases(), place.domains(), list(place.audit())
    with pytest.raises(DirectoryError, match=why):
        place.rename_account(old, new)
    assert (place.accounts(), place.aliases(), place.domains(), list(place.audit())) == before


def test_an_alias_of_the_account_makes_room_for_it(place: Mailing) -> None:
    place.add_alias("new@d.test", ["a@d.test"])
    place.rename_account("a@d.test", "new@d.test")
    assert who(place, "a@d.test") == who(place, "new@d.test") == ["new@d.test"]
    assert place.counts("d.test") == (2, 1)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_domain_with_all_that_is_in_it(place: Mailing, keep: bool, known: bool) -> None:
    place.change_domain("d.test", lambda old: replace(old, postmaster=("a@d.test",), description="ours"))
    place.add_domain(Domain("third.test", alias_of="d.test"))
    if known:
        place.add_domain(Domain("n.test", alias_of="d.test"))
    place.add_domain("e.test")
    place.add_accounts([("e@e.test", "{PLAIN}x")])
    place.change_account("e@e.test", lambda old: replace(old, senders=("@d.test",), administers=("d.test", "e.test")))
    place.add_alias("@d.test", ["b@d.test"])
    place.add_alias("x@e.test", ["a@d.test", "x@far.test"])
    place.put_group("team@d.test", ["a@d.test"])
    place.rename_account("b@d.test", "c@d.test", keep=False)
    place.rename_domain("D.test", "n.test", keep)
    assert [(one.address, one.placed) for one in place.each_account("n.test")] == [
        ("a@n.test", "a@d.test"), ("c@n.test", "b@d.test")]  # fmt: skip
    assert place.counts("n.test") == (2, 1) and place.counts("d.test") == (0, 0)
    n, e, x = place.domain("n.test"), named(place, "e@e.test"), place.alias("x@e.test")
    assert n is not None and (n.name, n.postmaster, n.description, n.alias_of) == ("n.test", ("a@n.test",), "ours", "")
    assert (e.senders, e.administers) == (("@n.test",), ("n.test", "e.test"))
    assert x is not None and x.targets == ("a@n.test", "x@far.test")
    assert who(place, "anything@n.test") == ["c@n.test"] and who(place, "a@third.test") == ["a@n.test"]
    assert place.groups_of(1) == {"team@n.test"} and place.group("team@n.test") is not None
    assert who(place, "a@d.test") == (["a@n.test"] if keep else []) and place.is_local("d.test") == keep
    assert [(one.old, one.new) for _, one in place.renames()] == [("b@d.test", "c@d.test"), ("@d.test", "@n.test")]
    assert not hasattr(place, "faults") or place.faults() == []


@pytest.mark.parametrize("known", [True, False])
def test_keys_stay_with_the_name_whose_zone_has_them(place: Mailing, known: bool) -> None:
    """A signature for the new name by such a key would fail everywhere."""
    old, own = (
        DkimKey("one", "rsa", "dkim/d.test/one.pem", ACTIVE),
        DkimKey("two", "rsa", "dkim/n.test/two.pem", ACTIVE),
    )
    place.change_domain("d.test", lambda row: replace(row, dkim=(old,)))
    if known:
        place.add_domain(Domain("n.test", alias_of="d.test", dkim=(own,)))
    assert place.rename_domain("d.test", "n.test").dkim == ((own,) if known else ())
    before, after = place.domain("d.test"), place.domain("n.test")
    assert before is not None and (before.alias_of, before.dkim) == ("n.test", (old,))
    assert after is not None and after.dkim == ((own,) if known else ())


def test_a_list_knows_the_names_that_it_had(place: Mailing) -> None:
    place.put_list(List("crew@d.test", owners=("a@d.test",)))
    for old, new in (("d.test", "e.test"), ("e.test", "f.test")):
        place.rename_domain(old, new)
    row = place.mailing_list("crew@f.test")
    assert row is not None and row.formerly == ("crew@e.test", "crew@d.test")


def test_a_domain_that_cannot_have_that_name(place: Mailing) -> None:
    place.add_domain("e.test")
    place.add_domain(Domain("o.test", alias_of="e.test"))
    for old, new, why in (
        ("x.test", "y.test", "no domain"),
        ("d.test", "e.test", "already there"),
        ("d.test", "d.test", "already there"),
        ("d.test", "o.test", "already there"),
        ("o.test", "y.test", "another name of e.test"),
    ):
        with pytest.raises(DirectoryError, match=why):
            place.rename_domain(old, new)
    place.rename_domain("d.test", "y.test", keep=False)
    with pytest.raises(DirectoryError, match="was the name of somebody else"):
        place.add_domain("d.test")


def test_a_row_with_a_place_is_not_for_older_programs(place: Mailing) -> None:
    key = rows.address_key("a@d.test")
    plain = rows.ACCOUNTS.pack(key, named(place, "a@d.test"))
    placed = rows.ACCOUNTS.pack(key, replace(named(place, "a@d.test"), placed="old@d.test"))
    assert (plain[0], placed[0]) == (rows.PLAIN, rows.PLACED)
    assert rows.ACCOUNTS.unpack(key, placed).placed == "old@d.test"
    with pytest.raises(DamagedAccount, match="layout 3"):
        rows.ACCOUNTS.unpack(key, b"\3" + placed[1:])


def test_mailing_lists_follow_a_new_name(place: Mailing) -> None:
    place.put_list(List("crew@d.test", owners=("a@d.test",), announcers=("a@d.test",)))
    place.put_members("crew@d.test", [Member("a@d.test", "A"), Member("b@far.test")])
    place.note_post("crew@d.test", b"12345678", 1_700_000_000)
    with pytest.raises(DirectoryError, match="mailing list"):
        place.rename_account("a@d.test", "crew@d.test")
    place.rename_account("a@d.test", "new@d.test")
    crew = place.mailing_list("crew@d.test")
    assert crew is not None and crew.owners == crew.announcers == ("new@d.test",)
    assert [one.address for one in place.each_member("crew@d.test")] == ["b@far.test", "new@d.test"]
    place.rename_domain("d.test", "e.test", keep=False)
    assert place.mailing_list("crew@d.test") is None and not list(place.each_member("crew@d.test"))
    crew = place.mailing_list("crew@e.test")
    assert crew is not None and crew.address == "crew@e.test" and crew.owners == ("new@e.test",)
    members = [(one.address, one.name) for one in place.each_member("crew@e.test")]
    assert members == [("b@far.test", ""), ("new@e.test", "A")]
    assert place.was_posted("crew@e.test", b"12345678", 1_700_000_000)


@pytest.mark.parametrize("keep", [True, False])
def test_an_alias_with_another_name(place: Mailing, keep: bool) -> None:
    place.add_domain("e.test")
    place.add_alias("info@d.test", ["a@d.test", "x@far.test"])
    place.change_alias("info@d.test", lambda old: replace(old, internal=True, note="mine"))
    place.add_alias("all@d.test", ["INFO@d.test"])
    place.put_list(List("crew@d.test", owners=("info@d.test",)))
    made = place.rename_alias("Info@D.test", "news@e.test", keep)
    assert (made.address, made.targets, made.internal, made.note) == (
        "news@e.test", ("a@d.test", "x@far.test"), True, "mine")  # fmt: skip
    old, of_all, crew = place.alias("info@d.test"), place.alias("all@d.test"), place.mailing_list("crew@d.test")
    assert (old.targets if old is not None else ()) == (("news@e.test",) if keep else ())
    assert (
        of_all is not None
        and of_all.targets == ("news@e.test",)
        and crew is not None
        and crew.owners == ("news@e.test",)
    )
    assert place.counts("d.test") == (2, 1 + keep) and place.counts("e.test") == (0, 1)
    assert list(place.renames()) == [], "the mail store has nothing to follow"
    row = list(place.audit())[-1]
    assert (row.what, row.name, row.text) == ("alias rename", "news@e.test", "info@d.test -> news@e.test")


def test_names_that_an_alias_or_list_cannot_have(place: Mailing) -> None:
    place.add_domain(Domain("o.test", alias_of="d.test"))
    place.add_alias("@d.test", ["a@d.test"])
    place.add_alias("info@d.test", ["a@d.test"])
    place.put_list(List("crew@d.test", owners=("a@d.test",)))
    for old, new, why in (
        ("nobody@d.test", "x@d.test", "no alias"),
        ("info@d.test", "b@d.test", "already an account"),
        ("info@d.test", "crew@d.test", "already a mailing list"),
        ("info@d.test", "Info@d.test", "already an alias"),
        ("info@d.test", "x@far.test", "not a domain of this server"),
        ("info@d.test", "x@o.test", "another name of d.test"),
        ("@d.test", "x@d.test", "belongs to its domain"),
        ("info@d.test", "@d.test", "belongs to its domain"),
    ):
        with pytest.raises(DirectoryError, match=why):
            place.rename_alias(old, new)
    for old, new, why in (
        ("nobody@d.test", "x@d.test", "no list"),
        ("crew@d.test", "info@d.test", "already an alias"),
        ("crew@d.test", f"{'x' * 60}@d.test", "the name of a list has"),
    ):
        with pytest.raises(DirectoryError, match=why):
            place.rename_list(old, new)
    assert place.counts("d.test") == (2, 2) and place.mailing_list("crew@d.test") is not None


@pytest.mark.parametrize("keep", [True, False])
def test_a_list_with_another_name(place: Mailing, keep: bool) -> None:
    place.put_list(List("crew@d.test", owners=("a@d.test",), tag="[c]"))
    place.put_members("crew@d.test", [Member("a@d.test", "A"), Member("b@far.test")])
    place.note_post("crew@d.test", b"12345678", 1_700_000_000)
    place.add_alias("team@d.test", ["crew@d.test", "crew-owner@d.test"])
    made = place.rename_list("crew@d.test", "staff@d.test", keep)
    assert (made.address, made.tag, made.formerly) == ("staff@d.test", "[c]", ("crew@d.test",))
    assert [(one.address, one.name) for one in place.each_member("staff@d.test")] == [
        ("a@d.test", "A"),
        ("b@far.test", ""),
    ]
    assert place.was_posted("staff@d.test", b"12345678", 1_700_000_001)
    team, old = place.alias("team@d.test"), place.alias("crew@d.test")
    assert team is not None and team.targets == ("staff@d.test", "staff-owner@d.test")
    assert (old.targets if old is not None else ()) == (("staff@d.test",) if keep else ())
    assert place.mailing_list("crew@d.test") is None and list(place.each_member("crew@d.test")) == []
    assert [one.row.address for one in place.destinations("crew@d.test").lists] == (["staff@d.test"] if keep else [])
