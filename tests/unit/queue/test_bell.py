"""The queue's bell: who empties the queue hears of every change, in this process and in others, and nobody else's."""

import asyncio
from pathlib import Path

from fastmail.queue.bell import BELL, Bell


async def heard(count: list[int], wanted: int) -> None:
    for _ in range(200):
        if count[0] >= wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{count[0]} rings, and not {wanted}")


def test_it_is_heard_here_and_from_others(tmp_path: Path) -> None:
    async def main() -> None:
        count = [0]

        def ring() -> None:
            count[0] += 1

        runner, other = Bell(str(tmp_path)), Bell(str(tmp_path))
        other.ring()  # nobody listens yet
        runner.listen(ring)
        assert (tmp_path / BELL).is_socket() and (tmp_path / BELL).stat().st_mode & 0o777 == 0o600
        runner.ring()
        assert count == [1], "at once in the process that listens"
        other.ring()
        await heard(count, 2)
        again = Bell(str(tmp_path))  # a runner in the place of one that died
        again.listen(ring)
        other.ring()
        await heard(count, 3)
        for one in (again, runner, other):
            one.close()
        other.ring()  # what is committed while a process ends
        await asyncio.sleep(0.05)
        assert count == [3]
        Bell(str(tmp_path)).ring()  # its socket is still there, and nobody behind it

    asyncio.run(main())


def test_one_that_is_alone_hears_itself(tmp_path: Path) -> None:
    async def main() -> None:
        count = [0]
        bell = Bell(str(tmp_path / "none"))
        bell.listen(lambda: count.__setitem__(0, count[0] + 1))
        bell.ring()
        assert count == [1]
        bell.close()

    asyncio.run(main())
