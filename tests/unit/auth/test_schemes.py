"""fastmail.auth.schemes and legacy: hashes as `doveadm pw` and libxcrypt make them, right and wrong passwords."""

import base64
import hashlib
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail.auth import legacy, schemes
from tests.support.examples import some

USER = "bob@example.test"
MADE = [  # by doveadm 2.3.19 for this user and the password "secret"
    "{CRAM-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56",
    "{HMAC-MD5}cd3ba7deaad6e5ca23448ba42e379747a9e0f7f1fbc00c8a81bbaac395731b56",
    "{DIGEST-MD5}b9e3922dea280a655b538d4ee4e8fbaa",
    "{OTP}sha1 1024 9fa4dbb56b6dbf2f 2d99aa618b174c20",
    "{DES-CRYPT}STcrUptnxfG4I",
    "{CRYPT}STcrUptnxfG4I",
    "{PLAIN-MD4}67d3dafef63ff00603aeef3769cfbf0d",
    "{PLAIN-TRUNC}6-secret",
    "{PLAIN-TRUNC}20-secret",
    "{CLEAR}secret",
    "{CRYPT}$2y$05$wL/WfRomQ5rGwS5tn4bz7.gahqWVx1Iuwl43YJkp/LFuiRIjMCm1W",
]


@pytest.mark.parametrize("stored", MADE)
def test_old_schemes(stored: str) -> None:
    assert schemes.known(stored)
    assert schemes.verify(stored, b"secret", USER)
    for wrong in (b"secre", b"Secret", b"", *([b"secret\0"] if "}6-" not in stored else [])):
        assert not schemes.verify(stored, wrong, USER), wrong


def test_what_hmailserver_keeps() -> None:
    salt = "a1b2c3"
    stored = "{HMAIL-SHA256}" + salt + hashlib.sha256(salt.encode() + b"secret").hexdigest()
    assert (
        schemes.known(stored)
        and schemes.verify(stored, b"secret")
        and schemes.verify(stored.upper(), b"secret") is False
    )
    for wrong in (b"secre", b"", b"a1b2c3secret"):
        assert not schemes.verify(stored, wrong)
    for damaged in (stored[:-1], stored[:-1] + "x", "{HMAIL-SHA256}", "{HMAIL-SHA256}" + salt):
        assert not schemes.verify(damaged, b"secret")


def test_codings() -> None:
    raw = bytes.fromhex("67d3dafef63ff00603aeef3769cfbf0d")
    for stored in ("{PLAIN-MD4.HEX}" + raw.hex(), "{PLAIN-MD4.b64}" + base64.b64encode(raw).decode()):
        assert schemes.known(stored) and schemes.verify(stored, b"secret")
    assert not schemes.known("{PLAIN-MD4.ODD}" + raw.hex())


def test_digest_md5_belongs_to_a_user() -> None:
    stored = MADE[2]
    assert not schemes.verify(stored, b"secret", "eve@example.test") and not schemes.verify(stored, b"secret")
    bare = "{DIGEST-MD5}" + hashlib.md5(b"bob::secret").hexdigest()  # a user without a realm
    assert schemes.verify(bare, b"secret", USER)


def test_one_time_passwords_of_the_rfc() -> None:
    """RFC 2289 appendix C."""
    for name, count, seed, wanted in (
        ("md4", 0, "TeSt", "D1854218EBBB0B51"),
        ("md4", 1, "TeSt", "63473EF01CD0B444"),
        ("md4", 99, "TeSt", "C5E612776E6C237A"),
        ("md5", 0, "TeSt", "9E876134D90499DD"),
        ("md5", 99, "TeSt", "50FE1962C4965880"),
        ("sha1", 0, "TeSt", "BB9E6AE1979D8FF4"),
        ("sha1", 99, "TeSt", "87FEC7768B73CCF9"),
    ):
        assert schemes.verify(f"{{OTP}}{name} {count} {seed} {wanted}", b"This is a test.")


def test_plain_trunc_as_dovecot_has_it() -> None:
    for stored, password, good in (
        ("5-hello", "helloxyz", True),
        ("5-hello", "hello", True),
        ("5-hello", "hell", False),
        ("5-helloabc", "hello", False),
        ("6-hello", "hellox", False),
        ("3-hello", "helloxyz", False),
        ("hello", "hello", False),
        ("x-hello", "hello", False),
    ):
        assert schemes.verify("{PLAIN-TRUNC}" + stored, password.encode()) is good, (stored, password)


@pytest.mark.skipif(not legacy.system_knows("$y$"), reason="the system's libcrypt has no yescrypt (libxcrypt)")
def test_yescrypt() -> None:
    made = legacy._system_crypt(b"$y$j75$saltsaltsalt$", b"secret").decode()
    assert made.startswith("$y$j75$saltsaltsalt$")
    for scheme in ("{CRYPT}", "{SHA512-CRYPT}"):
        assert schemes.known(scheme + made) and schemes.verify(scheme + made, b"secret")
        assert not schemes.verify(scheme + made, b"wrong") and not schemes.verify(scheme + made, b"secret\0")
    assert not schemes.verify("{CRYPT}$y$", b"secret") and not schemes.verify("{CRYPT}$y$j75$\xff", b"secret")


def test_what_cannot_be_checked_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for stored in (
        "{NTLM}x",
        "{CRYPT}",
        "{CRYPT}$9$x",
        "{CRYPT}!",
        "{CRYPT}*STcrUptnxfG4",
        "{DES-CRYPT}short",
        "plain",
    ):
        assert not schemes.known(stored) and not schemes.verify(stored, b"")
    monkeypatch.setattr(legacy, "_system", None)
    monkeypatch.setattr(legacy, "_known", {})
    assert not schemes.known("{CRYPT}$y$j75$1$x") and not schemes.verify("{CRYPT}$y$j75$1$x", b"x")


@settings(max_examples=some(300), deadline=None)
@given(st.sampled_from(sorted(schemes.SCHEMES - {"ARGON2ID", "ARGON2I"})), st.text(max_size=60), st.binary(max_size=80))
def test_no_text_is_more_than_no_match(scheme: str, value: str, password: bytes) -> None:
    if value.encode("utf-8", "surrogateescape") != password:
        assert schemes.verify(f"{{{scheme}}}{value}", password, USER) in (True, False)


@pytest.mark.peer("doveadm")
@pytest.mark.parametrize("scheme", ["CRAM-MD5", "DIGEST-MD5", "OTP", "DES-CRYPT", "PLAIN-MD4", "SSHA", "SHA512-CRYPT"])
@pytest.mark.parametrize("password", ["x", "päss wörd", "y" * 70])
def test_what_doveadm_makes(scheme: str, password: str) -> None:
    made = subprocess.run(
        ["doveadm", "pw", "-s", scheme, "-u", USER, "-p", password], capture_output=True, text=True, timeout=20
    ).stdout.strip()
    assert schemes.verify(made, password.encode(), USER) and not schemes.verify(made, b"z" + password.encode(), USER)


@pytest.mark.parametrize(
    "stored",
    [
        "{CRYPT}$6$rounds=999999999$saltsalt$" + "a" * 86,
        "{SHA256-CRYPT}$5$rounds=999999999$saltsalt$" + "a" * 43,
        "{BLF-CRYPT}$2y$31$" + "a" * 53,
        "{ARGON2ID}$argon2id$v=19$m=1048576,t=1000,p=1$c2FsdHNhbHQ$" + "a" * 43,
        "{PBKDF2}$1$salt$99999999$" + "a" * 40,
    ],
)
def test_no_hash_costs_minutes(stored: str) -> None:
    """Nothing can end a check, and all logins wait for the same few threads."""
    begun = time.process_time()
    assert not schemes.verify(stored, b"password")
    assert time.process_time() - begun < 1
