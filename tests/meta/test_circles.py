"""No circle of imports within a package: two files that import each other are one file, or need a third. Imports for types
only count too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    "fastmail.net",
    "fastmail.pop3",
    "fastmail.relay",
    "fastmail.smtp",
]


def modules(package: str) -> dict[str, Path]:
    """The modules of a package and of those within it, by name."""
    found = {}
    for path in (ROOT / package.replace(".", "/")).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def imported(source: str, known: set[str]) -> set[str]:
    """Those of the known modules that a source text imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{one.name}" for one in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found & known


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in their order; empty when there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := walk(name, []):
            return found
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_leads_back_to_itself(package: str) -> None:
    known = modules(package)
    assert len(known) > 3, "the package is not there"
    graph = {name: imported(path.read_text(), set(known)) - {name} for name, path in known.items()}
    assert circle(graph) == []


def test_circles_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import X\ndef f():\n    from p import b\n"
    assert imported(text, {"p", "p.a", "p.b"}) == {"p.a", "p.b"}
