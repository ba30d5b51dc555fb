"""What every directory does: one suite over the plainest one, in memory, and the one in LMDB."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory import apps, audit, fields
from fastmail.directory.errors import DirectoryError, NoSuchUser
from fastmail.directory.following import Following
from fastmail.directory.interface import Administration, Line
from fastmail.directory.lookup import DOMAIN_GONE, DOMAIN_OFF, NO_MAIL, NOT_FOUND
from fastmail.directory.mailing import Mailing
from fastmail.directory.records import LATER, Alias, AppPassword, Domain
from fastmail.model.quota import Quota
from tests.support.directories import MAKERS


@pytest.fixture(params=MAKERS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailing]:
    made = MAKERS[request.param](tmp_path)
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x"), ("b@d.test", "{PLAIN}y")])
    yield made
    made.close()


def who(place: Following, address: str) -> list[str]:
    return [one.address for one in place.resolve(address)]


def elsewhere(place: Following, address: str) -> list[tuple[str, str, str]]:
    return [(one.address, one.via, one.owner) for one in place.destinations(address).elsewhere]


def test_it_has_both_interfaces(place: Mailing) -> None:
    whole: Administration = place  # for mypy
    assert whole.account("a@d.test") is not None


def test_accounts(place: Following) -> None:
    a = place.account("A@D.Test")
    assert a is not None and (a.id, a.address, place.account_by_id(a.id)) == (1, "a@d.test", a)
    assert place.account("c@d.test") is None and place.account("a@e.test") is None and place.account_by_id(9) is None
    changed = place.change_account("a@d.test", lambda old: replace(old, name="Anna", id=77, address="z@z.test"))
    assert (changed.id, changed.address, changed.name) == (1, "a@d.test", "Anna") and place.account(
        "a@d.test"
    ) == changed
    place.remove_account("a@d.test")
    place.add_accounts([("a@d.test", "{PLAIN}x")])
    again = place.account("a@d.test")
    assert again is not None and again.id == 3 and again.name == "", "a number is never given twice"
    with pytest.raises(NoSuchUser, match="no account"):
        place.change_account("x@d.test", lambda old: old)


def test_local_parts_are_the_same_without_case(place: Following) -> None:
    place.add_accounts([("straße@d.test", "{PLAIN}x"), ("élan@d.test", "{PLAIN}x")])
    assert who(place, "STRASSE@d.test") == who(place, "Straße@d.test") == ["straße@d.test"]
    assert who(place, "E\u0301lan@D.TEST") == ["élan@d.test"], "composed or not"
    with pytest.raises(DirectoryError, match="already there"):
        place.add_accounts([("strasse@d.test", "{PLAIN}x")])


def test_a_change_that_cannot_be_changes_nothing(place: Following) -> None:
    before = place.accounts(), place.aliases(), list(place.audit())
    with pytest.raises(DirectoryError, match="not a domain"):
        place.add_accounts([("new@d.test", "{PLAIN}x"), ("x@other.test", "{PLAIN}x")])
    with pytest.raises(ZeroDivisionError):
        place.change_account("a@d.test", lambda old: replace(old, name=str(1 // 0)))
    assert (place.accounts(), place.aliases(), list(place.audit())) == before
    assert place.counts("d.test") == (2, 0)


def test_lists_come_by_domain_and_from_where_one_likes(place: Following) -> None:
    place.add_domain("c.test")
    place.add_accounts([(f"u{n:04}@c.test", "{PLAIN}x") for n in range(1200)])
    names = [one.address for one in place.each_account()]
    assert names == [f"u{n:04}@c.test" for n in range(1200)] + ["a@d.test", "b@d.test"]
    assert [one.address for one in place.each_account("D.test")] == ["a@d.test", "b@d.test"]
    assert [one.address for one in place.each_account("c.test", "u1197@c.test")] == ["u1198@c.test", "u1199@c.test"]
    assert [one.address for one in place.each_account(after="u1199@c.test")] == ["a@d.test", "b@d.test"]
    assert [one.name for one in place.each_domain("c.test")] == ["d.test"]
    assert place.counts("c.test") == (1200, 0)


# ---------------------------------------------------------------- domains


def test_a_domain_keeps_its_settings(place: Following) -> None:
    def change(old: Domain) -> Domain:
        return replace(old, description="Ours", quota=Quota(7), most_accounts=2, name="x.test")

    changed = place.change_domain("D.TEST", change)
    assert place.domain("d.test") == changed and (changed.name, changed.description) == ("d.test", "Ours")
    with pytest.raises(DirectoryError, match="has its 2 accounts"):
        place.add_accounts([("c@d.test", "{PLAIN}x")])
    with pytest.raises(DirectoryError, match="no domain"):
        place.change_domain("e.test", lambda old: old)


@pytest.mark.parametrize(("code", "reply"), [(550, DOMAIN_GONE), (LATER, DOMAIN_OFF[LATER])])
def test_a_domain_that_is_off(place: Following, code: int, reply: str) -> None:
    before = place.revision
    place.change_domain("d.test", lambda old: replace(old, enabled=False, off_reply=code))
    for address in ("a@d.test", "nobody@d.test", "postmaster@d.test"):
        found = place.destinations(address)
        assert not found and found.refusal == reply
    assert place.is_local("d.test") and place.revision > before, "sessions are looked at"
    place.change_domain("d.test", lambda old: replace(old, enabled=True))
    assert who(place, "a@d.test") == ["a@d.test"]


@pytest.mark.parametrize(("added", "other"), [("faß.test", "xn--fa-hia.test"), ("xn--fa-hia.test", "FAẞ.test")])
def test_another_name_of_a_domain(place: Following, added: str, other: str) -> None:
    place.add_alias("all@d.test", ["a@d.test", "b@d.test"])
    place.add_domain(Domain(added, alias_of="d.test"))
    for name in (added, other):
        a = place.account("a@d.test")
        assert a is not None and place.is_local(name) and place.account(f"a@{name}") == a
        assert who(place, f"A+x@{name}") == ["a@d.test"] and who(place, f"all@{name}") == ["a@d.test", "b@d.test"]
        assert place.may_send_as(a, f"a@{name}") and place.may_send_as(a, f"a+y@{name}")
        assert not place.may_send_as(a, f"b@{name}")
        assert place.change_account(f"a@{name}", lambda old: replace(old, notes=old.notes + "1")).address == "a@d.test"
    for call, why in (
        (lambda: place.add_accounts([(f"c@{other}", "{PLAIN}x")]), "another name"),
        (lambda: place.add_alias(f"c@{other}", ["a@d.test"]), "another name"),
        (lambda: place.add_domain(Domain("e.test", alias_of=other)), "another name"),
        (lambda: place.change_domain("d.test", lambda old: replace(old, alias_of=added)), "addresses of its own"),
        (lambda: place.add_domain(Domain("e.test", alias_of="E.test")), "no domain"),
        (lambda: place.remove_domain("d.test"), "still has"),
    ):
        with pytest.raises(DirectoryError, match=why):
            call()
    place.change_domain(added, lambda old: replace(old, enabled=False))
    assert place.destinations(f"a@{other}").refusal == DOMAIN_GONE and who(place, "a@d.test") == ["a@d.test"]
    place.remove_domain(other)
    assert not place.is_local(added)


def test_a_domain_whose_other_name_is_there_stays(place: Following) -> None:
    place.add_domain("e.test")
    place.add_domain(Domain("f.test", alias_of="e.test"))
    with pytest.raises(DirectoryError, match=r"f\.test is another name"):
        place.remove_domain("e.test")
    with pytest.raises(DirectoryError, match="of itself"):
        place.change_domain("e.test", lambda old: replace(old, alias_of="E.TEST"))


def test_details(place: Following) -> None:
    assert who(place, "a+x@d.test") == ["a@d.test"] and who(place, "a-x@d.test") == []
    assert place.destinations("A+x@D.test").row == "a@d.test", "the row that it leads to, without the detail"
    place.change_domain("d.test", lambda old: replace(old, separators="-="))
    assert who(place, "a+x@d.test") == [] and who(place, "a-x+y@d.test") == who(place, "a=x@d.test") == ["a@d.test"]
    a = place.account("a@d.test")
    assert a is not None and place.may_send_as(a, "a-x@d.test") and not place.may_send_as(a, "a+x@d.test")
    place.add_accounts([("a-b@d.test", "{PLAIN}x")])
    assert who(place, "a-b@d.test") == ["a-b@d.test"] and who(place, "a-b-c@d.test") == ["a@d.test"]
    place.change_domain("d.test", lambda old: replace(old, separators=""))
    assert who(place, "a-x@d.test") == [] and who(place, "a@d.test") == ["a@d.test"]


def test_the_postmaster_of_a_domain(place: Following) -> None:
    place.add_alias("@d.test", ["b@d.test"])
    assert who(place, "postmaster@d.test") == ["b@d.test"]
    place.change_domain("d.test", lambda old: replace(old, postmaster=("a@d.test", "admin@far.test")))
    for role in ("postmaster", "Abuse"):
        assert who(place, f"{role}@d.test") == ["a@d.test"]
        assert [one[0] for one in elsewhere(place, f"{role}@d.test")] == ["admin@far.test"]
    place.add_alias("abuse@d.test", ["b@d.test"])
    assert who(place, "abuse@d.test") == ["b@d.test"] and who(place, "x@d.test") == ["b@d.test"]


def test_quotas_of_a_domain(place: Following) -> None:
    a = place.account("a@d.test")
    assert a is not None and place.quota(a) == Quota()
    place.change_domain("d.test", lambda old: replace(old, quota=Quota(1000, 10, 0)))
    assert place.quota(a) == Quota(1000, 10, 0)
    place.set_quota("a@d.test", Quota(2000, -1, 3))
    a = place.account("a@d.test")
    assert a is not None and place.quota(a) == Quota(2000, -1, 3)
    place.change_domain("d.test", lambda old: replace(old, most_storage=1500))
    assert place.quota(a) == Quota(1500, -1, 3), "never more than the domain lets one have"
    for quota in (Quota(1501), Quota(-1)):
        with pytest.raises(DirectoryError, match="1500 octets"):
            place.set_quota("a@d.test", quota)
    place.set_quota("a@d.test", Quota(1500))


# ---------------------------------------------------------------- states of accounts


def test_states_are_switches_of_their_own(place: Following) -> None:
    before = place.revision
    place.change_account("a@d.test", lambda old: replace(old, receives=False))
    found = place.destinations("a@d.test")
    assert not found and found.refusal == NO_MAIL and place.revision == before
    place.add_alias("team@d.test", ["a@d.test", "b@d.test"])
    assert who(place, "team@d.test") == ["b@d.test"], "the others get it"
    for change in ({"logs_in": False}, {"suspended": "unpaid"}):
        before = place.revision
        place.change_account("b@d.test", lambda old, change=change: replace(old, **change))
        assert place.revision > before and who(place, "b@d.test") == ["b@d.test"]
    place.enable("b@d.test", False)
    assert not place.destinations("b@d.test") and place.destinations("b@d.test").refusal == NOT_FOUND


def test_the_server_stops_what_an_account_sends(place: Following) -> None:
    before = place.revision
    found = place.stop_sending("a@d.test", "too many strangers")
    assert found is not None and (found.sends, found.stopped) == (False, "too many strangers")
    assert place.revision > before, "sessions look again"
    last = list(place.audit())[-1]
    assert (last.who, last.text) == ("automatic", "sends: yes -> no; stopped: none -> too many strangers")
    assert place.stop_sending("a@d.test", "again") is None and place.stop_sending("none@d.test", "why") is None
    for ends in (
        lambda: place.change_account("a@d.test", lambda old: replace(old, sends=True)),
        lambda: place.enable("a@d.test", True),
    ):
        ends()
        account = place.account("a@d.test")
        assert account is not None and (account.sends, account.stopped) == (True, "")
        assert place.stop_sending("a@d.test", "too many strangers") is not None
    place.change_account("b@d.test", lambda old: replace(old, sends=False))
    place.enable("b@d.test", True)
    other = place.account("b@d.test")
    assert other is not None and not other.sends, "an administrator's own switch stays"


def test_sender_identities(place: Following) -> None:
    place.change_account("a@d.test", lambda old: replace(old, senders=("Info@Far.test", "@d2.test")))
    a = place.account("a@d.test")
    assert a is not None
    for address in ("a@d.test", "info@far.test", "any@D2.test"):
        assert place.may_send_as(a, address), address
    for address in ("b@d.test", "x@far.test", "a@far.test"):
        assert not place.may_send_as(a, address), address


def test_where_an_address_leads_is_the_same_object_until_something_changes(place: Mailing) -> None:
    """delivery.recipients remembers by it what else was worked out."""
    place.add_alias("x@d.test", ["a@d.test"])

    def changes(change: Callable[[], object]) -> list[bool]:
        before = [place.destinations(one) for one in ("a@d.test", "x@d.test")]
        change()
        return [place.destinations(one) is not was for one, was in zip(("a@d.test", "x@d.test"), before, strict=True)]

    assert changes(lambda: None) == [False, False]
    assert changes(lambda: place.note_used([(1, b"", "imap", 5)])) == [False, False]
    assert all(changes(lambda: place.change_domain("d.test", lambda old: replace(old, message_size=7))))
    assert all(changes(lambda: place.change_account("a@d.test", lambda old: replace(old, message_size=5))))
    assert changes(lambda: place.change_alias("x@d.test", lambda old: replace(old, targets=("b@d.test",))))[1]


# ---------------------------------------------------------------- aliases and forwards


def test_aliases_lead_anywhere(place: Following) -> None:
    place.add_alias("info@d.test", ["a@d.test", "Info@Far.test", "x@elsewhere.test"])
    assert who(place, "info+y@d.test") == ["a@d.test"]
    owner = "postmaster@d.test"
    assert elsewhere(place, "INFO@d.test") == [
        ("Info@Far.test", "info@d.test", owner),
        ("x@elsewhere.test", "info@d.test", owner),
    ], "as it was written: other hosts may mind case"
    place.add_alias("all@d.test", ["info@d.test", "b@d.test", "INFO@FAR.test"])
    assert who(place, "all@d.test") == ["a@d.test", "b@d.test"]
    assert [one[:2] for one in elsewhere(place, "all@d.test")] == [
        ("Info@Far.test", "info@d.test"),
        ("x@elsewhere.test", "info@d.test"),
    ], "each once, by the address that sends it there"


def test_an_alias_is_changed_in_one_step(place: Following) -> None:
    place.put_alias(Alias("x@d.test", ("a@d.test",), note="old"))
    place.change_alias("X@d.test", lambda old: replace(old, targets=("b@d.test",), note="new"))
    assert who(place, "x@d.test") == ["b@d.test"]
    found = place.alias("x@d.test")
    assert found is not None and found.note == "new"
    with pytest.raises(DirectoryError, match="lead to itself"):
        place.change_alias("x@d.test", lambda old: replace(old, targets=("x@d.test",)))
    with pytest.raises(NoSuchUser):
        place.change_alias("x@d.test", lambda old: replace(old, targets=("nobody@d.test",)))
    with pytest.raises(DirectoryError, match="needs a target"):
        place.change_alias("x@d.test", lambda old: replace(old, targets=()))
    assert who(place, "x@d.test") == ["b@d.test"] and place.counts("d.test") == (2, 1)


def test_an_alias_that_is_off_or_over_is_nobodys(place: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add_alias("@d.test", ["b@d.test"])
    now = time.time()
    place.put_alias(Alias("x@d.test", ("a@d.test",), expires=int(now) + 100))
    assert who(place, "x@d.test") == ["a@d.test"]
    monkeypatch.setattr(time, "time", lambda: now + 101)
    assert who(place, "x@d.test") == [], "not even the catch-all's, without any change of the directory"
    place.change_alias("x@d.test", lambda old: replace(old, expires=0))
    assert who(place, "x@d.test") == ["a@d.test"]
    place.change_alias("x@d.test", lambda old: replace(old, enabled=False))
    assert who(place, "x@d.test") == [] and who(place, "y@d.test") == ["b@d.test"]


def test_an_internal_alias_says_whose_it_is(place: Following) -> None:
    place.put_alias(Alias("staff@d.test", ("a@d.test",), internal=True))
    place.add_alias("open@d.test", ["staff@d.test"])
    assert place.destinations("staff@d.test").inside == "d.test"
    assert place.destinations("open@d.test").inside == "" and place.destinations("a@d.test").inside == ""


@pytest.mark.parametrize(
    ("address", "targets", "why"),
    [
        ("c@d.test", ["c@d.test"], "would lead to itself$"),
        ("c@d.test", ["one@d.test"], "by way of one@d.test: c@d.test -> one@d.test -> two@d.test -> c@d.test"),
        ("c@other.test", ["a@d.test", "one@d.test"], "not a domain"),
        ("c@d.test", ["one+x@D.test"], "c@d.test -> one@d.test -> two@d.test -> c@d.test"),
        ("c@d.test", ["forwards@d.test"], "c@d.test -> forwards@d.test -> c@d.test"),
    ],
)
def test_circles_are_refused_with_their_way(place: Following, address: str, targets: list[str], why: str) -> None:
    place.add_alias("c@d.test", ["a@d.test"])
    place.add_alias("two@d.test", ["c@d.test"])
    place.add_alias("one@d.test", ["two@d.test", "x@far.test"])
    place.add_accounts([("forwards@d.test", "{PLAIN}x")])
    place.change_account("forwards@d.test", lambda old: replace(old, forward=("c@d.test",)))
    if address == "c@d.test":
        with pytest.raises(DirectoryError, match=why):
            place.change_alias(address, lambda old: replace(old, targets=tuple(targets)))
        place.remove_alias("two@d.test")
    else:
        with pytest.raises(DirectoryError, match=why):
            place.add_alias(address, targets)


def test_forwards(place: Following) -> None:
    place.change_account("a@d.test", lambda old: replace(old, forward=("me@far.test", "b@d.test")))
    assert who(place, "a@d.test") == ["a@d.test", "b@d.test"]
    assert elsewhere(place, "a+x@d.test") == [("me@far.test", "a@d.test", "a@d.test")]
    place.change_account("a@d.test", lambda old: replace(old, keeps=False))
    assert who(place, "a@d.test") == ["b@d.test"]
    with pytest.raises(DirectoryError, match="the forward of b@d.test would lead to itself, by way of a@d.test"):
        place.change_account("b@d.test", lambda old: replace(old, forward=("a@d.test",)))
    with pytest.raises(DirectoryError, match="would lead to itself"):
        place.change_account("b@d.test", lambda old: replace(old, forward=("b+x@d.test",)))
    with pytest.raises(NoSuchUser, match="nobody here"):
        place.change_account("b@d.test", lambda old: replace(old, forward=("c@d.test",)))
    place.change_account("a@d.test", lambda old: replace(old, forward=("b@d.test",)))
    place.remove_account("b@d.test")
    assert who(place, "a@d.test") == ["a@d.test"], "what leads nowhere loses nothing"


# ---------------------------------------------------------------- app passwords


def test_app_passwords(place: Following) -> None:
    a = place.account("a@d.test")
    assert a is not None
    text = apps.make()
    digest = apps.digest(text.encode())
    new = AppPassword(digest, "phone", protocols=("imap",), nets="10.0.0.0/8")
    place.add_app_password("a@d.test", new)
    assert place.app_password(a.id, digest) == new and place.app_passwords(a.id) == [new]
    assert place.app_password(a.id + 1, digest) is None
    assert place.app_password(a.id, digest[:8] + bytes(24)) is None, "the whole of it counts"
    place.note_used(
        [(a.id, digest, "imap", 100), (a.id, b"", "imap", 100), (a.id, b"", "pop3", 50), (99, b"", "imap", 1)]
    )
    place.note_used([(a.id, b"", "imap", 90)])
    assert place.used(a.id, digest) == {"imap": 100} and place.used(a.id) == {"imap": 100, "pop3": 50}
    assert place.used(99) == {}
    before = place.revision
    place.remove_app_password("a@d.test", new)
    assert place.app_password(a.id, digest) is None and place.revision > before and place.used(a.id, digest) == {}
    with pytest.raises(NoSuchUser):
        place.remove_app_password("a@d.test", new)
    place.add_app_password("a@d.test", new)
    place.remove_account("a@d.test")
    assert place.app_passwords(a.id) == [] and place.used(a.id) == {}


def test_there_is_a_most_of_app_passwords(place: Following) -> None:
    for n in range(20):
        place.add_app_password("a@d.test", AppPassword(bytes([n]) * 32, f"{n}"))
    with pytest.raises(DirectoryError, match="has 20 app passwords"):
        place.add_app_password("a@d.test", AppPassword(bytes([20]) * 32, "one more"))


# ---------------------------------------------------------------- many, and who did it


def test_a_batch_is_one_change_and_sees_itself(place: Following) -> None:
    with place.batch():
        place.add_domain("e.test")
        place.add_accounts([("c@e.test", "{PLAIN}x")])
        place.change_account("c@e.test", lambda old: replace(old, name="C"))
        place.add_alias("x@e.test", ["c@e.test"])
        with pytest.raises(DirectoryError):
            place.add_alias("y@e.test", ["nobody@e.test"])
        assert who(place, "x@e.test") == ["c@e.test"] and place.counts("e.test") == (1, 1)
    assert who(place, "x@e.test") == ["c@e.test"] and place.is_local("e.test")
    with pytest.raises(ZeroDivisionError), place.batch():
        place.remove_alias("x@e.test")
        place.add_domain(str(1 // 0))
    assert who(place, "x@e.test") == ["c@e.test"], "all or nothing"


def test_the_audit_log_says_who_did_what(place: Following) -> None:
    place.actor = "root"
    place.change_account(
        "a@d.test", lambda old: replace(old, quota=Quota(5), password="{PLAIN}secret", suspended="unpaid")
    )
    place.bring([Line("c@d.test", "{PLAIN}hidden")], [])
    one, two = list(place.audit())[-2:]
    assert (one.who, one.what, one.name) == ("root", "account set", "a@d.test")
    assert one.text == "password; quota_storage: default -> 5; suspended: none -> unpaid"
    assert (two.who, two.what, two.name) == ("source", "account add", "c@d.test")
    assert not any("secret" in row.text or "hidden" in row.text for row in place.audit())
    assert [row.name for row in place.audit(2)] == ["a@d.test", "c@d.test"]
    assert {row.name for row in place.audit(name="a@d.test")} == {"a@d.test"}
    assert list(place.audit(1, "A@D.Test")) == list(place.audit(name="a@d.test"))[-1:] == [one]
    assert list(place.audit(1, "root")) == [one] and list(place.audit(1, "source")) == [two]


def test_what_a_login_notes_changes_nothing_that_is_remembered(place: Following) -> None:
    found = place.destinations("a@d.test")
    place.note_used([(1, b"", "imap", 5)])
    assert place.destinations("a@d.test") is found
    place.change_account("a@d.test", lambda old: replace(old, name="A"))
    assert place.destinations("a@d.test") is not found


def test_a_better_hash_takes_nothing_back(place: Following) -> None:
    a = place.account("a@d.test")
    assert a is not None
    before = place.revision
    assert place.upgrade_password(a, "{ARGON2ID}z", "keys") and place.revision == before
    assert not place.upgrade_password(a, "{ARGON2ID}q", "keys"), "it is another one meanwhile"
    now = place.account("a@d.test")
    assert now is not None and (now.password, now.scram) == ("{ARGON2ID}z", "keys")


def test_what_a_source_does_not_say_stays(place: Following) -> None:
    place.change_account("a@d.test", lambda old: replace(old, forward=("x@far.test",), suspended="why", quota=Quota(9)))
    place.bring([Line("A@d.test", "{PLAIN}new", home="/h")], ["b@d.test"])
    a = place.account("a@d.test")
    assert a is not None and (a.password, a.home, a.forward, a.suspended, a.quota) == (
        "{PLAIN}new", "/h", ("x@far.test",), "why", Quota(9))  # fmt: skip
    assert place.destinations("b@d.test").refusal == NOT_FOUND


def test_fields_go_out_and_come_back(place: Following) -> None:
    place.put_alias(Alias("x@d.test", ("a@d.test",), expires=2_000_000_000, note="n"))
    place.change_account("a@d.test", lambda old: fields.changed(old, fields.read("account", {
        "quota_storage": "5 GiB", "nets": "10.0.0.0/8,local", "answer_ends": "2033-05-18T03:33:20+00:00", "keeps": "no",
        "senders": "@e.test, Me@e.test"})))  # fmt: skip
    a, x, d = place.account("a@d.test"), place.alias("x@d.test"), place.domain("d.test")
    assert a is not None and x is not None and d is not None
    assert (a.quota.octets, a.answer.ends, a.senders) == (5 << 30, 2_000_000_000, ("@e.test", "Me@e.test"))
    assert fields.changed(a, fields.read("account", fields.shown(a))) == a
    assert fields.changed(x, fields.read("alias", fields.shown(x))) == x
    assert fields.changed(d, fields.read("domain", fields.shown(d))) == d


def test_logins_of_masters_push_out_no_changes(place: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that copies mail opens more mailboxes than the log keeps."""
    monkeypatch.setattr(audit, "MOST", 3)
    place.enable("b@d.test", False)
    for number in range(5):
        place.note_acting("admin@d.test", "a@d.test", "imap", f"192.0.2.{number}")
    place.enable("b@d.test", True)
    rows = list(place.audit())
    assert [one.name for one in rows if one.what != "login as"][-2:] == ["b@d.test", "b@d.test"]
    logins = list(place.audit(name="a@d.test", logins=True))
    assert [one.text for one in logins] == [f"by imap from 192.0.2.{number}" for number in (2, 3, 4)]
    assert {one.who for one in place.audit(logins=True)} == {"admin@d.test"}
    assert len(list(place.audit(2))) == 2 and [one.at for one in rows] == sorted(one.at for one in rows)
