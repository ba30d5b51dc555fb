"""Entries of allow and block lists: their forms, and the most exact one that fits."""

import ipaddress
import random

import pytest

from fastmail.directory import fields
from fastmail.directory.errors import DirectoryError
from fastmail.directory.named import NOBODY, Book, book, parse
from fastmail.directory.records import Account, Domain
from fastmail.model.errors import BadAddress
from fastmail.net import networks


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Joe@Example.ORG", "Joe@example.org"),
        (" @Example.org ", "@example.org"),
        (".example.org.", ".example.org"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("joe@bücher.example", "joe@xn--bcher-kva.example"),
    ],
)
def test_forms(text: str, kept: str) -> None:
    assert parse(text) == kept == parse(kept)


@pytest.mark.parametrize("text", ["", "example.org", "@", ".", "joe@", "192.0.2.0/33", "a b@example.org", "@a b", "*"])
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises((ValueError, BadAddress)):
        parse(text)


def test_the_most_exact_sender() -> None:
    found = book(("joe@example.org", "@example.org", ".example.org", ".sub.example.org", "@bücher.example"))

    def entry(address: str) -> str:
        fit = found.sender(address)
        return fit.entry if fit is not None else ""

    assert entry("JOE@example.org") == "joe@example.org"
    assert entry("ann@EXAMPLE.org") == "@example.org"
    assert entry("joe@a.example.org") == ".example.org"
    assert entry("joe@sub.example.org") == ".example.org", "what is below it does not hold for itself"
    assert entry("joe@a.b.sub.example.org") == ".sub.example.org"
    assert entry("x@xn--bcher-kva.example") == "@bücher.example"
    assert entry("joe@notexample.org") == entry("") == entry("joe@org") == ""


def test_the_smallest_network_as_by_asking_each() -> None:
    rng = random.Random(5)
    entries = {
        parse(f"10.{rng.randrange(4)}.{rng.randrange(4)}.{rng.randrange(8)}/{rng.randint(8, 32)}") for _ in range(60)
    }
    entries |= {parse(f"2001:db8:{rng.randrange(4)}::/{rng.choice([32, 40, 48, 64])}") for _ in range(10)}
    found = Book(entries)
    for _ in range(500):
        ip = rng.choice(
            [
                f"10.{rng.randrange(5)}.{rng.randrange(5)}.{rng.randrange(9)}",
                f"2001:db8:{rng.randrange(5)}::1",
                "::ffff:10.1.1.1",
            ]
        )
        address = networks.address(ip)
        fits = [net for net in map(ipaddress.ip_network, entries) if net.version == address.version and address in net]
        fit = found.network(ip)
        assert (fit.exact if fit is not None else None) == max((net.prefixlen for net in fits), default=None), ip
    assert found.network("local") is None and found.fit("192.0.2.1", ()) is None


def test_an_empty_list_fits_nobody() -> None:
    assert not NOBODY and book(("@a.test",)) and book(("10.0.0.0/8",))
    assert NOBODY.fit("192.0.2.1", ("a@b.test",)) is None


@pytest.mark.parametrize(("kind", "record"), [("domain", Domain("x.test")), ("account", Account(1, "a@x.test", ""))])
def test_fields(kind: str, record: Account) -> None:  # both have them
    given = {
        "allow": "Joe@Example.org, 192.0.2.1",
        "junk_score": "2.5",
        "greylist": "no",
        "blocked": "junk",
        "enforce": "yes",
    }
    found = fields.changed(record, fields.read(kind, given))
    assert (found.allow, found.junk_score, found.greylist) == (("Joe@example.org", "192.0.2.1/32"), 2.5, False)
    shown = fields.shown(found)
    assert shown["refuse_score"] == "default" and shown["blocked"] == "junk" and shown["enforce"] is True
    assert fields.changed(record, fields.read(kind, shown)) == found, "what is shown can be written back"
    plain = fields.changed(found, fields.read(kind, dict.fromkeys(given, "default") | {"allow": ""}))
    assert plain == record


@pytest.mark.parametrize(
    ("name", "value"),
    [("junk_score", "nan"), ("junk_score", "1e9"), ("refuse_score", True), ("blocked", "drop"), ("greylist", "maybe"),
     ("block", "nonsense"), ("allow", ",".join(f"a{n}@x.test" for n in range(501)))],
)  # fmt: skip
def test_fields_that_are_wrong(name: str, value: object) -> None:
    with pytest.raises((DirectoryError, BadAddress), match=name):
        fields.read("account", {name: value})
