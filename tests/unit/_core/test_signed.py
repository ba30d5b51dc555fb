"""The header of a message as signatures see it: its fields by their names, and what a header as nearly all are says."""

import hashlib
from binascii import b2a_base64

import pytest

from fastmail._core.signed import Fields
from fastmail._core.tags import signature, without

MARKS = (b"authentication-results", b"x-spam")
B, BH = bytes(range(256)), bytes(range(32))


def base64(octets: bytes) -> bytes:
    return b2a_base64(octets, newline=False)


SIGNATURE = (
    b"DKIM-Signature: v=1; d=a.test; t=12; x=99;\n h=from; bh=" + base64(BH) + b";\n b=" + base64(B)[:70] + b"\n "
)
SIGNATURE += base64(B)[70:] + b"\n"
HEADER = b"Received: x\nFrom: Joe <joe@a.test>\nSubject: Is dinner\n ready?\n"


def test_fields_are_taken_from_the_bottom_up() -> None:
    """RFC 6376 5.4.2; names without regard to case, and nothing where none is left."""
    fields = Fields(b"X: 1\nFrom: a\nx: 2\nX : 3\n\nX: body\n")
    assert fields.canonical([b"x", b"x", b"from", b"x", b"x", b"nowhere"], True) == b"x:3\r\nx:2\r\nfrom:a\r\nx:1\r\n"
    assert (fields.count, fields.number(b"x"), fields.broken) == (4, 3, False)
    assert fields.named(b"x") == [b"X: 1\n", b"x: 2\n", b"X : 3\n"] and fields.named(b"nowhere") == []
    assert fields.values(b"x", 16) == [b" 1\n", b" 2\n", b" 3\n"] and fields.values(b"x", 15) is None
    assert fields.numbers((b"x", b"nowhere", b"from"), 2) == (2, 0, 1)
    assert fields.canonical((b"x",), False) == fields.canonical((b"x",), False) == b"X : 3\r\n"


def test_what_a_signature_is_of() -> None:
    """RFC 6376 3.7: its own field comes last, without a line end."""
    fields = Fields(b"X: 1\nFrom: a\n")
    own = b"S : v=1;\n b=x\n"
    assert fields.signed([b"from"], True, own, b"S : v=1;\n b=\n") == b"from:a\r\ns:v=1; b="
    assert fields.signed([b"from"], False, own, b"S : v=1;\n b=\n") == b"From: a\r\nS : v=1;\r\n b="
    assert fields.signed([], True, b"S:", b"S:") == b"s:"
    with pytest.raises(ValueError):
        fields.signed([], True, own, b"no colon")


@pytest.mark.parametrize("which", range(3))
def test_a_signature_is_none_of_the_fields_that_it_covers(which: int) -> None:
    """RFC 6376 3.5: h= may name others of its kind, from the bottom up, wherever it stands itself."""
    own = [b"S: 1\n", b"s : 2\n", b"S: 3\n"]
    others = [number for number in (b"3", b"2", b"1") if number != b"%d" % (which + 1)]
    fields = Fields(b"From: a\n" + b"X: y\n".join(own))
    covered = b"".join(b"s:" + number + b"\r\n" for number in others)
    assert fields.signed([b"s"] * 4, True, own[which], b"S:") == covered + b"s:"
    assert fields.signed([b"s"], True, own[which], b"S:") == covered[:5] + b"s:"
    assert fields.signed([b"s"], True, b"S: another\n", b"S:") == b"s:3\r\ns:"


def test_lines_that_are_no_fields_are_noticed() -> None:
    assert Fields(b"From: a\nno field\n\n").broken
    assert Fields(b"From x Mon\nFrom: a\n\n").broken
    assert not Fields(b"\n").broken
    many = Fields(b"X: 1\n" * 10_001)
    assert many.broken and many.count == 10_000 == many.number(b"x")


def test_where_a_header_ends() -> None:
    """In front of its empty line, or where the data does."""
    for text, end in ((b"", 0), (b"\n", 0), (b"\r\nA: b\n", 0), (b"A: b\n\nC: d\n", 5), (b"A: b\r\n c\r\n\r\n", 10)):
        assert Fields(text).end == end
    for text in (b"A: b", b"A: b\n", b"A: b\n\r", b"A: b\n \n", b"no field\n"):
        assert Fields(text).end == len(text)


def test_many_names() -> None:
    fields = Fields(b"".join(b"X-%d: %d\nx-%d: b\n" % (n, n, n) for n in range(4_000)))
    assert not fields.broken and fields.count == 8_000
    for n in (0, 1, 2_047, 3_999):
        assert fields.named(b"x-%d" % n) == [b"X-%d: %d\n" % (n, n), b"x-%d: b\n" % n]
    assert fields.number(b"x-4000") == fields.number(b"x") == fields.number(b"") == 0


def test_a_header_as_nearly_all_are() -> None:
    fields = Fields(b"To: b\n" + SIGNATURE + HEADER + b"Reply-To: x\nSubject: another\nList-Id: l\n\nFrom: body\n")
    found = fields.usual(1024, 5, MARKS)
    assert found is not None
    author, replies, listed, subject, clean, common, own = found
    assert (author, replies, listed, clean) == (b" Joe <joe@a.test>\n", b" x\n", True, True)
    assert subject == b" Is dinner\n ready?\n"
    halves = signature(SIGNATURE)
    assert halves is not None and common == (halves[0],)
    assert own == [(1, BH, B, base64(B)[:8].decode(), 12, 99)]


def test_what_it_may_lack() -> None:
    assert Fields(b"FROM :a\n").usual(1024, 5, MARKS) == (b"a\n", b"", False, b"", True, (), [])


def test_signatures_from_the_top() -> None:
    other = SIGNATURE.replace(b"d=a", b"d=b").replace(b"t=12;", b"").replace(b" x=99;", b"")
    found = Fields(SIGNATURE + HEADER + other).usual(1024, 2, MARKS)
    assert found is not None
    assert [b"d=a.test" in one for one in found[5]] == [True, False]
    assert [(one[0], *one[4:]) for one in found[6]] == [(0, 12, 99), (4, -1, -1)]
    assert Fields(SIGNATURE + HEADER + other).usual(1024, 1, MARKS) is None


def test_fields_that_may_have_to_be_cut_out() -> None:
    """By how their names begin, in any case."""
    for name, clean in ((b"X-Spam", False), (b"x-SPAM-Score", False), (b"X-Spa", True), (b"Y-X-Spam", True)):
        found = Fields(HEADER + name + b": x\n").usual(1024, 5, MARKS)
        assert found is not None and found[4] is clean
    with pytest.raises(ValueError):
        Fields(HEADER).usual(1024, 5, MARKS * 9)


@pytest.mark.parametrize(
    "header",
    [
        b"To: nobody\n",
        HEADER + b"From: another\n",
        HEADER + b"no field\n",
        HEADER + b"X: a\rb\n",
        HEADER.replace(b"\n", b"\r\n"),
        HEADER + b"Reply-To: a\nreply-to: b\n",
        HEADER + b"Reply-To:" + b"a" * 1024 + b"\n",
        b"From:" + b"a" * 1024 + b"\n",
        HEADER + b"ARC-Seal: i=1\n",
        HEADER + b"arc-message-signature: i=1\n",
        HEADER + b"ARC-Authentication-Results: i=1\n",
        HEADER + SIGNATURE.replace(b"v=1", b"v=" + b"1" * 1000),
        HEADER + SIGNATURE.replace(b" b=", b" b=" + b"AAAA" * 1000),
        HEADER + SIGNATURE.replace(b" b=", b" c="),
        HEADER + SIGNATURE.replace(b"t=12", b"t=1x"),
        HEADER + SIGNATURE.replace(b"t=12", b"b=eA=="),
        HEADER + SIGNATURE.replace(b"bh=A", b"bh=?"),
        HEADER + SIGNATURE.replace(b"bh=A", b"bh=AA"),
        HEADER + SIGNATURE.replace(b"bh=A", b"bh==A"),
        HEADER + b"DKIM-Signature: bh=; b=eA==\n",
        HEADER + b"DKIM-Signature: bh=eA==; b=e===\n",
        HEADER + b"DKIM-Signature: bh=eA==; b=eA=?\n",
        HEADER + b"DKIM-Signature: bh=eA==; b=eB==\n",
        HEADER + b"DKIM-Signature: bh=eHl=; b=eA==\n",
        HEADER + b"DKIM-Signature: bh=====; b=eA==\n",
    ],
)
def test_other_headers(header: bytes) -> None:
    assert Fields(header).usual(1024, 5, MARKS) is None


@pytest.mark.parametrize("relaxed", [False, True])
def test_what_a_signature_at_its_place_is_of(relaxed: bool) -> None:
    other = SIGNATURE.replace(b"d=a", b"d=b")
    fields = Fields(SIGNATURE + HEADER + other)
    names = [b"from", b"subject", b"dkim-signature"]
    for place, field in ((0, SIGNATURE), (4, other)):
        covered = fields.signed(names, relaxed, field, without(field, b"b"))
        assert fields.covered(place, names, relaxed) == covered
        assert fields.digest(place, names, relaxed) == hashlib.sha256(covered).digest()
    for place in (-1, 5):
        for ask in (fields.covered, fields.digest):
            with pytest.raises(IndexError):
                ask(place, names, relaxed)


@pytest.mark.parametrize("size", range(1, 26))
def test_names_of_any_length_are_found_without_regard_to_case(size: int) -> None:
    """Names are compared some octets at a time: each octet counts, and only A-Z and a-z are the same."""
    name = bytes(97 + at % 26 for at in range(size))
    fields = Fields(name.swapcase() + b": 1\n" + name.title() + b": 2\n")
    assert fields.number(name) == 2 and fields.canonical((name, name, name), True) == b"".join(
        name + b":" + value + b"\r\n" for value in (b"2", b"1")
    )
    for at in range(size):
        for octet in b"-@[`{_\x80\xc1\xe1":  # beside the letters, and letters with an eighth bit
            assert fields.number(name[:at] + bytes([octet]) + name[at + 1 :]) == 0
        assert fields.number(name[:at] + bytes([name[at] ^ 0x20]) + name[at + 1 :]) == 2
    assert fields.number(name[1:]) == fields.number(name + b"a") == 0


def test_octets_beside_letters_have_no_case() -> None:
    """They differ in the same bit as letters do."""
    for one, other in ((b"@", b"`"), (b"[", b"{"), (b"^", b"~"), (b"!", b"\x01"), (b"\\", b"|")):
        for behind in (b"", b"bcd", b"bcdefgh", b"bcdefghi"):
            fields = Fields(one + behind + b": 1\n")
            assert (fields.number(one + behind), fields.number(other + behind)) == (1, 0)


def test_a_name_that_is_signed_again_later() -> None:
    fields = Fields(b"X: 1\nY: 2\nX: 3\n")
    assert fields.canonical((b"x", b"y", b"x", b"x", b"y"), True) == b"x:3\r\ny:2\r\nx:1\r\n"


def test_base64_folded_anywhere() -> None:
    """White space has no meaning in b= and bh=, wherever it stands."""
    text = base64(B)
    for at in range(len(text)):
        for space in (b" ", b"\t", b"\n ", b"\r\n\t", b"   \n \t      "):
            field = b"DKIM-Signature: d=a.test; bh=" + base64(BH) + b"; b=" + text[:at] + space + text[at:] + b"\n"
            header = HEADER + field
            if b"\r" in field:
                assert signature(field) == (b" d=a.test; bh=; b=", text, base64(BH), -1, -1)
                continue
            said = Fields(header).usual(500, 5, MARKS)
            assert said is not None and said[-1] == [(3, BH, B, text[:8].decode(), -1, -1)]
            assert said[-2] == (signature(field)[0],)  # type: ignore[index]
