"""A header that is changed field by field: only what is asked for changes. Messages without an empty line get one."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.message import header
from fastmail.message.header import Edited

MESSAGE = (
    b"From peter@example.test Mon Nov  2 10:00:00 2026\nReceived: one\n\tfolded\nSub ject: x\nX-A: 1\nbroken\n line\n"
    b"x-a : 2\nTo: me\n\nbody\n\nX-A: 3\n"
)


def edited(*changes: tuple[object, ...], message: bytes = MESSAGE) -> bytes:
    one = Edited(message)
    for what, *rest in changes:
        getattr(one, str(what))(*rest)
    return b"".join(one.pieces()) + message[one.end :]


def test_the_fields_are_those_of_rfc5322() -> None:
    assert list(Edited(MESSAGE).fields()) == [
        (b"Received", b" one\n\tfolded"),
        (b"X-A", b" 1"),
        (b"x-a", b" 2"),
        (b"To", b" me"),
    ]


CHANGES = [
    ([], b"", b""),
    ([("add", b"X-B", b" b")], b"To: me\n", b"To: me\nX-B: b\n"),
    ([("insert", 0, b"X-B", b" b")], b"Received: one", b"X-B: b\nReceived: one"),
    ([("insert", 1, b"X-B", b" b")], b"X-A: 1", b"X-B: b\nX-A: 1"),
    ([("insert", 99, b"X-B", b" b")], b"To: me\n", b"To: me\nX-B: b\n"),
    ([("change", b"x-A", 2, b" two\n three")], b"x-a : 2\n", b"x-A: two\n three\n"),
    ([("change", b"X-A", 1, b"")], b"X-A: 1\n", b""),
    ([("change", b"X-A", 3, b" none")], b"", b""),
    ([("change", b"X-A", 0, b" none")], b"", b""),
    (
        [("change", b"X-A", 1, b""), ("change", b"X-A", 1, b" 9")],
        b"X-A: 1\nbroken\n line\nx-a : 2",
        b"broken\n line\nX-A: 9",
    ),
    ([("change", b"Received", 1, b""), ("insert", 0, b"N", b" 1")], b"Received: one\n\tfolded\n", b"N: 1\n"),
    ([("insert", 0, b"N", b" 1"), ("insert", 1, b"N", b" 2")], b"Received", b"N: 1\nN: 2\nReceived"),
    ([("add", b"X-A", b" 3"), ("change", b"X-A", 3, b" 4")], b"To: me\n", b"To: me\nX-A: 4\n"),
    ([("change", b"X-A", 1, b" 1"), ("add", b"X-A", b" 3"), ("change", b"X-A", 3, b"")], b"", b""),
    ([("insert", 1, b"X-A", b" 0"), ("change", b"X-A", 2, b" 5")], b"X-A: 1", b"X-A: 0\nX-A: 5"),
]


@pytest.mark.parametrize(("changes", "old", "new"), CHANGES)
def test_a_change_touches_nothing_else(changes: list[tuple[object, ...]], old: bytes, new: bytes) -> None:
    assert edited(*changes) == MESSAGE.replace(old, new, 1)


@pytest.mark.parametrize("message", [b"", b"\n", b"\nbody", b"broken\n", b"A: b", b"A: b\n", b"broken"])
def test_a_field_for_a_message_with_hardly_any(message: bytes) -> None:
    got = edited(("add", b"X", b" y"), message=message)
    assert got.replace(b"X: y\n", b"") in (message, message + b"\n")
    assert list(Edited(got).fields())[-1] == (b"X", b" y")


NAMES = st.sampled_from([b"A", b"B", b"a"])
STEPS = st.one_of(
    st.tuples(st.just("add"), NAMES),
    st.tuples(st.just("insert"), st.integers(0, 4), NAMES),
    st.tuples(st.just("change"), NAMES, st.integers(1, 4)),
    st.tuples(st.just("remove"), NAMES, st.integers(1, 4)),
)


@given(st.lists(NAMES, max_size=5), st.lists(STEPS, max_size=8))
def test_against_a_plain_list(names: list[bytes], steps: list[tuple[object, ...]]) -> None:
    plain = [(name, b" %d" % n) for n, name in enumerate(names)]
    one = Edited(b"".join(name + b":" + value + b"\n" for name, value in plain) + b"\nbody")
    for n, (what, *rest) in enumerate(steps):
        value = b" new%d" % n
        if what == "add":
            (name,) = rest
            one.add(name, value)  # type: ignore[arg-type]
            plain.append((name, value))  # type: ignore[arg-type]
        elif what == "insert":
            index, name = rest
            one.insert(index, name, value)  # type: ignore[arg-type]
            plain.insert(index, (name, value))  # type: ignore[arg-type, call-overload]
        else:
            name, index = rest
            same = [at for at, (other, _) in enumerate(plain) if other.lower() == name.lower()]  # type: ignore[attr-defined]
            there = index <= len(same)  # type: ignore[operator]
            assert one.change(name, index, value if what == "change" else b"") == there  # type: ignore[arg-type]
            if there and what == "change":
                plain[same[index - 1]] = (name, value)  # type: ignore[operator, assignment]
            elif there:
                del plain[same[index - 1]]  # type: ignore[operator]
    assert b"".join(one.pieces()) == b"".join(name + b":" + value + b"\n" for name, value in plain)


def test_many_fields_of_one_name_are_removed_in_linear_time() -> None:
    """From the front, as a filter does that removes what strangers put in: 50,000 in well under a second."""
    count = 50_000
    one = Edited(b"A: b\n" * count + b"\n")
    for _ in range(count):
        assert one.change(b"a", 1, b"")
    assert one.pieces() == [] and not one.change(b"a", 1, b"x")


MBOX = [
    (b"From peter@example.test Mon Nov  2 10:00:00 2026\nSubject: x\n", 49),
    (b">From peter@example.test Mon Nov  2 10:00:00 2026\n", 50),
    (b"From - Mon, 02 Nov 2026 10:00:00\n", 33),
    (b"From tomorrow on tray 2 is empty\n", 0),
    (b"From: peter@example.test\n", 0),
    (b"From ", 0),
]


@pytest.mark.parametrize(("content", "size"), MBOX)
def test_the_line_in_front_of_a_message_in_an_mbox(content: bytes, size: int) -> None:
    assert header.mbox_line(content) == size


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"Paper jam in tray 2\nsecond line\n", b"\nPaper jam in tray 2\nsecond line\n"),
        (b"From tomorrow on\nit is empty\n", b"\nFrom tomorrow on\nit is empty\n"),
        (MBOX[0][0][:49] + b"X: y\n\nbody", None),
        (MBOX[0][0][:49] + b"text\n", MBOX[0][0][:49] + b"\ntext\n"),
        (b"Subject: x\ntext", b"Subject: x\n\ntext"),
        (b"Subject: x\n\ntext", None),
        (b"X-A: " + b"y" * 300_000 + b"\ntext\n", b"X-A: " + b"y" * 300_000 + b"\n\ntext\n"),
        (b"X: y\n" * 100_000 + b"\nbody", None),
        (b"text " + b"y" * 300_000 + b"\n", b"\ntext " + b"y" * 300_000 + b"\n"),
        (b"", None),
    ],
    ids=range(10),
)
def test_the_empty_line_is_put_in(content: bytes, wanted: bytes | None) -> None:
    for given_content in (content, memoryview(content)):
        got = asyncio.run(header.with_end(given_content))
        assert got is given_content if wanted is None else bytes(got) == wanted
