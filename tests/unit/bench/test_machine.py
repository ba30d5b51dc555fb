"""fastmail.bench.machine: figures of this machine and of processes are those that the system tells."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastmail.bench import machine

SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(1, flush=True); time.sleep(60)"


def test_a_disk_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    found = machine.measure(str(tmp_path), 0.05)
    assert found.cores == len(os.sched_getaffinity(0)) and found.kernel == os.uname().release
    assert min(found.appends, found.files, found.files8, found.hashed) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_process_counts_with_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None and parent.stdout.readline() == b"1\n"
            first, second = machine.children(parent.pid)
            assert first == parent.pid
            assert machine.pss(parent.pid) > machine.pss(second) > 0
            assert machine.cpu(parent.pid) > machine.cpu(second) >= 0
        finally:
            os.killpg(parent.pid, 9)


def test_the_cpu_of_children_that_ended_counts() -> None:
    before = machine.cpu(os.getpid())
    spin = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert machine.cpu(os.getpid()) - before > 0.25


def test_memory_at_rest_is_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the same is not enough: a server gives memory back only after a while. Its share of files that others map
    too may change all the time."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    figures = {0: 900, 1: 500, 2: 500, 3: 500, 4: 301}

    def pss(pid: int, kind: str = "Pss") -> int:
        own = figures.get(int(clock[0]), 300)
        return own if kind == "Pss_Anon" else own + 7000 + int(clock[0]) % 3 * 500

    monkeypatch.setattr(machine, "pss", pss)
    monkeypatch.setattr(machine.time, "sleep", sleep)
    monkeypatch.setattr(machine.time, "monotonic", lambda: clock[0])
    assert machine.pss_at_rest(1, 5.0) == 7300 and clock[0] == 9.0


def test_memory_that_never_rests_is_told_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "pss", lambda pid, kind="Pss": time.perf_counter_ns())
    assert machine.pss_at_rest(1, 5.0, patience=0.0) > 0
