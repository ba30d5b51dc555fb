"""Does a sealer that the operator trusts say that a message was its author's when it came there (RFC 8617 7.2)?

A chain of ARC that holds only says that nobody tampered with it. What counts is what a trusted sealer saw: the results
that its set has. They are read from the newest set on, as far as the sealers are trusted without a gap, because each of
these vouches for the one before it. One set vouches for the message where it says

- ``dmarc=pass`` for the author that the message has now, and no ``dmarc=fail`` for it; or
- where it has no result of DMARC, or says that there was no record or no answer: ``spf=pass`` or ``dkim=pass`` for a
  domain that is aligned with the author's (RFC 9989 4.4), by the record of now.

Results that cannot be read vouch for nothing. Nothing is asked of the DNS.
"""

from collections.abc import Collection, Sequence

from fastmail.model.domain import ascii_name
from fastmail.model.errors import BadAddress
from fastmail.policy.arc import PASS, Chain
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.reported import Reported, read

UNDECIDED = frozenset(("none", "temperror"))  # results of DMARC that leave it to SPF and DKIM
# The properties that name the domain a result vouches for; the first that is there counts. A pass for HELO is no
# identifier of DMARC (RFC 9989 4.4.2).
NAMED = {"spf": ("smtp.mailfrom",), "dkim": ("header.d", "header.i")}


def vouching(chain: Chain | None, dmarc: Dmarc, trusted: Collection[str]) -> tuple[str, str]:
    """(the trusted sealer that vouches for a message whose DMARC failed, or empty; why, in words for people). Both are
    empty where no trusted sealer is to be asked."""
    if chain is None or chain.result != PASS:
        return "", ""
    first = ""
    for sealer, said in zip(chain.sealers, chain.results, strict=False):
        if sealer not in trusted:
            break
        good, why = _says(read(said), dmarc)
        if good:
            return sealer, f"{sealer} says {why}"
        first = first or f"{sealer} says {why}"
    return "", first


def _says(found: Sequence[Reported] | None, dmarc: Dmarc) -> tuple[bool, str]:
    """(does a set vouch for the message, what it says)."""
    if found is None:
        return False, "nothing that can be read"
    said = {one.result for one in found if one.method == "dmarc" and _of_author(one, dmarc)}
    if said - UNDECIDED:
        only = said - UNDECIDED == {PASS}
        return only, f"dmarc={PASS if only else min(said - UNDECIDED - {PASS})}"
    for one in found:
        if one.method in NAMED and one.result == PASS:
            domain = _vouched(one)
            if domain and _aligned(domain, dmarc, one.method):
                return True, f"{one.method}=pass for {domain}"
    return False, "neither SPF nor DKIM vouched for the author"


def _of_author(one: Reported, dmarc: Dmarc) -> bool:
    """Is a result of DMARC about the author that the message has now? It is taken to be where it names none."""
    named = one.values("header.from")
    return not named or any(_domain(value) == dmarc.domain for value in named)


def _domain(value: str) -> str:
    """The domain of an address or a name, with A-labels; empty for what is none."""
    try:
        return ascii_name(value.rpartition("@")[2])
    except BadAddress:
        return ""


def _vouched(one: Reported) -> str:
    for name in NAMED[one.method]:
        values = one.values(name)
        if values:
            return _domain(values[0]) if len(values) == 1 else ""
    return ""


def _aligned(domain: str, dmarc: Dmarc, method: str) -> bool:
    """RFC 9989 4.4. The organization's name is known; a domain below it is taken to be its own."""
    if domain == dmarc.domain:
        return True
    record = dmarc.record
    if record is not None and (record.strict_spf if method == "spf" else record.strict_dkim):
        return False
    organization = dmarc.organization
    if "." not in organization:  # a suffix that many share
        return False
    return domain == organization or domain.endswith(f".{organization}")
