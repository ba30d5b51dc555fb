"""Twice the input costs at most two and a half times the instructions, for everything that a stranger can make long."""

from pathlib import Path

import pytest

from tests.property.growth import harness
from tests.support import growth

pytestmark = [pytest.mark.counted, pytest.mark.timeout(1800)]  # the first case waits for all of them: minutes
CASES = growth.cases()
KNOWN_TO_GROW = {harness.QUADRATIC.name, harness.FAST_QUADRATIC.name}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, growth.Outcome]:
    """A child a core measures all cases that this run selected, because its start costs more than most cases."""
    why = growth.missing()
    if why:
        pytest.skip(why)
    wanted = [item.callspec.params["name"] for item in request.session.items
              if item.path == Path(__file__) and hasattr(item, "callspec")]  # fmt: skip
    return growth.measure(wanted, tmp_path_factory.mktemp("growth"))


@pytest.mark.parametrize("name", sorted(CASES.keys() - KNOWN_TO_GROW))
def test_twice_the_input_costs_twice_the_work(name: str, outcomes: dict[str, growth.Outcome]) -> None:
    outcome = outcomes[name]
    assert not outcome.error, outcome.error
    assert outcome.growth < growth.LIMIT, f"instructions at n, 2n, 4n: {outcome.counts}"


@pytest.mark.parametrize("name", sorted(KNOWN_TO_GROW))
def test_the_harness_sees_what_is_quadratic(name: str, outcomes: dict[str, growth.Outcome]) -> None:
    outcome = outcomes[name]
    assert not outcome.error, outcome.error
    assert outcome.growth > growth.LIMIT, f"instructions at n, 2n, 4n: {outcome.counts}"


def test_the_body_of_a_message_in_47_messages_is_read_once(tmp_path: Path) -> None:
    """Were it read for each of them, it would cost 47 times as much."""
    why = growth.missing()
    if why:
        pytest.skip(why)
    names = ["scan: a body in one message", "scan: a body in 47 messages"]
    found = growth.measure(names, tmp_path)
    one, many = found[names[0]], found[names[1]]
    assert not one.error and not many.error
    assert many.counts[-1] < 1.1 * one.counts[-1], (one.counts, many.counts)
