"""SORT and THREAD: base subjects, dates, ids, keys and threads (RFC 5256)."""

from fastmail._core import mime, order
from fastmail._core.threads import Threads
from fastmail._core.uidset import UidSet
from fastmail.message import collate
from fastmail.message import order as keys
from tests.support.growth import Case


def _chain(n: int) -> Threads:
    """Messages that each answer the one before, whose Message-IDs all come in reverse order of arrival."""
    table = Threads(bytes(16))
    heads = (b"Message-ID: <m%d>\nReferences: <m%d>\nSubject: s%d\n\n" % (k, k + 1, k % 7) for k in range(n))
    assert table.add(list(range(1, n + 1)), [0] * n, [(k, mime.scan(head)) for k, head in enumerate(heads, 1)]) == (
        [],
        [],
    )
    return table


def _crossing(n: int) -> Threads:
    """Messages whose references contradict each other, so that links are made, broken, and refused as loops."""
    table = Threads(bytes(16))
    heads = (
        b"Message-ID: <m%d>\nReferences: <m%d> <m%d> <m%d>\nSubject: re: x\n\n"
        % (k, (k * 7) % n, (k * 13) % n, (k + n // 2) % n)
        for k in range(n)
    )
    assert table.add(list(range(1, n + 1)), [0] * n, [(k, mime.scan(head)) for k, head in enumerate(heads, 1)]) == (
        [],
        [],
    )
    return table


def _threads(table: Threads) -> None:
    for algorithm in range(3):
        table.answer(algorithm, UidSet.of_ranges((1, len(table))), None)


def _one(references: bytes) -> None:
    """A message with many references that the header cache does not hold."""
    table = Threads(bytes(16))
    table.add([1, 2], [0, 0], [(1, mime.scan(b"Subject: x\n\n")), (2, mime.scan(b"Subject: y\n\n"))])
    table.complete(1, mime.scan(b"Subject: x\n\n"), references)
    table.answer(1, UidSet.of_ranges((1, 2)), None)


def _values(made: bytes) -> None:
    for what in order.NAMES.values():
        order.values([1], [(1, made)], what)


CASES = [
    Case("subject: blobs", 8_000, lambda n: b"[a] " * n, keys.subject_key),
    Case("subject: blobs and a base", 8_000, lambda n: b"[a] " * n + b"x", keys.subject_key),
    Case("subject: forwards in brackets", 5_000, lambda n: b"[fwd:" * n + b"x" + b"]" * n, keys.subject_key),
    Case("subject: forwards that end in a reply", 5_000, lambda n: b"[fwd:re" * n + b"x" + b"]" * n, keys.subject_key),
    Case("subject: (fwd)", 6_000, lambda n: b"x" + b"(fwd)" * n + b"y", keys.subject_key),
    Case("subject: (fwd) at the end", 6_000, lambda n: b"x" + b"(fwd)" * n, keys.subject_key),
    Case("subject: opened brackets", 30_000, lambda n: b"[" * n, keys.subject_key),
    Case("subject: re and an opened bracket", 10_000, lambda n: b"re[" * n, keys.subject_key),
    Case("subject: re and spaces", 10_000, lambda n: b"re " * n + b":", keys.subject_key),
    Case("subject: folded lines", 8_000, lambda n: b"[a]\r\n " * n, keys.subject_key),
    Case("date: comments", 20_000, lambda n: b"(" * n + b"1 Jan 2024", order.sent_date),
    Case("date: digits", 20_000, lambda n: b"1 " * n, order.sent_date),
    Case("ids: opened angles", 20_000, lambda n: b"<" * n, order.message_ids),
    Case("ids: closed angles", 20_000, lambda n: b"<a" + b">" * n, order.message_ids),
    Case("ids: quotes", 20_000, lambda n: b'<"' * n, order.message_ids),
    Case("fold: sharp s", 4_000, lambda n: "a\u00df" * n, collate.fold),
    Case("titlecase: sharp s", 4_000, lambda n: "a\u00df" * n, collate.titlecased),
    Case("titlecase: marks in the wrong order", 4_000, lambda n: "\u0301\u0323" * n, collate.titlecased),
    Case("fold: marks in the wrong order", 4_000, lambda n: "\u0301\u0323" * n, collate.fold),
    Case("sort: addresses", 3_000, lambda n: mime.scan(b"To: " + b"g: a@b; (c), " * n + b"\nFrom: " + b"(" * n + b"\n\n"), _values),
    Case("sort: messages", 1_000, lambda n: ([b"k%d" % (k * 7919 % n) for k in range(n)], n),
         lambda made: order.ranked([(made[0], False), (made[0], True)], made[1])),
    Case("thread: a chain in reverse", 300, _chain, _threads),
    Case("thread: references that cross", 300, _crossing, _threads),
    Case("thread: references of one message", 20_000, lambda n: b"".join(b"<%d>" % k for k in range(n)), _one),
]  # fmt: skip
