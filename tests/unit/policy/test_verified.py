"""Unit tests: the memory of good signatures."""

import pytest

from fastmail.policy import verified
from fastmail.policy.verified import Verified


def test_what_was_kept_is_known_by_its_key_alone() -> None:
    memory = Verified()
    assert not memory.knows(b"signature", b"key")
    memory.keep(b"signature", b"key")
    assert memory.knows(b"signature", b"key")
    assert not memory.knows(b"signature", b"other")
    assert not memory.knows(b"another", b"key")
    memory.keep(b"signature", b"other")  # the latest counts
    assert memory.knows(b"signature", b"other")
    assert not memory.knows(b"signature", b"key")


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "MOST", 10)
    memory = Verified()
    for n in range(100):
        memory.keep(b"%d" % n, b"key")
        assert len(memory) <= 20
        assert all(memory.knows(b"%d" % one, b"key") for one in range(max(0, n - 9), n + 1))
    assert not memory.knows(b"79", b"key")
