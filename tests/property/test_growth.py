"""Twice the input costs at most two and a half times the instructions, for everything that a stranger can make long."""

from pathlib import Path

import pytest

from tests.property.growth import harness
from tests.support import growth

CASES = growth.cases()
KNOWN_TO_GROW = {harness.QUADRATIC.name, harness.FAST_QUADRATIC.name}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, growth.Outcome]:
    """One child measures all cases that this run selected, because its start costs more than most cases."""
    why = growth.missing()
    if why:
        pytest.skip(why)
    wanted = [item.callspec.params["name"] for item in request.session.items
              if item.path == Path(__file__) and hasattr(item, "callspec")]  # fmt: skip
    return growth.measure(wanted, tmp_path_factory.mktemp("growth"))


@pytest.mark.timeout(600)  # the first case waits for all of them
@pytest.mark.parametrize("name", sorted(CASES.keys() - KNOWN_TO_GROW))
def test_twice_the_input_costs_twice_the_work(name: str, outcomes: dict[str, growth.Outcome]) -> None:
    outcome = outcomes[name]
    assert not outcome.error, outcome.error
    assert outcome.growth < growth.LIMIT, f"instructions at n, 2n, 4n: {outcome.counts}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(KNOWN_TO_GROW))
def test_the_harness_sees_what_is_quadratic(name: str, outcomes: dict[str, growth.Outcome]) -> None:
    outcome = outcomes[name]
    assert not outcome.error, outcome.error
    assert outcome.growth > growth.LIMIT, f"instructions at n, 2n, 4n: {outcome.counts}"
