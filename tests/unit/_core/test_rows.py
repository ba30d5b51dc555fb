"""rows: header fields and header search over runs of (key, value) rows, against the plain reading of the same summaries."""

import pytest

from fastmail._core import envelope, idents, mime, rows
from fastmail._core.uidset import UidSet
from fastmail.message import text
from fastmail.message.collate import fold

KEY = bytes(12)
SUBJECTS = [
    b"Subject: Hello World\n",
    b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\n",
    b"subject : folded\n  over hello\n",
    b"X-Other: hello\n",
    b"Subject: hel\n lo\nSubject: another\n",
    b"Subject:\n",
    "Subject: grüße\n".encode(),
]


def kept(key: bytes = KEY) -> list[tuple[bytes, bytes]]:
    """Rows of messages; every second summary has a preview."""
    made = [mime.scan(b"From: a@b.example\n" + head + b"\nbody\n") for head in SUBJECTS]
    made[::2] = [idents.with_preview(one, b"body") for one in made[::2]]
    return [(key + uid.to_bytes(4, "big"), b"\3\0nab" + one) for uid, one in enumerate(made, 1)]


def test_fields_are_those_asked_of_this_mailbox() -> None:
    others = kept(b"\1" + bytes(11))
    found = rows.values(iter(kept() + others), KEY, UidSet.of([2, 4, 400]), (b"from",))
    assert found == {2: (b" a@b.example\r\n",), 4: (b" a@b.example\r\n",)}


@pytest.mark.parametrize("needle", ["hello", "o w", "", "grüsse", "nothing", "over hello", "lo"])
def test_search_agrees_with_decoding_every_value(needle: str) -> None:
    wanted = []
    for uid, head in enumerate(SUBJECTS, 1):
        header = head.replace(b"\n", b"\r\n")
        if any(needle in fold(value) for value in text.field_values(header, b"subject")):
            wanted.append(uid)
    plain = needle.encode() if needle.isascii() else b"\0"
    hits, unsure = rows.search_field(kept(), KEY, UidSet.of_ranges((1, 9)), b"subject", plain)
    for uid, raw in unsure:
        assert raw is not None
        hits += [uid] * any(needle in text.folded_value(value) for value in raw)
    assert sorted(hits) == wanted


def test_damaged_rows_are_unsure() -> None:
    value = kept()[0][1]
    for cut in range(0, len(value), 7):
        hits, unsure = rows.search_field([(KEY + b"\0\0\0\1", value[:cut])], KEY, UidSet.of([1]), b"subject", b"hello")
        assert not hits or cut > 40
        assert [uid for uid, _ in unsure] in ([1], [])


def test_marks_are_what_stands_before_the_summary() -> None:
    damaged, last = (KEY + b"\0\0\0\x08", b"\3\0n"), (KEY + b"\0\0\0\x09", b"\5\0cname")
    pairs = [*kept(), damaged, last]
    expected = dict.fromkeys(range(1, 8), b"nab") | {9: b"cname"}
    assert list(rows.marks(iter(pairs), KEY, UidSet.of_ranges((1, 20))).items()) == list(expected.items())
    assert rows.marks(iter(pairs), KEY, UidSet.of([4, 9])) == {4: b"nab", 9: b"cname"}


ADDRESSES = [
    b"From: A <a@b.example>, (c) d@e.example\n",
    b"From: team: a@b, c@d;, e@f\n",
    b"From: =?utf-8?q?gr=C3=BC?= <a@b>\n",
    b'From: "x\\"y" <"a b"@c>\n',
    b"Subject: no addresses\n",
]
LINES = [
    b"A <a@b.example>, c <d@e.example>",
    b"team: <a@b>, <c@d>;, <e@f>",
    b"=?utf-8?q?gr=C3=BC?= <a@b>",
    b'x"y <a b@c>',
    b"",
]


@pytest.mark.parametrize("needle", [b"a@b", b"team", b"<e@f>", b"", b"gr", b'x"y', b"; ", b"\0"])
def test_addresses_are_searched_in_the_envelope(needle: bytes) -> None:
    made = [mime.scan(head + b"\nbody\n") for head in ADDRESSES]
    assert [envelope.line(one, 2) for one in made] == LINES
    pairs = [(KEY + uid.to_bytes(4, "big"), b"\3\0nab" + one) for uid, one in enumerate(made, 1)]
    hits, unsure = rows.search_addresses(pairs, KEY, UidSet.of_ranges((1, 9)), 2, needle)
    assert unsure == [(3, [LINES[2]])]
    assert hits == [uid for uid, line in enumerate(LINES, 1) if line and uid != 3 and needle in line.lower()]
    for cut in range(0, len(pairs[0][1]), 5):
        hits, unsure = rows.search_addresses([(pairs[0][0], pairs[0][1][:cut])], KEY, UidSet.of([1]), 2, b"a@b")
        assert (hits, unsure) in (([], [(1, None)]), ([1], []))


def test_values_to_be_decoded_are_bounded() -> None:
    """However many messages have long ones: behind a megabyte the messages are only named."""
    long = b"=?utf-8?q?" + b"x" * 15_000 + b"?="
    value = b"\3\0nab" + mime.scan(b"From: " + long + b" <a@b.example>\n\nbody\n")
    every = [(KEY + uid.to_bytes(4, "big"), value) for uid in range(1, 201)]
    uids = UidSet.of_ranges((1, 200))
    for _, unsure in (
        rows.search_field(every, KEY, uids, b"from", b"z"),
        rows.search_addresses(every, KEY, uids, 2, b"z"),
    ):
        assert [uid for uid, _ in unsure] == list(range(1, 201))
        told = [len(raw[0]) for _, raw in unsure if raw is not None]
        assert 900_000 < sum(told) < (1 << 20) + 1
        assert unsure[0][1] is not None and unsure[-1][1] is None
