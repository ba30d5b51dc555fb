"""Requests by mail, and what each of them does."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from fastmail.delivery.lists.requests import Answer, answer, wish
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.lookup import ToList
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import ACTIVE, OPEN, SUSPENDED, UNCONFIRMED, List, Member

CREW, YOU = "crew@d.test", "you@far.test"


@pytest.fixture
def place() -> Iterator[MemoryDirectory]:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([("a@d.test", "{PLAIN}x")])
    made.put_list(List(CREW, owners=("a@d.test",), joins=OPEN))
    yield made


def ask(place: MemoryDirectory, subject: str, sender: str = YOU, part: str = "request", login: str = "") -> Answer:
    row = place.mailing_list(CREW)
    assert row is not None
    return answer(place, ToList(row, part), sender, f"Subject: {subject}\n\n".encode(), login)


@pytest.mark.parametrize(
    ("part", "subject", "wanted"),
    [
        ("request", "HELP", "help"),
        ("request", "Re: AW: Confirm abc", "confirm"),
        ("request", "join", "subscribe"),
        ("request", "  leave now", "unsubscribe"),
        ("request", "something else", "help"),
        ("request", "", "help"),
        ("subscribe", "unsubscribe", "subscribe"),
        ("unsubscribe", "", "unsubscribe"),
    ],
)
def test_what_is_asked_for(part: str, subject: str, wanted: str) -> None:
    assert wish(part, f"Subject: {subject}\n\n".encode()) == wanted
    assert wish("request", b"\n") == "help"


def test_joining_takes_two_messages(place: MemoryDirectory) -> None:
    asked = ask(place, "", part="subscribe")
    assert asked.to == YOU and asked.subject.startswith("confirm ") and place.member(CREW, YOU) is None
    done = ask(place, f"AW: Re: {asked.subject}", sender="other@far.test")
    member = place.member(CREW, YOU)
    assert done.to == YOU and member is not None and member.state == ACTIVE, "the token says who joins"
    assert place.member(CREW, "other@far.test") is None


def test_the_tag_of_an_envelope_is_no_part_of_the_address(place: MemoryDirectory) -> None:
    tagged = f"prvs=0123abcdef={YOU}"
    asked = ask(place, "subscribe", sender=tagged)
    assert asked.to == tagged, "a host that writes tags may refuse answers without one"
    assert ask(place, asked.subject, sender=f"prvs=4567abcdef={YOU}").to == f"prvs=4567abcdef={YOU}"
    assert [one.address for one in place.each_member(CREW)] == [YOU]
    assert "get its mail already" in "".join(ask(place, "subscribe", sender=tagged).lines)
    ask(place, ask(place, "leave", sender=tagged).subject, sender=tagged)
    assert place.count_members(CREW) == 0


def test_whom_an_owner_suspended_stays_out(place: MemoryDirectory) -> None:
    place.put_members(CREW, [Member(YOU, "You")])
    tokens = Tokens(place)
    tokens.prepare()
    token = tokens.joining(CREW, YOU)
    place.put_members(CREW, [Member(YOU, "You", SUSPENDED)], True)
    assert "suspended" in ask(place, "subscribe").subject and "suspended" in ask(place, f"confirm {token}").subject
    member = place.member(CREW, YOU)
    assert member is not None and member.state == SUSPENDED


@pytest.mark.parametrize("state", [SUSPENDED, UNCONFIRMED])
def test_who_was_suspended_or_never_agreed_may_agree(place: MemoryDirectory, state: str) -> None:
    place.put_members(CREW, [Member(YOU, "You", state, bounces=5, bounced=9)])
    place.change_list(CREW, lambda old: replace(old, joins="closed"))
    asked = ask(place, "subscribe")
    ask(place, asked.subject)
    member = place.member(CREW, YOU)
    assert member is not None and (member.name, member.state, member.bounces) == ("You", ACTIVE, 0)


def test_a_list_that_is_closed(place: MemoryDirectory) -> None:
    tokens = Tokens(place)
    tokens.prepare()
    token = tokens.joining(CREW, YOU)
    place.change_list(CREW, lambda old: replace(old, joins="closed"))
    assert "invitation" in ask(place, "subscribe").subject
    assert "invitation" in ask(place, f"confirm {token}").subject, "it was open when the token was made"
    assert place.member(CREW, YOU) is None


def test_leaving(place: MemoryDirectory) -> None:
    assert "no member" in ask(place, "", part="unsubscribe").subject
    place.put_members(CREW, [Member(YOU), Member("a@d.test")])
    asked = ask(place, "", sender="YOU@far.test", part="unsubscribe")
    assert asked.subject.startswith("confirm ") and place.member(CREW, YOU) is not None, "anybody can write a sender"
    assert "You left" in ask(place, f"Re: {asked.subject}").subject and place.member(CREW, YOU) is None
    assert "no member" in ask(place, asked.subject).subject, "once more"
    assert "confirm" in ask(place, "leave", sender="a@d.test", login="other@d.test").subject
    assert "You left" in ask(place, "leave", sender="a@d.test", login="A@d.test").subject
    assert place.count_members(CREW) == 0


def test_a_token_that_is_none(place: MemoryDirectory) -> None:
    assert "changed nothing" in ask(place, "confirm abc").subject and place.count_members(CREW) == 0


def test_help_names_the_ways(place: MemoryDirectory) -> None:
    text = "\n".join(ask(place, "help").lines)
    for part in ("subscribe", "unsubscribe", "request", "owner"):
        assert f"crew-{part}@d.test" in text
