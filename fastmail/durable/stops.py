"""When processes stopped without finishing what they did: an environment remembers it for those who clean up.

    meta    b"stops"    STOP for each, in order: seconds since 1970

What was begun before ``since`` was finished or undone; what was begun after it, until the process that found out, may
have left files without a commit. Only the last MOST stops are remembered; a reader of another version may ignore them.
"""

import struct
from typing import Any, NamedTuple

from fastmail.durable.transaction import Reading, Txn

STOPS_ROW = b"stops"
STOP = struct.Struct("<QQ")
MOST = 64


class Stop(NamedTuple):
    """One stop, in seconds since 1970."""

    since: int
    until: int


def read(txn: Reading, meta: Any) -> list[Stop]:
    """Return the stops that the environment remembers. A row that cannot be read tells of none."""
    row = bytes(txn.get(STOPS_ROW, db=meta) or b"")
    return [Stop._make(one) for one in STOP.iter_unpack(row)] if len(row) % STOP.size == 0 else []


def note(txn: Txn, meta: Any, stop: Stop) -> None:
    """Remember one more."""
    every = [*read(txn, meta), stop]
    txn.put(STOPS_ROW, b"".join(STOP.pack(*one) for one in every[-MOST:]), db=meta)
