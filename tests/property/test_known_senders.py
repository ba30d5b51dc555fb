"""What is kept of a sender makes checks faster and changes nothing: each message is checked by a receiver that knows its
sender, by one that has forgotten him, and by one that never saw him, with every answer of the DNS at hand or none."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fastmail.policy import dkim
from fastmail.policy.dkim import BadSignature, Signature
from fastmail.policy.lists import parse
from fastmail.policy.receive import Receiver
from fastmail.policy.received import Received, Settings
from tests.support.answers import AtHand, Lasting
from tests.support.examples import some
from tests.support.signing import MESSAGE, key, published, signed

ZONE: dict[tuple[str, str], list[Any]] = {
    **published(key(), key(selector="two", kind="ed25519"), key("b.test", "one")),
    ("bad._domainkey.example.org", "TXT"): ["v=DKIM1; p="],
    ("test._domainkey.example.org", "TXT"): [key().record() + "; t=y"],
    ("example.org", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"],
    ("b.test", "TXT"): ["v=spf1 exists:%{l}.b.test ?all"],
    ("joe.b.test", "A"): ["127.0.0.2"],
    ("mail.example.org", "TXT"): ["v=spf1 a -all"],
    ("_dmarc.example.org", "TXT"): ["v=DMARC1; p=reject"],
    ("_dmarc.b.test", "TXT"): ["v=DMARC1; p=quarantine; adkim=s"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mail.example.org"],
    ("mail.example.org", "A"): ["192.0.2.1"],
    ("9.2.0.192.bl.test", "A"): ["127.0.0.2"],
    ("2.0.0.127.bl.test", "A"): ["127.0.0.2"],
    ("test.dbl.test", "A"): ["127.0.1.2"],
    ("b.test.dbl.test", "A"): ["127.0.1.2"],
}
SETTINGS = Settings("mx.test", lists=[parse("bl.test*3")], domain_lists=[parse("dbl.test*4")])
SIGNED = signed(MESSAGE, key(), key(selector="two", kind="ed25519"))
OTHER = signed(MESSAGE.replace(b"dinner", b"supper"))


async def checked(receiver: Receiver, content: bytes, ip: str, helo: str, sender: str) -> Received:
    receiving = receiver.begin(ip, helo)
    receiving.mail_from(sender)
    receiving.feed(content)
    found = await receiving.finish()
    receiving.close()
    return replace(found, asked=0, alike=0, subject=None, clean=False)


KNOWING = {form: Receiver(form(ZONE), SETTINGS) for form in (Lasting, AtHand)}
CONTENTS = st.sampled_from(
    [
        MESSAGE,
        SIGNED,
        OTHER,
        SIGNED.replace(b"\n", b"\r\n"),
        SIGNED.replace(b"Hi.", b"Ho."),
        SIGNED.replace(b"Subject: Is", b"Subject: Was"),
        SIGNED.replace(b"From: Joe", b"From: Jo"),
        OTHER.replace(b"s=one", b"s=bad"),
        OTHER.replace(b"s=one", b"s=gone"),
        OTHER.replace(b"v=1;", b"v=2;"),
        OTHER.replace(b" x=", b" y="),
        OTHER.replace(b" x=", b" x=1"),
        OTHER.replace(b" t=", b" t=9"),
        OTHER + OTHER,
        signed(MESSAGE.replace(b"joe@example.org", b"joe@b.test"), key("b.test")),
        signed(MESSAGE.replace(b"joe@example.org", b"joe@sub.b.test"), key("b.test")),
        signed(MESSAGE, key(selector="test")),
        signed(b"List-Id: <l.test>\n" + MESSAGE, key("b.test")),
        b"no field\n" + OTHER,
        b"From: a@b.test\n" + OTHER,
        OTHER.replace(b"Subject:", b"ARC-Seal: i=1; cv=none\nSubject:"),
    ]
)
CLIENTS = st.sampled_from(
    [
        ("192.0.2.1", "mail.example.org", "joe@example.org"),
        ("192.0.2.1", "mail.example.org", ""),
        ("192.0.2.1", "example.org", "joe@example.org"),
        ("192.0.2.9", "mail.example.org", "joe@example.org"),
        ("192.0.2.1", "b.test", "joe@b.test"),
        ("192.0.2.1", "b.test", "jim@b.test"),
        ("2001:db8::1", "[2001:db8::1]", "joe@example.org"),
        ("local", "x", "joe@nowhere.test"),
    ]
)


@settings(max_examples=some(300), deadline=None)
@given(CONTENTS, CLIENTS)
def test_whoever_knows_a_sender_finds_the_same(content: bytes, client: tuple[str, str, str]) -> None:
    async def run() -> None:
        dkim._known.clear()
        wanted = await checked(Receiver(Lasting(ZONE), SETTINGS), content, *client)
        for form, knowing in KNOWING.items():
            assert await checked(Receiver(form(ZONE), SETTINGS), content, *client) == wanted
            for _ in range(2):  # the second time it knows him for sure
                assert await checked(knowing, content, *client) == wanted

    asyncio.run(run())


# ---------------------------------------------------------------- signatures

OWN = {
    "b": ["eA==", "eHh4", "e H\n\th4", "", "?", "eA", "\u00e4", "e=A=", "eHh4" * 30],
    "bh": ["eA==", "eHh4", "", "e", "\u00e4", "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="],
    "t": ["1", "1000", " 1\n", "", "x", "1 2", "9999999999", "1234567890123"],
    "x": ["2", "99999999999", "9999999998\n ", "", "-1", "1.5", "1234567890123", "0"],
}
SAME = {
    "v": ["1", "2", " 1 "],
    "a": ["rsa-sha256", "ed25519-sha256", "rsa-sha1"],
    "c": ["relaxed/relaxed", "simple", "relaxed/other"],
    "d": ["a.test", "A.test", "test", "\u00e4.test"],
    "s": ["one", "b..d"],
    "h": ["from:to", "From : Date", "to", ""],
    "i": ["@a.test", "joe@sub.a.test", "@b.test"],
    "l": ["0", "10", "x"],
    "q": ["dns/txt", "http"],
    "T": ["1"],
}
NEEDED = [*((name, SAME[name][:1]) for name in ("v", "a", "d", "s", "h")), ("bh", OWN["bh"]), ("b", OWN["b"])]


def outcome(call: Any, field: bytes) -> tuple[Any, ...]:
    try:
        found: Signature = call(field)
    except BadSignature as error:
        return error.result, str(error), error.known
    return (found,)


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Signatures that differ in b=, bh=, t= and x= only. Most are good but for one tag."""
    choices = dict(NEEDED) | {name: OWN[name][:3] for name in draw(st.sets(st.sampled_from(["t", "x"])))}
    names = draw(st.permutations(sorted(choices)))
    for name in draw(st.lists(st.sampled_from(sorted(OWN | SAME)), max_size=2)):
        choices[name] = (OWN | SAME)[name]
        names.insert(draw(st.integers(0, len(names))), name)
    same = {name: draw(st.sampled_from(values)) for name, values in choices.items() if name in SAME}
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    out = []
    for _ in range(4):
        own = {name: draw(st.sampled_from(choices[name])) for name in choices if name in OWN}
        text = ";".join(f"{space}{name}{space}={space}{(same | own)[name]}" for name in names)
        out.append(f"DKIM-Signature:{text}{draw(st.sampled_from(['', ';']))}\n".encode())
    return out


@settings(max_examples=some(400), deadline=None)
@given(alike())
def test_a_signature_like_one_before_is_read_the_same(fields: list[bytes]) -> None:
    dkim._known.clear()
    for field in fields * 2:
        assert outcome(dkim.parse, field) == outcome(dkim.parse_all, field)


def test_what_is_kept_of_signatures_is_bounded() -> None:
    dkim._known.clear()
    for number in range(dkim.REMEMBERED + 10):
        long = b"eHh4" * 1000
        dkim.parse(b"DKIM-Signature: v=1; a=rsa-sha256; d=a%d.test; s=s; h=from; bh=eA==; b=%s" % (number, long))
    assert len(dkim._known) == dkim.REMEMBERED
    assert all(len(name) <= dkim.USUAL and not one.field + one.signature for name, one in dkim._known.items())
    with pytest.raises(BadSignature, match="expired"):
        dkim.parse(b"DKIM-Signature: v=1; a=rsa-sha256; d=a9.test; s=s; h=from; bh=eA==; b=eA==; x=9")
