"""Password schemes, SASL, the verifier."""

import asyncio
import base64
import hashlib
import hmac
import threading

import bcrypt
import pytest
from msgspec.structs import replace
from passlib.hash import md5_crypt, sha512_crypt

from fastmail.auth import sasl, schemes
from fastmail.auth.verifier import QUEUE, WORK, Verifier
from fastmail.directory.interface import AccountRecord
from fastmail.model import hash_costs
from fastmail.model.errors import TemporaryError
from fastmail.telemetry import counters
from tests.support.sessions import USER, FakeDirectory

PASSWORD = "päss"
RAW = PASSWORD.encode()


def ssha(name: str, scheme: str) -> str:
    digest = hashlib.new(name, RAW + b"salt").digest()
    return "{" + scheme + "}" + base64.b64encode(digest + b"salt").decode()


@pytest.mark.parametrize(
    "stored",
    [
        schemes.hash_password(PASSWORD),
        "{PLAIN}" + PASSWORD,
        "{plain.b64}" + base64.b64encode(RAW).decode(),
        "{SHA256.HEX}" + hashlib.sha256(RAW).hexdigest(),
        "{SHA}" + base64.b64encode(hashlib.sha1(RAW).digest()).decode(),
        ssha("sha1", "SSHA"),
        ssha("sha256", "SSHA256"),
        ssha("sha512", "SSHA512"),
        "{SHA512-CRYPT}" + sha512_crypt.using(rounds=1000).hash(PASSWORD),
        "{CRYPT}" + md5_crypt.hash(PASSWORD),
        "{BLF-CRYPT}" + bcrypt.hashpw(RAW, bcrypt.gensalt(4)).decode(),
    ],
    ids=lambda stored: stored.partition("}")[0] + "}",  # not its salt, which is another one in each process
)
def test_schemes(stored: str) -> None:
    assert schemes.known(stored)
    assert schemes.verify(stored, RAW)
    assert not schemes.verify(stored, b"wrong")


@pytest.mark.parametrize(
    "bad", ["", "x", "{NONE}x", "{SSHA}!", "{ARGON2ID}x", "{CRYPT}x", "{PBKDF2}$1$a", "{SSHA}YQ=="]
)
def test_damaged_hashes_never_match(bad: str) -> None:
    assert not schemes.verify(bad, b"x")


def test_plain_and_login() -> None:
    plain = sasl.Plain()
    assert plain.step(None) == b""
    assert plain.step(b"\0me\0secret") == sasl.Credentials("me", b"secret")
    assert plain.step(b"me\0me\0s") == sasl.Credentials("me", b"s")
    assert plain.step(b"you\0me\0s") == sasl.Credentials("me", b"s", "you"), "whoever asks decides on that"
    for bad in (b"", b"me", b"a\0b", b"\0\0x", b"\xff\0me\0x", b"\0\xff\0x", b"\0a\nb\0x", b"\0a\0b\0c"):
        with pytest.raises(sasl.SaslError):
            sasl.Plain().step(bad)
    login = sasl.Login()
    assert [login.step(None), login.step(b"me"), login.step(b"pw")] == [
        b"Username:",
        b"Password:",
        sasl.Credentials("me", b"pw"),
    ]
    assert sasl.decode(b"=") == b""
    for bad in (b"!", b"a", b"A" * 40000):
        with pytest.raises(sasl.SaslError):
            sasl.decode(bad)


def test_verifier_remembers_only_what_is_still_stored() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        name = "user@example.test"
        directory.accounts[name] = AccountRecord(1, name, schemes.hash_password("one"))
        verifier = Verifier(directory, 1, "example.test")
        assert (await verifier.check("USER", b"one")) == directory.accounts[name]
        assert await verifier.check(name, b"one") is not None
        assert await verifier.check(name, b"two") is None
        assert await verifier.check("nobody@example.test", b"one") is None
        assert await verifier.check(name, b"") is None
        directory.accounts[name] = AccountRecord(1, name, schemes.hash_password("two"))
        assert await verifier.check(name, b"one") is None
        directory.accounts[name] = AccountRecord(1, name, schemes.hash_password("two"), enabled=False)
        assert await verifier.check(name, b"two") is None
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "stored",
    ["", "{PLAIN}secret", "{SHA256}" + base64.b64encode(bytes(32)).decode(), "{SSHA}x", "nonsense", "argon2id"],
)
def test_s22_every_refusal_takes_the_same_work(monkeypatch: pytest.MonkeyPatch, stored: str) -> None:
    """One hash of the strong kind, whoever is not let in: users that are not there, disabled ones, old hashes."""
    done: list[str] = []
    real = schemes.verify

    def counting(hashed: str, password: bytes) -> bool:
        done.append(hashed)
        return real(hashed, password)

    monkeypatch.setattr(schemes, "verify", counting)
    if stored == "argon2id":
        stored = schemes.hash_password("secret")

    async def main() -> None:
        directory = FakeDirectory()
        directory.accounts[USER] = replace(directory.accounts[USER], password=stored)
        verifier = Verifier(directory, 1)
        for name in (USER, "nobody@example.test"):
            done.clear()
            assert await verifier.check(name, b"wrong") is None
            assert sum(schemes.is_strong(one) for one in done) == 1, (name, done)
        verifier.close()

    asyncio.run(main())


def test_s22_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    real = hmac.compare_digest

    def noting(one: bytes, two: bytes) -> bool:
        compared.append(one)
        return real(one, two)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    for stored in (
        "{PLAIN}secret",
        "{SHA256}" + base64.b64encode(bytes(32)).decode(),
        "{SSHA}" + base64.b64encode(bytes(24)).decode(),
    ):
        compared.clear()
        assert not schemes.verify(stored, b"wrong") and compared, stored


def test_s24_only_so_many_logins_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than that are told to come later; who was let in not long ago does not wait for anybody's hash."""
    real, may_end = schemes.verify, threading.Event()

    def slow(stored: str, password: bytes, *user: str) -> bool:
        if password.startswith(b"wrong"):
            assert may_end.wait(60)
        return real(stored, password, *user)

    monkeypatch.setattr(schemes, "verify", slow)

    async def main() -> None:
        directory = FakeDirectory()
        directory.accounts[USER] = replace(directory.accounts[USER], password=schemes.hash_password("secret"))
        verifier = Verifier(directory, 1)
        assert await verifier.check(USER, b"secret")
        crowd = [asyncio.ensure_future(verifier.check(USER, b"wrong %d" % n)) for n in range(400)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(verifier.check(USER, b"secret"), 1)
        with pytest.raises(TemporaryError):
            await verifier.check(USER, b"another")
        refused = [one for one in crowd if one.done() and isinstance(one.exception(), TemporaryError)]
        assert len(refused) == 400 - QUEUE
        for one in crowd:
            one.cancel()
        may_end.set()
        await asyncio.gather(*crowd, return_exceptions=True)
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "stored", ["{PLAIN}secret", "{SHA256}" + base64.b64encode(hashlib.sha256(b"secret").digest()).decode()]
)
def test_a_login_gives_an_imported_password_a_better_form(stored: str) -> None:
    async def main() -> None:
        directory = FakeDirectory()
        directory.accounts[USER] = replace(directory.accounts[USER], password=stored)
        verifier = Verifier(directory, 1, upgrade=True)
        assert await verifier.check(USER, b"wrong") is None and directory.accounts[USER].password == stored
        assert await verifier.check(USER, b"secret")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if directory.accounts[USER].scram:
                break
        kept = directory.accounts[USER]
        assert kept.password.startswith("{ARGON2ID}") and "{SCRAM-SHA-256}" in kept.scram
        await asyncio.sleep(0.05)
        before = counters.snapshot().get("auth.remembered", 0)
        assert await verifier.check(USER, b"secret")  # known to be right, however it is kept now
        assert counters.snapshot()["auth.remembered"] == before + 1
        assert await verifier.check(USER, b"wrong") is None
        # one that was changed meanwhile stays
        assert not directory.upgrade_password(replace(kept, password=stored), "{PLAIN}other", "")
        verifier.close()

    asyncio.run(main())


def test_passwords_stay_as_they_are_unless_told() -> None:
    async def main() -> None:
        directory = FakeDirectory()
        verifier = Verifier(directory, 1)
        assert await verifier.check(USER, b"secret")
        await asyncio.sleep(0.1)
        assert directory.accounts[USER].password == "{PLAIN}secret"
        verifier.close()

    asyncio.run(main())


def test_logins_that_wait_are_bounded_by_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hashes that cost more than new ones, fewer may wait, so nobody waits for minutes."""
    may_end = threading.Event()

    def slow(*given: object) -> bool:
        return not may_end.wait(60)

    monkeypatch.setattr(schemes, "verify", slow)

    async def main() -> None:
        directory = FakeDirectory()
        dear = "{BLF-CRYPT}$2b$15$" + "a" * 53  # nearly two seconds
        directory.accounts[USER] = replace(directory.accounts[USER], password=dear)
        verifier = Verifier(directory, 1)
        crowd = [asyncio.ensure_future(verifier.check(USER, b"wrong %d" % n)) for n in range(100)]
        await asyncio.sleep(0)
        refused = [one for one in crowd if one.done() and isinstance(one.exception(), TemporaryError)]
        assert len(refused) == 100 - int(WORK / hash_costs.of(dear).seconds)
        may_end.set()
        await asyncio.gather(*crowd, return_exceptions=True)
        assert verifier._work == pytest.approx(0) and not verifier._waiting
        # what costs more than is allowed is not checked, and counts as little
        directory.accounts[USER] = replace(directory.accounts[USER], password="{BLF-CRYPT}$2b$31$" + "a" * 53)
        assert await verifier.check(USER, b"another") is None
        verifier.close()

    asyncio.run(main())
