"""Cases of known growth, which show that the harness tells them apart."""

from tests.support.growth import Case


def _pairs(n: int) -> int:
    return sum(1 for a in range(n) for b in range(n) if a == b)


def _finds(text: bytes) -> list[int]:
    return [text.find(b"b", start) for start in range(0, len(text), 256)]


LINEAR = Case("harness: a loop", 4000, lambda n: n, lambda n: sum(k & 1 for k in range(n)))
SORTED = Case("harness: sorted", 4000, lambda n: [(k * 7919) % 104729 for k in range(n)], sorted)
QUADRATIC = Case("harness: a loop in a loop", 60, lambda n: n, _pairs)
FAST_QUADRATIC = Case("harness: find in C", 200_000, lambda n: b"a" * n, _finds)

CASES = [LINEAR, SORTED, QUADRATIC, FAST_QUADRATIC]
