"""Content off the wire, however it is cut, against a plain reading of RFC 5321."""

import re
from array import array

from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import lines
from fastmail.pop3.reading import sent_pieces

pieces = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"bc", b"\0", b"\r\n.\r\n", b"\r\n."]), max_size=30
)


def oracle(data: bytes) -> tuple[bytes, bytes] | None:
    """(content with LF, rest) up to the first CRLF.CRLF, or None when it does not come."""
    whole = b"\r\n" + data
    end = whole.find(b"\r\n.\r\n")
    if end < 0:
        return None
    content = whole[2 : end + 2] if end else b""
    rest = whole[end + 5 :]
    return re.sub(rb"(^|\r\n)\.", rb"\1", content), rest


@given(pieces, st.integers(1, 7))
def test_data_ends_once_and_only_at_crlf_dot_crlf(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    wanted = oracle(data)
    reader = lines.ContentReader(True, 1 << 20)
    used = 0
    got = b""
    while used < len(data) and not reader.done:
        chunk = data[used : used + step]
        used += reader.feed(chunk)
        got += reader.take()
    assert reader.done == (wanted is not None)
    if wanted is None:
        return
    content, rest = wanted
    assert data[used:] == rest
    bare = bool(re.search(rb"\r(?!\n)|(?<!\r)\n", data[:used]))
    assert (reader.bare, reader.nul) == (bare, b"\0" in data[:used]) or reader.bare == bare
    if not bare and not reader.nul:
        assert got == content.replace(b"\r\n", b"\n")
        assert reader.size == len(content)


@given(pieces, st.integers(1, 7))
def test_literals_keep_everything(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    reader = lines.ContentReader(False, 1 << 20, False)
    for i in range(0, len(data), step):
        reader.feed(data[i : i + step])
    reader.finish()
    assert reader.take() == data.replace(b"\r\n", b"\n")


@given(pieces)
def test_line_ends(parts: list[bytes]) -> None:
    data = b"".join(parts)
    crlf = lines.to_crlf(data)
    assert crlf == re.sub(rb"(?<!\r)\n", b"\r\n", data)
    assert lines.to_lf(data) == data.replace(b"\r\n", b"\n")


@given(st.lists(st.sampled_from([b"a", b".", b"..", b".b", b""]), max_size=12), st.integers(-1, 5))
def test_dot_stuffing_for_pop3(rows: list[bytes], body: int) -> None:
    data = b"H: 1\n\n" + b"".join(row + b"\n" for row in rows)
    wanted = [b"H: 1", b"", *(rows if body < 0 else rows[:body])]
    stuffed = b"".join((b"." if row.startswith(b".") else b"") + row + b"\r\n" for row in wanted)
    top = data if body < 0 else data[: lines.top_end(data, body)]
    assert lines.dot_stuffed(top) == stuffed + b".\r\n" and lines.dot_stuffed(top, False) == stuffed


@given(st.integers(1, 30), st.lists(st.integers(0, (1 << 32) - 1), max_size=12), st.sets(st.integers(1, 45)))
def test_listings_for_pop3(first: int, values: list[int], without: set[int]) -> None:
    rows = [(n, value) for n, value in enumerate(values, first) if n not in without]
    packed = array("I", values)
    assert lines.numbered(first, packed, without) == b"".join(b"%d %d\r\n" % row for row in rows)
    assert lines.numbered(first, packed, without, b"00ab") == b"".join(b"%d %08x00ab\r\n" % row for row in rows)


@given(
    st.lists(st.sampled_from([b"a", b".", b"\r", b"\n", b"\r\n", b"\n.", b"x" * 20]), max_size=30), st.integers(2, 30)
)
def test_a_message_in_pieces_is_the_same_message(parts: list[bytes], block: int) -> None:
    data = b"".join(parts)
    found = list(sent_pieces(data, block))
    assert b"".join(found) == lines.dot_stuffed(data)
    assert max(map(len, found)) <= 2 * block + 5, "a dot or a CR for each octet, and the last dot"


def test_the_limit_drops_content_but_finds_the_end() -> None:
    reader = lines.ContentReader(True, 10)
    assert reader.feed(b"x" * 50 + b"\r\n.\r\nNOOP") == 55
    assert reader.done and reader.full and reader.take() == b""
