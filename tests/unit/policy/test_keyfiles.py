"""Private keys in files: for the server's user alone, never over another file, and read in what others write."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from fastmail.policy import keyfiles
from fastmail.policy.keyfiles import KeyTrouble
from tests.support.signing import ed25519, rsa


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    for kind in ("rsa", "ed25519"):
        key = keyfiles.make(kind)
        place = keyfiles.place_of("Example.ORG", kind)
        assert place == f"dkim/example.org/{kind}.pem" and keyfiles.kind_of(key) == kind
        keyfiles.keep(str(tmp_path), place, key)
        assert keyfiles.load(str(tmp_path), place).public_key() == key.public_key()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keyfiles.keep(str(tmp_path), "dkim/a.test/s.pem", ed25519())
    finally:
        os.umask(before)
    assert (tmp_path / "dkim/a.test/s.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "dkim/a.test").stat().st_mode & 0o077 == 0


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "dkim/a.test/s.pem"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(KeyTrouble, match="is already there: choose another selector"):
        keyfiles.keep(str(tmp_path), "dkim/a.test/s.pem", ed25519())
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyTrouble):
        keyfiles.keep(str(tmp_path), "dkim/a.test/s.pem", ed25519())
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_could_not_be_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyTrouble, match="No space left"):
        keyfiles.keep(str(tmp_path), "dkim/a.test/s.pem", ed25519())
    assert list((tmp_path / "dkim/a.test").iterdir()) == []


def test_keys_of_other_programs(tmp_path: Path) -> None:
    """OpenDKIM and rspamd write PKCS#1."""
    (tmp_path / "one").write_bytes(rsa().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    assert keyfiles.load(str(tmp_path), "one").public_key() == rsa().public_key()


def test_what_is_no_key_to_sign_with(tmp_path: Path) -> None:
    def wrong(text: bytes, why: str) -> None:
        (tmp_path / "x").write_bytes(text)
        with pytest.raises(KeyTrouble, match=why) as found:
            keyfiles.load(str(tmp_path), "x")
        assert "BEGIN" not in str(found.value)

    pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    wrong(b"", "no private key in PEM")
    wrong(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key in PEM")
    wrong(rsa().private_bytes(*pkcs8, BestAvailableEncryption(b"x")), "has a password")
    wrong(rsa(1024).private_bytes(*pkcs8, NoEncryption()), "2048 to 4096 bits is expected, not of 1024")
    wrong(ec.generate_private_key(ec.SECP256R1()).private_bytes(*pkcs8, NoEncryption()), "RSA or Ed25519")
    with pytest.raises(KeyTrouble, match="No such file"):
        keyfiles.load(str(tmp_path), "none")


def test_only_our_own_files_are_removed(tmp_path: Path) -> None:
    keyfiles.keep(str(tmp_path), "dkim/a.test/s.pem", ed25519())
    (tmp_path / "other.pem").write_text("x")
    for place in ("dkim/a.test/s.pem", "dkim/a.test/s.pem", "other.pem"):
        keyfiles.remove(str(tmp_path), place)
    assert (tmp_path / "other.pem").exists() and not list((tmp_path / "dkim/a.test").iterdir())
