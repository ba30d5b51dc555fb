"""The program's own source files, for tests that look into them: each is read, parsed and walked once for all tests."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fastmail"


class Function(NamedTuple):
    """A function or method: its name, and the lines that it begins and ends in."""

    name: str
    first: int
    last: int


class Outline(NamedTuple):
    """What most tests ask of a module. ``imports``: (module, name) of what it imports anywhere, the name empty where
    the module itself is imported."""

    docstring: str
    functions: tuple[Function, ...]
    imports: tuple[tuple[str, str], ...]


@cache
def text(path: Path) -> str:
    """A file as it is."""
    return path.read_text()


def parsed(source: str) -> ast.Module:
    """The tree of a source. It is not kept: all of them together have more than half a million nodes."""
    collecting = gc.isenabled()
    gc.disable()  # a tree has no garbage, and walking over the half of it again and again takes longer than parsing
    try:
        return ast.parse(source)
    finally:
        if collecting:
            gc.enable()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements of a tree, and what has statements in it (handlers of exceptions, cases): no expressions."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, field, None)
            if isinstance(inner, list):  # a lambda has one expression for a body, and so has a conditional
                todo += inner


def outlined(source: str) -> Outline:
    """The outline of a source."""
    tree = parsed(source)
    functions, imports = [], []
    for node in statements(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.append(Function(node.name, node.lineno, node.end_lineno or 0))
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
    return Outline(ast.get_docstring(tree) or "", tuple(functions), tuple(imports))


@cache
def outline(path: Path) -> Outline:
    """The outline of a file."""
    return outlined(text(path))
