"""More than one host for a destination, hosts that break off, and destinations that take nothing for now."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastmail.app.quickstart import write_certificate
from fastmail.relay.clock import Clock
from tests.integration.test_relay import World, report, run, world
from tests.support.hosts import Sink


@asynccontextmanager
async def two(path: Path, **first: Any) -> AsyncIterator[tuple[World, Sink]]:
    """A world in which far.test has a second host, at 127.0.0.2; the first one (``w.sink``) answers as is told."""
    async with world(path, **first) as w:
        w.schedule.steps[:] = [600.0]
        w.dns.records[("far.test", "MX")] = ["10 mail.far.test.", "20 second.far.test."]
        w.dns.records[("second.far.test", "A")] = ["127.0.0.2"]
        second = await Sink(host="127.0.0.2", port=w.sink.port).start()
        try:
            yield w, second
        finally:
            second.stop()


FAILS: list[tuple[str, str | None]] = [
    ("MAIL", "421 4.3.2 closing"),
    ("MAIL", "451 4.3.0 trouble"),
    ("MAIL", None),
    ("RCPT", "451 4.7.1 greylisted"),
    ("RCPT", "421 4.7.0 too many"),
    ("RCPT", None),
    ("DATA", "451 4.3.0 trouble"),
    ("DATA", "250 ok"),
    ("DATA", None),
    (".", "451 4.3.0 trouble"),
    (".", "421 4.3.2 closing"),
    ("EHLO", None),
    ("EHLO", "421 x"),
]


@pytest.mark.parametrize("extensions", [["PIPELINING"], ["HELP"]])
@pytest.mark.parametrize(("verb", "answer"), FAILS)
def test_the_next_host_gets_what_the_first_does_not_take(
    tmp_path: Path, verb: str, answer: str | None, extensions: list[str]
) -> None:
    """RFC 5321 5.1."""

    async def scenario() -> None:
        async with two(tmp_path, answers={verb: answer}, extensions=extensions) as (w, second):
            w.run()
            await w.send("you@far.test", "two@far.test")
            await w.drained()
            assert w.sink.taken == [] and w.sink.connections >= 1
            (taken,) = second.taken
            assert taken.rcpts == ["RCPT TO:<you@far.test>", "RCPT TO:<two@far.test>"]

    run(scenario)


def test_a_greeting_that_says_no(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two(tmp_path, greeting="554 5.7.1 go away") as (w, second):
            w.run()
            await w.send("you@far.test")
            await w.drained()
            assert len(second.taken) == 1

    run(scenario)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "."])
def test_a_refusal_is_a_refusal(tmp_path: Path, verb: str) -> None:
    async def scenario() -> None:
        async with two(tmp_path, answers={verb: "550 5.7.1 no"}) as (w, second):
            w.run()
            await w.send("you@far.test")
            await w.drained()
            assert second.connections == 0 and len(await w.inbox()) == 1

    run(scenario)


def test_each_recipient_is_sent_once(tmp_path: Path) -> None:
    """One is taken by the first host, one is put off there and taken by the second, one is refused."""

    def rcpt(sink: Sink, line: str) -> str:
        return "450 4.2.0 later" if "late@" in line else "550 5.1.1 nobody" if "bad@" in line else "250 ok"

    async def scenario() -> None:
        async with two(tmp_path, answers={"RCPT": rcpt}) as (w, second):
            w.run()
            await w.send("you@far.test", "late@far.test", "bad@far.test")
            await w.drained()
            assert [one.rcpts for one in w.sink.taken] == [["RCPT TO:<you@far.test>"]]
            assert [one.rcpts for one in second.taken] == [["RCPT TO:<late@far.test>"]]
            (bounce,) = await w.inbox()
            assert report(bounce)["Final-Recipient"] == "rfc822;bad@far.test"

    run(scenario)


def test_a_message_that_may_be_there_goes_to_no_other_host(tmp_path: Path) -> None:
    """The connection breaks after the final dot: tried again later, and then the other host comes first."""

    async def scenario() -> None:
        async with two(tmp_path, answers={".": None}) as (w, second):
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "may have" in job.last])
            await asyncio.sleep(0.2)
            assert second.connections == 0 and w.sink.connections == 1
            w.spool.change_now(next(w.spool.jobs())[1].key, _now)
            assert w.runner is not None
            for one in w.runner._scheduler.destinations.values():
                one.down_until = 0.0
            w.runner.wake()
            await w.drained()
            assert len(second.taken) == 1

    run(scenario)


def _now(job: Any) -> Any:
    job.due = int(time.time())
    return job


def test_many_hosts_that_take_nothing_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, answers={"MAIL": "451 4.3.0 trouble"}) as w:
            w.schedule.steps[:] = [600.0]
            w.dns.records[("far.test", "MX")] = [f"{n} m{n}.far.test." for n in range(12)]
            for n in range(12):
                w.dns.records[(f"m{n}.far.test", "A")] = ["127.0.0.1"]
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts])
            assert w.sink.connections == 5

    run(scenario)


# ---------------------------------------------------------------- connections that were used before


@pytest.mark.parametrize(
    "how", ["closes", "421 behind", "421 at MAIL", "451 at MAIL", "closes at MAIL", "closes at RCPT"]
)
def test_a_host_that_ends_a_reused_connection(tmp_path: Path, how: str) -> None:
    """A new one is opened at once, and the message does not wait for its next try."""
    seen = 0

    def mail(sink: Sink, line: str) -> str | None:
        nonlocal seen
        seen += 1
        if seen != 2:
            return "250 ok"
        return {"421 at MAIL": "421 4.7.0 enough", "451 at MAIL": "451 4.7.0 enough"}.get(how)

    def rcpt(sink: Sink, line: str) -> str | None:
        return None if seen == 2 else "250 ok"

    answers: dict[str, Any] = {}
    if how.endswith("MAIL"):
        answers["MAIL"] = mail
    elif how.endswith("RCPT"):
        answers = {"MAIL": lambda sink, line: mail(sink, line) or "250 ok", "RCPT": rcpt}
    else:
        answers["."] = lambda sink, line: "250 taken\r\n421 4.7.0 idle" if how == "421 behind" else "250 taken"

    async def scenario() -> None:
        async with world(tmp_path, answers=answers) as w:
            w.lines = ["far.test mx connections=1"]
            await w.spool.close()
            w.open()
            w.schedule.steps[:] = [600.0]
            for n in range(4):
                await w.send(f"u{n}@far.test")
            runner = w.run()
            if how == "closes":

                def final(sink: Sink, line: str) -> str:
                    return "250 taken\r\n221 bye"

                w.sink.answers["."] = final
            await w.drained()
            assert sorted(one.rcpts[0][9:11] for one in w.sink.taken) == ["u0", "u1", "u2", "u3"]
            assert w.sink.connections >= 2 and runner._scheduler.destinations["far.test"].put_off == 0

    run(scenario)


# ---------------------------------------------------------------- TLS that breaks off


class Broken:
    """A host that offers STARTTLS and then closes, resets, hangs or sends noise; the next connection is as any other."""

    def __init__(self, path: Path, how: str) -> None:
        path.mkdir()
        write_certificate(str(path), "mail.far.test")
        self.how = how
        self.plain = 0
        self.tries = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 far\r\n")
        while line := (await reader.readline()).decode().strip():
            if line.startswith("EHLO"):
                writer.write(b"250-far\r\n250 STARTTLS\r\n")
            elif line == "STARTTLS":
                self.tries += 1
                if self.how == "drops":
                    break
                if self.how == "refuses":
                    writer.write(b"454 4.7.0 no certificate\r\n")
                    continue
                if self.how == "answers oddly":
                    writer.write(b"250 fine\r\n")
                    continue
                writer.write(b"220 go\r\n")
                await writer.drain()
                if self.how == "hangs":
                    await asyncio.sleep(20)
                elif self.how == "noise":
                    await reader.read(1)
                    writer.write(b"HTTP/1.0 400 what\r\n\r\n" * 20)
                elif self.how == "resets":
                    writer.transport.abort()
                elif self.how == "half":
                    await reader.read(100)
                break
            elif line == "DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.plain += 1
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


@pytest.mark.parametrize("mode", ["may", "encrypt", "verify"])
@pytest.mark.parametrize("how", ["closes", "drops", "resets", "hangs", "noise", "half", "refuses", "answers oddly"])
def test_tls_that_breaks_off(tmp_path: Path, how: str, mode: str) -> None:
    """RFC 7435: in the clear where TLS may be left out, and nowhere else."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            far = Broken(tmp_path / "far", how)
            server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
            w.sink.port = server.sockets[0].getsockname()[1]
            w.policies = [f"far.test {mode}"]
            w.schedule.steps[:] = [600.0]
            await w.spool.close()
            w.open()
            runner = w.run()
            runner._connector.timeouts.connect = 0.5
            await w.send("you@far.test")
            if mode == "may":
                await w.drained()
                assert far.plain == 1 and far.tries == 1
                await w.send("two@far.test")
                await w.drained()
                assert far.plain == 2 and far.tries <= 2
            else:
                await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts])
                assert far.plain == 0
            server.close()

    run(scenario)


# ---------------------------------------------------------------- hosts that are slow, or lack something


def test_a_host_that_does_not_know_its_bdat(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, extensions=["CHUNKING", "PIPELINING"]) as w:
            real = w.sink._final

            async def final(mail: str, rcpts: list[str], content: bytes) -> str | None:
                return "502 5.5.1 what?" if w.sink.lines[-1].startswith("BDAT") else await real(mail, rcpts, content)

            w.sink._final = final  # type: ignore[method-assign]
            w.run()
            for n in range(3):
                await w.send(f"u{n}@far.test")
                await w.drained()
            assert len(w.sink.taken) == 3
            assert sum(line.startswith("BDAT") for line in w.sink.lines) == 1, "known from then on"

    run(scenario)


def test_too_many_recipients_go_in_the_next_transaction(tmp_path: Path) -> None:
    taken = 0

    def rcpt(sink: Sink, line: str) -> str:
        nonlocal taken
        taken += 1
        return "250 ok" if taken <= 3 else "552 5.5.3 too many recipients"

    def mail(sink: Sink, line: str) -> str:
        nonlocal taken
        taken = 0
        return "250 ok"

    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": rcpt, "MAIL": mail}) as w:
            w.schedule.steps[:] = [600.0]
            w.run()
            await w.send(*(f"u{n}@far.test" for n in range(8)))
            await w.drained()
            assert sorted(len(one.rcpts) for one in w.sink.taken) == [2, 3, 3]
            assert await w.inbox() == []

    run(scenario)


@pytest.mark.parametrize(("verb", "slow"), [("RCPT", 1.0), (".", 1.0), ("MAIL", 1.0)])
def test_answers_for_now_slow_a_destination_down(tmp_path: Path, verb: str, slow: float) -> None:
    async def scenario() -> None:
        async with world(tmp_path, delay=0.02, answers={}) as w:
            w.schedule.steps[:] = [600.0]
            for n in range(40):
                await w.send(f"u{n}@far.test")
            runner = w.run()
            await w.until(lambda: len(w.sink.taken) >= 10)
            assert runner._scheduler.destinations["far.test"].limit > 2
            w.sink.answers[verb] = "451 4.3.0 not now"
            # those that were past that command when it began are taken, which lets it begin anew after its pause
            await w.until(lambda: runner._scheduler.destinations["far.test"].put_off >= 3, 40.0)
            assert runner._scheduler.destinations["far.test"].limit <= 2
            assert not runner._scheduler.destinations["far.test"].good or verb == "RCPT"

    run(scenario)


def test_greylisting_stalls_no_other_recipient(tmp_path: Path) -> None:
    """Recipients that are put off one by one leave the way free for those that are welcome."""

    def rcpt(sink: Sink, line: str) -> str:
        return "250 ok" if "welcome" in line else "451 4.7.1 greylisted"

    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": rcpt}) as w:
            w.schedule.steps[:] = [600.0]
            for n in range(8):
                await w.send(f"u{n}@far.test")
            await w.send("welcome@far.test")
            w.run()
            await w.until(lambda: w.sink.taken, 20.0)

    run(scenario)


def test_an_alias_without_utf8_needs_no_smtputf8(tmp_path: Path) -> None:
    """RFC 6531 3.4: the sender said SMTPUTF8, and nothing needs it."""

    async def scenario() -> None:
        async with world(tmp_path, extensions=["PIPELINING"]) as w:
            w.run()
            await w.send("you@far.test", mail=" SMTPUTF8")
            await w.drained()
            (taken,) = w.sink.taken
            assert "SMTPUTF8" not in taken.mail and await w.inbox() == []

    run(scenario)


def test_another_host_may_have_what_the_first_lacks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two(tmp_path, extensions=["PIPELINING"]) as (w, second):
            second.extensions.append("SMTPUTF8")
            w.run()
            await w.send("grün@far.test", mail=" SMTPUTF8")
            await w.drained()
            assert len(second.taken) == 1 and await w.inbox() == []

    run(scenario)


# ---------------------------------------------------------------- the administrator's own hosts


def test_a_next_hop_that_the_dns_does_not_know_for_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.lines = [f"* smtp:smart.test:{w.sink.port}", f"from:user@example.test smtp:smart.test:{w.sink.port}"]
            await w.spool.close()
            w.open()
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "smart.test" in job.last])
            assert await w.inbox() == []
            w.dns.records[("smart.test", "A")] = ["127.0.0.1"]
            assert w.runner is not None
            w.runner._finder.resolver.forget()
            await w.drained()
            assert len(w.sink.taken) == 1

    run(scenario)


@pytest.mark.parametrize("reply", ["530 5.7.0 log in first", "535 5.7.8 x", "538 5.7.11 x"])
def test_a_next_hop_that_wants_a_login_is_no_refusal(tmp_path: Path, reply: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path, answers={"MAIL": reply}) as w:
            w.lines = [f"* smtp:127.0.0.1:{w.sink.port}"]
            await w.spool.close()
            w.open()
            w.schedule.steps[:] = [600.0]
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts])
            assert w.spool.depth() == (1, 1) and await w.inbox() == []

    run(scenario)


def test_mail_that_is_wanted_now_waits_for_nothing(tmp_path: Path) -> None:
    """`queue retry`, beside a destination that was found down."""

    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.schedule.steps[:] = [600.0]
            w.dns.records[("far.test", "MX")] = ["10 away.far.test."]
            w.dns.records[("away.far.test", "A")] = ["127.0.0.9"]
            runner = w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts])
            assert runner._scheduler.destinations["far.test"].down_until > time.monotonic() + 30
            w.dns.records[("far.test", "MX")] = ["10 mail.far.test."]
            runner._finder.resolver.forget()
            key = next(w.spool.jobs())[1].key
            w.spool.change_now(key, _now)  # due, and not asked for by anybody
            runner.wake()
            await asyncio.sleep(0.5)
            assert w.sink.taken == []
            w.spool.change_now(key, _now, True)
            runner.wake()
            await w.drained()
            assert len(w.sink.taken) == 1 and w.spool.wanted() == []

    run(scenario)


# ---------------------------------------------------------------- a clock that is set


def test_a_clock_that_jumps_returns_no_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    skew = 0.0
    monkeypatch.setattr(time, "time", lambda: real() + skew)

    async def scenario() -> None:
        nonlocal skew
        async with world(tmp_path, answers={"RCPT": "450 4.2.0 never"}) as w:
            w.schedule.lifetime = 5 * 86400.0
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts == 1])
            skew = 6 * 86400.0
            assert w.runner is not None
            w.runner.wake()
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts >= 4])
            assert w.spool.depth() == (1, 1) and await w.inbox() == []
            await w.runner.close(1.0)
            w.run()  # what was seen outlives the process
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts >= 6])
            assert await w.inbox() == []
            skew = 0.0  # put right again: nothing waits for six days
            w.runner.wake()
            w.sink.answers.clear()
            await w.drained()

    run(scenario)


def test_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, boot = 1_000_000.0, 500.0
    monkeypatch.setattr(time, "time", lambda: wall)

    def passes(seconds: float, jump: float = 0.0) -> float:
        nonlocal wall, boot
        wall += seconds + jump
        boot += seconds
        return clock.look()

    clock = Clock(None, lambda: boot)
    old = wall
    assert passes(100.0) == 0.0 and clock.age(old) == 100.0
    assert passes(100.0, 60.0) == 0.0  # a clock that is put right a little
    assert passes(100.0, 6 * 86400.0) == 6 * 86400.0
    young = wall
    assert clock.age(old) == 360.0 and clock.age(young) == 0.0
    passes(40.0)
    kept = Clock(clock.state(), lambda: boot)
    assert (kept.age(old), kept.age(young)) == (400.0, 40.0)
    assert passes(10.0, -6 * 86400.0) < 0.0
    assert clock.age(old) == 410.0 and clock.age(young) == 0.0  # too young, for a while, and never too old
    assert clock.age(wall) == 0.0
    assert Clock(b"\xff\x00 damaged", lambda: boot).age(wall - 5.0) == 5.0


def test_no_more_than_a_few_jumps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: wall)
    clock = Clock(None, lambda: 500.0)
    for _ in range(1000):
        wall += 1000.0
        clock.look()
    assert len(clock.state()) < 2000
