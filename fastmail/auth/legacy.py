"""Old password schemes that Dovecot keeps for its users: DES-CRYPT, PLAIN-MD4, HMAC-MD5 (CRAM-MD5), DIGEST-MD5, OTP,
PLAIN-TRUNC, and those that the system's libcrypt knows (yescrypt and others); and the scheme of hMailServer.

They are only checked, never created: if passwords are kept here, the account gets a better form at its next login. A
check takes a few milliseconds at most, except for libcrypt, where the hash decides; never call one on the event loop.
ValueError if a stored text does not belong to the scheme.
"""

import ctypes
import hashlib
import hmac
import math
import re
import struct

from passlib.crypto.digest import lookup_hash
from passlib.hash import bsdi_crypt, des_crypt

CRYPT_DATA = 1 << 16  # octets of struct crypt_data, with room: libxcrypt has 32,768, glibc 131,232 at most
OTP_MOST = 10_000  # hash chains are at most 9,999 long in practice (RFC 2289 6.0 has no bound)
HMAIL_SALT = 6  # characters
HMAIL_HEX = re.compile(r"[0-9a-fA-F]{64}")  # SHA-256
_OTP = re.compile(r"(md4|md5|sha1) (\d{1,5}) ([A-Za-z0-9]{1,64}) ([0-9a-fA-F]{16})")
_DES = re.compile(r"[./0-9A-Za-z]{13}")
_BSDI = re.compile(r"_[./0-9A-Za-z]{19}")
SYSTEM = ("$y$", "$gy$", "$7$")  # yescrypt, gost-yescrypt, scrypt


def _libcrypt() -> "ctypes.CDLL | None":
    """Loaded with the module, while the process may still open files."""
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            found = ctypes.CDLL(name)
            found.crypt_r.restype = ctypes.c_char_p
            found.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
        return found
    return None


_system = _libcrypt()


def _system_crypt(value: bytes, password: bytes) -> bytes:
    """Return the result of crypt(3) for the password with the settings of ``value``; empty if crypt(3) refuses them."""
    if _system is None or b"\0" in password:
        return b""
    room = ctypes.create_string_buffer(CRYPT_DATA * 2)
    return _system.crypt_r(password, value, ctypes.addressof(room)) or b""


def system_knows(value: str) -> bool:
    """True if the system's libcrypt can check this form. It is asked once for each form, with a hash that costs
    little."""
    probe = {"$y$": b"$y$j75$1$", "$gy$": b"$gy$j75$1$", "$7$": b"$7$/6..../....1$"}
    form = next((form for form in SYSTEM if value.startswith(form)), "")
    if form and form not in _known:
        _known[form] = _system_crypt(probe[form], b"x").startswith(form.encode())
    return _known.get(form, False)


_known: dict[str, bool] = {}


def crypt(value: str, password: bytes) -> bool:
    """Return the result of crypt(3) for forms that auth.schemes has no code for."""
    if value.startswith(SYSTEM):
        stored = value.encode("ascii")
        return hmac.compare_digest(_system_crypt(stored, password), stored)
    if b"\0" in password:
        return False
    if _BSDI.fullmatch(value):
        return bool(bsdi_crypt.verify(password, value))
    return _DES.fullmatch(value) is not None and bool(des_crypt.verify(password, value))


def can_crypt(value: str) -> bool:
    """True if ``crypt`` can check this form."""
    if value.startswith(SYSTEM):
        return system_knows(value)
    return bool(_DES.fullmatch(value) or _BSDI.fullmatch(value))


def plain_md4(value: str, password: bytes) -> bool:
    """MD4 (RFC 1320) in hexadecimal or base64: decoded by the caller."""
    return hmac.compare_digest(bytes.fromhex(value), _md4(password))


def _md4(data: bytes) -> bytes:
    digest: bytes = lookup_hash("md4").const(data).digest()
    return digest


def plain_trunc(value: str, password: bytes) -> bool:
    """``<n>-<password>``: only the first n octets of a password count, and no more are stored."""
    number, dash, rest = value.partition("-")
    if not dash or not number.isdigit() or len(number) > 4:
        raise ValueError("no length")
    return hmac.compare_digest(password[: int(number)], rest.encode("utf-8", "surrogateescape"))


def hmailserver(value: str, password: bytes) -> bool:
    """hMailServer 5 (its encryption 3): a salt of six characters, then SHA-256 of salt and password in hexadecimal."""
    salt, digest = value[:HMAIL_SALT], value[HMAIL_SALT:]
    if HMAIL_HEX.fullmatch(digest) is None:
        raise ValueError("no digest")
    return hmac.compare_digest(bytes.fromhex(digest), hashlib.sha256(salt.encode() + password).digest())


def digest_md5(value: str, password: bytes, user: str) -> bool:
    """MD5 of user, realm and password (RFC 2831 2.1.2.1). The realm is the domain; users without one have none."""
    stored = bytes.fromhex(value)
    local, _, domain = user.rpartition("@")
    good = False
    for name, realm in ((local or user, domain if local else ""), (local or user, ""), (user, "")):
        made = hashlib.md5(b":".join([name.encode(), realm.encode(), password])).digest()
        good |= hmac.compare_digest(stored, made)
    return good


def otp(value: str, password: bytes) -> bool:
    """``<algorithm> <n> <seed> <hash>``: the n-th one-time password (RFC 2289) of the pass phrase."""
    match = _OTP.fullmatch(value)
    if match is None or int(match[2]) > OTP_MOST:
        raise ValueError("no one-time password")
    name = match[1]
    state = _fold(name, match[3].lower().encode() + password)
    for _ in range(int(match[2])):
        state = _fold(name, state)
    return hmac.compare_digest(state, bytes.fromhex(match[4]))


def _fold(name: str, data: bytes) -> bytes:
    """64 bits of a digest (RFC 2289 6.1, appendix A)."""
    digest = _md4(data) if name == "md4" else hashlib.new(name, data).digest()
    words = struct.unpack(">5I" if name == "sha1" else ">4I", digest)
    if name == "sha1":
        return struct.pack("<2I", words[0] ^ words[2] ^ words[4], words[1] ^ words[3])
    return struct.pack(">2I", words[0] ^ words[2], words[1] ^ words[3])


# ---------------------------------------------------------------- HMAC-MD5: what the digest is after the keys' blocks

_SHIFTS = (7, 12, 17, 22) * 4 + (5, 9, 14, 20) * 4 + (4, 11, 16, 23) * 4 + (6, 10, 15, 21) * 4
_SINES = [int(abs(math.sin(i + 1)) * 2**32) & 0xFFFFFFFF for i in range(64)]
_BEGIN = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)


def _md5_block(block: bytes) -> tuple[int, ...]:
    """MD5's state after one block of 64 octets (RFC 1321 3.4), which hashlib does not tell."""
    words = struct.unpack("<16I", block)
    a, b, c, d = _BEGIN
    for i in range(64):
        if i < 16:
            mixed, at = (b & c) | (~b & d), i
        elif i < 32:
            mixed, at = (d & b) | (~d & c), (5 * i + 1) % 16
        elif i < 48:
            mixed, at = b ^ c ^ d, (3 * i + 5) % 16
        else:
            mixed, at = c ^ (b | (~d & 0xFFFFFFFF)), 7 * i % 16
        total = (a + mixed + _SINES[i] + words[at]) & 0xFFFFFFFF
        turned = (total << _SHIFTS[i] | total >> (32 - _SHIFTS[i])) & 0xFFFFFFFF
        a, d, c, b = d, c, b, (b + turned) & 0xFFFFFFFF
    return tuple((old + new) & 0xFFFFFFFF for old, new in zip(_BEGIN, (a, b, c, d), strict=True))


def hmac_md5(value: str, password: bytes) -> bool:
    """The states of HMAC-MD5 (RFC 2104) for this key, outer then inner, as 32 octets in hexadecimal: a server needs no
    more for CRAM-MD5 (RFC 2195)."""
    if b"\0" in password:
        return False  # the padding of a shorter one
    key = hashlib.md5(password).digest() if len(password) > 64 else password
    key = key.ljust(64, b"\0")
    made = b"".join(struct.pack("<4I", *_md5_block(bytes(c ^ pad for c in key))) for pad in (0x5C, 0x36))
    return hmac.compare_digest(bytes.fromhex(value), made)
