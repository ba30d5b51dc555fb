"""Applies each mutation to a copy of the tree and runs its tests: `make test-mutations`, or
`python -m tests.mutations.run [--list] [--only NAME] [--sample N --seed S] [--jobs N]`.

The tests of a mutation are first run on an unchanged copy, once for all mutations that name the same tests: a test that
fails there proves nothing. Then the copy is changed (and built again where a compiled module changed), and the tests
run with a limit of time. A mutation counts as

- caught, when a test fails (exit status 1);
- missed, when all pass, when they are skipped, or when the time is over before a test has failed;
- broken, when ``old`` is not there exactly once, the change cannot be built, or the tests cannot run or fail without it.

The exit status is 1 unless every mutation is caught.
"""

import argparse
import functools
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutations import Mutation, everything

ROOT = Path(__file__).parents[2]
COPIED = (
    "fastmail",
    "tests",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "setup.py",
    "README.md",
    "SECURITY.md",
)
LIMIT = 300.0  # s for one run of tests
BUILD_LIMIT = 600.0  # s


@dataclass(slots=True)
class Verdict:
    """What became of one mutation. ``said``: the end of what the tests wrote, or why the mutation is broken."""

    mutation: Mutation
    outcome: str
    seconds: float
    said: str = ""


class Broken(Exception):
    """A mutation cannot be tried; the text says why."""


def changed(mutation: Mutation, root: Path = ROOT) -> str:
    """The file of a mutation as it is with the fault. Broken when ``old`` is not there exactly once."""
    path = root / mutation.file
    if not path.exists():
        raise Broken(f"{mutation.file} is not there")
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise Broken(f"its `old` is {text.count(mutation.old)} times in {mutation.file}, and must be once")
    if mutation.old == mutation.new:
        raise Broken("it changes nothing")
    return text.replace(mutation.old, mutation.new)


def copy(where: Path, compiled: bool) -> None:
    """The tree with its built modules; with ``compiled`` also what a build starts from."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, where / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        elif source.exists():
            where.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, where / name)
    if not compiled:
        return
    if (ROOT / "build" / "cython").is_dir():
        shutil.copytree(ROOT / "build" / "cython", where / "build" / "cython")
    built = where / "build" / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    for source in (ROOT / "fastmail").rglob("*.so"):  # newer than every source, so that only what changes is built
        path = built / source.relative_to(ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, path)


def execute(command: list[str], where: Path, limit: float) -> tuple[int | None, str]:
    """(exit status or None when the time was over, the end of what was said). Its children end with it."""
    env = dict(os.environ, PYTHONPATH=str(where), PYTHONDONTWRITEBYTECODE="1")
    with open(where / "said", "w+b") as said:
        process = subprocess.Popen(
            command, cwd=where, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        try:
            os.killpg(process.pid, signal.SIGKILL)  # a test that failed may leave its server behind
        except ProcessLookupError:
            pass
        process.wait()
        said.seek(0)
        return status, said.read().decode("utf-8", "replace")[-3000:]


def test(tests: tuple[str, ...], where: Path) -> tuple[str, str]:
    """Run these until one fails: (``failed``, ``passed``, ``skipped``, ``late`` or ``broken``, what was said)."""
    outcome, told = "passed", ""
    for one in tests:
        words = shlex.split(one)
        if words[0] != "-m":
            words = ["-m", "pytest", "-o", "addopts=", "-q", "-x", "-p", "no:cacheprovider", "--timeout=120", *words]
        status, told = execute([sys.executable, *words], where, LIMIT)
        if status == 1:
            return "failed", told
        if status is None:
            outcome = "late"
        elif status != 0:
            outcome = "broken"
        elif "pytest" in words and not re.search(r"\d+ passed", told):
            outcome = "skipped"
    return outcome, told


class Baseline:
    """Whether tests pass on an unchanged copy; each set of tests is run once."""

    def __init__(self, place: Path) -> None:
        self._where = place / "unchanged"
        self._lock = threading.Lock()
        copy(self._where, False)
        self._known = functools.cache(lambda tests: test(tests, self._where))

    def of(self, tests: tuple[str, ...]) -> tuple[str, str]:
        with self._lock:
            return self._known(tests)


def attempt(mutation: Mutation, place: Path, baseline: Baseline | None) -> Verdict:
    """Try one mutation."""
    begun = time.monotonic()

    def verdict(outcome: str, said: str = "") -> Verdict:
        return Verdict(mutation, outcome, time.monotonic() - begun, said)

    where = place / re.sub(r"\W+", "-", mutation.name)[:60]
    try:
        text = changed(mutation)
        if baseline is not None:
            outcome, said = baseline.of(mutation.tests)
            if outcome != "passed":
                raise Broken(f"without the change its tests are {outcome}:\n{said}")
        begun = time.monotonic()
        copy(where, mutation.compiled)
        path = where / mutation.file
        path.write_text(text)
        if mutation.compiled:
            build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
            status, said = execute(build, where, BUILD_LIMIT)
            if status != 0:
                raise Broken(f"it cannot be built:\n{said}")
        outcome, said = test(mutation.tests, where)
        match outcome:
            case "failed":
                return verdict("caught", said)
            case "broken":
                return verdict("broken", said)
            case _:
                return verdict("missed", f"its tests are {outcome}:\n{said}")
    except Broken as error:
        return verdict("broken", str(error))
    finally:
        shutil.rmtree(where, ignore_errors=True)


def run(mutations: list[Mutation], jobs: int = 1, baseline: bool = True, verbose: bool = False) -> list[Verdict]:
    """Try all of them, ``jobs`` at the same time; prints a line for each as it ends."""
    with tempfile.TemporaryDirectory(prefix="fastmail-mutations-") as place:
        before = Baseline(Path(place)) if baseline else None
        done: list[Verdict] = []
        with ThreadPoolExecutor(jobs) as pool:
            for one in pool.map(lambda mutation: attempt(mutation, Path(place), before), mutations):
                done.append(one)
                print(f"{one.outcome:7} {one.seconds:5.0f} s  {one.mutation.name}", flush=True)
                if one.outcome != "caught" or verbose:
                    print("        " + one.said.strip().replace("\n", "\n        "), flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the mutations with their tests, and nothing is run")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="those whose name has this in it")
    parser.add_argument("--quick", action="store_true", help="without those that take long")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N of them, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="at the same time")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests on an unchanged copy first")
    parser.add_argument("--verbose", action="store_true", help="show what the tests said of those that were caught too")
    options = parser.parse_args()
    chosen = [one for one in everything() if not options.only or any(text in one.name for text in options.only)]
    if options.quick:
        chosen = [one for one in chosen if not one.slow]
    if options.sample:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    if not chosen:
        print("no mutation has such a name")
        return 2
    if options.list:
        for one in chosen:
            print(f"{one.name}\n    {one.file}{' (slow)' if one.slow else ''}\n    " + "\n    ".join(one.tests))
        return 0
    done = run(chosen, options.jobs, not options.no_baseline, options.verbose)
    counts = {outcome: sum(one.outcome == outcome for one in done) for outcome in ("caught", "missed", "broken")}
    print(f"{len(done)} mutations: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 0 if counts["caught"] == len(done) else 1


if __name__ == "__main__":
    sys.exit(main())
