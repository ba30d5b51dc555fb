"""Messages that are copied or removed: the compiled rows against those that the index's own formats make."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import idents, mime, transfers
from fastmail.durable.segments import ALIGNED
from fastmail.message.identity import TRAIL, ident
from fastmail.store.local.index import layout, references, weight

KEY, TARGET = layout.mailbox_key(7, 3), layout.mailbox_key(7, 4)
MADE = mime.scan(b"Subject: a\nMessage-ID: <a@b>\n\nbody\n")
IDS = st.sampled_from([b"E" * 8, b"T" * 8, b"O" * 8, bytes(8)])
SUMMARIES = st.one_of(
    st.builds(lambda *ids: MADE + TRAIL.pack(ids[0], 5, *ids[1:]), IDS, IDS, IDS),
    st.just(MADE + b"E" * 8),  # of an earlier version
    st.builds(lambda n: mime.scan(b"Subject: " + b"x" * n + b"\n\n"), st.sampled_from([1, 9000])),
    st.binary(max_size=60),
)
MARKS = st.one_of(
    st.builds(lambda ident, n: references.REFERENCE.pack(b"s", ident, 24, n), st.integers(0, 9), st.integers(0, 99)),
    st.builds(lambda name: b"n" + name, st.binary(max_size=9)),
    st.binary(max_size=3),
)
MESSAGES = st.dictionaries(st.integers(1, 1 << 31), st.tuples(MARKS, SUMMARIES), max_size=9)
Messages = dict[int, tuple[bytes, bytes]]


def rows_of(messages: Messages) -> list[tuple[bytes, bytes]]:
    return [(layout.uid_key(KEY, uid), layout.pack_message(*one)) for uid, one in messages.items()]


@given(MESSAGES, st.integers(1, 1 << 63))
def test_copies_are_those_of_the_formats(messages: Messages, modseq: int) -> None:
    """A file has another name there; content in a segment has the same one."""
    become = {
        uid: (n, marked if references.in_segment(marked) else b"c" + marked)
        for n, (uid, (marked, _)) in enumerate(messages.items(), 1)
    }
    plain = [
        (layout.uid_key(TARGET, become[uid][0]), layout.pack_message(become[uid][1], made))
        for uid, (_, made) in messages.items()
    ]
    entered = idents.entered(TARGET, [(become[uid][0], one[1], modseq) for uid, one in messages.items()], True, ident)
    become[1 << 32] = 99, b"no row"
    found = transfers.copied(rows_of(messages), become, TARGET, modseq, ident)
    assert found == (plain, entered, sum(weight.of_value(value) for _, value in plain))
    assert become == {1 << 32: (99, b"no row")}


@given(MESSAGES)
def test_removals_are_those_of_the_formats(messages: Messages) -> None:
    rows = rows_of(messages)
    entered, weighed, shared, files = transfers.removed(rows, KEY, ident)
    assert entered == idents.entered(KEY, [(uid, made, 0) for uid, (_, made) in messages.items()], False, ident)
    assert weighed == sum(weight.of_value(value) for _, value in rows)
    marks = [(at, layout.marked_of(value)) for at, value in rows]
    assert shared == [marked for _, marked in marks if references.in_segment(marked)]
    assert files == [(at, marked) for at, marked in marks if not references.in_segment(marked)]


def test_content_that_is_elsewhere_now_is_not_copied() -> None:
    marks = [references.REFERENCE.pack(b"s", number, 24, 40) for number in (1, 2)]
    rows = rows_of({5: (marks[0], MADE)})
    assert transfers.copied(rows, {5: (1, marks[0])}, TARGET, 9, ident) is not None
    for other in (marks[1], marks[0][:-1]):
        assert transfers.copied(rows, {5: (1, other)}, TARGET, 9, ident) is None
    rows = rows_of({5: (b"nname", MADE)})
    assert transfers.copied(rows, {5: (1, marks[0])}, TARGET, 9, ident) is None


def test_a_row_whose_name_is_cut_is_copied_with_what_there_is() -> None:
    cut = layout.U16.pack(10) + b"nname"
    found = transfers.copied([(layout.uid_key(KEY, 5), cut)], {5: (1, b"nname")}, TARGET, 9, ident)
    assert found is not None and found[0] == [(layout.uid_key(TARGET, 1), layout.pack_message(b"nname", b""))]
    assert transfers.removed([(layout.uid_key(KEY, 5), cut)], KEY, ident)[3] == [(layout.uid_key(KEY, 5), b"nname")]


@pytest.mark.parametrize("value", [b"", b"x"])
def test_a_row_without_its_first_number_is_refused(value: bytes) -> None:
    rows = [(layout.uid_key(KEY, 5), value)]
    refused: list[Callable[[], object]] = [
        lambda: layout.marked_of(value),
        lambda: transfers.copied(rows, {5: (1, b"n")}, TARGET, 9, ident),
        lambda: transfers.removed(rows, KEY, ident),
    ]
    for one in refused:
        with pytest.raises(struct.error):
            one()


@given(st.lists(st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, 0xFFFF), st.integers(0, 1 << 63))))
def test_records_are_named_as_references_say(some: list[tuple[int, int, int]]) -> None:
    marks = [references.REFERENCE.pack(b"s", *one) for one in some]
    assert transfers.idents(marks) == [layout.U64.pack(number) for number, _, _ in some]
    assert transfers.spans(marks, ALIGNED) == [references.COUNT.pack(references.span(one)) for one in marks]


def test_a_mark_that_is_damaged_is_refused() -> None:
    whole = references.REFERENCE.pack(b"s", 1, 2, 3)
    assert transfers.idents([whole + b"more"]) == [layout.U64.pack(1)]
    for damaged in (whole[:-1], b"s", b""):
        with pytest.raises(struct.error):
            transfers.idents([damaged])
        with pytest.raises(struct.error):
            transfers.spans([damaged], ALIGNED)
    endless = references.REFERENCE.pack(b"s", 1, 2, (1 << 64) - 1)
    with pytest.raises(struct.error):
        transfers.spans([endless], ALIGNED)


@given(st.lists(st.integers(0, 0xFFFFFFFF)))
def test_keys_are_those_of_the_layout(uids: list[int]) -> None:
    assert transfers.keys(KEY, uids) == [layout.uid_key(KEY, uid) for uid in uids]


def test_keys_of_another_length_are_refused() -> None:
    rows = [(KEY, layout.pack_message(b"n", b""))]
    refused: list[Callable[[], object]] = [
        lambda: transfers.keys(KEY[1:], [1]),
        lambda: transfers.copied([], {}, TARGET + b"x", 9, ident),
        lambda: transfers.removed([], KEY[1:], ident),
        lambda: transfers.removed(rows, KEY, ident),
    ]
    for one in refused:
        with pytest.raises(ValueError, match="octets"):
            one()


@given(st.lists(st.integers(0, 6)), st.dictionaries(st.integers(0, 6), st.integers(0, 1 << 40)))
def test_references_are_counted(idents: list[int], before: dict[int, int]) -> None:
    found = {layout.U64.pack(one): references.COUNT.pack(count) for one, count in before.items()}
    after = {one: before.get(one, 0) + idents.count(one) for one in sorted(set(idents))}
    rows = [(layout.U64.pack(one), references.COUNT.pack(count)) for one, count in after.items()]
    assert transfers.shared([layout.U64.pack(one) for one in idents], found) == rows


@given(st.lists(st.integers(0, 4)), st.dictionaries(st.integers(0, 4), st.integers(0, 3)))
def test_records_are_dead_without_references(idents: list[int], before: dict[int, int]) -> None:
    """A row is at 0 when one reference is left, as is a record without a row."""
    found = {layout.U64.pack(one): references.COUNT.pack(count) for one, count in before.items()}
    left = dict(before)
    dead = {}
    for one in idents:
        if left.get(one):
            left[one] -= 1
        else:
            left.pop(one, None)
            dead[layout.U64.pack(one)] = b"mark %d" % one
    changed = {one: count for one, count in sorted(left.items()) if count != before[one]}
    rows, gone, died = transfers.released(
        [layout.U64.pack(one) for one in idents], [b"mark %d" % n for n in idents], found
    )
    assert rows == [(layout.U64.pack(one), references.COUNT.pack(count)) for one, count in changed.items()]
    assert sorted(gone) == sorted(layout.U64.pack(one) for one in before if one not in left)
    assert died == dead


def test_a_damaged_count_is_refused() -> None:
    for damaged in (b"", b"short", b"too long a row"):
        with pytest.raises(struct.error):
            transfers.shared([b"i" * 8], {b"i" * 8: damaged})
        with pytest.raises(struct.error):
            transfers.released([b"i" * 8], [b"mark"], {b"i" * 8: damaged})
