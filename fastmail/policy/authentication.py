"""The Authentication-Results field of a received message (RFC 8601): one line for each check.

Messages of one sender have the same results but for b= of their signatures, so lines are kept by the results that they
are made of. Results are frozen and compare by value: a line that is kept is the line that would be made.
"""

from functools import lru_cache

from fastmail.policy import results
from fastmail.policy.arc import Chain
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.iprev import Reverse
from fastmail.policy.results import Result
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import Checks

REMEMBERED = 2048  # lines of each kind


def field(hostname: str, checks: Checks, ip: str) -> bytes:
    """The whole field (LF). ``ip``: the client."""
    lines = _lines(checks, ip)
    return f"Authentication-Results: {hostname}{''.join(lines) or results.NOTHING}\n".encode("ascii")


def _lines(checks: Checks, ip: str) -> list[str]:
    out = []
    if checks.reverse is not None:
        out.append(_reverse(checks.reverse, ip))
    if checks.helo is not None and checks.helo.result != "none":
        out.append(_spf(checks.helo, "smtp.helo"))
    if checks.sender is not None:
        out.append(_spf(checks.sender, "smtp.mailfrom"))
    if checks.dkim is not None:
        out += [_signed(one) for one in checks.dkim] or [results.line(Result("dkim", "none"))]
    if checks.more:
        out.append(results.line(Result("dkim", "policy", reason=f"{checks.more} more signatures were not looked at")))
    if checks.arc is not None and checks.arc.result != "none":
        out.append(_arc(checks.arc))
    if checks.dmarc is not None:
        out.append(_dmarc(checks.dmarc))
    elif checks.nobody:
        out.append(results.line(Result("dmarc", "permerror", reason=checks.nobody)))
    return out


@lru_cache(REMEMBERED)
def _reverse(found: Reverse, ip: str) -> str:
    return results.line(Result("iprev", found.result, (("policy.iprev", ip),), comment=found.name))


@lru_cache(REMEMBERED)
def _spf(found: Checked, whose: str) -> str:
    return results.line(Result("spf", found.result, ((whose, found.domain),), found.why))


def _signed(one: Signed) -> str:
    """A signature's. b= comes last, because each message has another one (RFC 6008)."""
    start = _signer(one.result, one.why, one.domain, one.identity, one.selector, one.algorithm, one.bits)
    return results.with_more(start, "header.b", one.shown)


@lru_cache(REMEMBERED)
def _signer(result: str, why: str, domain: str, identity: str, selector: str, algorithm: str, bits: int) -> str:
    """The line of a signature without b=."""
    properties = (
        ("header.d", domain),
        ("header.i", identity),
        ("header.s", selector),
        ("header.a", algorithm),
    )
    return results.line(Result("dkim", result, properties, why, f"{bits}-bit key" if bits else ""))


@lru_cache(REMEMBERED)
def _arc(found: Chain) -> str:
    sealer = found.sealers[0] if found.sealers else ""
    return results.line(Result("arc", found.result, (("header.d", sealer),), found.why))


@lru_cache(REMEMBERED)
def _dmarc(found: Dmarc) -> str:
    wish = found.policy if found.record is not None else ""
    return results.line(Result("dmarc", found.result, (("header.from", found.domain), ("policy.dmarc", wish)), found.why))
