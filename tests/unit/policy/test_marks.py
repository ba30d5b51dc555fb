"""Header fields that say what the content was found to be."""

import email
import re

import pytest

from fastmail.policy import marks
from fastmail.policy.reasons import Finding, Reason
from fastmail.policy.verdict import Thresholds, Verdict

LIMITS = Thresholds()


def decided(score: float = 0.0, action: str = "accept", *names: str) -> Verdict:
    return Verdict(action, score, tuple(Reason(name, 1.0, "why") for name in names))


def fields(verdict: Verdict, *found: Finding) -> dict[str, str]:
    text = marks.fields(verdict, found, LIMITS).decode("ascii")
    assert re.fullmatch(r"(?:[!-9;-~]+: [ -~]*\n(?:\t[ -~]+\n)*)+", text), text
    return dict(email.message_from_string(text + "\n").items())


def test_spam_and_no_spam() -> None:
    found = fields(decided(1.5, "accept", "spf.fail"))
    assert found == {
        "X-Spam-Status": "No, score=1.5 required=5\n\ttests=spf.fail", "X-Spam-Score": "1.5", "X-Spam-Level": "*"
    }  # fmt: skip
    for verdict in (decided(5.0), decided(0.0, "junk"), decided(0, "refuse")):
        found = fields(verdict, Finding("x", "x"))
        assert found["X-Spam-Status"].startswith("Yes,") and found["X-Spam-Flag"] == "YES"
        assert found["X-Spam-Status"].endswith("tests=none")


@pytest.mark.parametrize(
    ("score", "written", "level"),
    [(0, "0.0", None), (-0.04, "0.0", None), (-0.9, "-0.9", None), (0.96, "1.0", "*"), (4.999, "5.0", "*****"),
     (7.25, "7.2", "*******"), (1e9, "1000000000.0", "*" * 50)],
)  # fmt: skip
def test_numbers_and_points_for_rules(score: float, written: str, level: str | None) -> None:
    """RFC 5235: a number that spamtest can be made from, and one for rules that cannot compare numbers."""
    found = fields(decided(score))
    assert (found["X-Spam-Score"], found.get("X-Spam-Level")) == (written, level)


@pytest.mark.parametrize(
    ("said", "status"),
    [(["clean"], "Clean"), (["clean", "unknown"], "Unknown"), (["unknown", "infected", "clean"], "Infected")],
)
def test_the_worst_of_what_is_said_of_viruses(said: list[str], status: str) -> None:
    assert fields(decided(), *(Finding("x", "x", virus=one) for one in said))["X-Virus-Status"] == status


def test_many_reasons_are_folded_and_bounded() -> None:
    names = [f"list.zone{number}.example.org" for number in range(300)]
    text = marks.fields(decided(0.0, "accept", *names), [Finding("x", "x")], LIMITS)
    assert max(map(len, text.split(b"\n"))) <= 90 and text.count(b"list.zone") == marks.NAMED


def test_nothing_foreign_starts_a_field() -> None:
    nasty = "a\r\nX-Evil: 1\0\u20ac"
    found = Finding("x", nasty, (), add=(("X-Add", nasty), ("X-Spam-Flag", "NO"), ("x-virus-status", "Clean")))
    text = marks.fields(decided(0.0, "accept", nasty), [found], LIMITS)
    assert b"\nX-Evil" not in text and text.count(b"\n") == 4 and b"NO" not in text and b"Clean" not in text
    assert "\n" not in marks.words([found]) and " " not in marks.words([found])


def test_long_fields_of_scanners_are_folded_at_their_spaces() -> None:
    value = " ".join(f"WORD{number}(0.5)" for number in range(200)) + "  end"
    text = marks.fields(decided(), [Finding("x", "x", (), add=(("X-Spamd-Result", value),))], LIMITS)
    assert max(map(len, text.split(b"\n"))) <= 90
    assert email.message_from_bytes(text + b"\n")["X-Spamd-Result"].replace("\n", "") == value
    whole = marks.fields(decided(), [Finding("x", "x", (), add=(("X-One", "y" * 500),))], LIMITS)
    assert b"X-One: " + b"y" * 500 + b"\n" in whole, "there is no space to fold at"
