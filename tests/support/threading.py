"""The slow, obvious forms of what SORT and THREAD do (RFC 5256 2.1, 3), for property tests of the compiled ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_SPACE = re.compile(r"[ \t\r\n]+")
_TRAILER = re.compile(r"( |\(fwd\))+$", re.IGNORECASE | re.ASCII)
_LEADER = re.compile(r"^((\[[^\[\]]*\] *)*(re|fwd?) *(\[[^\[\]]*\] *)?:| )", re.IGNORECASE | re.ASCII)
_BLOB = re.compile(r"^\[[^\[\]]*\] *")


def base_subject(text: str) -> tuple[str, bool]:
    """(base subject, as it is written; is it that of a reply or forward?), a step at a time."""
    text = _SPACE.sub(" ", text)
    reply = False
    while True:
        while match := _TRAILER.search(text):
            reply = reply or "(fwd)" in match.group().lower()
            text = text[: match.start()]
        while True:
            if match := _LEADER.match(text):
                reply = reply or match.group() != " "
                text = text[match.end() :]
            elif (match := _BLOB.match(text)) and text[match.end() :]:
                text = text[match.end() :]
            else:
                break
        if len(text) > 5 and text[:5].lower() == "[fwd:" and text.endswith("]"):
            text, reply = text[5:-1], True
            continue
        return text, reply


@dataclass(slots=True)
class Entry:
    """A message as threading sees it. ``uid`` is what the answer names."""

    uid: int
    date: int
    subject: str
    reply: bool
    id: bytes | None = None
    references: tuple[bytes, ...] = ()


@dataclass(slots=True, eq=False)
class Node:
    """A message in a thread, or, without an entry, one that is only referred to."""

    entry: Entry | None = None
    parent: "Node | None" = None
    children: "list[Node]" = field(default_factory=list)

    def date(self) -> tuple[int, int]:
        """What siblings are ordered by; that of the first child when the message is not there."""
        node = self
        while node.entry is None and node.children:
            node = node.children[0]
        return (node.entry.date, node.entry.uid) if node.entry is not None else (0, 0)


def ordered_subject(entries: Sequence[Entry]) -> list[Node]:
    """RFC 5256 3, ORDEREDSUBJECT: one level of threads by base subject."""
    threads: dict[str, Node] = {}
    for entry in sorted(entries, key=lambda e: (e.date, e.uid)):
        node = Node(entry)
        if entry.subject in threads:
            threads[entry.subject].children.append(node)
        else:
            threads[entry.subject] = node
    return list(threads.values())


def references(entries: Sequence[Entry], by_subject: bool) -> list[Node]:
    """RFC 5256 3, REFERENCES; without ``by_subject`` threads are not merged by subject and come in the order of their
    latest message, as THREAD=REFS has it."""
    roots = _prune(_link(entries))
    _sort(roots)
    if by_subject:
        roots = _merge(roots)
        _sort(roots)
    else:
        roots.sort(key=_latest)
    return roots


def _link(entries: Sequence[Entry]) -> list[Node]:
    nodes: dict[bytes, Node] = {}
    every: list[Node] = []
    for number, entry in enumerate(entries):
        key = entry.id or b"\0%d" % number
        node = nodes.get(key)
        if node is None or node.entry is not None:
            if node is not None:
                key = b"\0%d" % number  # a second message of that id is one of its own
            node = nodes[key] = Node()
            every.append(node)
        node.entry = entry
        above: Node | None = None
        for one in entry.references:
            if one not in nodes:
                nodes[one] = Node()
                every.append(nodes[one])
            here = nodes[one]
            if above is not None and here.parent is None and not _within(above, here):
                _adopt(above, here)
            above = here
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent = None
        if above is not None and not _within(above, node):
            _adopt(above, node)
    return [node for node in every if node.parent is None]


def _within(node: Node, possible: Node) -> bool:
    """Is ``possible`` the node itself or above it?"""
    one: Node | None = node
    while one is not None:
        if one is possible:
            return True
        one = one.parent
    return False


def _adopt(parent: Node, child: Node) -> None:
    child.parent = parent
    parent.children.append(child)


def _postorder(roots: Sequence[Node]) -> list[Node]:
    """All nodes, children before their parents."""
    out: list[Node] = []
    stack = list(roots)
    while stack:
        node = stack.pop()
        out.append(node)
        stack += node.children
    out.reverse()
    return out


def _prune(roots: list[Node]) -> list[Node]:
    """Drop messages that are not there: children move up, except that at the top several stay together."""
    top = set(map(id, roots))
    for node in _postorder(roots):
        children: list[Node] = []
        for child in node.children:
            if child.entry is None:
                children += child.children
            else:
                children.append(child)
        for child in children:
            child.parent = node
        node.children = children
    out: list[Node] = []
    for node in roots:
        if node.entry is None and len(node.children) <= 1:
            out += node.children
        else:
            out.append(node)
    for node in out:
        if id(node) not in top:
            node.parent = None
    return out


def _sort(roots: list[Node]) -> None:
    for node in _postorder(roots):
        node.children.sort(key=Node.date)
    roots.sort(key=Node.date)


def _latest(root: Node) -> tuple[int, int]:
    return max((node.entry.date, node.entry.uid) for node in _postorder([root]) if node.entry is not None)


def _subject(root: Node) -> tuple[str, bool]:
    entry = root.entry if root.entry is not None else root.children[0].entry
    assert entry is not None
    return entry.subject, entry.reply


def _merge(roots: list[Node]) -> list[Node]:
    """RFC 5256 3, step 5: threads of one base subject become one."""
    table: dict[str, Node] = {}
    for root in roots:
        subject, reply = _subject(root)
        if not subject:
            continue
        known = table.get(subject)
        empty = root.entry is None
        if (
            known is None
            or (empty and known.entry is not None)
            or (not empty and known.entry is not None and _subject(known)[1] and not reply)
        ):
            table[subject] = root
    out: list[Node] = []
    for root in roots:
        subject, reply = _subject(root)
        first = table.get(subject) if subject else None
        if first is None or first is root:
            out.append(root)
        elif first.entry is None and root.entry is None:
            first.children += root.children
        elif first.entry is None or (reply and not _subject(first)[1]):
            first.children.append(root)
        else:
            both = Node(None, None, [Node(first.entry, None, first.children), root])
            first.entry, first.children = None, both.children
    return out


def render(roots: Sequence[Node], number: dict[int, int]) -> bytes:
    """``(3 6 (4 23)(44 7 96))``: threads with the number of each message."""
    out: list[bytes] = []
    stack: list[Node | bytes] = []
    for root in reversed(roots):
        stack += [b")", root, b"("]
    fresh = False  # is nothing written behind the last parenthesis?
    while stack:
        item = stack.pop()
        if isinstance(item, bytes):
            out.append(item)
            fresh = item == b"("
            continue
        if item.entry is not None:
            out.append((b"" if fresh else b" ") + b"%d" % number[item.entry.uid])
            fresh = False
        if len(item.children) == 1:
            stack.append(item.children[0])
        elif item.children:
            if not fresh:
                out.append(b" ")
            for child in reversed(item.children):
                stack += [b")", child, b"("]
    return b"".join(out)
