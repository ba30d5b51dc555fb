"""S22, in all code that sees secrets: none is compared by ``==``, whose time says how much of it was right."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[3] / "fastmail"
SECRET = re.compile(r"password|secret|digest|proof|signature|stored|hashed|token|salted|raw|made|key\b", re.I)
FILES = sorted([*(PACKAGE / "auth").glob("*.py"), PACKAGE / "imap" / "urlauth.py"])


def compared(text: str) -> list[str]:
    """Comparisons of two values by ``==`` or ``!=`` in which a secret takes part."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Eq | ast.NotEq)
        and not any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
        and SECRET.search(ast.unparse(node))
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_s22_no_secret_is_compared_by_equality(path: Path) -> None:
    text = path.read_text()
    found = compared(text)
    assert not found, found
    if "compare_digest(" in text:  # a check of the check: it sees one where there is one
        worse = re.sub(
            r"hmac\.compare_digest\(([^,()]+(?:\([^()]*\))?[^,()]*), ([^()]+(?:\([^()]*\))?[^()]*)\)",
            r"\1 == \2",
            text,
            count=1,
        )
        assert worse == text or compared(worse)
