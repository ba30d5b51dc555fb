"""``fastmail deliverability``: what it prints, and how it ends."""

from typing import Any

import pytest

from fastmail.dns.memory import MemoryResolver
from tests.unit.cli.place import Place

DOMAIN, HOST, ADDRESS = "example.test", "mx.example.test", "192.0.2.1"
POINTER = "1.2.0.192.in-addr.arpa"


class Names(MemoryResolver):
    def close(self) -> None:
        pass


def records(place: Place) -> dict[tuple[str, str], list[Any]]:
    """All that is wanted, with a key that the server has in use."""
    (row,) = place.rows("dkim", "add", DOMAIN, "--selector", "a", "--now")
    return {
        (DOMAIN, "MX"): [(10, HOST)],
        (HOST, "A"): [ADDRESS],
        (HOST, "TXT"): ["v=spf1 a -all"],
        (POINTER, "PTR"): [HOST],
        (DOMAIN, "TXT"): ["v=spf1 mx -all"],
        ("a._domainkey.example.test", "TXT"): [row["record"]],
        ("_dmarc.example.test", "TXT"): ["v=DMARC1; p=reject; rua=mailto:me@example.test"],
    }


def test_a_domain_that_others_accept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(records(place))
    monkeypatch.setattr("fastmail.cli.deliverability.resolver_of", lambda config: names)
    text = place.run("deliverability", DOMAIN, "--address", ADDRESS)
    assert "ok       spf          192.0.2.1 may send: mx\n" in text
    assert "hint     mta-sts      missing" in text and "\n                      -> serve a policy at" in text
    assert "ok       certificate  for mx.example.test, until" in text
    rows = place.rows("deliverability", DOMAIN, "--address", ADDRESS)
    others = place.rows("check", "deliverability", DOMAIN, "--address", ADDRESS)
    assert [(row["check"], row["state"], row["found"]) for row in others] == [
        (row["check"], row["state"], row["found"]) for row in rows
    ]  # but for what is to be done: a record that is proposed has the time in it
    assert {row["state"] for row in rows} == {"ok", "hint"} and set(rows[0]) == {"check", "state", "found", "todo"}


def test_errors_are_an_exit_code(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmail.cli.deliverability.resolver_of", lambda config: Names({}))
    rows = place.rows("deliverability", DOMAIN, "--address", ADDRESS, code=1)
    wrong = {row["check"] for row in rows if row["state"] == "error"}
    assert wrong == {"hostname", "mx", "reverse dns", "spf", "dkim", "dmarc", "receivers"}


def test_records_of_strangers_do_not_reach_the_terminal(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names({("_dmarc.example.test", "TXT"): ["v=dmarc1; \x1b[2J\r\n"]})
    monkeypatch.setattr("fastmail.cli.deliverability.resolver_of", lambda config: names)
    text = place.run("deliverability", DOMAIN, "--address", ADDRESS, code=1)
    assert "v=dmarc1; ?[2J??" in text and "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("words", "code"), [(("none.test",), 67), (("no domain",), 2), ((DOMAIN, "--address", "mx.example.test"), 2)]
)
def test_what_cannot_be(place: Place, words: tuple[str, ...], code: int) -> None:
    place.run("deliverability", *words, code=code)
