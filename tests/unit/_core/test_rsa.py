"""RSA with PKCS #1 v1.5 by instructions for long products: beside Python's numbers, and beside cryptography."""

import hashlib
import random
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from fastmail._core.rsa import Public, able, suits

needs = pytest.mark.skipif(not able(), reason="this processor has no such instructions")
SIZES = (1024, 1536, 2048, 2560, 3072, 3584, 4096)
SIGNED = bytes.fromhex("3031300d060960864801650304020105000420")
DIGEST = hashlib.sha256(b"signed").digest()


@cache
def private(bits: int) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


def public(bits: int) -> Public:
    numbers = private(bits).public_key().public_numbers()
    return Public(numbers.n, numbers.e)


def edged(bits: int, rng: random.Random) -> int:
    """A number of words that are mostly 0 or full, where carries go far."""
    words = (0, (1 << 64) - 1, 1 << rng.randrange(64), rng.getrandbits(64))
    return sum(rng.choices(words, (4, 4, 1, 2))[0] << at for at in range(0, bits, 64))


def moduli(bits: int, rng: random.Random) -> list[int]:
    """Odd ones of so many bits: any, those next to both ends, and those whose words are nearly all of one bit."""
    top = 1 << (bits - 1)
    near = [top + 1, 2 * top - 1, 2 * top - (1 << 64) + 1, top + (1 << (bits // 2)) - 1]
    made = [rng.getrandbits(bits) for _ in range(6)] + [edged(bits, rng) for _ in range(12)]
    return [*near, *(one | top | 1 for one in made)]


@needs
@pytest.mark.parametrize("bits", SIZES)
def test_powers_are_those_of_python(bits: int) -> None:
    rng = random.Random(bits)
    for n in moduli(bits, rng):
        key = Public(n, 65537)
        ends = [0, 1, 2, n - 1, n - 2, n // 2, n - (1 << 64), (1 << 64) - 1, (1 << (bits - 1)) - 1, 1 << (bits - 64)]
        others = [rng.randrange(n) for _ in range(10)] + [edged(bits, rng) % n for _ in range(10)]
        for s in ends + others:
            assert key.held(s.to_bytes(bits // 8, "big")) == pow(s, 65537, n), (n, s)


@needs
@pytest.mark.parametrize("bits", [1024, 2048, 3072])
def test_a_signature_of_another_implementation(bits: int) -> None:
    octets = private(bits).sign(b"signed", PKCS1v15(), SHA256())
    key = public(bits)
    assert key.verify(octets, SIGNED + DIGEST)
    assert not key.verify(octets, SIGNED + hashlib.sha256(b"other").digest())
    assert not key.verify(octets, DIGEST)
    for at in range(0, bits // 8, 7):
        changed = bytearray(octets)
        changed[at] ^= 1 << at % 8
        assert not key.verify(bytes(changed), SIGNED + DIGEST)


@needs
def test_the_frame_counts_to_its_last_octet() -> None:
    """Each octet of the padding is compared: a signature of nearly the right message is none (RFC 8017 9.2)."""
    numbers = private(1024).private_numbers()
    n, d, key = numbers.public_numbers.n, numbers.d, public(1024)
    whole = b"\0\1" + b"\xff" * (128 - 3 - len(SIGNED) - 32) + b"\0" + SIGNED + DIGEST

    def signature(message: bytes) -> bytes:
        return pow(int.from_bytes(message, "big"), d, n).to_bytes(128, "big")

    assert key.verify(signature(whole), SIGNED + DIGEST)
    for at in range(1, 128):
        wrong = bytearray(whole)
        wrong[at] ^= 0x80 >> (at == 1)
        assert not key.verify(signature(bytes(wrong)), SIGNED + DIGEST), at
    short = b"\0\1" + b"\xff" * 8 + b"\0" + SIGNED + DIGEST  # with what follows left to whoever forges (CVE-2006-4339)
    assert not key.verify(signature(short.ljust(128, b"\1")), SIGNED + DIGEST)


@needs
def test_what_is_no_signature_by_its_length_or_size() -> None:
    octets, key = private(1024).sign(b"signed", PKCS1v15(), SHA256()), public(1024)
    n = private(1024).public_key().public_numbers().n
    for wrong in (b"", octets[1:], octets[:-1], b"\0" + octets, octets + b"\0", bytes(1), bytes(512), bytes(600)):
        assert not key.verify(wrong, SIGNED + DIGEST)
        assert key.held(wrong) is None
    same = int.from_bytes(octets, "big") + n
    for large in (n, n + 1, (1 << 1024) - 1, *([same] if same < 1 << 1024 else [])):
        assert key.held(large.to_bytes(128, "big")) is None
        assert not key.verify(large.to_bytes(128, "big"), SIGNED + DIGEST)
    for long in (b"", bytes(118), bytes(128), bytes(4096)):  # what the key has no room for
        assert not key.verify(octets, long)


def test_keys_that_do_not_suit() -> None:
    good = (1 << 2047) + 1
    assert suits(good, 65537) == able()
    for modulus, exponent in ((good, 3), (good + 1, 65537), (1 << 2047, 65537), ((1 << 2046) + 1, 65537),
                              ((1 << 2048) + 1, 65537), ((1 << 511) + 1, 65537), ((1 << 4607) + 1, 65537),
                              ((1 << 1039) + 1, 65537), (1, 65537), (0, 65537)):  # fmt: skip
        assert not suits(modulus, exponent)
        with pytest.raises(ValueError, match="no such key"):
            Public(modulus, exponent)
