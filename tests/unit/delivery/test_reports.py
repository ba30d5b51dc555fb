"""fastmail.delivery.reports: a report is a value, made the same each time, and in the history after its commit only."""

import asyncio
import email
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.envelope import Envelope
from fastmail.delivery.reports import FULL, Circumstances, Reports, make
from fastmail.message import dsn
from fastmail.model.errors import StorageFailed
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue import routes
from fastmail.queue.model import LOCAL, Item, id_of
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from tests.support.notes import Noting
from tests.support.relaying import Outward

UNDER = Circumstances("mx.test", 77, 1e9, 2_000_000_000, "far.test", "ab" * 12)
CONTENT = b"Subject: x\n\nbody\n"


def fate(action: str = "failed") -> dsn.Fate:
    return dsn.Fate("x@y.test", "", action, "5.1.1", "no such user")


def item(sender: str = "a@b.test", **asked: Any) -> Item:
    return Item(5, sender, 900, len(CONTENT), EsmtpOptions(**asked), login="a@b.test")


def test_the_same_circumstances_make_the_same_report() -> None:
    one, two = (make(item(), [fate()], CONTENT, UNDER) for _ in range(2))
    assert one.outgoing.content == two.outgoing.content
    assert one.outgoing.item == two.outgoing.item and one.outgoing.groups == two.outgoing.groups
    report = email.message_from_bytes(bytes(one.outgoing.content[1]))
    assert report.get_content_type() == "multipart/report" and report["Date"] == "Sun, 09 Sep 2001 01:46:40 +0000"


def test_a_report_goes_to_the_sender_and_makes_no_other() -> None:
    made = make(item(), [fate()], CONTENT, UNDER).outgoing
    assert made.item.sender == "" and made.item.id == 77
    assert made.groups == {"far.test": [Rcpt("a@b.test", notify="NEVER")]}
    assert made.item.size == sum(len(piece) + bytes(piece).count(b"\n") for piece in made.content)


@pytest.mark.parametrize(
    ("asked", "action", "size", "whole"),
    [({}, "failed", 0, True), ({"ret": "HDRS"}, "failed", 0, False), ({"require_tls": True}, "failed", 0, False),
     ({}, "delayed", 0, False), ({}, "failed", FULL, False)],
)  # fmt: skip
def test_how_much_is_sent_back(asked: dict[str, Any], action: str, size: int, whole: bool) -> None:
    made = make(item(**asked), [fate(action)], CONTENT + b"x" * size, UNDER)
    assert (b"\nbody\n" in bytes(made.outgoing.content[1])) is whole


def test_what_a_report_takes_over() -> None:
    """Priority (RFC 6710 4.6) and TLS (RFC 8689 5); a login's limits for success only."""
    failed = make(item(priority=-4, require_tls=True), [fate()], CONTENT, UNDER).outgoing.item
    assert failed.options == EsmtpOptions(priority=-4, require_tls=True) and failed.login == ""
    assert make(item(), [fate("delivered")], CONTENT, UNDER).outgoing.item.login == "a@b.test"
    assert make(item("jos\u00e9@b.test"), [fate()], CONTENT, UNDER).outgoing.item.options.utf8


# ---------------------------------------------------------------- the order of commit and history


class Notes(Noting):
    """A history that remembers what it was told, and when."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self.lines: list[tuple[str, str]] = []

    def note(self, ident: str, what: str, words: Any = (), /, **fields: Any) -> None:
        self.lines.append((ident, what))
        if what == "reported":
            assert self._spool.queued(id_of(fields["report"])), "before its commit"


def run(path: Path, scenario: Callable[[Spool, Reports, Notes, Outward], Awaitable[None]]) -> None:
    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        notes = Notes(spool)
        out = Outward(spool, routes.parse([], []), Schedule(), notes)  # type: ignore[arg-type]
        try:
            await scenario(spool, out.reports, notes, out)
        finally:
            await spool.close()

    asyncio.run(main())


def envelope(notify: str = "SUCCESS") -> Envelope:
    to = "user@example.test"
    return Envelope("a@b.test", [(to, [])], [Rcpt(to, notify=notify)], EsmtpOptions(envid="e", priority=2))


def test_a_success_is_told_after_its_commit(tmp_path: Path) -> None:
    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        await reports.tell_delivered(envelope(), CONTENT, [True])
        ((found, job),) = spool.jobs()
        assert found.options.priority == 2 and job.destination == "b.test"
        assert [what for _, what in notes.lines] == ["reported", "report"] and notes.lines[1][0] == found.number

    run(tmp_path, scenario)


@pytest.mark.parametrize(("notify", "done"), [("FAILURE", True), ("", True), ("SUCCESS", False)])
def test_who_did_not_ask_hears_nothing(tmp_path: Path, notify: str, done: bool) -> None:
    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        await reports.tell_delivered(envelope(notify), CONTENT, [done])
        assert spool.depth() == (0, 0) and notes.lines == []

    run(tmp_path, scenario)


def test_a_report_that_was_not_committed_is_in_no_history(tmp_path: Path) -> None:
    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        async def fails(*args: Any) -> None:
            raise StorageFailed("not now")

        spool.enqueue = fails  # type: ignore[assignment,method-assign]
        await reports.tell_delivered(envelope(), CONTENT, [True])
        assert notes.lines == []

    run(tmp_path, scenario)


def test_a_full_queue_takes_no_success_and_every_failure(tmp_path: Path) -> None:
    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        out.bounds.messages = 1
        await reports.tell_delivered(envelope(), CONTENT, [True])
        one = item()
        assert reports.about(one, [fate("delivered")], CONTENT) is None
        assert reports.about(one, [fate("failed")], CONTENT) is not None
        assert reports.about(one, [], CONTENT) is None and reports.about(item(""), [fate()], CONTENT) is None

    run(tmp_path, scenario)


def test_until_when_it_is_tried_and_where_it_goes(tmp_path: Path) -> None:
    async def scenario(spool: Spool, reports: Reports, notes: Notes, out: Outward) -> None:
        one = item("a@example.test", release=int(time.time()))
        made = reports.about(one, [fate("delayed")], CONTENT, 3600.0)
        assert made is not None and list(made.outgoing.groups) == [LOCAL]
        told = email.message_from_bytes(bytes(made.outgoing.content[1])).get_payload()[1].as_string()  # type: ignore[index,union-attr]
        assert f"Will-Retry-Until: {dsn._date(one.options.release + 3600)}" in told

    run(tmp_path, scenario)
