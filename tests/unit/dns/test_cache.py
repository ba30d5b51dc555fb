"""What is remembered, and for how long."""

import time

from fastmail.dns import cache
from fastmail.dns.interface import FAILED, FOUND, Answer


def test_it_is_bounded_and_gives_up_what_was_used_least() -> None:
    kept = cache.Cache(100_000)
    later = time.monotonic() + 60
    for n in range(2_000):
        kept.put((f"n{n}.test", "TXT"), Answer(FOUND, (b"x" * 100,), until=later))
        kept.get(("n0.test", "TXT"))
    assert kept.held <= 100_000
    assert kept.get(("n0.test", "TXT")) and kept.get(("n1999.test", "TXT")) and not kept.get(("n1.test", "TXT"))


def test_a_large_answer_does_not_stay_beyond_the_bound() -> None:
    kept = cache.Cache(1_000)
    kept.put(("a.test", "TXT"), Answer(FOUND, (b"x" * 5_000,), until=time.monotonic() + 60))
    assert (len(kept), kept.held) == (0, 0)


def test_answers_are_forgotten_in_time() -> None:
    kept = cache.Cache()
    kept.put(("a.test", "A"), Answer(FOUND, ("192.0.2.1",), until=time.monotonic() - 1))
    assert kept.get(("a.test", "A")) is None and kept.held == 0
    now = time.monotonic()
    for ttl, found, seconds in (
        (0, True, 5),
        (60, True, 60),
        (1 << 30, True, 3600),
        (1 << 30, False, 900),
        (-1, False, 60),
    ):
        assert seconds - 1 < cache.until(ttl, found) - now < seconds + 1


def test_failures_can_be_forgotten_alone() -> None:
    kept = cache.Cache()
    later = time.monotonic() + 60
    kept.put(("a.test", "A"), Answer(FOUND, ("192.0.2.1",), until=later))
    kept.put(("b.test", "A"), Answer(FAILED, until=later))
    kept.forget(failures=True)
    assert len(kept) == 1
    kept.put(("a.test", "A"), Answer(FOUND, (), until=later))
    kept.forget()
    assert kept.held == 0
