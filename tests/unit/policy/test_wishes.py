"""What is asked for one recipient: the nearest level says it, forged senders gain nothing, lists go before scores."""

import pytest

from fastmail.directory.named import book
from fastmail.directory.records import Account, Domain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks, Thresholds
from fastmail.policy.wishes import SERVER, Level, Who, Wishes, judged, narrowed, refused_at_once, tagged, told, who

JOE = "joe@example.org"
BASE = Wishes(thresholds=Thresholds(5.0, 15.0))
SPAM = Checks(findings=[Finding("x", "spam", (Reason("x", 6.0),))])
VIRUS = Checks(findings=[Finding("av", "virus", action="refuse", reply=(554, "5.7.1", "infected"), always=True)])


def account(**fields: object) -> Account:
    return Account(1, "me@x.test", "", **fields)  # type: ignore[arg-type]


def domain(**fields: object) -> Domain:
    return Domain("x.test", **fields)  # type: ignore[arg-type]


def listed(allow: tuple[str, ...] = (), block: tuple[str, ...] = (), junk: bool = False) -> Wishes:
    return Wishes(levels=(Level(SERVER, book(allow), book(block), junk),))


def test_the_nearest_level_says_each_value() -> None:
    assert narrowed(BASE, domain(), account()) is BASE is narrowed(BASE, None, None, True)
    found = narrowed(BASE, domain(junk_score=3.0, enforce=True), account(junk_score=0.0, greylist=True))
    assert (found.thresholds.junk, found.thresholds.refuse, found.enforce, found.greylist) == (0.0, 15.0, True, 1.0)
    assert narrowed(Wishes(greylist=2.0), domain(greylist=True), None).greylist == 2.0
    off = narrowed(Wishes(enforce=True, greylist=2.0), domain(greylist=False, enforce=True), account(enforce=False))
    assert (off.greylist, off.enforce) == (0.0, False)
    said = dict(told(domain(junk_score=3.0, enforce=True), account(junk_score=0.0)))
    assert said == {
        "junk_score": "the account",
        "refuse_score": "the server",
        "greylist": "the server",
        "enforce": "the domain",
    }


def test_what_becomes_of_blocked_mail_is_said_by_the_nearest_level() -> None:
    for base, of_domain, of_account, junk in (
        (False, "", "", False), (True, "", "", True), (True, "refuse", "", False), (False, "refuse", "junk", True),
    ):  # fmt: skip
        rows = domain(blocked=of_domain), account(blocked=of_account, block=("@a.test",))
        assert narrowed(Wishes(junk=base), *rows).levels[0].junk is junk


def action(
    wishes: Wishes, *named: str, shown: tuple[str, ...] = (), ip: str = "192.0.2.1", checks: Checks = SPAM
) -> str:
    return wishes.done(judged(checks, wishes, Who(ip, (*named, *shown), shown)))


def test_lists_go_before_scores() -> None:
    both = Wishes(True, levels=listed(("@example.org",), ("bad@example.org",)).levels)
    assert action(both, "ann@else.test") == "junk"
    assert action(both, shown=(JOE,)) == "accept"
    assert action(both, JOE) == "junk", "who only says that it is Joe gains nothing"
    assert action(both, "bad@example.org") == "refuse", "who says that it is somebody blocked is"
    assert action(both, shown=("bad@example.org",)) == "refuse", "the more exact entry counts"
    equal = Wishes(True, levels=listed((JOE,), (JOE,)).levels)
    assert action(equal, shown=(JOE,)) == "refuse", "of two that are equal the one that blocks"


def test_lists_count_where_verdicts_are_only_written_down_and_scores_do_not() -> None:
    assert action(listed(block=("@example.org",)), JOE) == "refuse"
    assert action(listed(block=("@example.org",), junk=True), JOE, checks=Checks()) == "junk"
    worse = Checks(findings=[Finding("x", "spam", (Reason("x", 60.0),))])
    found = judged(worse, listed(block=("@example.org",), junk=True), Who("", (JOE,)))
    assert (found.action, found.always, found.named) == ("junk", "junk", "blocked")
    strict = Wishes(True, levels=listed(block=("@example.org",), junk=True).levels)
    assert action(strict, JOE, checks=worse) == "refuse", "where it counts, a score makes it no milder"


def test_networks() -> None:
    found = Wishes(True, levels=listed(("192.0.2.1", "198.51.100.0/24"), ("192.0.2.0/24", "@example.org")).levels)
    assert action(found, "a@b.test") == "accept"
    assert action(found, "a@b.test", ip="192.0.2.9") == "refuse"
    assert action(found, JOE, ip="198.51.100.1") == "refuse", "a sender is more exact than a network"


def test_a_nearer_list_goes_first() -> None:
    base = listed(block=("@example.org",))
    nearer = narrowed(base, domain(allow=("@example.org",)), account())
    assert action(nearer, shown=(JOE,), checks=Checks()) == "accept"
    assert action(narrowed(nearer, None, account(block=(".example.org",))), shown=(JOE,)) == "accept", "not below it"
    assert action(narrowed(nearer, None, account(block=(".org",))), shown=(JOE,)) == "refuse"
    assert action(narrowed(nearer, None, account(block=("joe@example.org",))), shown=(JOE,)) == "refuse"


def test_viruses_are_refused_whoever_sends_them() -> None:
    found = judged(VIRUS, listed((JOE,)), Who("", (JOE,), (JOE,)))
    assert (found.action, found.reply[0], found.named) == ("refuse", 554, "allowed")
    assert judged(VIRUS, listed(block=(JOE,)), Who("", (JOE,))).reply[2] == "infected"


def test_what_is_kept_back_always_is_kept_back_for_everybody() -> None:
    checks = Checks(findings=[Finding("av", "virus", action="quarantine", always=True)])
    assert action(listed((JOE,)), shown=(JOE,), checks=checks) == "quarantine"
    assert action(Wishes(), checks=checks) == "quarantine"
    assert action(listed(block=(JOE,), junk=True), JOE, checks=checks) == "quarantine"


def test_the_reason_names_the_entry_and_its_level() -> None:
    found = judged(SPAM, narrowed(BASE, None, account(block=("@example.org",))), Who("", (JOE,)))
    assert found.reasons[-1] == Reason("blocked", 0.0, "@example.org, by the account")
    assert found.reply[:2] == (550, "5.7.1") and "example" not in found.reply[2]


def test_postmasters_hear_who_is_blocked() -> None:
    found = narrowed(listed(block=("@example.org", "192.0.2.0/24")), None, None, True)
    assert action(found, JOE) == "accept" and not refused_at_once(found, "192.0.2.1", JOE)


@pytest.mark.parametrize(
    ("wishes", "at_once"),
    [
        (listed(block=("@example.org",)), True),
        (listed(block=("192.0.2.0/24",)), True),
        (listed(block=("0.0.0.0/0",)), True),
        (listed(block=("198.51.100.0/24",)), False),
        (listed(block=("@example.org",), junk=True), False),
        (listed(("192.0.2.1",), ("192.0.2.0/24",)), False),
        (listed(("192.0.2.0/24",), ("192.0.2.1",)), True),
        (listed(("@else.test",), ("192.0.2.0/24",)), False),  # its author may be from there
        (listed(("@else.test",), (JOE,)), True),
        (narrowed(listed(block=(JOE,)), None, account(allow=("@else.test",))), False),
        (narrowed(listed(block=(JOE,)), None, account(block=("@else.test",), blocked="junk")), False),
        (narrowed(listed(block=(JOE,)), None, account(block=("@else.test",))), True),
        (narrowed(listed(block=(JOE,)), None, account(allow=("192.0.2.0/24",))), False),
    ],
)
def test_what_is_refused_before_the_content_comes_would_be_behind_it_too(wishes: Wishes, at_once: bool) -> None:
    assert refused_at_once(wishes, "192.0.2.1", JOE) is at_once
    if at_once:
        for author in (JOE, "x@else.test", "y@far.test"):
            for shown in ((), (JOE,), (author,), (JOE, author)):
                assert judged(SPAM, wishes, Who("192.0.2.1", (JOE, author), shown)).always == "refuse"


def checked(result: str = "pass", mechanism: str = "ip4") -> Checked:
    return Checked(result, "mailfrom", "example.org", mechanism)


FROM = [b" Joe <Joe@Example.org>\n"]


@pytest.mark.parametrize(
    ("checks", "shown"),
    [
        (Checks(), ()),
        (Checks(sender=checked()), (JOE, "Joe@Example.org")),
        (Checks(sender=checked(mechanism="+all")), ()),
        (Checks(sender=checked("softfail")), ()),
        (Checks(sender=checked(), dmarc=Dmarc("none", domain="example.org")), (JOE, "Joe@Example.org")),
        (Checks(sender=checked(), dmarc=Dmarc("fail", domain="example.org")), (JOE,)),
        (Checks(sender=checked(), dmarc=Dmarc("temperror", domain="example.org")), (JOE,)),
        (Checks(dmarc=Dmarc("pass", domain="example.org")), ("Joe@Example.org",)),
        (Checks(dkim=[Signed("pass", domain="org")], nobody="2 From fields"), (JOE,)),
        (Checks(dkim=[Signed("pass", domain="ample.org"), Signed("fail", domain="example.org")]), ()),
    ],
)
def test_who_is_shown_to_be_the_sender(checks: Checks, shown: tuple[str, ...]) -> None:
    found = who("192.0.2.1", JOE, FROM, checks)
    assert found.named == (JOE, "Joe@Example.org") and found.shown == shown


def test_from_fields_that_cannot_be_read_name_nobody() -> None:
    found = who("", "", [b"Joe <joe", b"\xff <a@b.test>, x@y.test", b""], Checks())
    assert found == Who("", ("a@b.test", "x@y.test"))


@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("junk", [False, True])
def test_the_subject_of_blocked_mail(enforce: bool, junk: bool) -> None:
    """A list counts also where verdicts are only written down, but then no subject is changed."""
    blocking = Wishes(enforce, levels=(Level(SERVER, block=book((JOE,)), junk=junk),))
    decided = judged(Checks(), blocking, Who("192.0.2.1", (JOE,)))
    assert decided.named == "blocked" and blocking.done(decided) == ("junk" if junk else "refuse")
    assert tagged({blocking: decided}, 0.0) is enforce
    assert not tagged({blocking: decided}, 4.0), "its score is below that"
    others = Wishes(True)
    assert not tagged({blocking: decided, others: judged(Checks(), others, Who(""))}, 0.0), "somebody has it in INBOX"


def test_the_subject_from_a_score_on() -> None:
    strict, mild, watching = Wishes(True, Thresholds(junk=3.0)), Wishes(True, Thresholds(junk=9.0)), Wishes()
    each = {one: judged(SPAM, one, Who("")) for one in (strict, mild)}
    assert tagged(each, 6.0) and not tagged(each, 6.5), "also of those who have it in Junk"
    assert not tagged(each, 0.0) and tagged({strict: each[strict]}, 0.0)
    assert not tagged({**each, watching: judged(SPAM, watching, Who(""))}, 6.0)
