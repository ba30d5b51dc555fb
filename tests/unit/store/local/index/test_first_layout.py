"""The first layout becomes this one: part by part, wherever it is killed. Its pages become two of this one's."""

import asyncio
import gc
import random
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastmail._core import mime, pages
from fastmail._core.uidset import UidSet
from fastmail.durable import layouts
from fastmail.durable.env import Environment
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CorruptData
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import first_layout, layout
from fastmail.store.local.index.first_layout import split
from fastmail.store.local.index.shard import FORMER, open_index
from tests.support.examples import FEW
from tests.support.homes import housed, local_store

RECORD = struct.Struct("<IIQQqII")


def old_page(base: int, uids: list[int], seen: set[int], modseq: int) -> bytes:
    """As the first version wrote it."""
    present = sum(1 << uid - base for uid in uids)
    unseen = sum(1 << uid - base for uid in uids if uid not in seen)
    records = [RECORD.pack(uid, uid in seen, uid * 3, 0, 1_700_000_000 + uid, 100 + uid, uid) for uid in uids]
    return struct.pack("<BBHIQQQ", 1, 40, len(uids), 0, modseq, present, unseen) + b"".join(records)


def test_every_record_is_in_its_half() -> None:
    rng = random.Random(5)
    for _ in range(300):
        base = rng.choice([0, 64, 6400])
        uids = sorted(rng.sample(range(max(base, 1), base + 64), rng.randrange(1, 63)))
        seen = {uid for uid in uids if rng.random() < 0.5}
        halves = split(old_page(base, uids, seen, 999), base)
        found = []
        for first, half in zip((base, base + 32), halves, strict=True):
            mine = [uid for uid in uids if first <= uid < first + 32]
            assert bool(half) == bool(mine)
            if not half:
                continue
            records = list(pages.records(half))
            assert [record[0] for record in records] == mine
            _, _, count, _, modseq, present, unseen = struct.unpack_from("<BBHIQQQ", half)
            assert (count, modseq) == (len(mine), 999)
            assert present == sum(1 << uid - first for uid in mine)
            assert unseen == sum(1 << uid - first for uid in mine if uid not in seen)
            found += records
        assert [record[0] for record in found] == uids
        if halves[0]:  # what was split once stays as it is
            assert split(halves[0], base) == (halves[0], b"")


@pytest.mark.parametrize("page", [b"", b"\1", b"\2" + bytes(31), old_page(0, [1, 2], set(), 1)[:-1]])
def test_damaged_pages(page: bytes) -> None:
    with pytest.raises(CorruptData):
        split(page, 0)


MAP = 1 << 26
Rows = dict[str, dict[bytes, bytes]]


def present_rows(env: Environment) -> Rows:
    with env.read() as txn:
        return {
            name: {bytes(k): bytes(v) for k, v in txn.cursor(db=env.db[name]).iternext()} for name in ("page", "msg")
        }


async def filled(place: Path) -> None:
    """Three mailboxes; one has messages on many pages, with gaps, and one has none."""
    store, account = local_store(str(place), map_size=MAP), housed(1, "a@example.test", str(place / "mail"))
    await store.start()
    await store.open(account)
    for name, count in (("INBOX", 200), ("Archive", 5)):
        key = store.find(account, name) or b""
        texts = [b"Subject: %b %d\n\nx\n" % (name.encode(), n) for n in range(count)]
        await store.append(account, key, [NewMessage((t,), mime.scan(t), mime.served_size(t), 1000) for t in texts])
        await store.expunge(account, key, UidSet.of([2, *range(70, min(count, 130))]), 0)
    await store.close()


def made_first(place: Path) -> Rows:
    """Turn an index into one of the first layout; return the rows that it had, and is to have again."""
    env = Environment(str(place / "index-0"), [*layout.TABLES, *first_layout.TABLES], layout.LAYOUT, MAP)
    before = present_rows(env)
    with env.write() as txn:
        for at in before["page"]:
            txn.delete(at, db=env.db["page"])
        for at, value in before["page"].items():
            if at[12:] == layout.TOP:
                txn.put(at[:12], value, db=env.db["box"])
            elif (
                layout.uid_of(at) % 64 == 0
                or at[:12] + (layout.uid_of(at) - 32).to_bytes(4, "big") not in before["page"]
            ):
                base = layout.uid_of(at) // 64 * 64
                halves = [before["page"].get(layout.uid_key(at[:12], base + n)) for n in (0, 32)]
                records = [one for half in halves if half for one in pages.records(half)]
                txn.put(layout.uid_key(at[:12], base), joined(base, records), db=env.db["page"])
        for at, value in before["msg"].items():
            txn.put(at, layout.marked_of(value), db=env.db["file"])
            txn.put(at, bytes(layout.summary_of(value)), db=env.db["summ"])
            txn.delete(at, db=env.db["msg"])
        txn.put(b"layout", b"1", db=env.db["meta"])
    env.close()
    return before


def joined(base: int, records: Sequence[tuple[int, ...]]) -> bytes:
    present = sum(1 << record[0] - base for record in records)
    unseen = sum(1 << record[0] - base for record in records if not record[1] & 1)
    packed = b"".join(pages.pack(*record) for record in records)
    return struct.pack("<BBHIQQQ", 1, 40, len(records), 0, max(r[2] for r in records), present, unseen) + packed


class Killed(BaseException):
    pass


def converted(place: Path, parts: int = 1 << 30) -> int:
    """Open the index, and be killed after so many parts; return how many there were."""
    calls = 0

    def counted(txn: Txn, old: dict[str, Any], new: dict[str, Any]) -> bool:
        nonlocal calls
        before = sum(txn.stat(table)["entries"] for table in old.values())
        done = first_layout.convert(txn, old, new)
        taken = before - sum(txn.stat(table)["entries"] for table in old.values())
        assert taken <= 2 * layouts.ROWS, "a message has two rows"
        calls += 1
        if calls > parts:
            raise Killed
        return done

    former = tuple(replace(one, convert=counted) if one.convert == first_layout.convert else one for one in FORMER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmail.store.local.index.shard.FORMER", former)
        open_index(str(place), 0, MAP, None).close()
    return calls


def unlike_modseqs(rows: Rows) -> dict[str, dict[bytes, Any]]:
    """Pages by their records alone: both halves of a page have its MODSEQ."""
    made = {at: list(pages.records(page)) if at[12:] != layout.TOP else page for at, page in rows["page"].items()}
    return {"page": made, "msg": rows["msg"]}


@pytest.fixture
def first(tmp_path: Path) -> tuple[Path, Rows]:
    place = tmp_path / "first"
    place.mkdir()
    asyncio.run(filled(place))
    return place, unlike_modseqs(made_first(place))


def test_an_index_is_converted_in_bounded_parts(first: tuple[Path, Rows], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "ROWS", 20)
    place, expected = first
    assert converted(place) >= 145 // 20
    assert layouts.layout_of(str(place / "index-0")) == (layout.LAYOUT, {*layout.TABLES, "meta"})
    env = open_index(str(place), 0, MAP, None)
    assert unlike_modseqs(present_rows(env)) == expected
    with env.read() as txn:
        assert txn.get(first_layout.SPLIT, db=env.db["meta"]) is None
    env.close()


def test_a_conversion_goes_on_wherever_it_was_killed(
    first: tuple[Path, Rows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "ROWS", 12 if FEW else 3)
    place, expected = first
    shutil.copytree(place, tmp_path / "whole")
    every = converted(tmp_path / "whole")
    kills = 0
    while True:  # one kill after each part, on the same files
        try:
            converted(place, parts=1)
            break
        except Killed:
            kills += 1
            gc.collect()  # the environment that was not opened
            gc.freeze()  # what is left of other tests lives on: the next kill need not walk over it
            assert layouts.layout_of(str(place / "index-0"))[0] == layout.LAYOUT, "an older version refuses it"
    assert kills >= every - 3
    env = open_index(str(place), 0, MAP, None)
    assert unlike_modseqs(present_rows(env)) == expected
    env.close()
