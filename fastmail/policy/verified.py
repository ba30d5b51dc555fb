"""Signatures that were verified lately, so that the same one is not computed twice.

A post of a mailing list comes to each of its subscribers here in a mail transaction of its own, and each time with the
same signature of the same octets. To verify that is arithmetic: its result depends on the key, the digest and the
signature, and on nothing else. So that result alone is kept, by all three. What depends on time, on the DNS or on
policy (is this still the key, has the signature expired) is looked at for each message, by whoever asks.

Promise: bounded; the oldest go first. Only good signatures are kept: each of them is as long as its key, and has cost
its sender a key in the DNS. A bad one may be of any octets, so whoever sends many of them would push out the good ones.
"""

MOST = 1024  # of a generation, of which there are two: up to 512 octets of signature, 32 of digest, and the key's


class Verified:
    """The last MOST good signatures, and up to as many before these."""

    __slots__ = ("_newer", "_older")

    def __init__(self) -> None:
        # signature and digest, which is of one length always, so that no two pairs look alike: the key
        self._newer: dict[bytes, bytes] = {}
        self._older: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def knows(self, signed: bytes, key: bytes) -> bool:
        """Was this found good by this key? ``signed``: the signature with the digest behind it; ``key``: all that the
        key is."""
        found = self._newer.get(signed) or self._older.get(signed)
        return found is not None and found == key

    def keep(self, signed: bytes, key: bytes) -> None:
        """It was."""
        if len(self._newer) >= MOST:
            self._older, self._newer = self._newer, {}
        self._newer[signed] = key
