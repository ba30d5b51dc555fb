"""Answers of name servers on the wire, whole and damaged."""

import random

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from fastmail._core import dns as core

KINDS = {"A": 1, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "TLSA": 52}


def made(
    name: str, kind: str, *records: tuple[str, str, str, int], authority: tuple[str, int, int] | None = None
) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(name + ".", kind))
    for owner, what, text, ttl in records:
        reply.answer.append(dns.rrset.from_text(owner + ".", ttl, "IN", what, text))
    if authority is not None:
        zone, ttl, minimum = authority
        reply.authority.append(dns.rrset.from_text(zone + ".", ttl, "IN", "SOA", f"a. b. 1 2 3 4 {minimum}"))
    return reply.to_wire(max_size=65535)


def read(data: bytes, name: str, kind: str):  # type: ignore[no-untyped-def]
    return core.answer(data, core.wire(name), KINDS[kind])


@pytest.mark.parametrize(
    ("kind", "text", "record"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8::1", bytes.fromhex("20010db8000000000000000000000001")),
        ("MX", "10 Mail.A.test.", (10, "mail.a.test")),
        ("MX", "0 .", (0, "")),
        ("PTR", "host.a.test.", "host.a.test"),
        ("TXT", '"v=spf1 " "-all" ""', b"v=spf1 -all"),
        ("TXT", '""', b""),
        ("TLSA", "3 1 0 00ff", (3, 1, 0, b"\0\xff")),
    ],
)
def test_records_of_each_kind(kind: str, text: str, record: object) -> None:
    flags, records, name, ttl = read(made("a.test", kind, ("A.test", kind, text, 60)), "a.test", kind)
    assert (records, name, ttl) == ([record], "a.test", 60)
    assert flags & dns.flags.QR


def test_aliases_are_followed_in_any_order() -> None:
    records = [
        ("c.test", "A", "192.0.2.1", 300),
        ("b.test", "CNAME", "c.test.", 20),
        ("a.test", "CNAME", "b.test.", 90),
    ]
    for _ in range(6):
        random.shuffle(records)
        assert read(made("a.test", "A", *records), "a.test", "A")[1:] == (["192.0.2.1"], "c.test", 20)


def test_an_alias_itself_may_be_asked_for() -> None:
    data = made("a.test", "CNAME", ("a.test", "CNAME", "b.test.", 20))
    assert core.answer(data, core.wire("a.test"), 5)[2] == "a.test"


def test_negative_answers_say_how_long_they_hold() -> None:
    """RFC 2308 5: the TTL of the SOA record or its last field, whichever is less."""
    assert read(made("a.test", "A", authority=("test", 900, 60)), "a.test", "A")[1:] == ([], "a.test", 60)
    assert read(made("a.test", "A", authority=("test", 30, 60)), "a.test", "A")[3] == 30
    assert read(made("a.test", "A"), "a.test", "A")[3] == -1


def test_a_ttl_with_a_sign_is_none() -> None:
    data = bytearray(made("a.test", "A", ("a.test", "A", "192.0.2.1", 0x7FFFFFFF)))
    at = bytes(data).index(b"\x7f\xff\xff\xff")
    data[at] = 0xFF
    assert read(bytes(data), "a.test", "A")[3] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 11,
        made("b.test", "A", ("b.test", "A", "192.0.2.1", 60)),
        made("a.test", "AAAA"),
        made("a.test", "A", ("a.test", "CNAME", "b.test.", 1), ("b.test", "CNAME", "a.test.", 1)),
        made("a.test", "A", ("a.test", "CNAME", "b.test.", 1), ("a.test", "CNAME", "c.test.", 1)),
        made("a.test", "A", *[(f"{'a' if n == 0 else n}.test", "CNAME", f"{n + 1}.test.", 1) for n in range(20)]),
    ],
    ids=["nothing", "short", "another name", "another type", "a circle", "two aliases", "a long chain"],
)
def test_no_answer_to_that_question(data: bytes) -> None:
    with pytest.raises(ValueError):
        read(data, "a.test", "A")


def test_pointers_lead_to_the_front_only() -> None:
    question = b"\x01a\x04test\0" + b"\0\x01\0\x01"
    head = b"\0\0\x80\0\0\x01\0\x01\0\0\0\0"
    for pointer in (b"\xc0\x18", b"\xc0\x1a", b"\xff\xff", b"\xc0"):  # itself, ahead, nowhere, cut short
        with pytest.raises(ValueError):
            core.answer(head + question + pointer + b"\0\x01\0\x01\0\0\0\0\0\x04abcd", core.wire("a.test"), 1)
    assert core.answer(head + question + b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04abcd", core.wire("a.test"), 1)[1]


def test_names_are_written_so_that_they_start_no_line() -> None:
    data = made("a.test", "PTR", ("a.test", "PTR", r"a\010b\.c\\.test.", 5))
    assert read(data, "a.test", "PTR")[1] == [r"a\010b\046c\092.test"]


def test_every_cut_and_every_flip_is_an_answer_or_none() -> None:
    data = made("a.test", "MX", ("a.test", "MX", "10 m.a.test.", 5), ("a.test", "MX", "20 n.a.test.", 5))
    rng = random.Random(1)
    for size in range(len(data)):
        with pytest.raises(ValueError):
            read(data[:size], "a.test", "MX")
    for _ in range(3000):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        try:
            _, records, _, _ = read(bytes(changed), "a.test", "MX")
        except ValueError:
            continue
        assert all(isinstance(one[1], str) and one[1].isprintable() for one in records)


def test_names_there_and_back() -> None:
    assert core.wire("A.test") == b"\x01a\x04test\0"
    assert core.text(core.wire("_25._tcp.mail.a.test")) == "_25._tcp.mail.a.test"
    for bad in ("", "a..b", ".a", "a.", "x" * 64, ".".join(["a" * 63] * 4), "\u00fc.test"):
        with pytest.raises(ValueError):
            core.wire(bad)
    for octets in (b"", b"\x01", b"\x01a", b"\0\0", b"\xc0\0"):
        with pytest.raises(ValueError):
            core.text(octets)
