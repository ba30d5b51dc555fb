"""fastmail.relay.suspicion: which logins are stopped, what happens to their mail, and who is told."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fastmail.directory.memory import MemoryDirectory
from fastmail.model.errors import StorageFailed
from fastmail.model.esmtp import Rcpt
from fastmail.net import networks
from fastmail.queue import stopped
from fastmail.queue.model import LOCAL, Item, Job, Outgoing
from fastmail.queue.spool import Spool
from fastmail.relay.suspicion import LOGINS, PART, PARTS, Counts, Rules, Watch, is_unknown, letter, parse_exempt
from fastmail.smtp.client import Reply

OK, LATER, NO = Reply(250, "2.0.0", "ok"), Reply(450, "4.1.1", "later"), Reply(550, "5.1.1", "nobody")
USER, OTHER = "me@example.test", "you@example.test"
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("code", "status", "unknown"),
    [
        (550, "5.1.1", True),
        (550, "5.1.2", True),
        (556, "5.1.10", True),
        (550, "5.0.0", True),
        (554, "5.0.0", False),
        (550, "5.7.1", False),
        (550, "5.1.8", False),
        (552, "5.2.2", False),
        (450, "4.1.1", False),
        (250, "2.1.5", False),
    ],
)
def test_what_says_that_nobody_is_there(code: int, status: str, unknown: bool) -> None:
    assert is_unknown(Reply(code, status, "text")) is unknown


def noted(counts: Counts, recipients: range, refused: bool, now: float = NOW, login: str = USER) -> str:
    """The last word about so many recipients."""
    return [counts.note(login, f"{n}@far.test", True, refused, now) for n in recipients][-1]


def test_unknown_recipients_of_an_hour() -> None:
    counts = Counts(Rules(10))
    assert noted(counts, range(9), True) == ""
    assert noted(counts, range(9), True) == "", "the same ones again"
    assert noted(counts, range(9, 10), True) == "19 of 19 recipients within an hour are unknown to their hosts"
    counts.forget(USER)
    assert noted(counts, range(9), True) == ""
    assert noted(counts, range(1), True, login=OTHER) == "", "each login has its own"


def test_some_dead_addresses_of_many_are_no_theft() -> None:
    counts = Counts(Rules(10))
    assert noted(counts, range(200), False) == ""
    assert noted(counts, range(200, 219), True) == "", "19 of 219"
    assert noted(counts, range(219, 230), True) != "", "30 of 230"


def test_an_hour_moves_on() -> None:
    counts = Counts(Rules(10))
    for part in range(PARTS * 3):
        assert noted(counts, range(part, part + 1), True, NOW + part * PART) == ""
    assert noted(counts, range(100, 109), True, NOW + 100 * PART) == ""
    assert noted(counts, range(200, 201), True, NOW + 100 * PART + PARTS * PART) == ""
    assert noted(counts, range(300, 309), True, NOW) == "", "a clock that was set back forgets"


def test_recipients_of_any_kind() -> None:
    counts = Counts(Rules(0, 50))
    assert noted(counts, range(49), False) == ""
    assert counts.note(USER, "later@far.test", False, False, NOW) == "", "not its first attempt"
    assert noted(counts, range(49, 50), False) == "50 recipients within an hour"
    assert Counts(Rules(0, 0)).note(USER, "a@far.test", True, True, NOW) == ""


def test_counts_are_bounded() -> None:
    counts = Counts(Rules(3))
    for n in range(LOGINS + 10):
        noted(counts, range(1), True, login=f"{n}@example.test")
    assert len(counts._hours) == LOGINS
    for n in range(100):
        counts.note(USER, f"{n}@far.test", True, True, NOW)
    assert sum(map(len, counts._hours[USER].refused)) == 3


class World:
    """A queue, a directory with two accounts, and what watches them."""

    def __init__(self, path: Path, rules: Rules) -> None:
        self.spool = Spool(str(path), 1 << 26)
        self.directory = MemoryDirectory()
        self.directory.add_domain("example.test")
        for address in (USER, OTHER):
            self.directory.add_account(address, "{PLAIN}x", "")
        self.told: list[tuple[str, bytes]] = []
        near = [networks.parse(one) for one in ("192.0.2.0/24", "192.0.2.7", "2001:db8::/32")]
        self.watch = Watch(rules, self.spool, self.directory, self.tell, "mx.example.test", near, "example.test")

    async def tell(self, address: str, content: bytes) -> None:
        self.told.append((address, content))

    async def queue(self, login: str, where: str = "far.test", sender: str = USER, **more: Any) -> tuple[Job, Item]:
        item = Item(self.spool.new_id(), sender, int(NOW), 5, login=login, **more)
        await self.spool.enqueue(Outgoing(item, {where: [Rcpt(f"x@{where}")]}, [b"body\n"]))
        ((item, job),) = self.spool.jobs(item.id)
        return job, item

    async def refuse(
        self, count: int, login: str = USER, where: str = "far.test", sender: str = USER, **more: Any
    ) -> None:
        job, item = await self.queue(login, where, sender, **more)
        for n in range(count):
            self.watch.note(job, item, f"{n}@{where}", NO)
        await self.watch.close()

    def held(self) -> dict[str, bool]:
        return {item.login: job.paused for item, job in self.spool.jobs()}

    def sends(self, address: str = USER) -> bool:
        account = self.directory.account(address)
        return account is not None and account.sends


def run(path: Path, scenario: Callable[[World], Awaitable[None]], rules: Rules | None = None) -> None:
    async def main() -> None:
        world = World(path, rules or Rules(5))
        try:
            await scenario(world)
        finally:
            await world.spool.close()

    asyncio.run(main())


def test_a_stolen_login_is_stopped(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        for login in (USER, OTHER):
            await w.queue(login)
        await w.refuse(4)
        assert w.sends() and not w.told
        await w.refuse(5)
        account = w.directory.account(USER)
        assert account is not None and not account.sends
        assert account.stopped == "9 of 9 recipients within an hour are unknown to their hosts"
        row = list(w.directory.audit())[-1]
        assert (row.who, row.what, row.name) == ("automatic", "account set", USER) and account.stopped in row.text
        assert w.held() == {USER: True, OTHER: False} and w.sends(OTHER)
        ((to, content),) = w.told
        assert to == "postmaster@example.test" and b"\n    9 of 9 recipients" in content
        assert b"\n3 of its deliveries were waiting." in content and b"release --login me@example.test\n" in content
        await w.refuse(9)
        assert len(w.told) == 1, "it is stopped once"

    run(tmp_path, scenario)


def test_mail_that_came_meanwhile_is_held_too(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(5)
        job, item = await w.queue(USER)
        assert w.watch.stops(item)
        await w.watch.hold(job, item)
        assert all(one.paused for _, one in w.spool.jobs(item.id))
        assert not w.watch.stops((await w.queue(OTHER))[1])
        later = Watch(Rules(), w.spool, w.directory, w.tell, "mx.example.test")
        assert later.stops(item), "also after a restart"
        w.directory.enable(USER, True)
        account = w.directory.account(USER)
        assert account is not None and account.sends and account.stopped == ""
        assert not w.watch.stops(item)

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("login", "where", "sender"),
    [("", "far.test", USER), (USER, LOCAL, USER), (USER, "far.test", ""), ("none@example.test", "far.test", USER)],
)
def test_what_is_not_counted(tmp_path: Path, login: str, where: str, sender: str) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(9, login, where, sender)
        assert w.sends() and not w.told

    run(tmp_path, scenario)


def test_a_login_that_is_exempt(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(9)
        assert w.sends()

    run(tmp_path, scenario, Rules(5, 5, frozenset([USER])))


HOST, HALL = "192.0.2.9", networks.parse("192.0.2.0/24")


def test_a_network_is_stopped(tmp_path: Path) -> None:
    """A client without a login counts for the smallest entry that it is in; each entry by itself."""

    async def scenario(w: World) -> None:
        await w.refuse(3, "", peer=HOST)
        await w.refuse(4, "", peer="192.0.2.7")
        await w.refuse(9, "", peer="198.51.100.1")
        assert stopped.find(w.spool, HALL) is None and not w.told
        await w.refuse(5, "", peer="192.0.2.200")
        found = stopped.find(w.spool, HALL)
        assert found is not None and found.why == "8 of 8 recipients within an hour are unknown to their hosts"
        assert stopped.find(w.spool, networks.parse("192.0.2.7")) is None and w.sends()
        assert {item.peer: job.paused for item, job in w.spool.jobs()} == {
            HOST: True, "192.0.2.200": True, "192.0.2.7": False, "198.51.100.1": False
        }  # fmt: skip
        ((to, content),) = w.told
        assert to == "postmaster@example.test" and b"\n    8 of 8 recipients" in content
        assert b"\n2 of its deliveries were waiting." in content and b"networks --resume 192.0.2.0/24\n" in content
        await w.refuse(9, "", peer=HOST)
        assert len(w.told) == 1, "it is stopped once"

    run(tmp_path, scenario)


def test_mail_of_a_stopped_network_is_held_until_it_is_resumed(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(5, "", peer=HOST)
        _, item = await w.queue("", peer=HOST)
        assert w.watch.stops(item) and not w.watch.stops((await w.queue("", peer="192.0.2.7"))[1])
        assert not w.watch.stops((await w.queue(USER, peer=HOST))[1]), "a login is not the network"
        assert await stopped.resume(w.spool, HALL) and not await stopped.resume(w.spool, HALL)
        assert not w.watch.stops(item)
        await w.refuse(4, "", peer=HOST)
        assert stopped.find(w.spool, HALL) is None, "its counts begin anew"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "more",
    [
        {"peer": HOST, "owner": "me@example.test"},  # forwarded by an account here
        {"peer": HOST, "mailing_list": "list@example.test"},
        {"peer": HOST, "mailing_list": "list@example.test", "verp": True},
        {"peer": "local"},
        {"peer": ""},
    ],
)
def test_what_is_not_counted_for_a_network(tmp_path: Path, more: dict[str, Any]) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(9, "", **more)
        assert stopped.find(w.spool, HALL) is None and not w.told

    run(tmp_path, scenario)


def test_a_network_that_is_exempt(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        await w.refuse(9, "", peer=HOST)
        assert stopped.find(w.spool, HALL) is None

    logins, exempt = parse_exempt(["Shop@example.test", "192.0.2.1/24"])
    assert logins == {"shop@example.test"} and exempt == {HALL}
    run(tmp_path, scenario, Rules(5, 5, logins, exempt))


@pytest.mark.parametrize("row", [b"", b"nonsense", b"\x93\x01\xa1x\xa1y", b"\x93\x01\x05\xa1\xff"])
def test_a_row_that_cannot_be_read_stops_its_network_until_it_is_resumed(tmp_path: Path, row: bytes) -> None:
    async def scenario(w: World) -> None:
        _, item = await w.queue("", peer=HOST)
        await w.spool.facts.set_state(b"stopped 192.0.2.0/24", row)
        assert stopped.find(w.spool, HALL) == stopped.Stopped(0, stopped.UNREADABLE) and w.watch.stops(item)
        assert not await stopped.stop(w.spool, HALL, "why", NOW), "it is stopped already"
        assert await stopped.resume(w.spool, HALL)
        assert stopped.find(w.spool, HALL) is None and not w.watch.stops(item)

    run(tmp_path, scenario)


def test_good_answers_do_no_harm(tmp_path: Path) -> None:
    async def scenario(w: World) -> None:
        job, item = await w.queue(USER)
        for n in range(50):
            w.watch.note(job, item, f"{n}@far.test", LATER if n % 2 else OK)
        await w.watch.close()
        assert w.sends()

    run(tmp_path, scenario)


def test_a_disk_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(w: World) -> None:
        def fails(address: str, why: str) -> None:
            raise StorageFailed("not now")

        with monkeypatch.context() as patch:
            patch.setattr(w.directory, "stop_sending", fails)
            await w.refuse(5)
        assert w.sends() and not w.told
        await w.refuse(1)
        assert not w.sends() and len(w.told) == 1

    run(tmp_path, scenario)


def test_the_letter_has_no_line_of_a_login() -> None:
    text = letter('"a\nBcc: x@y"@example.test', "why", 1, "mx.test", NOW)
    assert b"\nBcc" not in text and text.startswith(b"From: <postmaster@mx.test>\nTo: <")
    assert b"Subject: Sending was stopped for an account\n" in letter("ü@example.test", "why", 0, "mx.test", NOW)
