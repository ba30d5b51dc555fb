"""Secrets of one-time codes are sealed in the directory: with a key file, each for its account."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory import sealing
from fastmail.directory.local import LocalDirectory
from fastmail.directory.records import SERVER, Totp
from fastmail.directory.rows import TOTPS, U64
from fastmail.model.errors import DamagedAccount

WHO, OTHER = "a@d.test", "b@d.test"
SECRET = b"0123456789abcdefghij"


@pytest.fixture
def place(tmp_path: Path) -> LocalDirectory:
    made = LocalDirectory(str(tmp_path))
    made.add_domain("d.test")
    made.add_accounts([(WHO, "{PLAIN}x"), (OTHER, "{PLAIN}x")])
    for one in (WHO, OTHER):
        made.change_account(one, lambda old: replace(old, role=SERVER))
    return made


def enabled(place: LocalDirectory, address: str = WHO) -> None:
    place.change_totp(address, "enable", lambda old: Totp(SECRET, made=5, confirmed=6))


def test_nobody_reads_them_in_the_file(place: LocalDirectory, tmp_path: Path) -> None:
    assert not (tmp_path / sealing.FILE).exists(), "made at its first use"
    enabled(place)
    row = place._get("totp", U64.pack(1))
    assert row is not None and SECRET not in row and TOTPS.unpack(U64.pack(1), row).secret == b"" and row[0] == 3
    assert SECRET not in (tmp_path / "directory" / "data.mdb").read_bytes()
    assert os.stat(tmp_path / sealing.FILE).st_mode & 0o777 == 0o600
    assert place.totp(1) == Totp(SECRET, made=5, confirmed=6)
    key = (tmp_path / sealing.FILE).read_bytes()
    enabled(place, OTHER)
    assert (tmp_path / sealing.FILE).read_bytes() == key, "one key for all"
    place.close()
    again = LocalDirectory(str(tmp_path))
    assert again.totp(1) == again.totp(2) == Totp(SECRET, made=5, confirmed=6)
    again.close()


def test_a_row_of_before_is_read_and_sealed_when_it_is_written(place: LocalDirectory) -> None:
    key = U64.pack(1)
    with place._write() as txn:
        txn.put("totp", key, TOTPS.pack(key, Totp(SECRET, confirmed=6)))
    assert place.totp(1) == Totp(SECRET, confirmed=6) and place.has_second_factor(1)
    assert place.use_totp(1, lambda old: replace(old, step=9)).secret == SECRET
    row = place._get("totp", key)
    assert row is not None and SECRET not in row and place.totp(1) == Totp(SECRET, confirmed=6, step=9)
    place.close()


@pytest.mark.parametrize("key", [b"", b"short", bytes(sealing.KEY), None])
def test_without_its_key_no_code_is_looked_at(place: LocalDirectory, tmp_path: Path, key: bytes | None) -> None:
    enabled(place)
    file = tmp_path / sealing.FILE
    right = file.read_bytes()
    file.unlink()
    if key is not None:
        file.write_bytes(key)
    for look in (lambda: place.totp(1), lambda: place.use_totp(1, lambda old: old)):
        with pytest.raises(DamagedAccount):
            look()
    assert place.has_second_factor(1), "the password alone is not enough all the same"
    file.write_bytes(right)
    assert place.totp(1) == Totp(SECRET, made=5, confirmed=6)
    file.unlink()
    place.change_totp(WHO, "disable", lambda old: None)
    enabled(place)
    assert place.totp(1) is not None
    place.close()


def test_a_secret_is_of_no_use_in_the_row_of_another(place: LocalDirectory) -> None:
    enabled(place)
    enabled(place, OTHER)
    row = place._get("totp", U64.pack(1))
    assert row is not None
    with place._write() as txn:
        txn.put("totp", U64.pack(2), TOTPS.pack(U64.pack(2), TOTPS.unpack(U64.pack(1), row)))
    with pytest.raises(DamagedAccount, match="account 2"):
        place.totp(2)
    place.close()


def test_a_copy_to_try_changes_on_opens_them(place: LocalDirectory, tmp_path: Path) -> None:
    enabled(place)
    other = place.copied(str(tmp_path / "other"))
    assert other.totp(1) == place.totp(1)
    other.close()
    place.close()
