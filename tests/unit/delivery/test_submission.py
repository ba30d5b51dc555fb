"""fastmail.delivery.submission: one entry of the queue for all recipients, its options as they came, its history after the
commit."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.envelope import Envelope
from fastmail.model.errors import StorageFailed, StorageFull
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue import routes
from fastmail.queue.model import LOCAL
from fastmail.queue.routes import LAX, STRICT
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from tests.support.notes import Noting
from tests.support.relaying import Outward

CONTENT = b"From: a@example.test\nSubject: x\n\nbody\n"
ASKED = EsmtpOptions(utf8=True, ret="FULL", envid="id 1", by=4102444800, by_mode="N", priority=3)


class Notes(Noting):
    """A history that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.look: Callable[[], Any] = lambda: None

    def note(self, ident: str, what: str, words: Any = (), /, **fields: Any) -> None:
        self.lines.append((ident, what))
        self.look()


def run(path: Path, scenario: Callable[[Outward, Notes], Awaitable[None]]) -> None:
    async def main() -> None:
        spool = Spool(str(path), 1 << 26)
        notes = Notes()
        out = Outward(spool, routes.parse(["route.test smtp:10.0.0.1"], []), Schedule(), notes)  # type: ignore[arg-type]
        try:
            await scenario(out, notes)
        finally:
            await spool.close()

    asyncio.run(main())


def envelope(*to: str, options: EsmtpOptions = ASKED) -> Envelope:
    recipients: list[Any] = [(one, ["a record"] if one.endswith("@example.test") else []) for one in to]
    asked = [Rcpt(one, f"rfc822;{one}", "DELAY") for one in to]
    return Envelope("a@example.test", recipients, asked, options, helo="h", peer="192.0.2.1", login="a@example.test")


def test_nothing_is_queued_where_nobody_empties_the_queue(tmp_path: Path) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        out.submission._empties = False
        done = await out.submission.submit(envelope("x@far.test"), CONTENT, True)
        assert (done.code, done.enhanced) == (550, "5.7.1") and out.spool.depth() == (0, 0) and notes.lines == []

    run(tmp_path, scenario)


def test_all_recipients_are_one_entry_with_their_options(tmp_path: Path) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        done = await out.submission.submit(
            envelope("x@far.test", "y@far.test", "z@route.test", "u@example.test"), CONTENT, True
        )
        assert done.code == 250
        jobs = {job.destination: (item, job) for item, job in out.spool.jobs()}
        assert set(jobs) == {"far.test", "smtp:10.0.0.1:25", LOCAL}
        item, job = jobs["far.test"]
        assert item.options == ASKED and item.sender == "a@example.test" and item.login == "a@example.test"
        assert job.recipients == [Rcpt(f"{one}@far.test", f"rfc822;{one}@far.test", "DELAY") for one in "xy"]
        assert job.priority == 3 and done.text == f"{item.number} queued"
        text = await out.spool.content(item)
        assert b"Message-ID: <" in text and text.startswith(b"Received: from h ")
        assert item.size == len(text) + text.count(b"\n") and not item.eight

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("options", "header", "where"),
    [(EsmtpOptions(require_tls=True), b"", "far.test" + STRICT), (EsmtpOptions(), b"TLS-Required: No\n", "far.test" + LAX),
     (EsmtpOptions(require_tls=True), b"TLS-Required: No\n", "far.test" + STRICT), (EsmtpOptions(), b"", "far.test")],
)  # fmt: skip
def test_the_wish_for_tls_is_part_of_the_destination(
    tmp_path: Path, options: EsmtpOptions, header: bytes, where: str
) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        assert (await out.submission.submit(envelope("x@far.test", options=options), header + CONTENT, False)).ok
        assert [job.destination for _, job in out.spool.jobs()] == [where]

    run(tmp_path, scenario)


def test_the_history_begins_after_the_commit(tmp_path: Path) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        depths = []
        notes.look = lambda: depths.append(out.spool.depth())
        await out.submission.submit(envelope("x@far.test"), CONTENT, False)
        assert [what for _, what in notes.lines] == ["accepted"] and depths == [(1, 1)]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "code"), [(StorageFailed("x"), 451), (StorageFull("x"), 452), (OSError("x"), 451)], ids=repr
)
def test_what_was_not_committed_has_no_history(tmp_path: Path, error: Exception, code: int) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        async def fails(*args: Any) -> None:
            raise error

        out.spool.enqueue = fails  # type: ignore[assignment,method-assign]
        assert (await out.submission.submit(envelope("x@far.test"), CONTENT, False)).code == code
        assert notes.lines == [] and out.spool.depth() == (0, 0)

    run(tmp_path, scenario)


def test_bounds(tmp_path: Path) -> None:
    async def scenario(out: Outward, notes: Notes) -> None:
        out.bounds.login = 2
        assert (await out.submission.submit(envelope("x@far.test", "y@far.test"), CONTENT, False)).ok
        assert (await out.submission.submit(envelope("x@far.test"), CONTENT, False)).code == 450
        out.bounds.login, out.bounds.messages = 0, 1
        assert (await out.submission.submit(envelope("x@far.test"), CONTENT, False)).code == 452
        looped = b"Received: x\n" * 51 + CONTENT
        assert (await out.submission.submit(envelope("x@far.test"), looped, False)).code == 554
        assert len(notes.lines) == 1

    run(tmp_path, scenario)
