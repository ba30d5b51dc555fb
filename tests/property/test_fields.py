"""Header fields that the compiled core picks, against an obvious reader of the same header: split at line ends that no
white space follows (RFC 5322 2.2.3), compare names without case, join again."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import fetch, mime
from fastmail._core.lines import to_crlf
from fastmail.message import sections, summary, text
from tests.support.examples import some

NAMES = [
    "Subject",
    "subject",
    "SUBJECT",
    "From",
    "To",
    "Cc",
    "X-Sub",
    "X-Subject",
    "Subjec",
    "Received",
    "List-Id",
    "References",
]
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
VALUES = st.lists(st.tuples(st.sampled_from([" ", "\n ", "\n\t", "  "]), WORDS), max_size=6).map(
    lambda pairs: "".join(gap + word for gap, word in pairs)
)
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "", " ", "\t"]), VALUES), max_size=12)
ASKED = st.lists(st.sampled_from([name.lower().encode() for name in NAMES]), min_size=1, max_size=4, unique=True)


def written(fields: list[tuple[str, str, str]], crlf: bool) -> bytes:
    """A header and a body with lines that look like fields."""
    head = "".join(f"{name}{gap}:{value}\n" for name, gap, value in fields).encode()
    content = head + b"\nSubject: not of the header\n folded\n"
    return to_crlf(content) if crlf else content


def obvious(fields: list[tuple[str, str, str]], asked: list[bytes], unless: bool) -> bytes:
    """HEADER.FIELDS or HEADER.FIELDS.NOT as served (RFC 9051 6.4.5.1)."""
    out = "".join(
        f"{name}{gap}:{value}\n" for name, gap, value in fields if (name.lower().encode() in asked) is not unless
    )
    return to_crlf(out.encode()) + b"\r\n"


@settings(max_examples=some(600), deadline=None)
@given(FIELDS, ASKED, st.booleans(), st.booleans())
def test_picked_fields_are_those_that_were_asked_for(
    fields: list[tuple[str, str, str]], asked: list[bytes], unless: bool, crlf: bool
) -> None:
    content = written(fields, crlf)
    found = summary.of(content)
    which = b"HEADER.FIELDS.NOT" if unless else b"HEADER.FIELDS"
    wanted = obvious(fields, asked, unless)
    assert sections.extract(content, found, (), which, tuple(asked)) == wanted
    head = to_crlf(content[: found.parts[0].body])
    assert fetch.header_fields(head, tuple(asked), unless) == wanted


@settings(max_examples=some(300), deadline=None)
@given(FIELDS, st.booleans())
def test_the_header_cache_holds_what_is_not_bulk_whole_and_in_order(
    fields: list[tuple[str, str, str]], crlf: bool
) -> None:
    found = summary.of(written(fields, crlf))
    kept = [field for field in fields if not mime.is_bulk(field[0].encode())]
    assert found.complete
    assert found.header + b"\r\n" == obvious(kept, [], True)


@settings(max_examples=some(300), deadline=None)
@given(FIELDS, st.sampled_from(["subject", "to", "x-sub"]))
def test_values_are_unfolded_and_in_order(fields: list[tuple[str, str, str]], name: str) -> None:
    head = to_crlf(written(fields, False).partition(b"Subject: not")[0])
    wanted = [re.sub("\n(?=[ \t])", "", value).strip() for one, _, value in fields if one.lower() == name]
    if not any("=?" in value for value in wanted):
        assert list(text.field_values(head, name.encode())) == wanted
