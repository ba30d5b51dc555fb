"""No two files import each other, directly or through others: what a file needs can be read without what needs it."""

import ast
from pathlib import Path

import pytest

PACKAGES = ["fastmail.imap", "fastmail.net", "fastmail.pop3", "fastmail.relay", "fastmail.smtp"]
ROOT = Path(__file__).parents[2]


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by name."""
    found = {}
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.Module, known: dict[str, Path]) -> set[str]:
    """The modules among ``known`` that a file imports anywhere: within functions too, and for its types alone."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in inner}
    return found & known.keys()


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in reach:
        for name in reach:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {tuple(sorted(b for b in reach if b in reach[a] and a in reach[b])) for a in reach}
    return [list(group) for group in sorted(groups) if group]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_imports_what_imports_it(package: str) -> None:
    known = modules(package)
    assert len(known) > 1
    graph = {name: imported(ast.parse(path.read_text()), known) - {name} for name, path in known.items()}
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    known = {name: Path() for name in ("p", "p.a", "p.b", "p.c")}
    one = imported(ast.parse("if TYPE_CHECKING:\n    from p.b import B\n"), known)
    two = imported(ast.parse("def f():\n    from p import c\n    import os\n"), known)
    three = imported(ast.parse("import p.a\n"), known)
    assert (one, two, three) == ({"p.b"}, {"p.c"}, {"p.a"})
    assert circles({"p.a": one, "p.b": two, "p.c": three, "p": set()}) == [["p.a", "p.b", "p.c"]]
    assert circles({"p.a": one, "p.b": two, "p.c": set(), "p": {"p.a"}}) == []
