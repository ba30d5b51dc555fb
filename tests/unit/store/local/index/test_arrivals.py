"""Arrivals: seen before and after they are settled, once each, whatever the order of what happens to the mailbox."""

from pathlib import Path

import pytest

from fastmail._core import pages
from fastmail._core.uidset import UidSet
from fastmail.durable.env import Environment
from fastmail.durable.segments import SegmentReader
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import arrivals, box_rows, layout, mailboxes, messages, removal
from fastmail.store.local.index.arrivals import Arrivals
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
        return Tables(**self.env.db, arrivals=Arrivals(self.env.db["new"]), reader=reader, whole=whole)

    def do(self, what: object, t: Tables | None = None, commit: bool = True) -> object:
        t = t or self.tables
        txn = self.env.begin(write=True)
        t.arrivals.begun(txn)
        result = what(txn, t)  # type: ignore[operator]
        if commit:
            txn.commit()
        else:
            txn.abort()
        return result

    def arrive(self, flags: int = 0, t: Tables | None = None, commit: bool = True) -> None:
        message = NewMessage([b"x"], b"summary", 10, 1, flags)
        self.do(lambda txn, t: messages.append(txn, t, self.key, [message], [b"nname"], 5), t, commit)

    def seen(self, t: Tables | None = None) -> tuple[list[int], int, int, int, int]:
        with LocalSnapshot(self.env.begin(), t or self.tables) as snapshot:
            box = snapshot.mailbox(self.key)
            assert box is not None
            uids = [r[0] for page in snapshot.pages(self.key) for r in pages.records(page)]
            present = UidSet().plus_pages(snapshot.presence(self.key), 0)
            assert list(present) == uids
            summaries = snapshot.summaries(self.key, UidSet.of_ranges((1, 9999)))
            assert sorted(uid for uid, _ in summaries.items()) == uids
            assert all(summaries.get(uid) == one for uid, one in summaries.items())
            assert [uid for uid, _ in snapshot.files(self.key)] == uids
            assert list(snapshot.marks(self.key, UidSet.of_ranges((1, 9999))).items()) == list(snapshot.files(self.key))
            return uids, box.exists, box.unseen, box.uidnext, box.modseq


@pytest.fixture(params=[True, False], ids=["pages", "cursor"])
def shard(tmp_path: Path, request: pytest.FixtureRequest) -> Shard:
    return Shard(tmp_path, request.param)


def test_seen_before_and_after_settling(shard: Shard) -> None:
    for flags in range(40):
        shard.arrive(flags % 2)
    before = shard.seen()
    assert before[:4] == (list(range(1, 41)), 40, 20, 41)
    shard.do(lambda txn, t: box_rows.settle(txn, t, [shard.key]))
    assert shard.seen() == before
    shard.arrive()
    assert shard.seen()[0] == list(range(1, 42))


def test_another_process_sees_the_same(shard: Shard) -> None:
    other = shard.handles()
    shard.arrive()
    assert shard.seen(other) == shard.seen()
    shard.arrive(t=other)
    shard.do(lambda txn, t: box_rows.settle(txn, t, [shard.key]))
    shard.arrive(t=other)
    assert shard.seen(other) == shard.seen() and shard.seen()[0] == [1, 2, 3]


def test_what_was_not_committed_never_was(shard: Shard) -> None:
    shard.arrive()
    shard.arrive(commit=False)
    shard.arrive()
    assert shard.seen()[0] == [1, 2]


def test_a_change_settles_first(shard: Shard) -> None:
    for _ in range(3):
        shard.arrive()
    shard.do(lambda txn, t: messages.store(txn, t, shard.key, UidSet.of([2]), 1, 1, []))
    shard.do(lambda txn, t: removal.expunge(txn, t, shard.key, UidSet.of([1]), 0))
    shard.arrive()
    assert shard.seen()[:4] == ([2, 3, 4], 3, 2, 5)


def test_numbers_are_not_given_twice_when_all_is_settled(shard: Shard) -> None:
    for _ in range(3):
        shard.arrive()
        shard.do(lambda txn, t: box_rows.settle(txn, t, [shard.key]))
        fresh = shard.handles()
        assert shard.seen(fresh)[0] == shard.seen()[0]
    assert shard.seen()[0] == [1, 2, 3]


def test_arrivals_of_a_dropped_mailbox_are_trimmed(shard: Shard) -> None:
    shard.arrive()
    shard.do(lambda txn, t: mailboxes.drop(txn, t, box_rows.row(txn, t, shard.key)))
    shard.do(lambda txn, t: mailboxes.create(txn, t, 1, "INBOX", 0))
    shard.do(lambda txn, t: box_rows.settle(txn, t, []))
    with LocalSnapshot(shard.env.begin(), shard.tables) as snapshot:
        assert snapshot.mailbox(shard.key) is None
        assert list(snapshot.pages(shard.key)) == []


def test_a_process_that_only_reads_forgets_what_others_settled(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "KEEP", 0.0)
    reader = shard.handles()
    for _ in range(3):
        for _ in range(2 * arrivals.SOME):
            shard.arrive()
        shard.seen(reader)
        shard.do(lambda txn, t: box_rows.settle(txn, t, [shard.key]))
    shard.arrive()
    shard.seen(reader)
    assert len(reader.arrivals._order) <= 3 * arrivals.SOME
    assert shard.seen(reader) == shard.seen()
