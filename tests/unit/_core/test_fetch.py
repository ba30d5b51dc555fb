"""fetch.message: a response with its content, written at once, against the same put together from its sections."""

import random
import re
import time

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
    done = fetch.message(out, page, view, 7, items, [], UidSet(), made, asked, content, wanted)  # type: ignore[arg-type]
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
        (7, UidSet.of([7]), b"\4" + mime.scan(content)[1:]),  # a summary of another version
        (7, UidSet.of([7]), mime.scan(content)[:40]),
        (7, UidSet.of([7]), mime.scan(content * 9)),  # of a longer message
    ):
        short = content[:10] if uid == 7 and len(made) > 40 and 7 in view and made[0] <= 2 else content
        assert not fetch.message(out, page, view, uid, 1, [], None, made, [], short, [(b"TEXT", b"BODY[TEXT]")])
        assert len(out) == 0


def slowly(header: bytes, names: tuple[bytes, ...], negate: bool) -> bytes:
    """What header_fields says, in the obvious way."""
    out = b""
    for one in re.findall(rb"[^\r\n][^\n]*\n(?:[ \t][^\n]*\n)*", header):
        line = one.split(b"\n")[0]
        if b":" in line and (line.partition(b":")[0].rstrip(b" \t").lower() in names) != negate:
            out += one
    return out + b"\r\n"


def test_fields_are_found_among_any_number_of_names() -> None:
    rng = random.Random(5)
    every = [b"%b%d" % (rng.choice([b"x-", b"list-", b"a"]), n) for n in range(600)] + [b"n" * n for n in range(1, 200)]
    for _ in range(60):
        names = tuple(dict.fromkeys(rng.sample(every, rng.choice([0, 1, 3, 40, 500]))))
        picked = rng.choices(every, k=50)
        header = b"".join(
            b"%b%b: v\r\n%b"
            % (n.title() if rng.random() < 0.5 else n, rng.choice([b"", b" \t"]), rng.choice([b"", b" f\r\n"]))
            for n in picked
        )
        for negate in (False, True):
            assert fetch.header_fields(header, names, negate) == slowly(header, names, negate)


def test_a_thousand_names_of_a_large_header_cost_what_one_costs() -> None:
    header = b"aaaa: b\r\n" * 300_000
    names = tuple(b"a%03d" % n for n in range(1000))

    def spent(asked: tuple[bytes, ...]) -> float:
        best = 9.0
        for _ in range(3):
            start = time.thread_time()
            fetch.header_fields(header, asked, False)
            best = min(best, time.thread_time() - start)
        return best

    assert spent(names) < 5 * spent(names[:1]) + 0.01
