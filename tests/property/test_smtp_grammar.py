"""The compiled SMTP grammar against the ABNF of RFC 5321 4.1.2 written as regular expressions: slow, obvious, and asked
about everything that a few hundred fragments can be put together to."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import smtp
from tests.support.examples import some

ATOM = rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
DOT_STRING = rb"%b(?:\.%b)*" % (ATOM, ATOM)
QUOTED = rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*)"'
LABEL = rb"[A-Za-z0-9_\-]{1,63}"  # wider than RFC 5321: names with "_" exist, and where "-" may be is the DNS's affair
DOMAIN = rb"(?:%b(?:\.%b)*|\[[\x21-\x5a\x5e-\x7e\[]{2,}\])" % (LABEL, LABEL)
MAILBOX = re.compile(rb"(?:(%b)|%b)@(%b)" % (DOT_STRING, QUOTED, DOMAIN))
PATH = re.compile(
    rb"<(?:@%b(?:,@%b)*:)?(%b)>" % (DOMAIN, DOMAIN, MAILBOX.pattern.replace(b"(", b"(?:").replace(b"(?:?:", b"(?:"))
)
PARAMS = re.compile(rb"(?: +[A-Za-z0-9\-]+(?:=[\x21-\x3c\x3e-\x7e\x80-\xff]+)?)* *")

PIECES = st.sampled_from([
    b"a", b"A1", b".", b"..", b"@", b"<", b">", b'"', b"\\", b" ", b"+", b"[", b"]", b"[127.0.0.1]", b"x.example", b"-", b"_",
    b",", b":", b"@r.example:", b"\x00", b"\xc3\xa9", b"\x7f", b'"q s"', b'"a.b"', b'"\\""', b"a" * 64, b"b" * 63, b"(c)",
])  # fmt: skip


def obvious(path: bytes) -> tuple[bytes, bytes] | None:
    """(local-part without its quoting, domain in lower case), or None for what is no path with a mailbox."""
    found = PATH.fullmatch(path)
    mailbox = MAILBOX.fullmatch(found.group(1)) if found else None
    if mailbox is None or len(path) > 256:
        return None
    plain, quoted, domain = mailbox.groups()
    local = plain if plain is not None else re.sub(rb"\\(.)", rb"\1", quoted)
    return None if len(domain) > 255 else (local, domain.lower())


def unquoted(local: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", local[1:-1]) if local.startswith(b'"') else local


@settings(max_examples=some(2000), deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_paths_are_what_the_abnf_says(inside: bytes) -> None:
    path = b"<" + inside + b">"
    wanted = obvious(path)
    try:
        found, end = smtp.parse_path(path, 0, False)
    except ValueError as error:
        assert wanted is None, path
        assert str(error).isprintable()
        return
    if found is None:
        assert path == b"<>" or path.startswith(b"<>")
        return
    assert wanted is not None or path[:end] != path, path
    if path[:end] == path:
        assert (unquoted(found[0]), found[1]) == wanted


@settings(max_examples=some(500), deadline=None)
@given(st.binary(min_size=1, max_size=20), st.sampled_from([b"x.example", b"[192.0.2.1]"]))
def test_a_quoted_local_part_comes_back_in_its_shortest_form_and_is_stable(local: bytes, domain: bytes) -> None:
    if any(c < 32 or c > 126 for c in local):
        return
    written = b'<"' + local.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"@' + domain + b">"
    (first, host), _ = smtp.parse_path(written, 0, False)
    assert (unquoted(first), host) == (local, domain)
    assert first.startswith(b'"') != bool(re.fullmatch(DOT_STRING, local))
    assert smtp.parse_path(b"<" + first + b"@" + host + b">", 0, False)[0] == (first, host)


@settings(max_examples=some(1000), deadline=None)
@given(
    st.lists(st.sampled_from([b" ", b"SIZE", b"=", b"10", b"body", b"8BITMIME", b"X-Y", b"\t", b"\xff", b"\x01"]), max_size=10)
    .map(b"".join)
)  # fmt: skip
def test_parameters_are_what_the_abnf_says(text: bytes) -> None:
    matches = PARAMS.fullmatch(text) is not None
    try:
        found = smtp.parse_params(text, 0)
    except ValueError:
        assert not matches or len(text.split()) > 20, text
        return
    assert matches, text
    words = [word.partition(b"=") for word in text.split(b" ") if word]
    assert found == [(name.upper(), value) for name, _, value in words]


@given(st.binary(max_size=50))
def test_xtext_there_and_back(value: bytes) -> None:
    written = smtp.to_xtext(value)
    assert re.fullmatch(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", written)
    assert smtp.xtext(written) == value


@settings(max_examples=some(500))
@given(st.one_of(st.binary(max_size=12), st.from_regex(rb"[0-9]{3}[ -]?[a-z]{0,4}(\r\n)?", fullmatch=True)))
def test_reply_lines(line: bytes) -> None:
    wanted = re.fullmatch(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", line.rstrip(b"\r\n"), re.DOTALL)
    if wanted is None:
        with pytest.raises(ValueError, match="reply"):
            smtp.reply_line(line)
        return
    code, last, at = smtp.reply_line(line)
    assert (code, last) == (int(wanted[1]), wanted[2] != b"-")
    assert line.rstrip(b"\r\n")[at:] == (wanted[3] or b"")
