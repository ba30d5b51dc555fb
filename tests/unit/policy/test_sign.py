"""Signatures that we make: what they cover, and that others can verify them."""

import re
from binascii import a2b_base64

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fastmail.policy import dkim
from fastmail.policy.sign import OVERSIGNED, SigningKey, behind, completed, names, split, whole
from tests.support.signing import MESSAGE, key, parts, published, signed, verify
from tests.unit.policy.test_dkim import RFC8463, RFC8463_KEYS

RFC8463_RSA = b"""-----BEGIN RSA PRIVATE KEY-----
MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi
Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM
KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB
AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm
6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe
zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy
6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc
uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy
WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd
WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a
licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst
o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe
uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL
-----END RSA PRIVATE KEY-----
"""


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
    content = (
        b"Cc: a@b.test\nCC: c@d.test\nReferences: <x>\nreferences: <y>\nReceived: x\nBcc: y@z.test\nReturn-Path: <>\n"
        + MESSAGE
    )
    (field,) = dkim.Content(signed(content).partition(b"\n\n")[0] + b"\n").fields.named(b"dkim-signature")
    found = dkim.parse(field)
    for name in OVERSIGNED:
        there = len(re.findall(rb"(?im)^" + name + rb":", content.partition(b"\n\n")[0]))
        assert found.names.count(name) == there + 1
    assert found.names.count(b"cc") == 3 and found.names.count(b"references") == 2
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


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_the_keys_of_rfc_8463_make_its_signatures(kind: str) -> None:
    """Appendix A: secret keys (A.1), and what they sign (A.3). Both ways of signing always give the same octets."""
    if kind == "ed25519":
        seed = a2b_base64("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
        private: Ed25519PrivateKey | RSAPrivateKey = Ed25519PrivateKey.from_private_bytes(seed)
    else:
        found = load_pem_private_key(RFC8463_RSA, None)
        assert isinstance(found, RSAPrivateKey)
        private = found
    content = dkim.Content(parts(RFC8463)[0])
    field = next(one for one in content.fields.named(b"dkim-signature") if f"a={kind}-sha256".encode() in one)
    theirs = dkim.parse(field)
    signer = SigningKey(theirs.domain, theirs.selector, private)
    text = field.replace(b"\r\n", b"\n").decode().partition("\n b=")[0]
    ours = dkim.parse(completed(text, content.fields.canonical(list(theirs.names), True), signer))
    assert ours.signature == theirs.signature
    assert [signer.record().encode()] == [
        one.encode() for (name, _), (one,) in RFC8463_KEYS.items() if name == theirs.key_name
    ]


@pytest.mark.parametrize("text", [MESSAGE, b"\nonly a body\n", b"Subject: no body\n", b"", b"Subject: x\n\n"])
def test_a_body_that_is_hashed_once_for_many_headers(text: bytes) -> None:
    made = behind(text)
    for front in (b"X-Copy: 1\n", b"X-Copy: 2\nList-Unsubscribe: <https://x.test/>,\n <mailto:x@x.test>\n"):
        once, again = made(front), whole([front, text])
        assert once.body_hash(True) == again.body_hash(True) and once.broken == again.broken
        name = b"X-Copy".lower()
        assert once.fields.named(name) == again.fields.named(name) != []
        assert once.fields.named(b"subject") == again.fields.named(b"subject")
    assert made(b"no field\n").broken


def test_a_message_in_pieces() -> None:
    """The same signature, wherever it is cut: header and body are found."""
    at = MESSAGE.index(b"\n\n") + 1
    for cuts in ([at], [at, at + 1], [MESSAGE.index(b"To:")], [0], [MESSAGE.index(b"To:"), at + 5, at + 5]):
        pieces = [MESSAGE[start:end] for start, end in zip([0, *cuts], [*cuts, len(MESSAGE)], strict=True)]
        header, body = split(pieces)
        assert header == MESSAGE[:at] and b"".join(map(bytes, body)) == MESSAGE[at + 1 :]
        at_once = whole([MESSAGE])
        named = names(at_once.fields)
        for form in (bytes, memoryview, bytearray):
            for end in (b"\n", b"\r\n"):
                found = whole([form(piece.replace(b"\n", end)) for piece in pieces])
                assert found.body_hash(True) == at_once.body_hash(True) and not found.broken
                assert found.fields.count == at_once.fields.count
                assert found.fields.canonical(named, True) == at_once.fields.canonical(named, True)
    assert split([b"Subject: x\n"]) == (b"Subject: x\n", []) and split([]) == (b"", [])


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
@pytest.mark.parametrize("lifetime", [0, 600])
def test_a_field_is_signed_as_it_is_read(kind: str, lifetime: int) -> None:
    """Its canonical form is put together from parts: each signature verifies, also with other fields, another body, and
    a second later."""
    signer = key(kind=kind)
    for content in (MESSAGE, MESSAGE + b"more\n", b"Reply-To: x@y.test\nList-Id: <a.b>\n" + MESSAGE):
        found = signed(content, signer, lifetime=lifetime)
        assert [one.result for one in verify(found, published(signer))] == ["pass"]
        lines = found.partition(b"\nFrom:")[0].partition(b"\nReply-To:")[0].split(b"\n")
        assert lines[0] == f"DKIM-Signature: v=1; a={signer.algorithm}; c=relaxed/relaxed;".encode()
        assert all(len(line) < 80 and (line.startswith(b"\t") or not at) for at, line in enumerate(lines))
        assert (b" x=" in found) == bool(lifetime)


def test_signatures_have_the_time_when_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (1_700_000_000.9, 1_700_000_001.0):
        monkeypatch.setattr("fastmail.policy.sign.time.time", lambda now=now: now)
        assert f"t={int(now)}; x={int(now) + 600};".encode() in signed(MESSAGE, key(), lifetime=600)
