"""Which parts broken and odd multiparts have: what mail programs and other servers find, and nothing out of reach."""

import pytest

from fastmail._core.lines import to_crlf
from fastmail.message import sections, summary, text

START = b"Content-Type: multipart/mixed; boundary="


def leaves(message: bytes) -> dict[str, bytes]:
    """Each leaf's part number and body."""
    found = summary.of(message)
    out: dict[str, bytes] = {}

    def walk(path: tuple[int, ...]) -> None:
        at = sections.find(found, path)
        if at is None:
            return
        part = found.parts[at]
        if part.kind == summary.LEAF:
            out[".".join(map(str, path))] = bytes(message[part.body : part.end])
            return
        number = 1
        while sections.find(found, (*path, number)) is not None:
            walk((*path, number))
            number += 1

    number = 1
    while sections.find(found, (number,)) is not None:
        walk((number,))
        number += 1
    return out


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        # a nested multipart with the boundary of its parent takes the lines until its own end
        (START + b"b\n\n--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\n\nrich\n--b--\n"
         b"--b\n\nafter\n--b--\n", {"1.1": b"plain", "1.2": b"rich", "2": b"after"}),
        (START + b"b\n\n--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\nplain\n--b\n\nrich\n--b--\n",
         {"1.1": b"plain", "1.2": b"rich"}),
        # text behind a boundary (RFC 2046 5.1.1, note to implementors)
        (START + b"b\n\n--b some text\n\none\n--bxyz\n\ntwo\n--b-- end\nover\n", {"1": b"one", "2": b"two"}),
        (START + b"b\n\n--b \t\n\none\n--b  --  \nover\n", {"1": b"one"}),
        # an empty boundary
        (START + b'""\n\npre\n--\n\none\n--\n\ntwo\n----\nover\n', {"1": b"one", "2": b"two"}),
        # one boundary begins with the other
        (START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\none\n--bb\n\ntwo\n--bb--\n"
         b"--b\n\nthree\n--b--\n", {"1.1": b"one", "1.2": b"two", "2": b"three"}),
        (START + b"bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n--b--\n"
         b"--bb\n\nthree\n--bb--\n", {"1.1": b"one", "1.2": b"two", "2": b"three"}),
        (START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=b--\n\n--b--\n\none\n--b----\n--b\n\ntwo\n--b--\n",
         {"1.1": b"one", "2": b"two"}),
        # an inner multipart without an end
        (START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n",
         {"1.1": b"one", "2": b"two"}),
        # boundaries in pieces (RFC 2231 3, 4.1)
        (START[:-1] + b'*0="a"; boundary*1=b\n\n--ab\n\none\n--ab--\n', {"1": b"one"}),
        (START[:-1] + b"*0*=us-ascii'en'a%62; boundary*1=c\n\n--abc\n\none\n--abc--\n", {"1": b"one"}),
        (START[:-1] + b"*1*=%62; x=y; boundary*0=a\n\n--ab\n\none\n--ab--\n", {"1": b"one"}),
        (START[:-1] + b"*2=c; boundary*1=b; boundary*0=\"a \"\n\n--a bc\n\none\n--a bc--\n", {"1": b"one"}),
        (START[:-1] + b"*=''a%62\n\n--ab\n\none\n--ab--\n", {"1": b"one"}),
        (START[:-1] + b"*0=a; boundary*2=c\n\n--a\n\none\n--a--\n", {"1": b"one"}),
        # a multipart without boundary, or without one of its lines, or with the last one only: its text is one part
        (b"Content-Type: multipart/mixed\n\n--b\n\none\n", {"1": b"--b\n\none\n"}),
        (START + b"b\n\njust text\n", {"1": b"just text\n"}),
        (START + b"b\n\njust text\n--b--\nover\n", {"1": b"just text"}),
        (START + b"b\n\n", {"1": b""}),
        (START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\nno line\n--b\n\ntwo\n--b--\n",
         {"1.1": b"no line", "2": b"two"}),
        # no empty line before the first boundary
        (START + b"b\n--b\nContent-Type: text/plain\n\none\n--b\n\ntwo\n--b--\n", {"1": b"one", "2": b"two"}),
        (START + b"b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n--c\n\none\n--c--\n--b\n\ntwo\n--b--\n",
         {"1.1": b"one", "2": b"two"}),
        (START + b"b\n\n--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n", {"1": b"", "2": b"two"}),
        # text at once, where a part's header would be
        (START + b"b\n\n--b\none\ntwo\n\nthree\n--b\none\n--b--\n", {"1": b"one\ntwo\n\nthree", "2": b"one"}),
        (START + b"b\n\n--b\nbroken\nContent-Type: text/html\n\none\n--b--\n", {"1": b"one"}),
        (START + b"b\n\n--b\nNote: broken\n\none\n--b--\n", {"1": b"one"}),
        # lines twice, parts without anything, no end
        (START + b"b\n\n--b\n--b\n\none\n--b", {"1": b"", "2": b"one", "3": b""}),
        (START + b'"b "\n\n--b\n\none\n--b \n\ntwo\n--b --\n', {"1": b"one", "2": b"two"}),
        (START + b"b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n", {"1": b"one"}),
        # after the last line, more of them are text
        (START + b"b\n\n--b\n\none\n--b--\n--b\n\ntwo\n", {"1": b"one"}),
        (b"Content-Type: message/rfc822\n\n" + START + b"b\n\n--b\n\none\n--b\n\ntwo\n--b--\n", {"1.1": b"one", "1.2": b"two"}),
    ],
)  # fmt: skip
def test_parts_of_odd_multiparts(message: bytes, parts: dict[str, bytes]) -> None:
    assert leaves(message) == parts
    found = summary.of(message)
    everything = "\n".join(text.body_text(message, found, False))
    for word in (b"one", b"two", b"three", b"over", b"plain", b"rich", b"after", b"just text"):
        assert (word in message) == (word.decode() in everything)
    for path, body in parts.items():
        numbers = tuple(map(int, path.split(".")))
        structure = sections.structure_of(found, numbers)
        assert structure is not None and b" %d " % len(to_crlf(body)) in structure
        assert sections.extract(message, found, numbers, b"", ()) == to_crlf(body)


def test_sizes_and_lines_are_those_of_what_is_served() -> None:
    message = START + b"b\r\n\r\n--b\n\na\nb\r\n\n--b\nContent-Type: message/rfc822\n\nSubject: x\n\nc\n\n--b--\n"
    found = summary.of(message)
    assert sections.structure_of(found, (1,)) == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 2 NIL NIL NIL NIL)'
    )
    inner = sections.structure_of(found, (2,))
    assert inner is not None and b'"7bit" 17 (' in inner and b" 3 NIL NIL NIL NIL)" in inner


def test_a_multipart_that_is_cut_off_at_many_parts_keeps_its_text() -> None:
    message = START + b"b\n\n" + b"".join(b"--b\n\npart %d.\n" % n for n in range(2500))
    found = summary.of(message)
    assert len(found.parts) == 2000 and found.cut
    everything = "\n".join(text.body_text(message, found, False))
    assert "part 3." in everything and "part 2499." in everything
