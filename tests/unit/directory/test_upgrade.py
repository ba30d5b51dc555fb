"""A directory of the layout before becomes today's, part by part, wherever it is killed."""

import gc
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastmail.directory import upgrade
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import Totp
from fastmail.directory.tables import LAYOUT, TABLES
from fastmail.directory.upgrade import FORMER_TABLES, Former1, _sum
from fastmail.durable import layouts
from fastmail.durable.env import Environment
from fastmail.durable.layouts import layout_of
from fastmail.model.errors import ConfigError, DamagedAccount, StorageFull
from fastmail.model.quota import Quota

encode = msgspec.msgpack.encode


def packed(address: str, row: Former1) -> bytes:
    return encode(msgspec.structs.replace(row, check=_sum(address, row)))


class Old:
    """A directory as the version before wrote it."""

    def __init__(self, path: Path) -> None:
        self.env = Environment(os.path.join(path, "directory"), list(FORMER_TABLES), 1, 1 << 26)

    def put(self, table: str, key: str, value: bytes) -> None:
        with self.env.write() as txn:
            txn.put(key.encode(), value, db=self.env.db[table])

    def account(self, number: int, address: str, **more: Any) -> None:
        self.put("account", address, packed(address, Former1(1, number, "{PLAIN}x", **more)))
        self.put("id", str(number), address.encode())

    def fill(self) -> None:
        self.put("domain", "d.test", b"")
        self.put("domain", "faß.test", b"")
        self.account(1, "a@d.test", quota=(5, 6, 7), scram="keys", home="/h", maildir="/h/m")
        self.account(4, "b@faß.test", enabled=False, nets="10.0.0.0/8", nologin="Gone")
        self.put("alias", "team@d.test", encode(["a@d.test", "b@faß.test"]))
        self.put("alias", "@d.test", encode(["a@d.test"]))
        self.put("meta", "next-id", b"9")
        self.put("meta", "revision", b"3")
        self.put("meta", "revoked:1", b"2")


@pytest.fixture
def old(tmp_path: Path) -> Old:
    made = Old(tmp_path)
    made.fill()
    return made


def test_everything_comes_over(old: Old, tmp_path: Path) -> None:
    old.env.close()
    place = LocalDirectory(str(tmp_path))
    a, b = place.account("A@d.test"), place.account("b@xn--fa-hia.test")
    assert a is not None and b is not None
    assert (a.id, a.password, a.quota, a.scram, a.home, a.maildir) == (
        1,
        "{PLAIN}x",
        Quota(5, 6, 7),
        "keys",
        "/h",
        "/h/m",
    )
    assert (b.id, b.address, b.enabled, b.nets, b.nologin) == (4, "b@faß.test", False, "10.0.0.0/8", "Gone")
    assert [one.name for one in place.domains()] == ["d.test", "faß.test"]
    assert [one.address for one in place.resolve("team@d.test")] == ["a@d.test"]
    assert [one.address for one in place.resolve("nobody@d.test")] == ["a@d.test"]
    assert (place.revision, place.revoked(1), place.counts("d.test"), place.counts("FAẞ.test")) == (
        3,
        2,
        (1, 2),
        (1, 0),
    )
    assert place.faults() == [] and place.account_by_id(4) == b
    place.add_accounts([("c@d.test", "{PLAIN}x")])
    c = place.account("c@d.test")
    assert c is not None and c.id == 9, "no number is given again"
    place.close()
    assert layout_of(str(tmp_path / "directory")) == (LAYOUT, {*TABLES, "meta"}), "the old tables are removed"
    again = LocalDirectory(str(tmp_path))
    assert again.account("a@d.test") == a


def test_an_older_program_refuses_what_was_converted(old: Old, tmp_path: Path) -> None:
    old.env.close()
    LocalDirectory(str(tmp_path)).close()
    with pytest.raises(ConfigError, match="newer fastmail"):
        Environment(str(tmp_path / "directory"), list(FORMER_TABLES), 1, 1 << 26)
    place = LocalDirectory(str(tmp_path))  # the tables that it made are empty
    assert place.account("a@d.test") is not None and place.counts("d.test") == (1, 2)


def test_a_conversion_that_is_cut_short_has_done_nothing(old: Old, tmp_path: Path) -> None:
    old.env.close()
    real, calls = upgrade._bring_account, list[int]()

    def stops(*words: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise StorageFull("no room")
        real(*words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upgrade, "_bring_account", stops)
        with pytest.raises(StorageFull):
            LocalDirectory(str(tmp_path))
    gc.collect()  # the environment that was not opened
    found, tables = layout_of(str(tmp_path / "directory"))
    assert found == 1 and tables >= set(FORMER_TABLES)
    assert LocalDirectory(str(tmp_path)).account("b@faß.test") is not None


class Killed(BaseException):
    pass


def converted(place: Path, parts: int = 1 << 30) -> int:
    """Open the directory, and be killed after so many parts; return how many there were."""
    calls = 0

    def counted(txn: Any, old: dict[str, Any], new: dict[str, Any]) -> bool:
        nonlocal calls
        before = sum(txn.stat(table)["entries"] for table in old.values())
        done = upgrade.convert(txn, old, new)
        assert before - sum(txn.stat(table)["entries"] for table in old.values()) <= 2 * layouts.ROWS
        calls += 1
        if calls > parts:
            raise Killed
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmail.directory.local.FORMER", (replace(upgrade.FORMER[0], convert=counted),))
        LocalDirectory(str(place)).close()
    return calls


def everything(place: Path) -> dict[str, dict[bytes, bytes]]:
    env = Environment(str(place / "directory"), TABLES, LAYOUT, 1 << 26)
    with env.read() as txn:
        found = {name: {bytes(k): bytes(v) for k, v in txn.cursor(db=env.db[name]).iternext()} for name in TABLES}
    env.close()
    return found


def test_a_conversion_goes_on_wherever_it_was_killed(old: Old, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20, 30):
        old.account(n, f"u{n}@{'d' if n % 3 else 'e'}.test")
        old.put("alias", f"also{n}@d.test", encode([f"u{n}@d.test"]))
    old.put("account", "hurt@d.test", b"\x91")
    old.put("id", "50", b"hurt@d.test")
    old.put("account", "lost@d.test", b"\x91")  # nothing says its number
    old.env.close()
    shutil.copytree(tmp_path / "directory", tmp_path / "once" / "directory")
    assert converted(tmp_path / "once") == 1
    expected = everything(tmp_path / "once")
    assert len(expected["accounts"]) == 14 and sum(map(len, expected.values())) > 40
    monkeypatch.setattr(layouts, "ROWS", 3)
    kills = 0
    while True:
        try:
            converted(tmp_path, parts=1)
            break
        except Killed:
            kills += 1
        gc.collect()  # the environment that was not opened
        assert layout_of(str(tmp_path / "directory"))[0] == LAYOUT, "an older program refuses it"
    assert kills > 10
    assert everything(tmp_path) == expected


def test_a_damaged_row_is_damaged_still_and_harms_no_other(old: Old, tmp_path: Path) -> None:
    row = bytearray(packed("c@d.test", Former1(1, 5, "{PLAIN}x")))
    row[-5] ^= 1
    old.put("account", "c@d.test", bytes(row))
    old.put("id", "5", b"c@d.test")
    old.put("alias", "lost@d.test", b"\x91")
    old.env.close()
    place = LocalDirectory(str(tmp_path))
    for address in ("c@d.test", "lost@d.test"):
        with pytest.raises(DamagedAccount):
            place.resolve(address)
    assert [one.address for one in place.resolve("a@d.test")] == ["a@d.test"]
    assert {address for address, _ in place.faults()} == {"c@d.test", "lost@d.test"}
    place.add_accounts([("c@d.test", "{PLAIN}new")], replace=True)
    c = place.account("c@d.test")
    assert c is not None and c.id == 5, "its mail is its own"
    place.remove_alias("lost@d.test")
    assert place.faults() == []


def test_rows_without_a_checksum_and_rows_that_are_the_same_by_now(tmp_path: Path) -> None:
    old = Old(tmp_path)
    for name in ("faß.test", "xn--fa-hia.test"):
        old.put("domain", name, b"")
    old.put("account", "a@faß.test", encode([1, 1, "{PLAIN}one", True, [5, 6, 7], "", "", ""]))
    old.put("id", "1", "a@faß.test".encode())
    old.account(2, "a@xn--fa-hia.test")
    old.env.close()
    place = LocalDirectory(str(tmp_path))
    assert sorted(one.id for one in place.accounts()) == [1, 2], "none is lost"
    for number in (1, 2):
        record = place.account_by_id(number)
        assert record is not None and record.id == number
    assert [why for _, why in place.faults()] == ["another account has this address; remove one of them"]
    assert len(place.domains()) == 1


def test_a_directory_without_second_factors_gets_them(tmp_path: Path) -> None:
    """Of this layout, from before there were these tables: nothing is converted, and whoever knows nothing of them may
    open it again."""
    earlier = [name for name in TABLES if name not in ("totp", "passkeys")]
    Environment(os.path.join(tmp_path, "directory"), earlier, LAYOUT, 1 << 26).close()
    gc.collect()
    place = LocalDirectory(str(tmp_path))
    place.add_domain("d.test")
    place.add_accounts([("a@d.test", "{PLAIN}x")])
    place.change_account("a@d.test", lambda old: msgspec.structs.replace(old, role="server"))
    place.change_totp("a@d.test", "enable", lambda old: Totp(b"secret", confirmed=1))
    assert place.has_second_factor(1) and place.faults() == []
    place.close()
    gc.collect()
    Environment(os.path.join(tmp_path, "directory"), earlier, LAYOUT, 1 << 26).close()
    gc.collect()
    place = LocalDirectory(str(tmp_path))
    assert place.totp(1) == Totp(b"secret", confirmed=1)
    place.close()
