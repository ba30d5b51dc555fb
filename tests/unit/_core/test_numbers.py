"""Items, operations and fields have one definition each, in a ``.pxd``; what Python sees of it is the same."""

import ast
import re
import struct
from pathlib import Path

import pytest

from fastmail._core import entries, envelope, fetch, idents, mime, pages
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.durable import salvage
from fastmail.message import identity, summary
from fastmail.model import keys
from fastmail.store.interface import Kind
from fastmail.store.local.index import account_log, layout, object_ids

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


def offsets(form: struct.Struct) -> list[int]:
    """Where each field of a format begins."""
    one = re.findall(r"\d*[a-zA-Z]", form.format[1:])
    single = [code for code in one for code in ([code] if code[-1] == "s" else [code[-1]] * int(code[:-1] or 1))]
    ends = [struct.calcsize("<" + "".join(single[: count + 1])) for count in range(len(single))]
    return [0, *ends[:-1]]


def without_padding(form: struct.Struct) -> list[int]:
    """The same, without the octets that are no field."""
    return [at for at, code in zip(offsets(form), re.findall(r"[a-zA-Z]", form.format[1:]), strict=True) if code != "x"]


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
        ("summary", "STATUS_", mime.Status),
        ("summary", "KIND_", mime.Kind),
    ],
)
def test_python_has_the_numbers_of_the_core(name: str, prefix: str, face: type) -> None:
    shown = {key: value for key, value in vars(face).items() if key.isupper()}
    members = {key: value for key, value in defined(name).items() if not key.endswith("_AT")}
    own = {key.removeprefix(prefix): value for key, value in members.items() if key.startswith(prefix)}
    if not prefix:  # of a file whose other enumeration has other names
        own = {key: value for key, value in own.items() if key in shown}
    assert shown == own and len(shown) > 2
    assert declared(face.__module__.rpartition(".")[2], face.__name__) == shown.keys()


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


def test_a_summary_has_its_fields_where_the_names_say() -> None:
    own = defined("summary")
    at = {name: own[f"{name.upper()}_AT"] for name in summary.Fixed._fields}
    assert list(at.values()) == offsets(summary._FIXED) and own["FIXED"] == summary.FIXED
    part = ["KIND_AT", "DEPTH_AT", "HEADER_AT", "BODY_AT", "END_AT"]
    assert [own[name] for name in part] == [x for i, x in enumerate(offsets(summary._PART)) if i != 2]
    assert summary._PART.size == own["PART"] and max(summary.VERSIONS) == own["VERSION"]
    made = mime.scan(b"Subject: a\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nReceived: x\n\nbody\n")
    head = summary.fixed(made)
    assert (head.version, head.parts, head.day, head.received) == (own["WRITTEN"], 1, 0, 1)
    assert head.served == mime.served_size(b"Subject: a\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nReceived: x\n\nbody\n")
    assert summary.fixed(idents.with_preview(made, b"body")).version == own["PREVIEWED"]


def test_a_trail_has_its_fields_where_the_names_say() -> None:
    own = defined("summary")
    at = [own[name] for name in ("EMAIL_AT", "CREATED_AT", "THREAD_AT", "OWN_AT")]
    assert at == offsets(identity.TRAIL)
    assert (identity.TRAIL.size, identity.ID_OCTETS) == (own["TRAIL"], own["ID"])


def test_keys_and_rows_of_the_index_have_their_fields_where_the_names_say() -> None:
    own = defined("index")
    assert (own["ACCOUNT"], own["MAILBOX"], own["MESSAGE"]) == (keys.ACCOUNT, keys.MAILBOX, keys.MESSAGE)
    assert own["CONTENT_AT"] == layout.MARK_AT
    assert (own["NAMED"], own["NAMED_MAILBOX_AT"]) == (object_ids.KEY, object_ids.NAMED)
    assert own["NAMED_ID_AT"] == keys.ACCOUNT
    assert own["NAMED_UID_AT"] == object_ids.NAMED + keys.MAILBOX - keys.ACCOUNT
    items = [own[name] for name in ("ITEM_UID_AT", "ITEM_EMAIL_AT", "ITEM_MODSEQ_AT")]
    assert items == offsets(account_log.CREATED) and items[:2] == offsets(account_log.REMOVED)
    assert (account_log.CREATED.size, account_log.REMOVED.size) == (own["CREATED_ITEM"], own["REMOVED_ITEM"])


def test_rows_of_mailboxes_accounts_and_the_log_have_their_fields_where_the_names_say() -> None:
    own = defined("index")
    box = dict(zip(layout.ROW_FIELDS, offsets(layout.ROW), strict=True))
    names = {"version": "BOX_VERSION_AT", "size": "BOX_SIZE_AT", "uidvalidity": "UIDVALIDITY_AT", "uidnext": "UIDNEXT_AT",
             "exists": "EXISTS_AT", "unseen": "UNSEEN_AT", "deleted": "DELETED_AT", "modseq": "BOX_MODSEQ_AT",
             "octets": "BOX_OCTETS_AT", "unused": "UNUSED_AT", "recovered": "BOX_RECOVERED_AT"}  # fmt: skip
    assert {name: box[name] for name in names} == {name: own[label] for name, label in names.items()}
    assert (layout.ROW.size, layout.ROW_VERSION) == (own["BOX"], own["BOX_VERSION"])
    totals = dict(zip(account_log.ROW_FIELDS, without_padding(account_log.ROW), strict=True))
    names = {"version": "TOTALS_VERSION_AT", "modseq": "TOTAL_MODSEQ_AT", "octets": "TOTAL_OCTETS_AT",
             "messages": "MESSAGES_AT", "summaries": "SUMMARIES_AT", "logged": "LOGGED_AT",
             "recovered": "TOTAL_RECOVERED_AT"}  # fmt: skip
    assert {name: totals[name] for name in names} == {name: own[label] for name, label in names.items()}
    assert (account_log.ROW.size, account_log.VERSION) == (own["TOTALS"], own["TOTALS_VERSION"])
    assert without_padding(account_log.HEAD) == [own["LOG_VERSION_AT"], own["LOG_TIME_AT"]]
    entry = [own[name] for name in ("ENTRY_KIND_AT", "ENTRY_MAILBOX_AT", "ENTRY_ITEMS_AT")]
    assert without_padding(account_log.ENTRY) == entry and own["ENTRY_CREATED"] == Kind.CREATED
    assert (account_log.HEAD.size, account_log.ENTRY.size) == (own["LOG_HEAD"], own["ENTRY"])
    assert (own["LOG_MODSEQ_AT"], own["LOG_PART_AT"]) == (keys.ACCOUNT, account_log.KEY - account_log.PART.size)
    assert (own["LOG_KEY"], own["PART_ITEMS"]) == (account_log.KEY, account_log.PART_ITEMS)


def test_a_message_is_entered_where_the_names_say() -> None:
    own, key = defined("index"), keys.mailbox_key(7, 3)
    trail = identity.TRAIL.pack(b"E" * 8, 1, b"T" * 8, b"O" * 8)
    log, places, members, others = idents.entered(key, [(5, mime.scan(b"\n") + trail, 99)], True, identity.ident)
    assert account_log.CREATED.unpack(log) == (5, b"E" * 8, 99)
    at = places[0][0]
    assert at[own["NAMED_ID_AT"] : own["NAMED_MAILBOX_AT"]] == b"E" * 8
    assert at[: keys.ACCOUNT] + at[own["NAMED_MAILBOX_AT"] :] == keys.uid_key(key, 5)
    assert members[0][0] == at.replace(b"E" * 8, b"T" * 8)
    assert others == [(0, keys.account_key(7) + b"O" * 8, b"T" * 8)]


def test_a_page_of_lmdb_has_its_fields_where_the_names_say() -> None:
    own = defined("lmdb")
    number, _, flags, lower, upper = offsets(salvage.HEAD)
    assert (number, flags, lower, upper) == (own["NUMBER_AT"], own["FLAGS_AT"], own["LOWER_AT"], own["UPPER_AT"])
    assert salvage.HEAD.size == salvage.RUN.size == own["HEAD"] and offsets(salvage.RUN)[3] == own["RUN_AT"]
    assert salvage.POINTER.size == own["POINTER"]
    low, high, node_flags, size = offsets(salvage.NODE)
    assert (low, node_flags, size) == (own["SIZE_AT"], own["NODE_FLAGS_AT"], own["KEY_SIZE_AT"])
    assert high == 2 and own["UPPER_HALF_AT"] == node_flags and salvage.NODE.size == own["NODE"]
    tree = offsets(salvage.TREE)
    assert (tree[0], tree[2], tree[-1]) == (own["TREE_PAD_AT"], own["TREE_DEPTH_AT"], own["TREE_ROOT_AT"])
    meta = dict(zip(salvage.Meta._fields, offsets(salvage.TOP), strict=True))
    names = {"magic": "MAGIC_AT", "version": "FORMAT_AT", "free": "FREE_AT", "main": "MAIN_AT", "last": "LAST_AT",
             "txn": "TXN_AT"}  # fmt: skip
    assert {name: meta[name] for name in names} == {name: own[label] for name, label in names.items()}
    kinds = (salvage.BRANCH, salvage.LEAF, salvage.OVERFLOW, salvage.META, salvage.BIG)
    assert kinds == tuple(own[name] for name in ("BRANCH", "LEAF", "OVERFLOW", "META", "BIG"))
    assert (salvage.SIZES[0], salvage.SIZES[-1]) == (own["SMALLEST"], own["LARGEST"])
    assert salvage.TREE.size == own["TREE"] and own["DEEPEST"] == salvage.DEPTH


def test_kinds_of_journal_entries_are_distinct_bits() -> None:
    kinds = [entries.PUT, entries.DELETE, entries.CLEAR, entries.MADE, entries.PIECE, entries.LINKED]
    assert len(set(kinds)) == 6 and all(0 < kind < entries.AGAIN for kind in kinds)
