"""Passkeys, with a device in software: what is let in, and what is not."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from fastmail.auth import passkeys
from fastmail.auth.passkeys import Challenges, Refused, Site
from fastmail.directory.errors import DirectoryError
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import SERVER, Account, Passkey
from tests.support.authenticator import PRESENT, Authenticator, b64, raw
from tests.support.examples import some

SITE = Site("admin.d.test", ("https://admin.d.test", "https://admin.d.test:8443"))
WHO, OTHER = "boss@d.test", "chief@d.test"
NOW = 1_800_000_000


@pytest.fixture
def place() -> Iterator[MemoryDirectory]:
    made = MemoryDirectory()
    made.add_domain("d.test")
    made.add_accounts([(WHO, "{PLAIN}x"), (OTHER, "{PLAIN}x")])
    for one in (WHO, OTHER):
        made.change_account(one, lambda old: replace(old, role=SERVER))
    yield made
    made.close()


def account(place: MemoryDirectory, address: str = WHO) -> Account:
    found = place.account(address)
    assert found is not None
    return found


def device(**more: object) -> Authenticator:
    return Authenticator(SITE.origins[0], SITE.host, **more)  # type: ignore[arg-type]


def enrolled(place: MemoryDirectory, challenges: Challenges, one: Authenticator, address: str = WHO) -> Passkey:
    who = account(place, address)
    options = passkeys.ask_to_register(SITE, challenges, who, place.passkeys(who.id))
    return passkeys.registered(place, SITE, challenges, who, one.create(options), "key ring", NOW)


@pytest.mark.parametrize("counts", [True, False])
def test_a_device_is_let_in(place: MemoryDirectory, counts: bool) -> None:
    challenges, mine = Challenges(), device(counts=counts)
    made = enrolled(place, challenges, mine)
    assert (made.id, made.name, made.transports, made.made) == (mine.id, "key ring", ("internal", "hybrid"), NOW)
    assert place.has_second_factor(1) and not place.has_second_factor(2)
    options = passkeys.ask_to_enter(SITE, challenges, place.passkeys(1), 1)
    assert [raw(one["id"]) for one in json.loads(options)["allowCredentials"]] == [mine.id]
    assert passkeys.entered(place, SITE, challenges, mine.get(options), NOW + 60, 1).address == WHO
    (known,) = place.passkeys(1)
    assert (known.used, known.sign_count) == (NOW + 60, int(counts))
    options = passkeys.ask_to_enter(SITE, challenges)
    assert not json.loads(options).get("allowCredentials")
    assert passkeys.entered(place, SITE, challenges, mine.get(options), NOW).address == WHO, "it says whose it is"


def test_what_browsers_are_asked(place: MemoryDirectory) -> None:
    challenges, mine = Challenges(), device()
    enrolled(place, challenges, mine)
    asked = json.loads(passkeys.ask_to_register(SITE, challenges, account(place), place.passkeys(1)))
    assert asked["rp"] == {"name": "fastmail", "id": "admin.d.test"}
    assert [raw(one["id"]) for one in asked["excludeCredentials"]] == [mine.id]
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert len(raw(asked["challenge"])) == 56 and raw(asked["user"]["id"]) == (1).to_bytes(8, "big")


def test_an_answer_counts_once(place: MemoryDirectory) -> None:
    challenges, mine = Challenges(), device(counts=False)
    who = account(place)
    options = passkeys.ask_to_register(SITE, challenges, who, [])
    answer = mine.create(options)
    passkeys.registered(place, SITE, challenges, who, answer, "one", NOW)
    with pytest.raises(Refused, match="answered before"):
        passkeys.registered(place, SITE, challenges, who, answer, "two", NOW)
    answer = mine.get(passkeys.ask_to_enter(SITE, challenges, number=1))
    passkeys.entered(place, SITE, challenges, answer, NOW, 1)
    with pytest.raises(Refused, match="answered before"):
        passkeys.entered(place, SITE, challenges, answer, NOW, 1)


def test_an_answer_may_be_late_or_be_for_somebody_else(place: MemoryDirectory) -> None:
    now = 0.0
    challenges, mine = Challenges(lambda: now), device()
    enrolled(place, challenges, mine)
    answer = mine.get(passkeys.ask_to_enter(SITE, challenges, number=1))
    now = 301.0
    with pytest.raises(Refused, match="too long"):
        passkeys.entered(place, SITE, challenges, answer, NOW, 1)
    answer = mine.get(passkeys.ask_to_enter(SITE, challenges, number=2))
    with pytest.raises(Refused):
        passkeys.entered(place, SITE, challenges, answer, NOW, 1)
    answer = mine.get(passkeys.ask_to_enter(SITE, challenges, number=2))
    with pytest.raises(Refused, match="not accepted"):
        passkeys.entered(place, SITE, challenges, answer, NOW, 2)
    with pytest.raises(Refused):
        passkeys.entered(place, SITE, Challenges(), mine.get(passkeys.ask_to_enter(SITE, challenges)), NOW)


def test_nobody_pushes_out_the_challenges_of_others(place: MemoryDirectory) -> None:
    """However many are asked for, and however many answers are wrong, nothing is kept of them."""
    challenges, mine = Challenges(), device(counts=False)
    enrolled(place, challenges, mine)
    kept = len(challenges._used)
    first = mine.get(passkeys.ask_to_enter(SITE, challenges, number=1))
    for _ in range(2000):
        challenges.make(0)
        wrong = bytearray(challenges.make(1))
        wrong[-1] ^= 1
        with pytest.raises(Refused):
            challenges.check(bytes(wrong), 1)
    assert len(challenges._used) == kept
    assert passkeys.entered(place, SITE, challenges, first, NOW, 1).address == WHO


def test_challenges_that_were_used_are_kept_while_they_would_count() -> None:
    now = 0.0
    challenges = Challenges(lambda: now)
    for _ in range(10):
        challenges.use(challenges.make(1), 1)
    now = 299.0
    challenges.use(challenges.make(1), 1)
    assert len(challenges._used) == 11
    now = 302.0
    challenges.use(challenges.make(1), 1)
    assert len(challenges._used) == 2


@pytest.mark.parametrize("text", [b"", b"x" * 24, b"x" * 56, b"x" * 57, b"\0" * 56])
def test_what_is_no_challenge(text: bytes) -> None:
    with pytest.raises(Refused):
        Challenges().check(text, 1)


def forged(change: Callable[[Authenticator], None]) -> Callable[[Authenticator, str], str]:
    def answer(mine: Authenticator, options: str) -> str:
        change(mine)
        return mine.get(options)

    return answer


def _with(mine: Authenticator, options: str, **parts: str) -> str:
    whole = json.loads(mine.get(options))
    whole["response"].update(parts)
    return json.dumps(whole)


ANSWERS: dict[str, Callable[[Authenticator, str], str]] = {
    "another page": lambda mine, asked: mine.get(asked, origin="https://admin.d.test.evil.test"),
    "another kind": lambda mine, asked: mine.get(asked, type="webauthn.create"),
    "another host": forged(lambda mine: setattr(mine, "host", "d.test")),
    "nobody touched it": forged(lambda mine: setattr(mine, "flags", 0)),
    "its user was not recognised": forged(lambda mine: setattr(mine, "flags", PRESENT)),
    "a copy that counts less": forged(lambda mine: setattr(mine, "count", -1 + mine.count - 1)),
    "another key": lambda mine, asked: Authenticator(
        mine.origin, mine.host, id=mine.id, handle=mine.handle, count=9
    ).get(asked),
    "an id that is not known": forged(lambda mine: setattr(mine, "id", b"x" * 32)),
    "a signature that was cut": lambda mine, asked: _with(mine, asked, signature=b64(b"0")),
    "no authenticator data": lambda mine, asked: _with(mine, asked, authenticatorData=""),
    "a handle of another length": forged(lambda mine: setattr(mine, "handle", b"1")),
    "somebody else's handle": forged(lambda mine: setattr(mine, "handle", (2).to_bytes(8, "big"))),
    "nobody's handle": forged(lambda mine: setattr(mine, "handle", (77).to_bytes(8, "big"))),
    "no JSON": lambda mine, asked: "{",
    "no object": lambda mine, asked: "[1]",
    "no response": lambda mine, asked: '{"id": "x", "rawId": "x"}',
    "deep JSON": lambda mine, asked: "[" * 30_000,
    "too long": lambda mine, asked: " " * 100_000 + mine.get(asked),
    "client data that is no JSON": lambda mine, asked: _with(mine, asked, clientDataJSON=b64(b"\xff")),
    "client data that is no object": lambda mine, asked: _with(mine, asked, clientDataJSON=b64(b"[]")),
    "base64 that is none": lambda mine, asked: _with(mine, asked, clientDataJSON="***"),
}


@pytest.mark.parametrize("answer", list(ANSWERS.values()), ids=list(ANSWERS))
def test_what_is_refused(place: MemoryDirectory, answer: Callable[[Authenticator, str], str]) -> None:
    challenges, mine = Challenges(), device()
    enrolled(place, challenges, mine)
    mine.get(passkeys.ask_to_enter(SITE, challenges))
    passkeys.entered(place, SITE, challenges, mine.get(passkeys.ask_to_enter(SITE, challenges)), NOW)
    before = place.passkeys(1)
    with pytest.raises(Refused):
        passkeys.entered(place, SITE, challenges, answer(mine, passkeys.ask_to_enter(SITE, challenges)), NOW)
    assert place.passkeys(1) == before, "nothing of it was kept"


REGISTERED: dict[str, Callable[[Authenticator, str], str]] = {
    "another page": lambda mine, asked: mine.create(asked, origin="https://evil.test"),
    "its user was not recognised": lambda mine, asked: Authenticator(mine.origin, mine.host, flags=PRESENT).create(
        asked
    ),
    "another host": lambda mine, asked: Authenticator(mine.origin, "d.test").create(asked),
    "no JSON": lambda mine, asked: "",
    "an answer of a login": lambda mine, asked: Authenticator(mine.origin, mine.host).get(asked),
}


@pytest.mark.parametrize("answer", list(REGISTERED.values()), ids=list(REGISTERED))
def test_what_is_not_kept(place: MemoryDirectory, answer: Callable[[Authenticator, str], str]) -> None:
    challenges, who = Challenges(), account(place)
    options = passkeys.ask_to_register(SITE, challenges, who, [])
    with pytest.raises(Refused):
        passkeys.registered(place, SITE, challenges, who, answer(device(), options), "x", NOW)
    assert place.passkeys(1) == []


def test_a_role_that_was_taken_away_lets_nobody_in(place: MemoryDirectory) -> None:
    challenges, mine = Challenges(), device()
    enrolled(place, challenges, mine)
    place.change_account(WHO, lambda old: replace(old, role=""))
    with pytest.raises(Refused):
        passkeys.entered(place, SITE, challenges, mine.get(passkeys.ask_to_enter(SITE, challenges)), NOW)
    with pytest.raises(DirectoryError, match="administers nothing"):
        enrolled(place, challenges, device())


@pytest.mark.parametrize("seed", range(4))
def test_answers_with_any_octet_changed_are_refused_or_right(place: MemoryDirectory, seed: int) -> None:
    """Nothing but Refused comes out, whatever is in the parts that a client writes."""
    choose = random.Random(seed)
    challenges, who = Challenges(), account(place)
    for number in range(some(150)):
        mine = device(counts=False)
        answer = json.loads(mine.create(passkeys.ask_to_register(SITE, challenges, who, [])))
        part = choose.choice(["attestationObject", "clientDataJSON"])
        answer["response"][part] = b64(changed(choose, raw(answer["response"][part])))
        with contextlib.suppress(Refused, DirectoryError):
            passkeys.registered(place, SITE, challenges, who, json.dumps(answer), "x", NOW + number)
        for one in place.passkeys(who.id):
            place.remove_passkey(who.address, one.id)
    mine = device(counts=False)
    enrolled(place, challenges, mine)
    for number in range(some(150)):
        answer = json.loads(mine.get(passkeys.ask_to_enter(SITE, challenges)))
        part = choose.choice(["authenticatorData", "clientDataJSON", "signature", "userHandle"])
        answer["response"][part] = b64(changed(choose, raw(answer["response"][part])))
        with pytest.raises(Refused):
            passkeys.entered(place, SITE, challenges, json.dumps(answer), NOW + number)


def changed(choose: random.Random, octets: bytes) -> bytes:
    """The same with an octet changed, cut off, or put in."""
    at = choose.randrange(len(octets))
    other = bytes([octets[at] ^ choose.randrange(1, 256)])
    return octets[:at] + choose.choice([other, b"", other + octets[at:]]) + octets[at + 1 :]
