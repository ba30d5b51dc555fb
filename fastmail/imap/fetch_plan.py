"""What a FETCH asks for (RFC 3501 6.4.5, RFC 3516, RFC 8474 5, RFC 8514, RFC 8970), sorted by what can answer it: the
index and summaries, the compiled writer with the message, or the parsed parts of the message.
"""

from dataclasses import dataclass, field
from typing import Any

from fastmail._core import idents, mime
from fastmail._core.fetch import Item
from fastmail.store.interface import Octets

INDEX_ITEMS = {
    b"UID": Item.UID,
    b"FLAGS": Item.FLAGS,
    b"INTERNALDATE": Item.DATE,
    b"RFC822.SIZE": Item.SIZE,
    b"MODSEQ": Item.MODSEQ,
    b"ENVELOPE": Item.ENVELOPE,
    b"BODYSTRUCTURE": Item.STRUCTURE,
    b"SAVEDATE": Item.SAVEDATE,
}
EXTRAS = (b"EMAILID", b"THREADID", b"PREVIEW")


@dataclass(slots=True)
class Plan:
    """What a FETCH asks for.

    ``items``: bits of ``Item``; ``asked``: header fields from the cache; ``bodies``: sections that need the message;
    ``extras``: EMAILID, THREADID, PREVIEW; ``structure``: BODY without extension data; ``sees``: it sets \\Seen;
    ``plain``: (section, label) of ``bodies`` if the compiled writer can write all of them."""

    items: int = 0
    asked: list[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=list)
    bodies: list[tuple[Any, ...]] = field(default_factory=list)
    extras: list[bytes] = field(default_factory=list)
    structure: bool = False
    sees: bool = False
    plain: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def needs_content(self) -> bool:
        return bool(self.bodies) or b"PREVIEW" in self.extras

    def needs(self, stored: Octets) -> bool:
        """True if the message with this summary has to be read; most have their preview in the summary."""
        return bool(self.bodies) or (b"PREVIEW" in self.extras and idents.preview(stored) is None)

    @property
    def one_by_one(self) -> bool:
        """True if there is an item that the page writer does not have."""
        return bool(self.bodies or self.extras or self.structure)


def make_plan(wanted: list[tuple[Any, ...]], by_uid: bool) -> Plan:
    """Sort the items by what can answer them."""
    plan = Plan()
    if by_uid:
        plan.items |= Item.UID
    for item in wanted:
        name = item[0]
        if name in INDEX_ITEMS:
            plan.items |= INDEX_ITEMS[name]
        elif name == b"BODY":
            plan.structure = True
        elif name in EXTRAS:
            if name not in plan.extras:
                plan.extras.append(name)
        else:
            _, peek, path, text, names, partial, label = item
            cached = not path and text == b"HEADER.FIELDS" and partial is None
            if cached and not any(mime.is_bulk(n) for n in names):
                plan.items |= Item.FIELDS
                plan.asked.append((label, names))
            else:
                plan.bodies.append(item)
            plan.sees = plan.sees or not peek
    if not plan.extras and not plan.structure and all(map(_is_plain, plan.bodies)):
        plan.plain = [(text, label) for _, _, _, text, _, _, label in plan.bodies]
    return plan


def _is_plain(item: tuple[Any, ...]) -> bool:
    _, _, path, text, _, partial, _ = item
    return not path and partial is None and text in (b"", b"HEADER", b"TEXT")
