"""What mailing lists put into addresses and subjects, and know again: nobody else can make it.

    team-bounces+HHHHHHHH=TT=domain=local@d    the envelope sender of what goes to local@domain (VERP)
    team-bounces+HHHHHHHH=TT==DDDDDDDDDD@d    the same for a member whose address would make that too long
    TTHHHHHHHHHHHHHHHH.AAAA...                 in a subject: the address A may join, or leave

TT is the day, as in directory.srs; H the first bits of an HMAC-SHA256 over all the rest, the list's address and what it
is for, with the directory's keys for SRS; D the first bits of a SHA-256 of the member's address, A the address in base
32. Letters may come back in either case.

Promises: what was not made here for this list and purpose, or more than AGE days ago, is nothing. What was made under
an earlier name of the list counts (``List.formerly``). Each check compares in constant time.
"""

import base64
import hashlib
import hmac
import re
import time

from fastmail.directory.records import List
from fastmail.directory.srs import DAY, KEY_DAYS, LONGEST, Keys, _day, _is_young
from fastmail.model.address import comparable

VERP, JOIN, LEAVE = "verp", "join", "leave"  # purposes
AGREE_DAYS = 7  # in which somebody may answer that it wants to join or to leave
BOUNCES = "-bounces"
_SHORT, _LONG = 8, 16  # characters of base 32 of a hash: in an address, in a subject
_NAMED = 10  # of what stands for an address; it only has to be another one for each member
_VERP = re.compile(r"([a-z2-7]{8})=([a-z2-7]{2})=([^=]*)=(.+)", re.DOTALL)
_JOIN = re.compile(r"([a-z2-7]{2})([a-z2-7]{16})\.([a-z2-7]{2,600})", re.IGNORECASE)


class Tokens:
    """One in each process."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def prepare(self) -> None:
        """Have a key that is young enough to make addresses with. It may wait for the disk."""
        known = self._keys.srs_keys()
        if not known or known[0][0] < time.time() - KEY_DAYS * DAY:
            self._keys.renew_srs_keys(int(time.time()))

    def bounces(self, of: str, member: str) -> str:
        """The envelope sender of mail of the list ``of`` to a member; ``prepare`` comes first. A list whose name leaves
        no room for that has one for all."""
        local, _, domain = of.rpartition("@")
        name, _, host = comparable(member).rpartition("@")
        day = _day(time.time())
        for rest in (f"{day}={host}={name}", f"{day}=={_digest(member)}"):
            made = f"{local}{BOUNCES}+{self._sign(VERP, of, rest, _SHORT)}={rest}"
            if len(made.encode("utf-8", "replace")) <= LONGEST and '"' not in made:
                return f"{made}@{domain}"
        return f"{local}{BOUNCES}@{domain}"

    def bounced(self, row: List, detail: str) -> tuple[str, str]:
        """(the member that such an address was made for, or the hash of its address) of what is behind its ``+``, in
        the form for comparing; both are empty for anything else."""
        found = _VERP.fullmatch(detail)
        if found is None:
            return "", ""
        hash_, day, host, name = found.groups()
        if not _is_young(day) or not self._is_ours(VERP, row, f"{day}={host}={name}", hash_):
            return "", ""
        return (f"{name}@{host}", "") if host else ("", name)

    def joining(self, of: str, address: str) -> str:
        """What somebody has to send back who is to join; ``prepare`` comes first."""
        return self._question(JOIN, of, address)

    def leaving(self, of: str, address: str) -> str:
        """The same for a member that is to leave."""
        return self._question(LEAVE, of, address)

    def joins(self, row: List, subject: str) -> str:
        """The address that a subject with such a text lets join; empty for any other."""
        return self._answer(JOIN, row, subject)

    def leaves(self, row: List, subject: str) -> str:
        """The same for leaving."""
        return self._answer(LEAVE, row, subject)

    def _question(self, purpose: str, of: str, address: str) -> str:
        name = base64.b32encode(comparable(address).encode("utf-8", "replace")).decode().lower().rstrip("=")
        day = _day(time.time())
        return f"{day}{self._sign(purpose, of, f'{day}.{name}', _LONG)}.{name}"

    def _answer(self, purpose: str, row: List, subject: str) -> str:
        found = _JOIN.search(subject)
        if found is None:
            return ""
        day, hash_, name = (one.lower() for one in found.groups())
        try:
            address = base64.b32decode(name.upper() + "=" * (-len(name) % 8)).decode()
        except ValueError:
            return ""
        good = _is_young(day, AGREE_DAYS) and self._is_ours(purpose, row, f"{day}.{name}", hash_)
        return address if good else ""

    def _sign(self, purpose: str, of: str, text: str, length: int) -> str:
        return _signature(self._keys.srs_keys()[0][1], purpose, of, text)[:length]

    def _is_ours(self, purpose: str, row: List, text: str, hash_: str) -> bool:
        good = [
            hmac.compare_digest(_signature(key, purpose, of, text)[: len(hash_)], hash_)
            for of in (row.address, *row.formerly)
            for _, key in self._keys.srs_keys()
        ]
        return any(good)  # all of them were compared


def digest_of(address: str) -> str:
    """What stands for an address where it does not fit."""
    return _digest(address)


def _digest(address: str) -> str:
    made = hashlib.sha256(comparable(address).encode("utf-8", "replace")).digest()
    return base64.b32encode(made).decode().lower()[:_NAMED]


def _signature(key: bytes, purpose: str, of: str, text: str) -> str:
    whole = f"{purpose}\0{comparable(of)}\0{text.lower()}"
    made = hmac.digest(key, whole.encode("utf-8", "surrogatepass"), "sha256")
    return base64.b32encode(made).decode().lower()
