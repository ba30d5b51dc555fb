"""The fields of one-click unsubscribing on the copy of each member (RFC 8058), and the signature that covers them."""

import re
from pathlib import Path

import pytest

from fastmail.delivery.lists.content import made
from fastmail.delivery.lists.one_click import OneClick, with_fields
from fastmail.directory.list_links import Links
from fastmail.directory.memory import MemoryDirectory
from fastmail.directory.records import List
from fastmail.policy.signer import Signer
from fastmail.queue.model import Item
from tests.support.signing import keyed, published, verify

CREW, URL = "crew@example.test", "https://lists.example.test/mail"
MAIL = b"From: a@far.test\nTo: crew@example.test\nSubject: hi\nDate: Mon, 7 Feb 1994 21:52:25 -0800\n\nbody\n"
BY_MAIL = b"<mailto:crew-unsubscribe@example.test?subject=unsubscribe>"


def test_the_fields() -> None:
    before = made(List(CREW), MAIL, False)
    after = with_fields(before, URL + "/u/token")
    wanted = b"List-Unsubscribe: <https://lists.example.test/mail/u/token>,\n " + BY_MAIL + b"\n"
    wanted += b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
    assert after == before.replace(b"List-Unsubscribe: " + BY_MAIL + b"\n", wanted), "nothing else is changed"


@pytest.mark.parametrize("content", [b"", b"Subject: x", b"Subject: x\n\nList-Unsubscribe: <mailto:x>\n"])
def test_what_has_no_such_field_stays(content: bytes) -> None:
    assert with_fields(content, URL) == content


def test_no_line_is_longer_than_a_line_may_be() -> None:
    name = f"{'l' * 40}@{'d.' * 100}test"
    place = MemoryDirectory()
    links = Links(place)
    links.prepare()
    token = links.token(name, f"{'m' * 64}@{'f.' * 120}test")
    after = with_fields(made(List(name), MAIL, False), "https://" + "h" * 192 + "/u/" + token)
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
    copies = [one_click.copy(item, text, address) for address in ("you@far.test", "me@far.test")]
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
    assert b"DKIM" not in one_click.copy(unsigned, made(List(CREW), MAIL, False), "you@far.test")[0]
