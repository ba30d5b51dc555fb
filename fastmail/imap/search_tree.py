"""The tree of search keys that the grammar reads (RFC 3501 6.4.4; its nodes are in ``_core/imap.pyi``): what it asks
for, and what it costs to answer.
"""

from typing import Any

from fastmail._core.uidset import UidSet
from fastmail.imap.views import Selected

Tree = tuple[Any, ...]
INDEX_KEYS = {
    *("ALL", "RECENT", "NEW", "OLD", "FLAG", "KEYWORD", "DATE", "LARGER", "SMALLER", "UID", "SEQ"),
    *("SAVED", "AGE", "MODSEQ"),
}
OPERATORS = ("OR", "NOT", "FUZZY")  # and AND, which has a list
COSTS = {
    "SENT": 1,
    "OBJECT": 2,
    "HEADER": 2,
    "ADDRESS": 2,
    "TEXT": 4,
    "BODY": 4,
}  # of keys that the index cannot answer


def asks(key: str, tree: Tree) -> bool:
    """True if this key is anywhere in the tree."""
    return tree[0] == key or any(asks(key, one) for one in _inner(tree))


def count(tree: Tree) -> int:
    """Return how many keys the tree has."""
    return 1 + sum(count(one) for one in _inner(tree))


def cost(tree: Tree) -> int:
    """Return 0 if the index alone answers it; more for the most expensive thing that a key reads."""
    key = tree[0]
    if key in INDEX_KEYS:
        return 0
    inner = _inner(tree)
    return max(cost(one) for one in inner) if inner else COSTS[key]


def _inner(tree: Tree) -> tuple[Tree, ...] | list[Tree]:
    """Return the trees below an operator; none for a key."""
    found: tuple[Tree, ...] | list[Tree] = tree[1] if tree[0] == "AND" else tree[1:] if tree[0] in OPERATORS else ()
    return found


def frozen(selected: Selected, tree: Tree) -> Tree:
    """Replace sequence numbers and the saved result by their present UIDs (RFC 5267 4.3)."""
    if tree[0] == "SEQ":
        uids = selected.saved if tree[1] is None else selected.uids.at(UidSet.of_ranges(tree[1], len(selected.uids)))
        flat = tuple(end for pair in uids.ranges() for end in pair)
        return ("UID", flat) if flat else ("NOT", ("ALL",))
    if tree[0] == "UID" and tree[1] is None:
        flat = tuple(end for pair in selected.saved.ranges() for end in pair)
        return ("UID", flat) if flat else ("NOT", ("ALL",))
    if tree[0] == "AND":
        return ("AND", [frozen(selected, one) for one in tree[1]])
    if tree[0] in OPERATORS:
        return (tree[0], *(frozen(selected, one) for one in tree[1:]))
    return tree
