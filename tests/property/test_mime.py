"""The scanner: never fails, is linear, and agrees with Python's email package on what it can be compared on."""

import email
import email.policy
import importlib.resources
import itertools
import re
import struct
import time
from collections.abc import Callable
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import lines, mime
from fastmail.message import sections, summary
from tests.support.examples import some

FRAGMENTS = [
    b"Subject: x\n", b"From: a b <c@d>\n", b"To: g:a@b,c@d;\n", b"Content-Type: multipart/mixed; boundary=b\n", b"\n", b"--b\n",
    b"--b--\n", b"Content-Type: message/rfc822\n", b"text", b"\r\n", b'"', b"\\", b"(", b"\0", b"\xff", b":", b" folded\n",
    b"Content-Type: text/plain; charset=\"a\\\"b\"\n", b"Date: Mon, 1 Jan 2024 00:00:00 +0000\n",
]  # fmt: skip
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.S)
PIECE = re.compile(rb'((?:[^"{]++|"(?:[^"\\]++|\\.)*+")*+)(?:\{(\d+)\}\r\n)?', re.S)  # up to what a literal holds
NO_PARENTHESES = bytes(set(range(256)) - set(b"()"))


def balanced(wire: bytes) -> int:
    """IMAP syntax: parentheses match outside strings, and every octet is accounted for. How deep they go."""
    parentheses, i = b"", 0
    while i < len(wire):
        piece = PIECE.match(wire, i)
        assert piece is not None and piece.end() > i, wire[i : i + 100]
        parentheses += STRING.sub(b"", piece[1]).translate(None, NO_PARENTHESES)
        i = piece.end() + int(piece[2] or 0)
        assert i <= len(wire)
    depths = list(itertools.accumulate(map({ord("("): 1, ord(")"): -1}.__getitem__, parentheses), initial=0))
    assert min(depths) == depths[-1] == 0
    return max(depths)


def test_what_is_not_balanced_is_seen() -> None:
    assert [balanced(one) for one in (b"", b'x "("', b'(a ("\\"(" NIL) {3}\r\n)"()', b"((()))()")] == [0, 0, 2, 3]
    for wire in (b"(", b")", b")(", b"())(", b'(")', b'("\\")', b"({x)", b"({1}\r\n)", b"{2}\r\nx", b'{1}\r\n"("'):
        with pytest.raises(AssertionError):
            balanced(wire)


@settings(max_examples=some(300))
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40))
def test_anything_makes_a_valid_summary(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found = summary.of(data)
    balanced(found.envelope)
    balanced(found.structure)
    balanced(sections.body_of_structure(found.structure))
    for part in found.parts:
        assert 0 <= part.header <= part.body <= part.end <= len(data)
    prefix = b"Return-Path: <>\nReceived: x\n"
    both = summary.read(mime.with_prefix(mime.scan(data), prefix))
    assert both is not None and both.shift == len(prefix) and both.header.startswith(b"Return-Path: <>\r\n")


def samples() -> list[tuple[str, bytes]]:
    """Messages that Python ships for its own tests, where it does, and some made here."""
    out = [("plain", b"Subject: a\nFrom: b@c\n\nhi\n")]
    try:
        for item in importlib.resources.files("test.test_email.data").iterdir():
            if item.name.endswith(".txt") and item.name.startswith("msg_"):
                out.append((item.name, item.read_bytes().replace(b"\r\n", b"\n")))
    except (ModuleNotFoundError, FileNotFoundError):
        pass
    return sorted(out)


def shape(part: Message) -> object:
    if part.is_multipart() and part.get_content_maintype() == "multipart":
        return [shape(p) for p in part.get_payload()]  # type: ignore[arg-type]
    return part.get_content_type()


def our_shape(item: object) -> object:
    assert isinstance(item, list)
    if isinstance(item[0], list):
        return [our_shape(x) for x in item if isinstance(x, list) and x and isinstance(x[0], bytes | list)][
            : sum(1 for _ in _children(item))
        ]
    return (item[0].strip(b'"') + b"/" + item[1].strip(b'"')).decode().lower()


def _children(item: list[object]) -> list[object]:
    out = []
    for x in item:
        if not isinstance(x, list):
            break
        out.append(x)
    return out  # type: ignore[return-value]


# where Python keeps a defect as an empty or a wrong part, or reads a header that is none
DIFFERENT = {
    "msg_03.txt",
    "msg_14.txt",
    "msg_15.txt",
    "msg_18.txt",
    "msg_24.txt",
    "msg_25.txt",
    "msg_31.txt",
    "msg_35.txt",
    "msg_37.txt",
    "msg_41.txt",
}


def test_pythons_own_samples_are_here() -> None:
    if len(samples()) == 1:
        pytest.skip("this Python comes without test.test_email (Debian: libpython3-testsuite): see test_mime_python.py")
    assert len(samples()) > 40


@pytest.mark.parametrize(("name", "data"), samples(), ids=lambda v: v if isinstance(v, str) else "")
def test_structure_and_header_agree_with_pythons_email(name: str, data: bytes) -> None:
    theirs = email.message_from_bytes(data, policy=email.policy.compat32)
    ours = summary.of(data)
    if name not in DIFFERENT and not any(p.defects for p in theirs.walk()):
        assert our_shape(sections._parse(ours.structure)) == shape(theirs)
    root = ours.parts[0]
    assert sections.extract(data, ours, (), b"HEADER", ()) == lines.to_crlf(data[: root.body])
    if not theirs.defects and "subject" in theirs and ours.complete:
        picked = sections.extract(data, ours, (), b"HEADER.FIELDS", (b"subject",))
        assert picked is not None
        assert (
            picked.partition(b":")[2].strip().replace(b"\r\n", b"\n")
            == str(theirs["subject"]).encode("ascii", "surrogateescape").strip()
        )


def test_addresses() -> None:
    def envelope_from(value: bytes) -> bytes:
        found = summary.of(b"From: " + value + b"\n\n").envelope
        return found[len(b"(NIL NIL ") :].partition(b" ((")[0]

    cases = {
        b"a@b": b'((NIL NIL "a" "b"))',
        b'"Doe, J." <j@d.example>': b'(("Doe, J." NIL "j" "d.example"))',
        b"j@d.example (Jay)": b'(("Jay" NIL "j" "d.example"))',
        b"<@r1,@r2:x@y>": b'((NIL "@r1,@r2" "x" "y"))',
        b"A B C <x@y>, z@w": b'(("A B C" NIL "x" "y")(NIL NIL "z" "w"))',
        b'"a\\"b"@c': b'((NIL NIL "a\\"b" "c"))',
        b"Undisclosed recipients:;": b'((NIL NIL "Undisclosed recipients" NIL)(NIL NIL NIL NIL))',
        b"G: a@b, c@d; , e@f": b'((NIL NIL "G" NIL)(NIL NIL "a" "b")(NIL NIL "c" "d")(NIL NIL NIL NIL)(NIL NIL "e" "f"))',
        b"x@[1.2.3.4]": b'((NIL NIL "x" "[1.2.3.4]"))',
        # not addresses, but what many senders write
        b"root": b'((NIL NIL "root" ""))',
        b"Undisclosed recipients": b'(("Undisclosed recipients" NIL "" ""))',
        b'"Mailer Daemon", a . b @ c': b'(("Mailer Daemon" NIL "" "")(NIL NIL "a.b" "c"))',
    }
    for value, wanted in cases.items():
        assert envelope_from(value).startswith(wanted), value


def multiparts(n: int) -> bytes:
    """Each in the one before it."""
    return b"".join(b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (i, i) for i in range(n))


def messages(n: int) -> bytes:
    """Each in the one before it."""
    return b"Content-Type: message/rfc822\n\n" * n


@pytest.mark.parametrize("nested", [multiparts, messages])
def test_s29_what_lies_deeper_than_48_parts_is_no_part(nested: Callable[[int], bytes]) -> None:
    def deepest(levels: int) -> int:
        return balanced(summary.of(nested(levels)).structure)

    assert deepest(48) == deepest(1) + 47
    assert deepest(49) == deepest(60) == deepest(1900) == deepest(48)


@pytest.mark.parametrize(
    "bomb",
    [
        multiparts,
        messages,
        lambda n: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n\n" * n,
        lambda n: b"Content-Type: text/plain; " + b"".join(b"p%d=v; " % i for i in range(n)) + b"\n\n",
        lambda n: b"To: " + b"a@b, " * n + b"\n\n",
        lambda n: b"To: " + b"(" * n + b"\n\n",
        lambda n: b"X: y\n" * n + b"\n",
    ],
    ids=["multiparts", "messages", "parts", "parameters", "addresses", "comments", "fields"],
)
def test_s29_bombs_cost_what_their_size_costs(bomb: object) -> None:
    size, double = bomb(20_000), bomb(40_000)  # type: ignore[operator]

    def seconds(data: bytes) -> float:
        best = 9.0
        for _ in range(3):
            started = time.process_time()
            mime.scan(data)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(size) < 1.0
    assert seconds(double) < 2.5 * seconds(size) + 0.05


def test_the_fixed_part_says_hops_and_day() -> None:
    made = mime.scan(b"Received: a\nReceived: b\nDate: Fri, 21 Nov 1997 09:55:06 -0600\n\n")
    assert struct.unpack_from("<iI", made, 24) == (10186, 2)
