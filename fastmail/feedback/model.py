"""The nouns of reports: what was seen of a domain's mail, under which policy, and the report that says so.

Sent and received reports are made of the same values (RFC 9990 3.1.1). Rows and policies are also what is stored
(feedback.days), as MessagePack arrays: new fields go to the end and have a default. An older reader takes no notice of
them.
"""

from dataclasses import dataclass

import msgspec

DAY = 86400  # s
RESULTS = ("none", "pass", "fail", "softfail", "policy", "neutral", "temperror", "permerror")  # RFC 8601 2.7.1, 2.7.2
DISPOSITIONS = ("none", "pass", "quarantine", "reject")
OVERRIDES = ("local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder")  # RFC 9990 3.1.6
FORMER_OVERRIDES = ("forwarded", "sampled_out")  # of RFC 7489: older reports have them


class Row(msgspec.Struct, array_like=True, frozen=True, cache_hash=True):
    """What a number of messages have in common. ``dkim`` and ``spf``: "pass" where that identifier was aligned and
    passed, else "fail"; ``reasons``: pairs of an override and words for people; ``signatures``: (domain, selector,
    result) of each, ``spf_domain`` and ``spf_result`` of MAIL FROM, both without regard to DMARC."""

    source: str
    disposition: str
    dkim: str
    spf: str
    header_from: str
    envelope_from: str = ""
    reasons: tuple[tuple[str, str], ...] = ()
    signatures: tuple[tuple[str, str, str], ...] = ()
    spf_domain: str = ""
    spf_result: str = ""

    @property
    def aligned(self) -> bool:
        """Did DMARC pass?"""
        return "pass" in (self.dkim, self.spf)


class Policy(msgspec.Struct, array_like=True, frozen=True):
    """The DMARC record that was applied, with defaults for what it does not say. ``rua``: pairs of a URI and the most
    octets that it takes, 0 where it does not say."""

    domain: str
    p: str
    sp: str = ""
    np: str = ""
    adkim: str = ""
    aspf: str = ""
    fo: str = ""
    testing: str = ""
    rua: tuple[tuple[str, int], ...] = ()
    method: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """An aggregate report. ``begin`` and ``end``: seconds since 1970, both within the period; ``records``: rows with
    their numbers of messages; ``error``: words for people; ``left_out``: records that could not be read."""

    org: str
    email: str
    ident: str
    begin: int
    end: int
    policy: Policy
    records: tuple[tuple[Row, int], ...]
    error: str = ""
    generator: str = ""
    left_out: int = 0


class BadReport(ValueError):
    """What came is no report, or one that cannot be used; the text says why, for an administrator."""
