"""MappedPages pages of LMDB files are given back, and read again from the page cache."""

from pathlib import Path

import lmdb
import pytest

from fastmail.durable import mapped as mapped_pages
from fastmail.durable.mapped import MappedPages, maps, resident

VALUE = b"v" * 3000
ROWS = 8000  # 24 MB and more


@pytest.fixture(autouse=True)
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests themselves compute does not count."""
    monkeypatch.setattr(mapped_pages, "BUSY", float("inf"))


def look_at_all(env: lmdb.Environment) -> int:
    with env.begin(buffers=True) as txn, txn.cursor() as cursor:
        return sum(1 for key, value in cursor if value[0] == value[-1] == ord("v"))


def test_pages_are_given_back_and_still_there(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path / "env"), map_size=1 << 28, sync=False)
    with env.begin(write=True) as txn:
        for number in range(ROWS):
            txn.put(b"%08d" % number, VALUE)
    mapped = MappedPages()
    mapped.release(0)
    before = resident()
    assert look_at_all(env) == ROWS
    assert resident() > before + (20 << 20)
    with env.begin(buffers=True) as txn:
        held = txn.get(b"%08d" % 7)  # a view that a reader has meanwhile
        assert held is not None
        assert mapped.release()
        assert resident() < before + (4 << 20)
        assert bytes(held) == VALUE
    assert look_at_all(env) == ROWS
    env.close()


def test_what_grew_little_stays(tmp_path: Path) -> None:
    env = lmdb.open(str(tmp_path / "env"), map_size=1 << 28, sync=False)
    with env.begin(write=True) as txn:
        txn.put(b"key", VALUE)
    mapped = MappedPages()
    assert mapped.release(0)
    look = env.begin()
    assert look.get(b"key") == VALUE
    look.abort()
    assert not mapped.release()
    assert mapped.release(0)
    env.close()


def test_only_data_files_of_lmdb_count(tmp_path: Path) -> None:
    before = set(maps())
    env = lmdb.open(str(tmp_path / "a name with spaces"), map_size=1 << 28)
    with env.begin(write=True) as txn:
        txn.put(b"key", VALUE)
    assert [octets for _, octets in set(maps()) - before] == [1 << 28]
    env.close()


def test_a_process_that_computes_keeps_its_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_pages, "BUSY", 0.1)
    clock = {"wall": 100.0, "cpu": 5.0}
    monkeypatch.setattr(mapped_pages.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(mapped_pages.time, "process_time", lambda: clock["cpu"])
    mapped = MappedPages()
    clock["wall"] += 10.0
    clock["cpu"] += 1.5
    assert not mapped.release(0)
    clock["wall"] += 10.0
    clock["cpu"] += 0.5
    assert mapped.release(0)


def test_what_was_closed_since_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth is measured from the least that was resident, not from what an environment took that is closed."""
    taken = {"octets": 100 << 20}
    monkeypatch.setattr(mapped_pages, "resident", lambda: taken["octets"])
    mapped = MappedPages()
    assert mapped.release()
    taken["octets"] = 10 << 20
    assert not mapped.release()
    taken["octets"] = 12 << 20
    assert mapped.release()
