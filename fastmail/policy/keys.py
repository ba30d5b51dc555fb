"""Public keys of DKIM and ARC in the DNS (RFC 6376 3.6.1, RFC 8301 3, RFC 8463 4).

Promise: a key costs what its bounds allow: RECORD octets of text, a modulus of LEAST to MOST bits, a small exponent.
Parsed keys are kept by their text; what is no key is BadKey, which says why. A good signature that comes again with the
same digest is not computed again (policy.verified).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from fastmail._core import rsa
from fastmail.policy import tags
from fastmail.policy.tags import BadTags
from fastmail.policy.verified import Verified

RECORD = 4096  # octets of a key record
LEAST, MOST = 1024, 4096  # bits of an RSA key (RFC 8301 3.2)
EXPONENT = 64  # bits; others make each verification as slow as signing
REMEMBERED = 1024
_PKCS1 = PKCS1v15()
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # what stands before a digest (RFC 8017 9.2)
_verified = Verified()


class BadKey(ValueError):
    """A key that cannot be used. ``result``: what that makes of the signature (RFC 8601 2.7.1)."""

    def __init__(self, why: str, result: str = "permerror") -> None:
        super().__init__(why)
        self.result = result


@dataclass(frozen=True, slots=True)
class Key:
    """``kind``: rsa or ed25519; ``octets``: all that ``public`` is; ``testing``: t=y; ``exact``: t=s, no subdomain in
    i=; ``quick``: the same RSA key, where this processor has a quicker way to compute with it."""

    kind: str
    public: RSAPublicKey | Ed25519PublicKey  # of that kind
    octets: bytes
    bits: int
    testing: bool
    exact: bool
    quick: rsa.Public | None = None

    def verify(self, signature: bytes, digest: bytes) -> bool:
        """Is it the signature of data with that SHA-256 digest (RFC 8463 3 signs the digest itself)?"""
        signed = signature + digest
        if _verified.knows(signed, self.octets):
            return True
        good = self.computed(signature, digest)
        if good:
            _verified.keep(signed, self.octets)
        return good

    def computed(self, signature: bytes, digest: bytes) -> bool:
        """The same, by arithmetic each time.

        What the RSA signature holds is compared here (RFC 8017 8.2.2). OpenSSL's verify would look for its hash
        function by name each time, which costs a sixth of the time within a session, where caches are cold."""
        if self.quick is not None:
            return self.quick.verify(signature, _SHA256 + digest)
        try:
            if self.kind != "rsa":
                cast(Ed25519PublicKey, self.public).verify(signature, digest)
                return True
            if len(signature) != (self.bits + 7) // 8:  # which recovering does not ask for
                return False
            held = cast(RSAPublicKey, self.public).recover_data_from_signature(signature, _PKCS1, None)
        except InvalidSignature:
            return False
        return held == _SHA256 + digest


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
    return Key(kind, public, octets, bits, "y" in flags, "s" in flags, _quick(public))


def _quick(public: RSAPublicKey | Ed25519PublicKey) -> rsa.Public | None:
    if not isinstance(public, RSAPublicKey):
        return None
    numbers = public.public_numbers()
    return rsa.Public(numbers.n, numbers.e) if rsa.suits(numbers.n, numbers.e) else None


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
