"""Robinson's estimate and Fisher's method: what is known of them."""

import math
import random

import pytest

from fastmail.policy.learning import chance


def test_words_that_nothing_is_known_of_say_nothing() -> None:
    assert chance.of_word(0, 0, 100, 100) == chance.of_word(0, 0, 0, 0) == 0.5
    assert chance.of_word(10, 10, 100, 100) == 0.5
    assert chance.combined([]) == 0.5 and chance.combined([0.5] * 40) == pytest.approx(0.5)


def test_a_word_is_never_sure() -> None:
    assert 0 < chance.of_word(0, 1000, 1000, 1000) < 0.001
    assert 0.999 < chance.of_word(1000, 0, 1000, 1000) < 1
    assert chance.of_word(1, 0, 1000, 1000) < chance.of_word(5, 0, 1000, 1000) < chance.of_word(50, 0, 1000, 1000)


def test_how_many_of_each_were_learned_does_not_matter() -> None:
    """A word in one of ten in both kinds says nothing, though there was more of one kind."""
    assert chance.of_word(100, 10, 1000, 100) == pytest.approx(0.5)
    assert chance.of_word(7, 3, 0, 100) < 0.5, "counts that are too high after something went: still a chance"
    assert 0 < chance.of_word(50, 1, 10, 10) < 1


def test_chi_square_is_what_tables_say() -> None:
    """Upper tails for 2, 10 and 20 degrees of freedom at 5 %."""
    for value, degrees in ((5.991, 2), (18.307, 10), (31.410, 20)):
        assert chance.chi_square(value, degrees // 2) == pytest.approx(0.05, abs=0.0005)
    assert chance.chi_square(0.0, 5) == 1.0 and chance.chi_square(10_000.0, chance.CLUES) == 0.0


def test_evidence_adds_up_and_cancels_out() -> None:
    assert chance.combined([0.99] * 20) > 0.999 and chance.combined([0.01] * 20) < 0.001
    assert chance.combined([0.99] * 10 + [0.01] * 10) == pytest.approx(0.5)
    assert chance.combined([0.9]) < chance.combined([0.9] * 3)
    rng = random.Random(7)
    for _ in range(100):
        some = [rng.uniform(0.0005, 0.9995) for _ in range(rng.randint(1, chance.CLUES))]
        found = chance.combined(some)
        assert 0 <= found <= 1 and not math.isnan(found)
        assert chance.combined([1 - one for one in some]) == pytest.approx(1 - found, abs=1e-9)


def test_clues_are_those_that_say_most() -> None:
    found = chance.clues([0.5, 0.59, 0.41, 0.7, 0.001, *[0.9] * 500])
    assert len(found) == chance.CLUES and found[0] == 0.001 and set(found) == {0.001, 0.9}
    assert chance.clues([0.5, 0.59, 0.41]) == []


def test_points() -> None:
    assert [chance.points(one, 6.0, -1.5) for one in (0.8, 0.5, 0.2)] == [0.0, 0.0, 0.0]
    assert chance.points(1.0, 6.0, -1.5) == pytest.approx(6.0) and chance.points(0.0, 6.0, -1.5) == pytest.approx(-1.5)
    assert chance.points(0.9, 6.0, -1.5) == pytest.approx(3.0) and chance.points(0.1, 6.0, -1.5) == pytest.approx(-0.75)
