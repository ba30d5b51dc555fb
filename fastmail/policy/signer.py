"""Signs what leaves (RFC 6376 5): finds the keys of an author's domain, and makes the fields to put in front.

Which domain signs: that of the author (From), because only that, or a domain above it, is aligned (RFC 9989 4.4). It
is the domain's own row in the directory that has the keys, also where the domain is another name of one: a key of the
main domain would have to be in the DNS below the other name, which nobody knows but its owner. A name without active
keys, such as the host's own in reports, is signed by the nearest domain above it that has some.

Promise: RSA, reading keys, and hashing of more than ON_LOOP octets happen on helper threads. A short message whose keys
are all Ed25519 and at hand is signed on the event loop: that takes about as long as the way to a helper thread and
back. Parsed keys are kept, KEPT of them at most, for as long as the directory says the same of them. A key that cannot
be had is an error in the log, and the message goes without its signature: SPF may vouch for it still, and mail that
waits vouches for nobody. A message of which verifiers could not tell where the header ends gets none, and so does one
with more fields of a name than a signature covers.
"""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fastmail._core import header as scanner
from fastmail.directory.records import ACTIVE, RSA, DkimKey, Domain
from fastmail.message.header import Octets
from fastmail.model.domain import ascii_name, comparable
from fastmail.model.errors import BadAddress, DamagedAccount
from fastmail.policy import dkim, keyfiles, sign, tags
from fastmail.policy.dkim import Content
from fastmail.policy.keyfiles import KeyTrouble
from fastmail.policy.sign import SigningKey
from fastmail.policy.tags import BadTags
from fastmail.telemetry import log
from fastmail.telemetry.counters import count

KEPT = 1024  # parsed keys
ON_LOOP = 16384  # octets of a message that are hashed on the event loop, in about 10 us
AGAIN = 60.0  # s until a key that could not be had is tried again
ABOVE = 8  # names that are looked at for one author
NAME = b"dkim-signature"


class Domains(Protocol):
    """What is asked of the directory."""

    def domain(self, name: str) -> Domain | None: ...


@dataclass(frozen=True, slots=True)
class Signing:
    """The domain that signs, with A-labels, and its active keys as the directory has them, RSA first."""

    domain: str
    keys: tuple[DkimKey, ...]


class Signer:
    """One in each process. ``lifetime``: s until signatures expire, longer than any queue keeps the message."""

    def __init__(self, domains: Domains, data_dir: str, lifetime: int = sign.LIFETIME) -> None:
        self._domains = domains
        self._data_dir = data_dir
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, DkimKey], tuple[SigningKey | None, float]] = OrderedDict()

    def of(self, author: str) -> Signing | None:
        """Who signs for the domain of an author; None where nobody does. Asks the directory, and no disk."""
        try:
            name = ascii_name(author)
        except BadAddress:
            return None
        for _ in range(ABOVE):
            if "." not in name:
                break
            try:
                found = self._domains.domain(name)
            except DamagedAccount as error:
                log.event("dkim.domain", "error", domain=name, error=error)
                return None
            active = tuple(one for one in found.dkim if one.state == ACTIVE) if found is not None else ()
            if active:
                return Signing(name, tuple(sorted(active, key=lambda one: one.kind != RSA)))
            name = name.partition(".")[2]
        return None

    async def sign(self, pieces: Sequence[Octets], author: str, release: int = 0) -> bytes:
        """The fields (LF) to put in front of a message, one for each active key; empty where there is none. ``author``:
        the domain of its From; ``release``: s since 1970 before which it will not leave (RFC 4865)."""
        signing = self.of(author) if author else None
        if signing is None:
            return b""
        lifetime = self._lifetime + max(0, release - int(time.time()))
        if sum(map(len, pieces)) <= ON_LOOP and self._quick(signing):
            return self._sign(signing, pieces, lifetime)
        return await asyncio.get_running_loop().run_in_executor(None, self._sign, signing, pieces, lifetime)

    def again(self, author: str) -> Callable[[bytes], bytes]:
        """What makes our signature anew in a message (LF) whose octets had to change: for a helper thread. Without a
        key, the one that does not fit any more is only taken out."""
        signing = self.of(author)

        def anew(content: bytes) -> bytes:
            at, content = _without(content, _domains(signing, author))
            fields = self._sign(signing, [content], self._lifetime) if signing is not None else b""
            return b"".join((content[:at], fields, content[at:]))

        return anew

    def unsigned(self, content: bytes, author: str) -> bytes:
        """A message (LF) without our signatures for an author's domain."""
        return _without(content, _domains(self.of(author), author))[1]

    def fronts(self, content: bytes, author: str) -> Callable[[bytes], bytes]:
        """Return a function for the copies of a message (LF) that differ in their first header fields. It gets these
        fields, and returns the signatures to put in front of them. The body is hashed once, here. For helper
        threads."""
        signing = self.of(author)
        if signing is None:
            return lambda front: b""
        made = sign.behind(content)
        return lambda front: self._fields(self._parsed(signing), made(front), self._lifetime)

    async def keys(self, domain: str) -> list[SigningKey]:
        """The active keys of a domain that can be had, RSA first."""
        signing = self.of(domain)
        if signing is None:
            return []
        return await asyncio.get_running_loop().run_in_executor(None, self._parsed, signing)

    def _sign(self, signing: Signing, pieces: Sequence[Octets], lifetime: int) -> bytes:
        keys = self._parsed(signing)
        return self._fields(keys, sign.whole(pieces), lifetime) if keys else b""

    def _fields(self, keys: Sequence[SigningKey], content: Content, lifetime: int) -> bytes:
        if not keys:
            return b""
        found = sign.numbers(content.fields)
        if content.broken or not sign.coverable(found):
            count("dkim.unsigned")
            return b""
        count("dkim.signed")
        return b"".join(sign.fields(content, keys, lifetime, found))

    def _quick(self, signing: Signing) -> bool:
        """Are all keys Ed25519, and parsed already?"""
        with self._lock:
            found = [self._kept.get((signing.domain, one)) for one in signing.keys]
        known = [one[0] for one in found if one is not None and one[0] is not None]
        return len(known) == len(found) and all(isinstance(one.private, Ed25519PrivateKey) for one in known)

    def _parsed(self, signing: Signing) -> list[SigningKey]:
        found = (self._key(signing.domain, one) for one in signing.keys)
        return [one for one in found if one is not None]

    def _key(self, domain: str, row: DkimKey) -> SigningKey | None:
        """The parsed key of a row. What could not be had is not asked for again at once."""
        now = time.monotonic()
        with self._lock:
            known = self._kept.get((domain, row))
            if known is not None and (known[0] is not None or now < known[1]):
                self._kept.move_to_end((domain, row))
                return known[0]
        key: SigningKey | None = None
        try:
            key = SigningKey(domain, row.selector, keyfiles.load(self._data_dir, row.file))
        except KeyTrouble as error:
            count("dkim.trouble")
            log.event("dkim.key", "error", domain=domain, selector=row.selector, error=error, then="mail goes unsigned")
        with self._lock:
            self._kept[domain, row] = key, now + AGAIN
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return key


def _domains(signing: Signing | None, author: str) -> set[str]:
    """Whose signatures are ours on a message of that author."""
    return {comparable(author), *((signing.domain,) if signing is not None else ())}


def _without(content: bytes, domains: set[str]) -> tuple[int, bytes]:
    """The message without the signatures of these domains, and where the first of them was."""
    cuts: list[tuple[int, int]] = []
    for start in memoryview(scanner.starts(content, NAME)).cast("I"):
        _, value, end = scanner.field(content, start)
        if end - start <= dkim.FIELD and _domain(content[value:end]) in domains:
            cuts.append((start, end))
    pieces, at = [], 0
    for start, end in cuts:
        pieces.append(content[at:start])
        at = end
    return cuts[0][0] if cuts else 0, b"".join([*pieces, content[at:]])


def _domain(value: bytes) -> str:
    """d= of a signature; empty for what has none."""
    try:
        return comparable(tags.parse(value.decode("utf-8", "replace")).get("d", ""))
    except BadTags:
        return ""
