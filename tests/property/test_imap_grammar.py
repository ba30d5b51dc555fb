"""The IMAP reader: whatever comes, a production or a ParseError; and what is written can be read."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core.imap import ParseError, Reader, literal_at_end, quote
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import Pattern, canonical, decode_utf7, encode_utf7
from tests.support.examples import some

TOKENS = [
    b"FETCH ", b"(", b")", b"BODY[", b"]", b"HEADER.FIELDS ", b"1", b":", b"*", b",", b" ", b'"', b"\\", b"{3}\r\nabc", b"{9}\r\n", b"NOT ",
    b"OR ", b"UID ", b"FLAGS", b"\\Seen", b"<0.", b">", b"1-Feb-1994", b"SINCE ", b"TEXT ", b"\0", b"\xff", b"ALL", b"+FLAGS.SILENT ", b".",
]  # fmt: skip
METHODS = [
    "sequence_set",
    "fetch_items",
    "search",
    "store",
    "flag_list",
    "astring",
    "list_mailbox",
    "date_time",
    "string",
    "head",
]


@settings(max_examples=some(400))
@given(st.lists(st.sampled_from(TOKENS), max_size=15), st.sampled_from(METHODS))
def test_reader_ends_in_a_value_or_a_parse_error(parts: list[bytes], method: str) -> None:
    data = b"".join(parts)
    reader = Reader(data)
    try:
        getattr(reader, method)()
        reader.end()
    except ParseError as error:
        assert 0 <= error.offset <= len(data) and error.expected


@given(st.binary(max_size=40).filter(lambda b: 0 not in b))
def test_what_is_quoted_reads_back(text: bytes) -> None:
    reader = Reader(quote(text))
    assert reader.astring() == text
    reader.end()


@given(st.text(max_size=40))
def test_utf7_both_ways(name: str) -> None:
    name = name.encode("utf-8", "ignore").decode()
    assert decode_utf7(encode_utf7(name)) == name
    assert encode_utf7(name).isascii()


@pytest.mark.parametrize("bad", [b"&", b"a&b", b"&!-", b"&AAA", b"x&ABCDE-y\xff"])
def test_bad_utf7_is_refused(bad: bytes) -> None:
    with pytest.raises(CannotDo):
        decode_utf7(bad)


@pytest.mark.parametrize("bad", ["", "a//b", "../x", "a/./b", "x\0y", "a\r\nb", "~root", "/abs", "a" * 300])
def test_hostile_names_are_refused(bad: str) -> None:
    with pytest.raises(CannotDo):
        canonical(bad, "/")


def test_names_and_wildcards() -> None:
    assert canonical("inbox/Sub/", "/") == "INBOX/Sub"
    assert canonical("A.B", ".") == "A/B"
    assert Pattern("a%b*", "/").matches("axxb/c/d")
    assert not Pattern("a%", "/").matches("a/b")
    assert not Pattern("%%%%%%%%%%%%%%%%%%%%x", "/").matches("y" * 5000)
    assert Pattern("*a" * 120 + "*", "/").matches("a" * 120) and not Pattern("*a" * 121, "/").matches("a" * 120)
    assert not Pattern("a" * 6000, "/").matches("a" * 6000), "no name is so long"


def by_regular_expression(text: str, separator: str) -> re.Pattern[str]:
    """What ``Pattern`` does, the obvious and slow way."""
    wild = {"*": ".*", "%": f"[^{re.escape(separator)}]*"}
    return re.compile("".join(wild.get(one, re.escape(one)) for one in text), re.DOTALL)


@settings(max_examples=some(1000))
@given(st.text("ab/*%.", max_size=9), st.text("ab/.", max_size=9), st.sampled_from("/."))
def test_wildcards_are_what_a_regular_expression_says(text: str, name: str, separator: str) -> None:
    assert Pattern(text, separator).matches(name) == bool(by_regular_expression(text, separator).fullmatch(name))


def test_literal_announcements() -> None:
    assert literal_at_end(b"a LOGIN {11}") == (11, True)
    assert literal_at_end(b"a LOGIN {11+}") == (11, False)
    assert literal_at_end(b"a LOGIN {11") is None and literal_at_end(b"a 11}") is None
    assert literal_at_end(b"{99999999999999999999999999999}")[0] > 1 << 50  # type: ignore[index]


def test_nesting_is_bounded() -> None:
    Reader(b"(" * 40 + b"ALL" + b")" * 40).search()
    with pytest.raises(ParseError, match="nested"):
        Reader(b"NOT " * 60 + b"ALL").search()
