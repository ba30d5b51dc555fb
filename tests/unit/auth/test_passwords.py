"""Passwords that are not ASCII: with every scheme, in the forms that programs send, at the first login and the next."""

import asyncio
import base64
import hashlib
import unicodedata
from collections.abc import Callable
from pathlib import Path

import argon2
import bcrypt
import pytest
import scramp
from msgspec.structs import replace
from passlib.hash import md5_crypt, sha256_crypt, sha512_crypt
from passlib.utils import saslprep

from fastmail.auth import legacy, schemes
from fastmail.auth.verifier import Verifier
from fastmail.directory.interface import AccountRecord
from tests.support.sessions import USER, Bench, FakeDirectory

NFC = "p\u00e4ssw\u00f6rd \u20ac\u00b2"
NFD = unicodedata.normalize("NFD", NFC)
RAW = NFC.encode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _salted(name: str) -> Callable[[], str]:
    return lambda: _b64(hashlib.new(name, RAW + b"salt").digest() + b"salt")


MAKERS: dict[str, Callable[[], str]] = {
    "PLAIN": lambda: NFC,
    "CLEARTEXT": lambda: NFC,
    "CLEAR": lambda: NFC,
    "PLAIN.b64": lambda: _b64(RAW),
    "PLAIN.hex": lambda: RAW.hex(),
    "PLAIN-TRUNC": lambda: f"30-{NFC}",
    "ARGON2ID": lambda: schemes._hasher.hash(RAW),
    "SHA": lambda: _b64(hashlib.sha1(RAW).digest()),
    "SHA256": lambda: _b64(hashlib.sha256(RAW).digest()),
    "SHA512": lambda: hashlib.sha512(RAW).hexdigest(),
    "PLAIN-MD5": lambda: hashlib.md5(RAW).hexdigest(),
    "LDAP-MD5": lambda: _b64(hashlib.md5(RAW).digest()),
    "PLAIN-MD4": lambda: legacy._md4(RAW).hex(),
    "SSHA": _salted("sha1"),
    "SSHA256": _salted("sha256"),
    "SSHA512": _salted("sha512"),
    "SMD5": _salted("md5"),
    "SHA512-CRYPT": lambda: sha512_crypt.using(rounds=1000).hash(RAW),
    "SHA256-CRYPT": lambda: sha256_crypt.using(rounds=1000).hash(RAW),
    "MD5-CRYPT": lambda: md5_crypt.hash(RAW),
    "CRYPT": lambda: sha512_crypt.using(rounds=1000).hash(RAW),
    "BLF-CRYPT": lambda: bcrypt.hashpw(RAW, bcrypt.gensalt(4)).decode(),
    "PBKDF2": lambda: "$1$salt$10$" + hashlib.pbkdf2_hmac("sha1", RAW, b"salt", 10).hex(),
    "SCRAM-SHA-256": lambda: schemes._scram("sha256", RAW, b"s" * 16),
    "SCRAM-SHA-1": lambda: schemes._scram("sha1", RAW, b"s" * 16),
    "DIGEST-MD5": lambda: hashlib.md5(b"user:example.test:" + RAW).hexdigest(),
}


@pytest.fixture
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with little work: what a wrong password is compared with takes as long as a right one, many times here."""
    quick = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    dummy = "{ARGON2ID}" + quick.hash("a password that nobody has")
    monkeypatch.setattr(schemes, "_hasher", quick)
    monkeypatch.setattr(schemes, "dummy", lambda: dummy)


@pytest.mark.usefixtures("quick_hashes")
@pytest.mark.parametrize("scheme", list(MAKERS))
def test_a_password_that_is_not_ascii_is_right_at_every_login(scheme: str) -> None:
    async def main() -> None:
        directory = FakeDirectory()
        stored = f"{{{scheme}}}{MAKERS[scheme]()}"
        directory.accounts[USER] = replace(directory.accounts[USER], password=stored)
        verifier = Verifier(directory, 1)
        for form in (NFC, NFD):
            for _ in range(3):  # the second one is remembered
                assert await verifier.check(USER, form.encode()) is not None, form
        for wrong in ("passw\u00f6rd \u20ac\u00b2", NFC.upper(), NFC + "\u0301", "\u00e4", "\udce4"):
            for _ in range(2):
                assert await verifier.check(USER, wrong.encode("utf-8", "surrogateescape")) is None, wrong
        verifier.close()

    asyncio.run(main())


@pytest.mark.usefixtures("quick_hashes")
@pytest.mark.parametrize("stored", [NFC, NFD, "x\u00b2", "x2", "\u00ad", "\U0001f600", "a\u00a0b", "\u05d0a", "\ufb01"])
def test_a_password_is_kept_as_saslprep_has_it(stored: str) -> None:
    """So the logins of PLAIN and of SCRAM, whose clients prepare it (RFC 5802 5.1), know the same one."""
    kept, keys = schemes.hash_password(stored), schemes.scram(stored)
    clear = "{PLAIN}" + stored
    for form in {stored, unicodedata.normalize("NFD", stored), unicodedata.normalize("NFC", stored)}:
        for one in (kept, clear, *keys.split(" ")):
            assert any(schemes.verify(one, made) for made in schemes.forms(form.encode())), (one, form)
        assert not any(schemes.verify(kept, made) for made in schemes.forms(b""))
    try:
        client = saslprep(stored)
    except ValueError:
        return
    if client:
        salt, key, _, rounds = schemes.scram_keys(keys, "SCRAM-SHA-256") or (b"", b"", b"", 0)
        info = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(stored, rounds, salt)
        assert info[1] == key


@pytest.mark.parametrize("password", [b"", b"secret", b"p\xe4ss", b"\xff\x00", "\u00ad".encode(), b"x" * 1024])
def test_a_password_has_few_forms_and_none_is_empty(password: bytes) -> None:
    found = schemes.forms(password)
    assert found[0] == password and len(found) <= 3 and (password == b"" or b"" not in found)
    assert len(found) == 1 or not password.isascii()


@pytest.mark.parametrize(
    ("protocol", "line", "good"),
    [
        ("imap", b"a LOGIN user@example.test {%d+}\r\n%b\r\n", b"a OK"),
        ("pop3", b"USER user@example.test\r\nPASS %b\r\n", b"+OK "),
        ("submission", b"AUTH PLAIN %b\r\n", b"235 "),
    ],
)
@pytest.mark.parametrize("form", [NFC, NFD])
def test_two_logins_in_every_protocol(tmp_path: Path, protocol: str, line: bytes, good: bytes, form: str) -> None:
    async def main() -> None:
        bench = Bench(str(tmp_path))
        bench.directory.accounts[USER] = AccountRecord(1, USER, "{PLAIN}" + NFC)
        raw = form.encode()
        for _ in range(2):
            client = bench.open(protocol)
            if protocol == "submission":
                await client.send(b"EHLO me.test\r\n")
                got = await client.send(line % base64.b64encode(b"\0" + USER.encode() + b"\0" + raw))
            elif protocol == "imap":
                got = await client.send(line % (len(raw), raw))
            else:
                got = (await client.send(line % raw)).split(b"\r\n")[-2]
            assert good in got, got

    asyncio.run(main())


def test_s22_a_password_that_is_not_ascii_is_refused_with_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    real = schemes.verify

    def counting(hashed: str, password: bytes) -> bool:
        done.append(hashed)
        return real(hashed, password)

    monkeypatch.setattr(schemes, "verify", counting)

    async def main() -> None:
        directory = FakeDirectory()
        verifier = Verifier(directory, 1)
        work = []
        for stored in ("{PLAIN}secret", schemes.hash_password("secret")):
            directory.accounts[USER] = replace(directory.accounts[USER], password=stored)
            for name in (USER, "nobody@example.test"):
                done.clear()
                assert await verifier.check(name, NFD.encode()) is None
                work.append(sum(schemes.is_strong(one) for one in done))
        assert work == [3, 3, 3, 3]
        verifier.close()

    asyncio.run(main())
