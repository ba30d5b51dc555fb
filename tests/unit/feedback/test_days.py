"""Counts by day and domain: summed, bounded, claimed once."""

from pathlib import Path

import pytest

from fastmail.feedback import days as module
from fastmail.feedback.days import KEPT, SEEN, TOLD, VERSION, Days, Head, More, day_of, shown_day

ORG = (20_000, "example.org")


@pytest.fixture
def days(tmp_path: Path) -> Days:
    return Days(str(tmp_path), per_domain=3, rows=20)


def rows(days: Days, table: str = SEEN, key: tuple[int, str] = ORG) -> dict[bytes, int]:
    return dict(days.rows(table, *key)[1])


def test_counts_are_added_to_those_that_are_there(days: Days) -> None:
    days.add(SEEN, {ORG: More({b"a": 1, b"b": 2}, about=b"old")})
    days.add(SEEN, {ORG: More({b"b": 5}, 7, b"new"), (20_001, "example.org"): More({b"a": 1})})
    assert rows(days) == {b"a": 1, b"b": 7}
    head = days.rows(SEEN, *ORG)[0]
    assert (head.rows, head.left_out, head.about) == (2, 7, b"new")
    days.add(SEEN, {ORG: More({b"a": 1})})
    assert days.rows(SEEN, *ORG)[0].about == b"new"
    assert days.keys(SEEN) == [ORG, (20_001, "example.org")]
    assert days.keys(SEEN, 20_001) == [(20_001, "example.org")] and days.keys(SEEN, 0, 20_000) == [ORG]
    days.close()
    assert rows(days) == {b"a": 2, b"b": 7}, "it is opened again, and is all there"


def test_domains_that_begin_alike_do_not_mix(days: Days) -> None:
    more = {(5, name): More({name.encode(): 1}) for name in ("a.test", "a.test.org", "a.tes")}
    days.add(SEEN, more)
    assert sorted(days.keys(SEEN)) == sorted(more)
    assert rows(days, key=(5, "a.test")) == {b"a.test": 1}
    assert [(day, dict(found)) for day, _, found in days.of(SEEN, "a.tes", 0, 9)] == [(5, {b"a.tes": 1})]


def test_a_domain_has_so_many_rows_a_day(days: Days) -> None:
    days.add(SEEN, {ORG: More({b"%d" % number: 10 for number in range(5)})})
    head, found = days.rows(SEEN, *ORG)
    assert (len(found), head.rows, head.left_out) == (3, 3, 20)
    days.add(SEEN, {ORG: More({found[0][0]: 1, b"new": 1})})
    head, found = days.rows(SEEN, *ORG)
    assert sum(messages for _, messages in found) == 31 and head.left_out == 21


def test_a_table_has_so_many_rows(days: Days) -> None:
    for number in range(30):
        days.add(SEEN, {(1, f"d{number}.test"): More({b"x": 1})})
    with days.env.read() as txn:
        assert txn.stat(days.env.db[SEEN])["entries"] <= 20
    days.add(SEEN, {(1, "d0.test"): More({b"x": 1})})
    assert rows(days, key=(1, "d0.test")) == {b"x": 2}, "what is there goes on counting"


def test_of_what_others_say_the_oldest_goes(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRUNED", 4)
    now = 20_100 * 86400.0
    for number in range(30):
        assert days.add_once(b"%d" % number, TOLD, {(20_000 + number, "a.test"): More({b"x": 1})}, now)
    kept = [day for day, _ in days.keys(TOLD)]
    assert kept[-1] == 20_029 and len(kept) <= 10 and 20_000 not in kept
    days.add_once(b"new", TOLD, {(20_300, "a.test"): More({b"x": 1})}, (20_030 + KEPT) * 86400.0)
    for number in range(10):
        days.add_once(b"%d" % number, TOLD, {(20_300, "a.test"): More({b"x": 1})}, (20_030 + KEPT) * 86400.0)
    assert {day for day, _ in days.keys(TOLD)} == {20_300}


def test_what_was_added_once_is_not_added_again(days: Days) -> None:
    assert days.add_once(b"one", TOLD, {ORG: More({b"x": 1})}, 20_000 * 86400.0)
    assert not days.add_once(b"one", TOLD, {ORG: More({b"x": 1})}, 20_001 * 86400.0)
    assert days.add_once(b"two", TOLD, {ORG: More({b"x": 1})}, 20_001 * 86400.0)
    assert rows(days, TOLD) == {b"x": 2}


def test_who_claims_a_day_has_it_alone(days: Days) -> None:
    assert days.claim(*ORG, 1000.0, 60) is None, "there is nothing"
    days.add(SEEN, {ORG: More({b"a": 3, b"b": 1})})
    claimed = days.claim(*ORG, 1000.0, 60)
    assert claimed is not None and dict(claimed[1]) == {b"a": 3, b"b": 1}
    assert days.claim(*ORG, 1059.0, 60) is None
    again = days.claim(*ORG, 1061.0, 60)
    assert again is not None, "whoever had it died"
    days.add(SEEN, {ORG: More({b"a": 2, b"c": 1})})  # a worker was late
    days.reported(*ORG, claimed[1])
    assert rows(days) == {b"a": 2, b"c": 1} and days.rows(SEEN, *ORG)[0].rows == 2
    later = days.claim(*ORG, 1062.0, 60)
    assert later is not None
    days.reported(*ORG, later[1])
    assert days.keys(SEEN) == []


def test_a_day_that_goes_on(days: Days) -> None:
    days.add(SEEN, {ORG: More({b"a": 3}, 5)})
    claimed = days.claim(*ORG, 1000.0, 60)
    assert claimed is not None
    days.reported(*ORG, claimed[1], 1234)
    days.add(SEEN, {ORG: More({b"b": 1})})
    head, found = days.rows(SEEN, *ORG)
    assert (head.begin, head.left_out, found) == (1235, 0, [(b"b", 1)])


def test_tries_are_counted_and_old_days_go(days: Days) -> None:
    days.add(SEEN, {ORG: More({b"a": 3})})
    assert days.failed(*ORG, 5000.0) == 1 and days.failed(*ORG, 5000.0) == 2
    assert days.claim(*ORG, 4999.0, 60) is None and days.claim(*ORG, 5000.0, 60) is not None
    assert days.failed(1, "x.test", 5.0) == 0
    days.forget(ORG[0])
    assert rows(days)
    days.forget(ORG[0] + 1)
    assert not rows(days) and days.keys(SEEN) == []


def test_rows_of_later_versions_and_damaged_ones_are_passed_over(days: Days) -> None:
    days.add(SEEN, {ORG: More({b"a": 3, b"b": 1})})
    with days.env.write() as txn:
        db = days.env.db[SEEN]
        keys = [bytes(key) for key, _ in txn.cursor(db=db).iternext()]
        txn.put(keys[0], b"\xc1", db=db)
        txn.put(keys[1], bytes([VERSION + 1]) + bytes(8) + b"from the future", db=db)
        txn.put(keys[0] + b"\1", b"", db=db)
    head, found = days.rows(SEEN, *ORG)
    assert head == Head() and len(found) == 1


def test_days_for_people() -> None:
    assert shown_day(day_of(1_750_000_000)) == "2025-06-15"
