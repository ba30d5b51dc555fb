"""Mail to other hosts: programs, pools of addresses, waits of a route, times of delivery, priorities."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from fastmail.queue.model import Job
from fastmail.smtp.client import Timeouts
from tests.integration.test_relay import World, report, run, world

PROGRAM = """#!/bin/sh
cat > {out}
echo "$# $1 $2 $SENDER $RECIPIENT" >> {out}.args
test -f {out}.say && cat {out}.say
exit $(cat {out}.status 2>/dev/null || echo 0)
"""


def program(path: Path) -> Path:
    """A program that anybody may run, which keeps what it gets in a directory that anybody may write to."""
    for one in (path, *path.parents):
        if str(one).startswith("/tmp/") and one.stat().st_uid == os.geteuid():
            one.chmod(one.stat().st_mode | 0o011)
    box = path / "box"
    box.mkdir(mode=0o777)
    box.chmod(0o777)
    script = box / "take"
    script.write_text(PROGRAM.format(out=box / "mail"))
    script.chmod(0o755)
    return box


def piped(path: Path, scenario: Any) -> None:
    async def main() -> None:
        box = program(path)
        async with world(path / "server") as w:
            await w.spool.close()
            await w.history.close()
            w.lines = [f"far.test pipe:{box}/take {{sender}} {{user}}"]
            w.open()
            w.run()
            await scenario(w, box)

    (path / "server").mkdir()
    run(main)


def test_s12_a_program_takes_mail(tmp_path: Path) -> None:
    async def scenario(w: World, box: Path) -> None:
        assert (await w.send("you@far.test", "x|rm$IFS-rf`id`@far.test")).startswith(b"250")
        await w.drained()
        text = (box / "mail").read_text()
        assert text.startswith("Return-Path: <user@example.test>\nDelivered-To: x|rm$IFS-rf`id`@far.test\nReceived: ")
        assert text.endswith("\n\n.dot\nbody\n")
        assert (box / "mail.args").read_text().splitlines() == [
            "2 user@example.test you user@example.test you@far.test",
            "2 user@example.test x|rm$IFS-rf`id` user@example.test x|rm$IFS-rf`id`@far.test",
        ]

    piped(tmp_path, scenario)


@pytest.mark.parametrize(
    ("status", "said", "code", "words"),
    [
        (67, "", "5.1.1", "take ended with status 67"),
        (1, "", "5.3.0", "take ended with status 1"),
        (77, "go away\nplease", "5.7.0", "go away"),
        (1, "5.7.9 a policy", "5.7.9", "a policy"),
    ],
)
def test_a_program_refuses(tmp_path: Path, status: int, said: str, code: str, words: str) -> None:
    async def scenario(w: World, box: Path) -> None:
        (box / "mail.status").write_text(str(status))
        if said:
            (box / "mail.say").write_text(said + "\n")
        await w.send("you@far.test")
        await w.drained()
        (message,) = await w.inbox()
        fields = report(message)
        assert fields["Status"] == code and words in message.as_string()

    piped(tmp_path, scenario)


@pytest.mark.parametrize(("status", "said"), [(75, ""), (1, "4.2.0 busy"), (0, "")])
def test_a_program_that_is_busy_is_asked_again(tmp_path: Path, status: int, said: str) -> None:
    async def scenario(w: World, box: Path) -> None:
        (box / "mail.status").write_text(str(status))
        if said:
            (box / "mail.say").write_text(said + "\n")
        if not status:
            (box / "take").rename(box / "gone")
        await w.send("you@far.test")
        await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts])
        (box / "mail.status").write_text("0")
        (box / "mail.say").unlink(missing_ok=True)
        if not status:
            (box / "gone").rename(box / "take")
        await w.drained()
        assert (await w.inbox()) == [] and (box / "mail").exists()

    piped(tmp_path, scenario)


def test_s12_an_address_is_no_option(tmp_path: Path) -> None:
    async def scenario(w: World, box: Path) -> None:
        await w.send("-oQ/tmp@far.test")
        await w.drained()
        (message,) = await w.inbox()
        assert report(message)["Status"] == "5.1.3" and not (box / "mail").exists()

    piped(tmp_path, scenario)


def test_a_program_has_its_time_and_its_output_a_bound(tmp_path: Path) -> None:
    async def scenario(w: World, box: Path) -> None:
        assert w.runner is not None
        w.runner._deliveries.seconds = 0.5
        (box / "take").write_text("#!/bin/sh\nyes | head -c 3000000\nsleep 60\n")
        begun = time.monotonic()
        await w.send("you@far.test")
        await w.until(lambda: [job for _, job in w.spool.jobs() if "longer than" in job.last])
        assert time.monotonic() - begun < 10

    piped(tmp_path, scenario)


def test_a_program_that_no_route_names_is_not_run(tmp_path: Path) -> None:
    async def scenario(w: World, box: Path) -> None:
        assert w.runner is not None
        await w.runner.close()
        await w.send("you@far.test")
        w.outward.routes.domains.clear()
        w.outward.routes.hops.clear()
        w.run()
        await w.until(lambda: [job for _, job in w.spool.jobs() if "no route leads" in job.last])
        assert not (box / "mail").exists()

    piped(tmp_path, scenario)


def routed(path: Path, scenario: Any, lines: list[str], pools: list[str] | None = None, **sink: Any) -> None:
    async def main() -> None:
        async with world(path, **sink) as w:
            await w.spool.close()
            await w.history.close()
            w.lines, w.pools = lines, pools or []
            w.open()
            w.run()
            await scenario(w)

    run(main)


def test_connections_come_from_the_pool_in_turn(tmp_path: Path) -> None:
    peers: list[str] = []

    async def scenario(w: World) -> None:
        serve = w.sink._serve

        async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peers.append(writer.get_extra_info("peername")[0])
            await serve(reader, writer)

        second = await asyncio.start_server(noted, "127.0.0.1", 0)
        w.runner._finder.port = second.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        for n in range(4):
            await w.send(f"u{n}@far.test")
            await w.drained()
            idle = w.runner._connector.idle  # type: ignore[union-attr]
            for _ in range(1000):
                if any(idle.values()):
                    break
                await asyncio.sleep(0.01)  # it is put aside a moment later
            for waiting in idle.values():
                for _, client in waiting:
                    await client.close()
        assert "far.test#out" in w.runner._scheduler.destinations  # type: ignore[union-attr]
        second.close()

    routed(tmp_path, scenario, ["from:@example.test mx pool=out"], ["out 127.0.0.2 127.0.0.3"])
    assert peers == ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]


def test_a_pool_without_a_fitting_address_defers(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.send("you@far.test")
        await w.until(lambda: [job for _, job in w.spool.jobs() if "no address that reaches" in job.last])
        assert w.sink.connections == 0

    routed(tmp_path, scenario, ["far.test mx pool=out"], ["out ::1"])


def test_a_route_has_its_own_waits_and_connections(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        w.sink.delay = 0.05
        await asyncio.gather(*(w.send(f"u{n}@far.test") for n in range(6)))
        await w.drained()
        assert w.sink.most == 1
        w.sink.answers["RCPT"] = "451 4.2.0 later"
        await w.send("you@far.test")
        await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts == 1])
        (job,) = [job for _, job in w.spool.jobs()]
        assert 895 < job.due - time.time() <= 901

    routed(tmp_path, scenario, ["far.test mx connections=1 retry=15m,1h lifetime=1d"])


@pytest.mark.parametrize("shared", [False, True])
def test_a_damaged_message_is_given_up_wherever_it_goes(tmp_path: Path, shared: bool) -> None:
    """To a host, to a mailbox here, to a program: its sender is told, and nothing waits behind it, whether the queue
    has it by itself or shares it with a mailbox."""

    async def scenario(w: World, box: Path) -> None:
        assert w.runner is not None
        await w.runner.close()
        if not shared:
            w.outward.submission._deliverer = None
        await w.send("you@far.test", "me@implicit.test", "other@example.test")
        holds = w.bench.store.holds._holds  # type: ignore[attr-defined]
        paths = list((w.path / "queue" / "segments").glob("*"))
        assert len(holds) == shared and len(paths) == (not shared)
        for path in paths:
            path.write_bytes(path.read_bytes().replace(b"body", b"BODY"))
        for name, (text, holder) in holds.items():
            holds[name] = text.replace(b"body", b"BODY"), holder
        w.run()
        await w.drained()
        told = "".join(one.as_string() for one in await w.inbox())
        for address in ("you@far.test", "me@implicit.test", "other@example.test"):
            assert f"Final-Recipient: rfc822;{address}" in told
        assert not (box / "mail").exists() and w.sink.taken == []

    piped(tmp_path, scenario)


# ---------------------------------------------------------------- DELIVERBY (RFC 2852)


def test_time_and_priority_are_handed_on(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        assert (await w.send("you@far.test", mail=" BY=120;R MT-PRIORITY=3")).startswith(b"250")
        await w.drained()
        (taken,) = w.sink.taken
        found = re.search(r" BY=(\d+);R MT-PRIORITY=3", taken.mail)
        assert found is not None and 110 <= int(found.group(1)) <= 120
        assert b"\tPRIORITY 3;" in taken.content
        assert await w.inbox() == []

    routed(tmp_path, scenario, [], extensions=["PIPELINING", "DELIVERBY", "MT-PRIORITY MIXER", "DSN"])


def test_a_host_without_times_gets_no_message_that_must_return(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.send("you@far.test", mail=" BY=120;R")
        await w.drained()
        assert w.sink.taken == []
        (message,) = await w.inbox()
        fields = report(message)
        assert (fields["Action"], fields["Status"]) == ("failed", "5.3.3") and "Deliver-By-Date" in fields

    routed(tmp_path, scenario, [])


@pytest.mark.parametrize(
    ("by", "notify", "able", "told"),
    [
        ("120;N", "", False, True),
        ("120;N", " NOTIFY=NEVER", False, False),
        ("120;N", "", True, False),
        ("120;NT", "", True, True),
    ],
)
def test_who_hears_that_it_was_handed_on(tmp_path: Path, by: str, notify: str, able: bool, told: bool) -> None:
    async def scenario(w: World) -> None:
        await w.send("you@far.test", mail=f" BY={by}", rcpt=notify)
        await w.drained()
        assert len(w.sink.taken) == 1
        found = [report(one)["Action"] for one in await w.inbox()]
        assert found == (["relayed"] if told else [])

    routed(tmp_path, scenario, [], extensions=["PIPELINING", "DSN", *(["DELIVERBY 10"] if able else ["SIZE"])])


def test_late_mail_returns_or_its_sender_is_told(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        w.sink.answers["RCPT"] = "451 4.2.0 later"
        w.schedule.steps[:] = [600.0]
        await w.send("one@far.test", mail=" BY=1;R")
        await w.send("two@far.test", mail=" BY=1;N")

        async def boxes(count: int) -> list[Any]:
            deadline = time.monotonic() + 10
            while len(found := await w.inbox()) < count:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            return found

        found = sorted((report(one)["Action"], report(one)["Status"]) for one in await boxes(2))
        assert found == [("delayed", "4.4.7"), ("failed", "5.4.7")]
        await w.until(lambda: w.spool.depth()[0] == 1)  # the other goes on
        (job,) = [job for _, job in w.spool.jobs()]
        assert job.late and job.due > time.time() + 500

    routed(tmp_path, scenario, [], extensions=["PIPELINING", "DELIVERBY"])


@pytest.mark.parametrize("value", ["0;R", "-5;R", "x;R", "5", "5;X", "1234567890;N", "5;RR", ""])
def test_times_that_are_refused(tmp_path: Path, value: str) -> None:
    async def scenario(w: World) -> None:
        client = await w.user()
        reply = await client.send(f"MAIL FROM:<user@example.test> BY={value}\r\n".encode())
        assert reply.startswith(b"501 5.5.4")

    routed(tmp_path, scenario, [])


# ---------------------------------------------------------------- MT-PRIORITY (RFC 6710)


@pytest.mark.parametrize("value", ["10", "-0", "+1", "01", "x", "--1"])
def test_priorities_that_are_refused(tmp_path: Path, value: str) -> None:
    async def scenario(w: World) -> None:
        client = await w.user()
        reply = await client.send(f"MAIL FROM:<user@example.test> MT-PRIORITY={value}\r\n".encode())
        assert reply.startswith(b"501 5.5.2")
        again = await client.send(b"MAIL FROM:<user@example.test> MT-PRIORITY=1 MT-PRIORITY=2\r\n")
        assert again.startswith(b"501")

    routed(tmp_path, scenario, [])


def test_strangers_get_no_higher_priority(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        client = w.bench.open("smtp")
        assert b"MT-PRIORITY" in await client.send(b"EHLO me.test\r\n")
        assert (await client.send(b"MAIL FROM:<a@b.test> MT-PRIORITY=4\r\n")).startswith(
            b"250 2.1.0"
        )  # trusted network
        stranger = w.bench.open("smtp", host="192.0.2.1")
        await stranger.send(b"EHLO me.test\r\n")
        assert (await stranger.send(b"MAIL FROM:<a@b.test> MT-PRIORITY=4\r\n")).startswith(b"250 2.3.6 0 ")
        await stranger.send(b"RSET\r\n")
        assert (await stranger.send(b"MAIL FROM:<a@b.test> MT-PRIORITY=-4\r\n")).startswith(b"250 2.1.0")

    routed(tmp_path, scenario, [])


def test_a_report_has_the_priority_of_its_message(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        w.sink.answers["RCPT"] = "550 5.1.1 nobody"
        kept = []
        make = w.outward.reports.about

        def noted(*args: Any) -> Any:
            made = make(*args)
            kept.append(made.outgoing.item.options.priority if made is not None else None)
            return made

        w.outward.reports.about = noted  # type: ignore[method-assign, assignment]
        await w.send("you@far.test", mail=" MT-PRIORITY=-3")
        await w.drained()
        assert kept == [-3]

    routed(tmp_path, scenario, [])


def test_an_original_recipient_is_told_as_it_was(tmp_path: Path) -> None:
    """RFC 3461 4.2, RFC 6533 3: passed on encoded, reported decoded."""

    async def scenario(w: World) -> None:
        await w.send("you@far.test", rcpt=" ORCPT=rfc822;first+2Blast@old.test NOTIFY=FAILURE")
        await w.drained()
        assert w.sink.taken[0].rcpts == ["RCPT TO:<you@far.test> NOTIFY=FAILURE ORCPT=rfc822;first+2Blast@old.test"]
        w.sink.answers["RCPT"] = "550 5.1.1 nobody"
        await w.send("you@far.test", rcpt=" ORCPT=rfc822;first+2Blast@old.test")
        await w.drained()
        (message,) = await w.inbox()
        assert report(message)["Original-Recipient"] == "rfc822;first+last@old.test"

    routed(tmp_path, scenario, [])


# ---------------------------------------------------------------- fairness


def test_dead_destinations_leave_room_for_live_ones(tmp_path: Path) -> None:
    """Every connection but one in five may hang on hosts that never answer: who took mail before is served at once, and
    of the others the newest is tried first."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
            port = silent.sockets[0].getsockname()[1]
            await w.spool.close()
            await w.history.close()
            w.lines = [f"dead{n}.test smtp:127.0.0.{n + 2}:{port}" for n in range(30)]
            others = [
                await asyncio.start_server(lambda r, x: asyncio.sleep(60), f"127.0.0.{n + 2}", port) for n in range(30)
            ]
            w.open()
            runner = w.run()
            runner._scheduler._most.all = 5
            runner._connector.timeouts = Timeouts(3.0, 3.0, 3.0)
            await w.send("first@far.test")
            await w.drained()
            for n in range(30):
                await w.send(f"you@dead{n}.test")
            await w.until(lambda: len(runner._streams) == 4)
            await asyncio.sleep(3.5)  # until far.test is forgotten, but for what is remembered
            begun = time.monotonic()
            await w.send("again@far.test")
            await w.until(lambda: len(w.sink.taken) == 2)
            assert time.monotonic() - begun < 1.5
            assert len(runner._streams) <= 5
            await w.send("new@implicit.test")  # never seen: it waits for the next of the four, and for no other
            begun = time.monotonic()
            await w.until(lambda: len(w.sink.taken) == 3)
            assert time.monotonic() - begun < 6.0
            for one in (silent, *others):
                one.close()

    run(scenario)


def test_housekeeping_sends_reports_of_dmarc(tmp_path: Path) -> None:
    """Beside everything else, so that one that fails stops nothing."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            assert w.runner is not None
            rounds: asyncio.Queue[int] = asyncio.Queue()

            async def send() -> None:
                rounds.put_nowait(1)
                raise OSError("nobody takes them")

            w.runner.send_reports = send
            for _ in range(2):
                await w.runner._clean()
                assert await asyncio.wait_for(rounds.get(), 10) == 1
                await asyncio.gather(*w.runner._besides.values())

    run(scenario)


@pytest.mark.parametrize("done", ["held", "dropped", "moved"])
def test_what_is_done_to_a_job_in_the_window_counts(tmp_path: Path, done: str) -> None:
    """A command changes jobs that the relay has in memory already, behind one that is under way."""

    def change(job: Job) -> Job | None:
        if done == "dropped":
            return None
        job.paused, job.destination = done == "held", "else.test" if done == "moved" else job.destination
        return job

    async def scenario() -> None:
        async with world(tmp_path) as w:
            begun, go = asyncio.Event(), asyncio.Event()
            final = w.sink._final

            async def slowly(mail: str, rcpts: list[str], content: bytes) -> str | None:
                begun.set()
                await go.wait()
                return await final(mail, rcpts, content)

            w.sink._final = slowly  # type: ignore[method-assign]
            for n in range(8):
                assert (await w.send(f"u{n}@far.test")).startswith(b"250")
            w.run()
            await begun.wait()
            await asyncio.sleep(0.1)  # its other connections are under way too
            under_way = sum(one.streams for one in w.runner._scheduler.destinations.values())  # type: ignore[union-attr]
            jobs = [job for _, job in w.spool.jobs()]
            assert len(jobs) == 8 and 0 < under_way < 8
            for job in jobs:
                assert w.spool.change_now(job.key, change)
            go.set()
            runner = w.runner
            assert runner is not None
            await w.until(lambda: not any(one.streams for one in runner._scheduler.destinations.values()))
            await asyncio.sleep(0.2)
            assert len(w.sink.taken) == under_way, "no attempt began after the command"
            left = [job for _, job in w.spool.jobs() if job.paused]
            assert len(left) == (8 - under_way if done == "held" else 0)

    run(scenario)
