"""Small faults that are put into a copy of the program, one at a time, to see whether a named test notices them.

Each room of this package has a list ``MUTATIONS``; ``everything`` joins them. A mutation is named for the promise that
it breaks, not for the lines that keep the promise today: when the lines change, ``old`` and ``new`` change with them,
and the name stays. `make test-mutations` runs all of them; `python -m tests.mutations.run --help` says the rest.
"""

import importlib
import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """One fault, and the tests that must fail because of it.

    ``file`` is relative to the root of the tree. ``old`` occurs in it exactly once and is replaced by ``new``; with an
    empty ``new`` it is left out. Each of ``tests`` is a pytest node id (``tests/unit/x.py::test_y``, with options of
    pytest behind it if need be) or a command (``-m tests.crash.kill --rounds 2``); the mutation is caught when one of
    them fails. ``slow``: a run takes more than about 20 s, so it is left out of the sample that CI takes.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    slow: bool = False

    @property
    def compiled(self) -> bool:
        """True if the program has to be built again."""
        return self.file.endswith((".pyx", ".pxd", ".h"))


def everything() -> list[Mutation]:
    """The mutations of every room, by room and then in the order in which the room lists them."""
    found: list[Mutation] = []
    for room in sorted(one.name for one in pkgutil.iter_modules(__path__)):
        found += getattr(importlib.import_module(f"{__name__}.{room}"), "MUTATIONS", [])
    return found
