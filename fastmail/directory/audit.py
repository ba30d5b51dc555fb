"""Who changed what in the directory: rows of the same transaction as the change itself, so neither is there without the
other. The last MOST are kept. No password, key or hash is ever written down.

Which master user opened whose mailbox is in a table of its own, because a program that copies mail opens thousands:
they would push out who changed what.
"""

import time
from functools import cache
from typing import Any

import msgspec

from fastmail.directory.records import Answer, Change
from fastmail.directory.rows import AUDIT, U64
from fastmail.directory.tables import Txn
from fastmail.model.quota import Quota

MOST = 100_000
LONGEST = 300  # characters of what is said of a change
SECRET = frozenset(["password", "scram", "digest"])
NAMED = {"octets": "storage"}  # of a quota
SILENT = frozenset(["id", "created", "said"])


CHANGED, ACTED = "audit", "acted"  # tables


def note(txn: Txn, who: str, what: str, name: str, text: str, table: str = CHANGED) -> None:
    """Add a row, and let go of the oldest one."""
    last = txn.last(table)
    number = int(U64.unpack(last)[0]) + 1 if len(last) == U64.size else 0
    key = U64.pack(number)
    txn.put(table, key, AUDIT.pack(key, Change(int(time.time()), who, what, name, text[:LONGEST])))
    if number >= MOST:
        txn.delete(table, U64.pack(number - MOST))


def difference(old: Any, new: Any) -> str:
    """The fields of a record that changed, from what to what; of one that is new those that are not the default."""
    out = []
    defaults = _defaults(new.__class__)
    for name in new.__struct_fields__:
        now = getattr(new, name)
        before = getattr(old, name) if old is not None else defaults[name]
        if name in SILENT or before == now:
            continue
        if isinstance(now, Quota | Answer):  # some fields of its own, which people set one by one
            out += _inner(name, before, now)
            continue
        out.append(name if name in SECRET else f"{name}: {_word(before)} -> {_word(now)}")
    return "; ".join(out)


def _inner(name: str, before: Any, now: Quota | Answer) -> list[str]:
    """The same of a part of a record, by the names that `set` has for it, such as quota_storage."""
    names = now._fields if isinstance(now, Quota) else now.__struct_fields__
    words = _limit if isinstance(now, Quota) else _word
    pairs = [(part, getattr(before, part), getattr(now, part)) for part in names]
    return [f"{name}_{NAMED.get(part, part)}: {words(old)} -> {words(new)}" for part, old, new in pairs if old != new]


def _limit(value: int) -> str:
    return {0: "default", -1: "none"}.get(value, str(value))


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """What fields are where nothing is said of them; None of those that have to be said."""
    names, values = kind.__struct_fields__, kind.__struct_defaults__
    return dict.fromkeys(names) | dict(zip(names[len(names) - len(values) :], values, strict=True))


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_word, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, msgspec.Struct):
        return ",".join(_word(one) for one in msgspec.structs.astuple(value))
    return str(value) if value not in (None, "") else "none"
