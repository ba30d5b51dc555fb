"""The program that answers search keys about flags, dates, sizes and UIDs (RFC 3501 6.4.4, RFC 5032, RFC 7162 3.1.5,
RFC 8514) from index pages: triples in postfix order, which ``_core.pages.search`` runs.
"""

import time
from array import array

from fastmail._core.pages import Op
from fastmail._core.uidset import UidSet
from fastmail.imap.search_tree import Tree
from fastmail.imap.views import Selected
from fastmail.model.flags import SEEN

DAY = 86400  # s
FAR = 1 << 40  # s since 1970: later than any date of a message


def compiled(selected: Selected, tree: Tree) -> tuple["array[int]", list[UidSet]]:
    """Return (program, the sets that it refers to) for a tree that the index alone answers."""
    program: list[int] = []
    sets: list[UidSet] = []
    _add(selected, tree, program, sets)
    return array("q", program), sets


def _add(selected: Selected, tree: Tree, out: list[int], sets: list[UidSet]) -> None:
    """Append what leaves the tree's answer on the stack."""
    key = tree[0]
    if key == "ALL":
        out += [Op.ALL, 0, 0]
    elif key == "FLAG":
        out += [Op.FLAGS, tree[1], tree[2]]
    elif key == "KEYWORD":
        _keyword(selected, tree[1], tree[2], out)
    elif key == "LARGER":
        out += [Op.LARGER, tree[1], 0]
    elif key == "SMALLER":
        out += [Op.SMALLER, tree[1], 0]
    elif key in ("DATE", "SAVED"):
        first, last = days(tree[1], tree[2])
        out += [Op.DATE if key == "DATE" else Op.SAVED, first * DAY, last * DAY]
    elif key == "AGE":
        edge = int(time.time()) - tree[2]  # RFC 5032: OLDER is at least, YOUNGER at most so many seconds ago
        out += [Op.DATE, -FAR, edge + 1] if tree[1] else [Op.DATE, edge, FAR]
    elif key == "MODSEQ":
        out += [Op.MODSEQ, tree[1], 0]
    elif key in ("UID", "SEQ", "RECENT", "OLD", "NEW"):
        _set(selected, tree, out, sets)
    elif key == "FUZZY":
        _add(selected, tree[1], out, sets)
    elif key == "NOT":
        _add(selected, tree[1], out, sets)
        out += [Op.NOT, 0, 0]
    elif key == "OR":
        _add(selected, tree[1], out, sets)
        _add(selected, tree[2], out, sets)
        out += [Op.OR, 0, 0]
    else:
        for position, one in enumerate(tree[1]):
            _add(selected, one, out, sets)
            if position:
                out += [Op.AND, 0, 0]


def _keyword(selected: Selected, word: bytes, wanted: bool, out: list[int]) -> None:
    """Append KEYWORD or UNKEYWORD. No message has a keyword that the mailbox does not have."""
    names = [name.lower() for name in selected.keywords]
    if word.lower() in names:
        out += [Op.KEYWORD, names.index(word.lower()), 0]
    else:
        out += [Op.ALL, 0, 0, Op.NOT, 0, 0]
    if not wanted:
        out += [Op.NOT, 0, 0]


def _set(selected: Selected, tree: Tree, out: list[int], sets: list[UidSet]) -> None:
    """Append a key that names a set of messages, or \\Recent."""
    key = tree[0]
    if key in ("UID", "SEQ") and tree[1] is None:
        sets.append(selected.saved)
    elif key == "UID":
        sets.append(UidSet.of_ranges(tree[1], selected.uids.last))
    elif key == "SEQ":
        sets.append(selected.uids.at(UidSet.of_ranges(tree[1], len(selected.uids))))
    else:
        sets.append(selected.recent)
    out += [Op.UIDS, len(sets) - 1, 0]
    if key == "OLD":
        out += [Op.NOT, 0, 0]
    elif key == "NEW":
        out += [Op.FLAGS, SEEN, 0, Op.AND, 0, 0]


def days(kind: str, day: int) -> tuple[int, int]:
    """Return the first day and the one after the last of BEFORE, ON and SINCE."""
    if kind == "BEFORE":
        return -FAR // DAY, day
    if kind == "ON":
        return day, day + 1
    return day, FAR // DAY
