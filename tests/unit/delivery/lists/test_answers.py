"""Messages of our own about a list: nothing of a stranger begins a field, and nobody gets many."""

import email
import email.policy

import pytest

from fastmail.delivery.lists import answers
from fastmail.directory.records import List

CREW = List("crew@d.test", name='The "crew"', owners=("a@d.test",))


def test_an_answer() -> None:
    text = answers.text(CREW, "you@far.test", "hello", ["one", "two"], "mx.d.test", "id@far.test")
    found = email.message_from_bytes(text, policy=email.policy.default)
    assert found["From"].addresses[0].addr_spec == "crew-request@d.test" and found["Auto-Submitted"] == "auto-replied"
    assert found["In-Reply-To"] == "<id@far.test>" and found.get_content() == "one\ntwo\n" and not found.defects


def test_what_strangers_write_starts_no_field() -> None:
    text = answers.text(CREW, "a\nBcc: x@y.test", "s", [], "mx.d.test", "x>\nBcc: y")
    assert "bcc" not in {name.lower() for name in email.message_from_bytes(text)}


def test_it_has_no_sender() -> None:
    made = answers.outgoing(1 << 40, "you@far.test", "far.test", b"Subject: x\n\nbody\n", "mx.d.test")
    assert made.item.sender == "" and made.groups["far.test"][0].notify == "NEVER"
    whole = b"".join(made.content)
    assert made.item.size == len(whole) + whole.count(b"\n")


def test_how_many_an_address_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(answers.time, "monotonic", lambda: now)
    bounded = answers.Bounded()
    assert [bounded.allows("x") for _ in range(answers.MOST + 2)] == [True] * answers.MOST + [False] * 2
    assert bounded.allows("y")
    now += answers.HOUR + 1
    assert bounded.allows("x")
    for number in range(answers.REMEMBERED + 5):
        bounded.allows(str(number))
    assert len(bounded._sent) == answers.REMEMBERED
