"""The list of mutations does not rot: each still finds what it changes, and the tests that it names are there."""

import random
import re
import shlex
from pathlib import Path

import pytest

from tests.mutations import Mutation, everything, run

ROOT = Path(__file__).parents[2]
ALL = everything()


def test_names_are_given_once() -> None:
    names = [one.name for one in ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("mutation", ALL, ids=lambda m: m.name)
def test_a_mutation_changes_one_place(mutation: Mutation) -> None:
    assert run.changed(mutation) != (ROOT / mutation.file).read_text()


@pytest.mark.parametrize("mutation", ALL, ids=lambda m: m.name)
def test_the_tests_of_a_mutation_are_there(mutation: Mutation) -> None:
    assert mutation.tests
    for one in mutation.tests:
        words = shlex.split(one)
        if words[0] == "-m":
            assert (ROOT / (words[1].replace(".", "/") + ".py")).exists(), one
            continue
        path, _, name = words[0].partition("::")
        assert (ROOT / path).exists(), one
        for part in re.split("::", name.partition("[")[0]) if name else ():
            assert re.search(rf"(def|class) {part}\b", (ROOT / path).read_text()), one


@pytest.mark.harness
@pytest.mark.timeout(600)
def test_a_few_are_caught(capfd: pytest.CaptureFixture[str]) -> None:
    """Some quick ones; `make test-mutations` runs all. A list without a known fault in it would prove nothing: one that
    cannot be caught is told from the others."""
    quick = [
        one
        for one in ALL
        if not one.slow and not one.compiled and all(test.startswith("tests/unit/") for test in one.tests)
    ]
    assert len(quick) > 10
    some = random.Random(4).sample(quick, min(3, len(quick)))
    blind = Mutation("a comment", "pyproject.toml", "line-length = 120", "line-length = 121", ("tests/meta/test_mutations.py::test_names_are_given_once",))  # fmt: skip
    lost = Mutation("what is not there", "setup.py", "no such line", "", blind.tests)
    done = run.run([*some, blind, lost], jobs=1)
    assert [one.outcome for one in done] == ["caught"] * len(some) + ["missed", "broken"], capfd.readouterr().out
