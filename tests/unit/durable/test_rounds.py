"""When a round of operations begins: at once for one that is alone, together for those that come back together."""

from collections.abc import Callable

import pytest

from fastmail.durable import rounds
from fastmail.durable.rounds import FEWEST, LARGEST, MOST_UNWAITED, PATIENCE, PAUSE, Rounds


class Handle:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """A loop whose time only the test moves; each commit takes ``took`` s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.handles: list[Handle] = []
        self.begun: list[list[int]] = []
        monkeypatch.setattr(rounds.time, "monotonic", lambda: self.now)
        self.rounds: Rounds[int] = Rounds(self, self.begun.append)  # type: ignore[arg-type]

    def call_later(self, seconds: float, call: Callable[[], None]) -> Handle:
        self.handles.append(Handle(self.now + seconds, call))
        return self.handles[-1]

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [one for one in self.handles if not one.cancelled and one.at <= end]:
            first = min(due, key=lambda one: one.at)
            self.handles.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = end

    def add(self, *operations: int) -> None:
        for one in operations:
            self.rounds.add(one)

    def commit(self, took: float = PAUSE) -> None:
        self.now += took
        self.rounds.committed()

    def waits(self) -> bool:
        return any(not one.cancelled for one in self.handles)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_one_that_is_alone_never_waits(world: World) -> None:
    for one in range(5):
        world.add(one)
        assert world.begun[-1] == [one] and not world.waits()
        world.commit()
    assert len(world.begun) == 5


def test_those_who_come_during_a_commit_wait_for_those_who_are_committed(world: World) -> None:
    world.add(1, 2, 3)
    assert world.begun == [[1]]
    world.commit()
    assert world.begun == [[1]] and world.waits(), "the client of 1 is expected back"
    world.add(4)
    assert world.begun == [[1], [2, 3, 4]] and not world.waits()
    world.commit()
    world.add(5, 6)
    assert len(world.begun) == 2
    world.add(7)
    assert world.begun[2:] == [[5, 6, 7]]


def test_a_wait_ends_when_nobody_comes(world: World) -> None:
    world.add(1, 2)
    world.commit()
    world.passes(PAUSE / 2)
    assert world.begun == [[1]]
    world.passes(PAUSE / 2)
    assert world.begun == [[1], [2]] and not world.waits()


def test_a_wait_goes_on_while_more_come_but_not_for_long(world: World) -> None:
    world.add(*range(50))
    world.commit(took=3 * PAUSE)
    assert len(world.begun) == 1
    world.add(51)  # the first: with 49 that gathered it makes the 50 that were there
    assert len(world.begun) == 2
    world.commit(took=3 * PAUSE)
    for one in range(100, 120):
        world.add(one)
        world.passes(PAUSE / 2)
        if len(world.begun) == 3:
            break
    waited = (one - 100 + 1) / 2
    assert PATIENCE * 3 <= waited <= (PATIENCE + 1) * 3, "it took as long as two commits, and one pause more"
    assert world.begun[2] == list(range(100, one + 1))


def test_after_waits_in_vain_it_waits_rarely(world: World) -> None:
    skipped = []
    for _ in range(8):
        unwaited = 0
        while True:
            world.begun.clear()
            world.add(1)
            if world.waits():
                world.passes(PAUSE)
                assert world.begun == [[1]]
                world.add(2)
                world.commit()
                skipped.append(unwaited)
                break
            unwaited += 1
            world.add(2)
            world.commit()
            world.rounds.take()
    grown = [min(FEWEST * 2**n, MOST_UNWAITED) for n in range(1, 8)]
    assert [one + 1 for one in skipped[1:]] == pytest.approx(grown, abs=2)


def test_a_wait_that_pays_makes_it_wait_again(world: World) -> None:
    world.add(1, 2)
    world.commit()
    world.passes(PAUSE)  # in vain
    assert world.begun == [[1], [2]]
    for _ in range(2 * FEWEST):
        world.add(3)
        world.commit()
        assert not world.waits()
        world.rounds.take()
    world.commit()
    world.add(4)
    assert world.begun[-1] == [4]
    world.add(5)
    world.commit()
    assert world.waits()
    world.add(6)
    assert world.begun[-1] == [5, 6] and not world.waits()


def test_a_round_is_bounded(world: World) -> None:
    world.add(*range(2 * LARGEST))
    world.commit()
    assert world.begun[1] == list(range(1, LARGEST + 1))
    world.commit()
    world.passes(PAUSE)
    assert world.begun[2] == list(range(LARGEST + 1, 2 * LARGEST)), "none is forgotten"


def test_what_gathered_is_taken_at_the_end(world: World) -> None:
    world.add(1, 2, 3)
    world.commit()
    assert world.waits()
    assert world.rounds.take() == [2, 3] and not world.waits()
    assert world.rounds.take() == [] and world.begun == [[1]]
