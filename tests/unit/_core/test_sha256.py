"""SHA-256 beside hashlib's, by instructions and without."""

import hashlib
import random
from collections.abc import Iterator

import pytest

from fastmail._core import sha256
from fastmail._core.sha256 import Sum

WITH = sha256.able()
SIZES = (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 8191, 8192, 8193, 100_000)


@pytest.fixture(params=[True, False], ids=["instructions", "hashlib"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param and not WITH:
        pytest.skip("this processor has no such instructions")
    sha256.use(request.param)
    yield
    sha256.use(WITH)


@pytest.mark.parametrize("size", SIZES)
def test_a_whole(size: int) -> None:
    data = random.Random(size).randbytes(size)
    made = Sum()
    made.update(data)
    assert made.digest() == hashlib.sha256(data).digest()


def test_cut_anywhere() -> None:
    rng = random.Random(6)
    for _ in range(300):
        data, made, at = rng.randbytes(rng.randrange(400)), Sum(), 0
        while at < len(data):
            size = rng.choice([0, 1, 2, 55, 63, 64, 65, 128, 200])
            made.update(memoryview(data)[at : at + size])
            at += size
            if rng.random() < 0.2:  # what has come so far, and more may come
                assert made.digest() == hashlib.sha256(data[:at]).digest()
        assert made.digest() == hashlib.sha256(data).digest() == made.digest()


def test_octet_by_octet() -> None:
    data, made = bytes(range(256)), Sum()
    for n, octet in enumerate(data, 1):
        made.update(bytearray([octet]))
        assert made.digest() == hashlib.sha256(data[:n]).digest()


def test_one_begun_one_way_ends_that_way() -> None:
    made = Sum()
    made.update(b"one")
    sha256.use(not sha256.able() and WITH)
    made.update(b"two")
    assert made.digest() == hashlib.sha256(b"onetwo").digest()


def test_no_instructions_where_there_are_none() -> None:
    if not WITH:
        with pytest.raises(ValueError, match="no such instructions"):
            sha256.use(True)


@pytest.mark.parametrize("size", SIZES)
def test_at_once(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert sha256.digest(data) == hashlib.sha256(data).digest()
