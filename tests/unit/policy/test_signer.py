"""Who signs for an author, with which keys, and what happens to a message whose octets changed."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import PUBLISHED, RETIRED, REVOKED, WAITING, Domain
from fastmail.message.header import Octets
from fastmail.message.recode import without_eight_bits
from fastmail.model.errors import DamagedAccount
from fastmail.policy import dkim, keyfiles, signer
from fastmail.policy.dkim import Content
from fastmail.policy.signer import Signer
from tests.support.signing import MESSAGE, keyed, published, verify

AUTHOR = "example.test"
EIGHT = (
    b"From: me@example.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n\nsch\xc3\xb6n\n"
)


@pytest.fixture
def place() -> MemoryDirectory:
    made = MemoryDirectory()
    made.add_domain(AUTHOR)
    return made


def sign(one: Signer, content: bytes = MESSAGE, author: str = AUTHOR, release: int = 0) -> bytes:
    return asyncio.run(one.sign([content], author, release))


def test_both_kinds_sign_rsa_first(place: MemoryDirectory, tmp_path: Path) -> None:
    keys = keyed(place, tmp_path, selector="e", kind="ed25519"), keyed(place, tmp_path, selector="r")
    found = verify(sign(Signer(place, str(tmp_path))) + MESSAGE, published(*keys))
    assert [(one.result, one.selector, one.domain) for one in found] == [("pass", "r", AUTHOR), ("pass", "e", AUTHOR)]


@pytest.mark.parametrize("state", [WAITING, PUBLISHED, RETIRED, REVOKED])
def test_only_active_keys_sign(place: MemoryDirectory, tmp_path: Path, state: str) -> None:
    keyed(place, tmp_path, state=state)
    assert sign(Signer(place, str(tmp_path))) == b""


def test_what_is_not_signed(place: MemoryDirectory, tmp_path: Path) -> None:
    """A header whose end is not clear, and one with more fields of a name than h= has: others could be added."""
    one = keyed(place, tmp_path)
    for line in (b"no field\n", b"Subject: x\n" * 100, b"References: <x>\n" * 100):
        assert sign(Signer(place, str(tmp_path)), line + MESSAGE) == b""
    many = b"Subject: x\n" * 98 + MESSAGE
    content = sign(Signer(place, str(tmp_path)), many) + many
    assert [found.result for found in verify(content, published(one))] == ["pass"]
    assert [found.result for found in verify(b"Subject: y\n" + content, published(one))] == ["fail"]


def test_whose_key_signs(place: MemoryDirectory, tmp_path: Path) -> None:
    """d= is the author's domain or one above it, and never another one (RFC 9989 4.4)."""
    place.add_domain(Domain("other.example", alias_of=AUTHOR))
    place.add_domain("sub.example.test")
    place.add_domain("gr\u00fcn.example")
    keyed(place, tmp_path)
    one = Signer(place, str(tmp_path))

    def domain(author: str) -> str:
        found = one.of(author)
        return found.domain if found is not None else ""

    assert domain("EXAMPLE.test") == domain("sub.example.test") == domain("mx.sub.example.test") == AUTHOR
    for author in (
        "other.example",
        "gr\u00fcn.example",
        "far.test",
        "test",
        "",
        "notexample.test",
        "..",
        "[192.0.2.1]",
    ):
        assert domain(author) == ""
    keyed(place, tmp_path, "other.example")
    keyed(place, tmp_path, "sub.example.test")
    keyed(place, tmp_path, "gr\u00fcn.example")
    assert domain("other.example") == "other.example" and domain("sub.example.test") == "sub.example.test"
    assert domain("gr\u00fcn.example") == domain("xn--grn-ioa.example") == "xn--grn-ioa.example"
    assert b"d=xn--grn-ioa.example;" in sign(one, author="gr\u00fcn.example")


def test_a_domain_that_cannot_be_read_signs_nothing(tmp_path: Path) -> None:
    class Broken:
        def domain(self, name: str) -> Domain | None:
            raise DamagedAccount("its row is damaged")

    assert sign(Signer(Broken(), str(tmp_path))) == b""


def test_keys_are_read_once_and_again_when_the_row_changes(
    place: MemoryDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    load = keyfiles.load

    def noting(data_dir: str, file: str) -> keyfiles.PrivateKey:
        read.append(threading.get_ident())
        return load(data_dir, file)

    monkeypatch.setattr(keyfiles, "load", noting)
    keyed(place, tmp_path)
    one = Signer(place, str(tmp_path))
    first = sign(one)
    assert sign(one)[:60] == first[:60] and len(read) == 1
    assert read[0] != threading.get_ident(), "not on the event loop"
    place.change_domain(AUTHOR, lambda old: replace(old, dkim=()))
    assert sign(one) == b""
    other = keyed(place, tmp_path, selector="two", kind="ed25519")
    assert [found.result for found in verify(sign(one) + MESSAGE, published(other))] == ["pass"] and len(read) == 2


@pytest.mark.parametrize(
    ("kinds", "size", "on_loop"),
    [(["ed25519"], 10, True), (["ed25519", "ed25519"], 10, True), (["ed25519"], signer.ON_LOOP, False),
     (["rsa"], 10, False), (["ed25519", "rsa"], 10, False)],
)  # fmt: skip
def test_which_messages_are_signed_on_the_event_loop(
    place: MemoryDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str], size: int, on_loop: bool
) -> None:
    """Short ones whose keys are quick, once these are at hand; keys are read elsewhere."""
    where: list[int] = []
    whole = signer.sign.whole

    def noting(pieces: Sequence[Octets]) -> Content:
        where.append(threading.get_ident())
        return whole(pieces)

    monkeypatch.setattr(signer.sign, "whole", noting)
    keys = [keyed(place, tmp_path, selector=f"s{at}", kind=kind) for at, kind in enumerate(kinds)]
    one, content = Signer(place, str(tmp_path)), MESSAGE + b"x" * size
    sign(one, content)
    found = verify(sign(one, content) + content, published(*keys))
    assert [one.result for one in found] == ["pass"] * len(kinds)
    assert [number == threading.get_ident() for number in where] == [False, on_loop]


def test_a_key_that_cannot_be_had_is_no_key_on_the_event_loop_either(place: MemoryDirectory, tmp_path: Path) -> None:
    there = keyed(place, tmp_path, selector="a", kind="ed25519")
    keyed(place, tmp_path, selector="b", kind="ed25519")
    (tmp_path / keyfiles.place_of(AUTHOR, "b")).unlink()
    one = Signer(place, str(tmp_path))
    for _ in range(2):
        assert [found.selector for found in verify(sign(one) + MESSAGE, published(there))] == ["a"]


def test_kept_keys_are_bounded(place: MemoryDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer, "KEPT", 2)
    one = Signer(place, str(tmp_path))
    for number in range(4):
        place.add_domain(f"d{number}.test")
        keyed(place, tmp_path, f"d{number}.test", kind="ed25519")
        assert sign(one, author=f"d{number}.test")
    assert len(one._kept) == 2


def test_a_key_that_cannot_be_had_stops_no_mail(
    place: MemoryDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keyed(place, tmp_path, selector="e", kind="ed25519")
    (tmp_path / "dkim" / AUTHOR / "e.pem").write_text("nothing")
    one = Signer(place, str(tmp_path))
    assert sign(one) == sign(one) == b""
    said = capsys.readouterr().err
    assert said.count("event=dkim.key") == 1, "said once a minute"
    assert "example.test" in said and "then=" in said
    keys = keyed(place, tmp_path, selector="r")
    assert [found.selector for found in verify(sign(one) + MESSAGE, published(keys))] == ["r"]


def test_a_header_that_programs_read_differently_is_not_signed(place: MemoryDirectory, tmp_path: Path) -> None:
    keyed(place, tmp_path)
    assert sign(Signer(place, str(tmp_path)), b"From: a@example.test\nno field\nTo: b@c.test\n\nx\n") == b""


def test_what_is_released_later_expires_later(place: MemoryDirectory, tmp_path: Path) -> None:
    keyed(place, tmp_path, kind="ed25519")
    one = Signer(place, str(tmp_path), 1000)
    now = dkim.parse(sign(one).rstrip(b"\n"))
    assert now.expires - now.signed == 1000
    later = dkim.parse(sign(one, release=now.signed + 5000).rstrip(b"\n"))
    assert 5990 <= later.expires - now.signed <= 6010


def test_octets_that_change_are_signed_again(place: MemoryDirectory, tmp_path: Path) -> None:
    """Where the old signature was; those of others stay, and so does one of the same name with no form."""
    key = keyed(place, tmp_path)
    one = Signer(place, str(tmp_path))
    foreign = b"DKIM-Signature: v=1; d=far.test; b=x\nDKIM-Signature: x; x\n"
    content = b"Received: by us\n" + sign(one, foreign + EIGHT) + foreign + EIGHT
    assert [found.result for found in verify(content, published(key))] == ["pass", "permerror", "neutral"]
    seven = without_eight_bits(content)
    assert verify(seven, published(key))[0].result == "fail" and seven.isascii()
    made = one.again(AUTHOR)(seven)
    assert [found.result for found in verify(made, published(key))] == ["pass", "permerror", "neutral"]
    assert made.startswith(b"Received: by us\nDKIM-Signature: v=1; a=rsa-sha256;") and foreign in made
    place.change_domain(AUTHOR, lambda old: replace(old, dkim=()))
    assert one.again(AUTHOR)(seven).count(b"DKIM-Signature") == 2, "one that does not fit is only taken out"
