"""Names in the content of messages: decoded, in one form, and bounded."""

import asyncio
import base64
import quopri

import pytest

from fastmail.policy import links
from fastmail.policy.links import Links, host, read

HTML = b'<a href="http://&#101;vil&period;test/">http://www.bank.test/</a> <!-- http://hidden.test --> joe@mail.test'


def message(kind: bytes, body: bytes, encoding: bytes = b"7bit") -> bytes:
    return b"Content-Type: text/%b; charset=utf-8\nContent-Transfer-Encoding: %b\n\n%b" % (kind, encoding, body)


@pytest.mark.parametrize(
    "content",
    [
        message(b"html", HTML),
        message(b"html", base64.encodebytes(HTML), b"base64"),
        message(b"html", quopri.encodestring(HTML), b"quoted-printable"),
        message(b"html", HTML).replace(b"\n", b"\r\n"),
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n" + message(b"html", HTML) + b"\n--x--\n",
        b"Content-Type: message/rfc822\n\n" + message(b"html", HTML),
    ],
    ids=["plain", "base64", "quoted", "CRLF", "part", "inner"],
)
def test_html_in_every_coat(content: bytes) -> None:
    assert read(content) == Links(("evil.test", "www.bank.test", "hidden.test"), ("mail.test",))
    assert asyncio.run(links.find(content)) == read(content)


def test_a_long_message_is_read_elsewhere_and_says_the_same() -> None:
    content = message(b"plain", b"http://evil.test/ " + b"x y\n" * links.ON_LOOP)
    assert asyncio.run(links.find(content)) == read(content) == Links(("evil.test",))


def test_references_count_in_html_only() -> None:
    assert read(message(b"plain", b"http://a&#46;evil.test/")).urls == ()
    assert read(message(b"html", b"http://a&#46;evil.test/")).urls == ("a.evil.test",)


def test_what_is_put_between_many_is_not_looked_up_and_said() -> None:
    names = [f"n{n}.test" for n in range(40)]
    found = read(message(b"plain", " ".join(f"http://{one}/ x@mail-{one}" for one in names).encode()))
    assert found.urls == (*names[:10], *names[-10:]) and found.many
    assert found.addresses == tuple(f"mail-{one}" for one in names[:5] + names[-5:])


def test_more_than_is_noted() -> None:
    assert read(message(b"plain", b" ".join(b"http://n%d.test/" % n for n in range(links.FOUND + 1)))).many
    parts = b"".join(b"--x\n\nhttp://n%d.test/\n" % n for n in range(links.PARTS + 1))
    found = read(b"Content-Type: multipart/mixed; boundary=x\n\n" + parts + b"--x--\n")
    assert found.many and f"n{links.PARTS}.test" not in found.urls


def test_many_names_do_not_hide_the_last_one_and_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters beyond ASCII take long, so only names near the ends are brought into the form of the DNS."""
    brought: list[bytes] = []

    def counted(raw: bytes) -> str:
        brought.append(raw)
        return host(raw)

    monkeypatch.setattr(links, "host", counted)
    text = " ".join(f"http://m\xfcller{n}.test/" for n in range(1000))
    for coat in (f"{text} http://evil.test/", f"http://evil.test/ {text}"):
        brought.clear()
        found = read(message(b"plain; charset=utf-8", coat.encode()))
        assert "evil.test" in found.urls and len(found.urls) == links.URLS and found.many
        assert len(brought) == links.LOOKED_AT * links.URLS


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Evil.TEST.", "evil.test"),
        ("m\u00fcller.test", "xn--mller-kva.test"),
        ("evil.test\u67e5\u770b", "evil.test"),
        ("\u4f8b\u3048.\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"),
        ("134744072", "8.8.8.8"),
        ("0x08.010.2056", "8.8.8.8"),
        ("8.8.8.8", "8.8.8.8"),
        ("[2606:4700::1111]", "2606:4700::1111"),
        ("127.0.0.1", ""),
        ("[::1]", ""),
        ("10.1", ""),
        ("256.256.256.256", ""),
        ("localhost", ""),
        ("a..b", ""),
        ("[v1.x]", ""),
    ],
)
def test_one_form(raw: str, name: str) -> None:
    assert host(raw.encode()) == name


def test_what_is_no_text() -> None:
    assert host(b"\xff\xfe.test") == ""
    assert read(b"") == Links() and read(b"Content-Type: image/png\n\nhttp://evil.test/") == Links()
