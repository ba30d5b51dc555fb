"""Counts the rows of a conversion, so that `fastmail upgrade` can show how far the conversion has come.

``told`` is None (a server that starts shows nothing), or a function that is called with (path, rows done, rows in all):
when a conversion begins, at most every EVERY seconds while it goes on, and at its end. Rows are counted as they are
taken. A process converts one environment at a time, so one count for the module is enough.
"""

import time
from collections.abc import Callable

Told = Callable[[str, int, int], None]
EVERY = 0.2  # s
told: Told | None = None
_path = ""
_done = _all = 0
_last = 0.0


def begin(path: str, rows: int) -> None:
    """Note that a conversion of ``rows`` rows begins."""
    global _path, _done, _all
    _path, _done, _all = path, 0, rows
    _tell()


def count(rows: int) -> None:
    """Note that so many more rows are done."""
    global _done
    _done += rows
    if told is not None and _done % 256 < rows and time.monotonic() - _last >= EVERY:
        _tell()


def end() -> None:
    """Note that the conversion is done and durable."""
    global _done
    _done = _all
    _tell()


def _tell() -> None:
    global _last
    _last = time.monotonic()
    if told is not None:
        told(_path, min(_done, _all), _all)
