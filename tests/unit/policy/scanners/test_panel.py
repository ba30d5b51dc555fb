"""Scanners together: deadlines, turns, rest after failures, and what is said for one that is away."""

import asyncio
from typing import Any

import pytest

from fastmail.policy.reasons import Finding
from fastmail.policy.scanners import panel
from fastmail.policy.scanners.nouns import Shown
from fastmail.policy.scanners.panel import FAULTS, Client, Panel
from tests.support.scanning import MESSAGE, READ, far, scanner

SHOWN = Shown(MESSAGE)
NOBODY = "127.0.0.1:1"


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def one(where: str = "smtp", **settings: Any) -> Finding:
    """What is said for a clamd that does not listen."""
    return asyncio.run(Panel([scanner("clamav", NOBODY, **settings)]).ask(where, SHOWN))[0]


def test_one_that_is_away() -> None:
    found = one()
    assert (found.said, found.action, found.always, found.virus) == ("away", "accept", False, "unknown")
    assert found.reasons[0].name == "clamav.away" and found.reasons[0].why and not found.reasons[0].score
    found = one(when_away="defer")
    assert (found.action, found.always, found.reply[:2]) == ("later", True, (451, "4.7.1"))
    found = one(when_away="refuse")
    assert (found.action, found.always, found.reply[:2]) == ("refuse", True, (554, "5.7.1"))
    assert NOBODY.partition(":")[0] not in found.reply[2]


def test_one_that_hangs_costs_its_seconds() -> None:
    async def main() -> None:
        async with far(hang) as there:
            for kind in ("clamav", "spamassassin", "rspamd"):
                (found,) = await Panel([scanner(kind, there.address, seconds=0.05)]).ask("smtp", SHOWN)
                assert found.said == "away" and "0.05 s" in found.reasons[0].why

    asyncio.run(main())


def test_large_messages_are_not_shown() -> None:
    found = one(largest=len(MESSAGE) - 1)
    assert (found.said, found.action, found.reasons[0].name) == ("large", "accept", "clamav.large")
    assert one(largest=len(MESSAGE)).said == "away"


def test_one_that_says_a_message_is_too_large() -> None:
    async def main() -> None:
        async with far(b"INSTREAM size limit exceeded. ERROR\0", read="clamd") as there:
            for _ in range(FAULTS + 1):  # and that is no failure
                (found,) = await Panel([scanner("clamav", there.address)]).ask("smtp", SHOWN)
                assert found.said == "large"

    asyncio.run(main())


def test_only_so_many_at_once() -> None:
    async def main() -> None:
        async with far(b"stream: OK\0", read="clamd", singly=True) as there:
            client = Client(scanner("clamav", there.address, at_once=2))
            found = await asyncio.gather(*(client.ask(SHOWN) for _ in range(9)))
            assert {one.said for one in found} == {"clean"} and there.most == 2 and len(there.heard) == 9

    asyncio.run(main())


def test_who_does_not_get_a_turn_is_answered_for_and_is_no_failure() -> None:
    async def main() -> None:
        async with far(hang) as there:
            client = Client(scanner("clamav", there.address, at_once=1, seconds=0.2))
            first = asyncio.create_task(client.ask(SHOWN))
            await asyncio.sleep(0)
            found = await asyncio.gather(first, *(client.ask(SHOWN) for _ in range(FAULTS + 2)))
            assert sum("before this one" in one.reasons[0].why for one in found) == FAULTS + 2
            assert client._faults == 1

    asyncio.run(main())


def test_one_that_fails_is_left_alone_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(client: Client, answers: list[bytes]) -> list[str]:
        out = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await READ["clamd"](reader)
            writer.write(answers.pop(0))
            await writer.drain()
            writer.close()

        async with far(serve) as there:
            object.__setattr__(client.scanner, "address", there.address)
            while answers:
                before = len(answers)
                found = await client.ask(SHOWN)
                out.append(found.said if len(answers) < before else "alone")
                if out[-1] == "alone":
                    client._until = 0.0  # its rest is over
        return out

    bad, good = b"nonsense\0", b"stream: OK\0"
    client = Client(scanner("clamav", NOBODY))
    said = asyncio.run(main(client, [bad] * (FAULTS - 1) + [good] + [bad] * (FAULTS + 1) + [good, good]))
    away = ["away"] * (FAULTS - 1)
    assert said == [*away, "clean", *away, "away", "alone", "away", "alone", "clean", "clean"]


def test_each_stands_for_itself(tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "clamd")
        async with far(b"stream: OK\0", path, "clamd") as good:
            found = await Panel([scanner("rspamd", NOBODY), scanner("clamav", good.address)]).ask("smtp", SHOWN)
            assert [one.said for one in found] == ["away", "clean"]

    asyncio.run(main())


def test_only_those_of_the_place_are_asked() -> None:
    both = Panel([scanner("clamav", NOBODY, on=frozenset({"submission"})), scanner("rspamd", NOBODY)])
    assert both.wanted("smtp") and both.wanted("submission") and not Panel([]).wanted("smtp")
    assert [one.who for one in asyncio.run(both.ask("smtp", SHOWN))] == ["rspamd"]
    assert [one.who for one in asyncio.run(both.ask("submission", SHOWN))] == ["clamav"]


def test_an_infected_message_of_a_user_is_refused_whatever_the_setting() -> None:
    async def main(where: str) -> Finding:
        async with far(b"stream: Eicar FOUND\0", read="clamd") as there:
            on = frozenset({"smtp", "submission"})
            return (await Panel([scanner("clamav", there.address, virus="junk", on=on)]).ask(where, SHOWN))[0]

    assert asyncio.run(main("smtp")).action == "junk"
    assert asyncio.run(main("submission")).action == "refuse"


def test_every_kind_is_asked_by_something() -> None:
    from fastmail.policy.scanners.nouns import KINDS, LARGEST

    assert set(panel.ASK) == set(KINDS) == set(LARGEST)
