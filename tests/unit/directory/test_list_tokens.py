"""What lists put into addresses and subjects, and who cannot make it."""

import pytest

from fastmail.directory import srs
from fastmail.directory.list_tokens import AGREE_DAYS, Tokens, digest_of
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List

TEAM = "team@d.test"
ROW = List(TEAM)


@pytest.fixture
def tokens() -> Tokens:
    made = Tokens(MemoryDirectory())
    made.prepare()
    return made


def detail(address: str) -> str:
    return address.rpartition("@")[0].partition("+")[2].lower()


@pytest.mark.parametrize("member", ["bob@far.test", "B.o+b=x@far.test", "élan@fär.test", "a=b=c@far.test"])
def test_a_bounce_names_its_member(tokens: Tokens, member: str) -> None:
    made = tokens.bounces(TEAM, member)
    assert made.startswith("team-bounces+") and made.endswith("@d.test")
    found = tokens.bounced(ROW, detail(made))[0]
    assert digest_of(found) == digest_of(member)
    assert tokens.bounced(List("team2@d.test"), detail(made)) == ("", ""), "of another list"


@pytest.mark.parametrize("member", ["b" * 60 + "@far.test", '"b b"@far.test'])
def test_what_does_not_fit_is_a_hash(tokens: Tokens, member: str) -> None:
    made = tokens.bounces(TEAM, member)
    assert len(made.rpartition("@")[0]) <= 64
    assert tokens.bounced(ROW, detail(made)) == ("", digest_of(member))


def test_a_list_with_a_long_name_has_one_address_for_all(tokens: Tokens) -> None:
    assert tokens.bounces(f"{'t' * 50}@d.test", "bob@far.test") == f"{'t' * 50}-bounces@d.test"


def test_nobody_else_can_make_one(tokens: Tokens) -> None:
    whole = detail(tokens.bounces(TEAM, "bob@far.test"))
    for at in range(len(whole)):
        other = whole[:at] + ("b" if whole[at] == "a" else "a") + whole[at + 1 :]
        assert tokens.bounced(ROW, other) == ("", ""), other
    for text in ("", "x", whole[1:], whole + "=", "a" * 1000, "=" * 100):
        assert tokens.bounced(ROW, text) == ("", "")
    other_keys = Tokens(MemoryDirectory())
    other_keys.prepare()
    assert other_keys.bounced(ROW, whole) == ("", "")


def test_old_ones_are_nothing(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    bounces, join = detail(tokens.bounces(TEAM, "bob@far.test")), tokens.joining(TEAM, "bob@far.test")
    now = srs.time.time()

    def after(days: int) -> tuple[bool, bool]:
        monkeypatch.setattr(srs.time, "time", lambda: now + days * srs.DAY)
        return any(tokens.bounced(ROW, bounces)), bool(tokens.joins(ROW, join))

    assert after(AGREE_DAYS) == (True, True)
    assert after(AGREE_DAYS + 1) == (True, False)
    assert after(srs.AGE) == (True, False)
    assert after(srs.AGE + 1) == (False, False)


def test_who_joins(tokens: Tokens) -> None:
    text = tokens.joining(TEAM, "Bob@far.test")
    assert tokens.joins(ROW, f"Re: confirm {text}") == tokens.joins(ROW, text.upper()) == "bob@far.test"
    assert tokens.joins(List("team2@d.test"), text) == "" and tokens.joins(ROW, "confirm") == ""
    for at in range(len(text)):
        other = text[:at] + ("b" if text[at] == "a" else "a") + text[at + 1 :]
        assert tokens.joins(ROW, other) == "", other
    bounces = detail(tokens.bounces(TEAM, "bob@far.test"))
    assert tokens.joins(ROW, f"{bounces[9:11]}{bounces[:8]}.{text.partition('.')[2]}") == ""


def test_joining_and_leaving_are_two_things(tokens: Tokens) -> None:
    join, leave = tokens.joining(TEAM, "bob@far.test"), tokens.leaving(TEAM, "bob@far.test")
    assert tokens.leaves(ROW, f"confirm {leave}") == "bob@far.test"
    assert tokens.leaves(ROW, join) == "" and tokens.joins(ROW, leave) == ""


def test_what_was_made_under_an_earlier_name_counts(tokens: Tokens) -> None:
    renamed = List("team@new.test", formerly=("team@mid.test", TEAM))
    assert tokens.bounced(renamed, detail(tokens.bounces(TEAM, "bob@far.test")))[0] == "bob@far.test"
    assert tokens.joins(renamed, tokens.joining(TEAM, "bob@far.test")) == "bob@far.test"
    assert tokens.leaves(renamed, tokens.leaving("team@mid.test", "bob@far.test")) == "bob@far.test"
    assert tokens.joins(renamed, tokens.joining("team@else.test", "bob@far.test")) == ""
