"""Signatures that we make: what they cover, and that others can verify them."""

import re

import dkim as dkimpy
import pytest

from fastmail.policy import dkim
from fastmail.policy.sign import OVERSIGNED, SigningKey
from tests.support.signing import MESSAGE, key, published, signed, verify


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_others_verify_it(ends: bytes) -> None:
    signer = key()
    records = {name.encode() + b".": found[0].encode() for (name, _), found in published(signer).items()}
    content = signed(MESSAGE.replace(b"\n", ends), signer)
    assert dkimpy.verify(re.sub(rb"\r?\n", b"\r\n", content), dnsfunc=lambda name, timeout=5: records[name])


def test_both_kinds_on_one_message() -> None:
    signers = [key(), key(selector="two", kind="ed25519")]
    found = verify(signed(MESSAGE, *signers), published(*signers))
    assert [(one.result, one.algorithm) for one in found] == [("pass", "rsa-sha256"), ("pass", "ed25519-sha256")]


def test_what_a_signature_covers() -> None:
    content = b"Cc: a@b.test\nCC: c@d.test\nReceived: x\nBcc: y@z.test\nReturn-Path: <>\n" + MESSAGE
    (field,) = dkim.Content(signed(content).partition(b"\n\n")[0] + b"\n").fields.named(b"dkim-signature")
    found = dkim.parse(field)
    for name in OVERSIGNED:
        there = len(re.findall(rb"(?im)^" + name + rb":", content.partition(b"\n\n")[0]))
        assert found.names.count(name) == there + 1
    assert found.names.count(b"cc") == 2
    assert not {b"received", b"bcc", b"return-path", b"dkim-signature"} & set(found.names)
    assert found.length == -1 and found.expires > found.signed > 0
    assert all(len(line) < 80 for line in field.splitlines()) and field.isascii()


def test_nobody_needs_an_expiry() -> None:
    assert b"x=" not in signed(MESSAGE, key(), lifetime=0).partition(b"bh=")[0]


def test_bodies_that_are_none() -> None:
    for content in (b"From: a@example.org\n", b"From: a@example.org\n\n", b"From: a@example.org\n\n\n\n", b""):
        found = verify(signed(content), published(key()))
        assert [one.result for one in found] == ["pass"]


def test_a_key_says_what_to_publish() -> None:
    made = SigningKey("example.org", "s", key().private)
    assert made.record().startswith("v=DKIM1; k=rsa; p=MII")
    assert re.fullmatch(r"v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=", key(kind="ed25519").record())
