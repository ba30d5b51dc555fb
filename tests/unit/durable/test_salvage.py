"""An LMDB file is walked without LMDB, and saved where it is damaged."""

import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import lmdb
import pytest

from fastmail.durable import errors, salvage
from fastmail.durable.env import Environment
from fastmail.model.errors import CorruptData, StorageFailed
from tests.support.examples import some

TABLES = ["a", "b", "c"]
MAP = 1 << 28
Rows = dict[str, dict[bytes, bytes]]


def make(path: Path) -> Rows:
    """Rows that came and went: free pages, branches, values on pages of their own. The same ones for every test."""
    made, rows = _made()
    shutil.copytree(made.name, path, dirs_exist_ok=True)
    return {name: dict(found) for name, found in rows.items()}


@cache
def _made() -> tuple["tempfile.TemporaryDirectory[str]", Rows]:
    made = tempfile.TemporaryDirectory(prefix="fastmail-salvage-")
    env = Environment(made.name, TABLES, 1, MAP)
    rng = random.Random(1)
    rows: Rows = {name: {} for name in TABLES}
    for _ in range(12):
        with env.write() as txn:
            for _ in range(300):
                name, key = rng.choice(TABLES), b"%08d" % rng.randrange(9000)
                if rng.random() < 0.3:
                    txn.delete(key, db=env.db[name])
                    rows[name].pop(key, None)
                else:
                    value = rng.randbytes(rng.choice([3, 50, 300, 5000, 20000]))
                    txn.put(key, value, db=env.db[name])
                    rows[name][key] = value
    env.close()
    assert salvage.sound(env.path, TABLES, MAP).damage == []
    return made, rows


def read(path: Path) -> Rows:
    env = lmdb.open(str(path), max_dbs=9, map_size=MAP, readonly=True, lock=False)
    try:
        out: Rows = {}
        for name in TABLES:
            table = env.open_db(name.encode(), create=False)
            with env.begin() as txn:
                out[name] = {bytes(k): bytes(v) for k, v in txn.cursor(db=table).iternext()}
        return out
    finally:
        env.close()


def harm(path: Path, change: Any) -> None:
    data = path / "data.mdb"
    raw = bytearray(data.read_bytes())
    change(raw)
    data.write_bytes(raw)


def flip(path: Path, at: int, bit: int) -> None:
    """Turn one bit of the file over, in place; a second time to mend it."""
    with open(path / "data.mdb", "r+b", buffering=0) as file:
        file.seek(at)
        octet = file.read(1)[0] ^ 1 << bit
        file.seek(at)
        file.write(bytes([octet]))


def save(path: Path) -> salvage.Soundness:
    assert salvage.examine(str(path), TABLES).damage
    return salvage.salvage(str(path), TABLES, MAP, "then")


def pages(raw: bytes, kind: int) -> list[int]:
    """Pages of a kind whose number is their own, as the newest commit may see them."""
    return [
        n for n in range(2, len(raw) // 4096)
        if salvage.HEAD.unpack_from(raw, n * 4096)[:3:2] == (n, kind)
    ]  # fmt: skip


def test_a_sound_file(tmp_path: Path) -> None:
    rows = make(tmp_path / "x")
    found = salvage.examine(str(tmp_path / "x"), TABLES)
    assert (found.damage, found.hurt) == ([], set())
    assert found.rows == sum(map(len, rows.values())) + 1


def test_every_row_outside_the_damage_is_saved(tmp_path: Path) -> None:
    rows = make(tmp_path / "x")
    rng = random.Random(2)
    raw = (tmp_path / "x" / "data.mdb").read_bytes()
    leaf = rng.choice(pages(raw, salvage.LEAF)[-40:])

    def flip(raw: bytearray) -> None:
        raw[leaf * 4096 + 10] ^= 0x40  # flags of the page

    harm(tmp_path / "x", flip)
    if salvage.examine(str(tmp_path / "x"), TABLES).damage:
        found = save(tmp_path / "x")
        saved = read(tmp_path / "x")
        lost = sum(len(rows[name]) - len(saved[name]) for name in TABLES)
        assert 0 < lost < 200 and len(found.hurt) == 1
        assert all(rows[name][key] == value for name in TABLES for key, value in saved[name].items())
    assert not salvage.examine(str(tmp_path / "x"), TABLES).damage


def test_below_a_damaged_branch_everything_is_found(tmp_path: Path) -> None:
    rows = make(tmp_path / "x")
    walk = salvage.Walk(str(tmp_path / "x"))
    root = salvage.TREE.unpack(dict(walk.tables())["b"])[-1]
    walk.close()

    def wipe(raw: bytearray) -> None:
        raw[root * 4096 : root * 4096 + 4096] = bytes(4096)

    harm(tmp_path / "x", wipe)
    assert save(tmp_path / "x").hurt == {"b"}
    assert read(tmp_path / "x") == rows
    assert (tmp_path / "x.damaged-then" / "data.mdb").exists()


@pytest.mark.parametrize("number", [0, 1])
def test_one_of_the_meta_pages_is_enough(tmp_path: Path, number: int) -> None:
    rows = make(tmp_path / "x")

    def wipe(raw: bytearray) -> None:
        raw[number * 4096 + 16] ^= 1

    harm(tmp_path / "x", wipe)
    save(tmp_path / "x")
    saved = read(tmp_path / "x")
    older = sum(len(rows[name].keys() ^ saved[name].keys()) for name in TABLES)
    assert older < 300, "at most the last commit is missing"


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    rows = make(tmp_path / "x")
    data = tmp_path / "x" / "data.mdb"
    size = data.stat().st_size
    data.write_bytes(data.read_bytes()[: size // 2])
    save(tmp_path / "x")
    saved = read(tmp_path / "x")
    assert 0 < sum(map(len, saved.values())) < sum(map(len, rows.values()))


def test_no_damage_ends_the_process_that_looks(tmp_path: Path) -> None:
    make(tmp_path / "x")
    raw = (tmp_path / "x" / "data.mdb").read_bytes()
    rng = random.Random(4)
    for _ in range(some(60)):
        changed = bytearray(raw)
        for page in rng.sample(pages(raw, salvage.LEAF) + pages(raw, salvage.BRANCH), 3):
            for _ in range(8):
                changed[page * 4096 + rng.randrange(64)] ^= 1 << rng.randrange(8)
        changed[rng.randrange(8192)] ^= 1 << rng.randrange(8)
        (tmp_path / "x" / "data.mdb").write_bytes(changed)
        salvage.examine(str(tmp_path / "x"), TABLES)


def test_what_had_data_is_not_taken_for_new(tmp_path: Path) -> None:
    make(tmp_path / "x")
    (tmp_path / "x" / "data.mdb").unlink()
    with pytest.raises(CorruptData, match="missing or empty"):
        Environment(str(tmp_path / "x"), TABLES, 1, MAP)
    assert salvage.salvage(str(tmp_path / "x"), TABLES, MAP, "then", empty=False).rows == 0
    assert not (tmp_path / "x.damaged-then").exists()
    salvage.salvage(str(tmp_path / "x"), TABLES, MAP, "then")
    assert read(tmp_path / "x") == {name: {} for name in TABLES}


def test_what_is_called_sound_can_be_found(tmp_path: Path) -> None:
    """A flipped bit in a key, of a row or of a branch, hides rows from LMDB's search: never called sound then."""
    make(tmp_path)
    raw = (tmp_path / "data.mdb").read_bytes()
    walk = salvage.Walk(str(tmp_path))
    keys: list[int] = []
    for name, root in list(walk.tables()):
        list(walk.tree(root, name))
    for number in sorted(walk._seen):
        page = raw[number * walk.size : (number + 1) * walk.size]
        _, _, flags, lower, _ = salvage.HEAD.unpack_from(page)
        if flags in (salvage.BRANCH, salvage.LEAF):
            nodes = [int.from_bytes(page[at : at + 2], "little") for at in range(16, lower, 2)]
            keys += [number * walk.size + node + 8 for node in (nodes[0], nodes[-1])]
    walk.close()
    rng = random.Random(2)
    hidden = 0
    tried = rng.sample(keys, some(len(keys)))
    for at in tried:
        place, bit = at + rng.randrange(8), rng.randrange(8)
        flip(tmp_path, place, bit)
        if salvage.examine(str(tmp_path), TABLES).damage:
            hidden += 1
        else:
            env = lmdb.open(str(tmp_path), max_dbs=9, map_size=MAP, readonly=True, lock=False)
            with env.begin() as txn:
                for name in TABLES:
                    table = env.open_db(name.encode(), txn=txn, create=False)
                    assert all(txn.get(key, db=table) == value for key, value in list(txn.cursor(db=table)))
            env.close()
        flip(tmp_path, place, bit)
    assert len(keys) > 100 and hidden > len(tried) // 4


def test_no_flip_in_what_holds_a_page_together_is_called_sound(tmp_path: Path) -> None:
    """Page numbers, kinds, pointers, lengths: LMDB moves octets by them with the next change of the page. It rounds
    lengths up to even ones, so a last bit of one does that harm to nothing but its row."""
    make(tmp_path)
    raw = (tmp_path / "data.mdb").read_bytes()
    walk = salvage.Walk(str(tmp_path))
    for name, root in list(walk.tables()):
        list(walk.tree(root, name))
    walk.free_list()
    places: list[int] = []
    lengths: set[int] = set()
    for number in sorted(walk._seen):
        at = number * walk.size
        _, _, flags, lower, _ = salvage.HEAD.unpack_from(raw, at)
        if flags not in (salvage.BRANCH, salvage.LEAF):
            continue
        places += [*range(at, at + 8), *range(at + 10, at + lower)]
        for pointer in range(at + 16, at + lower, 2):
            node = at + int.from_bytes(raw[pointer : pointer + 2], "little")
            big = flags == salvage.LEAF and raw[node + 4] & salvage.BIG
            places += range(node + 4 if big else node, node + 8)
            lengths |= {node, node + 6} if flags == salvage.LEAF else {node + 6}
    walk.close()
    rng = random.Random(3)
    for at in rng.sample(places, some(400)):
        bit = rng.randrange(at in lengths, 8)
        flip(tmp_path, at, bit)
        assert salvage.examine(str(tmp_path), TABLES).damage, f"octet {at % 4096} of page {at // 4096}"
        flip(tmp_path, at, bit)


def test_pages_that_were_never_written_are_no_damage(tmp_path: Path) -> None:
    """LMDB counts pages that a transaction took and gave back; the file may end before them."""
    env = Environment(str(tmp_path), TABLES, 1, MAP)
    with env.write() as txn:
        txn.put(b"a", b"x" * 100, db=env.db["a"])
    with env.write() as txn:
        txn.put(b"b", b"y" * 200_000, db=env.db["a"])
        txn.delete(b"b", db=env.db["a"])
    env.close()
    walk = salvage.Walk(str(tmp_path))
    assert (walk.last + 1) * walk.size > (tmp_path / "data.mdb").stat().st_size
    walk.close()
    assert salvage.examine(str(tmp_path), TABLES).damage == []


def test_a_page_that_is_free_twice_is_damage(tmp_path: Path) -> None:
    """LMDB would give it to two tables."""
    make(tmp_path)
    raw = (tmp_path / "data.mdb").read_bytes()
    walk = salvage.Walk(str(tmp_path))
    assert walk.free is not None
    rows = [value for _, value, _ in walk.tree(walk.free, "")]
    walk.close()
    lists = {value[:40] for value in rows if len(value) >= 24}
    tried = 0
    for one in lists:
        at = raw.find(one)
        while at >= 0:  # old commits' copies too
            harmed = bytearray(raw)
            harmed[at + 8 : at + 16] = harmed[at + 16 : at + 24]
            (tmp_path / "data.mdb").write_bytes(harmed)
            tried += any("twice" in line for line in salvage.examine(str(tmp_path), TABLES).damage)
            at = raw.find(one, at + 1)
    assert tried >= len(lists) > 0


def test_a_table_whose_name_was_hurt_is_found_and_given_back(tmp_path: Path) -> None:
    rows = make(tmp_path)

    def rename(raw: bytearray) -> None:
        walk = salvage.Walk(str(tmp_path))
        for key, value, _ in walk.tree(walk.main or b"", "tables"):
            if key == b"b":
                at = raw.find(key + value)
                while at >= 0:  # old commits' copies too
                    raw[at] ^= 0x10
                    at = raw.find(key + value, at + 1)
        walk.close()

    assert salvage.misnamed(["a", "b", "c"], [*TABLES, "new"]) == set()  # an older layout, or a newer one
    assert salvage.misnamed(["a", "b", "c", "meta", "newer"], TABLES) == set()
    assert salvage.misnamed(["box", "summ", "meta"], TABLES) == set()
    harm(tmp_path, rename)
    with pytest.raises(CorruptData):
        Environment(str(tmp_path), TABLES, 1, MAP)
    found = save(tmp_path)
    assert any("not known" in line for line in found.damage)
    assert read(tmp_path) == rows


def test_a_map_of_any_size_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that says how long the file is asks for more than there is of address space."""
    rows = make(tmp_path)
    looks: list[bool] = []
    monkeypatch.setattr(errors, "panic", lambda: looks.append(True))
    for page in (0, 1):
        last = page * 4096 + 16 + 120
        assert 0 < int.from_bytes((tmp_path / "data.mdb").read_bytes()[last : last + 8], "little") < 1 << 30

        def stretch(raw: bytearray, at: int = last + 5) -> None:
            raw[at] |= 0x40

        harm(tmp_path, stretch)
    with pytest.raises((CorruptData, StorageFailed)):
        Environment(str(tmp_path), TABLES, 1, MAP)
    assert looks
    assert salvage.sound(str(tmp_path), TABLES, MAP).damage
    save(tmp_path)
    assert set(read(tmp_path)) == set(rows)
