"""Seals secrets of the directory that have to be read again, with a key that is not in the directory: the keys of
one-time codes. Who has the directory alone, from a copy of its file, has none of them.

A sealed secret is authenticated together with the number of its account (AES-SIV, RFC 5297), so it is of no use in
another row. The key is a file of the server (mode 0600), made when the first secret is sealed; a copy of the data
directory without it has to have second factors set up anew. DamagedAccount says that a secret cannot be opened.
"""

import os
from collections.abc import Callable

from fastmail.directory.rows import U64
from fastmail.durable.replace import replace_file
from fastmail.model.errors import DamagedAccount

FILE = "secrets.key"  # below the data directory
KEY = 64  # octets: AES-256 in SIV mode
PURPOSE = b"one-time codes 1"
Keys = Callable[[bool], bytes]  # the key; True: make it where there is none. Empty: there is none


class KeyFile:
    """See Keys. It is made under the directory's write lock, so of several processes one makes it, and read for each
    secret: one that was put back counts at once."""

    def __init__(self, data_dir: str) -> None:
        self._path = os.path.join(data_dir, FILE)

    def __call__(self, make: bool) -> bytes:
        try:
            with open(self._path, "rb") as file:
                found = file.read(KEY + 1)
        except FileNotFoundError:
            if not make:
                return b""
            replace_file(self._path, made := os.urandom(KEY))
            return made
        except OSError as error:
            raise DamagedAccount(f"{self._path}: {error.strerror}") from None
        if len(found) != KEY:
            raise DamagedAccount(f"{self._path} is no key of this server: put the file back from a copy")
        return found


def seal(keys: Keys, number: int, secret: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # commands about accounts start without it

    return AESSIV(keys(True)).encrypt(secret, [PURPOSE, U64.pack(number)])


def unseal(keys: Keys, number: int, sealed: bytes) -> bytes:
    """DamagedAccount where it was not sealed with this key, for this account."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    try:
        return AESSIV(keys(False)).decrypt(sealed, [PURPOSE, U64.pack(number)])
    except (InvalidTag, ValueError):
        raise DamagedAccount(
            f"the one-time codes of account {number} were sealed with another {FILE}: put that file back, or "
            "`fastmail admin totp disable` and `enable`"
        ) from None
