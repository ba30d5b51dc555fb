"""What the checks of a message lead to: a verdict, and the text of its results.

Both are functions of the results alone (policy.verdict, policy.authentication), and messages of one sender have the
same results but for b= of their signatures. So an outcome is kept by the results that it is made of. These are frozen
and compare by value: what is kept is what would be made again. How long a result counts is answered where it is found.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from fastmail.policy import authentication, verdict
from fastmail.policy.dkim import Signed
from fastmail.policy.verdict import Checks, Thresholds, Verdict

REMEMBERED = 2048


class Outcome(msgspec.Struct, frozen=True):
    """``decided``: by these thresholds, without what those say who look at the content. The field's text is in three
    parts, as ``authentication.parts`` gives them."""

    decided: Verdict
    start: str
    signers: tuple[str, ...]
    end: str

    def field(self, hostname: str, signed: Sequence[Signed]) -> bytes:
        """Authentication-Results (LF), with b= of these signatures."""
        return authentication.joined(hostname, self.start, self.signers, self.end, signed)


def of(checks: Checks, limits: Thresholds, ip: str) -> Outcome:
    """``checks``: without findings, which are never the same twice; ``ip``: the client."""
    signed, chain = checks.dkim, checks.arc
    if chain is not None and chain.sets:  # whose results may be as long as a header: that is not kept
        return _outcome.__wrapped__(checks, limits, ip)
    common = None if signed is None else tuple([_common(one) for one in signed])
    return _outcome(replace(checks, dkim=common, lists=tuple(checks.lists)), limits, ip)  # all of it can be hashed


def _common(one: Signed) -> Signed:
    """A signature's result without its b=."""
    return Signed(one.result, one.why, one.domain, one.selector, one.identity, one.algorithm, "", one.bits)


@lru_cache(REMEMBERED)
def _outcome(checks: Checks, limits: Thresholds, ip: str) -> Outcome:
    return Outcome(verdict.decide(checks, limits), *authentication.parts(checks, ip))
