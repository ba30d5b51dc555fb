"""What members get of a message: the list's fields, and nothing else changed that the settings do not ask for."""

import email
import email.policy
from typing import Any

import pytest

from fastmail.delivery.lists.content import fields, list_id, made, phrase
from fastmail.directory.records import ALWAYS, ANNOUNCERS, LIST, OPEN, List
from fastmail.message.text import decode_value

MAIL = b"From: Anna <anna@far.test>\nTo: crew@d.test\nSubject: Re: hi\nX-Odd:  kept\n\tas it is\n\n\xe4 body\n\n"


def row(**settings: Any) -> List:
    return List("crew@d.test", owners=("a@d.test",), **settings)


def parsed(content: bytes) -> Any:
    return email.message_from_bytes(content, policy=email.policy.default)


def test_the_message_stays_octet_for_octet() -> None:
    assert made(row(), MAIL, False).endswith(b"\nPrecedence: list\n" + MAIL)
    bulk = b"Precedence: bulk\n" + MAIL
    assert made(row(), bulk, False).endswith(b"List-Owner: <mailto:crew-owner@d.test>\n" + bulk)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\nbody\n", b"body without a header", b"Subject: x", b"Subject: x\n\n"]
)
def test_messages_that_are_hardly_any(content: bytes) -> None:
    text = made(row(tag="[t]", footer="bye", reply_to=LIST), content, True)
    assert parsed(text)["List-Id"] == "<crew.d.test>" and parsed(text)["Subject"] in ("[t]", "[t] x")


def test_fields_of_another_list_are_taken_out() -> None:
    other = b"List-Id: <o.o.test>\nLIST-UNSUBSCRIBE-POST: List-Unsubscribe=One-Click\nList-Archive: <x>\n" + MAIL
    assert made(row(), other, False) == made(row(), MAIL, False)


def test_what_fields_say() -> None:
    said = dict(line.split(": ", 1) for line in fields(row(name='The "crew", all', joins=OPEN)))
    assert said["List-Id"] == '"The \\"crew\\", all" <crew.d.test>'
    assert said["List-Subscribe"] == "<mailto:crew-subscribe@d.test?subject=subscribe>"
    assert dict(line.split(": ", 1) for line in fields(row(mode=ANNOUNCERS)))["List-Post"] == "NO"
    odd = List("a%b&c+d@d.test")
    assert "<mailto:a%25b%26c+d-owner@d.test>" in fields(odd)[-1]
    assert list_id(List("crew@bücher.test")) == "crew.xn--bcher-kva.test"
    assert phrase("Ünser Team") == "=?utf-8?b?w5xuc2VyIFRlYW0=?="


@pytest.mark.parametrize(
    ("subject", "wanted"),
    [
        (b"hi", "[crew] hi"),
        (b"Re: [crew] hi", "Re: [crew] hi"),
        (b"=?utf-8?q?=5Bcrew=5D_=C3=A4?=", "[crew] ä"),
        (b"=?utf-8?q?=C3=A4?=", "[crew] ä"),
        (b"=?nonsense?q?=C3=A4?=", "[crew] "),
        (b"a\n b", "[crew] a b"),
    ],
)
def test_the_tag(subject: bytes, wanted: str) -> None:
    text = parsed(made(row(tag="[crew]"), b"Subject: " + subject + b"\n\nx\n", False))
    assert str(text["Subject"]).startswith(wanted) and len(text.get_all("Subject")) == 1


@pytest.mark.parametrize("tag", ["[Grüße]", "[日本語のとても長いリスト名です、そして続きます]"])
@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("hi", "hi"),
        ("=?utf-8?q?=C3=A4?=", "ä"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?utf-8?b?8J+Yg?=\n =?utf-8?b?gA==?= late", "\U0001f600 late"),
        ("Re: =?windows-1252?q?=80_5?=", "Re: € 5"),
        ("a" * 2000, "a" * 2000),
    ],
)
def test_a_tag_that_is_not_ascii_stands_before_every_subject_once(tag: str, subject: str, shown: str) -> None:
    """Between two encoded words no space is shown (RFC 2047 6.2), and none has more than 75 octets (2)."""
    content = made(row(tag=tag), b"Subject: " + subject.encode() + b"\n\nx\n", False)
    value = next(one for one in content.split(b"\n\n")[0].split(b"\nSubject: ")[1:]).split(b"\nList")[0]
    assert decode_value(value) == f"{tag} {shown}"
    assert all(len(word) <= 75 for word in value.split() if word.startswith(b"=?"))
    again = made(row(tag=tag), content, False)
    assert again.count(b"Subject:") == 1 and value in again, "it is there already"


def test_a_tag_far_within_a_subject_is_found() -> None:
    text = b"Subject: " + b"word " * 400 + b"=?utf-8?q?=5Bcrew=5D?=\n\nx\n"
    assert text in made(row(tag="[crew]"), text, False)


@pytest.mark.parametrize("name", ["ü" * 300, " 👩‍👩‍👧‍👦 family" * 20, "e\u0301" * 100, " 日本語" * 60])
def test_a_long_name_is_folded(name: str) -> None:
    name = name.strip()
    content = made(row(name=name, rewrite_from=ALWAYS), MAIL, True)
    head = content.partition(b"\n\n")[0]
    assert max(map(len, head.split(b"\n"))) <= 120
    assert all(len(word) <= 75 for word in head.split() if word.startswith(b"=?"))
    assert decode_value(head.partition(b"List-Id: ")[2].partition(b"<")[0]) == name
    assert f"Anna via {name}" in decode_value(head.partition(b"\nFrom: ")[2].partition(b"<")[0])


def test_replies_go_to_the_list() -> None:
    text = parsed(made(row(reply_to=LIST), b"Reply-To: else@far.test\n" + MAIL, False))
    assert text.get_all("Reply-To") == ["crew@d.test"] and text["From"] == "Anna <anna@far.test>"


@pytest.mark.parametrize(
    ("author", "shown"),
    [
        (b"Anna <anna@far.test>", "Anna via Crew <crew@d.test>"),
        (b'"Anna, B." <anna@far.test>', '"Anna, B." via Crew <crew@d.test>'),
        (b"=?utf-8?q?=C3=84nna?= <anna@far.test>", "=?utf-8?q?=C3=84nna?= via Crew <crew@d.test>"),
        (b"anna@far.test", "anna via Crew <crew@d.test>"),
        (b"<anna@far.test>", "anna via Crew <crew@d.test>"),
        (b"Evil: x@y.test; <anna@far.test>", "member via Crew <crew@d.test>"),
        (b"\xff\xfe <anna@far.test>", "member via Crew <crew@d.test>"),
        (b"a" * 300 + b" <anna@far.test>", "member via Crew <crew@d.test>"),
    ],
)
def test_the_list_in_from(author: bytes, shown: str) -> None:
    text = made(row(name="Crew", rewrite_from=ALWAYS), b"From: " + author + b"\nSubject: x\n\nx\n", True)
    head = text.partition(b"\n\n")[0].decode("utf-8", "surrogateescape").split("\n")
    assert f"From: {shown}" in head and sum(line.lower().startswith("from:") for line in head) == 1
    assert b"Reply-To: " + author in text and b"X-Original-From: " + author in text


def test_a_reply_to_that_is_there_stays_when_from_is_rewritten() -> None:
    text = parsed(made(row(), b"Reply-To: else@far.test\n" + MAIL, True))
    assert text.get_all("Reply-To") == ["else@far.test"]


def test_a_footer_behind_plain_text() -> None:
    text = made(row(footer="the crew\n"), b"Subject: x\n\nbody", False)
    assert text.endswith(b"\n\nbody\n-- \nthe crew\n")
    text = made(row(footer="größer"), b"Content-Type: text/plain; charset=UTF-8\n\nbody\n", False)
    assert text.endswith("\n\nbody\n-- \ngrößer\n".encode())


@pytest.mark.parametrize(
    "kind",
    [
        b"Content-Type: text/html\n",
        b"Content-Type: text/plain; charset=iso-2022-jp\n",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n",
        b"Content-Type: multipart/signed; boundary=b\n",
    ],
)
def test_a_footer_beside_anything_else(kind: bytes) -> None:
    body = b"--b\n\ninner\n--b--\n"
    whole = parsed(made(row(footer="größer"), b"Subject: x\nMIME-Version: 1.0\n" + kind + b"\n" + body, False))
    first, second = whole.iter_parts()
    assert whole.get_content_type() == "multipart/mixed" and second.get_content() == "-- \ngrößer\n"
    assert first.get_content_type() in kind.decode() and body.strip() in bytes(first).strip()
    assert whole.get_all("MIME-Version") == ["1.0"] and len(whole.get_all("Content-Type")) == 1
