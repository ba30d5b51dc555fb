"""leaves: rows read from the pages of an LMDB file, against the same rows by LMDB's own cursor."""

import random
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from fastmail._core import leaves, rows
from fastmail._core.uidset import UidSet
from tests.support.examples import FEW

BOX = b"\0\0\0\0\0\0\0\7\0\0\0\3"
OTHERS = [b"\0\0\0\0\0\0\0\7\0\0\0\2", b"\0\0\0\0\0\0\0\7\0\0\0\4"]


def key(uid: int, box: bytes = BOX) -> bytes:
    return box + uid.to_bytes(4, "big")


def value(rng: random.Random, uid: int, size: int) -> bytes:
    return b"\5\0nname" + rng.randbytes(size) + b"%d" % uid


@pytest.fixture(params=[1, 40, 800])
def env(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[lmdb.Environment]:
    """Rows of three mailboxes, some on pages of their own, and holes where some were removed again."""
    rng = random.Random(request.param)
    env = lmdb.open(str(tmp_path), max_dbs=4, map_size=1 << 28)
    table, other = env.open_db(b"msg"), env.open_db(b"page")
    for _ in range(4):
        with env.begin(write=True) as txn:
            for box in [BOX, *OTHERS]:
                for _ in range(request.param):
                    uid = rng.randint(1, 4 * request.param)
                    if rng.random() < 0.2:
                        txn.delete(key(uid, box), db=table)
                    else:
                        size = rng.choice([0, 20, 300, 1500, 5000, 70000 if rng.random() < 0.05 else 900])
                        txn.put(key(uid, box), value(rng, uid, size), db=table)
            txn.put(b"x", b"y", db=other)
    yield env
    env.close()


def octets(env: lmdb.Environment) -> bytes:
    return (Path(env.path()) / "data.mdb").read_bytes()


def plain(env: lmdb.Environment) -> dict[int, bytes]:
    with env.begin(db=env.open_db(b"msg")) as txn:
        return {int.from_bytes(k[12:], "big"): v for k, v in txn.cursor() if k[:12] == BOX}


def opened(env: lmdb.Environment, name: bytes = b"msg") -> leaves.Table:
    found = leaves.table(octets(env), env.info()["last_txnid"], name)
    assert found is not None
    return found


def test_rows_are_those_of_the_cursor(env: lmdb.Environment) -> None:
    wanted = plain(env)
    found, last, more = rows.up_to(opened(env), key(0), 0xFFFFFFFF, 1 << 30)
    assert [bytes(v) for v in found] == list(wanted.values())
    assert last == max(wanted, default=0) and not more


def test_some_at_a_time(env: lmdb.Environment) -> None:
    wanted, table, at, found = plain(env), opened(env), 0, []
    while True:
        some, last, more = rows.up_to(table, key(at), 0xFFFFFFF0, 7)
        found += [bytes(v) for v in some]
        if not more:
            break
        at = last + 1
    assert found == list(wanted.values())


def test_summaries_of_any_set_in_any_order(env: lmdb.Environment) -> None:
    wanted, rng = plain(env), random.Random(5)
    top = max(wanted, default=1)
    for _ in range(30):
        uids = UidSet.of(sorted(rng.sample(range(1, top + 9), rng.randint(1, min(60, top)))))
        late = {top + 5: b"late", top + 7: b"later"}
        there = {uid: wanted[uid][7:] for uid in uids if uid in wanted} | {u: v for u, v in late.items() if u in uids}
        found = leaves.Summaries(opened(env), BOX, uids, dict(late))
        assert {uid: bytes(one) for uid, one in found.items()} == there
        for uid in [*uids, *rng.sample(range(1, top + 9), min(40, top))]:
            one = found.get(uid)
            assert (bytes(one) if one is not None else None) == there.get(uid)


def test_what_another_reader_must_read(env: lmdb.Environment, tmp_path: Path) -> None:
    data, last = octets(env), env.info()["last_txnid"]
    assert leaves.table(data, last - 2, b"msg") is None  # its root is gone
    assert leaves.table(data, last + 1, b"msg") is None
    assert leaves.table(data, last, b"nothing") is None
    assert leaves.table(data[:8192], last, b"msg") is None  # longer than what is mapped
    assert leaves.table(b"", last, b"msg") is None
    assert leaves.table(bytes(1 << 16), last, b"msg") is None
    assert leaves.table(data, last - 1, b"msg") is not None  # the commit before is still there


def test_nothing_behind_the_end_of_the_file_is_read(env: lmdb.Environment) -> None:
    data, last, said = octets(env), env.info()["last_txnid"], 0
    for end in range(0, len(data), len(data) // 30 // 4096 * 4096 or 4096):
        try:
            table = leaves.table(data[:end] + b"\xff" * (len(data) - end), last, b"msg", end)
            if table is not None:
                rows.up_to(table, key(0), 0xFFFFFFFF, 1 << 30)
        except leaves.Damaged:
            said += 1
    assert said


def test_an_empty_table(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=2) as env:
        env.open_db(b"msg")
        assert rows.up_to(opened(env), key(0), 9, 9) == ([], 0, False)
        assert leaves.Summaries(opened(env), BOX, UidSet.of([1]), {}).get(1) is None


def test_damage_is_said_and_nothing_is_read_outside(env: lmdb.Environment) -> None:
    data, last, rng, said = octets(env), env.info()["last_txnid"], random.Random(11), 0
    for _ in range(150 if FEW else 300):
        spoiled = bytearray(data)
        for _ in range(rng.choice([1, 5, 100])):
            spoiled[rng.randrange(8192, len(spoiled))] ^= 1 << rng.randrange(8)
        try:
            table = leaves.table(spoiled, last, b"msg")
            if table is not None:
                rows.up_to(table, key(0), 0xFFFFFFFF, 1 << 30)
                leaves.Summaries(table, BOX, UidSet.of_ranges((1, 9000)), {}).get(17)
        except leaves.Damaged:
            said += 1
    assert said
