"""The layout version of an environment: a newer one is refused and left as it is; an older one is raised."""

from pathlib import Path
from typing import Any

import pytest

from fastmail.durable.env import Environment
from fastmail.durable.layouts import Former, layout_of
from fastmail.model.errors import ConfigError, CorruptData
from tests.support.journals import beside, crashed, environment, put, rows, started


def test_a_newer_layout_is_refused_and_left_alone(tmp_path: Path) -> None:
    place = str(tmp_path / "env")
    env = Environment(place, ["rows"], 7, 1 << 22)
    with env.write() as txn:
        txn.put(b"key", b"value", db=env.db["rows"])
    env.close()
    with pytest.raises(ConfigError, match="layout 7, this one reads 6"):
        Environment(place, ["rows"], 6, 1 << 22)
    assert layout_of(place)[0] == 7


def test_an_older_layout_is_raised(tmp_path: Path) -> None:
    place = str(tmp_path / "env")
    Environment(place, ["rows"], 1, 1 << 22).close()
    assert layout_of(place)[0] == 1
    Environment(place, ["rows"], 2, 1 << 22).close()
    assert layout_of(place)[0] == 2


def test_a_file_that_is_cut_off_harms_nobody_who_asks_for_its_layout(tmp_path: Path) -> None:
    """LMDB would read behind the end of it, which ends the process."""
    place = tmp_path / "env"
    env = Environment(str(place), ["rows"], 3, 1 << 22)
    for n in range(40):
        with env.write() as txn:
            txn.put(b"%d" % n, bytes(1000), db=env.db["rows"])
    env.close()
    assert layout_of(str(place)) == (3, {"rows", "meta"})
    data = place / "data.mdb"
    whole = data.read_bytes()
    for size in range(0, len(whole), 4096):
        data.write_bytes(whole[:size])
        try:
            assert layout_of(str(place))[0] == 3
        except CorruptData:
            pass
        else:
            assert size > 2 * 4096


def test_the_layout_of_one_whose_journal_is_not_replayed_yet(tmp_path: Path) -> None:
    """After a loss of power both meta pages may lead to pages that were never written."""
    (tmp_path / "one").mkdir()
    env = environment(tmp_path / "one")
    put(env, {b"a": b"x"})
    copy = crashed(tmp_path / "one", tmp_path / "copy")
    env.close()
    with open(copy / "env" / "data.mdb", "r+b") as file:
        for number in (0, 1):
            file.seek(number * 4096 + 16 + 24 + 48 + 40)  # the root of the tables
            file.write(b"\x77" * 8)
    assert layout_of(str(copy / "env"))[0] == 1
    environment(copy).close()


def move_two(txn: Any, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Bring two rows over."""
    some = [(bytes(key), bytes(value)) for key, value in txn.cursor(db=old["old"]).iternext()][:2]
    for key, value in some:
        txn.delete(key, db=old["old"])
        assert txn.put(key, value, db=new["rows"], overwrite=False), "it is brought over once"
    return not txn.stat(old["old"])["entries"]


FORMER = (Former(frozenset({"old"}), move_two),)


@pytest.mark.parametrize("clean", [True, False])
def test_tables_of_a_former_layout_are_brought_over_when_their_rows_are_whole(tmp_path: Path, clean: bool) -> None:
    place = tmp_path / "one"
    place.mkdir()
    env = environment(place, ("old", "rows"))
    put(env, {b"a": b"1", b"b": b"2"}, table="old")
    env.checkpoint()
    for n in range(5):  # in the journal alone
        put(env, {b"%d" % n: b"x"}, table="old")
        put(env, {b"r%d" % n: b"y"})
    if not clean:
        crashed(place, beside(place, "copy"))
    env.close()
    place = place if clean else beside(place, "copy")
    expected = {b"a": b"1", b"b": b"2", **{b"%d" % n: b"x" for n in range(5)}, **{b"r%d" % n: b"y" for n in range(5)}}
    env = environment(place, ("rows",), layout=2, former=FORMER)
    assert rows(env) == {"rows": expected}
    put(env, {b"more": b"z"})
    crashed(place, beside(place, "again"))
    env.close()
    for last in (place, beside(place, "again")):  # its journal numbers tables otherwise than that of the former layout
        env = environment(last, ("rows",), layout=2, former=FORMER)
        assert rows(env) == {"rows": {**expected, b"more": b"z"}}
        env.close()
        assert layout_of(str(last / "env")) == (2, {"rows", "meta"})


def test_an_older_version_that_is_at_work_is_not_overtaken(tmp_path: Path) -> None:
    script = "env = environment(Path(sys.argv[1])); print('open', flush=True)\nwhile True: signal.pause()"
    with started(script, tmp_path) as older:
        assert older.stdout is not None and older.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match="in use by an older fastmail"):
            environment(tmp_path, layout=2)
        assert layout_of(str(tmp_path / "env"))[0] == 1
    environment(tmp_path, layout=2).close()
    assert layout_of(str(tmp_path / "env"))[0] == 2
