"""The handles of an index's tables, as code uses them. layout.py describes their rows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fastmail._core.leaves import Table
from fastmail.durable.segments import SegmentReader
from fastmail.durable.transaction import Reading


def _never() -> bool:
    return False


class Tables(NamedTuple):
    """Handles of the tables of one environment, and what code that uses them needs beside them."""

    page: Any
    msg: Any
    name: Any
    subs: Any
    pop: Any
    note: Any
    kw: Any
    gone: Any
    todo: Any
    trash: Any
    ref: Any
    dead: Any
    moved: Any
    seg: Any
    held: Any
    kept: Any
    given: Any
    acct: Any
    alog: Any
    place: Any
    member: Any
    thread: Any
    meta: Any
    reader: SegmentReader
    segments: bool = False  # is new content kept in segments?
    shared: bool = False  # are UIDs given under Dovecot's locks, as its lists say?
    # number of recoveries; before each, rows may have been seen that were then lost (durable.recovery)
    recovered: int = 0
    whole: Callable[[Reading, bytes], Table | None] | None = None  # Environment.table, for reading many rows
    tight: Callable[[], bool] = _never  # Environment.tight: has the data file grown into the reserve?
