"""What it costs to check a password against a stored hash, ``{SCHEME}hash``, as the hash itself says: rounds, passes
and memory are parameters that whoever made the hash chose. Nothing can end a check, and all logins wait for the same
threads, so a hash that asks for more than SECONDS or OCTETS is refused where it is brought in, and opens nothing.

Seconds are estimates for one core of a machine of 2020. They count the parameters only: a long password may cost some
schemes a few times as much. Promise: the work is linear in the length of the text, and a text that does not have the
form of its scheme costs nothing, because nobody checks it, or everything, because nobody can say.
"""

import base64
import binascii
import re
from typing import NamedTuple

SECONDS = 2.0
OCTETS = 256 << 20
LONGEST = 4096  # characters of a stored hash that are looked at
THREADS = 32  # lanes of argon2: each is a thread of this process
# per second of one core
ARGON2 = 1.2e9  # octets that argon2 goes over
SCRYPT, YESCRYPT = 7.5e8, 2.0e9  # octets that scrypt and yescrypt go over
BCRYPT = 1.8e4  # rounds of bcrypt
SHA_CRYPT = 2.0e6  # rounds of SHA-crypt
PBKDF2 = 3.0e6  # rounds of PBKDF2 and SCRAM
BSDI = 1.2e5  # rounds of DES

_FORM = re.compile(r"\{([A-Za-z0-9._-]{1,40})\}(.*)", re.DOTALL)
_ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$(?:v=\d{1,3}\$)?m=(\d{1,10}),t=(\d{1,10}),p=(\d{1,10})\$")
_BCRYPT = re.compile(r"\$2[abxy]?\$(\d\d)\$")
_SHA_CRYPT = re.compile(r"\$[56]\$(?:rounds=(\d{1,10})\$)?(?!rounds=)")
_PBKDF2 = re.compile(r"\$1\$[^$]*\$(\d{1,10})\$")
_SCRAM = re.compile(r"(\d{1,10}),")
_ALPHABET = {c: n for n, c in enumerate("./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")}
_CRYPTS = ("CRYPT", "DES-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "MD5", "BLF-CRYPT")
ROUNDS = 5000  # of SHA-crypt that does not say how many


class Cost(NamedTuple):
    seconds: float
    octets: int = 0


NOTHING = Cost(0.0)
EVERYTHING = Cost(float("inf"))  # nobody can say


def of(stored: str) -> Cost:
    """Return the cost of checking one password."""
    match = _FORM.fullmatch(stored) if len(stored) <= LONGEST else None
    if match is None:
        return NOTHING if len(stored) <= LONGEST else EVERYTHING
    scheme, _, coding = match[1].upper().partition(".")
    value = match[2]
    if coding:
        try:
            raw = bytes.fromhex(value) if coding == "HEX" else base64.b64decode(value)
        except (ValueError, binascii.Error):
            return NOTHING
        value = raw.decode("utf-8", "surrogateescape")
    if scheme in ("ARGON2ID", "ARGON2I"):
        return _argon2(value)
    if scheme in _CRYPTS:
        return _crypt(value)
    if scheme == "PBKDF2":
        return _rounds(_PBKDF2.match(value), PBKDF2)
    if scheme.startswith("SCRAM-"):
        return _rounds(_SCRAM.match(value), PBKDF2)
    return NOTHING


def refusal(stored: str) -> str:
    """Return why a hash is refused, in words for the administrator; empty where it costs no more than is allowed."""
    cost = of(stored)
    if cost == EVERYTHING:
        return "the parameters of its password hash cannot be read"
    if cost.octets > OCTETS:
        return f"a check of its password hash would need {cost.octets >> 20} MiB, and {OCTETS >> 20} are allowed"
    if cost.seconds > SECONDS:
        return f"a check of its password hash would take about {cost.seconds:.3g} s, and {SECONDS:g} are allowed"
    return ""


def _rounds(match: "re.Match[str] | None", rate: float) -> Cost:
    return Cost(int(match[1]) / rate) if match is not None else EVERYTHING


def _argon2(value: str) -> Cost:
    """RFC 9106 3.1: memory in KiB, passes, lanes."""
    match = _ARGON2.match(value)
    if match is None:
        return NOTHING  # libargon2 reads this form alone
    if int(match[3]) > THREADS:
        return EVERYTHING
    octets = int(match[1]) << 10
    return Cost(octets * int(match[2]) / ARGON2, octets)


def _crypt(value: str) -> Cost:
    """What crypt(5) knows: the form says which scheme it is."""
    if value.startswith("$2"):
        match = _BCRYPT.match(value)
        return Cost((1 << int(match[1])) / BCRYPT) if match is not None else EVERYTHING
    if value.startswith(("$5$", "$6$")):
        match = _SHA_CRYPT.match(value)
        return Cost(int(match[1] or ROUNDS) / SHA_CRYPT) if match is not None else EVERYTHING
    if value.startswith(("$y$", "$gy$", "$7$")):
        try:
            return _scrypt(value) if value.startswith("$7$") else _yescrypt(value.partition("y$")[2])
        except (KeyError, IndexError):
            return EVERYTHING
    if value.startswith("_"):  # BSDI: 24 bits of rounds, the lowest first
        try:
            return Cost(sum(_ALPHABET[value[1 + at]] << 6 * at for at in range(4)) / BSDI)
        except (KeyError, IndexError):
            return EVERYTHING
    return NOTHING


def _scrypt(value: str) -> Cost:
    """``$7$``: one character for the binary logarithm of N, then r and p with five each."""
    power = _ALPHABET[value[3]]
    r, p = (sum(_ALPHABET[value[start + at]] << 6 * at for at in range(5)) for start in (4, 9))
    return _memory_hard(power, r, p, 0, SCRYPT)


def _yescrypt(text: str) -> Cost:
    """``$y$``, ``$gy$``: numbers of a length of their own (see ``_number``): a flavour, the binary logarithm of N, r,
    and perhaps which others there are (1: p, 2: t, 4 and 8: what no one uses yet)."""
    _, at = _number(text, 0, 0)
    power, at = _number(text, at, 1)
    r, at = _number(text, at, 1)
    p, t = 1, 0
    if text[at] != "$":
        have, at = _number(text, at, 1)
        if have & 1:
            p, at = _number(text, at, 2)
        if have & 2:
            t, at = _number(text, at, 1)
        if have & ~3:
            return EVERYTHING
    return _memory_hard(power, r, p, t, YESCRYPT)


def _number(text: str, at: int, least: int) -> tuple[int, int]:
    """A number of yescrypt's encoding that begins at ``at``, and where it ends. Its first character says how many
    follow, each with six bits; each length begins where the shorter one ends."""
    first = _ALPHABET[text[at]]
    start, end, bits, value = 0, 47, 0, least
    while first > end:
        value += (end + 1 - start) << bits
        start, end, bits = end + 1, end + 1 + (62 - end) // 2, bits + 6
    value += (first - start) << bits
    at += 1
    while bits:
        bits -= 6
        value += _ALPHABET[text[at]] << bits
        at += 1
    return value, at


def _memory_hard(power: int, r: int, p: int, t: int, rate: float) -> Cost:
    """RFC 7914 5: N blocks of 128 r octets are filled and read again, p times; yescrypt's t is more of the same."""
    octets = 128 * r * ((1 << power) + p)
    return Cost(octets * p * (2 + t) / rate, octets)
