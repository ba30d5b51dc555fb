"""Imports of the whole program: no module leads back to itself, type-only imports (TYPE_CHECKING) included.

Two files that import each other are one file, or need a third. Which package and room may import which is checked by
import-linter (pyproject.toml)."""

from pathlib import Path

from tests.support.sources import ROOT, Outline, outline, outlined

Graph = dict[str, set[str]]


def modules(root: Path) -> dict[str, Path]:
    """{name: file} of all modules of the program."""
    out = {}
    for path in sorted((root / "fastmail").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        out[name.removesuffix(".__init__")] = path
    return out


def imported(source: Outline, known: set[str]) -> set[str]:
    """The modules, of those that are known, that a source imports, anywhere in it."""
    return {inner if (inner := f"{module}.{name}") in known else module for module, name in source.imports} & known


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules each of which leads to all others (Tarjan's strongly connected components)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_ones: list[str] = []
    out: list[list[str]] = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        open_ones.append(name)
        for other in sorted(graph[name]):
            if other not in numbers:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in open_ones:
                lowest[name] = min(lowest[name], numbers[other])
        if lowest[name] == numbers[name]:
            at = open_ones.index(name)
            group = open_ones[at:]
            del open_ones[at:]
            if len(group) > 1 or name in graph[name]:
                out.append(sorted(group))

    for name in graph:
        if name not in numbers:
            visit(name)
    return out


def test_no_module_leads_back_to_itself() -> None:
    every = modules(ROOT)
    assert circles({name: imported(outline(path), set(every)) - {name} for name, path in every.items()}) == []


def test_circles_are_found() -> None:
    known = {"fastmail.x.a", "fastmail.x.b", "fastmail.x.c", "fastmail.x"}
    hidden = "if TYPE_CHECKING:\n    from fastmail.x.a import A\n"
    graph = {
        "fastmail.x": set(),
        "fastmail.x.a": imported(outlined("from fastmail.x import b\n"), known),
        "fastmail.x.b": imported(outlined("def f():\n    import fastmail.x.c\n"), known),
        "fastmail.x.c": imported(outlined(hidden), known),
    }
    assert graph["fastmail.x.a"] == {"fastmail.x.b"} and graph["fastmail.x.c"] == {"fastmail.x.a"}
    assert circles(graph) == [["fastmail.x.a", "fastmail.x.b", "fastmail.x.c"]]
    graph["fastmail.x.c"] = set()
    assert circles(graph) == []
