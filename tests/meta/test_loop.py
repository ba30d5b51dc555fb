"""`make check`, `make test` and `make test-short` together run every test, and none twice."""

import ast
import re
from itertools import product
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from tests.conftest import FOLDERS
from tests.support.server import PROTOCOLS

ROOT = Path(__file__).parents[2]
MARKERS = ("journey", "integration", "peer", "root", "counted", "harness", "alone", "slow")
MAKEFILE = (ROOT / "Makefile").read_text()


def parts() -> dict[str, str]:
    """Name and marker expression of each part."""
    named = dict(re.findall(r"(?m)^([A-Z_]+) := ((?:not|alone|harness|slow|\().*)$", MAKEFILE))
    found = re.findall(r"""(?m)^\t(?:nice -n \d+ )?\$\(PYTEST\) .*?-m (?:"\$\((\w+)\)"|(\w+))$""", MAKEFILE)
    return {one or two: named.get(one, two) for one, two in found}


def test_every_test_is_in_one_part() -> None:
    every = parts()
    assert len(every) == 7
    for values in product([False, True], repeat=len(MARKERS)):
        has = dict(zip(MARKERS, values, strict=True))
        if has["counted"] and (has["harness"] or has["alone"]):
            continue  # nothing is both
        runs = [
            name
            for name, text in every.items()
            if Expression.compile(text).evaluate(has.__getitem__)  # type: ignore[arg-type]
        ]
        assert len(runs) == 1, (has, runs)


def test_what_the_quick_part_does_not_collect_is_of_another_part() -> None:
    """A folder that is ignored has nothing but tests with the marker of its name."""
    assert set(re.findall(r"--ignore=tests/(\w+)", MAKEFILE)) == FOLDERS
    assert set(MARKERS) >= FOLDERS


def test_no_test_is_counted_and_more(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        names = {marker.name for marker in item.iter_markers()}
        assert not ("counted" in names and names & {"harness", "alone"}), item.nodeid


def test_every_marker_is_explained(pytestconfig: pytest.Config) -> None:
    explained = {line.partition(":")[0].partition("(")[0] for line in pytestconfig.getini("markers")}
    assert set(MARKERS) <= explained


def toured(path: Path) -> str:
    """The text of a file's tests that have the marker ``tour``, and of the functions that they may call."""
    text = path.read_text()
    kept = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            marked = any("tour" in ast.unparse(one) for one in node.decorator_list)
            if marked or not node.name.startswith("test_"):
                kept.append(ast.unparse(node))
    return "\n".join(kept)


def test_the_tour_speaks_every_protocol() -> None:
    """It is all that a second Python sees of a server that runs."""
    files = [path for path in (ROOT / "tests" / "journey").glob("test_*.py") if "mark.tour" in path.read_text()]
    text = "\n".join(map(toured, files))
    assert {one for one in PROTOCOLS if f"ports['{one}']" in text} == set(PROTOCOLS)
    assert 'JOURNEYS="tour or integration"' in (ROOT / ".ci" / "run").read_text()
