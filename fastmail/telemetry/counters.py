"""Process-wide counters: a name, optionally with a label, and a number that only grows.

``count`` costs a dictionary update. ``snapshot`` gives a copy; a worker logs it on SIGUSR1 and when it stops.
"""

from collections import defaultdict
from collections.abc import Iterable

_values: defaultdict[str, int] = defaultdict(int)


def count(name: str, by: int = 1) -> None:
    """Add ``by`` to the counter ``name``, for example ``smtp.accepted``."""
    _values[name] += by


def count_each(names: Iterable[str]) -> None:
    """Add 1 to each of these counters."""
    for name in names:
        _values[name] += 1


def snapshot() -> dict[str, int]:
    """All counters of this process by name."""
    return dict(sorted(_values.items()))
