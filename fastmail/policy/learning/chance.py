"""How much a message looks like spam, from how often its words were in spam and in ham: Robinson's estimate for each
word and Fisher's method to combine them ("A Statistical Approach to the Spam Problem", Linux Journal 107, 2003), as
SpamBayes and its successors do.

It says 0.5 where nothing is known, and where as much speaks for a message as against it. Pure functions.
"""

import math
from collections.abc import Iterable, Sequence

STRENGTH = 0.45  # of the assumption that a word says nothing, in messages
NOTHING = 0.5
LEAST = 0.1  # how far from NOTHING a word has to be to count
CLUES = 150  # words that count, those that say most
HAM, SPAM = 0.2, 0.8  # up to and from here on a message is called so


def of_word(spam: int, ham: int, all_spam: int, all_ham: int) -> float:
    """Robinson's f(w): the chance that a message with this word is spam. ``spam``, ``ham``: messages that had it, of
    ``all_spam`` and ``all_ham``."""
    in_spam = min(spam / all_spam, 1.0) if all_spam else 0.0
    in_ham = min(ham / all_ham, 1.0) if all_ham else 0.0
    if not in_spam + in_ham:
        return NOTHING
    seen = spam + ham
    return (STRENGTH * NOTHING + seen * in_spam / (in_spam + in_ham)) / (STRENGTH + seen)


def clues(chances: Iterable[float]) -> list[float]:
    """Those that say most."""
    told = [one for one in chances if abs(one - NOTHING) >= LEAST]
    return sorted(told, key=lambda one: (-abs(one - NOTHING), one))[:CLUES]


def combined(chances: Sequence[float]) -> float:
    """Fisher's method over both hypotheses: 0 is surely no spam, 1 surely spam."""
    if not chances:
        return NOTHING
    against = chi_square(-2.0 * sum(math.log1p(-one) for one in chances), len(chances))
    for_it = chi_square(-2.0 * sum(math.log(one) for one in chances), len(chances))
    return (1.0 + for_it - against) / 2.0


def chi_square(value: float, pairs: int) -> float:
    """The chance of a sum at least as large as ``value`` with 2 * ``pairs`` degrees of freedom."""
    half = value / 2.0
    term = total = math.exp(-half)
    for number in range(1, pairs):
        term *= half / number
        total += term
    return min(total, 1.0)


def points(chance: float, spam: float, ham: float) -> float:
    """What a chance adds to a message's score: up to ``spam`` from SPAM on, down to ``ham`` (below 0) from HAM down,
    and nothing between."""
    if chance > SPAM:
        return spam * (chance - SPAM) / (1.0 - SPAM)
    return ham * (HAM - chance) / HAM if chance < HAM else 0.0
