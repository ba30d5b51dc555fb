"""What is appended to a mailbox: seen by all readers alike, whatever else happens to the mailbox."""

from pathlib import Path

import pytest

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable.env import Environment
from fastmail.durable.segments import SegmentReader
from fastmail.durable.transaction import Txn
from fastmail.model.errors import CannotDo
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import box_rows, layout, mailboxes, messages, removal
from fastmail.store.local.index.layout import TABLES
from fastmail.store.local.index.snapshot import LocalSnapshot
from fastmail.store.local.index.tables import Tables


class Shard:
    """An environment with one mailbox, written without a queue."""

    def __init__(self, directory: Path, directly: bool) -> None:
        self.directly = directly  # rows are read from the pages of the file
        self.env = Environment(str(directory), TABLES, layout.LAYOUT, 1 << 26)
        self.tables = self.handles()
        with self.env.write() as txn:
            self.key = mailboxes.create(txn, self.tables, 1, "INBOX", 0).key

    def handles(self) -> Tables:
        reader = SegmentReader(self.env.path + "/segments")
        whole = self.env.table if self.directly else None
        return Tables(**self.env.db, reader=reader, whole=whole)

    def do(self, what: object, t: Tables | None = None, commit: bool = True) -> object:
        t = t or self.tables
        txn = self.env.begin(write=True)
        try:
            result = what(txn, t)  # type: ignore[operator]
            if commit:
                txn.commit()
            return result
        finally:
            txn.abort()

    def append(self, flags: int = 0, t: Tables | None = None, commit: bool = True) -> None:
        message = NewMessage([b"x"], b"summary", 10, 1, flags)
        self.do(lambda txn, t: messages.append(txn, t, self.key, [message], [b"nname"], 5), t, commit)

    def seen(self, t: Tables | None = None) -> tuple[list[int], int, int, int, int]:
        with LocalSnapshot(self.env.begin(), t or self.tables) as snapshot:
            box = snapshot.mailbox(self.key)
            assert box is not None
            uids = [r[0] for page in snapshot.pages(self.key) for r in pages.records(page)]
            present = UidSet().plus_pages(snapshot.presence(self.key), 0)
            assert list(present) == uids
            asked = present.plus(UidSet.of_ranges((1, 9999)))
            summaries = snapshot.summaries(self.key, asked)
            assert sorted(uid for uid, _ in summaries.items()) == uids
            assert all(summaries.get(uid) == one for uid, one in summaries.items())
            assert [uid for uid, _ in snapshot.files(self.key)] == uids
            assert list(snapshot.marks(self.key, asked).items()) == list(snapshot.files(self.key))
            return uids, box.exists, box.unseen, box.uidnext, box.modseq


@pytest.fixture(params=[True, False], ids=["pages", "cursor"])
def shard(tmp_path: Path, request: pytest.FixtureRequest) -> Shard:
    return Shard(tmp_path, request.param)


def test_what_is_appended_is_seen(shard: Shard) -> None:
    for flags in range(40):
        shard.append(flags % 2)
    modseq = shard.seen()[4]
    assert shard.seen()[:4] == (list(range(1, 41)), 40, 20, 41)
    shard.append()
    assert shard.seen() == (list(range(1, 42)), 41, 21, 42, modseq + 1)


def test_another_process_sees_the_same(shard: Shard) -> None:
    other = shard.handles()
    shard.append()
    assert shard.seen(other) == shard.seen()
    shard.append(t=other)
    shard.append()
    assert shard.seen(other) == shard.seen() and shard.seen()[0] == [1, 2, 3]


def test_what_was_not_committed_never_was(shard: Shard) -> None:
    shard.append()
    shard.append(commit=False)
    shard.append()
    assert shard.seen()[0] == [1, 2]


def test_uids_go_on_above_what_was_removed(shard: Shard) -> None:
    for _ in range(3):
        shard.append()
    shard.do(lambda txn, t: messages.store(txn, t, shard.key, UidSet.of([2]), 1, 1, []))
    shard.do(lambda txn, t: removal.expunge(txn, t, shard.key, UidSet.of([1, 3]), 0))
    shard.append()
    assert shard.seen()[:4] == ([2, 4], 2, 1, 5)


def test_a_mailbox_whose_uids_are_used_up_takes_nothing(shard: Shard) -> None:
    def near_the_end(txn: Txn, t: Tables) -> None:
        box = box_rows.row(txn, t, shard.key)
        box.uidnext = layout.MAX_UID - 1
        box_rows.save(txn, t, box)

    shard.do(near_the_end)
    shard.append()
    before = shard.seen()
    with pytest.raises(CannotDo):
        shard.append()
    assert shard.seen() == before and before[0] == [layout.MAX_UID - 1]


def test_a_dropped_mailbox_has_nothing(shard: Shard) -> None:
    shard.append()
    shard.do(lambda txn, t: mailboxes.drop(txn, t, box_rows.row(txn, t, shard.key)))
    shard.do(lambda txn, t: mailboxes.create(txn, t, 1, "INBOX", 0))
    with LocalSnapshot(shard.env.begin(), shard.tables) as snapshot:
        assert snapshot.mailbox(shard.key) is None
        assert list(snapshot.pages(shard.key)) == []
