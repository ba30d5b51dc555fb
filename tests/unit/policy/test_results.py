"""Authentication-Results (RFC 8601): what we write, and which fields of others are forged."""

import asyncio
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastmail.durable.staging import Budget, Staged
from fastmail.policy import authentication, received_spf, results
from fastmail.policy.results import Result
from fastmail.policy.spf import Checked

US = "mx.example.org"
REST = b"; spf=pass smtp.mailfrom=evil.test\n"


def field(*found: Result) -> bytes:
    """The field with these results."""
    return authentication.joined(*authentication.cut(US, "".join(map(results.line, found)), (), ""), ())


def put(add: bytes, content: bytes, host: str, more: Sequence[tuple[bytes, int]] = ()) -> bytes:
    """The message with ``add`` in front of it, without forged fields and ``more``."""
    with tempfile.TemporaryDirectory() as place:
        return bytes(asyncio.run(results.put(add, content, host, Staged(place, Budget()), more)))


def test_fields_that_we_write() -> None:
    """RFC 8601 2.2; B.2 for nothing done."""
    assert field() == b"Authentication-Results: mx.example.org; none\n"
    made = field(
        Result("spf", "pass", (("smtp.mailfrom", "example.net"),)),
        Result(
            "dkim",
            "fail",
            (("header.d", "example.net"), ("header.i", ""), ("header.b", "ab/+=")),
            "the body was changed",
        ),
        Result("iprev", "pass", (("policy.iprev", "2001:db8::1"),), comment="mail.example.net"),
    )
    assert made == (
        b"Authentication-Results: mx.example.org;\n\tspf=pass smtp.mailfrom=example.net;\n"
        b'\tdkim=fail reason="the body was changed" header.d=example.net header.b="ab/+=";\n'
        b'\tiprev=pass (mail.example.net) policy.iprev="2001:db8::1"\n'
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("@example.org", "@example.org"),
        ("joe@sub.example.org", "joe@sub.example.org"),
        ("j=o?e{x}|~/1.2@example.org", "j=o?e{x}|~/1.2@example.org"),
        ('"a b"@example.org', '"a b"@example.org'),
        ("a b@example.org", '"a b"@example.org'),
        ("a..b@example.org", '"a..b"@example.org'),
        (".@example.org", '"."@example.org'),
        ("a@b@example.org", '"a@b"@example.org'),
        ('a"; x=y "@example.org', '"a\\"; x=y \\""@example.org'),
        ('"a\\"@example.org', '"\\"a\\\\\\""@example.org'),
        ("j\u00fc@example.org", "j?@example.org"),
        ("a@b_c.org", '"a@b_c.org"'),
        ("a@b..org", '"a@b..org"'),
        ("a@-b.org", '"a@-b.org"'),
        ("a@", '"a@"'),
    ],
)
def test_addresses(text: str, written: str) -> None:
    """RFC 8601 2.2: an identity of mail is a local part, perhaps quoted or none, and a domain name."""
    assert results.value(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "a\r\nX: y",
        "a; dmarc=pass",
        'a" dmarc=pass "',
        "a\\",
        "(comment",
        "\0",
        "a b",
        "\u00fc",
        "a" * 9000,
        "x=y; z=\n\n",
    ],
)
def test_nothing_of_a_stranger_gets_out_of_its_value(text: str) -> None:
    made = field(Result("dkim", "pass", (("header.d", text), ("header.s", "end")), text, text))
    assert made.isascii() and len(made) < 1500
    lines = made.decode().split("\n")
    assert lines[-1] == "" and all(line.startswith("\t") for line in lines[1:-1])
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\([^()]*\)', "Q", made.decode())
    assert re.fullmatch(
        r"Authentication-Results: mx.example.org;\s+dkim=pass\s+Q\s+reason=Q\s+header.d=(Q|a+)\s+header.s=end\n", bare
    )


@pytest.mark.parametrize(
    "value",
    [
        b" mx.example.org" + REST, b"mx.example.org" + REST, b" MX.Example.ORG" + REST, b" mx.example.org." + REST,
        b" (a (b) \\) c) mx.example.org" + REST, b" mx.example.org (comment)" + REST, b"\n mx.example.org\n " + REST,
        b' "mx.example.org"' + REST, b' "mx\\.example.org"' + REST, b" mx.example.org 1" + REST,
        b" foo (foobar) 2 (baz)" + REST, b" other.test 99" + REST, b" ; none\n", b" \n", b" (unended mx.example.org; x\n",
        b" <mx.example.org>" + REST, b' "mx.example.org 1"' + REST, b' "mx.example.org; spf=pass"' + REST, b" spf=pass\n", b" other.test mx.example.org; none\n", b" @; none\n",
        b" (" + b"x" * (results.LOOKED_AT - 13) + b") mx.example.org" + REST,  # its name goes on behind what is read
    ],
)  # fmt: skip
def test_s14_fields_that_may_be_taken_for_ours(value: bytes) -> None:
    content = b"From: a@b.test\nAUTHENTICATION-results:" + value + b"To: c@d.test\n\nbody\n"
    assert put(b"", content, US) == b"From: a@b.test\nTo: c@d.test\n\nbody\n"


@pytest.mark.parametrize(
    "value",
    [
        b" other.example.org" + REST, b" example.org 1; none\n", b" foo.example.net (foobar) 1 (baz);\n dkim=pass\n",
        b" xn--fa-hia.test" + REST, b" mx.example.org.evil.test" + REST, b" other.test\n",
    ],
)  # fmt: skip
def test_fields_of_others_stay(value: bytes) -> None:
    content = b"Authentication-Results:" + value + b"\nAuthentication-Results: mx.example.org" + REST
    assert put(b"", content, US) == content


@pytest.mark.parametrize(
    "value",
    [
        b" pass receiver=mx.example.org\n", b" pass (c) client-ip=192.0.2.1; Receiver = (c) MX.example.ORG. ; helo=x\n",
        b' pass receiver="mx.example.org"\n', b' pass receiver="mx\\.example.org";\n', b" pass\n", b"\n",
        b" pass (mx.example.org: may send) client-ip=192.0.2.1\n", b" pass receiver=other.test; (c) receiver=mx.example.org\n",
        b" pass receiver=other.test (unended; receiver=mx.example.org\n", b" pass receiver\n", b" pass receiver=\n",
        b" pass receiver=other.test; x" + b"y" * results.LOOKED_AT + b"=z; receiver=mx.example.org\n",
    ],
)  # fmt: skip
def test_received_spf_that_may_be_taken_for_ours(value: bytes) -> None:
    content = b"From: a@b.test\nReceived-SPF:" + value + b"To: c@d.test\n\nbody\n"
    assert put(b"", content, US) == b"From: a@b.test\nTo: c@d.test\n\nbody\n"


@pytest.mark.parametrize(
    "value",
    [
        b" pass receiver=other.example.org\n",
        b" Fail (other.test: 192.0.2.1 is not allowed)\n client-ip=192.0.2.1;\n receiver=other.test (c); helo=x;\n",
        b' none envelope-from="a;b@c.test"; receiver="other.test"\n',
    ],
)
def test_received_spf_of_others_stays(value: bytes) -> None:
    content = b"Received-SPF:" + value + b"Received: from mx.example.org\n\n"
    assert put(b"", content, US) == content


def test_received_spf_that_we_write_is_known_as_ours() -> None:
    checked = Checked("pass", "mailfrom", "b.test", "ip4:192.0.2.0/24")
    made = received_spf.fields(US, "2001:db8::1", "helo.test", '"a;b"@b.test', checked, None)
    assert put(b"", made + b"From: a\n\n", US) == b"From: a\n\n"
    assert put(b"", made + b"From: a\n\n", "other.test") == made + b"From: a\n\n"


def test_a_host_with_u_labels() -> None:
    content = "Authentication-Results: fa\u00df.test; spf=pass\nFrom: a\n\n".encode()
    assert put(b"", content, "xn--fa-hia.test") == b"From: a\n\n"


def test_s14_every_one_of_many_is_removed() -> None:
    """None is missed because the one in front of it was removed, and it costs no more than the header is long."""
    forged = b"Authentication-Results: mx.example.org" + REST
    content = (forged * 3 + b"X-Spam-Flag: NO\nFrom: a\n" + forged) * 2000 + b"\n" + forged
    assert put(b"ours\n", content, US) == b"ours\n" + b"From: a\n" * 2000 + b"\n" + forged


def test_messages_without_a_header_or_a_body() -> None:
    assert put(b"x\n", b"", US) == b"x\n"
    assert put(b"x\n", b"\nAuthentication-Results: mx.example.org; none\n", US).startswith(b"x\n\nAuth")
    assert put(b"", b"Authentication-Results: mx.example.org", US) == b""


def test_a_large_message_goes_through_a_file(tmp_path: Path) -> None:
    forged = b"Authentication-Results: mx.example.org" + REST
    budget = Budget()

    async def main(content: bytes) -> tuple[type, bytes]:
        made = await results.put(b"ours\n", content, US, Staged(str(tmp_path), budget))
        return type(made), bytes(made)

    for size in (10, 2_000_000):
        content = forged + b"From: a\n" + forged + b"\n" + b"x" * size
        kind, made = asyncio.run(main(content))
        assert made == b"ours\nFrom: a\n\n" + b"x" * size
        assert kind is (memoryview if size > 1000 else bytes)
    assert budget.used == 0 and list(tmp_path.iterdir()) == []


HEADER = b"X-Old: 1\nFrom: a\nx-old : 2\n folded\nX-Older: 3\nX-Old: 4\n"


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (0, b"From: a\nX-Older: 3\n"),
        (1, HEADER[9:]),
        (2, HEADER.replace(b"x-old : 2\n folded\n", b"")),
        (-1, HEADER[:-9]),
        (-3, HEADER[9:]),
        (4, HEADER),
        (-4, HEADER),
    ],
)
def test_fields_are_removed_by_name(which: int, left: bytes) -> None:
    body = b"\nX-Old: of the text\n"
    assert put(b"", HEADER + body, US, [(b"x-old", which)]) == left + body
    assert put(b"", HEADER + body, US, [(b"x-old", which), (b"x-old", which)]) == left + body


def test_fields_that_only_we_set_are_removed() -> None:
    content = b"X-Spam-Flag: NO\nX-VIRUS-Status: Clean\nX-Spamd-Bar: -\nx-fastmail-x: y\nX-Viral: yes\n\n"
    assert put(b"", content, US, [(b"x-spam-flag", 0)]) == b"X-Viral: yes\n\n"


def test_what_is_not_changed_is_not_copied(tmp_path: Path) -> None:
    marks = b"X-Spam-Flag: NO\nAuthentication-Results: other.test; none\n\n"
    forged = b"Authentication-Results: mx.example.org; none\n" + marks

    async def main() -> None:
        for size in (10, 2_000_000):
            content = marks + b"x" * size
            assert await results.put(b"", content, US, Staged(str(tmp_path), Budget()), marks=False) is content
            made = await results.put(b"", forged + b"x" * size, US, Staged(str(tmp_path), Budget()), marks=False)
            assert made == content

    asyncio.run(main())


def test_a_tag_is_put_in_front_of_the_subject(tmp_path: Path) -> None:
    content = b"Subject: one\nX-Spam-Flag: NO\nSubject: two\n\nSubject: of the text\n"

    async def main() -> None:
        for size in (0, 2_000_000):
            staged = Staged(str(tmp_path), Budget())
            made = await results.put(b"ours\n", content + b"x" * size, US, staged, tag="[SPAM]")
            assert made == b"ours\nSubject: [SPAM] one\nSubject: [SPAM] two\n\nSubject: of the text\n" + b"x" * size
        cut = await results.put(b"", content, US, staged, [(b"subject", 1)], tag="[SPAM]")
        assert cut == b"Subject: [SPAM] two\n\nSubject: of the text\n", "what a scanner removed is not tagged"
        assert await results.put(b"", b"\nx", US, staged, tag="[SPAM]") == b"Subject: [SPAM]\n\nx"

    asyncio.run(main())
