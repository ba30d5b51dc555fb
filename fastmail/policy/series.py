"""What the checks of a sender's messages come to, kept as one.

Most mail comes from somebody whose mail came before. A **series** is the mail of one origin (policy.origin) with one
author's domain, whose signatures have all in common but what is each message's own (b=, bh=, t= and x=). Each check
keeps its own results (policy.kept); here they are kept together: one look-up at MAIL, one when the header has come.
What is left to do is a message's own, to hash and to verify it.

Promise: what is kept here is what the checks would find. It is made of results that they keep, all of which passed
where they depend on the content, and it counts as long as the first of these does. A message that is unlike its series
in anything is checked by itself (policy.receive). Bounded: ORIGINS, SERIES, OUTCOMES of a series.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import msgspec
from msgspec.structs import replace

from fastmail.dns.interface import Names
from fastmail.policy import dkim, keys, outcome, wishes
from fastmail.policy.dkim import ABSENT, Content, Own, Signature, Signed
from fastmail.policy.kept import Kept
from fastmail.policy.keys import Key
from fastmail.policy.origin import Key as OriginKey
from fastmail.policy.origin import Origin
from fastmail.policy.outcome import Outcome
from fastmail.policy.received import Settings
from fastmail.policy.verdict import Checks, Verdict
from fastmail.policy.wishes import Wishes

ORIGINS = 10_000
SERIES = 4_096
OUTCOMES = 8  # by what recipients ask for
OCTETS = 2048  # of a message by which its series is known: Reply-To, and what its signatures have in common
# (domain of the author, is there a List-Id, value of Reply-To where that is looked up, what signatures share)
Parts = tuple[str, bool, bytes, tuple[bytes, ...]]
Name = tuple[Origin, str, bool, bytes, tuple[bytes, ...]]  # the same of an origin
_numbers = itertools.count(1)


class Ending(msgspec.Struct, frozen=True):
    """What follows for recipients who all ask for one thing, where nobody else has a say. ``alike``: a number that all
    messages with this ending have, and no others; 0 where it is not kept; ``counters``: those of telemetry that they
    count in. The rest as in Received."""

    outcome: Outcome
    each: tuple[tuple[Wishes, Verdict], ...]
    enforce: bool
    tag: str
    alike: int
    counters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Signer:
    """One signature of each message: what all have in common, the key, and the result of one that fits, without b=."""

    signature: Signature
    key: Key
    said: Signed


@dataclass(frozen=True, slots=True)
class Series:
    """``checks``: the results of a message of it, but for b= of its signatures. ``until``: as long as they count, by
    the monotonic clock."""

    checks: Checks
    signers: tuple[Signer, ...]
    until: float
    _endings: dict[Wishes, Ending] = field(default_factory=dict)

    def checked(self, content: Content, own: Sequence[Own]) -> Checks | None:
        """The results of a message (``content`` is finished) whose signatures have these values of their own; None
        where one of them does not fit."""
        if not own:
            return self.checks
        signed = []
        for signer, one in zip(self.signers, own, strict=True):
            if not dkim.fits(content, signer.signature, signer.key, one):
                return None
            signed.append(replace(signer.said, shown=one[3]))
        return replace(self.checks, dkim=signed)

    def ending(self, wanted: Wishes, settings: Settings, ip: str) -> Ending:
        """What follows for recipients who ask for this. ``ip``: the client."""
        known = self._endings.get(wanted)
        if known is not None:
            return known
        found = outcome.of(self.checks, wanted.thresholds, ip, settings.hostname)
        each = {wanted: found.decided}
        tag = settings.subject_tag if wishes.tagged(each, settings.subject_score) else ""
        kept = len(self._endings) < OUTCOMES
        counters = (*found.counters, f"policy.{found.decided.action}")
        made = Ending(found, tuple(each.items()), wanted.enforce, tag, next(_numbers) if kept else 0, counters)
        if kept:
            self._endings[wanted] = made
        return made


def signers(
    names: Names, found: Sequence[Signature | Signed], signed: Sequence[Signed]
) -> tuple[tuple[Signer, ...], float] | None:
    """What is known of signatures that all passed, and as long as their keys count, by the monotonic clock. None where
    one did not pass, says l=, or has several keys at its name."""
    out: list[Signer] = []
    until = inf
    for one, said in zip(found, signed, strict=True):
        if not isinstance(one, Signature) or said.result != "pass" or one.length != ABSENT:
            return None
        answer = names.cached(one.key_name, "TXT")
        if answer is None or len(answer.records) != 1:
            return None
        common = replace(one, body_hash=b"", signature=b"", field=b"", shown="")  # which may be long
        out.append(Signer(common, keys.parse(answer.records[0]), replace(said, shown="")))
        until = min(until, answer.until)
    return tuple(out), until


@dataclass(frozen=True, slots=True)
class Latest:
    """Of the latest message of an origin."""

    parts: Parts
    series: Series


class Memory:
    """Origins and series of a worker."""

    def __init__(self) -> None:
        self.origins: Kept[OriginKey, Origin] = Kept(ORIGINS)
        self.series: Kept[Name, Series] = Kept(SERIES)

    def known(self, origin: Origin, parts: Parts) -> Series | None:
        """The series of an origin's message, if it is known. Most mail of an origin is of one series, and comparing its
        parts is quicker than looking for their hash."""
        latest = origin.latest
        if isinstance(latest, Latest) and latest.parts == parts and latest.series.until > time.monotonic():
            return latest.series
        found = self.series.get((origin, *parts))
        origin.latest = Latest(parts, found) if found is not None else None
        return found

    def keep(self, name: Name, made: Series) -> None:
        """Have it for the next message, unless its name is long."""
        if len(name[3]) + sum(map(len, name[4])) <= OCTETS:
            self.series.put(name, made, made.until)
