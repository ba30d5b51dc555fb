"""What the configuration says of strangers."""

import pytest

from fastmail.policy.strangers.rules import Rate, Rules, rate


def test_rates() -> None:
    assert rate(" connections  client 600") == Rate("connections", "client", 600)
    assert rate("messages recipient 5") == Rate("messages", "recipient", 5)


@pytest.mark.parametrize(
    "text",
    ["", "connections", "connections sender 5", "messages client 0", "messages client -1", "mails client 5", "a b c d"],
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        rate(text)


def test_nothing_is_asked_for_at_first() -> None:
    assert not Rules().any and Rules(wait=1.0).any and Rules(rates=(rate("messages client 1"),)).any
    assert Rules(tarpit=1.0).remembers and not Rules(guesses=5).remembers
