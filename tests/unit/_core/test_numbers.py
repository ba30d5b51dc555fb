"""Items, operations and fields have one definition each, in a ``.pxd``; what Python sees of it is the same."""

import ast
import re
from pathlib import Path

import pytest

from fastmail._core import envelope, fetch, pages
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet

CORE = Path(__file__).parents[3] / "fastmail" / "_core"


def defined(name: str) -> dict[str, int]:
    """The members of all enumerations of a ``.pxd``, read as text."""
    found: dict[str, int] = {}
    for body in re.findall(r"^cdef enum[^\n]*:[^\n]*\n((?:    [^\n]*\n)+)", (CORE / f"{name}.pxd").read_text(), re.M):
        plain = re.sub(r"#[^\n]*", "", body)
        following = 0
        for member in re.split(r"[,\n]", plain):
            if member.strip():
                key, _, value = (part.strip() for part in member.partition("="))
                found[key] = int(value) if value else following
                following = found[key] + 1
    return found


def declared(name: str, kind: str) -> set[str]:
    """The attributes of a class of a ``.pyi``."""
    tree = ast.parse((CORE / f"{name}.pyi").read_text())
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind)
    return {one.target.id for one in found.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}


@pytest.mark.parametrize(
    ("name", "prefix", "face"),
    [
        ("fetch", "ITEM_", fetch.Item),
        ("pages", "FIELD_", pages.Field),
        ("pages", "HEAD_", pages.Head),
        ("pages", "OP_", pages.Op),
        ("envelope", "", envelope.Element),
    ],
)
def test_python_has_the_numbers_of_the_core(name: str, prefix: str, face: type) -> None:
    shown = {key: value for key, value in vars(face).items() if key.isupper()}
    own = {key.removeprefix(prefix): value for key, value in defined(name).items() if key.startswith(prefix)}
    if not prefix:  # of a file whose other enumeration has other names
        own = {key: value for key, value in own.items() if key in shown}
    assert shown == own and len(shown) > 3
    assert declared(name, face.__name__) == shown.keys()


def test_a_record_has_its_fields_where_the_names_say() -> None:
    at = {key.removesuffix("_AT"): value for key, value in defined("pages").items() if key.endswith("_AT")}
    values = {"UID": 33, "FLAGS": 5, "MODSEQ": 1 << 40, "KEYWORDS": 1 << 63, "DATE": -7, "SIZE": 99, "SAVED": 77}
    widths = {"UID": 4, "FLAGS": 4, "MODSEQ": 8, "KEYWORDS": 8, "DATE": 8, "SIZE": 4, "SAVED": 4}
    packed = pages.pack(33, 5, 1 << 40, 1 << 63, -7, 99, 77)
    (record,) = pages.records(pages.extend(None, packed))
    assert len(packed) == sum(widths.values()) == defined("pages")["RECORD"]
    for name, value in values.items():
        assert record[getattr(pages.Field, name)] == value
        octets = packed[at[name] : at[name] + widths[name]]
        assert int.from_bytes(octets, "little", signed=name == "DATE") == value


def test_a_header_has_its_fields_where_the_names_say() -> None:
    seen = pages.pack(33, 1, 9, 0, 0, 0, 0)
    head = pages.head(pages.extend(pages.extend(None, seen), pages.pack(35, 0, 4, 0, 0, 0, 0)))
    by_name = {name: head[place] for name, place in vars(pages.Head).items() if name.isupper()}
    assert by_name == {"COUNT": 2, "MODSEQ": 9, "PRESENT": 0b1010, "UNSEEN": 0b1000}


def test_each_item_is_the_one_of_its_name() -> None:
    made = pages.extend(None, pages.pack(33, 1, 9, 0, 0, 99, 1))
    words = {"UID": b"UID 33", "FLAGS": b"FLAGS (\\Seen)", "DATE": b"INTERNALDATE ", "SIZE": b"RFC822.SIZE 99",
             "MODSEQ": b"MODSEQ (9)", "SAVEDATE": b"SAVEDATE "}  # fmt: skip
    for name, word in words.items():
        out, uids = Out(64), UidSet.of([33])
        fetch.page(out, made, uids, uids, getattr(fetch.Item, name), [], None, None, [], False)
        assert out.take().startswith(b"* 1 FETCH (" + word), name
    assert fetch.Item.SUMMARY == fetch.Item.ENVELOPE | fetch.Item.STRUCTURE | fetch.Item.FIELDS
