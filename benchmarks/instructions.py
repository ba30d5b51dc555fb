"""Instructions of a program, as valgrind's callgrind counts them: the same whatever else the machine does.

``counted`` starts a program of this package under valgrind; in that process a Counter tells what lies between ``begin`` and
``end``, and the program prints a line of JSON [name, instructions] for each of its cases. valgrind has no SHA extensions
of the processor, so hashes cost more instructions there than they cost time. (tests.support.growth counts growth.)
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.growth import COUNTER, ROOT

BY_THREAD = "--separate-threads=yes"  # of callgrind: a file for each thread that counted


def able() -> bool:
    return shutil.which("valgrind") is not None and shutil.which("gcc") is not None


def counted(module: str, key: bytes = b"", options: Sequence[str] = ()) -> dict[str, int]:
    """Instructions of each case of a program; none where valgrind is missing or fails. ``key``: what the program finds
    in the file of that name; ``options``: more of callgrind's."""
    with tempfile.TemporaryDirectory() as place:
        source, library = Path(place, "counter.c"), Path(place, "counter.so")
        source.write_text(COUNTER)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        Path(place, "key").write_bytes(key)
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--log-file=/dev/null"]
        command += [*options, f"--callgrind-out-file={place}/counts", sys.executable, "-m", module, place]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "0"}, check=False
        )
        if done.returncode:
            print(done.stderr[-1000:], file=sys.stderr)
            return {}
        return {str(name): int(count) for name, count in map(json.loads, done.stdout.splitlines())}


class Counter:
    """In the process that valgrind watches. ``place``: the directory that the program was given."""

    def __init__(self, place: Path) -> None:
        self._place, self._files = place, 0
        self._library = ctypes.CDLL(str(place / "counter.so"))
        self._library.start()

    def begin(self) -> None:
        """Count from here on: all threads, or with BY_THREAD the one that calls."""
        self._library.begin()

    def end(self) -> None:
        """Write down what was counted; ``read`` tells it."""
        self._library.end()

    def read(self) -> int:
        """Instructions of the next ``end`` that was not read."""
        self._files += 1
        found = self._place / f"counts.{self._files}"
        if not found.exists():
            (found,) = self._place.glob(f"counts.{self._files}-*")  # BY_THREAD
        return int(found.read_text().rpartition("\ntotals: ")[2].split()[0])
