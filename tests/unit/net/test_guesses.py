"""Who may try a login: banned networks not, and an account that is guessed from everywhere only now and then."""

import asyncio
import ipaddress
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastmail.auth import sasl
from fastmail.auth.verifier import Verifier
from fastmail.model.errors import KeptOut, TemporaryError
from fastmail.net import guesses
from fastmail.net.bans import Bans, Rules
from fastmail.net.guesses import LONGEST, PACE, Guesses
from tests.support.sessions import USER, FakeDirectory

RULES = Rules(after=3, window=600.0, seconds=60.0, exempt=[ipaddress.ip_network("192.0.2.0/28")])
HOME = "203.0.113.7"


def made(tmp_path: Path, after: int = 5) -> Guesses:
    return Guesses(str(tmp_path), Bans(str(tmp_path), RULES), after, 600.0)


def beside(one: Guesses, tmp_path: Path) -> Guesses:
    """The same in another worker."""
    return Guesses(str(tmp_path), one._bans, 5, 600.0)


def guessed(one: Guesses, times: int = 6) -> None:
    for _ in range(times):
        one.failed(USER)


def test_s23_an_account_that_is_guessed_from_everywhere_has_its_turns(tmp_path: Path) -> None:
    one = made(tmp_path)
    other = beside(one, tmp_path)
    guessed(one, 4)
    assert [one.take_turn(USER, f"198.51.100.{n}") for n in range(9)] == [0.0] * 9, "a few failures slow nobody"
    guessed(other, 2)
    waits = []
    with pytest.raises(TemporaryError):
        for n in range(100):
            waits.append(one.take_turn(USER, f"198.51.100.{n}", LONGEST))
    assert waits == pytest.approx([n * PACE for n in range(int(LONGEST / PACE) + 1)], abs=0.5)
    assert one.take_turn("other@example.test", "198.51.100.1") == 0.0, "another account is not slowed"


def test_s23_the_owner_gets_in_while_others_guess(tmp_path: Path) -> None:
    one = made(tmp_path)
    other = beside(one, tmp_path)
    one.succeeded(USER, HOME)
    one.succeeded(USER, "2001:db8:1:2::3")
    guessed(one, 1000)
    for host in (HOME, f"::ffff:{HOME}", "2001:db8:1:2:ffff::9", "192.0.2.5", "local"):
        assert [worker.take_turn(USER, host) for worker in (one, other, one)] == [0.0] * 3, host
    one.take_turn(USER, "203.0.113.8")
    with pytest.raises(TemporaryError):
        one.take_turn(USER, "203.0.113.8")
    for _ in range(6):
        one.failed("other@example.test")
    one.take_turn("other@example.test", HOME)
    with pytest.raises(TemporaryError):  # who is known for one account is a stranger for another
        one.take_turn("other@example.test", HOME)


def test_s23_an_account_is_slowed_no_longer_than_its_failures_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, now = made(tmp_path), [1000.0]
    monkeypatch.setattr(guesses.time, "monotonic", lambda: now[0])
    guessed(one, 10_000)
    one.take_turn(USER, "198.51.100.1")
    with pytest.raises(TemporaryError):
        one.take_turn(USER, "198.51.100.1")
    now[0] += 700.0
    assert [one.take_turn(USER, "198.51.100.1") for _ in range(3)] == [0.0] * 3


def test_names_that_are_guessed_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "NAMES", 3)
    one = made(tmp_path, 1)
    for n in range(10):
        for _ in range(2):
            one.failed(f"u{n}@example.test")
        one.take_turn(f"u{n}@example.test", "198.51.100.1")
    assert len(one._turns) == 3


def test_s23_a_network_that_was_banned_meanwhile_is_not_looked_at(tmp_path: Path) -> None:
    """It has a connection from before; the password that it tries is right."""

    async def main() -> None:
        verifier = Verifier(FakeDirectory(), 1)  # type: ignore[arg-type]
        bans = Bans(str(tmp_path), RULES)
        verifier.guesses = Guesses(str(tmp_path), bans, 5, 600.0)
        right = sasl.Credentials(USER, b"secret")
        assert await verifier.admit(right, "198.51.100.7") is not None
        bans.add("198.51.100.0/24", 60, "x")
        for claim in (right, sasl.Verified(USER), sasl.Token(USER, "x", sasl.Bearer("XOAUTH2", b""))):
            with pytest.raises(KeptOut):
                await verifier.admit(claim, "198.51.100.7")
            with pytest.raises(KeptOut):
                await verifier.admit(claim, "::ffff:198.51.100.7")
        assert await verifier.admit(right, HOME) is not None
        verifier.close()

    asyncio.run(main())


def test_s23_a_spread_attack_is_slowed_before_anything_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "LONGEST", 0.0)
    # no turn comes back meanwhile, however long the hashing takes
    monkeypatch.setattr(guesses, "time", SimpleNamespace(monotonic=lambda: 1000.0, time=time.time))

    async def main() -> None:
        directory = FakeDirectory()
        verifier = Verifier(directory, 1)  # type: ignore[arg-type]
        verifier.guesses = made(tmp_path)
        assert await verifier.admit(sasl.Credentials(USER, b"secret"), HOME) is not None
        for login in (USER, "nobody@example.test"):  # who is there and who is not look the same
            looked = later = 0
            for n in range(30):
                try:
                    assert await verifier.admit(sasl.Credentials(login, b"wrong"), f"198.51.100.{n}") is None
                    looked += 1
                except TemporaryError:
                    later += 1
            assert (looked, later) == (6, 24), login  # five, and the first turn
        with pytest.raises(TemporaryError):
            await verifier.admit(sasl.Credentials(USER, b"secret"), "198.51.100.99")
        assert await verifier.admit(sasl.Credentials(USER, b"secret"), HOME) is not None
        verifier.close()

    asyncio.run(main())


@pytest.mark.parametrize("where", ["a stranger", "the owner", "a banned network"])
def test_s23_proofs_of_scram_have_their_turns_too(tmp_path: Path, where: str) -> None:
    """A proof is answered as soon as it is looked at, so it is not looked at."""
    one = made(tmp_path)
    one.succeeded(USER, HOME)
    guessed(one)
    one.take_turn(USER, "198.51.100.1")
    if where == "a banned network":
        one._bans.add(HOME, 60, "x")
    verifier = Verifier(FakeDirectory(), 1, mechanisms=["SCRAM-SHA-256"])  # type: ignore[arg-type]
    verifier.guesses = one

    class Channel:
        end_point = b""
        certified = ()
        host = "198.51.100.1" if where == "a stranger" else HOME

    exchange = verifier.begin("SCRAM-SHA-256", Channel())
    assert exchange is not None
    first = exchange.step(b"n,,n=user@example.test,r=abc")
    assert isinstance(first, bytes)
    proof = b"c=biws," + first.split(b",")[0] + b",p=" + b"A" * 43 + b"="
    if where == "the owner":
        assert isinstance(exchange.step(proof), sasl.Credentials), "it is wrong"
    else:
        with pytest.raises(sasl.SaslError):
            exchange.step(proof)
    verifier.close()
