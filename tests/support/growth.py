"""Counts instructions of calls on inputs that double, so that a test can tell linear work from quadratic work.

Time says little on a busy machine, and a quadratic loop in C is fast on small inputs. So child processes, one a core,
run all cases under valgrind's callgrind, which counts what each call executes; the child starts anew before each call
and has callgrind write the sum after it. A case is called on three inputs: of size n, 2n and 4n, after one call on n / 4
that pays for imports and for patterns that are compiled at first use. Garbage collection is off while a call is counted.

Run as a program, this module is that child: ``valgrind ... python -m tests.support.growth LIBRARY DIRECTORY NAME ...``.
"""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIZES = (1, 2, 4)  # times n
WARM = 4  # the first call, which is not counted, is on n / WARM
LIMIT = 2.5  # times as many instructions for twice the input: linear is 2, n log n is below 2.3, quadratic is 4
CHILDREN = len(os.sched_getaffinity(0))  # that count side by side
SLOWEST = 25.0  # s of CPU for one counted call under valgrind; what takes longer is not linear
START = 60.0  # s of CPU until the child has imported everything

COUNTER = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void begin(void) { CALLGRIND_ZERO_STATS; }
void end(void) { CALLGRIND_DUMP_STATS; }
"""


@dataclass(frozen=True, slots=True)
class Case:
    """``call(make(k))`` is counted for k of n, 2n and 4n.

    ``make`` gives an input whose size is proportional to k; what it does is not counted. Choose n so that ``call``
    takes some hundred thousand instructions or more: a constant part hides growth. Inputs must stay below the limits
    at which the server stops looking, or those limits are all that is tested."""

    name: str
    n: int
    make: Callable[[int], Any]
    call: Callable[[Any], object]


@dataclass(slots=True)
class Outcome:
    """Instructions at n, 2n and 4n; ``error`` when a call raised or did not end."""

    counts: list[int] = field(default_factory=list)
    error: str = ""

    @property
    def growth(self) -> float:
        """The larger of the two steps from a size to its double."""
        return max(after / before for before, after in zip(self.counts, self.counts[1:], strict=False))


def cases() -> dict[str, Case]:
    """Every case of the tables in tests/property/growth, by name."""
    package = importlib.import_module("tests.property.growth")
    found: dict[str, Case] = {}
    for module in pkgutil.iter_modules(package.__path__, "tests.property.growth."):
        for case in importlib.import_module(module.name).CASES:
            assert case.name not in found, f"two cases are called {case.name}"
            found[case.name] = case
    return found


def missing() -> str:
    """Why nothing can be counted here; empty when it can."""
    if shutil.which("valgrind") is None:
        return "valgrind (Debian package valgrind) is not installed"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    probe = subprocess.run(["gcc", "-E", "-x", "c", "-"], input=COUNTER, capture_output=True, text=True)
    return "" if probe.returncode == 0 else "valgrind's header callgrind.h (Debian package valgrind) is missing"


def measure(names: Sequence[str], directory: Path) -> dict[str, Outcome]:
    """Outcomes of these cases. A call that does not end in time fails its case; the others are still measured."""
    source, library = directory / "counter.c", directory / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    shares = [names[one::CHILDREN] for one in range(min(CHILDREN, len(names)))]
    with ThreadPoolExecutor(CHILDREN) as pool:
        found = list(pool.map(_measure, shares, repeat(directory), repeat(library)))
    return {name: outcome for some in found for name, outcome in some.items()}


def _measure(names: Sequence[str], directory: Path, library: Path) -> dict[str, Outcome]:
    """Outcomes of the cases of one child, or of as many as it takes."""
    out: dict[str, Outcome] = {}
    while left := [name for name in names if name not in out]:
        own = Path(tempfile.mkdtemp(dir=directory))
        _run(left, own, library, out)
    return out


def _run(names: Sequence[str], directory: Path, library: Path, out: dict[str, Outcome]) -> None:
    """One child, until it is through or a case has to be given up: then ``out`` says why and the rest is left."""
    child = subprocess.Popen(
        ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no", "--log-file=/dev/null",
         f"--callgrind-out-file={directory}/counts", sys.executable, "-m", "tests.support.growth",
         str(library), str(directory), *names],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONMALLOC": "malloc", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert child.stdout is not None and child.stderr is not None
    reading, errors, buffer = names[0], b"", b""
    deadline = START
    open_ends = [child.stdout, child.stderr]
    try:
        while open_ends:
            ready, _, _ = select.select(open_ends, [], [], 1.0)
            if not ready and _spent(child.pid) > deadline:
                out[reading] = Outcome([], f"a call did not end in {SLOWEST:.0f} s")
                return
            for end in ready:
                data = os.read(end.fileno(), 65536)
                if not data:
                    open_ends.remove(end)
                elif end is child.stderr:
                    errors += data
                else:
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        reading, counts, error = json.loads(line)
                        deadline = _spent(child.pid) + SLOWEST
                        if counts or error:
                            out[reading] = Outcome(counts, error)
        if not set(names) <= out.keys():
            out.setdefault(reading, Outcome([], "the child ended: " + errors.decode(errors="replace")[-2000:]))
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


def _spent(pid: int) -> float:
    """Seconds of CPU of a process: other load does not count, unlike in time."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # utime, stime
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _count(counter: ctypes.CDLL, directory: Path, number: int, call: Callable[[Any], object], given: Any) -> int:
    gc.collect()
    gc.disable()
    counter.begin()
    call(given)
    counter.end()
    gc.enable()
    path = directory / f"counts.{number}"
    text = path.read_text()
    path.unlink()
    return int(text.rpartition("\ntotals: ")[2].split()[0])


def main(library: str, directory: str, *names: str) -> None:
    """The child: a line of JSON [name, counts, error] before each call (without counts) and after each case."""
    table = cases()
    counter = ctypes.CDLL(library)
    gc.collect()
    gc.freeze()  # what was imported is not walked again before each call
    counter.start()
    number = 0
    for name in names:
        case, counts, error = table[name], [], ""
        try:
            case.call(case.make(max(1, case.n // WARM)))
            for times in SIZES:
                print(json.dumps([name, [], ""]), flush=True)
                given = case.make(case.n * times)
                number += 1
                counts.append(_count(counter, Path(directory), number, case.call, given))
        except Exception as failed:
            counts, error = [], f"{type(failed).__name__}: {str(failed)[:500]}"
        print(json.dumps([name, counts, error]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
