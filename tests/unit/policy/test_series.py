"""What is kept of a series of messages as one, who is of it, and for how long that counts."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fastmail.directory.named import Book
from fastmail.policy import series
from fastmail.policy.greylist import Greylist
from fastmail.policy.lists import parse
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Received, Settings
from fastmail.policy.verdict import Thresholds
from fastmail.policy.wishes import Wishes
from tests.support.answers import AtHand, Lasting
from tests.support.signing import MESSAGE, key, published, signed

ZONE: dict[tuple[str, str], list[Any]] = {
    **published(key(), key(selector="two", kind="ed25519")),
    ("twice._domainkey.example.org", "TXT"): [key().record(), key(kind="ed25519").record()],
    ("example.org", "TXT"): ["v=spf1 ip4:192.0.2.0/24 -all"],
    ("macro.test", "TXT"): ["v=spf1 exists:%{l}.macro.test -all"],
    ("joe.macro.test", "A"): ["127.0.0.2"],
    ("mail.example.org", "TXT"): ["v=spf1 a -all"],
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
    ("mail.example.org", "A"): ["192.0.2.1"],
    ("example.org", "MX"): [(10, "mail.example.org")],
    ("2.0.0.127.bl.test", "A"): ["127.0.0.2"],
    ("test.dbl.test", "A"): ["127.0.1.2"],
    ("reply.test.dbl.test", "A"): ["127.0.1.2"],
}
SETTINGS = Settings("mx.test", lists=[parse("bl.test*3")], domain_lists=[parse("dbl.test*4")])
MAIL = "192.0.2.1", "mail.example.org", "joe@example.org"


def numbered(number: int, text: bytes = MESSAGE, *keys: Any) -> bytes:
    """A message of its own each time."""
    return signed(text.replace(b"dinner", b"dinner %d" % number), *keys)


def each(
    contents: Sequence[bytes],
    settings: Settings = SETTINGS,
    who: tuple[str, str, str] = MAIL,
    names: Lasting | None = None,
    wanted: Sequence[Wishes] = (),
) -> list[Received]:
    """What one receiver makes of messages of one client."""

    async def run() -> list[Received]:
        receiver = Receiver(names or AtHand(ZONE), settings)
        found = []
        for content in contents:
            receiving = receiver.begin(*who[:2])
            receiving.mail_from(who[2])
            receiving.feed(content)
            found.append(await receiving.finish(wanted=wanted, content=content))
            receiving.close()
        return found

    return asyncio.run(run())


def kinds(contents: Sequence[bytes], *given: Any, **more: Any) -> list[int]:
    """Which of them are known to be alike: 0 for what is not of a series that was known, others from 1 on."""
    numbers = [one.alike for one in each(contents, *given, **more)]
    order = list(dict.fromkeys(number for number in numbers if number))
    return [order.index(number) + 1 if number else 0 for number in numbers]


@pytest.mark.parametrize(
    "keys", [(), (key(),), (key(), key(selector="two", kind="ed25519"))], ids=["unsigned", "one", "two"]
)
def test_the_third_message_is_of_a_series(keys: tuple[Any, ...]) -> None:
    """The first one asks for what the second one knows; what that comes to is kept."""
    contents = [numbered(n, MESSAGE, *keys) if keys else MESSAGE for n in range(4)]
    found = each(contents)
    assert [bool(one.alike) for one in found] == [False, False, True, True]
    assert found[2].alike == found[3].alike
    for one, content in zip(found, contents, strict=True):
        (alone,) = each([content])
        unseen = {"alike": 0, "asked": 0, "subject": None, "clean": False}
        assert replace(one, **unseen) == replace(alone, **unseen)
        assert [said.result for said in one.checks.dkim or ()] == ["pass"] * len(keys)


@pytest.mark.parametrize(
    "other",
    [
        numbered(3).replace(b"Hi.", b"Ho."),
        numbered(3).replace(b"Subject: Is", b"Subject: Was"),
        numbered(3).replace(b"b=", b"b=AAAA", 1),
        numbered(3, MESSAGE, key(selector="two", kind="ed25519")),
        numbered(3, b"List-Id: l.test\n" + MESSAGE),
        numbered(3, b"Reply-To: jim@reply.test\n" + MESSAGE),
        numbered(3, MESSAGE.replace(b"joe@example.org", b"joe@sub.example.org")),
        b"ARC-Seal: i=1\n" + numbered(3),
        b"From: jim@example.org\n" + numbered(3),
        b"no field\n" + numbered(3),
        MESSAGE,
    ],
)
def test_a_message_that_is_not_is_checked_by_itself(other: bytes) -> None:
    *_, before, found, after = each([*(numbered(n) for n in range(3)), other, numbered(4)])
    assert before.alike and after.alike == before.alike != found.alike == 0
    unseen = {"asked": 0, "subject": None, "clean": False}
    assert replace(found, **unseen) == replace(each([other])[0], **unseen)


def test_a_signature_that_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [numbered(n) for n in range(3)]
    expires = int(contents[0].partition(b" x=")[2].split(b";")[0])
    receiver, said = Receiver(AtHand(ZONE), SETTINGS), []

    async def run() -> None:
        for content in contents:
            receiving = receiver.begin(*MAIL[:2])
            receiving.mail_from(MAIL[2])
            receiving.feed(content)
            said.append((await receiving.finish()).words.split(":")[0])
            if len(said) == 2:
                monkeypatch.setattr(time, "time", lambda: expires + 100.0)

    asyncio.run(run())
    assert said == ["spf=pass dkim=pass dmarc=pass"] * 2 + ["spf=pass dkim=fail dmarc=pass"]


def test_it_counts_as_long_as_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that it is asked again, also if the message began before."""
    names = AtHand(ZONE)
    names.until = time.monotonic() + 50.0
    receiver, said = Receiver(names, SETTINGS), []
    clock = time.monotonic

    async def run() -> None:
        for number in range(5):
            receiving = receiver.begin(*MAIL[:2])
            receiving.mail_from(MAIL[2])
            receiving.feed(numbered(number))
            if number == 3:
                monkeypatch.setattr(time, "monotonic", lambda: clock() + 60.0)
                names.records.pop(("one._domainkey.example.org", "TXT"))
            found = await receiving.finish()
            said.append((bool(found.alike), found.words.split()[1]))

    asyncio.run(run())
    known = [(False, "dkim=pass"), (False, "dkim=pass"), (True, "dkim=pass")]
    assert said == [*known, (False, "dkim=permerror"), (False, "dkim=permerror")]


@pytest.mark.parametrize(
    ("who", "other"),
    [
        (("192.0.2.1", "mail.example.org", "joe@macro.test"), {}),  # SPF depends on the local part
        (MAIL, {"link_lists": [parse("dbl.test*4")]}),
    ],
)
def test_what_is_not_known_beforehand_makes_none(who: tuple[str, str, str], other: dict[str, Any]) -> None:
    settings = Settings("mx.test", **other)
    assert kinds([numbered(n) for n in range(4)], settings, who) == [0, 0, 0, 0]


def test_claims_are_a_part_of_it() -> None:
    """Findings that rest on the client alone are the same for each message."""
    settings = Settings("mx.test", helo="refuse", sender="refuse")
    found = each([numbered(n) for n in range(3)], settings, ("192.0.2.1", "gone.example.org", "joe@nowhere.test"))
    assert [name for name, _ in found[2].checks.noted] == ["helo.unresolved", "sender.no_host"]
    assert found[2].alike and found[2].checks.noted == found[0].checks.noted
    assert found[2].checks.refusal == found[0].checks.refusal and found[2].checks.refusal is not None


def test_what_the_session_notes_is_none() -> None:
    receiver = Receiver(AtHand(ZONE), SETTINGS)

    async def run() -> None:
        for number in range(4):
            receiving = receiver.begin(*MAIL[:2])
            receiving.mail_from(MAIL[2])
            if number == 3:
                receiving.note("early.greeting", "it spoke before the greeting")
            receiving.feed(numbered(number))
            found = await receiving.finish()
            assert [name for name, _ in found.checks.noted] == ["early.greeting"] * (number == 3)
            assert bool(found.alike) is (number == 2)

    asyncio.run(run())


def test_what_names_a_series_is_not_long() -> None:
    keys = [key(selector=f"{'s' * 40}.{'t' * 40}{n}") for n in range(5)]
    names = AtHand({**ZONE, **published(*keys)})
    contents = [numbered(n, MESSAGE, *keys) for n in range(4)]
    assert kinds(contents, names=names) == [0, 0, 1, 1]
    answers = b"Reply-To: " + b"a@b.test,\n " * 90 + b"a@b.test\n"
    contents = [numbered(n, answers + MESSAGE, *keys) for n in range(4)]
    assert kinds(contents, names=names) == [0, 0, 0, 0]


def test_two_keys_at_a_name_make_none() -> None:
    """Which of them is the right one has to be tried."""
    assert kinds([numbered(n, MESSAGE, key(selector="twice")) for n in range(4)]) == [0, 0, 0, 0]


def test_an_answer_that_has_to_be_asked_for_makes_none() -> None:
    assert kinds([numbered(n) for n in range(4)], names=Lasting(ZONE)) == [0, 0, 0, 0]


def test_what_recipients_ask_for_makes_another_ending() -> None:
    receiver = Receiver(AtHand(ZONE), SETTINGS)

    async def one(*wanted: Wishes) -> Received:
        receiving = receiver.begin(*MAIL[:2])
        receiving.mail_from(MAIL[2])
        receiving.feed(numbered(1))
        return await receiving.finish(wanted=wanted)

    async def run() -> None:
        strict = Wishes(enforce=True, thresholds=Thresholds(junk=-5.0))
        assert (await one()).alike == (await one()).alike == 0
        usual, junk = await one(), await one(strict)
        assert usual.alike and junk.alike and usual.alike != junk.alike
        assert (usual.action, junk.action) == ("accept", "junk")
        assert (await one(strict)).alike == junk.alike
        assert (await one(Wishes(), strict)).alike == 0, "recipients who differ"
        for number in range(series.OUTCOMES):
            more = await one(Wishes(thresholds=Thresholds(junk=6.0 + number)))
        assert more.alike == 0 and more.action == "accept", "so many are kept"

    asyncio.run(run())


def test_greylisting_counts_where_it_is_asked_for(tmp_path: Path) -> None:
    receiver = Receiver(AtHand(ZONE), SETTINGS, Greylist(str(tmp_path)))

    async def run() -> None:
        for number in range(6):
            wanted = Wishes(enforce=True, greylist=1.0 if number >= 4 else 0.0)
            receiving = receiver.begin(*MAIL[:2])
            receiving.mail_from(MAIL[2])
            receiving.feed(numbered(number))
            found = await receiving.finish(wanted=[wanted])
            assert bool(found.alike) is (number in (2, 3))
            assert bool(found.earns) is (number >= 4), "good mail of who would have to wait otherwise"

    asyncio.run(run())


def test_lists_of_senders_have_their_say_each_time() -> None:
    blocks = Settings("mx.test", block=Book(["joe@example.org"]))
    found = each([numbered(n) for n in range(4)], blocks)
    assert [one.alike for one in found] == [0, 0, 0, 0] and all(one.action == "refuse" for one in found)


def test_the_subject_and_whether_fields_are_to_be_cut_out() -> None:
    first, plain, forged = each([numbered(5), numbered(5), b"X-Spam-Flag: NO\n" + numbered(5)])
    assert first.subject is None and not first.clean, "what is asked for takes longer than looking for it"
    assert plain.subject == b" Is dinner 5 ready?\n" and plain.clean and not forged.clean
    *_, odd = each([numbered(5), b"no field\n" + numbered(5)])
    assert odd.subject is None and not odd.clean


def test_series_of_one_origin_in_turn() -> None:
    """The latest series is found at once, another one by its name; each keeps its own results."""
    listed = MESSAGE.replace(b"Subject:", b"List-Id: <list.test>\nSubject:")
    texts = [MESSAGE, listed] * 5
    found = each([numbered(number, text) for number, text in enumerate(texts)])
    assert [bool(one.alike) for one in found] == [False] * 3 + [True] * 7
    assert [one.checks.listed for one in found] == [False, True] * 5
    assert found[4].alike == found[6].alike != found[5].alike == found[7].alike
