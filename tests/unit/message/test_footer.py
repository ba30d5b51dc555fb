"""fastmail.message.footer: which bodies get it, in which charset and encoding, and what is left alone."""

from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from fastmail.message import footer, summary

TEXT, RICH = "-- \nExample GmbH", "<p>Example GmbH</p>"


def put(message: bytes, plain: str = TEXT, rich: str = RICH) -> bytes:
    found = footer.added(message, plain, rich)
    return b"".join(found) if found is not None else message


def read(message: bytes) -> EmailMessage:
    found = message_from_bytes(message, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_plain_text_stays_octet_for_octet_above_it() -> None:
    message = b"From: a@b.test\nSubject: x\n\nhello\n"
    assert put(message) == message + b"-- \nExample GmbH\n"
    assert put(b"From: a@b.test\n\nno end") == b"From: a@b.test\n\nno end\n-- \nExample GmbH"
    assert put(b"From: a@b.test\n\n") == b"From: a@b.test\n\n-- \nExample GmbH"


@pytest.mark.parametrize(
    ("charset", "encoding", "body", "text"),
    [
        ("iso-8859-1", "8bit", "Größe\n".encode("latin-1"), "Grüße"),
        ("iso-8859-1", "quoted-printable", b"Gr=F6=DFe\n", "Grüße"),
        ("iso-8859-15", "base64", b"R3L232U=\n", "Grüße €"),
        ("utf-8", "8bit", "Größe\n".encode(), "Grüße 中"),
        ("iso-8859-1", "quoted-printable", b"Gr=F6=DFe\n", "Grüße €中"),
        ("iso-2022-jp", "7bit", "中\n".encode("iso2022_jp"), "Grüße"),
        ("utf-16le", "base64", b"RwByAPYA3wBlAA==\n", "Grüße"),
        ("us-ascii", "7bit", b"plain\n", "Grüße"),
    ],
)
def test_charset_and_encoding(charset: str, encoding: str, body: bytes, text: str) -> None:
    head = f"From: a@b.test\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {encoding}\n\n"
    before, after = read(head.encode() + body), read(put(head.encode() + body, text))
    assert str(after.get_content()).splitlines() == [*str(before.get_content()).splitlines(), text]
    assert len(after.get_all("Content-Type", [])) == len(after.get_all("Content-Transfer-Encoding", [])) == 1
    assert max(map(len, put(head.encode() + body, text * 30).splitlines())) <= 76 or encoding == "8bit"


def test_a_message_without_mime_becomes_one_where_it_has_to() -> None:
    made = read(put(b"From: a@b.test\n\nhello\n", "Grüße"))
    assert made["MIME-Version"] == "1.0" and made.get_content() == "hello\nGrüße\n"
    body = b"From: a@b.test\n\nGr\xf6\xdfe\n"
    assert put(body, "Grüße") == body, "nobody knows what these octets are"
    assert put(body, "x").endswith(b"Gr\xf6\xdfe\nx\n")


def test_html_ends_behind_it() -> None:
    head = b"From: a@b.test\nContent-Type: text/html; charset=utf-8\n\n"
    assert put(head + b"<html><body>hi</body></html>\n") == head + (
        b"<html><body>hi" + RICH.encode() + b"\n</body></html>\n"
    )
    assert put(head + b"<b>hi</b>\n", "a & b\n<c>", "") == head + b"<b>hi</b>\n<p>a &amp; b<br>\n&lt;c&gt;</p>\n"


MIXED = b"""From: a@b.test
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=o

preamble
--o
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain; charset=utf-8

text
--i
Content-Type: multipart/related; boundary=r

--r
Content-Type: text/html

<p>text</p>
--r
Content-Type: text/plain

not shown
--r--
--i--
--o
Content-Type: text/plain; name=a.txt
Content-Disposition: attachment

file
--o
Content-Type: message/rfc822

Subject: inner

inner
--o--
epilogue
"""


def test_each_form_of_the_text_gets_it_and_nothing_else() -> None:
    made = put(MIXED)
    assert made.count(b"Example GmbH") == 2
    assert made.replace(b"\n-- \nExample GmbH", b"").replace(b"\n" + RICH.encode(), b"") == MIXED
    assert b"text\n-- \nExample GmbH\n--i\n" in made and b"<p>text</p>\n<p>Example GmbH</p>\n--r\n" in made
    assert len(summary.of(made).parts) == len(summary.of(MIXED).parts)


def test_flowed_text_stays_lines() -> None:
    head = b"From: a@b.test\nContent-Type: text/plain; format=flowed\n\n"
    assert put(head + b"x\n", "-- \nwide \n> quote\nFrom here", "") == (head + b"x\n-- \nwide\n > quote\n From here\n")


@pytest.mark.parametrize(
    "message",
    [
        MIXED.replace(b"multipart/mixed", b"multipart/signed"),
        MIXED.replace(b"multipart/alternative", b"Multipart/Encrypted"),
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nMIIB\n",
        b"Content-Type: application/x-pkcs7-mime\n\nMIIB\n",
        b"From: a@b.test\n\n-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n-----BEGIN PGP SIGNATURE-----\n",
        b"From: a@b.test\nContent-Transfer-Encoding: base64\n\nLS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tCng=\n",
        b"Content-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBOR\n",
        b"Content-Type: text/plain\nContent-Transfer-Encoding: x-own\n\n%&\n",
        b"Content-Type: text/plain\nContent-Disposition: attachment\n\nfile\n",
    ],
)
def test_what_is_left_alone(message: bytes) -> None:
    assert footer.added(message, TEXT, RICH) is None


def test_what_is_signed_inside_an_enclosed_message_does_not_matter() -> None:
    inner = b"Content-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--"
    message = MIXED.replace(b"Subject: inner\n\ninner", inner)
    assert message != MIXED and put(message).count(b"Example GmbH") == 2
