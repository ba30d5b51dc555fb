"""One verdict for a message: a score with named reasons, and what they lead to.

Each check gives a reason with a score; ``decide`` adds them up and compares the sum with the thresholds.
Authentication says who somebody is, not whether he is wanted, so a pass weighs little.

DMARC (RFC 9989 7.4, 8): a failure whose domain wants it rejected is treated as one to quarantine, unless other reasons
speak against the message too, and it is no mail of a list. A chain of ARC counts only where a sealer that the operator
trusts says that the message was its author's when it came there (policy.sealers). A message without one author (RFC
5322 3.6) is refused, because each program would show another one.

Scanners and the classifier add their reasons to the same sum. What one of them wants by itself (a virus is refused, a
scanner that is away has the message put off) is done where it weighs more than what the sum leads to: reasons.RANK.

This module only says what it thinks; whether anything is done about it is the receiver's setting, but for what findings
want always.
"""

from collections.abc import Sequence

import msgspec

from fastmail.policy.arc import Chain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.iprev import Reverse
from fastmail.policy.lists import Listed
from fastmail.policy.reasons import ACCEPT, JUNK, LATER, QUARANTINE, RANK, REFUSE, TAKEN, WORDS, Finding, Reason, Reply
from fastmail.policy.sealers import vouching
from fastmail.policy.spf import Checked

__all__ = [
    "ACCEPT",
    "JUNK",
    "LATER",
    "QUARANTINE",
    "REFUSE",
    "Checks",
    "Reason",
    "Thresholds",
    "Verdict",
    "decide",
    "reasons",
]
AGAINST = 2.0  # score of other reasons from which a DMARC failure may be refused
FORWARDER = "trusted_forwarder"  # an override of RFC 9990 3.1.1.9
SCORES = {
    "spf.pass": -0.2,
    "spf.everybody": 2.0,
    "spf.softfail": 1.0,
    "spf.fail": 2.0,
    "spf.permerror": 0.5,
    "helo.fail": 1.0,
    "dkim.pass": -0.2,
    "dkim.many": 0.5,
    "dmarc.pass": -0.5,
    "dmarc.quarantine": 1.5,
    "dmarc.reject": 3.0,
    "reverse.fail": 1.0,
    "reverse.permerror": 1.0,
    "author.none": 5.0,
    "helo.own": 5.0,
    "helo.literal": 1.0,
    "helo.bare": 1.0,
    "helo.unresolved": 1.0,
    "reverse.generic": 0.5,
    "sender.null_mx": 5.0,
    "sender.no_host": 2.0,
    "early.greeting": 5.0,
    "early.pipelining": 2.0,
    "guesses.recipients": 3.0,
    "links.many": 0.5,
}


class Thresholds(msgspec.Struct, frozen=True, cache_hash=True):
    """Scores; ``sealers``: domains whose results in chains of ARC count; ``quarantine``: 0 for never."""

    junk: float = 5.0
    refuse: float = 15.0
    sealers: frozenset[str] = frozenset()
    quarantine: float = 0.0


class Checks(msgspec.Struct, frozen=True):
    """What was found out; None for what was not looked at. ``lists``: listings by DNS lists; ``nobody``: why the
    message has no one author; ``listed``: it comes from a mailing list, as it says itself; ``more``: signatures that
    were not looked at; ``findings``: what scanners and the classifier say of the content; ``noted``: names of further
    reasons, with words for people, of the client and what it said; ``refusal``: the reply to one of them that is
    enough to refuse the message or to put it off."""

    helo: Checked | None = None
    sender: Checked | None = None
    dkim: Sequence[Signed] | None = None
    more: int = 0
    dmarc: Dmarc | None = None
    arc: Chain | None = None
    reverse: Reverse | None = None
    nobody: str = ""
    listed: bool = False
    lists: Sequence[Listed] = ()
    findings: Sequence[Finding] = ()
    noted: Sequence[tuple[str, str]] = ()
    refusal: Reply | None = None


class Verdict(msgspec.Struct, frozen=True):
    """``action``: accept, junk, quarantine, refuse or later; ``reply``: the SMTP reply of the last two; ``override``:
    why DMARC's wish was not followed (RFC 9990 names these). ``always`` and ``always_reply``: what is done even where
    the verdict is only written down. ``named``: allowed or blocked by a list (policy.wishes), empty where none
    decided."""

    action: str
    score: float
    reasons: tuple[Reason, ...]
    reply: Reply = TAKEN
    override: str = ""
    always: str = ACCEPT
    always_reply: Reply = TAKEN
    named: str = ""


def _reason(name: str, why: str = "") -> Reason:
    return Reason(name, SCORES.get(name, 0.0), why[:WORDS])


def reasons(checks: Checks) -> list[Reason]:
    """All but DMARC's, each with its score."""
    out = []
    if checks.reverse is not None:
        out.append(_reason(f"reverse.{checks.reverse.result}", checks.reverse.why or checks.reverse.name))
    if checks.helo is not None:
        out.append(_reason(f"helo.{checks.helo.result}", f"{checks.helo.domain} {checks.helo.why}".strip()))
    if checks.sender is not None:
        sender = checks.sender
        name = "everybody" if sender.everybody else sender.result
        out.append(_reason(f"spf.{name}", f"{sender.domain} {sender.mechanism} {sender.why}".strip()))
    seen = set()
    for one in checks.dkim or ():
        name, why = f"dkim.{one.result}", f"{one.domain} {one.why}".strip()
        # ten signatures of a kind are worth no more than one
        out.append(Reason(name, 0.0, why[:WORDS]) if name in seen else _reason(name, why))
        seen.add(name)
    if checks.more:
        out.append(_reason("dkim.many", f"{checks.more} more signatures were not looked at"))
    if checks.arc is not None and checks.arc.result != "none":
        out.append(_reason(f"arc.{checks.arc.result}", checks.arc.why or " ".join(checks.arc.sealers)))
    out += [_reason(name, why) for name, why in checks.noted]
    for found in checks.lists:
        out.append(Reason(f"list.{found.zone}", found.weight, f"{found.what} {' '.join(found.codes)}"[:WORDS]))
    if checks.nobody:
        out.append(_reason("author.none", checks.nobody))
    for finding in checks.findings:
        out += finding.reasons
    return out


def decide(checks: Checks, thresholds: Thresholds) -> Verdict:
    """What to do with a message."""
    found = reasons(checks)
    against = sum(one.score for one in found)
    action, reply, override = ACCEPT, TAKEN, ""
    dmarc = checks.dmarc
    if dmarc is not None and dmarc.result != "none":
        if dmarc.result != "fail":
            found.append(_reason(f"dmarc.{dmarc.result}", f"{dmarc.domain} {dmarc.why}".strip()))
        else:
            sealer, why = vouching(checks.arc, dmarc, thresholds.sealers)
            if why:
                found.append(_reason("arc.vouched" if sealer else "arc.doubted", why))
            action, override = (ACCEPT, FORWARDER) if sealer else _wish(dmarc, checks, against)
            name = "dmarc.fail" if dmarc.policy == "none" or override == FORWARDER else f"dmarc.{dmarc.policy}"
            found.append(_reason(name, f"{dmarc.domain}: {dmarc.why}"))
            if action == REFUSE:
                reply = (
                    550,
                    "5.7.1",
                    f"DMARC of {dmarc.domain} asks to refuse this message, and other checks failed too",
                )
    score = sum(one.score for one in found)
    if score >= thresholds.refuse and action != REFUSE:
        action, reply = REFUSE, (550, "5.7.1", "this message looks unwanted")
    if checks.refusal is not None and (action != REFUSE or checks.refusal[0] >= 500):
        action, reply = (REFUSE if checks.refusal[0] >= 500 else LATER), checks.refusal
    if checks.nobody and action != REFUSE:
        action, reply = REFUSE, (550, "5.7.1", "From must name one author, or authors of one domain")
    if 0 < thresholds.quarantine <= score and action in (ACCEPT, JUNK):
        action = QUARANTINE
    if score >= thresholds.junk and action == ACCEPT:
        action = JUNK
    always, always_reply = ACCEPT, TAKEN
    for one in checks.findings:
        if RANK[one.action] > RANK[action] or (one.always and one.action == action):
            action, reply = one.action, one.reply
        if one.always and RANK[one.action] > RANK[always]:
            always, always_reply = one.action, one.reply
    return Verdict(action, round(score, 3), tuple(found), reply, override, always, always_reply)


def _wish(dmarc: Dmarc, checks: Checks, against: float) -> tuple[str, str]:
    """(action, override) of a DMARC failure that no sealer of ARC explains."""
    if dmarc.policy == "none":
        return ACCEPT, "policy_test_mode" if dmarc.published != dmarc.policy else ""
    if dmarc.policy == "reject" and against >= AGAINST and not checks.listed:
        return REFUSE, ""
    return JUNK, "policy_test_mode" if dmarc.published != dmarc.policy else "mailing_list" if checks.listed else (
        "local_policy" if dmarc.policy == "reject" else ""
    )
