"""What names a message, and its preview, in its summary; against the plain reading of the header."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import fetch, idents, mime
from fastmail.message import summary

ID = re.compile(rb"<[^<>\s]+>")
PIECES = st.sampled_from(
    [b"<a@x>", b"<b@x>", b"<", b">", b"<>", b"< a>", b"<<c@x>>", b" ", b"\n ", b"\r\n\t", b"word", b"<d", b"(<e@x>)"]
)
VALUES = st.lists(PIECES, max_size=8).map(b"".join)
NAMES = st.sampled_from([b"References", b"In-Reply-To", b"Message-ID", b"message-id ", b"X-References", b"Subject"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def all_of(header: bytes, name: bytes) -> list[bytes]:
    return [found.group(0) for found in ID.finditer(fetch.header_fields(header, (name,), False))]


@given(HEADERS)
def test_identifications(fields: list[tuple[bytes, bytes]]) -> None:
    content = b"".join(name + b": " + value.strip() + b"\n" for name, value in fields) + b"\nbody\n"
    made = mime.scan(content)
    parsed = summary.read(made)
    assert parsed is not None
    own, references, reply = (all_of(parsed.header, name) for name in (b"message-id", b"references", b"in-reply-to"))
    seed = (references or reply or own or [b""])[0]
    assert idents.named(made) == ((own or [b""])[0], seed, references[::-1] + reply[::-1])


def test_the_first_and_the_nearest_of_many() -> None:
    every = [b"<%d@x>" % n for n in range(500)]
    made = mime.scan(b"References: " + b"\n ".join(every) + b"\n\n")
    own, seed, names = idents.named(made)
    assert (own, seed) == (b"", every[0])
    assert names == every[:-13:-1] + every[:1]


@pytest.mark.parametrize("content", [b"", b"Subject: x\n\nbody", b"A: 1\n\n" + b"--b\n" * 5])
def test_previews_lie_between_a_summary_and_its_rest(content: bytes) -> None:
    made = mime.scan(content)
    assert idents.preview(made) is None and idents.rest_at(made) == len(made)
    for words in (b"", b"some words", b"x" * 1024):
        for rest in (b"", b"12345678", bytes(32)):
            full = idents.with_preview(made + rest, words)
            assert idents.preview(full) == words and full[idents.rest_at(full) :] == rest == summary.rest(full)
            assert idents.with_preview(full, b"others") == idents.with_preview(made + rest, b"others")
            assert full[1 : len(made)] == made[1:] and summary.read(full) == summary.read(made)
            assert idents.named(full) == idents.named(made)
    with pytest.raises(ValueError, match="preview"):
        idents.with_preview(made, b"x" * 1025)


def test_what_is_cut_short_has_nothing() -> None:
    full = idents.with_preview(mime.scan(b"Message-ID: <a@x>\n\nbody\n"), b"some words") + bytes(32)
    for end in range(len(full)):
        piece = full[:end]
        assert idents.rest_at(piece) <= end
        idents.named(piece), idents.preview(piece)
    with pytest.raises(ValueError, match="preview"):
        idents.with_preview(full[:20], b"")
    old = bytes([1]) + mime.scan(b"Content-Type: multipart/mixed; boundary=b\n\nx\n")[1:-16]
    old = old[:2] + b"\1\0" + old[4:]
    assert mime.lost(old)
    with pytest.raises(ValueError, match="preview"):
        idents.with_preview(old, b"")


def quick_look(summary: bytes) -> bytes | None:
    """The slow version of idents.message_id, of a summary whose ENVELOPE has all values."""
    end = summary[32 : 32 + int.from_bytes(summary[8:12], "little")]
    if end.endswith(b" NIL)"):
        return b""
    found = re.search(rb' "(<[^<>\s"\\]+>)"\)\Z', end)
    return found[1] if found is not None else None


@given(st.lists(st.sampled_from([b"<", b">", b" ", b'"', b"\\", b"a", b"@b.test", b"\t", b"NIL", b"(", b")", b"\xe4"])))
def test_a_message_id_is_found_as_a_search_in_the_envelope_finds_it(pieces: list[bytes]) -> None:
    summary = mime.scan(b"Subject: x\nMessage-ID: " + b"".join(pieces) + b"\n\n")
    assert idents.message_id(summary) == quick_look(summary)


@pytest.mark.parametrize("octets", range(40))
def test_a_message_id_is_not_looked_for_behind_the_end(octets: int) -> None:
    summary = mime.scan(b"Message-ID: <a@b.test>\n\n")
    assert idents.message_id(summary[:octets]) is None
