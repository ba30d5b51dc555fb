"""Rows of a benchmark: rates, medians and CPU come from what was measured."""

import os
import time

import pytest

from fastmail.bench import machine
from fastmail.bench.journeys import Bench, Row, Target


def bench(rounds: int, pid: int = 0) -> tuple[Bench, list[Row]]:
    told: list[Row] = []
    return Bench(Target("127.0.0.1", {}, "u%d@x", "p", "big@x", pid), rounds, told.append), told


def test_a_row_is_the_median_of_its_rounds_with_the_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    one, told = bench(3)
    clock = [0.0]
    waits = iter([0.0625, 0.25, 0.125])
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def wait() -> None:
        clock[0] += next(waits)

    one.measure("waiting", 10, wait)
    (row,) = told
    assert (row.lowest, row.rate, row.highest) == (40, 80, 160)
    assert row.cpu_ms is None and row.p50_ms is None  # nothing is made up where nothing was measured


def test_latencies_are_those_that_the_work_returned() -> None:
    one, told = bench(2)
    one.measure("some", 100, lambda: [n / 1000 for n in range(1, 101)])
    assert told[0].p50_ms == 51 and told[0].p99_ms == 100


def test_cpu_is_that_of_the_process_that_was_named() -> None:
    one, told = bench(1, os.getpid())

    def work() -> None:
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    one.measure("busy", 10, work)
    assert told[0].cpu_ms is not None and 15 < told[0].cpu_ms < 60


def test_memory_and_cpu_of_this_process_can_be_read() -> None:
    assert machine.pss(os.getpid()) > 1 << 20
    assert machine.children(os.getpid())[0] == os.getpid()
    assert machine.cpu(1 << 30) == 0.0  # no such process: nothing
