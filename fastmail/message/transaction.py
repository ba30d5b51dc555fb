"""Ids of mail transactions: by its id a delivery that is repeated is known again (store.interface.Delivery).

An id is 16 octets: a number(8, big-endian), then the salt(8) of the process that made it. The number is the time in us
since 1970 times 4096, with the low bits of the process's id; it grows within a process, so ids sort by time, and it
counts on where the clock stands or is set back. Two processes may give the same number; they never have the same salt.
"""

import os
import struct
import time

SIZE = 16
_U64 = struct.Struct(">Q")
_last = 0
_salt, _process = os.urandom(8), os.getpid() & 0xFFF


def _renew() -> None:
    """A process that was forked has a salt of its own."""
    global _salt, _process
    _salt, _process = os.urandom(8), os.getpid() & 0xFFF


os.register_at_fork(after_in_child=_renew)


def new_number() -> int:
    """A number that this process has not given before."""
    global _last
    _last = max(_last + 4096, int(time.time() * 1e6) << 12 | _process)
    return _last


def salt() -> bytes:
    """This process's salt."""
    return _salt


def make(number: int, salt: bytes) -> bytes:
    """The id of a transaction with that number of a process with that salt (empty: made before there were salts)."""
    return _U64.pack(number) + (salt or bytes(8))


def new_id() -> bytes:
    """The id of a transaction that begins."""
    return _U64.pack(new_number()) + _salt


def number_of(ident: bytes) -> int:
    """The number in an id."""
    return int(_U64.unpack_from(ident)[0])


def oldest(age: float) -> bytes:
    """What sorts before every id that was made in the last ``age`` seconds."""
    return _U64.pack(max(0, int((time.time() - age) * 1e6)) << 12)
