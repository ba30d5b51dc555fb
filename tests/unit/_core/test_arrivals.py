"""Messages that come into a mailbox: the compiled rows against those that the index's own formats make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail._core import arrivals, mime, pages
from fastmail._core.arrivals import Arrivals
from fastmail.message.identity import TRAIL
from fastmail.store.interface import Kind
from fastmail.store.local.index import account_log, layout
from fastmail.store.local.index.account_log import Row
from fastmail.store.local.index.layout import MailboxRow

KEY = layout.mailbox_key(7, 3)
ACCOUNT = layout.account_key(7)
EMAIL, THREAD, OWN = b"E" * 8, b"T" * 8, b"O" * 8
SUMMARY = mime.scan(b"Subject: a\n\nbody\n")
NUMBERS = st.integers(0, 1 << 31)


def box_with(uidnext: int = 1, name: str = "Entw\u00fcrfe", recovered: int = 0, modseq: int = 4) -> MailboxRow:
    return MailboxRow(KEY, name, 99, uidnext, 5, 3, 1, 2, modseq, 1000, 2, 17, 3, 6, recovered)


def begun(box: MailboxRow, totals: Row) -> Arrivals:
    came = arrivals.begin(KEY, layout.pack_row(box), account_log.pack(totals), box.recovered)
    assert came is not None
    return came


def add(came: Arrivals, page: bytes | None, flags: int = 0, size: int = 70) -> tuple[bytes, ...]:
    return came.add(page, b"nname", SUMMARY, EMAIL, THREAD, OWN, flags, 1 << 63, -5, size, 12)


@given(st.lists(st.tuples(st.integers(0, 31), NUMBERS), max_size=70), st.integers(1, 100), NUMBERS)
def test_rows_are_those_of_the_formats(new: list[tuple[int, int]], uidnext: int, modseq: int) -> None:
    box, totals = box_with(uidnext), Row(modseq, 5000, 9, 2, 7, 8, 1, 300, True)
    came = begun(box, totals)
    assert (came.uid, came.modseq, came.uidvalidity) == (uidnext, modseq + 1, 99)
    kept: dict[bytes, bytes] = {}
    plain: dict[bytes, bytes] = {}
    items = b""
    for uid, (flags, size) in enumerate(new, uidnext):
        at = came.page_key()
        assert at == layout.page_key(KEY, uid)
        kept[at], key, value, place, member = add(came, kept.get(at), flags, size)
        plain[at] = pages.extend(plain.get(at), pages.pack(uid, flags, modseq + 1, 1 << 63, -5, size, 12))
        assert key == layout.uid_key(KEY, uid)
        assert value == layout.pack_message(b"nname", SUMMARY + TRAIL.pack(EMAIL, modseq + 1, THREAD, OWN))
        assert (place, member) == tuple(ACCOUNT + name + KEY[8:] + key[12:] for name in (EMAIL, THREAD))
        items += account_log.CREATED.pack(uid, EMAIL, modseq + 1)
        box.unseen += not flags & 1
        box.deleted += flags & 8 != 0
        box.octets += size
        totals.octets += size
    box.uidnext, box.exists, box.modseq = uidnext + len(new), box.exists + len(new), modseq + 1
    totals.modseq, totals.messages = modseq + 1, totals.messages + len(new)
    rows = came.log(77)
    assert bool(rows) == bool(new)
    if new:
        at = ACCOUNT + layout.U64.pack(modseq + 1) + account_log.PART.pack(0)
        head = account_log.HEAD.pack(1, 77) + account_log.ENTRY.pack(Kind.CREATED, 3, len(new))
        assert rows == [(at, head + items)]
        totals.logged += len(at) + len(head) + len(items)
    assert kept == plain and came.log(77) == []
    assert came.rows() == (layout.pack_row(box), account_log.pack(totals))


def test_a_long_log_has_several_rows() -> None:
    came = begun(box_with(), Row())
    page = None
    for n in range(account_log.PART_ITEMS + 1):
        page = add(came, page if n % 32 != 31 else None)[0]
    first, second = came.log(5)
    assert [at[-2:] for at, _ in (first, second)] == [b"\0\0", b"\0\1"]
    entries = [one for at, value in (first, second) for one in account_log._parsed(ACCOUNT, 1, value)]
    assert [len(one.items) for one in entries] == [account_log.PART_ITEMS, 1]
    row = account_log.unpack(came.rows()[1])
    assert row is not None and row.logged == sum(len(at) + len(value) for at, value in (first, second))


def test_long_summaries_count_and_an_earlier_trail_is_left_out() -> None:
    text = b"Subject: a\n" + b"".join(b"To: %d@example.test\n" % n for n in range(400)) + b"\nbody\n"
    made = mime.scan(text)
    came = begun(box_with(), Row(summaries=5))
    value = came.add(None, b"nname", made + b"X" * 32, EMAIL, THREAD, OWN, 0, 0, 0, 1, 1)[2]
    stored = layout.summary_of(value)
    assert stored == made + TRAIL.pack(EMAIL, 1, THREAD, OWN) and mime.counted(stored) > 0
    row = account_log.unpack(came.rows()[1])
    assert row is not None and row.summaries == 5 + mime.counted(stored)


@pytest.mark.parametrize("recovered", [0, 1])
def test_only_rows_of_today_are_taken(recovered: int) -> None:
    box, totals = layout.pack_row(box_with(recovered=recovered)), account_log.pack(Row(recovered=recovered))
    assert arrivals.begin(KEY, box, totals, recovered) is not None
    assert arrivals.begin(KEY, box, totals, 1 - recovered) is None
    assert arrivals.begin(KEY, box, None, recovered) is None
    other = account_log.pack(Row(recovered=1 - recovered)), layout.pack_row(box_with(recovered=1 - recovered))
    assert arrivals.begin(KEY, box, other[0], recovered) is arrivals.begin(KEY, other[1], totals, recovered) is None
    for size in range(len(totals)):
        assert arrivals.begin(KEY, box, totals[:size], recovered) is None
    assert arrivals.begin(KEY, box, totals + b"\0", recovered) is None
    for size in range(layout.ROW.size):
        assert arrivals.begin(KEY, box[:size], totals, recovered) is None
    for row in (b"\2" + box[1:], box[:1] + b"\x34" + box[2:], box + b"\xff", box[:52] + b"\1" + box[53:]):
        assert arrivals.begin(KEY, row, totals, recovered) is None
    assert arrivals.begin(KEY, box, b"\2" + totals[1:], recovered) is None


def test_what_does_not_fit_changes_nothing() -> None:
    came = begun(box_with(), Row())
    before = came.rows()
    with pytest.raises(ValueError, match="shorter"):
        add(came, b"damaged")
    with pytest.raises(ValueError, match="octets"):
        came.add(None, b"nname", SUMMARY, EMAIL, THREAD, b"", 0, 0, 0, 1, 1)
    with pytest.raises(OverflowError):
        came.add(None, b"n" * 65536, SUMMARY, EMAIL, THREAD, OWN, 0, 0, 0, 1, 1)
    with pytest.raises(ValueError, match="12 octets"):
        arrivals.begin(b"", *before, 0)
    assert came.rows() == before and came.log(1) == [] and came.uid == 1
