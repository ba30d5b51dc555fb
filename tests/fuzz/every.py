"""Fuzzes every parser of the compiled core, and whole sessions of every protocol, each in a process of its own:
`make fuzz-every`, with AddressSanitizer and UBSan built in, or `python -m tests.fuzz.every --seconds 60 --seed 1`.

Exit code 1 when something was found; seeds of parsers are kept in `tests/fuzz/cases`.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.parsers import CASES, PARSERS
from tests.fuzz.sessions import PROTOCOLS


def fuzz(kind: str, what: str, seconds: float, seed: int) -> bool:
    """False when something was found."""
    which = ["tests.fuzz.parsers", what] if kind == "parser" else ["tests.fuzz.sessions", "--protocol", what]
    safe = ["-P"] if sys.flags.safe_path else []
    process = subprocess.Popen(
        [sys.executable, *safe, "-m", *which, "--seconds", str(seconds), "--seed", str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = process.communicate()[0].strip()
    good = process.returncode == 0
    print(
        f"{kind} {what}: {said}" if good else f"FOUND {kind} {what}, exit code {process.returncode}:\n{said}",
        flush=True,
    )
    note = CASES / f".{what}.{process.pid}"
    if note.exists():
        with open(CASES / what, "a", encoding="ascii") as file:
            file.write(f"{int(note.read_text())}\n")
        note.unlink()
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="how many at once")
    parser.add_argument("--only", choices=["parser", "session"], help="one kind")
    options = parser.parse_args()
    every = [("parser", name) for name in PARSERS] + [("session", name) for name in PROTOCOLS]
    every = [(kind, name) for kind, name in every if options.only in (None, kind)]
    with ThreadPoolExecutor(options.jobs) as pool:
        good = list(pool.map(lambda one: fuzz(one[0], one[1], options.seconds, options.seed), every))
    print(f"{len(every)} fuzzed, {good.count(False)} findings")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
