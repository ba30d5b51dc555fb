"""fastmail.store.local.dovecot.index_files: what is written can be read, and damage is no more than missing keywords."""

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmail.store.local.dovecot import index_files
from tests.support.examples import some

UIDS = list(range(1, 60))
HAVING = st.dictionaries(
    st.binary(min_size=1, max_size=20).filter(lambda word: b"\0" not in word),
    st.sets(st.sampled_from(UIDS), min_size=1),
    max_size=8,
)


def written(path: Path, having: dict[bytes, set[int]]) -> bytes:
    rows = {word: sorted(uids) for word, uids in having.items()}
    data = index_files.log(7, 60, [(uid, 0) for uid in UIDS], rows)
    (path / "dovecot.index.log").write_bytes(data)
    return data


@given(having=HAVING)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, having: dict[bytes, set[int]]) -> None:
    path = tmp_path_factory.mktemp("index")
    written(path, having)
    assert index_files.read(str(path), 7, UIDS, []) == having
    but = {word.lower() for word in list(having)[:1]}
    wanted = {word: uids for word, uids in having.items() if word.lower() not in but}
    assert index_files.read(str(path), 7, UIDS, but) == wanted
    assert index_files.read(str(path), 8, UIDS, []) == {}  # another mailbox of that name


def test_changes_are_taken_in_order(tmp_path: Path) -> None:
    data = written(tmp_path, {b"word": {1, 2, 3}})
    record, ranges = index_files._record, struct.Struct("=II")
    more = record(0x400, struct.pack("=BBH", 1, 0, 4) + b"word" + ranges.pack(2, 2))
    more += record(0x400, struct.pack("=BBH", 0, 0, 5) + b"other\0\0\0" + ranges.pack(1, 0xFFFFFFFF))
    more += record(0x800, ranges.pack(5, 50)) + record(0x100000, b"some")
    (tmp_path / "dovecot.index.log").write_bytes(data + more + b"\x80\x80\x80\xff")
    found = index_files.read(str(tmp_path), 7, UIDS, [])
    assert found == {b"word": {1, 3}, b"other": {1, 2, 3, 4, *range(51, 60)}}


def test_damage_is_bounded(tmp_path: Path) -> None:
    choice = random.Random(4)
    whole = written(tmp_path, {b"word%d" % n: set(UIDS[n:]) for n in range(30)})
    for number in range(some(2000)):
        data = bytearray(whole)
        for _ in range(choice.randrange(1, 6)):
            data[choice.randrange(len(data))] = choice.randrange(256)
        name = choice.choice(["dovecot.index", "dovecot.index.log", "dovecot.index.log.2"])
        (tmp_path / name).write_bytes(data[: choice.randrange(len(data))] if number % 3 == 0 else data)
        for uids in index_files.read(str(tmp_path), 7, UIDS, []).values():
            assert uids <= set(UIDS)


def test_work_is_bounded(tmp_path: Path) -> None:
    """Many records that each name every message."""
    data = written(tmp_path, {})
    every = struct.pack("=BBH", 0, 0, 4) + b"word" + struct.pack("=II", 1, 0xFFFFFFFF) * 100
    (tmp_path / "dovecot.index.log").write_bytes(data + index_files._record(0x400, every) * 100)
    many = list(range(1, 100_001))
    assert len(index_files.read(str(tmp_path), 7, many, [])[b"word"]) == 100_000
