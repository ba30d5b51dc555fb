"""App passwords: one for each program of an account, made here, shown once, and kept as a SHA-256.

A password has 100 random bits, written as 20 letters and digits of base 32 in groups of five. So much chance needs no
slow hash: nobody tries 2^100 passwords, and a login costs microseconds. Blanks, hyphens and capitals do not count when
one is typed. The hash begins with the key of its row, so of any number of app passwords one is looked at.
"""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Sequence
from typing import Protocol

from fastmail.directory.access import allows
from fastmail.directory.errors import NoSuchUser
from fastmail.directory.records import Account, AppPassword

CHARACTERS = 20  # five bits each
GROUP = 5
PROTOCOLS = ("imap", "pop3", "smtp", "sieve", "web")
_FORM = re.compile(rb"[a-z2-7]{20}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def make() -> str:
    """A new one, as it is shown."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(CHARACTERS))
    return "-".join(text[at : at + GROUP] for at in range(0, CHARACTERS, GROUP))


def digest(password: bytes) -> bytes:
    """The SHA-256 of what somebody typed; empty where it is no app password."""
    if len(password) > 2 * CHARACTERS:
        return b""
    plain = password.replace(b"-", b"").replace(b" ", b"").lower()
    return hashlib.sha256(plain).digest() if _FORM.fullmatch(plain) else b""


def same(one: bytes, other: bytes) -> bool:
    """Compared in a time that says nothing of where they differ."""
    return hmac.compare_digest(one, other)


def ident(found: AppPassword) -> str:
    """What commands call it: the first 40 bits of its hash, which lead back to no password."""
    return base64.b32encode(found.digest[:5]).decode().lower()


class Keeper(Protocol):
    """What is asked of the directory."""

    def app_passwords(self, number: int) -> list[AppPassword]: ...


def named(place: Keeper, account: Account, text: str) -> AppPassword:
    """The app password that commands call so. NoSuchUser."""
    found = next((one for one in place.app_passwords(account.id) if ident(one) == text.lower()), None)
    if found is None:
        raise NoSuchUser(
            f"{account.address} has no app password {text}; `fastmail app-password list {account.address}` shows them"
        )
    return found


def counts(found: AppPassword, protocol: str, host: str, now: float = 0.0) -> bool:
    """May it be used for this protocol (empty: for any), from this address, now?"""
    if not found.enabled:
        return False
    if found.expires and found.expires <= (now or time.time()):
        return False
    if found.protocols and protocol and protocol not in found.protocols:
        return False
    return allows(found.nets, host)


def networks(texts: Sequence[str]) -> str:
    """Networks as a record keeps them. ValueError."""
    return ",".join(text if text == "local" else _network(text.strip()) for text in texts)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text[:50]!r} is no network such as 192.0.2.0/24, and not local") from None
