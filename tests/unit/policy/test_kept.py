"""Results that are kept for as long as what they rest on counts."""

import time

import pytest

from fastmail.policy.kept import Kept


def test_results_end_with_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept: Kept[str, list[str]] = Kept(2)
    kept.put("a", [], 110.0)
    kept.put("past", ["x"], 100.0)
    assert kept.get("a") == [] and kept.get("past") is None and kept.get("b") is None
    now = 110.0
    assert kept.get("a") is None


def test_the_oldest_goes_first() -> None:
    kept: Kept[int, int] = Kept(2)
    for n in (1, 2, 1, 3):
        kept.put(n, n * 10, float("inf"))
    assert [kept.get(n) for n in (1, 2, 3)] == [10, None, 30]
