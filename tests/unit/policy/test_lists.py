"""DNS lists (RFC 5782): what counts as a listing, and lists that are out of order."""

import asyncio
from typing import Any

import pytest

from fastmail.dns.interface import Answer
from fastmail.dns.memory import MemoryResolver
from fastmail.policy import lists
from fastmail.policy.lists import Listed, Lists
from tests.support.answers import AtHand

SOUND = {("2.0.0.127.bl.test", "A"): ["127.0.0.2"], ("test.dbl.test", "A"): ["127.0.1.2"]}


def client(
    records: dict[tuple[str, str], Any], text: str = "bl.test", ip: str = "192.0.2.1", **names: Any
) -> list[Listed]:
    made = MemoryResolver({**SOUND, **records})
    made.slow |= set(names.get("slow", ()))
    return asyncio.run(Lists(made, [lists.parse(text)], []).client(ip))


def domains(records: dict[tuple[str, str], Any], *found: str) -> list[Listed]:
    made = MemoryResolver({**SOUND, **records})
    return asyncio.run(Lists(made, [], [lists.parse("dbl.test=127.0.1.[2..99]*4")]).names(found))


def test_listings() -> None:
    there = {("1.2.0.192.bl.test", "A"): ["127.0.0.4", "127.0.0.2"]}
    assert client(there) == [Listed("bl.test", 2.0, "192.0.2.1", ("127.0.0.2", "127.0.0.4"))]
    assert client(there, "bl.test=127.0.0.[3..5;9]*1.5") == [Listed("bl.test", 1.5, "192.0.2.1", ("127.0.0.4",))]
    assert client(there, "bl.test=127.0.0.9*3") == []
    assert client(there, "bl.test*-3")[0].weight == -3
    assert client({}) == []
    assert client(there, ip="::ffff:192.0.2.1") and not client(there, ip="local")


def test_ipv6() -> None:
    name = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.bl.test"
    assert client({(name, "A"): ["127.0.0.2"]}, ip="2001:db8::1")[0].what == "2001:db8::1"


@pytest.mark.parametrize(
    "code", ["127.255.255.252", "127.255.255.254", "127.255.255.255", "127.0.0.1", "127.0.0.255", "192.0.2.80"]
)
def test_answers_that_are_no_listings(code: str) -> None:
    assert client({("1.2.0.192.bl.test", "A"): [code]}) == []
    assert client({("1.2.0.192.bl.test", "A"): [code, "127.0.0.2"]}) == []


@pytest.mark.parametrize(
    "broken",
    [
        {("2.0.0.127.bl.test", "A"): []},
        {("1.0.0.127.bl.test", "A"): ["127.0.0.2"]},
        {("2.0.0.127.bl.test", "A"): ["192.0.2.80"]},
        {("2.0.0.127.bl.test", "A"): ["127.255.255.254"]},
    ],
    ids=["empty", "lists everything", "sold", "does not answer us"],
)
def test_a_list_that_is_out_of_order_keeps_nobody_out(broken: dict[tuple[str, str], Any], capsys: Any) -> None:
    names = MemoryResolver({**SOUND, ("1.2.0.192.bl.test", "A"): ["127.0.0.2"], **broken})

    async def main() -> list[Listed]:
        made = Lists(names, [lists.parse("bl.test")], [])
        return await made.client("192.0.2.1") + await made.client("192.0.2.1")

    assert asyncio.run(main()) == []
    assert capsys.readouterr().err.count("event=policy.list ") == 1


def test_a_list_that_does_not_answer_does_not_count() -> None:
    assert client({("1.2.0.192.bl.test", "A"): ["127.0.0.2"]}, slow=["2.0.0.127.bl.test"]) == []


def test_what_was_found_is_kept_while_its_answers_count() -> None:
    names = MemoryResolver({**SOUND, ("1.2.0.192.bl.test", "A"): ["127.0.0.2"]})
    made = Lists(names, [lists.parse("bl.test")], [lists.parse("dbl.test")])
    assert made.known("192.0.2.1") is None and made.known(("a.test",)) is None
    found = asyncio.run(made.client("192.0.2.1"))
    assert found == made.known("192.0.2.1") == [Listed("bl.test", 2.0, "192.0.2.1", ("127.0.0.2",))]
    assert asyncio.run(made.names(("a.test",))) == made.known(("a.test",)) == []
    for broken, ip in (("3.2.0.192.bl.test", "192.0.2.3"), ("2.0.0.127.bl.test", "192.0.2.4")):
        names.broken.add(broken)
        assert asyncio.run(made.client(ip)) == [] and made.known(ip) is None, broken


def test_domains_of_a_message() -> None:
    there = {("evil.test.dbl.test", "A"): ["127.0.1.4"], ("ip.test.dbl.test", "A"): ["127.0.1.255"]}
    found = domains(there, "good.test", "evil.test", "evil.test", "ip.test", "localhost")
    assert found == [Listed("dbl.test", 4.0, "evil.test", ("127.0.1.4",))]
    names = MemoryResolver({**SOUND, **there})
    asyncio.run(Lists(names, [], [lists.parse("dbl.test")]).names(tuple(f"d{n}.test" for n in range(1000))))
    assert len(names.asked) == 12


@pytest.mark.parametrize(
    "text",
    ["", "=127.0.0.2", "a b", "bl.test=127.0.0", "bl.test=127.0.0.256", "bl.test=127.0.0.[9..2]", "bl.test=127.0.0.2.1",
     "bl.test=127.0.0.[2", "bl.test=127.0.0.2.", "bl.test*x", "bl.test=*2", "..", "bl.test=127.0.0.[2..11]*3*4"],
)  # fmt: skip
def test_lists_that_are_written_wrong(text: str) -> None:
    with pytest.raises(ValueError):
        lists.parse(text)


def linked(records: dict[tuple[str, str], Any], text: str, *found: str) -> tuple[list[Listed], list[str]]:
    """(listings, names that were asked for)."""
    made = MemoryResolver({**SOUND, **records})
    listed = asyncio.run(Lists(made, [], [], [lists.parse(text)]).links(found))
    return listed, [name for name, _ in made.asked]


def test_lists_of_what_the_content_names() -> None:
    there = {("www.evil.test.dbl.test", "A"): ["127.0.1.4"], ("other.test.dbl.test", "A"): ["127.0.1.2"]}
    found, asked = linked(there, "dbl.test=127.0.1.[2..99]*4", "good.test", "www.evil.test", "other.test", "8.8.8.8")
    assert found == [Listed("dbl.test", 4.0, "www.evil.test", ("127.0.1.4",))], "once, however many are on it"
    assert asked == [f"{name}.dbl.test" for name in ("good.test", "www.evil.test", "other.test", "test", "invalid")]


def test_registered_domains_and_addresses_in_urls() -> None:
    sound = {("2.0.0.127.multi.test", "A"): ["127.0.0.254"]}
    there = {("evil.co.uk.multi.test", "A"): ["127.0.0.64"], ("9.8.8.8.multi.test", "A"): ["127.0.0.8"]}
    text = "multi.test=127.0.0.&64*4 org ip"
    found, asked = linked({**sound, **there}, text, "a.b.evil.co.uk", "c.evil.co.uk", "8.8.8.9", "me.github.io")
    assert found == [Listed("multi.test", 4.0, "c.evil.co.uk", ("127.0.0.64",))]
    assert asked[:3] == ["evil.co.uk.multi.test", "9.8.8.8.multi.test", "me.github.io.multi.test"]
    found, _ = linked({**sound, **there}, "multi.test=127.0.0.&8*2 ip", "8.8.8.9", "evil.co.uk")
    assert found == [Listed("multi.test", 2.0, "8.8.8.9", ("127.0.0.8",))]
    assert linked(there, text, "a.evil.co.uk")[0] == [], "its test entries are those of addresses"


@pytest.mark.parametrize(
    ("code", "counts"), [("127.0.0.8", True), ("127.0.0.72", True), ("127.0.0.64", False), ("127.0.1.8", False)]
)
def test_bits(code: str, counts: bool) -> None:
    assert lists.parse("m.test=127.0.0.&8").counts(code) is counts


@pytest.mark.parametrize(
    "text", ["m.test=127.0.0.&0", "m.test=127.0.0.&256", "m.test=127.0.0.&", "m.test org up", "m.test*1org"]
)
def test_bits_and_words_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="no (list|codes)"):
        lists.parse(text)


def test_nothing_is_asked_for_nothing() -> None:
    assert linked({}, "dbl.test", "8.8.8.8") == ([], [])


def test_what_is_at_hand_is_said_at_once() -> None:
    """And is the same, and is kept; where one answer is missing, nothing is said."""

    class AllButOne(AtHand):
        missing = ""

        def cached(self, name: str, kind: str) -> Answer | None:
            return None if name == self.missing else super().cached(name, kind)

    zone = {**SOUND, ("bad.example.dbl.test", "A"): ["127.0.1.4"]}
    found, zones = ("bad.example", "192.0.2.1", "good.example", "host"), [lists.parse("dbl.test")]
    names = AllButOne(zone)
    said = asyncio.run(Lists(names, [], zones).names(found))
    assert [one.what for one in said] == ["bad.example"]
    made = Lists(names, [], zones)
    names.missing = "good.example.dbl.test"
    assert made.at_once(found) is None
    assert made.known(found) is None
    names.missing = ""
    assert made.at_once(found) == said == made.known(found)
    assert made.until(found) == names.until


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::a", "192.0.2.1%eth0", "::ffff:192.0.2.1"])
def test_addresses_are_not_taken_for_names(name: str) -> None:
    assert list(lists._labels(lists.parse("dbl.test"), [name])) == []
    assert list(lists._labels(lists.parse("dbl.test ip"), [name])) != [name]


def test_names_that_look_like_addresses_are_names() -> None:
    names = ["a.example", "1.2.3.4.example", "host1", "1.2.3.256"]
    assert list(lists._labels(lists.parse("dbl.test"), names)) == names
