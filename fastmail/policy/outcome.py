"""What the checks of a message lead to: a verdict, the text of its results, and the words about it.

All are functions of the results alone (policy.verdict, policy.authentication, policy.marks), and messages of one sender
have the same results but for b= of their signatures. So an outcome is kept by the results that it is made of. These are
frozen and compare by value: what is kept is what would be made again. How long a result counts is answered where it is
found.
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from fastmail.policy import authentication, marks, verdict
from fastmail.policy.dkim import Signed
from fastmail.policy.verdict import Checks, Thresholds, Verdict

REMEMBERED = 2048


class Outcome(msgspec.Struct, frozen=True):
    """``decided``: by these thresholds, without what those say who look at the content. ``texts``: the field of results
    (LF), cut where b= of each signature belongs; ``left``: how many characters its line has left there. ``marks``: the
    X-Spam fields, and ``words``: for the trace, both of what was decided; ``counters``: those of telemetry that the
    results count in."""

    decided: Verdict
    texts: tuple[str, ...]
    left: tuple[int, ...]
    marks: bytes
    words: str
    counters: tuple[str, ...]

    def field(self, signed: Sequence[Signed]) -> bytes:
        """Authentication-Results (LF), with b= of these signatures."""
        return authentication.joined(self.texts, self.left, signed)


def of(checks: Checks, limits: Thresholds, ip: str, hostname: str) -> Outcome:
    """``checks``: without findings, which are never the same twice; ``ip``: the client; ``hostname``: ours."""
    signed, chain = checks.dkim, checks.arc
    if chain is not None and chain.sets:  # whose results may be as long as a header: that is not kept
        return _outcome.__wrapped__(checks, limits, ip, hostname)
    common = None if signed is None else tuple([_common(one) for one in signed])
    return _outcome(
        replace(checks, dkim=common, lists=tuple(checks.lists)), limits, ip, hostname
    )  # all of it can be hashed


def _common(one: Signed) -> Signed:
    """A signature's result without its b=."""
    return Signed(one.result, one.why, one.domain, one.selector, one.identity, one.algorithm, "", one.bits)


@lru_cache(REMEMBERED)
def _outcome(checks: Checks, limits: Thresholds, ip: str, hostname: str) -> Outcome:
    decided = verdict.decide(checks, limits)
    texts, left = authentication.parts(hostname, checks, ip)
    counters = [f"policy.spf.{checks.sender.result}"] if checks.sender is not None else []
    counters += [f"policy.dmarc.{checks.dmarc.result}"] if checks.dmarc is not None else []
    front = marks.fields(decided, checks.findings, limits)
    return Outcome(decided, texts, left, front, words(checks, decided), tuple(counters))


def words(checks: Checks, decided: Verdict) -> str:
    """For the trace of the message, in one line."""
    found = [f"spf={checks.sender.result}"] if checks.sender is not None else []
    found += [f"dkim={one.result}" for one in checks.dkim or ()]
    found += [f"dmarc={checks.dmarc.result}"] if checks.dmarc is not None else []
    found += [marks.words(checks.findings)] if checks.findings else []
    why = ""
    if decided.named:
        named = next(one for one in decided.reasons if one.name == decided.named)
        why = f" ({named.name}: {named.why})"
    return f"{' '.join(found)}: {decided.action} {decided.score:g}{why}".lstrip(": ")
