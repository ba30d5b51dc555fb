"""What the checks of a sender's messages come to, kept as one.

Most mail comes from somebody whose mail came before. An **origin** is a client with its name in EHLO and the domain of
MAIL FROM. A **series** is the mail of an origin with one author's domain, whose signatures have all in common but what
is each message's own (b=, bh=, t= and x=). Each check keeps its own results (policy.kept); here they are kept together:
one look-up at MAIL, one when the header has come. What is left to do is a message's own, to hash and to verify it.

Promise: whatever is kept here is what the checks would find. It is made of results that they keep, all of which passed
where they depend on the content, and it counts as long as the first of these does. A message that is unlike its series
in anything is checked by itself (policy.receive). Bounded: ORIGINS, SERIES, OUTCOMES of a series.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from msgspec.structs import replace

from fastmail.dns.interface import Names
from fastmail.policy import claims, dkim, keys, outcome
from fastmail.policy.dkim import ABSENT, Content, Own, Signature, Signed
from fastmail.policy.iprev import Reverse
from fastmail.policy.kept import Kept
from fastmail.policy.keys import Key
from fastmail.policy.lists import Listed
from fastmail.policy.outcome import Outcome
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks
from fastmail.policy.wishes import Wishes

ORIGINS = 10_000
SERIES = 4_096
OUTCOMES = 8  # by what recipients ask for
Common = tuple[bytes, ...]  # what each signature has in common with others of its series
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What is known of a client and a sender before the content comes; None for what is not looked at. ``claims``: what
    was found of the name in EHLO and of the sender's domain. ``until``: as long as all of it counts, by the monotonic
    clock. It is the same as itself only, and names the series of its mail."""

    listed: list[Listed] | None
    reverse: Reverse | None
    greeted: Checked | None
    sender: Checked | None
    claims: tuple[Sequence[claims.Finding], ...]
    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """One signature of each message: what all have in common, the key, and the result of one that fits."""

    signature: Signature
    key: Key
    said: Signed


# (origin, domain of the author, is there a List-Id, value of Reply-To where lists of domains are asked, signatures)
Name = tuple[Origin, str, bool, bytes, Common]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """``checks``: the results of a message of it, but for b= of its signatures. ``until``: as long as they count, by
    the monotonic clock."""

    checks: Checks
    signers: tuple[Signer, ...]
    until: float
    _outcomes: dict[Wishes, tuple[Outcome, int]] = field(default_factory=dict)

    def outcome(self, wanted: Wishes, ip: str, hostname: str) -> tuple[Outcome, int]:
        """What follows for a recipient who asks for this; and a number that all messages with this outcome have, and no
        others: 0 where it is not kept."""
        known = self._outcomes.get(wanted)
        if known is not None:
            return known
        found = outcome.of(self.checks, wanted.thresholds, ip, hostname)
        if len(self._outcomes) >= OUTCOMES:
            return found, 0
        made = self._outcomes[wanted] = found, next(_numbers)
        return made

    def checked(self, content: Content, own: Sequence[Own]) -> Checks | None:
        """The results of a message (``content`` is finished) whose signatures have these values of their own; None
        where one of them does not fit."""
        if not own:
            return self.checks
        signed = []
        for signer, one in zip(self.signers, own, strict=True):
            if not dkim.fits(content, signer.signature, signer.key, one):
                return None
            said = signer.said
            signed.append(
                Signed(
                    said.result, said.why, said.domain, said.selector, said.identity, said.algorithm, one[3], said.bits
                )
            )
        return replace(self.checks, dkim=signed)


def signers(
    names: Names, found: Sequence[Signature | Signed], signed: Sequence[Signed]
) -> tuple[tuple[Signer, ...], float] | None:
    """What is known of signatures that all passed, and as long as their keys count, by the monotonic clock. None where
    one did not pass, is of a part of the body, or has several keys at its name."""
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


class Memory:
    """Origins and series of a worker."""

    def __init__(self) -> None:
        self.origins: Kept[tuple[str, str, str], Origin] = Kept(ORIGINS)
        self.series: Kept[Name, Series] = Kept(SERIES)
