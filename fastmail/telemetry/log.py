"""One structured event a line, as logfmt (``time=... event=... key=value``) or JSON, on standard error.

Promise: values from peers are escaped and cut to LONGEST characters, so no peer can forge a line. Never raises: a log
that can not be written is not worth a session.
"""

import json
import os
import re
import sys
import time
from functools import lru_cache
from typing import Any

LONGEST = 320  # characters of a value: the longest address (64@255) is seen whole
_QUOTED = re.compile(r'[" =\\]')  # characters that a value needs quotes for
_BARE = re.compile(rf"[!#-<>-\[\]-~]{{1,{LONGEST}}}")  # ASCII without them, as nearly every value is
_format = "text"
_level = 1
LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}


def setup(format: str = "text", level: str = "info") -> None:
    """Choose ``text`` or ``json``, and the lowest level that is written."""
    global _format, _level
    _format = format
    _level = LEVELS[level]


@lru_cache(1)
def _second(now: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _as_json(value: Any) -> Any:
    return value if isinstance(value, int | float) else _text(value)[:LONGEST]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else _text(value)
    if _BARE.fullmatch(text):
        return text
    text = text[:LONGEST]
    if text and text.isprintable() and not _QUOTED.search(text):
        return text
    return json.dumps(text)


def event(name: str, level: str = "info", /, **fields: Any) -> None:
    """Write one event. Values may be anything that has a str()."""
    if LEVELS[level] < _level:
        return
    now = time.time()
    stamp = f"{_second(int(now))}.{int(now * 1000) % 1000:03d}Z"
    if _format == "json":
        shown = {key: _as_json(value) for key, value in fields.items() if value is not None}
        line = json.dumps({"time": stamp, "level": level, "event": name, "pid": os.getpid(), **shown})
    else:
        line = f"time={stamp} level={level} event={name} pid={os.getpid()}"
        for key, value in fields.items():
            if value is not None:
                line += f" {key}={value if type(value) is int else _plain(value)}"
    try:
        sys.stderr.write(line + "\n")
    except (OSError, ValueError):
        pass
