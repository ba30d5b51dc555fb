"""Password schemes in Dovecot's notation, ``{SCHEME}hash`` (also ``.b64`` and ``.hex``); argon2id for new ones. Old
ones are in ``legacy``.

Promise: a comparison takes the same time wherever the first difference is. An unknown scheme or a damaged hash is
"no match" with a log line by the caller, never an exception to a session; TemporaryError where there was no memory to
compare. A hash whose check would cost too much (model.hash_costs) is no match either, and costs nothing.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import unicodedata
from functools import cache

import argon2
import argon2.low_level
import bcrypt
from passlib.hash import md5_crypt, sha256_crypt, sha512_crypt
from passlib.utils import saslprep

from fastmail.auth import legacy
from fastmail.model import hash_costs
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
ITERATIONS = 4096  # of SCRAM keys, and octets of their salts
SALT = 16
_SALTED = {"SSHA": "sha1", "SSHA256": "sha256", "SSHA512": "sha512", "SMD5": "md5"}
SCHEMES = frozenset(
    [
        *("ARGON2ID", "ARGON2I", "PLAIN", "CLEARTEXT", "CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "MD5"),
        *("BLF-CRYPT", "SSHA", "SSHA256", "SSHA512", "SMD5", "PBKDF2", *_DIGESTS, "CLEAR", "DES-CRYPT", "PLAIN-MD4"),
        *("HMAC-MD5", "CRAM-MD5", "DIGEST-MD5", "OTP", "PLAIN-TRUNC", *SCRAM, "HMAIL-SHA256"),
    ]
)
_CRYPTS = frozenset(["CRYPT", "DES-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "MD5", "BLF-CRYPT"])
_HEX = frozenset(["HMAC-MD5", "CRAM-MD5", "DIGEST-MD5", "PLAIN-MD4"])  # always digests in hexadecimal
CODINGS = ("", "HEX", "B64", "BASE64")
_NO_MEANS = {argon2.low_level.error_to_str(code) for code in (-22, -33)}  # no memory, no thread: it was not compared


@cache
def dummy() -> str:
    """Return the hash with which passwords of unknown users are compared. It is made once, with the verifier."""
    return "{ARGON2ID}" + _hasher.hash("a password that nobody has")


def prepared(password: str) -> str:
    """Return a password as SASLprep has it (RFC 4013), which is how clients use it in SCRAM (RFC 5802 5.1). If SASLprep
    forbids it, or leaves nothing of it, return it in NFC."""
    if password.isascii():
        return password
    try:
        return saslprep(password) or unicodedata.normalize("NFC", password)
    except ValueError:
        return unicodedata.normalize("NFC", password)


def forms(password: bytes) -> list[bytes]:
    """Return the forms in which the password that a client sends may have been stored (RFC 4616 2 leaves this to
    servers): unchanged, as other servers kept it; in NFC; and prepared, as it is kept here. Mail programs differ in the
    form that they send."""
    try:
        text = "" if password.isascii() else password.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    others = [unicodedata.normalize("NFC", text).encode(), prepared(text).encode()] if text else []
    return list(dict.fromkeys([password, *others]))


def hash_password(password: str) -> str:
    """``{ARGON2ID}...`` for a new password; some 15 ms of CPU and 19 MiB, so never on the event loop."""
    return "{ARGON2ID}" + _hasher.hash(prepared(password).encode())


def scram(password: str) -> str:
    """Keys for SCRAM logins with this password, as ``{SCRAM-SHA-256}iterations,salt,stored key,server key`` and the
    same for SHA-1; some milliseconds of CPU, so never on the event loop."""
    secret = prepared(password).encode()
    return " ".join("{" + name + "}" + _scram(digest, secret, os.urandom(SALT)) for name, digest in SCRAM.items())


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
        if len(parts) != 4 or not re.fullmatch("[1-9][0-9]{0,7}", parts[0]) or hash_costs.refusal(one):
            continue
        try:
            salt, key, server = (base64.b64decode(part) for part in parts[1:])
        except ValueError:
            continue  # damaged
        return salt, key, server, int(parts[0])
    return None


def known(stored: str) -> bool:
    """True if this ``{SCHEME}hash`` can be checked, at a cost that is allowed. With crypt(3) the hash itself says which
    scheme it is."""
    match = _FORM.fullmatch(stored)
    if match is None or hash_costs.refusal(stored):
        return False
    scheme, _, coding = match.group(1).upper().partition(".")
    if scheme not in SCHEMES or coding not in CODINGS:
        return False
    if scheme not in _CRYPTS or coding:
        return True
    value = match.group(2)
    return value.startswith(("$2", "$6$", "$5$", "$1$")) or legacy.can_crypt(value)


def wants_user(stored: str) -> bool:
    """True if the user's name is a part of what was hashed."""
    return stored[:11].upper() == "{DIGEST-MD5"


def is_strong(stored: str) -> bool:
    """True if a check costs as much as the check of a new password."""
    return stored.startswith("{ARGON2ID}")


def verify(stored: str, password: bytes, user: str = "") -> bool:
    """True if the password matches. Takes the time that its scheme needs. ``user``: the account's address, which a few
    schemes need."""
    match = _FORM.fullmatch(stored)
    if match is None or hash_costs.refusal(stored):
        return False
    scheme, value = match.group(1).upper(), match.group(2)
    scheme, _, coding = scheme.partition(".")
    try:
        if coding:
            raw = bytes.fromhex(value) if coding == "HEX" else base64.b64decode(value)
            # a digest is coded as it is; a password or a crypt string is the text behind the coding
            if scheme in _HEX:
                value = raw.hex()
            elif scheme in _DIGESTS or scheme in _SALTED:
                value = base64.b64encode(raw).decode()
            else:
                value = raw.decode("utf-8", "surrogateescape")
        return _verify(scheme, value, password, user)
    except (ValueError, TypeError, binascii.Error, UnicodeError, argon2.exceptions.InvalidHashError):
        return False


def _verify(scheme: str, value: str, password: bytes, user: str) -> bool:
    if scheme in ("ARGON2ID", "ARGON2I"):
        try:
            return _hasher.verify(value, password)
        except argon2.exceptions.VerificationError as error:
            if str(error) in _NO_MEANS:
                raise TemporaryError(f"a password could not be checked: {error}") from error
            return False
    if scheme in ("PLAIN", "CLEARTEXT", "CLEAR"):
        stored = value.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(stored, password) or hmac.compare_digest(forms(stored)[-1], forms(password)[-1])
    if scheme in _CRYPTS:
        return _crypt(value, password)
    if scheme in ("HMAC-MD5", "CRAM-MD5"):
        return legacy.hmac_md5(value, password)
    if scheme == "DIGEST-MD5":
        return legacy.digest_md5(value, password, user)
    if scheme == "PLAIN-MD4":
        return legacy.plain_md4(value, password)
    if scheme == "PLAIN-TRUNC":
        return legacy.plain_trunc(value, password)
    if scheme == "HMAIL-SHA256":
        return legacy.hmailserver(value, password)
    if scheme == "OTP":
        return legacy.otp(value, password)
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
        if kind != "1" or int(rounds) <= 0:
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
    return legacy.crypt(value, password)


def _raw(value: str, size: int) -> bytes:
    """A digest in hexadecimal or base64."""
    if len(value) == 2 * size:
        return bytes.fromhex(value)
    return base64.b64decode(value)
