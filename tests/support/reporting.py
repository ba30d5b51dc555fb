"""Reports of DMARC as tests make them: a record, the checks of a message, a report of somebody else."""

from dataclasses import replace

from fastmail.feedback.model import Policy, Report, Row
from fastmail.policy import dmarc
from fastmail.policy.dkim import Signed
from fastmail.policy.dmarc import Dmarc
from fastmail.policy.received import Received
from fastmail.policy.spf import Checked
from fastmail.policy.verdict import ACCEPT, Checks, Verdict

DAY = 1_750_000_000 // 86400
BEGIN = DAY * 86400
POLICY = Policy(
    "example.org", "reject", "reject", "reject", "r", "r", "", "n", (("mailto:d@example.org", 0),), "treewalk"
)
ROW = Row(
    "192.0.2.1",
    "pass",
    "pass",
    "fail",
    "example.org",
    "bounce.example.net",
    (),
    (("example.org", "one", "pass"),),
    "bounce.example.net",
    "fail",
)


def report(*records: tuple[Row, int], **changes: object) -> Report:
    """A report of one day of near.test about example.org."""
    made = Report(
        "near.test",
        "postmaster@near.test",
        f"{BEGIN}.1@near.test",
        BEGIN,
        BEGIN + 86399,
        POLICY,
        records or ((ROW, 3),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def received(
    result: str = "pass",
    record: str = "v=DMARC1; p=reject; rua=mailto:d@example.org",
    action: str = ACCEPT,
    enforce: bool = True,
    override: str = "",
    aligned: tuple[tuple[str, str], ...] = (("dkim", "example.org"),),
    policy: str = "reject",
    published: str = "",
    found: str = "example.org",
    domain: str = "example.org",
    signed: tuple[Signed, ...] = (Signed("pass", domain="example.org", selector="one"),),
) -> Received:
    """A message whose checks are done."""
    parsed = dmarc.parse(record.encode())
    about = Dmarc(
        result, "", domain, found, policy, published or policy, found, aligned if result == "pass" else (), parsed
    )
    checks = Checks(sender=Checked("fail", "mailfrom", "bounce.example.net"), dkim=signed, dmarc=about)
    return Received(b"", checks, Verdict(action, 0.0, (), override=override), 0, enforce)
