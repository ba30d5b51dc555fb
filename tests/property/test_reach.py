"""Nothing of a mail's text is out of reach: of a part number or the text around the parts, of BODY[TEXT], of SEARCH. And
part numbers, BODYSTRUCTURE and the slow walk over both agree."""

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastmail._core.lines import to_crlf
from fastmail.message import sections, summary, text
from tests.support.examples import some

BOUNDARIES = [b"b", b"bb", b"b--", b"", b"c d", b"B"]
START = [
    b'Content-Type: multipart/%b; boundary="%b"\n' % (kind, b) for b in BOUNDARIES for kind in (b"mixed", b"digest")
]
LINES = [
    *START,
    b"Content-Type: multipart/mixed\n", b"Content-Type: multipart/mixed; boundary*1=b; boundary*0=b\n",
    b"Content-Type: message/rfc822\n", b"Content-Type: text/html\n", b"Content-Type: text/plain; charset=koi8-r\n",
    b"Content-Transfer-Encoding: 7bit\n", b"Subject: s\n", b"\n", b"\r\n", b"\n\n", b"<", b"no field WORD\n", b"WORD\n", b" WORD\n",
    *(b"--" + b + end for b in BOUNDARIES for end in (b"\n", b"--\n", b"\r\n", b" WORD\n", b"WORD\n", b"-- WORD\n")),
]  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    lines = [draw(st.sampled_from(START)), draw(st.sampled_from([b"\n", b""]))]
    lines += draw(st.lists(st.sampled_from(LINES), max_size=30))
    numbers = iter(range(1000))
    return re.sub(b"WORD", lambda _: b"word%d." % next(numbers), b"".join(lines))


def paths(found: summary.Summary) -> dict[int, tuple[int, ...]]:
    """The part numbers of each entity that has some, by a walk over the records."""
    out: dict[int, tuple[int, ...]] = {}

    def walk(at: int, path: tuple[int, ...], counts_inside: bool) -> None:
        part = found.parts[at]
        if part.kind == summary.MULTIPART:
            children = []
            for index in range(at + 1, len(found.parts)):
                if found.parts[index].depth <= part.depth:
                    break
                if found.parts[index].depth == part.depth + 1:
                    children.append(index)
            if not counts_inside:
                out[at] = path
            for number, child in enumerate(children, 1):
                walk(child, (*path, number), False)
            return
        if counts_inside:
            path = (*path, 1)
        out[at] = path
        if part.kind == summary.MESSAGE:
            walk(at + 1, path, True)

    walk(0, (), True)
    return out


@settings(max_examples=some(400), deadline=None)
@given(messages())
@example(START[0] + b"\n--b\n" + START[0] + b"\n--b\nword0.\n--b--\nword1.\n--b--\nword2.\n")
def test_every_word_is_in_reach(message: bytes) -> None:
    found = summary.of(message)
    root = found.parts[0]
    served = sections.extract(message, found, (), b"TEXT", ())
    body = sections.extract(message, found, (), b"HEADER", ())
    assert body is not None and served is not None and body + served == to_crlf(message)
    searched = "\n".join(text.body_text(message, found, False))
    named = []
    for path in paths(found).values():
        named += [sections.extract(message, found, path, what, ()) or b"" for what in (b"", b"MIME")]
    for word in re.findall(rb"word\d+\.", message[root.body :]):
        assert word in served and word.decode() in searched
        inside = any(word in one for one in named)
        around = any(word in message[a:b] for a, b in text._around(found.parts, 0))
        assert inside or around


@settings(max_examples=some(400), deadline=None)
@given(messages())
def test_part_numbers_and_structure_agree(message: bytes) -> None:
    found = summary.of(message)
    known = {path: at for at, path in paths(found).items()}
    tried = {path[:k] for path in known for k in range(1, len(path) + 1)}
    tried |= {(*path, number) for path in [(), *known] for number in (1, 2, 3, 9)}
    tried |= {(*path, 1, 1) for path in known}
    for path in tried - {()}:
        at = sections.find(found, path)
        structure = sections.structure_of(found, path)
        if path not in known:
            assert at is None and structure is None, path
            continue
        part = found.parts[known[path]]
        assert at == known[path] and structure is not None
        assert structure.startswith(b"((") == (part.kind == summary.MULTIPART)
        if part.kind != summary.MULTIPART:
            size = len(to_crlf(message[part.body : part.end]))
            encoding = re.match(rb'\((?:"[^"]*"|[A-Z]+) "[^"]*" (?:NIL|\([^)]*\)) NIL NIL "[^"]*" (\d+) ?', structure)
            assert encoding is not None and int(encoding[1]) == size


@settings(max_examples=some(400), deadline=None)
@given(messages())
def test_parts_lie_in_each_other_and_in_order(message: bytes) -> None:
    parts = summary.of(message).parts
    open_parts: list[summary.Part] = []
    done = 0
    for part in parts:
        assert part.header <= part.body <= part.end <= len(message)
        while open_parts and open_parts[-1].depth >= part.depth:
            done = max(done, open_parts.pop().end)
        if open_parts:
            outer = open_parts[-1]
            assert part.depth == outer.depth + 1 and outer.kind != summary.LEAF
            assert outer.body <= part.header and part.end <= outer.end and part.header >= min(done, outer.end)
        open_parts.append(part)
        if part.kind != summary.LEAF:
            assert any(one.depth == part.depth + 1 for one in parts)
    assert mime_agrees(parts)


def mime_agrees(parts: list[summary.Part]) -> bool:
    """Each multipart and message has a part; a message has one."""
    for at, part in enumerate(parts):
        if part.kind == summary.LEAF:
            continue
        if at + 1 == len(parts) or parts[at + 1].depth != part.depth + 1:
            return False
    return True
