"""fastmail.migrate.sites.importing: what becomes of records, once, twice, and beside what is here."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import ANNOUNCERS, INSIDE, MEMBERS, PUBLIC, Answer, List, Member, Script
from fastmail.migrate.sites import importing, report
from fastmail.migrate.sites.importing import (
    CHANGED,
    DIFFERS,
    ELSEWHERE,
    NEW,
    NOT_HERE,
    PART,
    SAID,
    SAME,
    SKIPPED,
    Importer,
    Outcome,
)
from fastmail.migrate.sites.model import (
    EVERYBODY,
    ITS_ANNOUNCERS,
    ITS_MEMBERS,
    MEMBERS_AND_ANNOUNCERS,
    OF_ITS_DOMAIN,
    OF_THE_SERVER,
    BadRow,
    Hint,
    NotTaken,
    Record,
    RelayDomain,
    SiteAccount,
    SiteAlias,
    SiteAnswer,
    SiteDomain,
    SiteList,
    SiteScript,
)
from fastmail.model.quota import Quota

KEPT = "{PLAIN}secret"
ONE = SiteDomain("one.test")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LocalDirectory]:
    directory = LocalDirectory(str(tmp_path / "data"))
    yield directory
    directory.close()


def account(
    name: str, *forward: str, keeps: bool = True, password: str = KEPT, quota: int | None = None
) -> SiteAccount:
    return SiteAccount(f"{name}@one.test", password, forward=forward, keeps=keeps, quota=quota)


def alias(name: str, *targets: str) -> SiteAlias:
    return SiteAlias(f"{name}@one.test", targets)


def bring(place: LocalDirectory, *records: Record, overwrite: bool = False) -> list[Outcome]:
    return list(Importer(place, overwrite).bring(records))


def states(outcomes: list[Outcome]) -> dict[str, str]:
    """The state of each row, and of those that were taken in part this too."""
    out: dict[str, str] = {}
    for one in outcomes:
        out[one.name] = f"{out[one.name]}, {one.state}" if one.name in out else one.state
    return out


def test_all_of_an_account_is_kept(place: LocalDirectory) -> None:
    whole = SiteAccount(
        "Anna@One.Test",
        KEPT,
        enabled=False,
        logs_in=False,
        receives=False,
        sends=False,
        quota=5000,
        quota_messages=0,
        forward=("a@away.example",),
        keeps=False,
        senders=("@one.test", "x@away.example"),
        nets=("192.0.2.0/24",),
        role="domain",
        administers=("one.test",),
        name="Anna",
        language="de",
        answer=SiteAnswer("Away", "gone\nfishing", 5, 9, days=3),
    )
    assert states(bring(place, ONE, whole)) == {"one.test": NEW, "anna@one.test": NEW}
    found = place.account("anna@one.test")
    assert found is not None and found.password == KEPT and found.quota == Quota(5000, -1, 0)
    assert not (found.enabled or found.logs_in or found.receives or found.sends or found.keeps)
    assert found.forward == ("a@away.example",) and found.senders == ("@one.test", "x@away.example")
    assert (found.nets, found.role, found.administers) == ("192.0.2.0/24", "domain", ("one.test",))
    answer = Answer("Away", "gone\nfishing", 5, 9, enabled=True, days=3)
    assert (found.name, found.language, found.answer) == ("Anna", "de", answer)
    assert states(bring(place, ONE, whole)) == {"one.test": SAME, "anna@one.test": SAME}


def test_domains_their_other_names_and_limits(place: LocalDirectory) -> None:
    site: list[Record] = [
        SiteDomain("uno.test", alias_of="one.test"),  # before its domain
        SiteDomain("one.test", description="One", separators="", quota=7, most_accounts=1, most_storage=100),
        SiteDomain("off.test", enabled=False),
        SiteDomain("bad domain"),
        SiteDomain("lost.test", alias_of="nowhere.test"),
        account("a", quota=50),
        account("b", quota=0),  # more than most_accounts, which comes last
        account("c", quota=101),
    ]
    done = bring(place, *site)
    assert states(done) == {
        "one.test": NEW,
        "off.test": NEW,
        "bad domain": SKIPPED,
        "uno.test": NEW,
        "lost.test": SKIPPED,
        "a@one.test": NEW,
        "b@one.test": NEW,
        "c@one.test": f"{NEW}, {PART}",
    }
    one, uno, off = (place.domain(f"{name}.test") for name in ("one", "uno", "off"))
    assert one is not None and (one.separators, one.quota.octets, one.most_accounts, one.most_storage) == (
        "",
        7,
        1,
        100,
    )
    assert uno is not None and uno.alias_of == "one.test" and off is not None and not off.enabled
    limits = [found.quota.octets for name in "abc" if (found := place.account(f"{name}@one.test")) is not None]
    assert limits == [50, 0, 0]  # the domain's counts
    assert {one.state for one in bring(place, *site)} == {SAME, SKIPPED, PART}
    (late,) = bring(place, account("d"))
    assert late.state == SKIPPED and "has its 1 accounts" in late.text


def test_bad_rows_stop_nothing(place: LocalDirectory) -> None:
    done = bring(
        place,
        ONE,
        SiteDomain("uno.test", alias_of="one.test"),
        SiteAccount("no address", KEPT),
        SiteAccount("no@hash.test", "", why="its password is of another world"),
        SiteAccount("x@nowhere.test", KEPT),
        account("twice"),
        account("twice"),
        account("good"),
        alias("good", "good@one.test"),
        alias("none"),
        alias("bad", "x y"),
        SiteAlias("x@nowhere.test", ("good@one.test",)),
        BadRow("domain", "d", "it is odd"),
        alias("fine", "good@one.test", "|program", "@one.test"),
    )
    skipped = {one.name: one.text for one in done if one.state == SKIPPED}
    assert skipped.keys() == {
        "no address",
        "no@hash.test",
        "x@nowhere.test",
        "good@one.test",
        "none@one.test",
        "bad@one.test",
        "d",
    }
    assert states(done)["uno.test"] == NEW  # made when the first account comes, though that is none
    assert "another world" in skipped["no@hash.test"] and "is not a domain" in skipped["x@nowhere.test"]
    assert [one.text for one in done if one.name == "fine@one.test"][1].startswith("target |program: ")
    assert (
        states(done)["fine@one.test"] == f"{NEW}, {PART}, {PART}" and states(done)["twice@one.test"] == f"{NEW}, {SAME}"
    )
    assert place.resolve("fine@one.test")


def test_a_field_that_cannot_be_is_left_out(place: LocalDirectory) -> None:
    odd = SiteAccount("a@one.test", KEPT, name="x" * 600, answer=SiteAnswer("s", "y" * 20_000), nets=("here",))
    done = bring(place, ONE, odd)
    assert [one.state for one in done] == [NEW, NEW, PART, PART, PART, PART]
    found = place.account("a@one.test")
    assert found is not None and found.name == "" and found.answer.text == ""
    assert not found.logs_in  # a condition that cannot be read lets nobody in


def test_targets_may_come_later(place: LocalDirectory) -> None:
    done = bring(
        place,
        ONE,
        account("a", "info@one.test"),
        alias("info", "sales@one.test", "b@one.test"),
        alias("sales", "last+x@one.test"),
        alias("last", "b@one.test", "out@away.example"),
        account("b"),
        alias("any", "whoever@one.test"),
        SiteAlias("@one.test", ("b@one.test",)),
    )
    assert {one.state for one in done} == {NEW} and len(done) == 8
    assert [one.address for one in place.resolve("a@one.test")] == ["a@one.test", "b@one.test"]


def test_what_leads_nowhere_or_in_a_circle_is_named(place: LocalDirectory) -> None:
    site: list[Record] = [
        ONE,
        account("a", "b@one.test"),
        account("b", "a@one.test"),
        account("c", "gone@one.test", keeps=False),
        alias("ring", "ring2@one.test"),
        alias("ring2", "ring@one.test"),
        alias("way", "dead@one.test", "a@one.test"),
        alias("dead", "gone@one.test"),
        alias("self", "self@one.test"),
    ]
    done = bring(place, *site)
    assert states(done) == {
        "one.test": NEW,
        "a@one.test": f"{NEW}, {PART}",
        "b@one.test": NEW,
        "c@one.test": f"{NEW}, {PART}",
        "ring@one.test": SKIPPED,
        "ring2@one.test": SKIPPED,
        "way@one.test": f"{NEW}, {PART}",
        "dead@one.test": SKIPPED,
        "self@one.test": SKIPPED,
    }
    texts = {one.name: one.text for one in done if one.text}
    assert "leads back to it" in texts["a@one.test"] and "leads back to it" in texts["ring@one.test"]
    assert "not there" in texts["c@one.test"] and "not there" in texts["dead@one.test"]
    c = place.account("c@one.test")
    assert c is not None and c.keeps  # nothing is lost
    again = states(bring(place, *site))
    assert again == {name: state.replace(NEW, SAME) for name, state in states(done).items()}


def test_differences_are_shown_and_only_taken_when_asked(place: LocalDirectory) -> None:
    bring(place, ONE, account("a", quota=5), account("b"), alias("info", "a@one.test"))
    site: list[Record] = [
        SiteDomain("one.test", description="new"),
        account("a", "x@away.example", quota=6),
        account("b"),
        alias("info", "b@one.test"),
    ]
    done = bring(place, *site)
    assert states(done) == {"one.test": DIFFERS, "a@one.test": DIFFERS, "b@one.test": SAME, "info@one.test": DIFFERS}
    texts = {one.name: one.text for one in done}
    assert "quota_storage: 5 -> 6" in texts["a@one.test"] and "x@away.example" in texts["a@one.test"]
    kept = place.account("a@one.test")
    assert kept is not None and kept.quota.octets == 5 and kept.forward == ()
    assert {one.state for one in bring(place, *site, overwrite=True)} == {CHANGED, SAME}
    changed, info = place.account("a@one.test"), place.alias("info@one.test")
    assert changed is not None and changed.quota.octets == 6 and changed.forward == ("x@away.example",)
    assert info is not None and info.targets == ("b@one.test",)
    assert {one.state for one in bring(place, *site, overwrite=True)} == {SAME}


def test_what_the_site_does_not_say_stays(place: LocalDirectory) -> None:
    bring(place, ONE, account("a"))
    place.change_account("a@one.test", lambda old: importing.fields.changed(old, {"notes": "ours", "sends": False}))
    assert states(bring(place, ONE, account("a"), overwrite=True)) == {"one.test": SAME, "a@one.test": SAME}


def test_passwords(place: LocalDirectory) -> None:
    bring(place, ONE, account("a"))
    (done,) = bring(place, account("a", password="{PLAIN}other"))
    assert (done.state, done.text) == (DIFFERS, "password")
    # a login here gives it a better form: that is no difference
    place.set_password("a@one.test", "{ARGON2ID}$made$here")
    assert bring(place, account("a"))[0].state == SAME
    assert bring(place, account("a"), overwrite=True)[0].state == CHANGED
    found = place.account("a@one.test")
    assert found is not None and found.password == KEPT
    assert "secret" not in "".join(one.text for one in place.audit())


def test_spellings_of_targets_are_no_differences(place: LocalDirectory) -> None:
    site: list[Record] = [
        ONE,
        account("anna", "Out@Away.example"),
        SiteAlias("Info@One.test", ("ANNA@one.TEST", "x@away.example")),
    ]
    bring(place, *site)
    assert {one.state for one in bring(place, *site)} == {SAME}


def mailing(name: str, *members: str, writers: str = EVERYBODY, announcers: tuple[str, ...] = ()) -> SiteList:
    return SiteList(f"{name}@one.test", members, writers=writers, announcers=announcers)


def listed(place: LocalDirectory, name: str) -> List:
    found = place.mailing_list(f"{name}@one.test")
    assert found is not None
    return found


def members(place: LocalDirectory, name: str) -> list[str]:
    return [one.address for one in place.each_member(f"{name}@one.test")]


def test_lists_stay_lists_with_their_members(place: LocalDirectory) -> None:
    site: list[Record] = [
        ONE,
        mailing("both", "all@one.test", "later@one.test", "a@one.test"),  # a list in a list
        SiteList("all@one.test", ("a@one.test", "X@away.example"), enabled=False, name="All"),
        alias("way", "all@one.test"),
        alias("later", "a@one.test"),
        account("a"),
    ]
    done = bring(place, *site)
    assert states(done)["all@one.test"] == f"{NEW}, {SAID}" and states(done)["way@one.test"] == NEW
    assert {one.kind for one in done if one.name == "all@one.test"} == {"list"}
    found = listed(place, "all")
    assert (found.name, found.mode, found.enabled, found.owners) == ("All", PUBLIC, False, ("a@one.test",))
    assert members(place, "all") == ["a@one.test", "X@away.example"]
    assert members(place, "both") == ["a@one.test", "later@one.test"]
    assert [one.text for one in done if one.state == PART] == [
        "all@one.test: a mailing list is no member of another one: left out"
    ]
    before = len(list(place.audit()))
    assert {one.state for one in bring(place, *site)} == {SAME, PART} and len(list(place.audit())) == before


@pytest.mark.parametrize(
    ("writers", "mode", "logins_only"),
    [
        (EVERYBODY, PUBLIC, False),
        (ITS_MEMBERS, MEMBERS, False),
        (MEMBERS_AND_ANNOUNCERS, MEMBERS, False),
        (ITS_ANNOUNCERS, ANNOUNCERS, False),
        (OF_ITS_DOMAIN, INSIDE, False),
        (OF_THE_SERVER, PUBLIC, True),
        ("whom the moon likes", INSIDE, False),  # never wider than there
    ],
)
def test_who_may_write_to_a_list(place: LocalDirectory, writers: str, mode: str, logins_only: bool) -> None:
    done = bring(place, ONE, account("a"), mailing("l", "b@away.example", writers=writers, announcers=("a@one.test",)))
    found = listed(place, "l")
    assert (found.mode, found.logins_only, found.announcers) == (mode, logins_only, ("a@one.test",))
    assert ("here logins of its domain" in done[-1].text) == (writers == "whom the moon likes")


def test_who_owns_a_list(place: LocalDirectory) -> None:
    """Whom the site names, else who may announce, the postmaster, an administrator, a member; once, and then never
    another one."""
    said = SiteList("said@one.test", (), owners=("gone@one.test", "b@one.test"))
    done = bring(place, ONE, account("a"), account("b"), said, mailing("l", "x@away.example", "b@one.test"))
    assert listed(place, "said").owners == ("b@one.test",) and listed(place, "l").owners == ("b@one.test",)
    assert [one.text for one in done if one.state == PART] == [
        "owner gone@one.test: an address of this server, and not there: left out"
    ]
    boss = SiteAccount("boss@one.test", KEPT, role="domain", administers=("one.test",))
    bring(place, boss, mailing("m", "b@one.test"), mailing("n", writers=ITS_ANNOUNCERS, announcers=("a@one.test",)))
    assert listed(place, "m").owners == ("boss@one.test",) and listed(place, "n").owners == ("a@one.test",)
    site: list[Record] = [
        alias("postmaster", "a@one.test"),
        mailing("o", "b@one.test"),
        mailing("l", "x@away.example", "b@one.test"),
    ]
    bring(place, *site, overwrite=True)
    assert listed(place, "o").owners == ("postmaster@one.test",) and listed(place, "l").owners == ("b@one.test",)


def test_a_list_nobody_could_own(place: LocalDirectory) -> None:
    """A member of a list for announcers would be let write as its owner."""
    site: list[Record] = [
        ONE,
        account("a"),
        mailing("l", "a@one.test", writers=ITS_ANNOUNCERS),
        mailing("m", "x@away.example"),
    ]
    done = bring(place, *site)
    assert [one.state for one in done] == [NEW, NEW, SKIPPED, SKIPPED] and "could be its owner" in done[-1].text


def test_members_that_are_only_here_stay(place: LocalDirectory) -> None:
    site: list[Record] = [ONE, account("a"), mailing("l", "a@one.test", "x@away.example")]
    bring(place, *site)
    place.put_members("l@one.test", [Member("ours@away.example")])
    place.remove_member("l@one.test", "x@away.example")
    (done,) = bring(place, mailing("l", "a@one.test", "x@away.example"))
    assert (done.state, done.text) == (DIFFERS, "1 members more: x@away.example")
    assert members(place, "l") == ["a@one.test", "ours@away.example"], "who left is not signed up again unasked"
    (done,) = bring(place, mailing("l", "a@one.test", "x@away.example", writers=ITS_MEMBERS), overwrite=True)
    assert done.state == CHANGED and "mode: public -> members" in done.text
    assert members(place, "l") == ["a@one.test", "ours@away.example", "x@away.example"]


def test_a_list_whose_members_are_elsewhere_is_off_until_they_come(place: LocalDirectory) -> None:
    site: list[Record] = [ONE, account("a"), SiteList("l@one.test", None, owners=("a@one.test",))]
    done = bring(place, *site)
    assert not listed(place, "l").enabled and "`fastmail list import`" in done[-1].text
    place.put_members("l@one.test", [Member("x@away.example")])
    place.change_list("l@one.test", lambda old: importing.replace(old, enabled=True))
    assert {one.state for one in bring(place, *site, overwrite=True)} == {SAME, SAID}
    assert listed(place, "l").enabled and members(place, "l") == ["x@away.example"]


def test_a_member_that_leads_back_to_its_list(place: LocalDirectory) -> None:
    done = bring(place, ONE, account("a"), mailing("l", "ring@one.test", "a@one.test"), alias("ring", "l@one.test"))
    assert states(done)["l@one.test"] == f"{NEW}, {PART}, {SAID}" and states(done)["ring@one.test"] == NEW
    assert members(place, "l") == ["a@one.test"]


def test_relayed_domains_and_kinds_without_an_equivalent(place: LocalDirectory) -> None:
    done = bring(
        place,
        RelayDomain("far.test"),
        SiteAlias("a@far.test", ("x@away.example",)),
        NotTaken("rules", "write them anew", count=3),
        NotTaken("rules", "write them anew", "named"),
        Hint("mail", "/var/vmail", "look there"),
    )
    assert [one.state for one in done] == [NOT_HERE, NOT_HERE, NOT_HERE, NOT_HERE, ELSEWHERE]
    rows = list(report.rows(done))
    assert {"state": NOT_HERE, "kind": "rules", "name": "named", "count": 4, "text": "write them anew"} in rows
    assert rows[0]["state"] == ELSEWHERE and place.domain("far.test") is None


def test_an_account_of_another_name_is_told(place: LocalDirectory) -> None:
    site: list[Record] = [ONE, SiteDomain("uno.test", alias_of="one.test"), account("a")]
    (*_, done) = bring(place, *site, SiteAccount("a@uno.test", KEPT), SiteAlias("b@uno.test", ("a@one.test",)))
    assert done.state == SKIPPED and "another name of one.test" in done.text


def test_many_come_in_several_transactions(place: LocalDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "AT_ONCE", 7)
    records: list[Record] = [account(f"a{n}", *([f"a{n + 1}@one.test"] if n % 10 == 0 else [])) for n in range(50)]
    records += [alias(f"b{n}", "a1@one.test" if n % 5 == 4 else f"b{n + 1}@one.test") for n in range(40)]
    random.Random(5).shuffle(records)
    importer = Importer(place)
    done = list(importer.bring([ONE, *records]))
    assert importer.counts == {(NEW, "domain"): 1, (NEW, "account"): 50, (NEW, "alias"): 40}
    assert sum(one.state == NEW for one in done) == 91 and place.counts("one.test") == (50, 40)
    assert {one.state for one in bring(place, ONE, *records)} == {SAME}


def test_maildirs_stay_where_they_are(place: LocalDirectory) -> None:
    site: list[Record] = [ONE, *(SiteAccount(f"{name}@one.test", KEPT, maildir=path) for name, path in
                   (("a", "one.test/a-2026/"), ("b", "/srv/mail/v1/b/Maildir"), ("c", "../c"), ("d", "/etc")))]  # fmt: skip
    assert {one.state for one in bring(place, *site)} == {NEW}
    found = place.account("a@one.test")
    assert found is not None and found.maildir == ""
    done = list(Importer(place, True, "/srv/mail").bring(site))
    assert states(done) == {
        "one.test": SAME,
        "a@one.test": CHANGED,
        "b@one.test": CHANGED,
        **dict.fromkeys(("c@one.test", "d@one.test"), f"{SAME}, {PART}"),
    }
    paths = [found.maildir for name in "abcd" if (found := place.account(f"{name}@one.test")) is not None]
    assert paths == ["/srv/mail/one.test/a-2026", "/srv/mail/v1/b/Maildir", "", ""]
    assert CHANGED not in {one.state for one in Importer(place, True, "/srv/mail").bring(site)}


def test_a_copy_is_tried_and_nothing_else_changes(place: LocalDirectory, tmp_path: Path) -> None:
    bring(place, ONE, account("a"))
    other = place.copied(str(tmp_path / "copy"))
    assert [one.state for one in bring(other, ONE, account("a"), account("b"))] == [SAME, SAME, NEW]
    other.close()
    assert place.account("b@one.test") is None and place.account("a@one.test") is not None


def test_scripts_are_kept(place: LocalDirectory) -> None:
    mine = SiteScript("a@one.test", "work", "keep;\n", True)
    done = bring(place, ONE, account("a"), mine, SiteScript("nobody@one.test", "x", ""))
    assert [(one.kind, one.state) for one in done][2:] == [("script", NEW), ("script", SKIPPED)]
    assert place.scripts(1) == [Script("work", "keep;\n", True)]
    assert bring(place, mine)[0].state == SAME
    other = SiteScript("a@one.test", "work", "stop;\n")
    assert bring(place, other)[0].state == DIFFERS and place.scripts(1)[0].active
    assert next(iter(Importer(place, True).bring([other]))).state == CHANGED
    assert place.scripts(1) == [Script("work", "stop;\n")]
