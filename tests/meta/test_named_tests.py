"""What the documentation names as a proof is there: tests, their files, commands and targets of make."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
FUNCTIONS = {name for path in FILES for name in re.findall(r"(?m)^(?:async )?def (test_\w+)", path.read_text())}
TARGETS = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text()))
NAMED = re.compile(r"`((?:make |python -m tests\.|tests/|unit/|property/|journey/|transcript/|test_)[^`]*)`")


def named(document: str) -> list[str]:
    return NAMED.findall((ROOT / document).read_text())


def there(name: str) -> bool:
    if name.startswith("make "):
        return name.split()[1] in TARGETS
    if name.startswith("python -m "):
        return (ROOT / (name.split()[2].replace(".", "/") + ".py")).exists()
    path, _, function = name.partition("::")
    if path.endswith(".py"):
        found = [one for one in FILES if f"/{one.relative_to(ROOT)}".endswith("/" + path)]
        return bool(found) and (not function or any(f"def {function}(" in one.read_text() for one in found))
    if "/" in name:
        return (ROOT / name).exists() or (ROOT / "tests" / name).exists()
    return any(fnmatch(one, name) for one in FUNCTIONS)


@pytest.mark.parametrize("document", ["docs/reliability.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_what_is_named_is_there(document: str) -> None:
    names = named(document)
    assert len(names) > 3
    assert [name for name in names if not there(name)] == []


def test_what_is_not_there_is_told() -> None:
    for name in (
        "make test-nothing",
        "tests/journey/test_none.py",
        "test_s99_*",
        "unit/none/test_x.py",
        "transcript/x",
    ):
        assert not there(name)


# the defence is something that is not there, or not ours, so there is no code to take away
WITHOUT = {
    "S30": "no pattern of a user is compiled",
    "S39": "nothing that a message says is looked up",
    "S46": "hashes of strings are the interpreter's, with its seed",
}


def test_every_class_of_attack_has_a_mutation_or_says_why_not() -> None:
    """A row of SECURITY.md that is built has a mutation by its number, or one of its fellows in the row has."""
    from tests.mutations import everything

    mutated = {int(number) for one in everything() for number in re.findall(r"\bS(\d+)\b", one.name)}
    without = set()
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 5 or not cells[1].startswith("S") or "not built" in cells[3]:
            continue
        numbers = {int(number) for number in re.findall(r"\d+", cells[1])}
        if not numbers & mutated:
            without.add(cells[1])
    assert without == set(WITHOUT)
