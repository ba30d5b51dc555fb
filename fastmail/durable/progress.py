"""How far the conversion of an environment has come, for whoever waits for it: `fastmail upgrade` says so, a server
that starts does not.

``told`` is None, or called with (path, rows done, rows in all): when a conversion begins, then EVERY seconds at most,
and at its end. Rows are counted where they are read.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Told = Callable[[str, int, int], None]
EVERY = 0.2  # s
told: Told | None = None
_path = ""
_done = _all = 0
_last = 0.0


def begin(path: str, rows: int) -> None:
    """A conversion of so many rows begins."""
    global _path, _done, _all
    _path, _done, _all = path, 0, rows
    _tell()


def each(rows: Iterable[T], weight: int = 1) -> Iterator[T]:
    """The same rows, counted as they are taken. ``weight``: rows of the conversion that each of them stands for."""
    global _done
    for row in rows:
        yield row
        _done += weight
        if told is not None and _done % 256 < weight and time.monotonic() - _last >= EVERY:
            _tell()


def end() -> None:
    """All of it is done and durable."""
    global _done
    _done = _all
    _tell()


def _tell() -> None:
    global _last
    _last = time.monotonic()
    if told is not None:
        told(_path, min(_done, _all), _all)
