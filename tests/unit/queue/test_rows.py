"""fastmail.queue.rows: the layout of stored items stays, and rows of earlier and of later versions are read."""

import msgspec
import pytest

from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue.model import Item, Job
from fastmail.queue.rows import ItemRow, item_row, job_row, read_item, read_job

ASKED = EsmtpOptions(utf8=True, ret="HDRS", envid="e1", require_tls=True, release=17, by=18, by_mode="RT", priority=-3)
ITEM = Item(
    5,
    "a@b.test",
    6,
    7,
    ASKED,
    True,
    helo="h",
    peer="192.0.2.1",
    login="l@b.test",
    protocol="ESMTPSA",
    record=8,
    skip=9,
    length=10,
    hold=b"hold",
    shared_with="s@b.test",
    checksum=19,
    salt=b"12345678",
    mailbox="Junk",
    owner="o@b.test",
    signed="b.test",
    checked=True,
    mailing_list="m@b.test",
    verp=True,
    token=b"token",
    places={3: "Junk"},
    junk=("j@b.test",),
)
# Octet by octet what version 1 has always stored, in its order.
ROW = [
    *(1, 5, "a@b.test", 6, 7, 8, 9, 10, True, True, "HDRS", "e1", "h", "192.0.2.1", "l@b.test", "ESMTPSA"),
    *(True, 17, 18, "RT", -3, b"hold", "s@b.test", 19, b"12345678", "Junk", "o@b.test", "b.test", True),
    *("m@b.test", True, b"token", {3: "Junk"}, ["j@b.test"]),
]
NAMES = (
    "version id sender arrived size record skip length utf8 eight ret envid helo peer login protocol require_tls release by "
    "by_mode priority hold shared_with checksum salt mailbox owner signed checked mailing_list verp token places junk"
)


def test_an_item_is_the_row_that_it_always_was() -> None:
    assert msgspec.msgpack.decode(item_row(ITEM)) == ROW
    assert read_item(msgspec.msgpack.encode(ROW)) == ITEM
    assert list(ItemRow.__struct_fields__) == NAMES.split(), "fields are added at the end, and never moved"


def test_shorter_rows_are_of_earlier_versions() -> None:
    """Salt and what is behind it came last; what a row lacks has its default."""
    old = read_item(msgspec.msgpack.encode(ROW[:24]))
    assert old.salt == b"" and old.mailbox == old.owner == "" and old.options == ASKED
    assert old.transaction == (5).to_bytes(8, "big") + bytes(8) != ITEM.transaction
    first = read_item(msgspec.msgpack.encode(ROW[:8]))
    assert first.options == EsmtpOptions() and (first.record, first.skip, first.length) == (8, 9, 10)


def test_longer_rows_are_of_later_versions() -> None:
    assert read_item(msgspec.msgpack.encode([*ROW, "more"])) == ITEM


def test_jobs_hold_their_recipients_as_arrays() -> None:
    job = Job(1, 5, 0, "far.test", [Rcpt("x@far.test", "rfc822;x@far.test", "NEVER")], 9, last="450 later", priority=2)
    row = [
        1,
        5,
        0,
        "far.test",
        [["x@far.test", "rfc822;x@far.test", "NEVER"]],
        9,
        0,
        False,
        False,
        "450 later",
        2,
        False,
        "",
        False,
    ]
    assert msgspec.msgpack.decode(job_row(job)) == row and read_job(msgspec.msgpack.encode(row)) == job
    assert read_job(msgspec.msgpack.encode([1, 5, 0, "far.test", [["x@far.test"]], 9])).recipients == [
        Rcpt("x@far.test")
    ]


@pytest.mark.parametrize("raw", [b"", b"\xc1", msgspec.msgpack.encode(ROW[:3]), msgspec.msgpack.encode({"id": 1})])
def test_what_is_no_row_is_damaged(raw: bytes) -> None:
    for read in (read_item, read_job):
        with pytest.raises(CorruptData):
            read(raw)
