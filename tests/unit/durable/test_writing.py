"""Every way to change a row is in the journal: replayed onto an older copy it gives the same tables."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.durable import journal
from fastmail.durable.env import Environment
from fastmail.durable.writing import delete_all
from tests.support.examples import some
from tests.support.journals import crashed, environment, found, put, rows, take

TABLES = ["rows", "more"]


def entries(place: Path) -> list[tuple[int, str, bytes, bytes]]:
    return [
        (kind, table, key, bytes(value)) for one in found(place) for kind, table, key, value in journal.entries(one)
    ]


def change(env: Environment, work: Callable[[Any, Any], None]) -> None:
    txn = env.begin(write=True)
    try:
        work(txn, env.db["rows"])
        txn.commit()
    finally:
        txn.abort()


CHANGES: list[tuple[str, Callable[[Any, Any], Any], Any, list[tuple[int, str, bytes, bytes]]]] = [
    ("put", lambda t, d: t.put(b"c", b"3", db=d), True, [(journal.PUT, "rows", b"c", b"3")]),
    ("put over", lambda t, d: t.put(b"a", b"9", db=d), True, [(journal.PUT, "rows", b"a", b"9")]),
    ("put if new", lambda t, d: t.put(b"c", b"3", db=d, overwrite=False), True, [(journal.PUT, "rows", b"c", b"3")]),
    ("put if new, and it is not", lambda t, d: t.put(b"a", b"9", db=d, overwrite=False), False, []),
    ("append", lambda t, d: t.put(b"c", b"3", db=d, append=True), True, [(journal.PUT, "rows", b"c", b"3")]),
    ("append before the end", lambda t, d: t.put(b"a", b"3", db=d, append=True), False, []),
    ("delete", lambda t, d: t.delete(b"a", db=d), True, [(journal.DELETE, "rows", b"a", b"")]),
    ("delete what is not there", lambda t, d: t.delete(b"x", db=d), False, []),
    ("pop", lambda t, d: t.pop(b"b", db=d), b"2", [(journal.DELETE, "rows", b"b", b"")]),
    ("pop what is not there", lambda t, d: t.pop(b"x", db=d), None, []),
    ("drop", lambda t, d: t.drop(d), None, [(journal.CLEAR, "rows", b"", b"")]),
    ("views", lambda t, d: t.put(memoryview(b"c"), bytearray(b"3"), db=d), True, [(journal.PUT, "rows", b"c", b"3")]),
]


@pytest.mark.parametrize(("how", "expected", "noted"), [one[1:] for one in CHANGES], ids=[one[0] for one in CHANGES])
def test_each_change_is_one_entry(tmp_path: Path, how: Callable[[Any, Any], Any], expected: Any, noted: Any) -> None:
    env = environment(tmp_path, TABLES)
    put(env, {b"a": b"1", b"b": b"2"})
    take(env)
    results: list[Any] = []
    change(env, lambda txn, db: results.append(how(txn, db)))
    assert results == [expected] and entries(tmp_path) == noted
    env.close()


def test_a_cursor_is_in_the_journal_too(tmp_path: Path) -> None:
    env = environment(tmp_path, TABLES)
    put(env, {b"a": b"1", b"b": b"2", b"c": b"3"})
    take(env)

    def work(txn: Any, db: Any) -> None:
        cursor = txn.cursor(db=db)
        assert not cursor.delete()
        assert cursor.set_range(b"b") and cursor.delete() and bytes(cursor.key()) == b"c"
        cursor.putmulti([(b"d", b"4"), (b"e", b"5")])

    change(env, work)
    assert entries(tmp_path) == [
        (journal.DELETE, "rows", b"b", b""),
        (journal.PUT, "rows", b"d", b"4"),
        (journal.PUT, "rows", b"e", b"5"),
    ]
    env.close()


def test_rows_that_are_deleted_at_once_are_each_in_the_journal(tmp_path: Path) -> None:
    env = environment(tmp_path, TABLES)
    put(env, {b"a": b"1", b"b": b"2", b"c": b"3"})
    take(env)

    def work(txn: Any, db: Any) -> None:
        assert delete_all(txn, [b"a", b"x", b"c", b"a"], db) == [1, 3]

    change(env, work)
    assert entries(tmp_path) == [(journal.DELETE, "rows", b"a", b""), (journal.DELETE, "rows", b"c", b"")]
    assert rows(env)["rows"] == {b"b": b"2"}
    env.close()


def test_every_way_of_reading_with_a_cursor_is_lmdbs_own(tmp_path: Path) -> None:
    env = environment(tmp_path, TABLES)
    put(env, {b"a": b"1", b"c": b"3", b"e": b"5"})

    def work(txn: Any, db: Any) -> None:
        mine, own = txn.cursor(db=db), txn.raw.cursor(db)
        calls: list[tuple[str, tuple[Any, ...]]] = [
            ("first", ()), ("next", ()), ("next", ()), ("next", ()), ("last", ()), ("prev", ()), ("set_key", (b"c",)),
            ("set_key", (b"d",)), ("set_range", (b"d",)), ("set_range", (b"f",)), ("getmulti", ([b"a", b"b", b"e"],)),
        ]  # fmt: skip
        for name, arguments in calls:
            assert getattr(mine, name)(*arguments) == getattr(own, name)(*arguments)
            assert (mine.key(), mine.value(), mine.item()) == (own.key(), own.value(), own.item())
        assert mine.first() and own.first()
        for keys, values in ((True, True), (True, False), (False, True)):
            assert list(mine.iternext(keys, values=values)) == list(own.iternext(keys, values=values))
            assert list(mine.iterprev(keys, values=values)) == list(own.iterprev(keys, values=values))
        assert len(list(mine.iternext())) == 3

    change(env, work)
    env.close()


def test_a_table_itself_stays(tmp_path: Path) -> None:
    env = environment(tmp_path)
    with pytest.raises(ValueError, match="tables stay"):
        change(env, lambda txn, db: txn.drop(db, delete=True))
    env.close()


def test_what_is_not_committed_or_changes_nothing_leaves_no_record(tmp_path: Path) -> None:
    env = environment(tmp_path)
    take(env)
    txn = env.begin(write=True)
    txn.put(b"a", b"1", db=env.db["rows"])
    txn.abort()
    change(env, lambda txn, db: txn.get(b"a", db=db))
    assert entries(tmp_path) == [] and rows(env) == {"rows": {}}
    put(env, {b"b": b"2"})
    assert len(found(tmp_path)) == 1
    env.close()


def test_paths_are_written_down_as_the_journal_has_them(tmp_path: Path) -> None:
    env = environment(tmp_path)
    take(env)
    txn = env.begin(write=True)
    txn.made(bytes(tmp_path) + b"/mail/new/1", 5, [b"con", b"tent"])
    txn.piece(b"/elsewhere/1", 8, [b"piece"])
    txn.commit()
    assert entries(tmp_path) == [
        (journal.MADE, "", b"mail/new/1", journal.I64.pack(5) + b"content"),
        (journal.PIECE, "", b"/elsewhere/1", journal.U64.pack(8) + b"piece"),
    ]
    env.close()


KEYS = st.binary(min_size=1, max_size=2)
VALUES = st.one_of(st.binary(max_size=20), st.integers(0, 6000).map(lambda n: b"v" * n))
ONE = st.one_of(
    st.tuples(st.just("put"), KEYS, VALUES, st.booleans(), st.booleans()),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("pop"), KEYS),
    st.tuples(st.just("drop")),
    st.tuples(st.just("cursor"), KEYS, st.integers(1, 3)),
    st.tuples(st.just("delete all"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("putmulti"), st.lists(st.tuples(KEYS, VALUES), max_size=4)),
)
STEPS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(TABLES), ONE), max_size=6),
        st.sampled_from(["commit", "commit", "commit", "abort", "checkpoint"]),
    ),
    max_size=12,
)


def apply(txn: Any, db: Any, one: tuple[Any, ...]) -> None:
    match one:
        case ("put", key, value, overwrite, append):
            txn.put(key, value, db=db, overwrite=overwrite, append=append)
        case ("delete", key):
            txn.delete(key, db=db)
        case ("delete all", keys):
            there = [txn.get(key, db=db) is not None and key not in keys[:n] for n, key in enumerate(keys)]
            assert delete_all(txn, keys, db) == [n for n, one in enumerate(there) if not one]
        case ("pop", key):
            txn.pop(key, db=db)
        case ("drop",):
            txn.drop(db)
        case ("cursor", key, times):
            cursor = txn.cursor(db=db)
            if cursor.set_range(key):
                for _ in range(times):
                    cursor.delete()
        case ("putmulti", some):
            txn.cursor(db=db).putmulti(some)


@settings(deadline=None, max_examples=some(60))
@given(STEPS)
def test_random_transactions_are_replayed_to_the_same_tables(steps: Any) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "one"
        place.mkdir()
        env = environment(place, TABLES, least=8192)
        for changes, end in steps:
            txn = env.begin(write=True)
            for table, one in changes:
                apply(txn, env.db[table], one)
            if end == "abort":
                txn.abort()
                continue
            txn.commit()
            if end == "checkpoint":
                take(env)
        expected = rows(env)
        other = environment(crashed(place, Path(directory) / "two"), TABLES)
        assert rows(other) == expected and other.recovered == 1
        other.close()
        env.close()
