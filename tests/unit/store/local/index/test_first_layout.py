"""Pages of the first layout become two of this one's."""

import random
import struct

import pytest

from fastmail._core import pages
from fastmail.model.errors import CorruptData
from fastmail.store.local.index.first_layout import split

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
