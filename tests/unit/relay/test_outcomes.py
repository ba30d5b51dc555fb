"""fastmail.relay.outcomes: what an attempt leaves in the queue, who is told, and that the history hears of it last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.dns.resolver import NoSuchDomain, NullMx
from fastmail.model.errors import StorageFailed
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue import routes
from fastmail.queue.model import Item, Job, Outgoing, id_of
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.relay.clock import Clock
from fastmail.relay.outcomes import Expired, Outcomes, Said, final_reply
from fastmail.relay.targets import Loops, NoTls
from fastmail.smtp.client import Reply
from tests.support.relaying import Outward

CONTENT = b"Subject: x\n\nbody\n"
OK, LATER, NO = Reply(250, "2.0.0", "ok"), Reply(451, "4.3.0", "later"), Reply(550, "5.1.1", "nobody")


class World:
    """A spool with one message, and what settles it; ``lines`` is the history."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(str(path), 1 << 26)
        self.lines: list[tuple[str, str]] = []
        table = routes.parse(["slow.test smtp:10.0.0.1 retry=1h lifetime=2d"], [])
        self.out = Outward(self.spool, table, Schedule([300.0], 86400.0, 3600.0), self)  # type: ignore[arg-type]
        self.outcomes = Outcomes(self.spool, self.out.schedules, self.out.reports, self, Clock())  # type: ignore[arg-type]

    def note(self, ident: str, what: str, words: Any = (), /, **fields: Any) -> None:
        if what == "reported":
            assert self.spool.queued(id_of(fields["report"])), "the history hears of a report before its commit"
        self.lines.append((ident, what))

    async def queue(self, *rcpts: Rcpt, age: float = 0.0, where: str = "far.test", **asked: Any) -> tuple[Job, Item]:
        now = int(time.time() - age)
        item = Item(self.spool.new_id(), "a@b.test", now, len(CONTENT), EsmtpOptions(**asked))
        await self.spool.enqueue(Outgoing(item, {where: list(rcpts)}, [CONTENT]))
        ((item, job),) = self.spool.jobs(item.id)
        return job, item

    def actions(self) -> list[str]:
        """What was reported."""
        return sorted(what for _, what in self.lines if what in ("reported", "report"))


def run(path: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(path)
        try:
            await scenario(world)
        finally:
            await world.spool.close()

    asyncio.run(main())


def test_each_recipient_has_its_own_end(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(*(Rcpt(f"{n}@far.test") for n in ("good", "later", "bad")))
        await w.outcomes.settle(job, item, [Said(OK, "mx"), Said(LATER, "mx"), Said(NO, "mx")], CONTENT)
        ((_, left),) = w.spool.jobs(item.id)
        assert left.recipients == [Rcpt("later@far.test")] and left.attempts == 1 and "451" in left.last
        assert left.due > time.time() + 200
        assert [what for _, what in w.lines] == ["reported", "report", "sent", "deferred", "failed"]
        assert w.spool.depth() == (2, 2)

    run(tmp_path, scenario)


def test_nothing_is_noted_before_the_commit(tmp_path: Path) -> None:
    """The commit fails twice: each time the history is as it was; then the answers count that were heard the first
    time, and the report is there once."""

    async def scenario(w: World) -> None:
        job, item = await w.queue(Rcpt("bad@far.test"))
        change, left = w.spool.change, [1, 1]

        async def fails(*args: Any) -> list[int]:
            assert w.lines == []
            if left:
                left.pop()
                raise StorageFailed("not now")
            return await change(*args)

        w.spool.change = fails  # type: ignore[method-assign, assignment]
        said = [Said(NO, "mx")]
        for _ in range(2):
            with pytest.raises(StorageFailed):
                await w.outcomes.settle(job, item, said, CONTENT)
            assert w.lines == []
            said = w.outcomes.known(job) or []
        await w.outcomes.settle(job, item, said, CONTENT)
        assert w.actions() == ["report", "reported"] and w.spool.depth() == (1, 1)
        assert w.outcomes.known(job) is None

    run(tmp_path, scenario)


def test_a_job_that_was_dropped_meanwhile_makes_no_report(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(Rcpt("bad@far.test"))
        w.spool.change_now(job.key, lambda old: None)
        await w.outcomes.settle(job, item, [Said(NO, "mx")], CONTENT)
        assert w.actions() == [] and w.spool.depth() == (0, 0)

    run(tmp_path, scenario)


def test_a_success_report_beyond_its_login_s_limit_is_in_no_history(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(Rcpt("good@far.test", notify="SUCCESS"))
        item.login, w.out.bounds.login = "a@b.test", 1
        await w.outcomes.settle(job, item, [Said(OK, "mx")], CONTENT)
        job, item = await w.queue(Rcpt("good@far.test", notify="SUCCESS"))
        item.login = "a@b.test"
        await w.outcomes.settle(job, item, [Said(OK, "mx")], CONTENT)
        assert w.actions() == ["report", "reported"], "the first of the two"
        assert w.spool.depth() == (1, 1)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("age", "notify", "asked", "ends", "told"),
    [
        (0, "", {}, False, []),
        (7200, "", {}, False, ["delayed"]),
        (7200, "FAILURE", {}, False, []),
        (90000, "", {}, True, ["failed"]),
        (90000, "NEVER", {}, True, []),
        (10, "", {"by": 1, "by_mode": "R"}, True, ["failed"]),
        (10, "", {"by": 1, "by_mode": "N"}, False, ["delayed"]),
    ],
)
def test_what_waits_and_what_is_given_up(
    tmp_path: Path, age: float, notify: str, asked: dict[str, Any], ends: bool, told: list[str]
) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(Rcpt("x@far.test", notify=notify), age=age, **asked)
        await w.outcomes.settle(job, item, [Said(LATER)], CONTENT)
        assert (list(w.spool.jobs(item.id)) == []) is ends
        reports = [one for one, _ in w.spool.jobs() if one.id != item.id]
        texts = [(await w.spool.content(one)).decode() for one in reports]
        assert [text.split("Action: ")[1].split("\n")[0] for text in texts] == told

    run(tmp_path, scenario)


def test_a_route_has_its_own_waits(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(Rcpt("x@slow.test"), age=90000, where="smtp:10.0.0.1:25")
        await w.outcomes.settle(job, item, [Said(LATER)], CONTENT)
        ((_, left),) = w.spool.jobs(item.id)
        assert left.due > time.time() + 3000

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (NoSuchDomain("no such domain"), "550 5.1.2 no such domain"),
        (NullMx("no mail"), "556 5.1.10 no mail"),
        (Loops("loops"), "550 5.4.6 loops"),
        (NoTls("no host will do"), "550 5.7.10 no host will do"),
        (NoTls("it does not offer REQUIRETLS"), "550 5.7.30 it does not offer REQUIRETLS"),
        (Expired(), "550 5.4.7 its time of delivery is over"),
    ],
)
def test_replies_for_good(error: Exception, shown: str) -> None:
    assert str(final_reply(error)) == shown
