"""Public keys of DKIM and ARC in the DNS (RFC 6376 3.6.1, RFC 8301 3, RFC 8463 4).

Promise: a key costs what its bounds allow: RECORD octets of text, a modulus of LEAST to MOST bits, a small exponent.
Parsed keys are kept by their text; what is no key is BadKey, which says why.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fastmail.policy import tags
from fastmail.policy.tags import BadTags

RECORD = 4096  # octets of a key record
LEAST, MOST = 1024, 4096  # bits of an RSA key (RFC 8301 3.2)
EXPONENT = 64  # bits; others make each verification as slow as signing
REMEMBERED = 1024
_PKCS1, _HASHED = PKCS1v15(), Prehashed(SHA256())


class BadKey(ValueError):
    """A key that cannot be used. ``result``: what that makes of the signature (RFC 8601 2.7.1)."""

    def __init__(self, why: str, result: str = "permerror") -> None:
        super().__init__(why)
        self.result = result


@dataclass(frozen=True, slots=True)
class Key:
    """``kind``: rsa or ed25519; ``testing``: t=y; ``exact``: t=s, no subdomain in i=."""

    kind: str
    public: RSAPublicKey | Ed25519PublicKey  # of that kind
    bits: int
    testing: bool
    exact: bool

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Is it the signature of data with that SHA-256 digest (RFC 8463 3 signs the digest itself)?"""
        try:
            if self.kind == "rsa":
                cast(RSAPublicKey, self.public).verify(signature, digest, _PKCS1, _HASHED)
            else:
                cast(Ed25519PublicKey, self.public).verify(signature, digest)
        except InvalidSignature:
            return False
        return True


def parse(record: bytes) -> Key:
    """BadKey."""
    if len(record) > RECORD:
        raise BadKey(f"the key record is longer than {RECORD} octets")
    return _parse(record)


@lru_cache(REMEMBERED)
def _parse(record: bytes) -> Key:
    try:
        found = tags.parse(record.decode("utf-8"))
    except (BadTags, UnicodeDecodeError):
        raise BadKey("the key record has no form") from None
    if found.get("v", "DKIM1") != "DKIM1" or ("v" in found and next(iter(found)) != "v"):
        raise BadKey("the key record has another version")
    if "p" not in found:
        raise BadKey("the record has no key")
    hashes = found.get("h")
    if hashes is not None and "sha256" not in tags.words(hashes):
        raise BadKey("the key is not for SHA-256")
    if not {"*", "email"} & set(tags.words(found.get("s", "*"))):
        raise BadKey("the key is not for mail")
    kind = found.get("k", "rsa").lower()
    flags = tags.words(found.get("t", ""))
    if not tags.plain(found["p"]):
        raise BadKey("the key was revoked")
    try:
        octets = tags.base64(found["p"])
    except ValueError:
        raise BadKey("the key is not base64") from None
    public, bits = _public(kind, octets)
    return Key(kind, public, bits, "y" in flags, "s" in flags)


def _public(kind: str, octets: bytes) -> tuple[RSAPublicKey | Ed25519PublicKey, int]:
    """The key, and its bits. BadKey."""
    if kind == "ed25519":
        try:
            return Ed25519PublicKey.from_public_bytes(octets), 256
        except (ValueError, UnsupportedAlgorithm):
            raise BadKey("the Ed25519 key has no form") from None
    if kind != "rsa":
        raise BadKey("the key is of another kind")
    try:
        public = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("the RSA key has no form") from None
    if not isinstance(public, RSAPublicKey):
        raise BadKey("the key is not of RSA")
    if not LEAST <= public.key_size <= MOST:
        raise BadKey(f"an RSA key of {public.key_size} bits does not count", "policy")
    if public.public_numbers().e.bit_length() > EXPONENT:
        raise BadKey("the exponent of the RSA key is too large", "policy")
    return public, public.key_size
