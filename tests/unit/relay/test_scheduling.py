"""fastmail.relay.scheduling: who is tried when, with how many connections, and what each attempt teaches."""

import math
import time
from typing import Any

import pytest

from fastmail.model.errors import CorruptData
from fastmail.model.esmtp import Rcpt
from fastmail.queue import routes
from fastmail.queue.model import LOCAL, Job
from fastmail.queue.schedule import Schedule, Schedules
from fastmail.relay.attempt import Attempt
from fastmail.relay.outcomes import Said
from fastmail.relay.scheduling import CLOSING, DOWN, GREY, PATIENCE, WINDOW, Destination, Most, Scheduler
from fastmail.smtp.client import Reply


class Line:
    """A spool in memory: jobs by destination, due at once."""

    def __init__(self, **jobs: int) -> None:
        self.jobs = {
            name: [Job(1, n, at, name, [Rcpt(f"x@{name}")], 0) for n in range(count)]
            for at, (name, count) in enumerate(jobs.items())
        }

    def destinations(self) -> dict[str, int]:
        return {name: 0 for name, jobs in self.jobs.items() if jobs}

    def due(self, name: str, now: float, most: int, under_way: Any) -> tuple[list[Job], int]:
        free = [job for job in self.jobs[name] if not under_way(job.key) and not job.paused and job.due <= now]
        return free[:most], 1 if len(free) > most else 0

    def job(self, key: bytes) -> Job | None:
        return next((job for jobs in self.jobs.values() for job in jobs if job.key == key), None)


def scheduler(line: Line, per: int = 20, all_: int = 500, lines: list[str] | None = None) -> Scheduler:
    table = routes.parse(lines or [], [])
    one = Scheduler(line, table, Schedules(table, Schedule()), Most(per, all_))  # type: ignore[arg-type]
    one.look()
    return one


def begun(one: Scheduler) -> dict[str, int]:
    """How many connections are begun to each destination."""
    found: dict[str, int] = {}

    def start(destination: Destination) -> None:
        found[destination.name] = found.get(destination.name, 0) + 1

    one.begin(start)
    return found


def done(code: int, broken: bool = False, closing: bool = False) -> Attempt:
    return Attempt([Said(Reply(code, "", ""))], None, broken, closing)


def test_a_job_is_under_way_once() -> None:
    one = scheduler(Line(far=3))
    far = one.destinations["far"]
    assert begun(one) == {"far": 2} and begun(one) == {}
    taken = [one.next(far) for _ in range(4)]
    assert [job.item for job in taken if job is not None] == [0, 1, 2] and taken[3] is None
    one.look()  # the spool has all three still
    assert far.due <= time.time() and one.next(far) is None


def test_a_window_is_what_memory_holds() -> None:
    one = scheduler(Line(far=10 * WINDOW))
    begun(one)
    assert len(one.destinations["far"].window) == WINDOW == len(one.destinations["far"].busy)


def test_a_job_that_was_held_dropped_moved_or_put_off_is_passed_over() -> None:
    """Commands change jobs that are in a window already."""
    line = Line(far=6)
    one = scheduler(line)
    far = one.destinations["far"]
    begun(one)
    held, dropped, moved, later, good, last = line.jobs["far"]
    held.paused = True
    line.jobs["far"].remove(dropped)
    moved.destination = "else"
    later.due = int(time.time()) + 1000
    assert one.next(far) is good and one.next(far) is last and one.next(far) is None
    assert far.busy == {good.key, last.key}
    held.paused, later.due = False, 0
    line.jobs["far"] = [held, later]
    far.due = 0.0
    assert one.next(far) is held and one.next(far) is later, "released, they are tried"


def test_a_job_is_attempted_as_it_is_in_the_queue() -> None:
    line = Line(far=1)
    one = scheduler(line)
    begun(one)
    (known,) = line.jobs["far"]
    line.jobs["far"] = [Job(1, known.item, known.number, "far", [Rcpt("left@far")], 0, attempts=3)]
    found = one.next(one.destinations["far"])
    assert found is not None and found.attempts == 3 and found.recipients[0].address == "left@far"


def test_a_job_that_cannot_be_read_stops_nobody() -> None:
    line = Line(far=2)
    one = scheduler(line)
    begun(one)
    whole, first = line.job, line.jobs["far"][0].key

    def job(key: bytes) -> Job | None:
        if key == first:
            raise CorruptData("damaged")
        return whole(key)

    line.job = job  # type: ignore[method-assign]
    found = one.next(one.destinations["far"])
    assert found is line.jobs["far"][1] and one.next(one.destinations["far"]) is None


def test_connections_grow_with_success_and_shrink_with_trouble() -> None:
    one = scheduler(Line(far=100), per=4)
    far = one.destinations["far"]
    for _ in range(50):
        one.learn(far, done(250))
    assert far.limit == 4 and far.good
    begun(one)
    assert far.streams == 4
    one.learn(far, done(451))
    assert far.limit == 2 and far.put_off == 1
    for _ in range(5):
        one.learn(far, done(451))
    assert far.limit == 1, "never less"


def test_hosts_that_take_nothing_are_asked_slower_and_slower() -> None:
    one = scheduler(Line(far=1))
    far = one.destinations["far"]
    pauses = []
    for _ in range(9):
        one.learn(far, done(451, broken=True))
        pauses.append(round(max(0.0, far.down_until - time.monotonic())))
    assert pauses == [0, 2, 4, 8, 16, 32, 60, 60, 60] and not far.good


def test_greylisting_costs_little() -> None:
    one = scheduler(Line(far=1))
    far = one.destinations["far"]
    for n in range(PATIENCE + 2):
        one.learn(far, done(451))
        assert far.down_until - time.monotonic() <= (GREY if n >= PATIENCE else 0)
    one.learn(far, done(421, broken=True, closing=True))
    assert CLOSING - 1 < far.down_until - time.monotonic() <= CLOSING


def test_a_refusal_for_good_teaches_nothing() -> None:
    one = scheduler(Line(far=1))
    far = one.destinations["far"]
    before = far.limit, far.put_off, far.good
    one.learn(far, done(550))
    assert (far.limit, far.put_off, far.good) == before


def test_a_dead_destination_costs_one_try_now_and_then() -> None:
    one = scheduler(Line(far=10), lines=["quick smtp:10.0.0.1 retry=10s"])
    far = one.destinations["far"]
    for n in range(len(DOWN) + 1):
        one.set_down(far, "no answer")
        pause = min(DOWN[min(n, len(DOWN) - 1)], Schedule().steps[0])
        assert pause - 1 < far.down_until - time.monotonic() <= pause
    assert begun(one) == {}
    far.down_until = 0.0
    assert begun(one) == {"far": 1}, "one connection, until it answers"
    quick = Destination("smtp:10.0.0.1:25")
    one.set_down(quick, "no answer")
    assert quick.down_until - time.monotonic() <= 10, "no longer than its route says"


def test_an_administrator_s_wish_comes_before_what_is_known() -> None:
    one = scheduler(Line(far=2))
    one.set_down(one.destinations["far"], "no answer")
    assert begun(one) == {}
    one.want("far")
    one.want("nowhere")
    assert begun(one) == {"far": 2}


def test_a_fifth_is_for_those_who_took_mail() -> None:
    line = Line(**{f"new{n}": 5 for n in range(10)}, good=5)
    one = scheduler(line, all_=10)
    one.learn(one.destinations["good"], done(250))
    found = begun(one)
    assert found.pop("good") == 2 and sum(found.values()) == 8
    assert list(found) == [f"new{n}" for n in (9, 8, 7, 6)], "of strangers the newest first"


def test_room_is_found_again_when_a_stream_ends() -> None:
    one = scheduler(Line(far=5, near=5), all_=2, per=1)
    assert begun(one) == {"near": 1}, "one of two is for those who took mail"
    one.end(one.destinations["near"])
    assert sum(begun(one).values()) == 1


def test_trouble_of_the_spool_leaves_the_count_right() -> None:
    """What was begun before it is counted, and the rest is not."""
    line = Line(one=5, two=5)
    one = scheduler(line)
    due, asked = line.due, []

    def fails(name: str, *args: Any) -> tuple[list[Job], int]:
        asked.append(name)
        if len(asked) > 1:
            raise OSError("the disk")
        return due(name, *args)

    line.due = fails  # type: ignore[method-assign, assignment]
    started: list[str] = []
    with pytest.raises(OSError):
        one.begin(lambda destination: started.append(destination.name))
    assert sum(d.streams for d in one.destinations.values()) == len(started) == 2


def test_destinations_without_mail_are_forgotten() -> None:
    line = Line(far=1, kept=1)
    one = scheduler(line)
    begun(one)
    for name in ("far", "kept"):
        job = one.next(one.destinations[name])
        assert job is not None
        one.ended(one.destinations[name], job)
        one.end(one.destinations[name])
        one.learn(one.destinations[name], done(250))
        line.jobs[name].clear()
        one.destinations[name].due = math.inf
    one.forget({"kept"})
    assert set(one.destinations) == {"kept"}
    line.jobs["far"].append(Job(1, 9, 0, "far", [], 0))
    one.look()
    assert one.destinations["far"].good, "that it took mail is remembered"


def test_this_server_is_always_good() -> None:
    one = scheduler(Line(**{LOCAL: 1}))
    one.learn(one.destinations[LOCAL], done(451, broken=True))
    assert one.destinations[LOCAL].good
