"""The fields of one-click unsubscribing on the copy of each member (RFC 8058), and the signature that covers them."""

import re
from pathlib import Path

import pytest

from fastmail.delivery.lists.content import made
from fastmail.delivery.lists.one_click import OneClick, without_field
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List
from fastmail.policy.signer import Signer
from fastmail.queue.model import Item
from tests.support.signing import keyed, published, verify

CREW, URL = "crew@example.test", "https://lists.example.test/mail"
MAIL = b"From: a@far.test\nTo: crew@example.test\nSubject: hi\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n\nbody\n"
BY_MAIL = b"<mailto:crew-unsubscribe@example.test?subject=unsubscribe>"


def copy_of(content: bytes, of: str = CREW, member: str = "you@far.test", url: str = URL) -> tuple[bytes, str]:
    """An unsigned copy, and its token."""
    links = Links(MemoryDirectory())
    one_click = OneClick(url, links)
    one_click.prepare()
    item = Item(1, "", 0, len(content), mailing_list=of)
    copy, size = one_click.copies(item, content).whole(member)
    assert size == len(copy) + copy.count(b"\n")
    return copy, links.token(of, member)


def test_the_fields() -> None:
    before = made(List(CREW), MAIL, False)
    after, token = copy_of(before)
    wanted = b"List-Unsubscribe: <https://lists.example.test/mail/u/" + token.encode() + b">,\n " + BY_MAIL + b"\n"
    wanted += b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
    assert after == wanted + before.replace(b"List-Unsubscribe: " + BY_MAIL + b"\n", b""), "nothing else is changed"


@pytest.mark.parametrize("content", [b"", b"Subject: x", b"Subject: x\n\nList-Unsubscribe: <mailto:x>\n"])
def test_what_has_no_such_field(content: bytes) -> None:
    assert without_field(content) == (content, b"")
    after, token = copy_of(content)
    assert after.endswith(content) and after.startswith(f"List-Unsubscribe: <{URL}/u/{token}>\nList-".encode())


def test_only_the_first_field_is_the_lists() -> None:
    text = b"List-Unsubscribe: <mailto:a>,\n\t<mailto:b>\nList-Unsubscribe: <c>\n\nx"
    assert without_field(text) == (b"List-Unsubscribe: <c>\n\nx", b"<mailto:a>,\n\t<mailto:b>")


def test_no_line_is_longer_than_a_line_may_be() -> None:
    name = f"{'l' * 40}@{'d.' * 100}test"
    after, _ = copy_of(made(List(name), MAIL, False), name, f"{'m' * 64}@{'f.' * 120}test", "https://" + "h" * 192)
    assert max(map(len, after.splitlines())) <= 998


def test_a_copy_is_signed_for_its_member(tmp_path: Path) -> None:
    place = MemoryDirectory()
    place.add_domain("example.test")
    key = keyed(place, tmp_path)
    signer = Signer(place, str(tmp_path))
    one_click = OneClick(URL, Links(place), signer)
    one_click.prepare()
    text = made(List(CREW), MAIL, False)
    text = signer.again("example.test")(text)
    item = Item(1, "crew-bounces@example.test", 0, len(text), mailing_list=CREW, signed="example.test")
    all_of_them = one_click.copies(item, text)
    copies = [all_of_them.whole(address) for address in ("you@far.test", "me@far.test")]
    assert [front + all_of_them.text for front in all_of_them.fronts(["you@far.test", "me@far.test"]).values()] == [
        copy for copy, _ in copies
    ]
    seen = set()
    for copy, size in copies:
        assert size == len(copy) + copy.count(b"\n")
        (found,) = verify(copy, published(key))
        assert (found.result, found.domain) == ("pass", "example.test"), "one signature, and it fits"
        covered = re.sub(rb"\s", b"", re.findall(rb"(?s)\th=(.*?);", copy)[0]).split(b":")
        assert covered.count(b"list-unsubscribe") == 2 and covered.count(b"list-unsubscribe-post") == 2, "oversigned"
        seen |= set(re.findall(rb"<(https:[^>]*)>", copy))
    assert len(seen) == 2
    tokens = [one.decode().removeprefix(URL + "/u/") for one in seen]
    assert {Links(place).read(token) for token in tokens} == {(CREW, "you@far.test"), (CREW, "me@far.test")}
    unsigned = Item(2, "crew-bounces@example.test", 0, 1, mailing_list=CREW)
    assert b"DKIM" not in one_click.copies(unsigned, made(List(CREW), MAIL, False)).whole("you@far.test")[0]
