"""A device that makes and shows passkeys, in software (W3C Web Authentication, level 2, 6 and 7): what a browser answers to
navigator.credentials.create and get."""

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, ATTESTED = 1, 4, 64  # flags of authenticator data, 6.1


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One passkey of a device. ``origin``: of the page that asks; ``host``: what the passkey is for. ``counts``: does it
    count its signatures? ``flags``: what it says of its user."""

    origin: str
    host: str
    counts: bool = True
    flags: int = PRESENT | VERIFIED
    id: bytes = field(default_factory=lambda: os.urandom(32))
    handle: bytes = b""
    count: int = 0

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def create(self, options: str, **client: Any) -> str:
        """The answer to options for a new passkey. ``client``: other client data than there should be."""
        asked = json.loads(options)
        self.handle = raw(asked["user"]["id"])
        point = self._key.public_key().public_numbers()
        key = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + cbor2.dumps(key)
        data = self._data(self.flags | ATTESTED) + credential
        answer = {
            "clientDataJSON": b64(self._client("webauthn.create", asked["challenge"], client)),
            "attestationObject": b64(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
            "transports": ["internal", "hybrid", "by-pigeon"],
        }
        return self._answer(answer)

    def get(self, options: str, **client: Any) -> str:
        """The answer to options for a login."""
        asked = json.loads(options)
        self.count += self.counts
        data = self._data(self.flags)
        said = self._client("webauthn.get", asked["challenge"], client)
        signature = self._key.sign(data + hashlib.sha256(said).digest(), ec.ECDSA(hashes.SHA256()))
        answer = {
            "clientDataJSON": b64(said),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": b64(self.handle),
        }
        return self._answer(answer)

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.host.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client(self, kind: str, challenge: str, more: dict[str, Any]) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin} | more).encode()

    def _answer(self, response: dict[str, Any]) -> str:
        whole = {"id": b64(self.id), "rawId": b64(self.id), "type": "public-key", "response": response}
        return json.dumps(whole)
