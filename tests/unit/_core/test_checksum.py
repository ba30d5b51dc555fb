"""The checksum is zlib's, for every length and place, by instructions of the processor and without them."""

import random
import zlib

import pytest

from fastmail._core.checksum import able, crc32, crc32_of

CHECK = 0xCBF43926  # of "123456789": the check value of CRC-32 in catalogues


def test_check_value() -> None:
    assert crc32(b"123456789") == CHECK
    assert crc32(b"") == 0
    assert crc32(b"", 7) == 7


@pytest.mark.parametrize("size", [*range(300), 511, 512, 513, 4096, 65537, (1 << 18) - 1, 1 << 18, (1 << 18) + 79])
def test_as_zlib(size: int) -> None:
    chance = random.Random(size)
    data = memoryview(chance.randbytes(size + 7))
    for at in range(7 if size < 5000 else 1):  # instructions must not depend on where the octets lie
        start = chance.getrandbits(32)
        assert crc32(data[at : at + size], start) == zlib.crc32(data[at : at + size], start)


def test_one_bit() -> None:
    """A change of any single bit is found, wherever it is among the registers."""
    data = bytearray(random.Random(1).randbytes(200))
    right = crc32(data)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        assert crc32(data) != right
        data[bit // 8] ^= 1 << bit % 8


def test_parts() -> None:
    data = random.Random(2).randbytes(1000)
    for cut in (0, 1, 63, 64, 65, 500, 1000):
        parts: list[bytes | bytearray | memoryview] = [data[:cut], bytearray(data[cut:]), memoryview(b"end")]
        assert crc32_of(parts, 5) == zlib.crc32(data + b"end", 5)
    assert crc32_of([], 5) == 5


def test_no_octets() -> None:
    for call in (lambda: crc32("text"), lambda: crc32_of([b"a", 1])):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            call()


def test_able() -> None:
    """On the machines that this is built and tested on there are such instructions."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        words = file.read().split()
    assert able() == ("pclmulqdq" in words or "crc32" in words)
