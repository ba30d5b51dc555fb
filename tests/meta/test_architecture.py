"""ARCHITECTURE.md keeps up with the code: its files and functions exist, its layers are those that import-linter
checks, its journeys are short, and each word of its glossary is used."""

import re
import tomllib

import pytest

from tests.support.sources import PACKAGE, ROOT, text

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
STEPS = 15  # files of a journey that one sitting can follow
FILE = re.compile(r"`([\w./-]+\.(?:py|pyx|pxd|pyi|h|md|toml))`|\b(docs/[\w.]+\.md|pyproject\.toml)")
STEP = re.compile(r"^\| \d+ \| `([^`]+)` \| (.+?) \| (.+?) \|$")
WORD = re.compile(r"(?m)^\| ([\w ]+) \| (.+) \|$")


def files() -> list[str]:
    return sorted({one or two for one, two in FILE.findall(TEXT)})


def journeys() -> list[list[tuple[str, list[str]]]]:
    """(file, names in it) of each step, for each table of steps."""
    out: list[list[tuple[str, list[str]]]] = [[]]
    for line in TEXT.splitlines():
        step = STEP.match(line)
        if step is not None:
            out[-1].append((step[1], re.findall(r"`([\w.]+)`", step[2])))
        elif out[-1]:
            out.append([])
    return [one for one in out if one]


def glossary() -> list[tuple[str, str]]:
    start = TEXT.index("## Glossary")
    return [found for found in WORD.findall(TEXT[start:]) if found[0] != "word"]


@pytest.mark.parametrize("name", files())
def test_files_exist(name: str) -> None:
    assert (PACKAGE / name).exists() or (ROOT / name).exists()


def test_functions_of_the_journeys_exist() -> None:
    found = journeys()
    assert len(found) > 5
    for journey in found:
        for file, names in journey:
            source = text(PACKAGE / file)
            assert names, file
            for name in names:
                last = name.rpartition(".")[2]
                assert re.search(rf"(?m)(?:\bdef|\bclass) {last}\b|^{last}\b.*=", source), f"{name} is not in {file}"


def test_journeys_are_short_and_visit_no_file_twice() -> None:
    for journey in journeys():
        names = [file for file, _ in journey]
        assert len(names) <= STEPS and len(set(names)) == len(names), names


def test_layers_are_those_that_are_checked() -> None:
    """The two blocks of layers, from the left column, and the contracts of import-linter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {one["containers"][0]: one["layers"] for one in contracts}
    blocks = re.findall(r"(?s)```text\n(.+?)```", TEXT)
    shown = [[re.split(r"\s{2,}", line)[0] for line in block.strip().splitlines()] for block in blocks]
    assert shown == [layers["fastmail"], layers["fastmail.store.local"]]


def test_words_of_the_glossary_are_used_and_told_once() -> None:
    words = [word for word, _ in glossary()]
    assert len(words) > 50 and len(set(words)) == len(words)
    sources = [text(path).lower() for ending in ("py", "pyx") for path in PACKAGE.rglob(f"*.{ending}")]
    code = "\n".join(set().union(*map(str.split, sources)))
    for word in words:
        parts = word.lower().split()
        assert all(re.search(rf"(?<![a-z]){part}", code) for part in parts), word


def test_lines_fit() -> None:
    assert [line for line in TEXT.splitlines() if len(line) > 120] == []
