"""fastmail.relay.delivering: one job, by the kind of its destination, and settled whatever becomes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.lists.engine import Lists
from fastmail.directory.list_tokens import Tokens
from fastmail.directory.records import Domain
from fastmail.dns.resolver import NoSuchDomain
from fastmail.model.errors import DamagedAccount, StorageFailed
from fastmail.model.esmtp import EsmtpOptions, Rcpt
from fastmail.queue import routes
from fastmail.queue.model import LOCAL, Item, Job, Outgoing
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import PART, Spool
from fastmail.relay import attempt
from fastmail.relay.attempt import Attempt
from fastmail.relay.clock import Clock
from fastmail.relay.connecting import Down
from fastmail.relay.delivering import PER_CONNECTION, Deliveries
from fastmail.relay.outcomes import Outcomes, Said
from fastmail.relay.scheduling import Destination, Most, Scheduler
from fastmail.smtp.client import Reply, Sending
from tests.support.relaying import Outward
from tests.support.sessions import USER, Bench

CONTENT = b"Subject: x\n\nbody\n"
OK = Reply(250, "2.0.0", "taken")


class Session:
    """A session with a host."""

    def __init__(self, sent: int = 0) -> None:
        self.sent = sent
        self.usable = True

    async def close(self) -> None:
        self.usable = False


class Connector:
    """Sessions that were kept."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    async def kept(self, destination: str) -> Any:
        return self.waiting.pop() if self.waiting else None


class World:
    """A spool with one job; attempts end as ``ends`` says; ``settled`` is what the queue was told."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spool = Spool(str(path / "data"), 1 << 26)
        table = routes.parse(["pipe.test pipe:/bin/cat"], [])
        history: Any = self
        self.out = Outward(self.spool, table, Schedule(), history)
        self.bench = Bench(str(path))
        self.connector = Connector()
        self.scheduler = Scheduler(self.spool, table, self.out.schedules, Most())
        self.outcomes = Outcomes(self.spool, self.out.schedules, self.out.reports, history, Clock())
        connector: Any = self.connector
        lists = Lists(self.spool, self.bench.deliverer, table, history, "mx.example.test")
        self.deliveries = Deliveries(
            self.spool, table, self.bench.deliverer, connector, self.scheduler, self.outcomes, 5.0, lists
        )
        self.asked: list[tuple[Sending, Any]] = []
        self.replies: list[str] = []  # in the history
        self.ends: Attempt | Exception = Attempt([Said(OK, "mx")])
        monkeypatch.setattr(attempt, "run", self._run)

    def note(self, *args: Any, **fields: Any) -> None:
        self.replies.append(str(fields.get("reply", "")))

    async def _run(self, connector: Any, name: str, sending: Sending, client: Any) -> Attempt:
        self.asked.append((sending, client))
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends

    async def queue(self, *to: str, where: str = "far.test", **asked: Any) -> tuple[Destination, Job]:
        item = Item(self.spool.new_id(), "a@b.test", int(time.time()), len(CONTENT), EsmtpOptions(**asked), True)
        await self.spool.enqueue(Outgoing(item, {where: [Rcpt(one, "", "NEVER") for one in to]}, [CONTENT]))
        ((_, job),) = self.spool.jobs(item.id)
        return Destination(where), job

    def left(self) -> list[str]:
        return [job.last for _, job in self.spool.jobs()]


def run(path: Path, monkeypatch: pytest.MonkeyPatch, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(path, monkeypatch)
        try:
            await scenario(world)
        finally:
            await world.spool.close()

    asyncio.run(main())


def test_options_and_recipients_reach_the_host_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        asked: dict[str, Any] = {"utf8": True, "envid": "e", "require_tls": True, "priority": 3, "ret": "HDRS"}
        destination, job = await w.queue("x@far.test", **asked)
        await w.deliveries.deliver(destination, job, None)
        ((sending, client),) = w.asked
        assert sending.options == EsmtpOptions(**asked) and sending.eight and client is None  # type: ignore[arg-type]
        assert sending.recipients == [Rcpt("x@far.test", "", "NEVER")] and sending.content == CONTENT
        assert w.left() == []

    run(tmp_path, monkeypatch, scenario)


def test_which_session_the_next_message_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        kept, given, worn = Session(), Session(), Session(PER_CONNECTION)
        w.connector.waiting = [kept]
        for client, used, after in ((given, given, given), (None, kept, kept), (given, given, worn)):
            destination, job = await w.queue("x@far.test")
            w.ends = Attempt([Said(OK, "mx")], after)  # type: ignore[arg-type]
            found = await w.deliveries.deliver(destination, job, client)  # type: ignore[arg-type]
            assert w.asked[-1][1] is used  # type: ignore[comparison-overlap]
            assert found is (after if after is not worn else None)  # type: ignore[comparison-overlap]
        assert not worn.usable, "it has taken enough messages"

    run(tmp_path, monkeypatch, scenario)


def test_a_session_is_closed_when_our_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        fresh = Session()
        w.ends = Attempt([Said(OK, "mx")], fresh)  # type: ignore[arg-type]
        destination, job = await w.queue("x@far.test")
        change = w.spool.change

        async def fails(*args: Any) -> list[int]:
            raise StorageFailed("not now")

        w.spool.change = fails  # type: ignore[method-assign, assignment]
        with pytest.raises(StorageFailed):
            await w.deliveries.deliver(destination, job, None)
        assert not fresh.usable
        w.spool.change = change  # type: ignore[method-assign, assignment]
        await w.deliveries.deliver(destination, job, None)
        assert len(w.asked) == 1 and w.left() == [], "the host has it already"

    run(tmp_path, monkeypatch, scenario)


@pytest.mark.parametrize(
    ("error", "last"), [(Down("no host answers"), "451 4.4.1 no host answers"), (NoSuchDomain("no such domain"), None)]
)
def test_no_host_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, last: str | None) -> None:
    async def scenario(w: World) -> None:
        w.ends = error
        destination, job = await w.queue("x@far.test")
        assert await w.deliveries.deliver(destination, job, None) is None
        assert w.left() == ([last] if last is not None else [])
        assert (destination.failures == 1) is (last is not None)

    run(tmp_path, monkeypatch, scenario)


@pytest.mark.parametrize("where", ["far.test", LOCAL])
def test_what_is_too_late_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    async def scenario(w: World) -> None:
        kept: Any = Session()
        destination, job = await w.queue(USER, where=where, by=1, by_mode="R")
        assert await w.deliveries.deliver(destination, job, kept) is kept
        assert w.asked == [] and w.left() == []

    run(tmp_path, monkeypatch, scenario)


def test_recipients_of_this_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        destinations = w.bench.deliverer.destinations

        def look(address: str) -> Any:
            if address.startswith("hurt@"):
                raise DamagedAccount("its row is damaged")
            return destinations(address)

        w.bench.deliverer.destinations = look  # type: ignore[method-assign, assignment]
        destination, job = await w.queue(USER, "nobody@example.test", "hurt@example.test", where=LOCAL)
        await w.deliveries.deliver(destination, job, None)
        ((_, left),) = w.spool.jobs()
        assert [one.address for one in left.recipients] == ["hurt@example.test"]
        assert sum(len(one.messages) for one in w.bench.store.boxes.values()) == 1  # type: ignore[attr-defined]

    run(tmp_path, monkeypatch, scenario)


def test_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        destination, job = await w.queue("x@pipe.test", where="pipe:/bin/cat")
        await w.deliveries.deliver(destination, job, None)
        assert w.left() == [] and w.asked == []
        assert w.replies == ["250 2.0.0 Return-Path: <a@b.test>"], "what the program printed first"

    run(tmp_path, monkeypatch, scenario)


def test_a_job_without_its_message_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        destination, job = await w.queue("x@far.test")
        with w.spool.env.write() as txn:
            txn.delete(job.key[:8], db=w.spool.env.db["item"])
        assert await w.deliveries.deliver(destination, job, None) is None
        assert w.asked == [] and w.spool.job(job.key) is None

    run(tmp_path, monkeypatch, scenario)


async def queue_of_a_list(w: World, *to: str) -> tuple[Destination, list[Job]]:
    back = "crew-bounces@example.test"
    item = Item(w.spool.new_id(), back, int(time.time()), len(CONTENT), owner=back, verp=True)
    item.mailing_list = "crew@example.test"
    await w.spool.enqueue(Outgoing(item, {"far.test": [Rcpt(one, "", "FAILURE") for one in to]}, [CONTENT]))
    return Destination("far.test"), [job for _, job in w.spool.jobs(item.id)]


def test_each_member_of_a_list_has_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        destination, (job,) = await queue_of_a_list(w, "x@far.test", "y@far.test")
        session: Any = Session()
        w.ends = Attempt([Said(OK, "mx")], session)
        assert await w.deliveries.deliver(destination, job, session) is session
        tokens = Tokens(w.bench.directory)
        for (sending, client), name in zip(w.asked, "xy", strict=True):
            assert sending.recipients == [Rcpt(f"{name}@far.test", "", "FAILURE")] and client is session
            assert sending.sender == tokens.bounces("crew@example.test", f"{name}@far.test")
        assert w.left() == []

    run(tmp_path, monkeypatch, scenario)


@pytest.mark.parametrize("error", [NoSuchDomain("far.test"), Down("no host answers")])
def test_what_stops_a_list_stops_all_of_its_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def scenario(w: World) -> None:
        destination, (job,) = await queue_of_a_list(w, "x@far.test", "y@far.test")
        w.ends = error
        assert await w.deliveries.deliver(destination, job, None) is None
        assert len(w.asked) == 1
        left = [job for _, job in w.spool.jobs() if job.destination == "far.test"]
        assert [len(one.recipients) for one in left] == ([] if isinstance(error, NoSuchDomain) else [2])

    run(tmp_path, monkeypatch, scenario)


def test_a_connection_takes_so_many_members_and_then_another_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(w: World) -> None:
        destination, jobs = await queue_of_a_list(w, *(f"m{n}@far.test" for n in range(PART + 1)))
        assert [len(job.recipients) for job in jobs] == [PART, 1]
        worn, fresh = Session(PER_CONNECTION), Session()
        w.connector.waiting = [fresh]
        w.ends = Attempt([Said(OK, "mx")], None)
        given: Any = worn
        await w.deliveries.deliver(destination, jobs[1], given)
        assert [client for _, client in w.asked] == [fresh]

    run(tmp_path, monkeypatch, scenario)


@pytest.mark.parametrize(("reply", "left"), [(450, 1), (550, 0)])
def test_mail_for_a_domain_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: int, left: int) -> None:
    """Off for a while, its mail in the queue waits; off, it goes back."""

    async def scenario(w: World) -> None:
        destination, job = await w.queue(USER, where=LOCAL)
        w.bench.directory.domains["example.test"] = Domain("example.test", enabled=False, off_reply=reply)
        await w.deliveries.deliver(destination, job, None)
        assert w.spool.depth()[1] == left and w.replies[-1].startswith(f"{reply} ")

    run(tmp_path, monkeypatch, scenario)


def test_mail_of_a_login_that_cannot_be_read_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it was stopped: nothing is sent now, and it is tried again by itself."""

    async def scenario(w: World) -> None:
        class Damaged:
            def stops(self, item: Item) -> bool:
                raise DamagedAccount("me@b.test: the row is damaged")

            def note(self, *_: object) -> None:
                pass

        w.outcomes.watch = Damaged()  # type: ignore[assignment]
        destination, job = await w.queue("x@far.test")
        assert await w.deliveries.deliver(destination, job, None) is None
        ((_, after),) = w.spool.jobs()
        assert w.asked == [] and not after.paused and after.attempts == 1 and after.last.startswith("451 4.3.0 ")
        w.outcomes.watch = None
        await w.deliveries.deliver(destination, after, None)
        assert len(w.asked) == 1 and w.left() == []

    run(tmp_path, monkeypatch, scenario)
