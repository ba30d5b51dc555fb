"""Which messages failed so that a domain wants to hear of each (RFC 9991, RFC 9989 4.7), and what the report says.

Pure functions. ``failed`` looks at a message's checks; ``mail`` writes the report: a message in the Abuse Reporting
Format (RFC 5965) with the fields of RFC 6591 and RFC 9991 4. Nothing from a message or the DNS gets into the fields of
a report but as printable ASCII on one line, cut to VALUE characters.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

import fastmail
from fastmail.feedback import redaction
from fastmail.policy import results, verdict
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc, Record
from fastmail.policy.received import Received
from fastmail.policy.results import Result

METHODS = ("dkim", "spf")
OPTIONS = frozenset("01ds")  # of fo= (RFC 9989 4.7)
BROKEN = frozenset(("fail", "policy", "neutral", "permerror"))  # results of a signature that failed
UNFIT = frozenset(("fail", "softfail", "permerror"))  # results of SPF that are failures
DMARC, SIGNATURE, SPF = "dmarc", "signature", "spf"  # Auth-Failure (RFC 6591 3.3, RFC 9991 4)
AGENT = f"fastmail/{fastmail.__version__}"
VALUE = 250  # characters
DELIVERED = {  # Delivery-Result (RFC 6591 3.2.2) by what was done
    verdict.ACCEPT: "delivered",
    verdict.JUNK: "spam",
    verdict.QUARANTINE: "policy",
    verdict.REFUSE: "reject",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What reports of one kind have in common; messages that are equal in it are reported once.

    ``domain``: where the record is; ``author``: the domain of From; ``kind``: of Auth-Failure; ``unaligned``: methods
    that vouch for no aligned identity; ``signature``: (domain, identity, selector) of the one that failed; ``spf``: the
    domain that SPF failed for; ``done``: of DELIVERED; ``results``: our Authentication-Results, of one method;
    ``ruf``: where the domain wants such reports."""

    domain: str
    author: str
    source: str
    kind: str
    unaligned: tuple[str, ...]
    signature: tuple[str, str, str]
    spf: str
    done: str
    results: str
    ruf: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incident:
    """One of these messages. ``sender``: its MAIL FROM; ``at``: s since 1970; ``shown``: as much of it (LF) as the
    report has; ``whole``: that is its header and its body, or the beginning of that."""

    failure: Failure
    sender: str
    at: int
    shown: bytes
    whole: bool = False


def failed(received: Received, ip: str) -> Failure | None:
    """What a domain wants to hear of a message; None for nothing, where that is not sure, and where the message will
    come again. ``ip``: its client."""
    checks = received.checks
    found = checks.dmarc
    if found is None or found.record is None or received.enforced(verdict.LATER):
        return None
    record = found.record
    if not record.ruf or record.psd == "y" or found.result not in ("pass", "fail"):
        return None
    aligned = {method for method, _ in found.aligned}
    unaligned = tuple(one for one in METHODS if one not in aligned)
    signature = _signature(found, checks.dkim or ())
    sender = checks.sender
    unfit = sender.domain if sender is not None and sender.result in UNFIT else ""
    kind = _kind(record, unaligned, signature, unfit)
    if not kind:
        return None
    done = next((one for one in DELIVERED if received.enforced(one)), verdict.ACCEPT)
    return Failure(
        found.found,
        found.domain,
        ip,
        kind,
        unaligned,
        (signature.domain, signature.identity, signature.selector) if signature is not None else ("", "", ""),
        sender.domain if sender is not None and "spf" in unaligned else unfit,
        DELIVERED[done],
        _result(kind, found, signature, received),
        record.ruf,
    )


def _kind(record: Record, unaligned: Sequence[str], signature: Signed | None, unfit: str) -> str:
    """What kind of failure the options of a domain ask for; empty for none. What is no option does not count, and
    without any the default holds (RFC 9989 4.7, 4.8)."""
    options = {one.strip().lower() for one in record.fo.split(":")} & OPTIONS or {"0"}
    if ("0" in options and len(unaligned) == len(METHODS)) or ("1" in options and unaligned):
        return DMARC
    if "d" in options and signature is not None:
        return SIGNATURE
    return SPF if "s" in options and unfit else ""


def _signature(found: Dmarc, signed: Sequence[Signed]) -> Signed | None:
    """The signature that failed: one of the author's organization, where there is one."""
    broken = [one for one in signed if one.result in BROKEN and one.domain]
    own = [one for one in broken if f".{one.domain}".endswith(f".{found.organization or found.domain}")]
    return next(iter(own or broken), None)


def _result(kind: str, found: Dmarc, signature: Signed | None, received: Received) -> str:
    """What our Authentication-Results field says of the one method (RFC 6591 3.1)."""
    sender = received.checks.sender
    if kind == SIGNATURE and signature is not None:
        properties = (("header.d", signature.domain), ("header.s", signature.selector), ("header.b", signature.shown))
        return results.line(Result("dkim", signature.result, properties, signature.why))
    if kind == SPF and sender is not None:
        return results.line(Result("spf", sender.result, (("smtp.mailfrom", sender.domain),), sender.why))
    return results.line(Result("dmarc", found.result, (("header.from", found.domain),), found.why))


# ---------------------------------------------------------------- the report


def _value(text: object) -> str:
    """What a stranger wrote, as the value of a field."""
    return "".join(c if " " <= c <= "~" else "?" for c in str(text)[:VALUE]).strip()


def _fields(one: Incident, hostname: str, records: Sequence[str], incidents: int, hide: redaction.Hide | None) -> str:
    """The part that programs read (RFC 5965 3, RFC 6591 3, RFC 9991 4). ``records``: those of SPF."""
    failure = one.failure
    shown = hide.address if hide is not None else str
    domain, identity, selector = failure.signature
    fields = [
        ("Feedback-Type", "auth-failure"),
        ("User-Agent", AGENT),
        ("Version", "1"),
        ("Auth-Failure", failure.kind),
        ("Authentication-Results", hostname + " ".join(failure.results.split())),
        ("Identity-Alignment", ", ".join(failure.unaligned) or "none"),
        ("Original-Mail-From", f"<{shown(one.sender)}>"),
        ("Arrival-Date", formatdate(one.at).replace("-0000", "+0000")),
        ("Source-IP", f"IPv6:{failure.source}" if ":" in failure.source else failure.source),  # RFC 5321 4.1.3
        ("Reported-Domain", failure.author),
        ("Delivery-Result", failure.done),
        ("DKIM-Domain", domain),
        ("DKIM-Identity", shown(identity)),
        ("DKIM-Selector", selector),
        *(("SPF-DNS", f'txt : {_value(failure.spf)} : "{_quoted(text)}"') for text in records),
        *([("Incidents", str(incidents))] if incidents > 1 else []),
    ]
    return "".join(f"{name}: {value if name == 'SPF-DNS' else _value(value)}\n" for name, value in fields if value)


def _quoted(text: str) -> str:
    """The content of a quoted-string (RFC 5322 3.2.4)."""
    return "".join(f"\\{c}" if c in '"\\' else c if " " <= c <= "~" else "?" for c in text[: 2 * VALUE])


def mail(
    one: Incident,
    hostname: str,
    sender: str,
    to: str,
    records: Sequence[str],
    incidents: int,
    hide: redaction.Hide | None,
    now: float,
) -> bytes:
    """The message with a report (LF). ``sender``: whom it is from; ``to``: who gets it; ``records``: of SPF, as the DNS
    has them; ``incidents``: messages that it stands for; ``hide``: hides the addresses, None shows them."""
    failure, author, source = one.failure, _value(one.failure.author), _value(one.failure.source)
    mark = f"{random.getrandbits(96):024x}"
    shown = hide.header(one.shown) if hide is not None else one.shown
    if not one.whole:  # a part of this type has 7-bit content only (RFC 6522 4)
        shown = bytes(c if c < 0x80 else 0x3F for c in shown)
    eight = "8bit" if not shown.isascii() else "7bit"
    several = f" It stands for {incidents} messages." if incidents > 1 else ""
    lines = [
        f"From: DMARC failure reports <{sender}>",
        f"To: {to}",
        f"Subject: DMARC failure report about {author}\n from {source}",
        f"Date: {formatdate(now).replace('-0000', '+0000')}",
        f"Message-ID: <{mark}@{sender.rpartition('@')[2]}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="feedback-report";\n boundary="{mark}"',
        "",
        f"--{mark}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is a report about a message from {author} that {hostname}",
        f"got from {source}: it failed to authenticate.{several}",
        f"The DMARC record of {_value(failure.domain)} asks for such reports (ruf).",
        "",
        f"--{mark}",
        "Content-Type: message/feedback-report",
        "",
        _fields(one, hostname, records, incidents, hide),
        f"--{mark}",
        f"Content-Type: {'message/rfc822' if one.whole else 'text/rfc822-headers'}",
        f"Content-Transfer-Encoding: {eight}",
        "",
    ]
    return "\n".join(lines).encode("ascii", "replace") + b"\n" + shown + f"\n--{mark}--\n".encode()
