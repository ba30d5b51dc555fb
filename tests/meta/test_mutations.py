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


def test_a_mutation_changes_one_place() -> None:
    for mutation in ALL:
        assert run.changed(mutation) != (ROOT / mutation.file).read_text(), mutation.name


def test_the_tests_of_a_mutation_are_there() -> None:
    assert [mutation.name for mutation in ALL if not mutation.tests] == []
    for name, one in ((mutation.name, one) for mutation in ALL for one in mutation.tests):
        assert is_there(one), (name, one)


def is_there(test: str) -> bool:
    """A harness, or a file of tests and the test in it that is named."""
    words = shlex.split(test)
    if words[0] == "-m":
        return (ROOT / (words[1].replace(".", "/") + ".py")).exists()
    path, _, name = words[0].partition("::")
    if not (ROOT / path).exists():
        return False
    parts = name.partition("[")[0].split("::") if name else []
    return all(re.search(rf"(def|class) {part}\b", (ROOT / path).read_text()) for part in parts)


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
