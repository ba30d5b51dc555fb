"""Sizes and times as people write them: "25 MiB", "30m"."""

import re
import time
from typing import Any

_SIZES = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20}
_SIZES |= {"g": 1 << 30, "gb": 1 << 30, "gib": 1 << 30}
HOUR = 3600
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Octets of "25 MiB" and the like; ValueError says what is expected."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text.strip())
    if match is None or match.group(2).lower() not in _SIZES:
        raise ValueError(f'must be a size such as 1048576 or "25 MiB", not "{text}"')
    return int(match.group(1)) * _SIZES[match.group(2).lower()]


def parse_time(value: Any) -> float:
    """Seconds of "30m" and the like."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
    if match is None:
        raise ValueError(f'must be a time such as 90 or "30m", not "{value}"')
    return float(match.group(1)) * _TIMES[match.group(2) or "s"]


def hour_ends(now: float) -> str:
    """When the clock hour is over that ``now`` (s since 1970) is in, for people."""
    return time.strftime("%H:%M UTC", time.gmtime((int(now) // HOUR + 1) * HOUR))
