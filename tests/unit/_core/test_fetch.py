"""fetch.message: a response with its content, written at once, against the same put together from its sections."""

import random

import pytest

from fastmail._core import fetch, mime, pages
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.message import sections, summary

SECTIONS = [(b"", b"BODY[]"), (b"HEADER", b"BODY[HEADER]"), (b"TEXT", b"RFC822.TEXT")]
MESSAGES = [
    b"Subject: a\nFrom: b@c.example\n\nbody\nlines\n",
    b"Subject: crlf\r\n\r\nbody\r\nwith\nboth\r\n",
    b"Subject: no end of line\n\nlast",
    b"Subject: no body\n",
    b"\n",
    b"\n\n\n",
    b"body without a header",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\none\n--x\n\ntwo\n--x--\n",
]


def one(content: bytes, size: int, items: int, wanted: list[tuple[bytes, bytes]]) -> bytes | None:
    out = Out(16)
    page = pages.extend(None, pages.pack(7, 1, 9, 0, 0, size, 0))
    view = UidSet.of([3, 7])
    made = mime.scan(content)
    asked = [(b"BODY[HEADER.FIELDS (SUBJECT)]", (b"subject",))] if items & 128 else []
    done = fetch.message(out, page, view, 7, items, [], UidSet(), made, asked, content, wanted)
    return out.take() if done else None


def plainly(content: bytes, items: int, wanted: list[tuple[bytes, bytes]]) -> bytes:
    made = mime.scan(content)
    read = summary.read(made)
    assert read is not None
    found = []
    if items & 1:
        found.append(b"UID 7")
    if items & 2:
        found.append(b"FLAGS (\\Seen)")
    if items & 32:
        found.append(b"ENVELOPE " + read.envelope)
    if items & 128:
        text = sections.extract(content, read, (), b"HEADER.FIELDS", (b"subject",))
        assert text is not None
        found.append(b"BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\n%b" % (len(text), text))
    for which, label in wanted:
        text = sections.extract(content, read, (), which, ())
        assert text is not None
        found.append(b"%b {%d}\r\n%b" % (label, len(text), text))
    return b"* 2 FETCH (" + b" ".join(found) + b")\r\n"


@pytest.mark.parametrize("content", MESSAGES)
def test_as_put_together_from_sections(content: bytes) -> None:
    rng = random.Random(3)
    for size in (len(content), len(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")), 0, 1 << 31):
        for items in (0, 1, 3, 32, 128, 1 | 2 | 32 | 128):
            wanted = rng.sample(SECTIONS, rng.randint(1, 3))
            assert one(content, size, items, wanted) == plainly(content, items, wanted)


def test_what_it_leaves_to_others() -> None:
    assert one(b"", 0, 1, SECTIONS) is None
    assert one(b"Subject: x\n\nnul \0 octet\n", 5, 1, SECTIONS) is None
    out, content = Out(16), MESSAGES[0]
    page = pages.extend(None, pages.pack(7, 1, 9, 0, 0, 5, 0))
    for uid, view, made in (
        (8, UidSet.of([8]), mime.scan(content)),  # not in the page
        (7, UidSet.of([8]), mime.scan(content)),  # not in the view
        (7, UidSet.of([7]), b"\3" + mime.scan(content)[1:]),  # a summary of another version
        (7, UidSet.of([7]), mime.scan(content)[:40]),
        (7, UidSet.of([7]), mime.scan(content * 9)),  # of a longer message
    ):
        short = content[:10] if uid == 7 and len(made) > 40 and 7 in view and made[0] <= 2 else content
        assert not fetch.message(out, page, view, uid, 1, [], None, made, [], short, [(b"TEXT", b"BODY[TEXT]")])
        assert len(out) == 0
