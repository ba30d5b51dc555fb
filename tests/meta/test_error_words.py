"""Errors of the system are shown to people in words: what an administrator reads has no `[Errno 2]` in it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import PACKAGE, parsed, statements, text

SHOWN = ["app", "backup", "cli", "migrate", "net"]  # packages whose errors people read at a prompt
OF_THE_SYSTEM = {"OSError", "ConnectionError"}
FILES = sorted(path for name in SHOWN for path in (PACKAGE / name).rglob("*.py"))


def raw(source: str) -> Iterator[int]:
    """Lines in which an error that may be one of the system becomes a text as it is."""
    if not any(name in source for name in OF_THE_SYSTEM):
        return
    for handler in statements(parsed(source)):
        if not isinstance(handler, ast.ExceptHandler) or handler.name is None or handler.type is None:
            continue
        caught = {one.id for one in ast.walk(handler.type) if isinstance(one, ast.Name)}
        if not caught & OF_THE_SYSTEM:
            continue
        for node in ast.walk(handler):
            if not isinstance(node, ast.FormattedValue | ast.Call):
                continue
            shown: ast.AST | None = None
            if isinstance(node, ast.FormattedValue):
                shown = node.value
            elif isinstance(node.func, ast.Name) and node.func.id == "str":
                shown = node.args[0]
            if isinstance(shown, ast.Name) and shown.id == handler.name:
                yield node.lineno


def test_the_search_finds_them() -> None:
    body = "try:\n    pass\nexcept (ValueError, OSError) as error:\n    "
    assert list(raw(body + 'fail(f"no: {error}")')) == [4]
    assert list(raw(body + "fail(str(error))")) == [4]
    assert not list(raw(body + "fail(in_words(error))"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_error_is_shown_as_it_is(path: Path) -> None:
    allowed = {"app/confine.py"}  # logged, and of a system call without words of its own
    if str(path.relative_to(PACKAGE)) not in allowed:
        assert not list(raw(text(path))), "use model.errors.in_words"
