"""Outcomes that are kept, against those that are made."""

from msgspec.structs import replace

from fastmail.policy import marks, outcome, verdict
from fastmail.policy.arc import Chain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.iprev import Reverse
from fastmail.policy.lists import Listed
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks, Thresholds
from tests.unit.policy.test_authentication import made


def signature(shown: str, result: str = "pass", bits: int = 2048) -> Signed:
    return Signed(result, "", "a.test", "s", "@a.test", "rsa-sha256", shown, bits)


def checks(*signed: Signed, **more: object) -> Checks:
    usual = {
        "helo": Checked("pass", "helo", "mail.a.test"),
        "sender": Checked("fail", "mailfrom", "a.test", "-all"),
        "dkim": list(signed),
        "dmarc": Dmarc("fail", "no", "a.test", policy="reject", published="reject"),
        "reverse": Reverse("pass", "mail.a.test"),
        "lists": [Listed("bl.test", 3.0, "192.0.2.1", ("127.0.0.2",))],
    }
    return Checks(**(usual | more))  # type: ignore[arg-type]


def same(found: outcome.Outcome, one: Checks, limits: Thresholds, ip: str) -> bytes:
    """Everything in an outcome is what would be made of the checks alone; returns its field."""
    assert found.decided == verdict.decide(one, limits)
    assert found.marks == marks.fields(found.decided, one.findings, limits)
    assert found.words == outcome.words(one, found.decided)
    results = [(kind, getattr(one, at)) for kind, at in (("spf", "sender"), ("dmarc", "dmarc"))]
    assert list(found.counters) == [f"policy.{kind}.{said.result}" for kind, said in results if said is not None]
    field = found.field(one.dkim or ())
    assert field == made(one, ip)
    return field


def test_every_result_counts() -> None:
    """A field that Checks gets has to be here, so that no outcome is taken for that of other checks."""
    others: dict[str, object] = {
        "helo": None,
        "sender": None,
        "dkim": [signature("abcdefgh", "fail")],
        "more": 1,
        "dmarc": None,
        "arc": Chain("pass", "", 1, ("a.test",)),
        "reverse": None,
        "nobody": "2 From fields",
        "listed": True,
        "lists": [],
        "noted": (("helo.own", "x"),),
        "refusal": (550, "5.7.1", "no"),
        "findings": (Finding("s", "7/5", (Reason("s", 7.0),)),),
    }
    assert set(others) == set(Checks.__struct_fields__)
    whole = checks(signature("abcdefgh"))
    for name, value in others.items():
        for one in (whole, replace(whole, **{name: value}), whole):
            same(outcome.of(one, Thresholds(), "192.0.2.1", "mx.test"), one, Thresholds(), "192.0.2.1")


def test_what_is_kept_is_what_would_be_made() -> None:
    outcome._outcome.cache_clear()
    seen = set()
    for one in (
        checks(signature("abcdefgh")),
        checks(signature("ab/def+h")),
        checks(signature("abcdefgh"), signature("xyz", "fail")),
        checks(signature("abcdefgh", bits=1024)),
        checks(),
        checks(dkim=None),
        checks(more=2),
        checks(lists=[]),
        checks(listed=True),
        checks(dmarc=None, nobody="2 From fields"),
        checks(sender=None, helo=None, reverse=None),
        checks(reverse=Reverse("fail", "mail.a.test")),
        checks(dmarc=Dmarc("pass", "", "a.test")),
    ):
        for limits in (Thresholds(), Thresholds(junk=1.0), Thresholds(quarantine=2.0), Thresholds(refuse=2.0)):
            for ip in ("192.0.2.1", "192.0.2.2"):
                for _ in range(2):
                    found = outcome.of(one, limits, ip, "mx.test")
                    seen.add((found.decided, same(found, one, limits, ip)))
    kept = outcome._outcome.cache_info()
    # of the first two only b= differs; outcomes differ by thresholds and client too
    assert kept.currsize == 12 * 4 * 2 and kept.hits == kept.currsize + 2 * 4 * 2
    assert len(seen) > kept.currsize / 4


def test_chains_are_not_kept() -> None:
    outcome._outcome.cache_clear()
    for number in range(50):
        for results in (("x" * 60_000,), ("y",)) if number else ((),):
            one = checks(arc=Chain("pass" if number else "none", "", number, ("a.test",) * number, results))
            limits = Thresholds(sealers=frozenset(["a.test"]))
            same(outcome.of(one, limits, "192.0.2.1", "mx.test"), one, limits, "192.0.2.1")
    assert outcome._outcome.cache_info().currsize == 1
