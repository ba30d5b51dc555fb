"""Stored layouts have one definition each, whose readers use names: no offset or format of a reader's own."""

import ast
import re
from functools import cache

from tests.support.sources import PACKAGE, parsed, text

KEEPS = ["store", "durable", "queue"]  # packages that keep something on the disk
# slices of texts and lists, by file: no part of a stored layout
TEXTS = {
    "durable/layouts.py": {"walk.found.damage[:3]"},
    "durable/salvage.py": {"name[:20]", "key[:20]"},
    "queue/routes.py": {"words[2:]", "place[5:]", "pattern[5:]", "text[5:]"},
    "store/fulltext.py": {"ends[at:at + 3]"},
    "store/local/index/layout.py": {"raw[:MOST_OF_A_NAME - 40]", "MailboxRow.__struct_fields__[2:]"},
    "store/local/maildir/names.py": {"info[2:]", "host[:64]"},
}
# numbers that are no part of a layout, or whose width is a name
NUMBERS = {
    "durable/journal.py",  # random
    "durable/segments.py",  # the seed
    "queue/contents.py",  # of a length that segments.py names
    "store/local/index/account_log.py",  # between named parts of a key
    "store/local/index/former_arrivals.py",  # a whole key
    "store/sharing.py",  # a digest
}


@cache
def readers() -> list[tuple[str, ast.Subscript | ast.Call | ast.Attribute]]:
    """Every subscript, call and attribute of every module that may read a stored layout of ours."""
    return [
        (str(path.relative_to(PACKAGE)), node)
        for package in KEEPS
        for path in sorted((PACKAGE / package).rglob("*.py"))
        if path.parent.name != "dovecot"  # which reads files of other servers
        for node in ast.walk(parsed(text(path)))
        if isinstance(node, ast.Subscript | ast.Call | ast.Attribute)
    ]


def is_offset(node: ast.expr | None) -> bool:
    """A number that no list or word starts or ends at by itself."""
    if isinstance(node, ast.BinOp):
        return is_offset(node.left) or is_offset(node.right)
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value > 1


def test_a_slice_of_a_stored_value_has_names() -> None:
    found: dict[str, set[str]] = {}
    for path, node in readers():
        part = node.slice if isinstance(node, ast.Subscript) else None
        if isinstance(part, ast.Slice) and (is_offset(part.lower) or is_offset(part.upper)):
            found.setdefault(path, set()).add(ast.unparse(node))
    assert found == TEXTS


def test_a_format_has_a_name_and_says_where_it_begins() -> None:
    found = []
    for path, node in readers():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        module = node.func.value
        own = isinstance(module, ast.Name) and module.id == "struct" and node.args
        if own and isinstance(node.args[0], ast.Constant) and node.func.attr != "Struct":
            found.append((path, ast.unparse(node)))
        if node.func.attr in ("unpack_from", "pack_into") and any(
            isinstance(one, ast.Constant) for one in node.args[1:]
        ):
            found.append((path, ast.unparse(node)))
    assert found == []


def test_numbers_are_read_by_formats() -> None:
    found = {
        path for path, node in readers() if isinstance(node, ast.Attribute) and node.attr in ("from_bytes", "to_bytes")
    }
    assert found == NUMBERS


def test_compiled_readers_name_offsets() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.pyx")):
        for line in text(path).splitlines():
            if re.search(r"\b[gs]et(?:16|32|64)\([^,()]*\+ ?\d", line):
                found.append(f"{path.name}: {line.strip()}")
    assert found == []


def test_the_search_finds_what_it_looks_for() -> None:
    assert re.search(r"\b[gs]et(?:16|32|64)\([^,()]*\+ ?\d", "    env = get32(p + 8)")
    taken = ast.parse("value[54:55]\nvalue[2 + size :]\nvalue[MARK_AT:]\nvalue[1:]").body
    slices = [one.value.slice for one in taken if isinstance(one, ast.Expr) and isinstance(one.value, ast.Subscript)]
    found = [is_offset(one.lower) or is_offset(one.upper) for one in slices if isinstance(one, ast.Slice)]
    assert found == [True, True, False, False]
