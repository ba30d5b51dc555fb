"""Clients that nobody vouches for, before the content of their mail (RFC 5321 3.1, 4.1.4, 4.2; RFC 2920 3.1)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory.interface import AccountRecord
from fastmail.directory.named import Book
from fastmail.dns.memory import MemoryResolver
from fastmail.model.errors import StorageFull, TemporaryError
from fastmail.net import networks
from fastmail.policy.greylist import Greylist
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Settings
from fastmail.policy.strangers.gate import Gate
from fastmail.policy.strangers.rules import Rules, rate
from tests.support.sessions import USER, Bench, Client
from tests.support.signing import MESSAGE, key, published, signed
from tests.unit.policy.test_receive import ZONE
from tests.unit.smtp.test_milter import Filter, milter

FAR = "192.0.2.1"
GREETING = b"220 mx.example.test ESMTP fastmail\r\n"
HELLO = b"EHLO mail.example.org\r\n"
MAIL = b"MAIL FROM:<joe@example.org>\r\n"

KEYED = {**ZONE, **published(key())}
OWN = ("exempt", "xclient", "networks", "milters", "feedback")


class Place:
    """A server with rules; ``zone``: its DNS."""

    def __init__(self, path: Path, zone: Any = KEYED, settings: Settings | None = None, **rules: Any) -> None:
        own: dict[str, Any] = {name: rules.pop(name) for name in OWN if name in rules}
        self.limits = rules.pop("limits", {})
        self.gate = Gate(str(path), Rules(**rules))
        greylist = Greylist(str(path))
        self.receiver = Receiver(MemoryResolver(zone), settings or Settings("mx.example.test"), greylist)
        self.bench = Bench(str(path), outbound={"gate": self.gate, "policy": self.receiver, **own}, **self.limits)

    def open(self, host: str = FAR, protocol: str = "smtp") -> Client:
        return self.bench.open(protocol, host)

    def is_free(self) -> bool:
        """Does example.org, for which SPF vouches, wait for nothing?"""
        greylist = self.receiver.greylist
        return greylist is not None and not greylist.wait("example.org", "new@example.org")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def until(client: Client, wanted: bytes) -> None:
    for _ in range(2000):
        if client.transport.data.endswith(wanted):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(client.transport.data)


async def message(client: Client, content: bytes = MESSAGE, sender: bytes = MAIL, to: str = USER) -> bytes:
    """The reply to a whole message."""
    reply = await client.send(sender)
    if reply.startswith(b"2"):
        reply = await client.send(f"RCPT TO:<{to}>\r\n".encode())
    if reply.startswith(b"2"):
        await client.send(b"DATA\r\n")
        reply = await client.send(content.replace(b"\n", b"\r\n") + b".\r\n")
    else:
        await client.send(b"RSET\r\n")
    return reply


# ---------------------------------------------------------------- early talkers


def test_a_stranger_waits_for_the_greeting(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Place(tmp_path, wait=0.05).open()
        assert client.transport.data == b"" and not client.connection.busy
        await until(client, GREETING)
        assert (await client.send(HELLO)).startswith(b"250-mx.example.test\r\n")
        assert (await message(client)).startswith(b"250")

    run(scenario)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("early", [HELLO, b"\x16\x03\x01\x02\x00\x01", b"\r\n"])
def test_who_speaks_before_it_is_refused(tmp_path: Path, early: bytes, step: int) -> None:
    async def scenario() -> None:
        client = Place(tmp_path, wait=30.0, early="refuse").open()
        got = await client.send(early, step)
        assert got == b"554 5.5.0 you spoke before the greeting, as no mail server does\r\n"
        assert client.transport.closed

    run(scenario)


def test_or_gets_a_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, wait=30.0)
        client = place.open()
        got = await client.send(HELLO)
        assert got.startswith(GREETING + b"250-mx.example.test\r\n")
        assert (await message(client)).startswith(b"250")
        box = next(iter(place.bench.store.boxes.values()))  # type: ignore[attr-defined]
        assert box.messages
        assert not place.gate.known(FAR), "its message is no good past"

    run(scenario)


@pytest.mark.parametrize(
    "verb", [b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\n", b"connect x:25\r\n"]
)
def test_s37_browsers_are_dropped_at_once(tmp_path: Path, verb: bytes) -> None:
    async def scenario() -> None:
        for early in ("score", "refuse", "off"):
            client = Place(tmp_path, wait=30.0, early=early).open()
            assert await client.send(verb) == b"421 4.7.0 this is not an HTTP server\r\n"
            assert client.transport.closed

    run(scenario)


@pytest.mark.parametrize("early", ["score", "refuse", "off"])
def test_pipelining_before_the_reply_to_ehlo(tmp_path: Path, early: str) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, wait=0.01, early=early)
        client = place.open()
        await until(client, GREETING)
        got = await client.send(HELLO + MAIL)
        if early == "refuse":
            assert got == b"554 5.5.0 commands came before the reply to EHLO\r\n" and client.transport.closed
            return
        assert got.endswith(b"250 2.1.0 sender ok\r\n")
        stranger = client.connection.session.stranger
        assert list(stranger.noted) == (["early.pipelining"] if early == "score" else [])

    run(scenario)


def test_a_good_past_opens_the_door(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, wait=0.02, early="refuse")
        client = place.open()
        await until(client, GREETING)
        await client.send(HELLO)
        assert (await message(client)).startswith(b"250")
        assert place.open().transport.data == GREETING
        assert (await place.open().send(HELLO + MAIL)).endswith(b"250 2.1.0 sender ok\r\n")
        assert place.open("192.0.2.2").transport.data == b""

    run(scenario)


@pytest.mark.parametrize(
    ("answers", "known"), [([b"r"], False), ([b"d"], False), ([b"qsuspicious\x00", b"c"], False), ([b"c"], True)]
)
def test_what_a_filter_refuses_earns_nothing(tmp_path: Path, answers: list[bytes], known: bool) -> None:
    """Neither a good past nor freedom from greylisting."""

    async def scenario() -> None:
        settings = Settings("mx.example.test", enforce=True, greylist=1.0)
        milters = [milter(await Filter({"E": answers}).start())]
        place = Place(tmp_path, settings=settings, wait=0.01, milters=milters)
        client = place.open()
        await until(client, GREETING)
        await client.send(HELLO)
        assert (await message(client, signed())).startswith(b"550" if answers == [b"r"] else b"250")
        assert place.gate.known(FAR) is known and place.is_free() is known

    run(scenario)


@pytest.mark.parametrize("trouble", ["full", "sender", "rate"])
def test_what_is_not_taken_for_another_reason_earns_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """A mailbox that is full at the end, a disk that fails, a rate that is reached after the verdict."""

    async def scenario() -> None:
        settings = Settings("mx.example.test", enforce=True, greylist=1.0)
        rates = (rate("messages sender 1"),) if trouble == "rate" else ()
        place = Place(tmp_path, settings=settings, wait=0.01, rates=rates)
        if trouble == "rate":
            place.gate.sent("joe@example.org")

        async def fails(*_: Any, **__: Any) -> None:
            raise StorageFull("no room") if trouble == "full" else TemporaryError("not now")

        if trouble != "rate":
            monkeypatch.setattr(place.bench.store, "deliver", fails)
        client = place.open()
        await until(client, GREETING)
        await client.send(HELLO)
        assert (await message(client, signed())).startswith(b"45")
        assert not place.gate.known(FAR) and not place.is_free()

    run(scenario)


def test_who_is_no_stranger(tmp_path: Path) -> None:
    async def scenario() -> None:
        net = [networks.parse("192.0.2.0/24")]
        for number, (more, host, protocol) in enumerate(
            [
                ({}, "127.0.0.1", "smtp"),
                ({}, "local", "smtp"),
                ({"exempt": net}, FAR, "smtp"),
                ({"xclient": net}, FAR, "smtp"),
                ({"settings": Settings("mx.example.test", allow=Book(["192.0.2.0/24"]))}, FAR, "smtp"),
                ({}, FAR, "submission"),
                ({}, FAR, "lmtp"),
            ]
        ):
            client = Place(tmp_path / str(number), wait=30.0, rates=(rate("connections client 1"),), **more).open(  # type: ignore[arg-type]
                host, protocol
            )
            assert client.transport.data.startswith(b"220 "), (more, host, protocol)

    run(scenario)


def test_a_client_that_leaves_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Place(tmp_path, wait=0.01).open()
        client.connection.connection_lost(None)
        await asyncio.sleep(0.03)
        assert client.transport.data == b""

    run(scenario)


def test_whom_xclient_tells_of_has_the_greeting_already(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, wait=30.0, guesses=1, guessers="refuse", xclient=[networks.parse("198.51.100.0/24")])
        client = place.open("198.51.100.1")
        await client.send(HELLO)
        assert (await client.send(b"XCLIENT ADDR=192.0.2.7\r\n")) == GREETING
        await client.send(HELLO + MAIL)
        got = await client.send(b"RCPT TO:<nobody@example.test>\r\n")
        assert got.startswith(b"421 4.7.0 too many unknown recipients") and place.gate.is_guesser("192.0.2.7")

    run(scenario)


# ---------------------------------------------------------------- rates


def test_connections_in_an_hour(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, rates=(rate("connections client 2"),))
        assert place.open().transport.data == place.open().transport.data == GREETING
        client = place.open()
        assert client.transport.data.startswith(
            b"421 4.7.0 mx.example.test at most 2 connections an hour for your address"
        )
        assert client.transport.data.endswith(b" UTC\r\n") and client.transport.closed
        assert place.open("192.0.2.2").transport.data == GREETING

    run(scenario)


def test_messages_in_an_hour(tmp_path: Path) -> None:
    async def scenario() -> None:
        limits = ("messages client 4", "messages sender 2", "messages recipient 3")
        place = Place(tmp_path, rates=tuple(map(rate, limits)))
        client = place.open()
        await client.send(HELLO)
        assert (await message(client)).startswith(b"250") and (await message(client)).startswith(b"250")
        got = await message(client)
        assert got.startswith(b"450 4.7.1 at most 2 messages an hour for the sender's domain, try again after ")
        other = MAIL.replace(b"example.org", b"other.test")
        assert (await message(client, sender=other)).startswith(b"250")
        assert (await message(client, sender=other)).startswith(
            b"450 4.2.1 at most 3 messages an hour for this recipient"
        )
        got = await message(client, sender=other)
        assert got.startswith(b"450 4.7.1 at most 4 messages an hour for your address")
        assert (await client.send(b"NOOP\r\n")).startswith(b"250"), "the session is usable"

    run(scenario)


@pytest.mark.parametrize(
    "names",
    [
        (USER, "user+x@example.test"),
        ("team@example.test", "Team+a@example.test"),
        ("many@example.test", "many+b@example.test"),
        ("abuse@example.test", "postmaster@any.test"),
    ],
)
def test_a_detail_makes_no_other_recipient(tmp_path: Path, names: tuple[str, str]) -> None:
    """Neither for one account nor for an alias of several, an account that forwards to others, or who gets the mail of
    roles: else a stranger would write to any number of them."""

    async def scenario() -> None:
        place = Place(tmp_path, rates=(rate("messages recipient 1"),))
        accounts = place.bench.directory.accounts
        accounts["many@example.test"] = AccountRecord(
            3, "many@example.test", "", forward=(USER, "other@example.test"), keeps=True
        )
        place.bench.deliverer.postmasters = ("team@example.test",)
        client = place.open()
        await client.send(HELLO)
        assert (await message(client, to=names[0])).startswith(b"250")
        assert (await message(client, to=names[1])).startswith(b"450 4.2.1 at most 1 message an hour")

    run(scenario)


def test_one_message_counts_once_for_a_recipient(tmp_path: Path) -> None:
    """However often it names it: else it would use up what others may send there."""

    async def scenario() -> None:
        client = Place(tmp_path, rates=(rate("messages recipient 2"),)).open()
        await client.send(HELLO + MAIL)
        for detail in range(9):
            assert (await client.send(b"RCPT TO:<user+%d@example.test>\r\n" % detail)).startswith(b"250")
        await client.send(b"RSET\r\n")
        assert (await message(client)).startswith(b"250")
        assert (await message(client)).startswith(b"450 4.2.1 at most 2 messages")

    run(scenario)


@pytest.mark.parametrize("spf", ["v=spf1 ip4:192.0.2.1 -all", "v=spf1 +all"])
def test_a_forger_does_not_use_up_what_a_domain_may_send(tmp_path: Path, spf: str) -> None:
    """Nor where anybody may send for the domain, which says nothing of who did."""

    async def scenario() -> None:
        place = Place(tmp_path, {**KEYED, ("example.org", "TXT"): [spf]}, rates=(rate("messages sender 1"),))
        client = place.open("198.51.100.9")  # SPF fails
        await client.send(HELLO)
        for _ in range(3):
            assert (await message(client)).startswith(b"250")
        client = place.open()
        await client.send(HELLO)
        assert (await message(client)).startswith(b"250")
        assert (await message(client)).startswith(b"250" if "+all" in spf else b"450")

    run(scenario)


def test_where_spf_is_not_looked_at_nobody_uses_up_what_a_domain_may_send(tmp_path: Path) -> None:
    """Nor with a signature of the domain, which who has the message may send once more."""

    async def scenario() -> None:
        place = Place(tmp_path, settings=Settings("mx.example.test", spf=False), rates=(rate("messages sender 1"),))
        for ip in ("198.51.100.9", "192.0.2.1"):
            client = place.open(ip)
            await client.send(HELLO)
            for content in (MESSAGE, signed(), signed()):
                assert (await message(client, content)).startswith(b"250")

    run(scenario)


class Counted:
    """The reverse-paths of messages that are counted for reports."""

    def __init__(self) -> None:
        self.senders: list[str] = []

    def note(self, received: Any, ip: str, sender: str, recipients: list[str], content: bytes) -> None:
        self.senders.append(sender)

    async def take(self, recipients: list[str], content: bytes, received: Any, login: str = "") -> bool:
        return False


def test_what_has_to_come_again_is_counted_then(tmp_path: Path) -> None:
    """Two messages at the same time: both may begin, and the second has to come again."""

    async def scenario() -> None:
        counted = Counted()
        place = Place(tmp_path, rates=(rate("messages sender 1"),), feedback=counted)
        clients = [place.open(), place.open()]
        for client in clients:
            await client.send(HELLO)
            assert (await client.send(MAIL)).startswith(b"250")
            assert (await client.send(f"RCPT TO:<{USER}>\r\n".encode())).startswith(b"250")
            await client.send(b"DATA\r\n")
        replies = [await client.send(MESSAGE.replace(b"\n", b"\r\n") + b".\r\n") for client in clients]
        assert [reply[:3] for reply in replies] == [b"250", b"450"] and len(counted.senders) == 1

    run(scenario)


# ---------------------------------------------------------------- guesses


async def guess(client: Client, times: int) -> list[bytes]:
    await client.send(HELLO)
    await client.send(MAIL)
    return [await client.send(b"RCPT TO:<n%d@example.test>\r\n" % n) for n in range(times)]


def test_a_guesser_is_refused_until_its_points_fade(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, guesses=3, guessers="refuse")
        client = place.open()
        got = await guess(client, 3)
        assert [one[:3] for one in got] == [b"550", b"550", b"421"] and client.transport.closed
        assert place.open().transport.data.startswith(b"421 4.7.0 mx.example.test too many unknown recipients")
        assert place.open("192.0.2.2").transport.data == GREETING

    run(scenario)


def test_or_banned_or_gets_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        blamed: list[tuple[str, float]] = []
        client = Place(tmp_path / "1", guesses=2, guessers="ban").open()
        monkeypatch.setattr(client.listener, "blame", lambda host, points, why: blamed.append((host, points)))
        assert [one[:3] for one in await guess(client, 2)] == [b"550", b"421"]
        assert blamed == [(FAR, 1e6)]
        client = Place(tmp_path / "2", guesses=2).open()
        assert [one[:3] for one in await guess(client, 4)] == [b"550"] * 4
        await client.send(b"RSET\r\n" + MAIL)
        receiving = client.connection.session.transaction.receiving
        assert [name for name, _ in receiving._noted] == ["guesses.recipients"]

    run(scenario)


def test_good_mail_outweighs_unknown_recipients(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, guesses=3, guessers="refuse")
        client = place.open()
        await client.send(HELLO)
        for _ in range(6):
            assert (await message(client, to="gone@example.test")).startswith(b"550")
            assert (await message(client)).startswith(b"250")

    run(scenario)


def test_unknown_recipients_of_one_message(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, in_message=2)
        client = place.open()
        assert [one[:3] for one in await guess(client, 3)] == [b"550", b"550", b"421"] and client.transport.closed
        client = place.open()
        await guess(client, 2)
        await client.send(b"RSET\r\n" + MAIL)
        assert (await client.send(b"RCPT TO:<n@example.test>\r\n")).startswith(b"550"), "counted for each message"

    run(scenario)


# ---------------------------------------------------------------- tarpit


def test_a_stranger_waits_for_error_replies(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, tarpit=0.05)
        client = place.open()
        assert (await client.send(HELLO)).startswith(b"250")
        begun = time.monotonic()
        got = await client.send(b"BAD\r\nNOOP\r\n")
        assert got == b"500 5.5.1 unknown command; try HELP\r\n250 2.0.0 ok\r\n" and time.monotonic() - begun >= 0.04
        begun = time.monotonic()
        await client.send(MAIL)
        got = await client.send(b"RCPT TO:<n@example.test>\r\n")
        assert got.startswith(b"550") and time.monotonic() - begun >= 0.04
        place.bench.directory.live = object()  # type: ignore[assignment]  # accounts are asked for, so the reply comes from a coroutine
        begun = time.monotonic()
        got = await client.send(b"RCPT TO:<n@example.test>\r\nNOOP\r\n")
        assert got.startswith(b"550") and got.endswith(b"250 2.0.0 ok\r\n") and time.monotonic() - begun >= 0.04
        assert place.gate.held == 0
        assert (await message(client)).startswith(b"503"), "its transaction goes on"

    run(scenario)


def test_only_so_many_wait_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, tarpit=30.0, held=2)
        clients = [place.open() for _ in range(3)]
        for client in clients:
            client.listener.buffer[:5] = b"BAD\r\n"
            client.connection.buffer_updated(5)
        assert [one.transport.closed for one in clients] == [False, False, True]
        assert clients[2].transport.data.endswith(b"421 4.7.0 mx.example.test too many errors, closing\r\n")
        assert place.gate.held == 2 and clients[0].transport.data == GREETING
        clients[0].connection.connection_lost(None)
        clients[1].connection.session.timed_out()
        assert place.gate.held == 0 and clients[1].transport.data.endswith(b"timeout, closing\r\n")

    run(scenario)


def test_nothing_is_read_meanwhile(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Place(tmp_path, tarpit=0.05).open()
        calls = []
        client.transport.pause_reading = lambda: calls.append("pause")  # type: ignore[method-assign]
        client.transport.resume_reading = lambda: calls.append("resume")  # type: ignore[method-assign]
        await client.send(b"BAD\r\n")
        assert calls == ["pause", "resume"]

    run(scenario)


def test_too_many_errors_end_the_session_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        client = Place(tmp_path, tarpit=0.01, limits={"errors": 3}).open()
        got = await client.send(b"BAD\r\n" * 5)
        assert got.count(b"500 5.5.1") == 3 and got.endswith(b"421 4.7.0 too many errors, closing\r\n")
        assert client.transport.closed

    run(scenario)


def test_known_clients_do_not_wait_until_they_guess(tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(tmp_path, tarpit=30.0, guesses=4)
        place.gate.good(FAR)
        client = place.open()
        assert (await client.send(b"BAD\r\n")).startswith(b"500")
        for _ in range(3):
            place.gate.missed(FAR)
        client.listener.buffer[:5] = b"BAD\r\n"
        client.connection.buffer_updated(5)
        assert place.gate.held == 1
        client.connection.connection_lost(None)

    run(scenario)


# ---------------------------------------------------------------- what they say


def test_names_in_ehlo_and_senders(tmp_path: Path) -> None:
    """With ``enforce`` only, and not where a network is allowed; written down otherwise."""

    async def scenario() -> None:
        zone = {**ZONE, ("deaf.test", "MX"): [(0, "")], ("example.org", "MX"): [(1, "mail.example.org")]}
        for enforce in (False, True):
            settings = Settings("mx.example.test", enforce=enforce, helo="refuse", sender="refuse")
            place = Place(tmp_path / str(enforce), zone, settings)
            replies = []
            for hello, sender in (
                (b"EHLO MX.example.test\r\n", b"joe@example.org"),
                (HELLO, b"joe@deaf.test"),
                (HELLO, b"joe@nowhere.test"),
                (HELLO, b"joe@example.org"),
            ):
                client = place.open()
                await client.send(hello)
                replies.append(await message(client, sender=b"MAIL FROM:<%b>\r\n" % sender))
            wanted = [b"550 5.7.1 the name", b"550 5.7.27 the", b"550 5.1.8 the", b"250"] if enforce else [b"250"] * 4
            assert all(one.startswith(two) for one, two in zip(replies, wanted, strict=True)), replies

    run(scenario)
