"""The secret part of the web address by which a member leaves a mailing list (RFC 8058 3.1).

A token is the list's address and the member's, encrypted and authenticated with AES-SIV (RFC 5297), in the base 64 of
URLs (RFC 4648 5). So nobody else can make a token, and nobody can read in one who is a member of what. A directory has
keys for tokens alone: it makes a new one every KEY_DAYS, and the last KEPT of them count, because people keep mail for
years.

Promises: a member's token for a list stays the same while its key is in use, so a message that is sent again is the
same message. Text that was not made here is no token; AES-SIV compares in constant time. A token says nothing about
whether the address is a member now.
"""

import base64
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from fastmail.directory.srs import DAY
from fastmail.model.address import comparable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY = 32  # octets of a key
KEY_DAYS = 365
KEPT = 20  # keys: links in mail of the last twenty years count
PURPOSE = b"list unsubscribe 1"  # authenticated with each token: a token for another purpose would not do here
_FORM = re.compile(r"[A-Za-z0-9_-]{24,1400}")  # two addresses have 640 octets at most (RFC 5321 4.5.3.1)


class Keys(Protocol):
    """What is asked of a directory."""

    def link_keys(self) -> Sequence[tuple[int, bytes]]:
        """(when it was made, s since 1970; key), the newest first."""
        ...

    def renew_link_keys(self, now: int) -> None: ...


class Links:
    """Makes and reads tokens; one in each process."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def prepare(self) -> None:
        """Have a key that is young enough to make tokens with. It may wait for the disk."""
        known = self._keys.link_keys()
        if not known or known[0][0] < time.time() - KEY_DAYS * DAY:
            self._keys.renew_link_keys(int(time.time()))

    def token(self, of: str, member: str) -> str:
        """Return the token by which ``member`` leaves the list ``of``; call ``prepare`` first."""
        plain = f"{comparable(of)}\0{comparable(member)}".encode("utf-8", "surrogatepass")
        sealed = _cipher(self._keys.link_keys()[0][1]).encrypt(plain, [PURPOSE])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def read(self, token: str) -> tuple[str, str] | None:
        """Return (list, member) of a token, in the form for comparing; None for what was not made here."""
        if not _FORM.fullmatch(token):
            return None
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        from cryptography.exceptions import InvalidTag  # as in _cipher

        for _, key in self._keys.link_keys():
            try:
                plain = _cipher(key).decrypt(sealed, [PURPOSE])
            except InvalidTag:
                continue
            of, _, member = plain.decode("utf-8", "surrogatepass").partition("\0")
            return of, member
        return None


@lru_cache(KEPT)
def _cipher(key: bytes) -> "AESSIV":
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # commands about accounts start without it

    return AESSIV(key)
