"""Header fields that say what was thought of a message, as users' rules, webmail and programs know them, and those that
a scanner wants. No RFC defines them; spamtest of Sieve (RFC 5235) is configured to read one of the first three.

    X-Spam-Status: Yes, score=6.1 required=5 tests=...    the reasons that have a score
    X-Spam-Score: 6.1
    X-Spam-Level: ******                                  one for each point, so that a rule needs no numbers
    X-Spam-Flag: YES                                      of spam only
    X-Virus-Status: Clean                                 where somebody looked

Nothing from a message or a scanner gets in as it is: names of reasons are cut down to what a name may have, values to
printable ASCII on one line. Fields of these names that a message came with are removed (``results.unwanted``), so what
a user's rule reads is ours.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from fastmail.policy.reasons import ACCEPT, JUNK, QUARANTINE, REFUSE, Finding
from fastmail.policy.verdict import Thresholds, Verdict

LINE = 76  # characters after which the names of reasons, and values of scanners, go on in another line
NAMED = 50  # reasons
LEVELS = 50  # points that are shown
# which no scanner writes in our place
OWN = frozenset(("x-spam-status", "x-spam-score", "x-spam-level", "x-spam-flag", "x-virus-status"))
REMEMBERED = 1024  # scores with their reasons
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def fields(decided: Verdict, findings: Sequence[Finding], thresholds: Thresholds) -> bytes:
    """The fields (LF)."""
    spam = decided.score >= thresholds.junk or decided.action in (JUNK, QUARANTINE, REFUSE)
    names = tuple([one.name for one in decided.reasons if one.score][:NAMED])
    head = _of_score(decided.score, thresholds.junk, spam, names)
    if not findings:
        return head
    lines = []
    status = [one.virus for one in findings if one.virus]
    if status:  # the worst of them
        worst = next(word for word in ("infected", "unknown", "clean") if word in status)
        lines.append(f"X-Virus-Status: {worst.capitalize()}\n")
    for finding in findings:
        added = [(name, _NOT_ASCII.sub("?", value)) for name, value in finding.add if _allowed(name)]
        lines += [_folded(f"{name}: {value}") + "\n" for name, value in added]
    return head + "".join(lines).encode("ascii")


@lru_cache(REMEMBERED)  # most mail has one of few scores, for one of few sets of reasons
def _of_score(decided: float, required: float, spam: bool, names: tuple[str, ...]) -> bytes:
    score = round(decided, 1) + 0.0  # no -0.0
    lines = [
        f"X-Spam-Status: {'Yes' if spam else 'No'}, score={decided:g} required={required:g}\n\ttests={_tests(names)}",
        f"X-Spam-Score: {score:.1f}",
    ]
    if score >= 1:
        lines.append("X-Spam-Level: " + "*" * min(int(score), LEVELS))
    if spam:
        lines.append("X-Spam-Flag: YES")
    return ("\n".join(lines) + "\n").encode("ascii")


def _allowed(name: str) -> bool:
    return name.lower() not in OWN


def _folded(field: str) -> str:
    """A field with line ends before some of its spaces (RFC 5322 2.2.3): a line may have 998 octets (2.1.1)."""
    first, *words = field.split(" ")
    out, width = [first], len(first)
    for at, word in enumerate(words):
        # the first word stays behind the name: a line of white space alone would end some readers' header
        fold = at > 0 and bool(word) and width + len(word) >= LINE
        out.append(f"\n {word}" if fold else f" {word}")
        width = 1 + len(word) if fold else width + 1 + len(word)
    return "".join(out)


def _tests(names: tuple[str, ...]) -> str:
    out, width = "", len("tests=")
    for one in names or ("none",):
        name = _UNSAFE.sub("?", one)
        comma = "," if out else ""
        if out and width + len(name) >= LINE:
            comma, width = ",\n\t", 0
        out += comma + name
        width += len(name) + 1
    return out


def words(findings: Sequence[Finding]) -> str:
    """For the trace of a message, in one line."""
    return " ".join(f"{one.who}={_NOT_ASCII.sub('?', one.said).replace(' ', '-')}" for one in findings)


def removed(findings: Sequence[Finding]) -> tuple[tuple[bytes, int], ...]:
    """Fields that scanners take out, by their names."""
    return tuple(dict.fromkeys(one for finding in findings for one in finding.remove))


def suspect(findings: Sequence[Finding]) -> bool:
    """Does a scanner want an unknown sender to be put off?"""
    return any(one.suspect and one.action == ACCEPT for one in findings)
