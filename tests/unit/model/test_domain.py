"""Domain names (IDNA 2008 with the mapping of UTS 46): which are the same, which are none, and what they cost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.model import address as addresses
from fastmail.model import domain as names
from fastmail.model.address import Address, account_address, domain_name
from fastmail.model.errors import BadAddress


@pytest.mark.parametrize(
    ("typed", "ascii_form", "unicode_form"),
    [
        ("Example.ORG.", "example.org", "example.org"),
        ("ab--c.example", "ab--c.example", "ab--c.example"),  # no A-label, and hosts have such names
        ("_25._tcp.mx.example", "_25._tcp.mx.example", "_25._tcp.mx.example"),
        # the four characters that IDNA 2003 took for something else (RFC 5894 7.2): they have domains of their own
        ("fa\u00df.example", "xn--fa-hia.example", "fa\u00df.example"),
        ("FA\u1e9e.example", "xn--fa-hia.example", "fa\u00df.example"),
        ("\u03b2\u03cc\u03bb\u03bf\u03c2.example", "xn--nxasmm1c.example", "\u03b2\u03cc\u03bb\u03bf\u03c2.example"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example", "xn--mgba3gch31f060k.example",
         "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example"),
        ("\u0dc1\u0dca\u200d\u0dbb\u0dd3.example", "xn--10cl1a0b660p.example", "\u0dc1\u0dca\u200d\u0dbb\u0dd3.example"),
        # what people type
        ("B\u00dcCHER.example", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("b\u00fccher\u3002example", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("\uff42\u00fc\uff43\uff48\uff45\uff52\uff0eexample", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("b\u00fc\u00adcher.example", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example", "b\u00fccher.example"),
        ("xn--bcher-kva.\u0440\u0444", "xn--bcher-kva.xn--p1ai", "b\u00fccher.\u0440\u0444"),
        ("xn--ls8h.example", "xn--ls8h.example", "xn--ls8h.example"),  # of older rules: as it stands
    ],
)  # fmt: skip
def test_one_form(typed: str, ascii_form: str, unicode_form: str) -> None:
    assert names.ascii_name(typed) == ascii_form and names.unicode_name(typed) == unicode_form
    assert names.ascii_name(unicode_form) == ascii_form and names.unicode_name(ascii_form) == unicode_form
    assert {ascii_form, unicode_form} <= set(names.spellings(typed)) | {typed}


@pytest.mark.parametrize(
    "bad",
    [
        "", ".", "a..b", "a b", "a@b", "[127.0.0.1]", "a/b.example", "\uff0f.example", "a\uff20b.example",
        "\U0001f4a9.example",  # a symbol
        "xn--", "xn--fa-hia-.example", "xn--abc-.example", "xn--a.example",  # Punycode of nothing, of ASCII, of U+0080
        "xn--\u00fc.example", "\u0301a.example",  # an A-label with more in it; a combining mark in front
        "\u00ad.example", "a\u200d.example", "-\u00fc.example", "\u00fc-.example", "\u05d0a.example",
        "a" * 64 + ".example", "\u00fc" * 63 + ".example", "a." * 200, "\ud800.example", "\u00fc" * 100_000, "a" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_name(bad: str) -> None:
    with pytest.raises(BadAddress):
        names.ascii_name(bad)
    with pytest.raises(BadAddress):
        names.unicode_name(bad)
    assert names.comparable(bad) is not None and names.spellings(bad) == (bad.lower().removesuffix("."),)


def test_long_text_costs_nothing() -> None:
    begun = time.process_time()
    for one in ("\u00fc" * 1_000_000, "xn--" + "a" * 1_000_000, "\u0300" * 1_000_000, "\u3002" * 1_000_000):
        with pytest.raises(BadAddress):
            names.ascii_name(one)
    for number in range(200):  # the longest that is looked at, each another name
        names.comparable("\ufdfa" * 250 + chr(0x4E00 + number))
    assert time.process_time() - begun < 2


@given(st.text(max_size=30))
def test_the_forms_are_stable(text: str) -> None:
    try:
        found = names.ascii_name(text)
    except BadAddress:
        return
    assert found.isascii() and found == found.lower() and names.ascii_name(found) == found
    shown = names.unicode_name(text)
    assert names.ascii_name(shown) == found and names.unicode_name(shown) == shown
    assert names.comparable(text) == found == names.comparable(shown)


def test_addresses_have_one_form() -> None:
    assert str(Address.parse("Me@FA\u00df.example")) == "Me@xn--fa-hia.example"
    assert str(Address.parse("me@[127.0.0.1]")) == "me@[127.0.0.1]"
    assert account_address("Me@B\u00dcCHER.example").key == "me@b\u00fccher.example"
    assert account_address("me@XN--BCHER-KVA.example").key == "me@xn--bcher-kva.example"
    assert addresses.comparable("ME@b\u00fccher.example") == "me@xn--bcher-kva.example"
    assert addresses.comparable("root") == "root" and addresses.comparable("") == ""
    assert set(addresses.spellings("me@b\u00fccher.example")) == {"me@b\u00fccher.example", "me@xn--bcher-kva.example"}
    assert domain_name(" B\u00fccher.example. ") == "b\u00fccher.example"
    for bad in ("-b\u00fccher.example", "b\u00fccher-.example", "\U0001f4a9.example", "a-.example"):
        with pytest.raises(BadAddress):
            domain_name(bad)
