"""The Authentication-Results field of a received message (RFC 8601): one line for each check.

A signature's line ends with b=, which each message has another one of (RFC 6008); all else is the same in messages of
one sender (policy.outcome keeps it).
"""

from collections.abc import Sequence

from fastmail.policy import results
from fastmail.policy.dkim import Signed
from fastmail.policy.results import Result
from fastmail.policy.verdict import Checks


def joined(texts: Sequence[str], left: Sequence[int], signed: Sequence[Signed]) -> bytes:
    """The whole field (LF), of its ``parts``."""
    out = texts[0]
    for n, one in enumerate(signed):
        out += results.more("header.b", one.shown, left[n]) + texts[n + 1]
    return out.encode("ascii")


def parts(hostname: str, checks: Checks, ip: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The text of the field, cut behind the line of each signature, where its b= belongs; and how many characters each
    of these lines has left. ``ip``: the client."""
    start, end = list[Result](), list[Result]()
    if checks.reverse is not None:
        start.append(Result("iprev", checks.reverse.result, (("policy.iprev", ip),), comment=checks.reverse.name))
    if checks.helo is not None and checks.helo.result != "none":
        start.append(Result("spf", checks.helo.result, (("smtp.helo", checks.helo.domain),), checks.helo.why))
    if checks.sender is not None:
        sender = checks.sender
        start.append(Result("spf", sender.result, (("smtp.mailfrom", sender.domain),), sender.why))
    if checks.dkim is not None and not checks.dkim:
        start.append(Result("dkim", "none"))
    if checks.more:
        end.append(Result("dkim", "policy", reason=f"{checks.more} more signatures were not looked at"))
    if checks.arc is not None and checks.arc.result != "none":
        sealer = checks.arc.sealers[0] if checks.arc.sealers else ""
        properties = (("header.d", sealer), ("smtp.remote-ip", ip))  # RFC 8617 6
        end.append(Result("arc", checks.arc.result, properties, checks.arc.why))
    if checks.dmarc is not None:
        found = checks.dmarc
        wish = found.policy if found.record is not None else ""
        end.append(Result("dmarc", found.result, (("header.from", found.domain), ("policy.dmarc", wish)), found.why))
    elif checks.nobody:
        end.append(Result("dmarc", "permerror", reason=checks.nobody))
    signers = [results.line(_signer(one)) for one in checks.dkim or ()]
    return cut(hostname, "".join(map(results.line, start)), signers, "".join(map(results.line, end)))


def cut(hostname: str, start: str, signers: Sequence[str], end: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The same of its lines: those in front of signatures, each signature's, and those behind."""
    first = f"Authentication-Results: {hostname}{start}"
    last = (end if start or signers or end else results.NOTHING) + "\n"
    if not signers:
        return (first + last,), ()
    return (first + signers[0], *signers[1:], last), tuple(map(results.left, signers))


def _signer(one: Signed) -> Result:
    properties = (
        ("header.d", one.domain),
        ("header.i", one.identity),
        ("header.s", one.selector),
        ("header.a", one.algorithm),
    )
    return Result("dkim", one.result, properties, one.why, f"{one.bits}-bit key" if one.bits else "")
