"""Room for long summaries: who waits, who does not, and that nobody is forgotten."""

import asyncio

import pytest

from fastmail.store.room import LONG, Room

BIG = 10 * LONG


def test_no_more_than_the_room_and_one_entry() -> None:
    async def main() -> None:
        room = Room(3 * BIG)
        most = done = 0

        async def work(known: bool) -> None:
            nonlocal most, done
            async with room.entry(BIG if known else -1) as entry:
                entry.resize(BIG)  # made without waiting
                most = max(most, room.octets)
                await asyncio.sleep(0.001)
            done += 1

        await asyncio.gather(*(work(bool(n % 2)) for n in range(40)))
        assert done == 40 and most == 3 * BIG and room.octets == 0

    asyncio.run(main())


def test_short_summaries_wait_for_nobody() -> None:
    async def main() -> None:
        room = Room(BIG)
        async with room.entry(BIG):
            async with asyncio.timeout(1), room.entry(LONG) as entry:
                entry.resize(LONG)
                assert room.octets == BIG
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), room.entry(BIG):
                    pass
        async with asyncio.timeout(1), room.entry(BIG):
            assert room.octets == BIG, "whoever gave up holds nothing"

    asyncio.run(main())


def test_what_fails_gives_its_room_back() -> None:
    async def main() -> None:
        room = Room(BIG)
        for _ in range(3):
            with pytest.raises(ValueError):
                async with room.entry(-1) as entry:
                    entry.resize(2 * BIG)
                    raise ValueError
        assert room.octets == 0

    asyncio.run(main())
