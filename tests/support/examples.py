"""How much random input a test tries: all that it asks for, or less in the loop of a minute (`make check`).

`make check` sets ``FASTMAIL_EXAMPLES=few``; `make test` and CI run the full numbers. What is left out is always more of
the same: another seed, another example. A case of its own is never left out.
"""

import os

FEW = os.environ.get("FASTMAIL_EXAMPLES") == "few"
DEFAULT = 100  # examples of hypothesis where a test does not say how many
SEEDS = 1  # of a test that plays a whole session for each seed


def some(count: int) -> int:
    """``count`` examples of hypothesis or rounds of a loop; a tenth of them, and at least ten, in `make check`."""
    return min(count, max(10, count // 10)) if FEW else count


def seeds(count: int) -> range:
    """The seeds that a test is run with: ``count`` of them, the first one in `make check`."""
    return range(min(count, SEEDS) if FEW else count)
