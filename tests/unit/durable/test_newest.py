"""The number of the last commit in the meta pages of an LMDB file."""

from pathlib import Path

import lmdb
import pytest

from fastmail.durable.newest import MetaPages


def test_each_commit_is_seen_at_once_in_either_page(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)) as env:
        pages = MetaPages(str(tmp_path), env.stat()["psize"])
        for n in range(5):
            with env.begin(write=True) as txn:
                txn.put(b"key", b"%d" % n)
            assert pages.newest() == env.info()["last_txnid"] == n + 1


def test_the_map_outlives_the_environment(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path)) as env:
        with env.begin(write=True) as txn:
            txn.put(b"key", b"value")
        pages = MetaPages(str(tmp_path), env.stat()["psize"])
    assert pages.newest() == 1


def test_a_file_that_is_missing_or_too_short_for_its_pages_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MetaPages(str(tmp_path), 4096)
    (tmp_path / "data.mdb").write_bytes(bytes(100))
    with pytest.raises(ValueError):
        MetaPages(str(tmp_path), 4096)
