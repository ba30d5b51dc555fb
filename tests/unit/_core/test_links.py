"""Hosts in texts, against the plain way: one position after the other, with regular expressions (RFC 3986 3.2.2)."""

import html
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import links

LETTER = re.compile(rb"[A-Za-z0-9._-]")
ENCODED = re.compile(rb"%([0-9a-fA-F]{2})")
SCHEME = re.compile(rb"(?:https?|ftp)$", re.IGNORECASE)
SLASHES = re.compile(rb"(?:[/\\]|%2f|%5c)+", re.IGNORECASE)
SLASHES_IN_QUOTES = re.compile(rb"[\t\n\r]*(?:[/\\]|%2f|%5c)(?:[/\\\t\n\r]|%2f|%5c)*", re.IGNORECASE)
STOP = rb"\x00-\x20\x7f/\\\\?#\"'<>"


def read(text: bytes, at: int, strip: bool) -> tuple[bytes, int]:
    """(the name at a place, empty for none; where it ends)."""
    out = b""
    while at < len(text):
        letter, code = LETTER.match(text, at), ENCODED.match(text, at)
        if letter:
            out += letter.group()
            at += 1
        elif code and LETTER.fullmatch(bytes([int(code.group(1), 16)])):
            out += bytes([int(code.group(1), 16)])
            at += 3
        elif strip and text[at : at + 1] in (b"\t", b"\r", b"\n"):
            at += 1
        else:
            break
    if len(out) > 255:
        return b"", at
    out = out.lower().rstrip(b".-_")
    named = len(out) > 2 and not out.startswith(b".") and b"." in out
    return (out if named or out[:1].isdigit() else b""), at


def authority(text: bytes, at: int, strip: bool) -> tuple[list[bytes], int]:
    if text[at : at + 1] == b"[":
        found = re.compile(rb"\[[^\]\x00-\x20]{0,63}\]").match(text, at)
        if found and len(found.group()) <= 64:
            return [found.group()], found.end()
        rest = re.compile(rb"[^\]\x00-\x20]{0,64}").match(text, at)
        assert rest is not None
        return [], rest.end()
    white = rb"\t\n\r" if strip else b""
    whole = re.compile(rb"(?:[^" + STOP + rb"]|[" + white + rb"])*" if white else rb"[^" + STOP + rb"]*").match(
        text, at
    )
    assert whole is not None
    stop = min(whole.end(), at + 512)
    name, end = read(text[:stop], at, strip)
    sign = text.rfind(b"@", at, stop)
    if sign < 0:
        return [name] if name else [], end
    if end < stop and text[end : end + 1] in (b":", b"@"):
        name = b""
    other, end = read(text[:stop], sign + 1, strip)
    return [one for one in (name, other) if one], end


def oracle(text: bytes) -> tuple[list[bytes], list[bytes]]:
    urls: dict[bytes, None] = {}
    addresses: dict[bytes, None] = {}
    at = 0
    while at < len(text):
        colon = re.compile(rb":|%3a", re.IGNORECASE).match(text, at)
        sign = re.compile(rb"@|%40").match(text, at)
        before = text[at - 1 : at] if at else b" "
        found: list[bytes] = []
        if colon and SCHEME.search(text[max(0, at - 5) : at]):
            start = at
            while start > 0 and at - start < 5 and text[start - 1 : start].isalpha():
                start -= 1
            strip = start > 0 and text[start - 1 : start] in (b'"', b"'")
            slashes = (SLASHES_IN_QUOTES if strip else SLASHES).match(text, colon.end())
            if slashes:
                found, end = authority(text, slashes.end(), strip)
        elif text[at : at + 2] in (b"//", b"/\\") and before in (b'"', b"'", b"=", b"("):
            found, end = authority(text, at + 2, before in (b'"', b"'"))
        elif sign and re.fullmatch(rb"[A-Za-z0-9._+=\"-]", before):
            name, end = read(text, sign.end(), False)
            if b"." in name and not name[-1:].isdigit():
                addresses[name] = None
                at = end
                continue
        elif text[at : at + 4].lower() == b"www." and not re.fullmatch(rb"[A-Za-z0-9._@/-]", before):
            name, end = read(text, at, False)
            found = [name] if b"." in name[4:] else []
        if found:
            urls.update(dict.fromkeys(found))
            at = end
        else:
            at += 1
    return list(urls), list(addresses)


TOKENS = [
    *(b"http:", b"HTTPS", b"ftp", b":", b"//", b"/", b"\\", b"%3a", b"%2F", b"%5C", b"%40", b"@", b"www.", b"Ww"),
    *(
        b"a.test",
        b"b",
        b".",
        b"-",
        b"_",
        b"%2e",
        b"%41",
        b"%zz",
        b'"',
        b"'",
        b"=",
        b"(",
        b" ",
        b"\n",
        b"\t",
        b"[",
        b"]",
    ),
    *(b"1", b"10.0.0.1", b"::1", b"?u=", b"#", b"<", b"+", b"x" * 60 + b".", b"\x00"),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=24).map(b"".join))
def test_what_the_plain_way_finds(text: bytes) -> None:
    urls, addresses, more = links.hosts(text, 1000)
    assert (urls, addresses) == oracle(text) and not more


@given(st.lists(st.sampled_from(TOKENS), max_size=24).map(b"".join), st.integers(0, 3))
def test_bounds(text: bytes, most: int) -> None:
    urls, addresses = oracle(text)
    assert links.hosts(text, most) == (urls[:most], addresses[:most], len(urls) > most or len(addresses) > most)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("see http://evil.test/x, https://Two.Test:8080.", ["evil.test", "two.test"]),
        ("http://www.bank.test@evil.test/", ["evil.test"]),
        ("http://www.bank.test:80@evil.test/", ["evil.test"]),
        (r"http:\\evil.test\x and http:/one.test", ["evil.test", "one.test"]),
        ("http://ev%69l%2Etest/", ["evil.test"]),
        ('<a href="http://ev\nil.te\tst">', ["evil.test"]),
        ("<img src=//evil.test/x.gif>", ["evil.test"]),
        ("url(//evil.test/x)", ["evil.test"]),
        ("https://good.test/?u=http%3A%2F%2Fevil.test%2F", ["good.test", "evil.test"]),
        ("https://good.test/?u=http://evil.test", ["good.test", "evil.test"]),
        ("http://evil\u3002test/", ["evil.test"]),
        ("http://\uff45vil\uff0etest\uff0d", ["evil.test"]),
        ("http://ev\u00adil\u200b.test\u2060", ["evil.test"]),
        ("\u201chttp://evil.test\u201d", ["evil.test"]),
        ("http://m\u00fcller.test/", ["m\u00fcller.test"]),
        ("go to www.evil.test.", ["www.evil.test"]),
        ("http://2130706433/ http://[2001:db8::1]:80/", ["2130706433", "[2001:db8::1]"]),
        ("http://localhost/ http:// http:x www. awww.x.test //evil.test 1//2", []),
    ],
)
def test_disguises(text: str, hosts: list[str]) -> None:
    assert [one.decode() for one in links.hosts(text.encode(), 9)[0]] == hosts


def test_addresses() -> None:
    text = b"Joe <joe@one.test>, mailto:joe%40two.test?x a@b @x.test joe@10.0.0.1 https://x.test/@joe.smith"
    assert links.hosts(text, 9)[1] == [b"one.test", b"two.test"]


def test_names_that_begin_within_others_take_linear_time() -> None:
    """Letters beyond ASCII stand in names, and www. may follow one: a long run of both takes no time, and hides no
    other name."""
    begun = time.process_time()
    assert b"www.evil.test" in links.hosts("\xe9www.".encode() * 100_000 + b" www.evil.test", 9)[0]
    assert time.process_time() - begun < 2.0


@given(
    st.lists(
        st.sampled_from(["&", "#", "x", "X", ";", "amp", "period", "4", "0", "a", "&#46;", "&sol;", " "]), max_size=12
    )
)
def test_references_are_those_of_html(pieces: list[str]) -> None:
    """Numbers, and those names that both know, wherever they have their semicolons. Python reads numbers as HTML does:
    some stand for others, or for nothing."""
    text = "".join(pieces)
    odd = {0, *range(1, 9), 11, *range(14, 32), *range(127, 160)}
    numbers = [int(d, 10) if d else int(h, 16) for d, h in re.findall(r"&#(?:(\d+)|[xX]([0-9a-fA-F]+))", text)]
    if not any(number in odd or number > 0xD7FF for number in numbers):
        assert links.unreferenced(text.encode()).decode() == html.unescape(text)


def test_numbers_that_are_no_characters() -> None:
    assert links.unreferenced(b"&#0;&#xD800;&#x110000;&#9999999999;&#x0000000000041;").decode() == "\ufffd" * 4 + "A"
    assert links.unreferenced(b"&#;&#x;&;&nothing;&") == b"&#;&#x;&;&nothing;&"
    assert links.unreferenced(b"") == b"" and links.hosts(b"", 5) == ([], [], False)
