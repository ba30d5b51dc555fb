"""References to records in segments, many at once and several to the same, against plain counting."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.durable.env import Environment
from fastmail.durable.segments import SegmentReader
from fastmail.store.interface import NewMessage
from fastmail.store.local.index import copying, layout, mailboxes, messages, references, removal
from fastmail.store.local.index.layout import TABLES
from fastmail.store.local.index.tables import Tables
from tests.support.examples import some
from tests.unit.store.local.index.test_messages import Shard

IDENTS = st.lists(st.integers(0, 4), min_size=1, max_size=8)
STEPS = st.lists(st.tuples(st.sampled_from(["share", "release", "keep", "move"]), IDENTS), max_size=12)


def marked(ident: int) -> bytes:
    return references.REFERENCE.pack(b"s", 1000 + ident * 64, 24, 40)


@settings(deadline=None, max_examples=some(150))
@given(STEPS)
def test_a_record_is_dead_with_its_last_reference(steps: list[tuple[str, list[int]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        env = Environment(directory, TABLES, layout.LAYOUT, 1 << 24)
        t = Tables(**env.db, reader=SegmentReader(directory))
        live = Counter(range(5))
        moved: set[int] = set()
        with env.write() as txn:
            for what, wanted in steps:
                idents = [ident for ident in wanted if live[ident]]
                if what == "share":
                    references.share(txn, t, [marked(ident) for ident in idents])
                    live.update(idents)
                elif what == "release":
                    some = list((Counter(idents) & live).elements())
                    references.release(txn, t, [marked(ident) for ident in some])
                    live.subtract(some)
                elif what == "keep":
                    references.keep(txn, t, [marked(ident) for ident in idents])
                else:
                    for ident in set(idents) - moved:
                        at = references.place_of(marked(ident))[0]
                        txn.put(layout.U64.pack(at), layout.U64.pack(at + (1 << 20)), db=t.moved)
                        moved.add(ident)
                for ident in range(5):
                    at = references.place_of(marked(ident))[0]
                    row = txn.get(layout.U64.pack(at), db=t.ref)
                    where = at + (1 << 20) if ident in moved else at
                    dead = txn.get(layout.U64.pack(where), db=t.dead)
                    assert (dead is not None) == (live[ident] == 0)
                    assert dead is None or references.COUNT.unpack(dead)[0] == 64
                    assert (references.COUNT.unpack(row)[0] if row is not None else 0) == max(0, live[ident] - 1)
                    assert row is None or live[ident]
                    assert (txn.get(layout.U64.pack(at), db=t.moved) is not None) == (
                        ident in moved and live[ident] > 0
                    )
        env.close()


@pytest.mark.parametrize("move", [False, True])
def test_what_is_copied_is_what_the_message_has_now(tmp_path: Path, move: bool) -> None:
    """A conversion may have come between looking and copying: then the old record is dead already."""
    shard = Shard(tmp_path, True)
    message = NewMessage([b"x"], b"summary", 10, 1, 0)
    shard.do(lambda txn, t: messages.append(txn, t, shard.key, [message] * 2, [marked(0), marked(1)], 5))
    target = shard.do(lambda txn, t: mailboxes.create(txn, t, 1, "Two", 0).key)
    assert isinstance(target, bytes)
    with pytest.raises(copying.SourceMoved):
        shard.do(
            lambda txn, t: copying.copy(txn, t, shard.key, target, [(1, marked(0), 0), (2, marked(2), 0)], 5, move)
        )
    shard.do(lambda txn, t: copying.copy(txn, t, shard.key, target, [(1, marked(0), 0), (2, marked(1), 0)], 5, move))
    with shard.env.read() as txn:
        assert txn.stat(shard.tables.dead)["entries"] == 0
        counts = [references.COUNT.unpack(count)[0] for _, count in txn.cursor(db=shard.tables.ref).iternext()]
        assert counts == ([0, 0] if move else [1, 1])
    shard.do(lambda txn, t: removal.expunge(txn, t, target, None, 0))
    with shard.env.read() as txn:
        assert txn.stat(shard.tables.dead)["entries"] == (2 if move else 0)
    shard.env.close()
