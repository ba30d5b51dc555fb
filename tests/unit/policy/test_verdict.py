"""One verdict: what reasons weigh, and what DMARC's wish leads to (RFC 9989 7.4)."""

from fastmail.policy.arc import Chain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.iprev import Reverse
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import SCORES, Checks, Thresholds, Verdict, decide

LIMITS = Thresholds()


def sender(result: str, mechanism: str = "-all") -> Checked:
    return Checked(result, "mailfrom", "example.com", mechanism)


def failed(policy: str, published: str = "") -> Dmarc:
    return Dmarc("fail", "neither", "example.com", "example.com", policy, published or policy)


def names(verdict: Verdict) -> list[str]:
    return [one.name for one in verdict.reasons]


def test_good_mail() -> None:
    found = decide(
        Checks(sender=sender("pass"), dkim=[Signed("pass", domain="example.com")], dmarc=Dmarc("pass", domain="example.com"),
               reverse=Reverse("pass", "mail.example.com")),
        LIMITS,
    )  # fmt: skip
    assert (found.action, names(found)) == ("accept", ["reverse.pass", "spf.pass", "dkim.pass", "dmarc.pass"])
    assert found.score == round(sum(SCORES[name] for name in ("spf.pass", "dkim.pass", "dmarc.pass")), 3)


def test_nothing_is_held_against_mail_that_nothing_is_known_of() -> None:
    found = decide(Checks(sender=sender("none"), dkim=[], dmarc=Dmarc("none")), LIMITS)
    assert (found.action, found.score) == ("accept", 0)


def test_rejection_is_a_wish() -> None:
    """That alone makes mail junk; with other reasons against it, it is refused; a list's never."""
    assert decide(Checks(dmarc=failed("reject")), LIMITS).action == "junk"
    assert decide(Checks(dmarc=failed("reject")), LIMITS).override == "local_policy"
    against = Checks(sender=sender("fail"), reverse=Reverse("fail"), dmarc=failed("reject"))
    found = decide(against, LIMITS)
    assert found.action == "refuse" and found.reply[:2] == (550, "5.7.1") and "DMARC" in found.reply[2]
    listed = Checks(sender=sender("fail"), reverse=Reverse("fail"), dmarc=failed("reject"), listed=True)
    assert (decide(listed, LIMITS).action, decide(listed, LIMITS).override) == ("junk", "mailing_list")


def test_quarantine_and_none() -> None:
    assert decide(Checks(dmarc=failed("quarantine")), LIMITS).action == "junk"
    assert decide(Checks(dmarc=failed("none")), LIMITS).action == "accept"
    tested = decide(Checks(dmarc=failed("none", "quarantine")), LIMITS)
    assert (tested.action, tested.score, tested.override) == ("accept", 0, "policy_test_mode")
    assert decide(Checks(sender=sender("fail"), dmarc=failed("quarantine", "reject")), LIMITS).action == "junk"


def test_a_score_for_quarantine() -> None:
    found = Checks(sender=sender("fail"), reverse=Reverse("fail"))  # a score of 3
    assert decide(found, Thresholds(quarantine=3.0)).action == "quarantine"
    assert decide(found, Thresholds(junk=1.0, quarantine=3.0)).action == "quarantine"
    assert decide(found, Thresholds(refuse=3.0, quarantine=3.0)).action == "refuse"
    assert decide(found, Thresholds(quarantine=3.1)).action == decide(Checks(), Thresholds()).action == "accept"
    junk = Checks(sender=sender("fail"), dmarc=failed("quarantine"))
    assert decide(junk, Thresholds(quarantine=3.0)).action == "quarantine", "DMARC's wish is for less"


def test_only_sealers_that_are_trusted_count() -> None:
    chain = Chain("pass", "", 1, ("forward.test",), ("mx.forward.test; dmarc=pass header.from=example.com",))
    checks = Checks(sender=sender("fail"), reverse=Reverse("fail"), dmarc=failed("reject"), arc=chain)
    assert decide(checks, LIMITS).action == "refuse"
    found = decide(checks, Thresholds(sealers=frozenset({"forward.test"})))
    assert (found.action, found.override) == ("accept", "trusted_forwarder")
    assert ("arc.vouched", "forward.test says dmarc=pass") in [(one.name, one.why) for one in found.reasons]
    broken = Checks(dmarc=failed("reject"), arc=Chain("fail", "x", 1, ("forward.test",)))
    assert decide(broken, Thresholds(sealers=frozenset({"forward.test"}))).action == "junk"


def test_a_trusted_sealer_that_saw_a_failure_vouches_for_nothing() -> None:
    chain = Chain("pass", "", 1, ("forward.test",), ("mx.forward.test; dmarc=fail header.from=example.com",))
    checks = Checks(sender=sender("fail"), reverse=Reverse("fail"), dmarc=failed("reject"), arc=chain)
    found = decide(checks, Thresholds(sealers=frozenset({"forward.test"})))
    assert (found.action, found.override) == ("refuse", "")
    assert ("arc.doubted", "forward.test says dmarc=fail") in [(one.name, one.why) for one in found.reasons]
    assert "arc.doubted" not in names(decide(checks, LIMITS)), "nobody asks a sealer that is not trusted"


def test_thresholds() -> None:
    checks = Checks(sender=sender("fail"), helo=Checked("fail", "helo", "x.test"), reverse=Reverse("fail"))
    assert decide(checks, Thresholds(junk=4.0)).action == "junk"
    assert decide(checks, Thresholds(junk=1.0, refuse=4.0)).action == "refuse"
    assert decide(checks, Thresholds(junk=4.1)).action == "accept"


def test_s14_a_message_without_one_author_is_refused() -> None:
    found = decide(Checks(nobody="2 From fields"), LIMITS)
    assert (found.action, found.reply[0]) == ("refuse", 550)


def test_many_signatures_weigh_no_more_than_one() -> None:
    one = decide(Checks(dkim=[Signed("pass")]), LIMITS)
    assert decide(Checks(dkim=[Signed("pass")] * 5), LIMITS).score == one.score


def test_everybody_is_nobody() -> None:
    assert "spf.everybody" in names(decide(Checks(sender=sender("pass", "+all")), LIMITS))


def test_reasons_are_short() -> None:
    found = decide(Checks(dkim=[Signed("fail", "x" * 5000)]), LIMITS)
    assert all(len(one.why) <= 200 for one in found.reasons)


def finding(score: float = 0.0, action: str = "accept", always: bool = False, code: int = 554) -> Finding:
    reply = (code, "5.7.1", action) if action in ("later", "refuse") else (250, "2.0.0", "")
    return Finding("x", "said", (Reason("x", score, "why"),), action, reply, always)


def test_what_scanners_say_is_added() -> None:
    found = decide(Checks(sender=sender("fail"), findings=[finding(2.5), finding(0.6)]), LIMITS)
    assert (found.action, found.score, names(found)) == ("junk", 5.1, ["spf.fail", "x", "x"])
    assert decide(Checks(findings=[finding(16.0)]), LIMITS).action == "refuse"
    assert decide(Checks(sender=sender("fail"), findings=[finding(-3.0)]), LIMITS).score == -1


def test_of_several_wishes_the_strongest_is_done() -> None:
    for wishes, done in (
        (["accept", "accept"], "accept"),
        (["accept", "junk"], "junk"),
        (["later", "junk"], "later"),
        (["later", "refuse", "junk"], "refuse"),
    ):
        for order in (wishes, wishes[::-1]):
            found = decide(Checks(findings=[finding(action=one) for one in order]), LIMITS)
            assert (found.action, found.always) == (done, "accept")
            assert found.reply[2] == (done if done in ("later", "refuse") else "")


def test_some_wishes_are_done_even_where_others_are_only_written_down() -> None:
    found = decide(Checks(findings=[finding(20.0, "refuse", code=550), finding(action="junk", always=True)]), LIMITS)
    assert (found.action, found.reply[0], found.always) == ("refuse", 550, "junk")
    found = decide(
        Checks(findings=[finding(action="later", always=True, code=451), finding(action="refuse", always=True)]), LIMITS
    )
    assert (found.always, found.always_reply[0]) == ("refuse", 554)
    both = [finding(20.0, "refuse", code=550), finding(action="refuse", always=True)]
    assert decide(Checks(findings=both), LIMITS).reply[0] == 554, "the reply says what is surest"


def test_what_a_scanner_says_may_be_the_other_reason_that_dmarc_needs() -> None:
    """RFC 9989 7.4."""
    assert decide(Checks(dmarc=failed("reject"), findings=[finding(2.0)]), LIMITS).action == "refuse"
    assert decide(Checks(dmarc=failed("reject"), findings=[finding(1.9)]), LIMITS).action == "junk"
