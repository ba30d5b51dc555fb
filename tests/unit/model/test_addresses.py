"""Addresses: which are the same, how long they may be, and what may be an account, because its parts name directories."""

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.directory.rows import LONGEST, address_key
from fastmail.directory.taken import BESIDE
from fastmail.model.address import Address, account_address, comparable, domain_name, refuse_unseen
from fastmail.model.errors import BadAddress

FIT = "a" * 64
DOMAIN_255 = ".".join(["d" * 61] * 4 + ["d" * 7])  # 255 octets


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("Me@d.test", "me@D.TEST"),
        ("straße@d.test", "STRASSE@d.test"),  # case folding, not lower case
        ("ΝΊΚΟΣ@d.test", "νίκος@d.test"),  # the final sigma is a sigma in a local-part, and none in a domain
        ("é@d.test", "e\u0301@d.test"),
        ("É@d.test", "e\u0301@d.test"),
        ("\u1e9e@d.test", "ss@d.test"),
        ('"me"@d.test', "me@d.test"),  # RFC 5321 4.1.2: quoting is no part of the name
        ('"m\\e"@d.test', "me@d.test"),
        ('"A\\ b"@d.test', '"a b"@d.test'),
        ("a@bücher.test", "a@xn--bcher-kva.test"),
        ("a@BU\u0308CHER。test", "a@bücher.test"),
    ],
)
def test_the_same_address(written: str, other: str) -> None:
    first, second = (comparable(str(Address.parse(one))) for one in (written, other))
    assert first == second and address_key(first) == address_key(str(Address.parse(written)))


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("a@straße.test", "a@strasse.test"),  # IDNA 2008 keeps them apart, as it does the sigmas
        ("a@βόλος.test", "a@βόλοσ.test"),
        ("a@نامه\u200cای.test", "a@نامهای.test"),
        ("a.b@d.test", "ab@d.test"),
        ('"a b"@d.test', '"ab"@d.test'),
        ("a@d.test", "a@d.test.d.test"),
    ],
)
def test_another_address(written: str, other: str) -> None:
    first, second = (comparable(str(Address.parse(one))) for one in (written, other))
    assert first != second and address_key(first) != address_key(second)


def test_how_long_an_address_may_be() -> None:
    """Here, 64 octets of local-part and 255 of domain (RFC 5321 4.5.3.1), whatever characters they are; elsewhere, a
    local-part may be longer."""
    assert Address.parse(f"{FIT}@d.test").local == FIT and Address.parse(f"{'é' * 32}@d.test").local == "é" * 32
    assert len(DOMAIN_255) == 255 and Address.parse(f"a@{DOMAIN_255}").domain == DOMAIN_255
    for long in (f"{FIT}a@d.test", f"{'é' * 33}@d.test", f'"{FIT} a"@d.test', f"{'a' * 313}@d.test"):
        assert str(Address.parse(long)) == long
        with pytest.raises(BadAddress):
            account_address(long)
        with pytest.raises(BadAddress):
            refuse_unseen(long)
    for bad in (f"{'a' * 315}@d.test", f"a@d{DOMAIN_255}", f"a@{'d' * 64}.test"):
        with pytest.raises(BadAddress):
            Address.parse(bad)
    assert address_key(f"{FIT}@{DOMAIN_255}") and not address_key(f"{'a' * LONGEST}@d.test")


@pytest.mark.parametrize(
    "local",
    ["..", ".", ".a", "a..b", "a.", "/", "a/b", "../../x", "a\0b", "\0", '"."', '".."', '"../x"', '"a/b"', '"a\\/b"',
     '"a b"', "a b", "a%b", "a*b", "a\\b", "a\nb", "a\x7fb", "\u2024.", "a\u2044b/", "", "a@b"],
)  # fmt: skip
def test_what_is_no_account(local: str) -> None:
    with pytest.raises(BadAddress):
        account_address(f"{local}@d.test")


@pytest.mark.parametrize(
    "domain", ["..", ".", ".d", "d..e", "/", "d/e", "d\0e", "../x", "[127.0.0.1]", "\uff0e\uff0e", "d\uff0fe"]
)
def test_what_is_no_domain(domain: str) -> None:
    for call in (domain_name, lambda name: account_address(f"a@{name}")):
        with pytest.raises(BadAddress):
            call(domain)


ODD = st.sampled_from(list("./\\\0%~\"'@ aé\u0301ßK\u212aſ\uff0f\uff0e\u2024\u200d\n\x7f*"))


@given(st.text(st.one_of(ODD, st.characters()), max_size=20), st.text(st.one_of(ODD, st.characters()), max_size=12))
def test_an_account_names_one_file_below_its_directory(local: str, domain: str) -> None:
    try:
        found = account_address(f"{local}@{domain}")
    except BadAddress:
        return
    for part in (found.local, found.domain):
        assert os.path.normpath(os.path.join("/base", part)) == f"/base/{part}" and not part.startswith(".")
        assert not set(part) & set('/\0\n\\%"@') and part.isprintable()
    assert BESIDE not in found.local, "the place of a Maildir that is called otherwise is no account's"
    again = account_address(found.key)
    assert again == found and comparable(found.key) == comparable(again.key)


@given(st.text(st.one_of(ODD, st.characters(exclude_categories=["Cs"])), max_size=20))
def test_the_form_for_comparing_is_stable(local: str) -> None:
    form = comparable(f"{local}@d.test")
    assert comparable(form) == form
    for other in (local.lower(), local.casefold(), unicodedata.normalize("NFD", local)):
        assert comparable(f"{other}@d.test") == form
