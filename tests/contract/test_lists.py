"""What every directory does with mailing lists and their members: in memory, and in LMDB."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory import fields
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.interface import Administration
from fastmail.directory.list_links import Links
from fastmail.directory.lookup import NOT_FOUND
from fastmail.directory.mailing import MOST_POSTS, POST_DAYS, Mailing
from fastmail.directory.records import ACTIVE, INSIDE, SUSPENDED, Domain, List, Member
from tests.support.directories import MAKERS

TEAM = "team@d.test"
DAY = 86400


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made = MAKERS[request.param](tmp_path)
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x"), ("b@d.test", "{PLAIN}y")])
    made.put_list(List(TEAM, owners=("a@d.test",)))
    yield made
    made.close()


def test_it_has_the_whole_interface(place: Mailing) -> None:
    whole: Administration = place  # for mypy
    assert whole.mailing_list("Team@D.test") == place.mailing_list(TEAM)


def test_an_address_is_one_thing(place: Mailing) -> None:
    place.add_alias("x@d.test", ["a@d.test"])
    for call, why in (
        (lambda: place.add_accounts([("TEAM@d.test", "{PLAIN}x")]), "already a mailing list"),
        (lambda: place.add_alias(TEAM, ["a@d.test"]), "already a mailing list"),
        (lambda: place.put_list(List("a@d.test", owners=("b@d.test",))), "already an account"),
        (lambda: place.put_list(List("x@d.test", owners=("b@d.test",))), "already an alias"),
        (lambda: place.put_list(List("Team@d.test", owners=("b@d.test",))), "already there"),
        (lambda: place.put_list(List("l@other.test", owners=("b@d.test",))), "not a domain"),
        (lambda: place.put_list(List("l@d.test")), "needs an owner"),
        (lambda: place.put_list(List("l@d.test", owners=("nobody@d.test",))), "nobody here"),
        (lambda: place.put_list(List(f"{'l' * 60}@d.test", owners=("b@d.test",))), "octets at most"),
        (lambda: place.remove_domain("d.test"), "remove them first"),
    ):
        with pytest.raises(DirectoryError, match=why):
            call()


def test_a_domain_has_so_many(place: Mailing) -> None:
    place.change_domain("d.test", lambda old: replace(old, most_lists=2))
    place.put_list(List("two@d.test", owners=("a@d.test",)))
    with pytest.raises(DirectoryError, match="has its 2 mailing lists"):
        place.put_list(List("three@d.test", owners=("a@d.test",)))
    place.remove_list("two@d.test")
    place.put_list(List("three@d.test", owners=("a@d.test",)))
    place.add_domain("e.test")
    assert [one.address for one in place.each_list()] == [TEAM, "three@d.test"] == [*_names(place, "d.test")]
    assert _names(place, "e.test") == [] and _names(place, after=TEAM) == ["three@d.test"]


def _names(place: Mailing, domain: str = "", after: str = "") -> list[str]:
    return [one.address for one in place.each_list(domain, after)]


def test_another_name_of_a_domain_has_no_lists(place: Mailing) -> None:
    place.add_domain("e.test")
    place.put_list(List("l@e.test", owners=("a@d.test",)))
    with pytest.raises(DirectoryError, match="addresses of its own"):
        place.change_domain("e.test", lambda old: replace(old, alias_of="d.test"))
    place.add_domain(Domain("f.test", alias_of="d.test"))
    assert place.mailing_list("team@f.test") == place.mailing_list(TEAM)
    place.put_members("team@f.test", [Member("x@far.test")])
    assert place.member(TEAM, "x@far.test") is not None


def test_where_its_addresses_lead(place: Mailing) -> None:
    place.add_alias("@d.test", ["b@d.test"])

    def to(address: str) -> list[tuple[str, str, str]]:
        return [(one.row.address, one.part, one.detail) for one in place.destinations(address).lists]

    assert to(TEAM) == to("Team+x@D.test") == [(TEAM, "", "")]
    assert to("team-request@d.test") == [(TEAM, "request", "")]
    assert to("team-bounces+AB=c@d.test") == [(TEAM, "bounces", "ab=c")]
    owner = place.destinations("team-owner@d.test")
    assert [one.address for one in owner.accounts] == ["a@d.test"] and not owner.lists
    assert [one.address for one in place.resolve("other-request@d.test")] == ["b@d.test"], "the catch-all"
    place.add_alias("both@d.test", [TEAM, "b@d.test"])
    found = place.destinations("both@d.test")
    assert [one.address for one in found.accounts] == ["b@d.test"] and to("both@d.test") == to(TEAM) and found.queued
    place.change_list(TEAM, lambda old: replace(old, enabled=False))
    assert not place.destinations(TEAM) and place.destinations(TEAM).refusal == NOT_FOUND
    assert place.destinations("team-owner@d.test"), "its owners are there still"
    place.change_list(TEAM, lambda old: replace(old, enabled=True, mode=INSIDE))
    assert place.destinations(TEAM).inside == "d.test"
    place.remove_list(TEAM)
    assert [one.address for one in place.resolve(TEAM)] == ["b@d.test"]


def test_an_account_comes_before_a_part_of_a_list(place: Mailing) -> None:
    place.add_accounts([("team-request@d.test", "{PLAIN}x")])
    assert [one.address for one in place.resolve("team-request@d.test")] == ["team-request@d.test"]


def test_members(place: Mailing) -> None:
    many = [Member(f"m{number:04}@far.test") for number in range(2500)]
    assert place.put_members(TEAM, [*many, Member("Anna@far.test", "Anna")]) == 2501
    assert place.put_members(TEAM, [Member("ANNA@far.test", "Other"), Member("z@far.test")]) == 1
    every = [one.address for one in place.each_member(TEAM)]
    assert (
        every == ["Anna@far.test", *(one.address for one in many), "z@far.test"] and place.count_members(TEAM) == 2502
    )
    assert [one.address for one in place.each_member(TEAM, "M2498@far.test")] == ["m2499@far.test", "z@far.test"]
    anna = place.member(TEAM, "anna@FAR.test")
    assert anna is not None and (anna.name, anna.state) == ("Anna", ACTIVE) and anna.joined > 0
    assert place.put_members(TEAM, [Member("anna@far.test", "Anne", joined=5)], again=True) == 0
    assert place.member(TEAM, "anna@far.test") == Member("anna@far.test", "Anne", joined=5)
    changed = place.change_member(TEAM, "anna@far.test", lambda old: replace(old, state=SUSPENDED, address="q@q.test"))
    assert changed == Member("anna@far.test", "Anne", SUSPENDED, joined=5) == place.member(TEAM, "anna@far.test")
    place.remove_member(TEAM, "Anna@far.test")
    for call in (
        lambda: place.remove_member(TEAM, "anna@far.test"),
        lambda: place.change_member(TEAM, "anna@far.test", lambda old: old),
        lambda: place.put_members("no@d.test", [Member("x@far.test")]),
        lambda: place.remove_list("no@d.test"),
    ):
        with pytest.raises(NoSuchUser):
            call()


def test_members_of_lists_that_begin_alike_are_kept_apart(place: Mailing) -> None:
    place.put_list(List("team2@d.test", owners=("a@d.test",)))
    place.put_members(TEAM, [Member("x@far.test")])
    place.put_members("team2@d.test", [Member("y@far.test")])
    assert [one.address for one in place.each_member(TEAM)] == ["x@far.test"]
    assert place.remove_list(TEAM) == 1 and place.count_members("team2@d.test") == 1
    place.put_list(List(TEAM, owners=("a@d.test",)))
    assert place.count_members(TEAM) == 0, "a new list of the same name has none of them"


def test_a_change_that_fails_adds_nobody(place: Mailing) -> None:
    with pytest.raises(DirectoryError, match="too long"):
        place.put_members(TEAM, [Member("x@far.test"), Member(f"{'x' * 500}@far.test")])
    with pytest.raises(DirectoryError, match="is a mailing list"):
        place.put_members(TEAM, [Member("x@far.test"), Member(TEAM)])
    assert place.count_members(TEAM) == 0


def test_changes_are_written_down(place: Mailing) -> None:
    place.actor = "root"
    place.put_members(TEAM, [Member("x@far.test")])
    place.put_members(TEAM, [Member("x@far.test")])
    place.put_members(TEAM, [Member("y@far.test"), Member("z@far.test")])
    place.change_member(TEAM, "x@far.test", lambda old: replace(old, state=SUSPENDED))
    place.change_list(TEAM, lambda old: replace(old, tag="[t]"))
    said = [(one.who, one.what, one.text) for one in place.audit(name=TEAM)][1:]
    assert said == [
        ("root", "list member add", "x@far.test"),
        ("root", "list member add", "2 members"),
        ("root", "list member set", "x@far.test: state: active -> suspended"),
        ("root", "list set", "tag: none -> [t]"),
    ]


def test_days_on_which_mail_came_back(place: Mailing) -> None:
    place.change_list(TEAM, lambda old: replace(old, bounce_days=3))
    place.put_members(TEAM, [Member("x@far.test")])
    at = 1000 * DAY

    def bounce(days: float) -> tuple[int, bool]:
        found = place.note_bounce(TEAM, "X@far.test", int(at + days * DAY))
        assert found is not None
        return found[0].bounces, found[1]

    assert [bounce(one) for one in (0, 0.5, 0.99)] == [(1, False)] * 3, "a day counts once"
    assert bounce(1) == (2, False)
    assert bounce(16) == (1, False), "after two weeks of peace counting begins anew"
    assert [bounce(one) for one in (17, 18)] == [(2, False), (3, True)]
    member = place.member(TEAM, "x@far.test")
    assert member is not None and member.state == SUSPENDED
    assert place.note_bounce(TEAM, "x@far.test", at + 19 * DAY) is None, "it gets nothing any more"
    assert (
        place.note_bounce(TEAM, "nobody@far.test", at) is None
        and place.note_bounce("no@d.test", "x@y.test", at) is None
    )
    place.change_list(TEAM, lambda old: replace(old, bounce_days=0))
    place.put_members(TEAM, [Member("x@far.test")], again=True)
    assert [bounce(one)[1] for one in range(30)] == [False] * 30


def test_what_was_sent_lately(place: Mailing) -> None:
    now = 1000 * DAY
    place.note_post(TEAM, b"a" * 32, now)
    assert place.was_posted(TEAM, b"a" * 32, now + 1) and not place.was_posted(TEAM, b"b" * 32, now + 1)
    assert not place.was_posted(TEAM, b"a" * 32, now + POST_DAYS * DAY) and not place.was_posted(
        "no@d.test", b"a" * 32, now
    )
    for number in range(MOST_POSTS):
        place.note_post(TEAM, b"%08d" % number, now)
    assert not place.was_posted(TEAM, b"a" * 32, now + 1) and place.was_posted(TEAM, b"%08d" % 0, now + 1)


def test_what_is_shown_can_be_written_back(place: Mailing) -> None:
    given = {
        "owners": "b@d.test",
        "mode": "announcers",
        "announcers": ["x@far.test"],
        "footer": "a\nb",
        "joins": "open",
    }
    place.change_list(TEAM, lambda old: fields.changed(old, fields.read("list", given)))
    row = place.mailing_list(TEAM)
    assert row is not None and row.announcers == ("x@far.test",) and row.footer == "a\nb"
    again = fields.changed(List(TEAM, created=row.created), fields.read("list", fields.shown(row)))
    assert again == row
    with pytest.raises(DirectoryError, match="mode"):
        fields.read("list", {"mode": "loud"})


def test_the_first_links_of_several_threads_count(place: Mailing) -> None:
    """Messages are signed side by side: only one of their threads makes the key."""
    start = threading.Barrier(4)
    tokens: list[str] = []

    def make() -> None:
        links = Links(place)
        start.wait()
        links.prepare()
        tokens.append(links.token(TEAM, "a@far.test"))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert [Links(place).read(token) for token in tokens] == [(TEAM, "a@far.test")] * 4 and len(place.link_keys()) == 1
