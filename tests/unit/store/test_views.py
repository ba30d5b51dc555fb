"""Who has a view of a mailbox: in this worker and in others, and sessions that come while something is removed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastmail.store import views
from fastmail.store.views import Views

KEY, OTHER = b"k" * 12, b"o" * 12


@contextmanager
def removal(one: Views, mine: int = 0) -> Iterator[bool]:
    yield one.begin_removal(KEY, mine)
    one.end_removal(KEY)


def workers(path: Path, count: int = 3) -> list[Views]:
    every = [Views() for _ in range(count)]
    for number, one in enumerate(every):
        one.start(str(path), number, count)
    return every


def test_views_of_the_same_worker_are_counted() -> None:
    async def main() -> None:
        one = Views()
        assert not one.elsewhere(KEY, 0)
        await one.begin(KEY)
        assert one.elsewhere(KEY, 0) and not one.elsewhere(KEY, 1) and not one.elsewhere(OTHER, 0)
        await one.begin(KEY)
        assert one.elsewhere(KEY, 1)
        one.end(KEY)
        assert not one.elsewhere(KEY, 1)
        one.end(KEY)
        assert not one.elsewhere(KEY, 0)

    asyncio.run(main())


def test_views_of_other_workers_show(tmp_path: Path) -> None:
    async def main() -> None:
        one, two, three = workers(tmp_path)
        await two.begin(KEY)
        await two.begin(KEY)
        assert one.elsewhere(KEY, 1) and three.elsewhere(KEY, 0) and not one.elsewhere(OTHER, 0)
        two.end(KEY)
        assert one.elsewhere(KEY, 1)
        two.end(KEY)
        assert not one.elsewhere(KEY, 0)
        await two.begin(KEY)
        again = Views()  # the worker died, and another one took its place
        again.start(str(tmp_path), 1, 3)
        assert not one.elsewhere(KEY, 0)

    asyncio.run(main())


@pytest.mark.parametrize("where", [0, 1])
def test_a_session_waits_for_a_removal_that_did_not_see_it(where: int, tmp_path: Path) -> None:
    async def main() -> None:
        every = workers(tmp_path)
        with removal(every[0]) as kept:
            assert not kept
            coming = asyncio.create_task(every[where].begin(KEY))
            await asyncio.sleep(0.05)
            assert not coming.done()
            await every[where].begin(OTHER)
        await asyncio.wait_for(coming, 1)
        with removal(every[0]) as kept:
            assert kept

    asyncio.run(main())


def test_a_session_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PATIENCE", 0.02)

    async def main() -> None:
        one, two, _ = workers(tmp_path)
        with removal(one):
            await asyncio.wait_for(two.begin(KEY), 1)

    asyncio.run(main())


def test_one_that_gives_up_waiting_leaves_no_view(tmp_path: Path) -> None:
    async def main() -> None:
        one, two, _ = workers(tmp_path)
        with removal(one):
            coming = asyncio.create_task(two.begin(KEY))
            await asyncio.sleep(0.01)
            assert one.elsewhere(KEY, 0)
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            assert not one.elsewhere(KEY, 0)

    asyncio.run(main())


def test_a_command_takes_views_for_granted() -> None:
    one = Views()
    one.beside()
    with removal(one, 1) as kept:
        assert kept
