"""Password schemes in Dovecot's notation, ``{SCHEME}hash`` (also ``.b64`` and ``.hex``); argon2id for new ones.

Promise: a comparison takes the same time wherever the first difference is. An unknown scheme or a damaged hash is
"no match" with a log line by the caller, never an exception to a session; TemporaryError where there was no memory to
compare.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re

import argon2
import argon2.low_level
import bcrypt
from passlib.hash import md5_crypt, sha256_crypt, sha512_crypt

from fastmail.model.errors import TemporaryError

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_FORM = re.compile(r"\{([A-Za-z0-9._-]+)\}(.*)", re.DOTALL)
_DIGESTS = {
    "SHA": "sha1",
    "SHA1": "sha1",
    "SHA256": "sha256",
    "SHA512": "sha512",
    "PLAIN-MD5": "md5",
    "LDAP-MD5": "md5",
}
SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}
ITERATIONS = 4096
_SALTED = {"SSHA": "sha1", "SSHA256": "sha256", "SSHA512": "sha512", "SMD5": "md5"}
SCHEMES = frozenset(
    [
        *("ARGON2ID", "ARGON2I", "PLAIN", "CLEARTEXT", "CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "MD5"),
        *("BLF-CRYPT", "SSHA", "SSHA256", "SSHA512", "SMD5", "PBKDF2", *_DIGESTS),
        *SCRAM,
    ]
)
_NO_MEANS = {argon2.low_level.error_to_str(code) for code in (-22, -33)}  # no memory, no thread: it was not compared
DUMMY = _hasher.hash("a password that nobody has")


def hash_password(password: str) -> str:
    """``{ARGON2ID}...`` for a new password; some 15 ms of CPU and 19 MiB, so never on the event loop."""
    return "{ARGON2ID}" + _hasher.hash(password.encode())


def scram(password: str) -> str:
    """Keys for SCRAM logins with this password, as ``{SCRAM-SHA-256}iterations,salt,stored key,server key`` and the
    same for SHA-1; some milliseconds of CPU, so never on the event loop."""
    return " ".join(
        "{" + name + "}" + _scram(digest, password.encode(), os.urandom(16)) for name, digest in SCRAM.items()
    )


def _scram(digest: str, password: bytes, salt: bytes) -> str:
    salted = hashlib.pbkdf2_hmac(digest, password, salt, ITERATIONS)
    stored = hashlib.new(digest, hmac.digest(salted, b"Client Key", digest)).digest()
    server = hmac.digest(salted, b"Server Key", digest)
    return ",".join([str(ITERATIONS), *(base64.b64encode(one).decode() for one in (salt, stored, server))])


def scram_keys(stored: str, name: str) -> tuple[bytes, bytes, bytes, int] | None:
    """(salt, stored key, server key, iterations) of a mechanism, from texts with blanks between them; None where they
    do not have it."""
    for one in stored.split(" "):
        match = _FORM.fullmatch(one)
        if match is None or match.group(1).upper() != name:
            continue
        parts = match.group(2).split(",")
        if len(parts) == 4 and parts[0].isdigit() and 0 < int(parts[0]) <= 10_000_000:
            salt, key, server = (base64.b64decode(part) for part in parts[1:])
            return salt, key, server, int(parts[0])
    return None


def known(stored: str) -> bool:
    """Is this ``{SCHEME}hash`` with a scheme that can be checked?"""
    match = _FORM.fullmatch(stored)
    return match is not None and match.group(1).upper().partition(".")[0] in SCHEMES


def is_strong(stored: str) -> bool:
    """Does a check of it cost what a check of a new password costs?"""
    return stored.startswith("{ARGON2ID}")


def verify(stored: str, password: bytes) -> bool:
    """Does the password match? Costs what its scheme costs."""
    match = _FORM.fullmatch(stored)
    if match is None:
        return False
    scheme, value = match.group(1).upper(), match.group(2)
    scheme, _, coding = scheme.partition(".")
    try:
        if coding:
            raw = bytes.fromhex(value) if coding == "HEX" else base64.b64decode(value)
            # a digest is coded as it is; a password or a crypt string is the text behind the coding
            digest = scheme in _DIGESTS or scheme in _SALTED
            value = base64.b64encode(raw).decode() if digest else raw.decode("utf-8", "surrogateescape")
        return _verify(scheme, value, password)
    except (ValueError, TypeError, binascii.Error, UnicodeError, argon2.exceptions.InvalidHashError):
        return False


def _verify(scheme: str, value: str, password: bytes) -> bool:
    if scheme in ("ARGON2ID", "ARGON2I"):
        try:
            return _hasher.verify(value, password)
        except argon2.exceptions.VerificationError as error:
            if str(error) in _NO_MEANS:
                raise TemporaryError(f"a password could not be checked: {error}") from error
            return False
    if scheme in ("PLAIN", "CLEARTEXT"):
        return hmac.compare_digest(value.encode("utf-8", "surrogateescape"), password)
    if scheme in ("CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "MD5", "BLF-CRYPT"):
        return _crypt(value, password)
    if scheme in _DIGESTS:
        raw = _raw(value, hashlib.new(_DIGESTS[scheme]).digest_size)
        return hmac.compare_digest(raw, hashlib.new(_DIGESTS[scheme], password).digest())
    if scheme in _SALTED:
        name = _SALTED[scheme]
        raw = base64.b64decode(value)
        size = hashlib.new(name).digest_size
        if len(raw) <= size:
            return False
        return hmac.compare_digest(raw[:size], hashlib.new(name, password + raw[size:]).digest())
    if scheme in SCRAM:
        found = scram_keys("{" + scheme + "}" + value, scheme)
        if found is None:
            return False
        salted = hashlib.pbkdf2_hmac(SCRAM[scheme], password, found[0], found[3])
        key = hmac.digest(salted, b"Client Key", SCRAM[scheme])
        return hmac.compare_digest(hashlib.new(SCRAM[scheme], key).digest(), found[1])
    if scheme == "PBKDF2":
        _, kind, salt, rounds, digest = value.split("$")
        if kind != "1" or not 0 < int(rounds) <= 10_000_000:
            return False
        made = hashlib.pbkdf2_hmac("sha1", password, salt.encode(), int(rounds))
        return hmac.compare_digest(bytes.fromhex(digest), made)
    return False


def _crypt(value: str, password: bytes) -> bool:
    if value.startswith("$2"):
        fixed = "$2b$" + value[4:] if value[:4] in ("$2y$", "$2a$") else value
        return bcrypt.checkpw(password[:72], fixed.encode())
    for prefix, handler in (("$6$", sha512_crypt), ("$5$", sha256_crypt), ("$1$", md5_crypt)):
        if value.startswith(prefix):
            return bool(handler.verify(password, value))
    return False


def _raw(value: str, size: int) -> bytes:
    """A digest in hexadecimal or base64."""
    if len(value) == 2 * size:
        return bytes.fromhex(value)
    return base64.b64decode(value)
