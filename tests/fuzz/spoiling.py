"""Damages octets, as a hostile peer or a disk does it."""

import random

from tests.fuzz.sessions import SPICE


def spoil(rng: random.Random, data: bytes) -> bytes:
    """What a hostile peer, or a disk, makes of it."""
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        at = rng.randint(0, len(data))
        what = rng.randrange(6)
        if what == 0:
            data = data[:at] + rng.choice(SPICE) + data[at:]
        elif what == 1:
            data = data[:at] + data[at + rng.randint(1, 20) :]
        elif what == 2 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif what == 3:
            data = data[:at]
        elif what == 4:
            part = data[at : at + rng.randint(1, 60)]
            data = data[:at] + part * rng.choice([2, 3, 50]) + data[at:]
        else:
            data = data[:at] + rng.randbytes(rng.randint(1, 12)) + data[at:]
    return data


def some(rng: random.Random, data: bytes) -> "bytes | bytearray | memoryview":
    """As whoever calls may have it; each is a block of memory of its own, so that a step beyond is seen."""
    return rng.choice([bytes, bytearray, memoryview])(bytearray(data))  # type: ignore[no-any-return, operator]
