"""One structured event a line, as logfmt (``time=... event=... key=value``) or JSON, on standard error.

Promise: values from peers are escaped and cut to 200 characters, so no peer can forge a line. Never raises: a log
that can not be written is not worth a session.
"""

import json
import os
import re
import sys
import time
from functools import lru_cache
from typing import Any

_QUOTED = re.compile(r'[" =\\]')  # characters that a value needs quotes for
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


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else str(value)
    text = text[:200]
    if text and text.isprintable() and not _QUOTED.search(text):
        return text
    return json.dumps(text)


def event(name: str, level: str = "info", /, **fields: Any) -> None:
    """Write one event. Values may be anything that has a str()."""
    if LEVELS[level] < _level:
        return
    now = time.time()
    stamp = f"{_second(int(now))}.{int(now * 1000) % 1000:03d}Z"
    shown = {k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in fields.items() if v is not None}
    if _format == "json":
        safe = {k: v if isinstance(v, int | float | bool) else str(v)[:200] for k, v in shown.items()}
        line = json.dumps({"time": stamp, "level": level, "event": name, "pid": os.getpid(), **safe})
    else:
        line = f"time={stamp} level={level} event={name} pid={os.getpid()}"
        line += "".join(f" {k}={_plain(v)}" for k, v in shown.items())
    try:
        sys.stderr.write(line + "\n")
    except (OSError, ValueError):
        pass
