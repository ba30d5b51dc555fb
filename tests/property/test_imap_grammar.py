"""The IMAP reader: whatever comes, a production or a ParseError; and what is written can be read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core.imap import ParseError, Reader, literal_at_end, quote
from fastmail.model.errors import CannotDo
from fastmail.model.mailbox_name import canonical, decode_utf7, encode_utf7, pattern

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


@settings(max_examples=400)
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
    assert pattern("a%b*", "/").fullmatch("axxb/c/d")
    assert not pattern("a%", "/").fullmatch("a/b")
    assert pattern("%%%%%%%%%%%%%%%%%%%%x", "/").fullmatch("y" * 5000) is None


def test_literal_announcements() -> None:
    assert literal_at_end(b"a LOGIN {11}") == (11, True)
    assert literal_at_end(b"a LOGIN {11+}") == (11, False)
    assert literal_at_end(b"a LOGIN {11") is None and literal_at_end(b"a 11}") is None
    assert literal_at_end(b"{99999999999999999999999999999}")[0] > 1 << 50  # type: ignore[index]


def test_nesting_is_bounded() -> None:
    Reader(b"(" * 40 + b"ALL" + b")" * 40).search()
    with pytest.raises(ParseError, match="nested"):
        Reader(b"NOT " * 60 + b"ALL").search()
