"""Base subjects, dates, addresses and threads (RFC 5256)."""

import pytest

from fastmail.message import order
from fastmail.message.order import Entry


@pytest.mark.parametrize(
    ("raw", "base", "reply"),
    [
        (b" hello", "hello", False),
        (b"Re: hello", "hello", True),
        (b"RE:  Fwd: [list] re: Hello  World", "hello world", True),
        (b"[list] hello", "hello", False),
        (b"[list]", "[list]", False),
        (b"hello (fwd) (FWD)", "hello", True),
        (b"[Fwd: Re: hello]", "hello", True),
        (b"Re[2]: hello", "hello", True),
        (b"=?utf-8?q?Re=3A_gr=C3=BC=C3=9Fe?=", "gru\u0308sse", True),
        (b"regarding: x", "regarding: x", False),
        (b"folded\r\n\tsubject", "folded subject", False),
        (b"", "", False),
        (None, "", False),
    ],
)
def test_base_subject(raw: bytes | None, base: str, reply: bool) -> None:
    assert order.base_subject(raw) == (base, reply)


def test_dates_and_addresses() -> None:
    assert order.sent_date(b" Mon, 7 Feb 1994 21:52:25 -0800 (PST)") == 760686745
    assert order.sent_date(b"yesterday") is None and order.sent_date(None) is None
    assert order.address(b' "Doe, Jane" <Jane.Doe@x.example>, b@c', False) == "jane.doe"
    assert order.address(b' "Doe, Jane" <Jane.Doe@x.example>, b@c', True) == "doe, jane"
    assert order.address(b" b@c.example", True) == "b@c.example"
    assert order.address(b"<<<>>>", False) == "" and order.address(None, True) == ""


def entry(uid: int, ident: str = "", refs: str = "", subject: str = "", reply: bool = False, date: int = 0) -> Entry:
    ids = tuple(word.encode() for word in refs.split())
    return Entry(uid, date or uid, subject, reply, ident.encode() or None, ids)


def threads(entries: list[Entry], by_subject: bool = True) -> bytes:
    return order.render(order.references(entries, by_subject), {e.uid: e.uid for e in entries})


def test_references() -> None:
    assert threads([entry(1, "a"), entry(2, "b", "a"), entry(3, "c", "a b"), entry(4, "d", "a")]) == b"(1 (2 3)(4))"
    assert threads([entry(2, "b", "gone"), entry(3, "c", "gone"), entry(5)]) == b"((2)(3))(5)"
    assert threads([entry(2, "b", "gone a"), entry(7, "c", "b")]) == b"(2 7)"
    assert threads([entry(1, "a", "b"), entry(2, "b", "a")]) in (b"(2 1)", b"(1 2)")
    assert threads([entry(1, "a", "a"), entry(2, "a")]) == b"(1)(2)"
    assert threads([]) == b""


def test_threads_of_one_subject_are_merged() -> None:
    both = [entry(1, "a", subject="x"), entry(2, "b", subject="x", reply=True)]
    assert threads(both) == b"(1 2)"
    assert threads(both, by_subject=False) == b"(1)(2)"
    assert threads([entry(1, "a", subject="x"), entry(2, "b", subject="x")]) == b"((1)(2))"
    assert threads([entry(1, "a", subject="x", reply=True), entry(2, "b", subject="x")]) == b"(2 1)"


def test_refs_come_in_the_order_of_their_latest_message() -> None:
    found = threads([entry(1, "a"), entry(2, "b"), entry(3, "c", "a")], by_subject=False)
    assert found == b"(2)(1 3)"


def test_ordered_subject() -> None:
    entries = [entry(n, subject=s, date=d) for n, s, d in ((1, "x", 5), (2, "y", 3), (3, "x", 4), (4, "x", 9))]
    assert order.render(order.ordered_subject(entries), {n: n for n in range(1, 5)}) == b"(2)(3 (1)(4))"


def test_a_long_thread_needs_no_recursion() -> None:
    chain = [entry(n, f"m{n}", f"m{n - 1}" if n > 1 else "") for n in range(1, 20001)]
    assert threads(chain).count(b" ") == 19999
