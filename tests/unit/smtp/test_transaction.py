"""fastmail.smtp.transaction: the states of a message, and its content whole, octet by octet, and with more behind it."""

import asyncio
from pathlib import Path

import pytest

from fastmail.delivery.envelope import Envelope
from fastmail.durable.staging import SPILL, Budget
from fastmail.model.esmtp import BINARY, EsmtpOptions
from fastmail.policy.wishes import Wanted, Wishes
from fastmail.smtp.transaction import TAKE, State, Transaction

BODY = b"Subject: x\r\n\r\n..two dots\r\nlast\r\n"
KEPT = b"Subject: x\n\n.two dots\nlast\n"
BEHIND = b"QUIT\r\n"


def begun(path: Path, limit: int = 1 << 20, body: str = "7BIT") -> Transaction:
    one = Transaction(Envelope("a@b.test", options=EsmtpOptions(body=body)))
    one.state = State.RCPT
    one.begin_data(str(path), Budget(), limit)
    return one


def fed(one: Transaction, data: bytes, step: int) -> int:
    """Feed octets until the content ends; how many were taken."""
    at = 0
    while at < len(data):
        piece = data[at : at + step]
        position, ended, _ = one.feed(memoryview(piece), 0)
        at += position
        if ended:
            break
    return at


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
def test_data_ends_at_its_dot(tmp_path: Path, step: int) -> None:
    one = begun(tmp_path)
    wire = BODY + b".\r\n" + BEHIND
    assert fed(one, wire, step) == len(wire) - len(BEHIND)
    assert one.staged is not None and bytes(one.staged.content()) == KEPT
    assert one.fault() == "" and one.received == len(wire) - len(BEHIND)
    one.drop()


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("binary", [False, True])
def test_chunks_end_at_their_last_octet(tmp_path: Path, step: int, binary: bool) -> None:
    one = Transaction(Envelope("a@b.test", options=EsmtpOptions(body=BINARY if binary else "7BIT")), State.RCPT)
    content = b"Subject: x\r\n\r\n.\r\n" + (b"\0\r" if binary else b"") + b"\r\n"
    for start in range(0, len(content), 5):
        part, last = content[start : start + 5], start + 5 >= len(content)
        one.begin_chunk(len(part), last, str(tmp_path), Budget(), 1 << 20)
        assert one.state is (State.LAST_CHUNK if last else State.CHUNK)
        assert fed(one, part + BEHIND, step) == len(part)
    one.finish_chunks()
    assert one.staged is not None
    assert bytes(one.staged.content()) == (content if binary else content.replace(b"\r\n", b"\n"))
    assert one.fault() == ""
    one.drop()


def test_a_chunk_for_nobody_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    for state in (State.NONE, State.MAIL):
        one = Transaction(Envelope(), state)
        one.pass_over(4)
        assert one.state is State.PASSED_OVER and one.resumes is state
        assert fed(one, b"QUIT\r\n", 1) == 4 and one.staged is None


@pytest.mark.parametrize("binary", [False, True])
def test_content_beyond_the_limit_is_not_kept(tmp_path: Path, binary: bool) -> None:
    one = Transaction(Envelope("a@b.test", options=EsmtpOptions(body=BINARY if binary else "7BIT")), State.RCPT)
    for _ in range(4):
        one.begin_chunk(100, False, str(tmp_path), Budget(), 250)
        fed(one, b"x" * 98 + b"\r\n", 1000)
    assert one.too_big and one.fault() == "full"
    assert one.staged is not None and one.staged.size <= 250
    one.drop()


@pytest.mark.parametrize(("content", "why"), [(b"a\rb\r\n", "bare"), (b"a\nb\r\n", "bare"), (b"a\0b\r\n", "nul")])
def test_what_may_not_be_in_content(tmp_path: Path, content: bytes, why: str) -> None:
    one = begun(tmp_path)
    fed(one, content + b".\r\n", 1)
    assert one.fault() == why
    one.drop()


def test_much_content_is_spilled(tmp_path: Path) -> None:
    """``feed`` says when; what comes after the disk was full is read to its end."""

    async def main() -> None:
        one = begun(tmp_path, SPILL * 10)
        line = b"x" * 998 + b"\r\n"
        spills = 0
        for _ in range(3 * SPILL // len(line)):
            _, ended, spill = one.feed(memoryview(line), 0)
            assert not ended
            if spill and one.staged is not None:
                spills += 1
                await one.staged.spill()
        assert spills >= 1 and one.staged is not None and one.staged.spilled
        one.lose_room(str(tmp_path), Budget())
        assert one.no_room and not one.staged.spilled
        position, ended, _ = one.feed(memoryview(b".\r\n" + BEHIND), 0)
        assert (position, ended) == (3, True)
        one.drop()

    asyncio.run(main())
    assert TAKE < SPILL and list(tmp_path.iterdir()) == []


def test_what_an_account_asks_for_is_kept_once() -> None:
    """However many details a stranger gives an alias of many accounts."""
    made, plain, role = Transaction(Envelope()), Wishes(), Wishes(enforce=True, role=True)
    for _ in range(100):
        made.ask([Wanted("a@b.test", 1, plain), Wanted("b@b.test", 2, plain)])
    made.ask([Wanted("a@b.test", 1, role), Wanted("out@b.test", 0, plain), Wanted("more@b.test", 0, plain)])
    made.ask([Wanted("out@b.test", 0, plain)])
    assert [(one.address, one.wishes.role) for one in made.wanted] == [
        ("a@b.test", False), ("b@b.test", False), ("a@b.test", True), ("out@b.test", False), ("more@b.test", False)
    ]  # fmt: skip
    assert made.wishes == {plain, role}
