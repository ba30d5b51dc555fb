"""What the scanner keeps of a message is bounded (fastmail/_core/mime.pyx), and says so where that left something out."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmail._core import envelope, fetch, idents, mime, pages, rows
from fastmail._core.octets import Out
from fastmail._core.uidset import UidSet
from fastmail.imap.search_run import _field_has
from fastmail.message import sections, summary
from tests.property.test_mime import balanced
from tests.support.examples import some

ADDRESSES, TEXT, ENVELOPE, STRUCTURE, CACHE, PARTS = 2000, 8192, 262144, 1048576, 16384, 2000
TO = 5


def listed(message: bytes, which: int = TO) -> int:
    found = envelope.addresses(mime.scan(message), which)
    assert found is not None
    return len(found)


def sound(message: bytes) -> summary.Summary:
    """Its summary, which holds the bounds and is valid on the wire."""
    made = mime.scan(message)
    assert len(made) <= mime.MOST
    found = summary.read(made)
    assert found is not None
    assert len(found.envelope) <= ENVELOPE
    assert len(found.structure) <= STRUCTURE
    assert len(found.header) <= CACHE
    balanced(found.envelope)
    balanced(found.structure)
    balanced(sections.body_of_structure(found.structure))
    for which in range(10):
        assert envelope.string(made, which) is None or not 2 <= which <= 7
    return found


@pytest.mark.parametrize("one", [b"a@b,", b"a <b@c>,", b"a,", b"(n) a@b,"])
def test_s29_a_field_has_2000_addresses(one: bytes) -> None:
    assert listed(b"To: " + one * 2000 + b"\n\n") == ADDRESSES
    assert not sound(b"To: " + one * 2000 + b"\n\n").short
    assert listed(b"To: " + one * 2001 + b"\n\n") == ADDRESSES
    assert sound(b"To: " + one * 2001 + b"\n\n").short


def test_s29_beginnings_and_ends_of_groups_count_as_addresses() -> None:
    assert listed(b"To: " + b":;" * 1000 + b"\n\n") == ADDRESSES
    assert not sound(b"To: " + b":;" * 1000 + b"\n\n").short
    assert listed(b"To: " + b":;" * 1001 + b"\n\n") == ADDRESSES
    assert sound(b"To: " + b":;" * 1001 + b"\n\n").short


def test_s29_a_group_that_is_cut_ends() -> None:
    found = envelope.addresses(mime.scan(b"To: g: " + b"a@b," * 3000 + b";\n\n"), TO)
    assert found is not None
    assert len(found) == ADDRESSES
    assert found[0] == (None, None, b"g", None)
    assert found[-1] == (None, None, None, None)


def test_s29_all_lists_of_an_envelope_share_its_octets() -> None:
    long = b"x" * 500 + b"@example.org,"
    fields = (b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc")
    message = b"".join(name + b": " + long * 200 + b"\n" for name in fields) + b"Subject: s\nMessage-ID: <a@b>\n\n"
    found = sound(message)
    assert found.short
    assert len(found.envelope) > ENVELOPE // 2
    assert b'"s"' in found.envelope
    assert found.envelope.endswith(b'"<a@b>")')


def test_s29_sender_and_reply_to_repeat_from_within_the_bound_only() -> None:
    value = b"From: " + b"x" * 1000 + b"@example.org\n\n"
    assert sound(value).envelope.count(b"x" * 1000) == 3
    found = sound(b"From: " + (b"x" * 1000 + b"@example.org,") * 100 + b"\n\n")
    assert found.short
    assert found.envelope.count(b"x" * 1000) == 100


@pytest.mark.parametrize("field", [b"Subject", b"Date", b"Message-ID", b"In-Reply-To"])
def test_s29_a_text_of_the_envelope_has_8192_octets(field: bytes) -> None:
    def written(n: int) -> tuple[int, bool]:
        found = sound(field + b": " + b'"' * n + b"\n\n")
        return found.envelope.count(b'\\"'), found.short

    assert written(TEXT) == (TEXT, False)
    assert written(TEXT + 1) == (TEXT, True)


def test_a_text_is_not_cut_within_a_character() -> None:
    found = envelope.string(mime.scan("Subject: {}\n\n".format("x" + "é" * 5000).encode()), 1)
    assert found is not None
    assert found.decode() == "x" + "é" * 4095


def test_the_name_of_a_message_with_a_cut_envelope_is_looked_up_in_its_header() -> None:
    assert idents.message_id(mime.scan(b"Message-ID: <a@b>\n\n")) == b"<a@b>"
    assert idents.message_id(mime.scan(b"To: " + b":;" * 2000 + b"\nMessage-ID: <a@b>\n\n")) is None


def multipart(part: bytes, n: int = PARTS) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=b\n\n" + (b"--b\n" + part + b"\n\n\n") * n


VALUES = {
    "groups": b"Content-Type: message/rfc822\n\nFrom: " + b":;" * 400,
    "from": b"Content-Type: message/rfc822\n\nFrom: " + b"a@b," * 400,
    "subjects": b"Content-Type: message/rfc822\n\nSubject: " + b'"' * 1000,
    "parameters": b"Content-Type: text/plain" + b";x=" * 400,
    "pieces": b"Content-Type: text/plain" + b"".join(b"; n*%d*=''%%41" % n for n in range(99)),
    "types": b"Content-Type: " + b"x" * 500 + b"/" + b"y" * 500,
    "high types": b"Content-Type: " + b"\xe4" * 32 + b"/" + b"\xe4" * 32 + b"\nContent-Transfer-Encoding: " + b"\xe4" * 32,
    "encodings": b"Content-Transfer-Encoding: " + b"x" * 900,
    "dispositions": b"Content-Disposition: attachment" + b";x=" * 400,
    "long dispositions": b"Content-Disposition: " + b"\xff" * 900,
    "languages": b"Content-Language: " + b"a," * 90,
    "locations": b"Content-Location: " + b"\\" * 900,
    "ids": b"Content-ID: " + b"\\" * 900 + b"\nContent-Description: " + b'"' * 900 + b"\nContent-MD5: " + b"\xff" * 900,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(VALUES))
def test_s29_the_values_of_all_parts_share_a_bound(name: str) -> None:
    message = multipart(VALUES[name])
    found = sound(message)
    assert found.bare or name == "high types"
    assert len(found.parts) in (PARTS, PARTS + 1, PARTS + 2)
    assert len(mime.scan(message)) < len(message) + 600_000
    few = sound(multipart(VALUES[name], 1))
    assert not few.bare, "one such part is kept whole"


def test_s29_every_part_has_its_place_in_a_cut_structure() -> None:
    found = sound(multipart(VALUES["groups"]))
    children = [one for one in sections._parse(found.structure) if isinstance(one, list)]
    numbers = [sections.find(found, (n,)) for n in (1, 500, 999)]
    assert [sections.structure_of(found, (n,)) for n in (1, 500, 999)] == [
        sections._join(children[n - 1]) for n in (1, 500, 999)
    ]
    assert None not in numbers


def test_s29_a_message_of_2_mb_takes_less_than_a_megabyte_and_a_half() -> None:
    message = b"From: " + b":;" * 500 + b"\n" + multipart(b"Content-Type: message/rfc822\n\nFrom: " + b":;" * 500)
    assert 2_000_000 < len(message) < 2_300_000
    assert len(mime.scan(message)) < 1_359_169
    assert mime.MOST == 32 + ENVELOPE + STRUCTURE + CACHE + (PARTS + 2) * 16


PIECES: list[Callable[[int], bytes]] = [
    lambda n: b"--b\n" * n,
    lambda n: b"\n" * (n % 3),
    lambda n: b"From: " + b":;" * n + b"\n",
    lambda n: b"To: " + b'"\\"" <a@b>,' * n + b"\n",
    lambda n: b"Cc: (" + b"\xff" * n + b") x@y, g: a, b;\n",
    lambda n: b"Subject: " + b'\\"' * n * 8 + b"\n",
    lambda n: b"Message-ID: " + b"\xc3\xa9" * n * 8 + b"\n",
    lambda n: b"Content-Type: message/rfc822\n\n" * (n % 60),
    lambda n: b"Content-Type: multipart/mixed; boundary=b\n",
    lambda n: b"Content-Type: multipart/" + b"m" * n + b"; boundary=b; " + b"x=y; " * n + b"\n\n",
    lambda n: b"Content-Type: " + b"a" * n + b"/" + b"\xfe" * n + b"; charset=" + b"\\" * n + b"\n",
    lambda n: b"Content-Disposition: " + b"\xfd" * n + b"; x=" * n + b"\n",
    lambda n: b"Content-Language: " + b"de, " * n + b"\n",
    lambda n: b"Content-Location: " + b'"' * n + b"\n",
    lambda n: b"X: y\n" * n,
]


@settings(max_examples=some(150), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PIECES), st.integers(0, 700)), max_size=12), st.integers(1, 300))
def test_s29_no_input_makes_a_longer_summary(chosen: list[tuple[Callable[[int], bytes], int]], times: int) -> None:
    message = b"".join(piece(n) for piece, n in chosen)[:6000] * times
    sound(message)
    prefixed = mime.with_prefix(
        mime.scan(message), b"Return-Path: <a@b>\nDelivered-To: <c@d>\nX-Much: " + b"x" * 300 + b"\n"
    )
    assert len(prefixed) <= mime.MOST
    assert summary.read(prefixed) is not None


def test_a_cache_that_is_full_says_so_where_delivery_adds_fields() -> None:
    full = mime.scan(b"X-Own: " + b"x" * (CACHE - 9) + b"\n\n")
    assert summary.read(full).complete  # type: ignore[union-attr]
    found = summary.read(mime.with_prefix(full, b"Return-Path: <a@b>\n"))
    assert found is not None
    assert not found.complete
    assert len(found.header) == CACHE


def test_line_ends_that_grow_count_in_the_cache() -> None:
    found = sound(b"X-Own: x\n" + b" \n" * 8000 + b"\n\n")
    assert len(found.header) <= CACHE
    assert not found.complete


def test_addresses_that_were_left_out_are_found_by_reading_the_header() -> None:
    message = b"To: " + b"a@b," * 2000 + b"late@example.org\n\n"
    key = bytes(12)
    stored = [(key + (7).to_bytes(4, "big"), b"\0\0" + mime.scan(message))]
    one = UidSet.of([7])
    assert rows.search_addresses(stored, key, one, TO, b"a@b")[0] == [7]
    assert rows.search_addresses(stored, key, one, TO, b"late") == ([], [(7, None)])
    assert _field_has(message, b"to", True, "late@example.org")
    assert not _field_has(message, b"to", True, "never@example.org")
    none = [
        (
            key + (7).to_bytes(4, "big"),
            b"\0\0" + mime.scan(b"From: " + b"x" * 120000 + b"@y," * 2000 + b"\nTo: " + b"y" * 120000 + b"@z\n\n"),
        )
    ]
    assert rows.search_addresses(none, key, one, TO, b"yy")[1] == [(7, None)]


def test_what_counts_in_quotas_is_beyond_4_kib_and_of_bounded_summaries_only() -> None:
    small, large = mime.scan(b"Subject: s\n\n"), mime.scan(b"X-Own: " + b"x" * 9000 + b"\n\n")
    assert mime.counted(small) == 0
    assert mime.counted(large) == len(large) - 4096
    assert mime.counted(large + bytes(8)) == len(large) + 8 - 4096
    old = large[:1] + bytes([large[1] & ~16]) + large[2:]
    assert mime.counted(old) == 0
    assert mime.counted(b"") == 0
    assert summary.read(old) == summary.read(large), "one of an earlier version is read as it was"


def test_s29_a_block_of_a_fetch_ends_behind_a_long_summary() -> None:
    made = mime.scan(multipart(VALUES["parameters"]))
    page = None
    for uid in range(1, 9):
        page = pages.extend(page, pages.pack(uid, 0, 1, 0, 0, 100, 0))
    assert page is not None
    every = UidSet.of_ranges((1, 8))
    out = Out(64)
    missing, last = fetch.page_to(
        out, page, every, every, 1 | 64, [], None, dict.fromkeys(range(1, 9), made), [], 65536
    )
    assert (missing, last) == ([], 1)
    assert len(out) < len(made) + 65536
    out = Out(64)
    assert fetch.page_to(out, page, every, every, 1, [], None, None, [], 65536) == ([], 0)


def test_s29_a_summary_that_is_kept_many_times_is_shorter() -> None:
    """1,000 recipients have 64 MiB between them."""
    bomb = b"Subject: " + b'"' * 9000 + b"\nTo: " + b":;" * 9000 + b"\n" + multipart(VALUES["groups"])
    share = (64 << 20) // 1000
    made = mime.scan(bomb, True, share)
    found = summary.read(made)
    assert found is not None
    assert len(made) < share + CACHE + 8192
    assert (found.cut, found.short, found.bare) == (True, True, True)
    assert 32 <= len(found.parts) <= 100
    balanced(found.envelope)
    balanced(found.structure)
    assert found.parts[-1].end == len(bomb)
    least = summary.read(mime.scan(bomb, True, 1))
    assert least is not None
    assert 32 <= len(least.parts) <= 35
    plain = b"Subject: s\nFrom: a@b\n" + multipart(b"Content-Type: text/plain; name=x", 20)
    assert mime.scan(plain, True, share) == mime.scan(plain), "what is short stays as it is"
