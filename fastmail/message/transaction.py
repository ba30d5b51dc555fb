"""Ids of mail transactions. When a delivery is repeated, its id shows that it was done before
(store.interface.Delivery).

An id is 16 octets: a number (8, big-endian), then the salt (8) of the process that made it. The number is the time in
µs since 1970 times 4096, with the low bits of the process id. Numbers grow within a process, so ids sort by time; when
the clock stands still or is set back, the number counts on from the last one. Two processes may make the same number,
but never have the same salt.
"""

import os
import struct
import time

SIZE = 16
_U64 = struct.Struct(">Q")
_last = 0
_salt, _process = os.urandom(8), os.getpid() & 0xFFF


def _renew() -> None:
    """Give a forked process its own salt."""
    global _salt, _process
    _salt, _process = os.urandom(8), os.getpid() & 0xFFF


os.register_at_fork(after_in_child=_renew)


def new_number() -> int:
    """Return a number that this process has not used before."""
    global _last
    _last = max(_last + 4096, int(time.time() * 1e6) << 12 | _process)
    return _last


def salt() -> bytes:
    """Return this process's salt."""
    return _salt


def make(number: int, salt: bytes) -> bytes:
    """Return the id of a transaction with that number, from a process with that salt (empty: made before ids had
    salts)."""
    return _U64.pack(number) + (salt or bytes(8))


def new_id() -> bytes:
    """Return the id of a new transaction."""
    return _U64.pack(new_number()) + _salt


def number_of(ident: bytes) -> int:
    """Return the number in an id."""
    return int(_U64.unpack_from(ident)[0])


def oldest(age: float) -> bytes:
    """Return a value that sorts before every id made in the last ``age`` seconds."""
    return _U64.pack(max(0, int((time.time() - age) * 1e6)) << 12)
