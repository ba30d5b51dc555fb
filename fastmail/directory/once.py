"""Complaints about rows of a source. A source is read again and again, so the same bad row is met at each look.

Promise: a process logs each complaint once, and MOST of them; the counter ``directory.bad_rows`` has them all. What is
remembered is bounded: past MOST, further complaints are counted only, and the log says so once.
"""

import threading
from typing import Any

from fastmail.telemetry import log
from fastmail.telemetry.counters import count

MOST = 1000  # complaints that a process logs
_said: set[int] = set()
_lock = threading.Lock()  # sources are read on threads of their own


def event(event: str, /, **fields: Any) -> None:
    """Log a complaint, unless this process did before."""
    count("directory.bad_rows")
    key = hash((event, *((name, str(value)) for name, value in fields.items())))
    with _lock:
        if key in _said or len(_said) > MOST:
            return
        _said.add(key)
        full = len(_said) > MOST
    if full:
        log.event("directory.more", "warning", then=f"{MOST} bad rows were named; more of them are counted only")
        return
    log.event(event, "warning", **fields)


def forget() -> None:
    """Let each complaint be logged again, as in a new process. For tests."""
    with _lock:
        _said.clear()
