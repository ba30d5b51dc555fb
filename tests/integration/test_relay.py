"""Mail to other hosts, from the submission session through the queue to hosts that behave, and hosts that do not."""

import asyncio
import email
import re
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fastmail.delivery.deliver import Deliverer
from fastmail.delivery.history import History
from fastmail.dns.resolver import Resolver
from fastmail.model.errors import StorageFull
from fastmail.net import networks
from fastmail.queue import routes, spool
from fastmail.queue.schedule import Schedule
from fastmail.queue.spool import Spool
from fastmail.relay.runner import Limits, Runner
from fastmail.relay.scheduling import Most
from fastmail.relay.targets import Finder
from fastmail.smtp.client import Timeouts
from fastmail.store.memory.store import MemoryStore
from tests.support.hosts import NameServer, Sink, dead_port, name_server
from tests.support.relaying import Outward
from tests.support.sessions import USER, Bench, Client, FakeDirectory

LOGIN = b"EHLO me.test\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS50ZXN0AHNlY3JldA==\r\n"
BODY = b"From: user@example.test\r\nTo: you@far.test\r\nBcc: secret@far.test\r\nSubject: hi\r\n\r\n.dot\r\nbody\r\n"


class World:
    """A server of ours with a queue, a name server, and one other host."""

    def __init__(self, path: Path, sink: Sink, dns: NameServer, schedule: Schedule | None = None) -> None:
        self.path = path
        self.sink = sink
        self.dns = dns
        self.runner: Runner | None = None
        self.schedule = schedule or Schedule([0.3, 0.3], 3600.0, 3600.0)
        self.lines: list[str] = []
        self.policies: list[str] = []
        self.pools: list[str] = []
        self.open()

    def open(self) -> None:
        store = MemoryStore()
        keeper = Deliverer(FakeDirectory(), store, "mx.example.test")
        wake = lambda: self.runner.wake() if self.runner is not None else None  # noqa: E731
        self.spool = Spool(str(self.path), 1 << 26, wake, store.holds)
        self.history = History(str(self.path), 30.0, 1 << 24)
        table = routes.parse(self.lines, self.policies, pools=self.pools)
        self.outward = Outward(self.spool, table, self.schedule, self.history, deliverer=keeper)
        trusted = {"outbound": self.outward.submission, "networks": [networks.parse("127.0.0.0/8")]}
        self.bench = Bench(str(self.path), store, outbound=trusted)
        self.bench.deliverer.history = self.history

    def run(self) -> Runner:
        finder = Finder(
            self.outward.routes,
            Resolver([f"127.0.0.1:{self.dns.port}"]),
            "mx.example.test",
            port=self.sink.port,
            loopback=True,
        )
        limits = Limits(Most(5, 50), Timeouts(2.0, 2.0, 2.0))
        self.runner = self.outward.runner(finder, self.bench.deliverer, limits)
        self.runner.start()
        return self.runner

    async def user(self) -> Client:
        client = self.bench.open("submission")
        assert b"235" in await client.send(LOGIN)
        return client

    async def send(self, *to: str, body: bytes = BODY, mail: str = "", rcpt: str = "") -> bytes:
        client = await self.user()
        command = f"MAIL FROM:<{USER}>{mail}\r\n" + "".join(f"RCPT TO:<{one}>{rcpt}\r\n" for one in to) + "DATA\r\n"
        await client.send(command.encode())
        return await client.send(body.replace(b"\r\n.", b"\r\n..") + b".\r\n")

    async def until(self, done: Callable[[], Any], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, (self.sink.lines, [job for _, job in self.spool.jobs()])
            await asyncio.sleep(0.02)

    async def drained(self) -> None:
        await self.until(lambda: self.spool.depth() == (0, 0))

    async def inbox(self) -> list[email.message.Message]:
        account = self.bench.deliverer.account(self.bench.directory.accounts[USER])
        await self.bench.store.open(account)
        box = self.bench.store.boxes[self.bench.store.find(account, "INBOX")]  # type: ignore[attr-defined]
        return [email.message_from_bytes(m.content) for m in box.messages]


@asynccontextmanager
async def world(path: Path, **sink: Any) -> AsyncIterator[World]:
    host = await Sink(**sink).start()
    dns = await name_server(
        {
            ("far.test", "MX"): ["10 mail.far.test."],
            ("mail.far.test", "A"): ["127.0.0.1"],
            ("null.test", "MX"): ["0 ."],
            ("here.test", "MX"): ["10 mx.example.test."],
            ("implicit.test", "A"): ["127.0.0.1"],
            ("example.test", "MX"): ["10 mx.example.test."],
        }
    )
    one = World(path, host, dns)
    try:
        yield one
    finally:
        if one.runner is not None:
            await one.runner.close(1.0)
        await one.spool.close()
        await one.history.close()
        host.stop()
        dns.transport.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def report(message: email.message.Message) -> dict[str, str]:
    """The fields of the first recipient in a delivery report."""
    assert message.get_content_type() == "multipart/report"
    status = message.get_payload()[1].as_string()  # type: ignore[index, union-attr]
    blocks = status.split("\n\n")
    lines = [line.partition(": ") for block in blocks[1:3] for line in block.splitlines()]
    return {name: value for name, _, value in lines if value}


@pytest.mark.parametrize(
    "extensions", [["PIPELINING", "8BITMIME"], ["CHUNKING", "PIPELINING"], ["CHUNKING"], ["HELP"], []]
)
def test_a_message_goes_out_complete(tmp_path: Path, extensions: list[str]) -> None:
    async def scenario() -> None:
        async with world(tmp_path, extensions=extensions) as w:
            w.run()
            assert (await w.send("you@far.test", "two@far.test")).startswith(b"250 2.0.0")
            await w.drained()
            (taken,) = w.sink.taken
            assert taken.mail.startswith(f"MAIL FROM:<{USER}>")
            assert taken.rcpts == ["RCPT TO:<you@far.test>", "RCPT TO:<two@far.test>"]
            message = email.message_from_bytes(taken.content)
            assert message["Bcc"] is None and message["Date"] and message["Message-ID"]
            assert message["Received"].startswith("from me.test ([127.0.0.1])")
            assert taken.content.endswith(b"\r\n\r\n.dot\r\nbody\r\n")
            assert b"\n" not in taken.content.replace(b"\r\n", b"")

    run(scenario)


SMUGGLED = [
    b"\n.\r\n",
    b"\r\n.\n",
    b"\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\r\n",
]


@pytest.mark.parametrize("ending", SMUGGLED)
@pytest.mark.parametrize("extensions", [["CHUNKING", "8BITMIME"], ["8BITMIME"]])
def test_s2_nothing_is_smuggled_out(tmp_path: Path, extensions: list[str], ending: bytes) -> None:
    """A message in pieces, where ends of data mean nothing: refused, or one message for the next host, with CRLF only."""

    async def scenario() -> None:
        async with world(tmp_path, extensions=extensions) as w:
            w.run()
            client = await w.user()
            await client.send(f"MAIL FROM:<{USER}>\r\nRCPT TO:<you@far.test>\r\n".encode())
            body = BODY + b"one" + ending + b"MAIL FROM:<evil@far.test>\r\nRCPT TO:<two@far.test>\r\nDATA\r\nx\r\n.\r\n"
            answer = await client.send(b"BDAT %d LAST\r\n" % len(body) + body)
            if answer.startswith(b"5"):
                assert w.spool.depth() == (0, 0)
                return
            assert answer.startswith(b"250")
            await w.drained()
            (taken,) = w.sink.taken
            assert taken.rcpts == ["RCPT TO:<you@far.test>"] and b"MAIL FROM:<evil@far.test>" in taken.content
            assert not set(taken.content.replace(b"\r\n", b"")) & set(b"\r\n\0")

    run(scenario)


def test_s6_answers_before_tls_are_not_taken(tmp_path: Path) -> None:
    """Somebody on the way puts answers behind the one to STARTTLS: nothing is said on that connection any more."""

    async def scenario() -> None:
        forged = "220 2.0.0 go ahead\r\n250-forged\r\n250 AUTH PLAIN"
        async with world(tmp_path, extensions=["STARTTLS", "PIPELINING"], answers={"STARTTLS": forged}) as w:
            w.schedule.steps[:] = [600.0]
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "behind its answer to STARTTLS" in job.last])
            assert w.sink.taken == [] and not any(line.startswith(("MAIL", "AUTH")) for line in w.sink.lines)

    run(scenario)


def test_local_and_remote_recipients_are_one_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            assert (await w.send("you@far.test", USER)).startswith(b"250")
            await w.drained()
            (mine,) = await w.inbox()
            assert mine["Delivered-To"] == USER and mine["Subject"] == "hi" and mine["Bcc"] is None
            assert len(mine.get_all("Received")) == 1
            assert [one.rcpts for one in w.sink.taken] == [["RCPT TO:<you@far.test>"]]
            (theirs,) = w.sink.taken
            assert b"Delivered-To" not in theirs.content and b"Subject: hi\r\n" in theirs.content

    run(scenario)


def test_a_mailbox_in_trouble_does_not_keep_mail_out_of_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:

            async def full(*_: Any) -> bytes:
                raise StorageFull("no room")

            monkeypatch.setattr(w.bench.store.holds, "keep", full)
            assert (await w.send("you@far.test", USER)).startswith(b"250")
            w.run()
            await w.drained()
            assert len(await w.inbox()) == 1 and len(w.sink.taken) == 1

    run(scenario)


def test_what_queue_and_mailbox_share_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            store = w.bench.store
            assert (await w.send("you@far.test", USER)).startswith(b"250")
            assert (await w.send("you@far.test")).startswith(b"250")
            (ident,) = store.holds.holders()
            item = w.spool.item(ident)
            assert item is not None and item.shared_with == USER
            hold = item.hold
            content = await w.spool.content(item)
            assert content.startswith(b"Received: ") and (await store.holds.read(hold)).endswith(content)
            monkeypatch.setattr(spool, "YOUNG", 0.0)
            assert await w.spool.let_go() == 0, "the queue still needs it"
            w.run()
            await w.drained()
            assert await w.spool.let_go() == 1 and store.holds.holders() == set()
            assert len(await w.inbox()) == 1
            # what cannot be queued holds nothing
            assert (await w.send(*(f"{n}@far.test" for n in range(3)), USER)).startswith(b"250")
            w.outward.bounds.login = 1
            assert (await w.send("one@far.test", "two@far.test", USER)).startswith(b"450 4.7.1")
            await w.drained()
            assert await w.spool.let_go() == 1 and store.holds.holders() == set()

    run(scenario)


def test_a_queued_message_survives(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            assert (await w.send("you@far.test")).startswith(b"250")
            await w.spool.close()
            w.open()
            assert w.spool.depth() == (1, 1)
            w.run()
            await w.drained()
            assert len(w.sink.taken) == 1
            assert w.spool.sweep() >= 0

    run(scenario)


def test_trouble_is_tried_again(tmp_path: Path) -> None:
    tries = iter(["451 4.7.1 greylisted", "450 4.2.0 not yet", "250 2.1.5 fine"])

    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": lambda sink, line: next(tries)}) as w:
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "greylisted" in job.last])
            await w.drained()
            assert len(w.sink.taken) == 1 and await w.inbox() == []

    run(scenario)


def test_a_refused_recipient_comes_back_and_the_others_go(tmp_path: Path) -> None:
    def rcpt(sink: Sink, line: str) -> str:
        return "550 5.1.1 nobody of that name" if "bad@" in line else "250 ok"

    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": rcpt}) as w:
            w.run()
            await w.send("bad@far.test", "good@far.test", mail=" ENVID=abc+20x RET=FULL", rcpt=" ORCPT=rfc822;x@y.test")
            await w.drained()
            (taken,) = w.sink.taken
            assert taken.rcpts == ["RCPT TO:<good@far.test> ORCPT=rfc822;x@y.test"]
            (bounce,) = await w.inbox()
            assert bounce["Return-Path"] == "<>" and bounce["Auto-Submitted"] == "auto-replied"
            fields = report(bounce)
            assert fields["Action"] == "failed" and fields["Status"] == "5.1.1"
            assert fields["Final-Recipient"] == "rfc822;bad@far.test"
            assert fields["Original-Recipient"] == "rfc822;x@y.test"
            assert fields["Original-Envelope-Id"] == "abc x"
            assert "nobody of that name" in fields["Diagnostic-Code"]
            assert fields["Remote-MTA"] == "dns; mail.far.test"
            assert bounce.get_payload()[2].get_payload()[0]["Subject"] == "hi"  # type: ignore[index, union-attr]

    run(scenario)


@pytest.mark.parametrize(
    ("domain", "status", "words"),
    [
        ("nowhere.test", "5.1.2", "does not exist"),
        ("null.test", "5.1.10", "takes no mail"),
        ("here.test", "5.4.6", "lead back to this server"),
    ],
)
def test_s20_what_the_dns_says_for_good(tmp_path: Path, domain: str, status: str, words: str) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            await w.send(f"you@{domain}")
            await w.drained()
            (bounce,) = await w.inbox()
            assert report(bounce)["Status"] == status
            assert (" 556 " in bounce.as_string()) == (domain == "null.test")
            assert words in bounce.as_string()

    run(scenario)


def test_a_domain_without_mx_is_its_own_host(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            await w.send("you@implicit.test")
            await w.drained()
            assert len(w.sink.taken) == 1

    run(scenario)


def test_dns_trouble_only_defers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.dns.broken.add("far.test")
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "4.4.1" in job.last])
            w.dns.broken.clear()
            await w.drained()
            assert len(w.sink.taken) == 1 and await w.inbox() == []

    run(scenario)


def test_a_host_that_is_down_is_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.dns.records[("far.test", "MX")] = ["10 dead.far.test.", "20 mail.far.test."]
            w.dns.records[("dead.far.test", "A")] = ["127.0.0.2"]
            w.run()
            await w.send("you@far.test")
            await w.drained()
            assert len(w.sink.taken) == 1

    run(scenario)


def test_a_dead_destination_delays_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.lines = [f"dead.test smtp:127.0.0.1:{dead_port()}"]
            await w.spool.close()
            w.open()
            for n in range(30):
                await w.send(f"u{n}@dead.test")
            w.run()
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.last])
            await w.send("you@far.test")
            await w.until(lambda: w.sink.taken, 20.0)
            await w.until(lambda: w.spool.depth()[0] == 30)  # what was taken is settled a moment later

    run(scenario)


def test_mail_that_is_too_old_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": "450 4.2.0 never"}) as w:
            w.schedule.lifetime, w.schedule.warn_after = 2.0, 0.5
            w.run()
            await w.send("you@far.test")
            await w.drained()
            late, bounce = await w.inbox()
            assert report(late)["Action"] == "delayed" and report(late)["Status"] == "4.2.0"
            assert report(bounce)["Action"] == "failed" and report(bounce)["Status"] == "5.4.7"

    run(scenario)


def test_notify_never_and_success(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(
            tmp_path,
            extensions=["PIPELINING"],
            answers={"RCPT": lambda s, line: "550 no" if "bad" in line else "250 ok"},
        ) as w:
            w.run()
            await w.send("bad@far.test", rcpt=" NOTIFY=NEVER")
            await w.drained()
            assert await w.inbox() == []
            await w.send("good@far.test", rcpt=" NOTIFY=SUCCESS,FAILURE")
            await w.drained()
            (told,) = await w.inbox()
            assert report(told)["Action"] == "relayed"
            await w.send(USER, rcpt=" NOTIFY=SUCCESS")
            await w.drained()
            assert report((await w.inbox())[-1])["Action"] == "delivered"

    run(scenario)


def test_s44_no_report_about_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        async with world(tmp_path, answers={"RCPT": "550 no"}) as w:
            w.run()
            client = w.bench.open("smtp")
            await client.send(b"EHLO a.test\r\nMAIL FROM:<>\r\nRCPT TO:<you@far.test>\r\nDATA\r\n")
            assert (await client.send(b"Subject: bounce\r\n\r\n.\r\n")).startswith(b"250")
            await w.drained()
            assert await w.inbox() == [] and w.sink.taken == []
            assert "event=queue.report" not in capsys.readouterr().err, "not even one that goes to nobody"
            await w.send("you@far.test")
            await w.drained()
            assert len(await w.inbox()) == 1 and capsys.readouterr().err.count("event=queue.report") == 1

    run(scenario)


EVIL: dict[str, Any] = {
    "no code": "what?",
    "mixed codes": "250-ok\r\n550 no",
    "a megabyte line": "250 " + "x" * 1_000_000,
    "ten thousand lines": "250-ok\r\n" * 10_000 + "250 ok",
    "NUL": "2\x0050 ok",
    "early close": None,
}


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("kind", EVIL)
def test_s9_hosts_that_do_not_speak_smtp(tmp_path: Path, verb: str, kind: str) -> None:
    """S38, R16: the message stays in the queue, the reason is written down, and nothing is sent twice at once."""

    async def scenario() -> None:
        async with world(tmp_path, answers={verb: EVIL[kind]}) as w:
            w.schedule.steps[:] = [600.0]
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if job.attempts and not job.last.startswith("2")])
            await asyncio.sleep(0.1)
            assert w.sink.connections <= 3
            if kind == "early close" and verb == ".":
                assert "may have" in next(w.spool.jobs())[1].last
            w.sink.answers.clear()
            w.spool.change_now(next(w.spool.jobs())[1].key, lambda job: _now(job))
            assert w.runner is not None
            for destination in w.runner._scheduler.destinations.values():
                destination.down_until = 0.0
            w.runner.wake()
            await w.drained()
            assert len(w.sink.taken) >= 1

    run(scenario)


def _now(job: Any) -> Any:
    job.due = int(time.time())
    return job


def test_connections_are_reused_and_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, delay=0.01) as w:
            for n in range(60):
                await w.send(f"u{n}@far.test")
            w.run()
            await w.drained()
            assert len(w.sink.taken) == 60
            assert w.sink.most <= 5 and w.sink.connections <= 8
            told = {re.search("<(.*)>", one.rcpts[0]).group(1) for one in w.sink.taken}  # type: ignore[union-attr]
            assert len(told) == 60

    run(scenario)


def test_what_a_host_can_not_take_is_not_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path, extensions=["PIPELINING", "SIZE 100"]) as w:
            w.run()
            await w.send("you@far.test")
            await w.send("grün@far.test", mail=" SMTPUTF8")
            await w.drained()
            assert w.sink.taken == []
            found = sorted(report(one)["Status"] for one in await w.inbox())
            assert found == ["5.3.4", "5.6.7"]

    run(scenario)


def test_a_domain_goes_out_with_a_labels(tmp_path: Path) -> None:
    """Sharp s has a domain of its own, and both spellings of it are one destination (RFC 5890, RFC 5894 7.2)."""

    async def scenario() -> None:
        async with world(tmp_path, extensions=["SMTPUTF8", "8BITMIME"]) as w:
            w.dns.records[("xn--fa-hia.test", "MX")] = ["10 mail.far.test."]
            await w.send("one@fa\u00df.test", "two@xn--fa-hia.test", "three@FA\u1e9e.test", mail=" SMTPUTF8")
            assert {job.destination for _, job in w.spool.jobs()} == {"xn--fa-hia.test"}
            w.run()
            await w.drained()
            (taken,) = w.sink.taken
            told = [re.search("<(.*)>", one).group(1) for one in taken.rcpts]  # type: ignore[union-attr]
            assert sorted(told) == ["one@xn--fa-hia.test", "three@xn--fa-hia.test", "two@xn--fa-hia.test"]

    run(scenario)


def test_s7_a_policy_of_tls_sends_nothing_in_the_clear(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.policies = ["far.test encrypt"]
            await w.spool.close()
            w.open()
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: [job for _, job in w.spool.jobs() if "offers no STARTTLS" in job.last])
            assert not any(line.startswith("MAIL") for line in w.sink.lines)

    run(scenario)


def test_lmtp_to_another_store_by_a_unix_socket(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            path = tempfile.mkdtemp(dir="/tmp") + "/s"  # pytest's own paths may be too long for a socket
            w.lines = [f"store.test lmtp:unix:{path}"]
            await w.spool.close()
            w.open()
            heard: list[str] = []

            async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"220 store\r\n")
                while line := (await reader.readline()).decode().strip():
                    heard.append(line)
                    if line == "DATA":
                        writer.write(b"354 go\r\n")
                        await reader.readuntil(b"\r\n.\r\n")
                        writer.write(b"250 2.0.0 one\r\n552 5.2.2 two is full\r\n")
                    else:
                        writer.write(b"250-store\r\n250 PIPELINING\r\n" if line.startswith("LHLO") else b"250 ok\r\n")
                writer.close()

            server = await asyncio.start_unix_server(store, path)
            w.run()
            await w.send("one@store.test", "two@store.test")
            await w.drained()
            server.close()
            (bounce,) = await w.inbox()
            assert report(bounce)["Final-Recipient"] == "rfc822;two@store.test"
            assert heard[0] == "LHLO mx.example.test"

    run(scenario)


def test_only_users_and_trusted_networks_relay(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            for service in ("smtp", "submission"):
                client = w.bench.open(service, host="192.0.2.1")
                got = await client.send(b"EHLO a\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<you@far.test>\r\n")
                assert b"550 5.7.1 relaying denied" in got or b"530" in got
            trusted = w.bench.open("smtp")
            got = await trusted.send(b"EHLO a\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<you@far.test>\r\n")
            assert got.endswith(b"250 2.1.5 recipient ok\r\n")
            lmtp = w.bench.open("lmtp")
            assert b"550 5.7.1" in await lmtp.send(b"LHLO a\r\nMAIL FROM:<x@y.test>\r\nRCPT TO:<you@far.test>\r\n")

    run(scenario)


def test_loops_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            body = b"Received: from a by b; date\r\n" * 51 + b"Subject: loop\r\n\r\n"
            assert (await w.send("you@far.test", body=body)).startswith(b"554 5.4.6")
            assert w.spool.depth() == (0, 0)

    run(scenario)


def test_the_sockets_of_a_sink_are_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            await w.send("you@far.test")
            await w.until(lambda: w.sink.lines and w.sink.lines[-1] == "QUIT", 8.0)
            with socket.socket() as sock:
                sock.connect(("127.0.0.1", w.sink.port))

    run(scenario)


@pytest.mark.parametrize(
    ("parameter", "reply"),
    [
        ("HOLDFOR=0", b"501"),
        ("HOLDFOR=9999999", b"501"),
        ("HOLDFOR=5 HOLDUNTIL=2030-01-01T00:00:00Z", b"501"),
        ("HOLDUNTIL=2001-01-01T00:00:00Z", b"501"),
        ("HOLDUNTIL=tomorrow", b"501"),
        ("REQUIRETLS", b"530 5.7.30"),
        ("HOLDFOR=2", b"250"),
    ],
)
def test_release_in_the_future(tmp_path: Path, parameter: str, reply: bytes) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as w:
            w.run()
            client = await w.user()
            assert b"FUTURERELEASE 2592000 2" in client.transport.data
            got = await client.send(f"MAIL FROM:<{USER}> {parameter}\r\n".encode())
            assert got.startswith(reply), got
            if reply == b"250":
                assert (await w.send("you@far.test", mail=" HOLDFOR=2")).startswith(b"250")
                await asyncio.sleep(1.0)
                assert w.sink.taken == [] and w.spool.depth() == (1, 1)
                await w.drained()
                assert len(w.sink.taken) == 1

    run(scenario)


@pytest.mark.parametrize("able", [True, False])
def test_eight_bits_only_where_they_are_taken(tmp_path: Path, able: bool) -> None:
    body = (
        "From: user@example.test\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n'
        "Content-Transfer-Encoding: 8bit\r\n\r\n.grün = schön\r\n--b\r\n\r\nplain\r\n--b--\r\n"
    ).encode()

    async def scenario() -> None:
        async with world(tmp_path, extensions=["PIPELINING", *(["8BITMIME"] if able else [])]) as w:
            w.run()
            await w.send("you@far.test", body=body, mail=" BODY=8BITMIME")
            await w.drained()
            (taken,) = w.sink.taken
            assert ("BODY=8BITMIME" in taken.mail) == able
            assert taken.content.isascii() != able
            one, two = email.message_from_bytes(taken.content).get_payload()  # type: ignore[misc]
            assert one.get_payload(decode=True).decode().strip() == ".grün = schön"
            assert one["Content-Transfer-Encoding"] == ("8bit" if able else "quoted-printable")
            assert two.get_payload() == "plain"

    run(scenario)
