"""Unit tests: signatures verified by keys of the DNS, and which of them are computed again."""

import hashlib
from base64 import b64encode
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastmail._core.rsa import able
from fastmail.policy import keys
from fastmail.policy.keys import Key
from fastmail.policy.verified import Verified

ONE, OTHER = generate_private_key(65537, 1024), generate_private_key(65537, 1024)
DIGEST = hashlib.sha256(b"signed").digest()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_verified", Verified())


def rsa(private: RSAPrivateKey) -> Key:
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return keys.parse(b"p=" + b64encode(der))


def ed25519(seed: int) -> tuple[Ed25519PrivateKey, Key]:
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return private, keys.parse(b"k=ed25519; p=" + b64encode(private.public_key().public_bytes_raw()))


def signature(private: RSAPrivateKey, digest: bytes = DIGEST) -> bytes:
    return private.sign(digest, PKCS1v15(), Prehashed(SHA256()))


def powered(private: RSAPrivateKey, block: bytes) -> bytes:
    """The signature whose content is this block, which has as many octets as the key."""
    numbers = private.private_numbers()
    found = pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n)
    return found.to_bytes(len(block))


def by_library(key: Key, octets: bytes, digest: bytes) -> bool:
    assert isinstance(key.public, RSAPublicKey)
    try:
        key.public.verify(octets, digest, PKCS1v15(), Prehashed(SHA256()))
    except InvalidSignature:
        return False
    return True


def test_a_signature_is_good_by_its_key_and_its_digest() -> None:
    for _ in range(2):  # computed, and known
        assert rsa(ONE).verify(signature(ONE), DIGEST)
        assert not rsa(OTHER).verify(signature(ONE), DIGEST)
        assert not rsa(ONE).verify(signature(ONE), hashlib.sha256(b"other").digest())
        assert not rsa(ONE).verify(signature(ONE, hashlib.sha256(b"other").digest()), DIGEST)
    private, key = ed25519(1)
    for _ in range(2):
        assert key.verify(private.sign(DIGEST), DIGEST)
        assert not ed25519(2)[1].verify(private.sign(DIGEST), DIGEST)
        assert not key.verify(private.sign(DIGEST), DIGEST[::-1])


def test_what_the_library_says_of_odd_signatures_is_said_here() -> None:
    key, size = rsa(ONE), 128
    info = bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST
    blocks = {
        "right": b"\0\1" + b"\xff" * (size - 3 - len(info)) + b"\0" + info,
        "without NULL": b"\0\1" + b"\xff" * (size - 3 - 49) + b"\0\x30\x2f\x30\x0b" + info[4:15] + info[17:],
        "more behind": b"\0\1" + b"\xff" * 8 + b"\0" + info + b"\0" * (size - 11 - len(info)),
        "of encryption": b"\0\2" + b"\xff" * (size - 3 - len(info)) + b"\0" + info,
        "other padding": b"\0\1" + b"\xfe" * (size - 3 - len(info)) + b"\0" + info,
        "the digest alone": b"\0\1" + b"\xff" * (size - 3 - 32) + b"\0" + DIGEST,
        "nothing": bytes(size),
    }
    made = {name: powered(ONE, block) for name, block in blocks.items()}
    made |= {"too large": b"\xff" * size, "longer": b"\0" + made["right"], "shorter": made["right"][1:], "empty": b""}
    made |= {str(n): ONE.sign(b"signed", PKCS1v15(), n()) for n in (SHA1, SHA512)}
    for name, octets in made.items():
        for one in (key, replace(key, quick=None)):  # by instructions of this processor, if it has them, and without
            assert one.computed(octets, DIGEST) == by_library(key, octets, DIGEST) == (name == "right"), name


def test_a_signature_that_begins_with_zero_has_to_have_it() -> None:
    key = rsa(ONE)
    for number in range(5000):
        digest = hashlib.sha256(b"%d" % number).digest()
        octets = signature(ONE, digest)
        if octets[0] == 0:
            break
    assert octets[0] == 0
    assert not key.verify(octets[1:], digest)
    assert key.verify(octets, digest)
    assert not key.verify(octets[1:], digest)
    assert not replace(key, quick=None).computed(octets[1:], digest)


def test_keys_of_other_sizes_and_exponents_are_for_the_library() -> None:
    for private, quick in (
        (ONE, able()),
        (generate_private_key(65537, 1032), False),
        (generate_private_key(3, 1024), False),
    ):
        key = rsa(private)
        assert (key.quick is not None) == quick
        assert key.computed(signature(private), DIGEST)
        assert not key.computed(signature(private), DIGEST[::-1])


def test_only_the_same_three_are_notcomputed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[tuple[bytes, bytes]] = []
    compute = Key.computed

    def counted(key: Key, octets: bytes, digest: bytes) -> bool:
        computed.append((octets, digest))
        return compute(key, octets, digest)

    monkeypatch.setattr(Key, "computed", counted)
    octets, other = signature(ONE), hashlib.sha256(b"other").digest()
    assert rsa(ONE).verify(octets, DIGEST)
    assert rsa(ONE).verify(octets, DIGEST)
    assert len(computed) == 1
    again = keys.parse(b"v=DKIM1; " + b"p=" + b64encode(rsa(ONE).octets))  # another record with the same key
    assert again is not rsa(ONE)
    assert again.verify(octets, DIGEST)
    assert len(computed) == 1
    changed = bytes([octets[0] ^ 1]) + octets[1:]
    for _ in range(2):  # what is not good is computed each time
        assert not rsa(OTHER).verify(octets, DIGEST)
        assert not rsa(ONE).verify(octets, other)
        assert not rsa(ONE).verify(changed, DIGEST)
    assert len(computed) == 7
    assert rsa(ONE).verify(octets, DIGEST)
    assert len(computed) == 7
