"""What is found of a client and a sender before the content comes: known at once, or asked for, and until when it
counts."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from fastmail.dns.interface import Budget
from fastmail.policy import origin
from fastmail.policy.checkers import Checkers
from fastmail.policy.lists import parse
from fastmail.policy.received import Settings
from tests.support.answers import UNTIL, AtHand, Lasting

ZONE: dict[tuple[str, str], list[Any]] = {
    ("example.org", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    ("macro.test", "TXT"): ["v=spf1 exists:%{l}.macro.test -all"],
    ("mail.example.org", "TXT"): ["v=spf1 a -all"],
    ("mail.example.org", "A"): ["192.0.2.1"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
    ("example.org", "MX"): [(10, "mail.example.org")],
    ("2.0.0.127.bl.test", "A"): ["127.0.0.2"],
}
EVERYTHING = Settings("mx.test", lists=[parse("bl.test*3")], helo="score", sender="score")
NOTHING = Settings("mx.test", spf=False, reverse=False)
KEY = "192.0.2.1", "mail.example.org", "example.org"


async def asked(checkers: Checkers, key: origin.Key, local: str = "joe") -> tuple[origin.Origin, int]:
    """The Origin, with what was found in it, and how many tasks that took."""
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    made = origin.ask(checkers, key, f"{local}@{key[2]}" if key[2] else "", start, Budget)
    found = origin.Origin(
        await origin.found(made.listed),
        await origin.found(made.reverse),
        await origin.found(made.greeted),
        await origin.found(made.sender),
        [await origin.found(one) for one in made.claims],
    )
    return found, len(tasks)


def shown(found: origin.Origin) -> tuple[Any, ...]:
    return found.listed, found.reverse, found.greeted, found.sender, list(found.claims)


@pytest.mark.parametrize("key", [KEY, (*KEY[:2], ""), ("192.0.2.9", "mail.example.org", "gone.test")])
def test_what_was_asked_is_known_afterwards(key: origin.Key) -> None:
    """And counts as long as the first answer does, which is as long as each here."""

    async def run() -> None:
        checkers = Checkers(Lasting(ZONE), EVERYTHING)
        first, tasks = await asked(checkers, key)
        assert tasks >= 5 and None not in shown(first)
        again, tasks = await asked(checkers, key)
        assert tasks == 0 and shown(again) == shown(first)
        assert origin.until(checkers, key) == UNTIL

    asyncio.run(run())


def test_the_first_answer_that_ends_ends_it() -> None:
    async def run() -> None:
        names = AtHand(ZONE)
        checkers = Checkers(names, EVERYTHING)
        await asked(checkers, KEY)
        names.until = UNTIL - 1000.0
        other = KEY[0], KEY[1], "other.test"
        await asked(checkers, other)
        assert origin.until(checkers, KEY) == UNTIL and origin.until(checkers, other) == UNTIL - 1000.0

    asyncio.run(run())


def test_what_depends_on_the_local_part_counts_for_nothing() -> None:
    async def run() -> None:
        checkers, key = Checkers(AtHand(ZONE), EVERYTHING), (KEY[0], KEY[1], "macro.test")
        tasks = [(await asked(checkers, key, local))[1] for local in ("joe", "jim", "joe")]
        assert tasks == [5, 0, 0], "SPF of the sender is found each time, of answers that are at hand"
        assert origin.until(checkers, key) == 0.0

    asyncio.run(run())


@pytest.mark.parametrize("domain", ["example.org", "gone.test", "broken.test", "bare"])
def test_what_is_at_hand_needs_no_task(domain: str) -> None:
    """And comes to the same."""

    async def run() -> None:
        names, at_hand = Lasting(ZONE), AtHand(ZONE)
        names.broken = at_hand.broken = {"broken.test"}
        (one, tasks), (other, fewer) = [
            await asked(Checkers(resolver, Settings("mx.test", reverse=False)), (*KEY[:2], domain))
            for resolver in (names, at_hand)
        ]
        assert shown(one) == shown(other)
        assert tasks == (2 if "." in domain else 1), "nobody is asked about a name of one label"
        assert fewer == 1, "the client's name in EHLO is asked for by a task"
        assert one.sender is not None and one.sender == other.sender

    asyncio.run(run())


def test_only_what_was_known_before_is_not_fresh() -> None:
    async def run() -> None:
        checkers = Checkers(AtHand(ZONE), Settings("mx.test", reverse=False))

        def ask() -> origin.Origin:
            return origin.ask(checkers, KEY, "joe@example.org", asyncio.create_task, Budget)

        first = ask()
        await origin.found(first.greeted)
        assert (first.fresh, ask().fresh) == (True, False)

    asyncio.run(run())


def test_what_is_not_looked_at_is_not_there() -> None:
    async def run() -> None:
        checkers = Checkers(Lasting(ZONE), NOTHING)
        found, tasks = await asked(checkers, KEY)
        assert (shown(found), tasks) == ((None, None, None, None, []), 0)
        assert origin.until(checkers, KEY) == float("inf")

    asyncio.run(run())


def test_an_origin_is_itself_only() -> None:
    """It names the series of its mail; what is known anew makes new series."""
    one, other = origin.Origin(), origin.Origin()
    assert one != other and len({one, other, one}) == 2
